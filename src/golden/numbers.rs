//! Judging a stage of numbers: errors against rulers, whole and in every part, so that one wrong head is seen.

use super::drift::Drift;
use super::measure::{Errors, Layout};
use super::place::place;
use super::verdict::{Outcome, StageVerdict, Whole};
use crate::num::Grid;
use crate::pass::Precision;

/// How many rulers a single element, a row or a column may be off. Spec: T10.3
pub(super) const LOCAL: f64 = 3.0;
/// How many rulers a head or a whole stage may be off. Spec: T10.3
const GLOBAL: f64 = 2.0;
/// How many rulers everything may be too large or too small by. Spec: T10.3
const GAIN: f64 = 4.0;
/// How many standard errors a drift may have. Spec: T10.3
pub(super) const DRIFT: f64 = 8.0;

/// Unit roundoff of what a type stores. Spec: T10.1
pub(super) fn roundoff(precision: Precision) -> f64 {
    match precision {
        Precision::Truth | Precision::Fast => (-24f64).exp2(),
        Precision::Bf16 => (-9f64).exp2(),
        Precision::F16 => (-12f64).exp2(),
    }
}

/// The type that numbers themselves show: that of the bundle, unless some number could not be stored in it. Spec: A10.2
pub(super) fn shown(precision: Precision, values: &[f64]) -> Precision {
    let grid = precision.grid();
    let stored = |v: &f64| grid == Grid::Native || grid.round(*v) == *v;
    if values.iter().all(stored) { precision } else { Precision::Fast }
}

/// A stage that is to be judged.
pub(super) struct Numbers<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// The truth.
    pub truth: &'a [f64],
    /// The candidate.
    pub got: &'a [f64],
    /// What honest computations are off by; none for what only stores.
    pub noise: Option<Errors>,
    /// The candidate's type.
    pub precision: Precision,
    /// Query heads, to name parts of a `mix`.
    pub heads: usize,
    /// Whether errors of different rows are independent, as in a replay: then a common trend is a finding (E10.4).
    pub independent: bool,
    /// What the errors follow, if anything (E10.10).
    pub drift: Option<&'a Drift>,
}

/// What an honest computation may be off by, statistic by statistic; rows and heads in units of the noise's scale.
/// Spec: E10.2
pub(super) struct Rulers {
    /// [lead · rows]: root mean square, largest.
    pub rows: Vec<[f64; 2]>,
    /// One a column, or one a head where rows are few.
    pub columns: Vec<f64>,
    /// [lead].
    pub heads: Vec<f64>,
    /// All elements.
    pub whole: f64,
    /// Along the truth.
    pub gain: f64,
    /// What does not average out.
    pub trend: f64,
}

