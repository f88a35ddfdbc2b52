//! A line plot as SVG: shares against retention on a logarithmic axis. It has no script and uses the reader's own font.

use super::page::escape;
use std::fmt::Write as _;

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The text in the legend.
    pub name: String,
    /// Retention, share, and the ends of its interval; ascending retention.
    pub points: Vec<(f64, f64, (f64, f64))>,
}

/// A plot of shares, 0 … 1, against retention, 0 < r ≤ 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// The title above the plot.
    pub title: String,
    /// The quantity on the vertical axis.
    pub quantity: String,
    /// A level that the lines are compared with, and its name.
    pub level: Option<(String, f64)>,
    /// The lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 820.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 400.0;
/// Eight colours that colour-blind readers can distinguish (Okabe and Ito 2008); the palest colour is the last.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#999999"];
const DASHES: [&str; 3] = ["", "7 3", "2 3"];

impl Plot {
    /// The SVG file.
    pub fn svg(&self) -> String {
        let retentions = self.lines.iter().flat_map(|l| l.points.iter().map(|p| p.0));
        let least = retentions.fold(0.5, f64::min).max(1e-6);
        let x = |r: f64| RIGHT - (RIGHT - LEFT) * r.ln() / least.ln();
        let y = |share: f64| BOTTOM - (BOTTOM - TOP) * share;
        let height = (BOTTOM + 56.0).max(TOP + 20.0 * (self.lines.len() + 2) as f64);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
            escape(&self.title)
        );
        for tenth in (0..=10).step_by(2) {
            let at = y(tenth as f64 / 10.0);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}%</text>",
                LEFT - 8.0,
                at + 4.0,
                tenth * 10
            );
        }
        for r in [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001].into_iter().filter(|&r| r >= least) {
            let _ = writeln!(
                svg,
                "<path d=\"M{0:.1} {TOP}V{BOTTOM}\" stroke=\"#eee\"/><text x=\"{0:.1}\" y=\"{1:.1}\" \
                 text-anchor=\"middle\">{2}%</text>",
                x(r),
                BOTTOM + 18.0,
                r * 100.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">visual KV entries kept</text>\n\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 40.0,
            (TOP + BOTTOM) / 2.0,
            escape(&self.quantity)
        );
        if let Some((name, share)) = &self.level {
            let at = y(*share);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#000\" stroke-dasharray=\"4 4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{} {:.1}%</text>",
                RIGHT + 12.0,
                TOP + 4.0,
                escape(name),
                share * 100.0
            );
        }
        for (i, line) in self.lines.iter().enumerate() {
            let (colour, dash) = (COLOURS[i % COLOURS.len()], DASHES[i / COLOURS.len() % DASHES.len()]);
            let mut path = String::new();
            for (p, (r, share, (low, high))) in line.points.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if p == 0 { "M" } else { "L" }, x(*r), y(*share));
                let _ = writeln!(
                    svg,
                    "<path d=\"M{0:.1} {1:.1}V{2:.1}\" stroke=\"{colour}\" opacity=\".35\"/>\
                     <circle cx=\"{0:.1}\" cy=\"{3:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    x(*r),
                    y(*low),
                    y(*high),
                    y(*share)
                );
            }
            let legend = TOP + 20.0 * (i + 1) as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\n\
                 <path d=\"M{:.1} {legend:.1}h24\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                RIGHT + 12.0,
                RIGHT + 42.0,
                legend + 4.0,
                escape(&line.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
