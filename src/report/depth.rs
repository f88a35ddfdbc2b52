//! Error over depth as SVG: every stage in the order of computation, its ruler, and its error as a share of the limit.

use super::page::{class, escape};
use crate::golden::{Outcome, StageVerdict};
use std::fmt::Write;

const WIDTH: f64 = 1190.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 1180.0;
/// Top and bottom of the errors, of the shares, and of the row of outcomes.
const ERRORS: [f64; 2] = [12.0, 250.0];
const SHARES: [f64; 2] = [274.0, 384.0];
const OUTCOMES: [f64; 2] = [398.0, 412.0];
/// The limit of a whole stage, in rulers. Spec: T10.3
const ALLOWED: f64 = 2.0;

/// A logarithmic axis: the lower and the upper power of ten, and their places in the picture.
struct Axis {
    powers: [f64; 2],
    ends: [f64; 2],
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, least: [f64; 2], ends: [f64; 2]) -> Axis {
        let logs: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(least[0], f64::min).max(-20.0).floor();
        let high = logs.iter().copied().fold(least[1], f64::max).min(20.0).ceil();
        Axis { powers: [low, high.max(low + 1.0)], ends }
    }

    /// The place of a value; a value beyond the ends has the place of the nearest end.
    fn y(&self, v: f64) -> f64 {
        let [low, high] = self.powers;
        let at = if v > 0.0 { (v.log10().clamp(low, high) - low) / (high - low) } else { 0.0 };
        self.ends[1] - at * (self.ends[1] - self.ends[0])
    }

    /// Draws lines at powers of ten; at most six lines have a label.
    fn lines(&self, svg: &mut String) {
        let [low, high] = [self.powers[0] as i32, self.powers[1] as i32];
        let step = ((high - low) as usize).div_ceil(6).max(1);
        for power in (low..=high).step_by(step) {
            let y = self.y(10f64.powi(power));
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#e4e5e8\"/><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">10<tspan dy=\"-4\" font-size=\"9\">{power}</tspan></text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
    }
}

/// The picture.
pub(super) fn svg(stages: &[StageVerdict]) -> String {
    let relative = |s: &StageVerdict| s.whole.map(|w| (w.error / w.size, w.ruler / w.size));
    let share = |s: &StageVerdict| s.ratio.zip(s.allowed).map(|(r, a)| r / a);
    let rulers = stages.iter().filter_map(relative).map(|(_, ruler)| ruler).filter(|r| *r > 1e-12);
    let least = rulers.clone().fold(1e-2, f64::min) / 10.0;
    let found = stages.iter().filter_map(relative).map(|(error, _)| error.max(least));
    let errors = Axis::of(found.chain(rulers), [-3.0, -3.0], ERRORS);
    let shares = Axis::of(stages.iter().filter_map(share).filter(|v| *v > 1e-2), [-1.0, 1.0], SHARES);
    let wide = (RIGHT - LEFT) / stages.len().max(1) as f64;
    let x = |i: usize| LEFT + wide * i as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} 446\" role=\"img\" aria-label=\"error of every stage\">");

    // The rulers are drawn behind the lines, and the errors are drawn in front of them.
    for (i, (_, ruler)) in stages.iter().enumerate().filter_map(|(i, s)| Some((i, relative(s)?))) {
        for (times, fill) in [(ALLOWED, "#e6e7ea"), (1.0, "#cdcfd6")] {
            let top = errors.y(times * ruler);
            let _ = write!(
                svg,
                "<rect x=\"{:.2}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{:.1}\" fill=\"{fill}\"/>",
                x(i),
                wide + 0.05,
                ERRORS[1] - top
            );
        }
    }
    errors.lines(&mut svg);
    shares.lines(&mut svg);
    let limit = shares.y(1.0);
    let _ = write!(
        svg,
        "<path d=\"M{LEFT} {limit:.1}H{RIGHT}\" stroke=\"#1c1d20\"/><text transform=\"translate(13 {:.1}) rotate(-90)\" \
         text-anchor=\"middle\">relative error</text><text transform=\"translate(13 {:.1}) rotate(-90)\" \
         text-anchor=\"middle\">share of the limit</text>",
        (ERRORS[0] + ERRORS[1]) / 2.0,
        (SHARES[0] + SHARES[1]) / 2.0
    );
    let radius = (wide / 2.2).clamp(1.5, 4.0);
    for (i, s) in stages.iter().enumerate() {
        let (middle, class) = (x(i) + wide / 2.0, class(s.outcome));
        let title = format!("<title>{}: {} {}</title>", escape(&s.stage), s.outcome.name(), escape(&s.words));
        if let Some((error, _)) = relative(s) {
            let _ = write!(
                svg,
                "<circle class=\"{class}\" cx=\"{middle:.2}\" cy=\"{:.1}\" r=\"{radius:.1}\">{title}</circle>",
                errors.y(error)
            );
        }
        if let Some(share) = share(s) {
            let top = shares.y(share);
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{:.2}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{:.1}\">{title}</rect>",
                x(i) + 0.12 * wide,
                0.76 * wide,
                (SHARES[1] - top).max(0.8)
            );
        }
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{}\">{title}</rect>",
            x(i) + 0.06 * wide,
            OUTCOMES[0],
            0.88 * wide,
            OUTCOMES[1] - OUTCOMES[0]
        );
    }
    parts(&mut svg, stages, &x);
    mark_first(&mut svg, stages, &x, wide);
    svg + "</svg>"
}

/// Draws the borders between the parts of the model.
fn parts(svg: &mut String, stages: &[StageVerdict], x: &dyn Fn(usize) -> f64) {
    let part = |i: usize| stages[i].stage.split('.').next().unwrap_or_default();
    let mut from = 0;
    for i in 1..=stages.len() {
        if i < stages.len() && part(i) == part(from) {
            continue;
        }
        let (left, right) = (x(from), x(i));
        let _ = write!(svg, "<path d=\"M{left:.1} {}V{}\" stroke=\"#b6b8be\"/>", ERRORS[0], OUTCOMES[1] + 6.0);
        if right - left >= 6.4 * part(from).len() as f64 {
            let _ = write!(
                svg,
                "<text class=\"soft\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                (left + right) / 2.0,
                OUTCOMES[1] + 18.0,
                escape(part(from))
            );
        }
        from = i;
    }
}

/// An arrow at the first failure.
fn mark_first(svg: &mut String, stages: &[StageVerdict], x: &dyn Fn(usize) -> f64, wide: f64) {
    let Some(i) = stages.iter().position(|s| s.outcome == Outcome::Fail) else { return };
    let at = x(i) + wide / 2.0;
    let anchor = if at > (LEFT + RIGHT) / 2.0 { "end" } else { "start" };
    let _ = write!(
        svg,
        "<path d=\"M{at:.1} {0}l-4 7h8z\" class=\"fail\"/><text x=\"{at:.1}\" y=\"{1}\" text-anchor=\"{anchor}\" \
         style=\"fill:var(--fail)\">first divergence: {2}</text>",
        OUTCOMES[1] + 3.0,
        OUTCOMES[1] + 32.0,
        escape(&stages[i].stage)
    );
}
