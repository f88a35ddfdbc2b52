//! Judges a stage of numbers: errors against rulers, for the whole stage and for every part, so that one wrong head
//! shows.

use super::place::place;
use crate::golden::fit::Drift;
use crate::golden::measure::{Errors, Layout, unravel};
use crate::golden::rulers::{DRIFT, GAIN, GLOBAL, LOCAL, Rulers, WHOLE};
use crate::golden::verdict::{Outcome, StageVerdict, Whole};
use crate::num::Grid;
use crate::pass::Precision;

/// A stage to be judged.
pub(in crate::golden) struct Numbers<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// The truth.
    pub truth: &'a [f64],
    /// The candidate's values.
    pub got: &'a [f64],
    /// The errors of honest computations; none for a stage that only stores values.
    pub noise: Option<Errors>,
    /// Whether its pairs are rotated by position.
    pub rotated: bool,
    /// The candidate's type.
    pub precision: Precision,
    /// The number of query heads, to name parts of a `mix`.
    pub heads: usize,
    /// Whether errors of different rows are independent, as in a replay. If so, a common trend is a finding (E10.4).
    pub independent: bool,
    /// The direction that the errors follow, if any (E10.10).
    pub drift: Option<&'a Drift>,
}

/// The statistic with the largest share of its allowed error.
pub(in crate::golden) struct Worst {
    statistic: &'static str,
    error: f64,
    ruler: f64,
    allowed: f64,
}

/// Judges a stage of numbers. Spec: E10.5
pub(in crate::golden) fn judge(n: &Numbers<'_>) -> StageVerdict {
    let layout = Layout::of(n.name, n.shape);
    let noise = n.noise.clone().unwrap_or_else(|| Errors::none(layout));
    let (errors, rulers) = rayon::join(
        || Errors::of(layout, n.truth, n.got, Some(&noise.scale)),
        || Rulers::of(layout, n.truth, &noise, n.precision),
    );
    let index = |flat: usize| unravel(flat, n.shape);

    if let Some(i) = n.got.iter().position(|v| !v.is_finite()) {
        let honest = noise.rows[i / layout.width.max(1)][1];
        if n.truth[i].is_finite() && honest.is_finite() {
            let count = n.got.iter().filter(|v| !v.is_finite()).count();
            let words = format!("{} of {} numbers are NaN or infinite", count, n.got.len());
            return StageVerdict::plain(n.name, Outcome::Fail, words).at(index(i), n.truth[i], n.got[i]);
        }
        let words = "honest computations in this type overflow here too";
        return StageVerdict::plain(n.name, Outcome::NotJudged, words).at(index(i), n.truth[i], n.got[i]);
    }

    let flat = worst_element(layout, n, &noise, &rulers);
    let unit = noise.unit(layout, flat);
    let element = Worst {
        statistic: "element",
        error: (n.got[flat] - n.truth[flat]).abs(),
        ruler: rulers.rows[flat / layout.width.max(1)][1] * unit,
        allowed: LOCAL,
    };
    let mut worst = Worst { ..element };
    let mut within = element.error <= LOCAL * element.ruler;
    let mut see = |statistic: &'static str, error: f64, ruler: f64, allowed: f64| {
        within &= matches!(statistic, "gain" | "trend") || error <= allowed * ruler;
        if error / ruler / allowed > worst.error / worst.ruler / worst.allowed {
            worst = Worst { statistic, error, ruler, allowed };
        }
    };
    for (e, r) in errors.rows.iter().zip(&rulers.rows) {
        see("row", e[0], r[0], LOCAL);
    }
    for (e, r) in errors.columns.iter().zip(&rulers.columns).filter(|_| layout.columns()) {
        see("column", *e, *r, LOCAL);
    }
    // Where numbers are stored in a half type, the stores are the error. In f32 the order of sums is, and a processor's own
    // functions are. By a golden, rows share the errors of earlier stages: a few draws, not many.
    let stores = n.independent && layout.columns() && n.precision.grid() != Grid::Native;
    let global = if stores { GLOBAL } else { LOCAL };
    for (e, r) in errors.heads(layout).iter().zip(&rulers.heads) {
        see("head", *e, *r, global);
    }
    see("whole", errors.whole, rulers.whole, if stores { WHOLE } else { global });
    if n.independent && layout.columns() {
        see("gain", errors.gain.abs(), rulers.gain, GAIN);
        // If nothing is rounded when stored, only accumulation rounds, and similar rows have similar errors (E10.4).
        if n.precision.grid() != Grid::Native {
            see("trend", errors.trend, rulers.trend, GLOBAL);
        }
    }
    // A drift is reported only if nothing else is wrong, because a drift has no place.
    if let Some(d) = n.drift.filter(|_| worst.error <= worst.allowed * worst.ruler) {
        let drift = Worst { statistic: "drift", error: d.error, ruler: d.ruler, allowed: DRIFT };
        if drift.error > drift.allowed * drift.ruler {
            worst = drift;
        }
    }
    let failed = worst.error > worst.allowed * worst.ruler;
    let told = if failed { &worst } else { &element };
    let outcome = if failed { Outcome::Fail } else { Outcome::Pass };
    let words = if failed { words(n, layout, &errors, &rulers, &worst, within) } else { String::new() };
    let mut verdict = StageVerdict::plain(n.name, outcome, words)
        .by(told.statistic, told.error, told.ruler, told.allowed)
        .at(index(flat), n.truth[flat], n.got[flat]);
    verdict.whole = Some(Whole { error: errors.whole, ruler: rulers.whole, size: size(n.truth) });
    verdict
}