impl Rulers {
    /// The rulers from a stage's noise, no smaller than what storing alone makes, and for no row or column smaller than
    /// what is usual among its like. Spec: E10.2, E10.3
    pub fn of(layout: Layout, truth: &[f64], noise: &Errors, precision: Precision) -> Rulers {
        let (u, tiny) =
            (roundoff(precision), if precision == Precision::F16 { (-25f64).exp2() } else { f64::MIN_POSITIVE });
        // The truth's own size, in the same statistics and units.
        let size = Errors::of(layout, truth, &vec![0.0; truth.len()], Some(&noise.scale));
        let unit = noise.scale.iter().copied().fold(f64::INFINITY, f64::min);
        let mut rows = noise.rows.clone();
        for (lead, rows) in rows.chunks_mut(layout.rows.max(1)).enumerate() {
            let sizes = &size.rows[lead * layout.rows..][..rows.len()];
            for k in 0..2 {
                let usual = if layout.columns() { quantile(rows.iter().map(|n| n[k]), USUAL) } else { 0.0 };
                let least = [0.5, 1.0][k] * u;
                let ruler = |n: f64, s: f64| {
                    (if n > usual { FEW_OF_ROW } else { FEW } * n).max(usual).max(s * least).max(tiny / unit)
                };
                rows.iter_mut().zip(sizes).for_each(|(n, s)| n[k] = ruler(n[k], s[k]));
            }
        }
        let mut columns = noise.columns.clone();
        let per_head = columns.len() / layout.lead.max(1);
        for (columns, sizes) in columns.chunks_mut(per_head.max(1)).zip(size.columns.chunks(per_head.max(1))) {
            let usual = quantile(columns.iter().zip(sizes).map(|(n, s)| n / s), 0.5).max(0.5 * u);
            columns.iter_mut().zip(sizes).for_each(|(n, s)| *n = (FEW * *n).max(s * usual).max(tiny));
        }
        let few = if layout.columns() { 1.0 } else { FEW };
        let heads = noise
            .heads(layout)
            .iter()
            .zip(size.heads(layout))
            .map(|(n, s)| (few * n).max(0.5 * u * s).max(tiny / unit))
            .collect();
        let whole = (few * noise.whole).max(0.5 * u * size.whole).max(tiny);
        // Along the truth, errors of N independent rows add up to a 1/√N-th of their size; rows are alike, so that no more
        // than 16 are counted as independent (E10.4).
        let by_chance = whole / size.whole.max(tiny) / 4.0;
        // The mean of R independent errors is a 1/√R-th of one of them (E10.4).
        let units = noise.columns.iter().zip(&noise.scale).map(|(k, s)| (k / s).powi(2)).sum::<f64>();
        let mean = (units / noise.columns.len().max(1) as f64 / layout.rows.max(1) as f64).sqrt();
        let least = 0.5 * u * quantile(size.rows.iter().map(|r| r[0]), 0.5) / (layout.rows.max(1) as f64).sqrt();
        let trend = noise.trend.max(mean).max(least).max(tiny / unit);
        Rulers { rows, columns, heads, whole, gain: noise.gain.max(by_chance), trend }
    }
}

/// The share of rows that are no noisier than usual. Spec: E10.3
const USUAL: f64 = 0.99;
/// By how much the few draws that were measured may be smaller than what is usual for one row, one column, or the one
/// row of a stage. Spec: E10.3
const FEW: f64 = 2.0;
/// The same for a row among the noisiest, whose error may hang on one number. Spec: E10.3
const FEW_OF_ROW: f64 = 4.0;

/// The value that this share of the finite values does not exceed; 0 without any.
fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f64 * share).ceil() as usize;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

/// The largest share of what is allowed that one statistic uses up.
pub(super) struct Worst {
    statistic: &'static str,
    error: f64,
    ruler: f64,
    allowed: f64,
}

