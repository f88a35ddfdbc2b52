//! The worst stage as a heat map in SVG: rows down, the numbers of a row across, one panel for each head.

use super::page::escape;
use crate::golden::Map;
use std::fmt::Write;

/// Shares of the limit at which colours change, and the colours: blue is within the limit, red is not.
const LEVELS: [(f64, &str, &str); 7] = [
    (0.125, "#dbe9f4", "1/8"),
    (0.25, "#a9cce3", "1/4"),
    (0.5, "#5499c7", "1/2"),
    (1.0, "#f5b041", "allowed"),
    (2.0, "#e8590c", "2x"),
    (8.0, "#c92a2a", "8x"),
    (64.0, "#641e16", "64x"),
];
/// The colour of NaN.
const NONE: &str = "#d100d1";
const WIDTH: f64 = 1190.0;

/// The map with its heading and legend.
pub(super) fn section(map: &Map) -> String {
    let [heads, rows, width] = map.sides;
    let what = match (map.folded, heads) {
        (true, _) => "the numbers of the stage in reading order".to_string(),
        (_, 1) => format!("{rows} rows down, {width} numbers of a row across"),
        _ => format!("a panel for each of {heads} heads, {rows} rows down, {width} numbers across"),
    };
    let mut legend = String::from("<span style=\"white-space:nowrap\">");
    for (_, colour, name) in LEVELS {
        let _ = write!(
            legend,
            " <span style=\"display:inline-block;width:13px;height:13px;background:{colour};vertical-align:-2px\"></span> {name}"
        );
    }
    legend += "</span>";
    format!(
        "<h2>{}, part by part</h2>\n<p class=\"small\">{what}. A cell shows the largest error of its numbers, as a share of the limit of one number \
         ({} rulers of its row); from {legend}</p>\n{}",
        escape(&map.stage),
        map.allowed,
        svg(map)
    )
}

fn svg(map: &Map) -> String {
    let [down, across] = map.cells.map(|n| n as f64);
    let panels = map.panels.len();
    // The panels stand in rows of at most eight. A cell is at least one point large, and no larger than necessary.
    let columns = panels.clamp(1, 8);
    let side = ((WIDTH - 40.0) / columns as f64 - 14.0).max(20.0);
    let cell = (side / across).min(if panels == 1 { 9.0 } else { 6.0 });
    let tall = (cell * down).min(if panels == 1 { 520.0 } else { 300.0 }) / down;
    let (w, h) = (cell * across, tall * down);
    let lines = panels.div_ceil(columns);
    let height = lines as f64 * (h + 26.0) + 6.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"error of every part of a stage\">");
    for (p, panel) in map.panels.iter().enumerate() {
        let (left, top) = (36.0 + (p % columns) as f64 * (w + 14.0), 18.0 + (p / columns) as f64 * (h + 26.0));
        let _ = write!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"#fff\" stroke=\"#dcdde1\"/>"
        );
        if panels > 1 {
            let _ = write!(svg, "<text class=\"soft\" x=\"{left:.1}\" y=\"{:.1}\">head {p}</text>", top - 4.0);
        }
        if p % columns == 0 && !map.folded {
            let _ = write!(
                svg,
                "<text class=\"soft\" x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"end\">0</text>\
                 <text class=\"soft\" x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
                left - 4.0,
                top + 10.0,
                top + h,
                map.sides[1] - 1
            );
        }
        let _ = write!(svg, "<g transform=\"translate({left:.1} {top:.1}) scale({cell:.4} {tall:.4})\">");
        paths(&mut svg, panel, map);
        svg += "</g>";
    }
    svg + "</svg>"
}

/// The cells of each colour as one path; neighbours in a line are joined.
fn paths(svg: &mut String, panel: &[f64], map: &Map) {
    let across = map.cells[1];
    // Level 0: not visible; 1 …: a colour level; the last level: NaN.
    let level = |v: f64| match v.is_finite() {
        true => LEVELS.iter().take_while(|(least, ..)| v / map.allowed >= *least).count(),
        false => LEVELS.len() + 1,
    };
    let mut drawn = vec![String::new(); LEVELS.len() + 2];
    for (y, line) in panel.chunks(across).enumerate() {
        let mut x = 0;
        while x < line.len() {
            let of = level(line[x]);
            let run = line[x..].iter().take_while(|v| level(**v) == of).count();
            if of > 0 {
                let _ = write!(drawn[of], "M{x} {y}h{run}v1h-{run}z");
            }
            x += run;
        }
    }
    let colours = LEVELS.iter().map(|l| l.1).chain([NONE]);
    for (path, colour) in drawn.iter().skip(1).zip(colours).filter(|(p, _)| !p.is_empty()) {
        let _ = write!(svg, "<path d=\"{path}\" fill=\"{colour}\" shape-rendering=\"crispEdges\"/>");
    }
}