/// Root mean square.
fn size(values: &[f64]) -> f64 {
    (values.iter().map(|t| t * t).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// The error of every element, in the rulers of its row: row-major, like the stage.
pub(in crate::golden) fn ratios(n: &Numbers<'_>) -> Vec<f64> {
    let layout = Layout::of(n.name, n.shape);
    let noise = n.noise.clone().unwrap_or_else(|| Errors::none(layout));
    let rulers = Rulers::of(layout, n.truth, &noise, n.precision);
    (0..n.got.len()).map(|i| ratio(i, layout, n, &noise, &rulers)).collect()
}

fn ratio(i: usize, layout: Layout, n: &Numbers<'_>, noise: &Errors, rulers: &Rulers) -> f64 {
    (n.got[i] - n.truth[i]).abs() / (rulers.rows[i / layout.width.max(1)][1] * noise.unit(layout, i))
}

/// The element with the largest error, in the rulers of its row.
fn worst_element(layout: Layout, n: &Numbers<'_>, noise: &Errors, rulers: &Rulers) -> usize {
    let ratio = |i: usize| ratio(i, layout, n, noise, rulers);
    let larger = |best: (usize, f64), i: usize| {
        let own = ratio(i);
        if own > best.1 { (i, own) } else { best }
    };
    (0..n.got.len()).fold((0, if n.got.is_empty() { 0.0 } else { ratio(0) }), larger).0
}

/// The appearance of a failure, in words. within: whether each number, row, column and head is within the noise.
/// Spec: D11.1
fn words(n: &Numbers<'_>, layout: Layout, errors: &Errors, rulers: &Rulers, worst: &Worst, within: bool) -> String {
    let place = place(n.name, layout, n.heads, |k, i| match k {
        0 => errors.rows[i][0] > LOCAL * rulers.rows[i][0] || errors.rows[i][1] > LOCAL * rulers.rows[i][1],
        1 => errors.columns[i] > LOCAL * rulers.columns[i],
        _ => errors.heads(layout)[i] > GLOBAL * rulers.heads[i],
    });
    let honest = match n.precision {
        Precision::Truth | Precision::Fast => "f32",
        other => other.bundle_name(),
    };
    if let (Some(drift), "drift") = (n.drift, worst.statistic) {
        let ratio = drift.error / drift.ruler;
        return format!(
            "each number is within the noise, but the errors are correlated with {} ({ratio:.0} standard errors)",
            drift.along
        );
    }
    let mut words = format!("{place}, {} what honest {honest} would do", times(worst.error / worst.ruler));
    if within {
        words += match worst.statistic {
            "trend" => "; a trend: each row is within the noise, but the errors do not average out",
            "gain" => "; each row is within the noise, but all errors follow the truth",
            _ => "",
        };
    }
    words
}

/// A ratio in words.
pub(in crate::golden) fn times(ratio: f64) -> String {
    if ratio < 1000.0 { format!("{ratio:.1}x") } else { format!("{ratio:.0e}x") }
}