/// Judges a stage of numbers. Spec: E10.5
pub(super) fn judge(n: &Numbers<'_>) -> StageVerdict {
    let layout = Layout::of(n.name, n.shape);
    let noise = n.noise.clone().unwrap_or_else(|| Errors::none(layout));
    let errors = Errors::of(layout, n.truth, n.got, Some(&noise.scale));
    let rulers = Rulers::of(layout, n.truth, &noise, n.precision);
    let index = |flat: usize| unravel(flat, n.shape);

    if let Some(i) = n.got.iter().position(|v| !v.is_finite()) {
        let honest = noise.rows[i / layout.width.max(1)][1];
        if n.truth[i].is_finite() && honest.is_finite() {
            let count = n.got.iter().filter(|v| !v.is_finite()).count();
            let words = format!("{} of {} numbers are NaN or infinite", count, n.got.len());
            return StageVerdict::plain(n.name, Outcome::Fail, words).at(index(i), n.truth[i], n.got[i]);
        }
        let words = "this type overflows here in honest computations too";
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
    let mut see = |statistic: &'static str, error: f64, ruler: f64, allowed: f64| {
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
    for (e, r) in errors.heads(layout).iter().zip(&rulers.heads) {
        see("head", *e, *r, GLOBAL);
    }
    see("whole", errors.whole, rulers.whole, GLOBAL);
    if n.independent && layout.columns() {
        see("gain", errors.gain.abs(), rulers.gain, GAIN);
        // Without stores, what rounds is accumulation alone, and rows that are alike are off alike (E10.4).
        if n.precision.grid() != Grid::Native {
            see("trend", errors.trend, rulers.trend, GLOBAL);
        }
    }
    // A drift is told where nothing else is wrong: it has no place.
    if let Some(d) = n.drift.filter(|_| worst.error <= worst.allowed * worst.ruler) {
        let drift = Worst { statistic: "drift", error: d.error, ruler: d.ruler, allowed: DRIFT };
        if drift.error > drift.allowed * drift.ruler {
            worst = drift;
        }
    }
    let failed = worst.error > worst.allowed * worst.ruler;
    let told = if failed { &worst } else { &element };
    let outcome = if failed { Outcome::Fail } else { Outcome::Pass };
    let words = if failed { words(n, layout, &errors, &rulers, &worst) } else { String::new() };
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

/// How far every element is off, in its row's rulers: row-major, as the stage.
pub(super) fn ratios(n: &Numbers<'_>) -> Vec<f64> {
    let layout = Layout::of(n.name, n.shape);
    let noise = n.noise.clone().unwrap_or_else(|| Errors::none(layout));
    let rulers = Rulers::of(layout, n.truth, &noise, n.precision);
    (0..n.got.len()).map(|i| ratio(i, layout, n, &noise, &rulers)).collect()
}

fn ratio(i: usize, layout: Layout, n: &Numbers<'_>, noise: &Errors, rulers: &Rulers) -> f64 {
    (n.got[i] - n.truth[i]).abs() / (rulers.rows[i / layout.width.max(1)][1] * noise.unit(layout, i))
}

/// The element that is farthest off, in its row's rulers.
fn worst_element(layout: Layout, n: &Numbers<'_>, noise: &Errors, rulers: &Rulers) -> usize {
    let ratio = |i: usize| ratio(i, layout, n, noise, rulers);
    (0..n.got.len()).fold(0, |best, i| if ratio(i) > ratio(best) { i } else { best })
}

/// What a failure looks like. Spec: D10.6
fn words(n: &Numbers<'_>, layout: Layout, errors: &Errors, rulers: &Rulers, worst: &Worst) -> String {
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
            "each number is within the noise, but the errors follow {} ({ratio:.0} standard errors)",
            drift.along
        );
    }
    let mut words = format!("{place}, {} what honest {honest} would do", times(worst.error / worst.ruler));
    let size = size(n.truth);
    if worst.statistic == "trend" {
        words += "; a trend: each row is within the noise, but the errors do not average out";
    }
    if errors.gain.abs() > 0.5 * errors.whole / size.max(f64::MIN_POSITIVE) && errors.gain.abs() > GAIN * rulers.gain {
        words += &format!("; systematic: everything is {:.4} times the truth", 1.0 + errors.gain);
    } else if honest == "f32" && (1e-5..1e-2).contains(&(errors.whole / size)) && place == "everywhere" {
        words += "; noise of the size of TF32 or a half type: are TF32 matmuls on?";
    }
    words
}

/// A ratio in words.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 1000.0 { format!("{ratio:.1}x") } else { format!("{ratio:.0e}x") }
}

/// Row-major coordinates.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &side) in index.iter_mut().zip(shape).rev() {
        *i = flat % side.max(1);
        flat /= side.max(1);
    }
    index
}

/// How far a row of numbers may be off at most: the element ruler times its factor. [lead · rows] Spec: E10.6
pub(super) fn margins(name: &str, shape: &[usize], truth: &[f64], noise: &Errors, precision: Precision) -> Vec<f64> {
    let layout = Layout::of(name, shape);
    let rulers = Rulers::of(layout, truth, noise, precision);
    let unit = |row: usize| (0..layout.width).map(|c| noise.unit(layout, row * layout.width + c)).fold(0.0, f64::max);
    rulers.rows.iter().enumerate().map(|(i, r)| LOCAL * r[1] * unit(i)).collect()
}
