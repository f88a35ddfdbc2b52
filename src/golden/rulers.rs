//! Rulers: the largest error of an honest computation, for each statistic, and the margins of a decision.

use super::alike;
use super::measure::{Errors, Layout, ROWS_FOR_COLUMNS};
use super::rerun::{NARROWED, ways};
use crate::num::Grid;
use crate::pass::Precision;
use std::collections::BTreeMap;

/// The allowed error of one element, row or column, in rulers. Spec: T10.3
pub(super) const LOCAL: f64 = 3.0;
/// The allowed error of a head or a whole stage, in rulers; a stage of few rows is as uncertain as a row. Spec: T10.3
pub(super) const GLOBAL: f64 = 2.0;
/// The allowed error of a whole stage of many rows in a replay, in rulers. Spec: T10.3
pub(super) const WHOLE: f64 = 1.5;
/// The allowed gain: how many rulers a whole stage may be too large or too small by. Spec: T10.3
pub(super) const GAIN: f64 = 4.0;
/// The allowed drift, in normal deviates. Spec: T10.3
pub(super) const DRIFT: f64 = 8.0;

/// Unit roundoff of a type. Spec: T10.1
pub(super) fn roundoff(precision: Precision) -> f64 {
    match precision {
        Precision::Truth | Precision::Fast | Precision::Tf32 => (-24f64).exp2(),
        Precision::Bf16 => (-9f64).exp2(),
        Precision::F16 => (-12f64).exp2(),
    }
}

/// Whether errors of a type come from roundings that many numbers share, so that drifts are judged. Spec: E10.10
pub(super) fn drifts(precision: Precision) -> bool {
    !matches!(precision, Precision::Truth | Precision::Fast)
}

/// Whether two ways read the same numbers: those of TF32 that read others drift on purpose. Spec: E10.10
pub(super) fn reads_alike(precision: Precision, way: usize, other: Option<usize>) -> bool {
    let ways = ways(precision);
    let read = |way: usize| ways.get(way).map(|honest| honest.way.operands);
    read(way) == read(other.unwrap_or(0)) || read(way).is_none()
}

/// What the type's constants may be off by: u, in TF32 that of the numbers that products read. Spec: E10.10
pub(super) fn constant(precision: Precision) -> f64 {
    if precision == Precision::Tf32 { (-11f64).exp2() } else { roundoff(precision) }
}

/// The type that the numbers themselves show: the bundle's type, unless that type cannot store some number. Spec: A10.2
pub(super) fn shown(precision: Precision, values: &[f64]) -> Precision {
    let grid = precision.grid();
    let stored = |v: &f64| grid == Grid::Native || grid.round(*v) == *v;
    if values.iter().all(stored) { precision } else { Precision::Fast }
}

/// The error of an honest computation, for each statistic; rows and heads in units of the noise's scale. Spec: E10.2
pub(super) struct Rulers {
    /// [lead · rows]: root mean square, largest.
    pub rows: Vec<[f64; 2]>,
    /// One for each column, or one for each head if there are few rows.
    pub columns: Vec<f64>,
    /// [lead].
    pub heads: Vec<f64>,
    /// All elements.
    pub whole: f64,
    /// Along the truth.
    pub gain: f64,
    /// The part that does not average out.
    pub trend: f64,
}

impl Rulers {
    /// The rulers from a stage's noise. Each ruler is at least the error of storing alone, and the ruler of a row or
    /// column is at least the usual ruler of other rows or columns. Spec: E10.2, E10.3
    pub fn of(layout: Layout, truth: &[f64], noise: &Errors, precision: Precision) -> Rulers {
        let (u, tiny) =
            (roundoff(precision), if precision == Precision::F16 { (-25f64).exp2() } else { f64::MIN_POSITIVE });
        // The truth's own size, in the same statistics and units.
        let size = Errors::of(layout, truth, &vec![0.0; truth.len()], Some(&noise.scale));
        let unit = noise.scale.iter().copied().fold(f64::INFINITY, f64::min);
        let store = (0.5 * u).max(FACTOR_OF_ROW);
        let mut rows = noise.rows.clone();
        let numbers = few_numbers(layout.width, precision);
        for (lead, rows) in rows.chunks_mut(layout.rows.max(1)).enumerate() {
            let sizes = &size.rows[lead * layout.rows..][..rows.len()];
            for k in 0..2 {
                let usual = usual(rows, sizes, k);
                let least = ([0.5, 1.0][k] * u).max(FACTOR_OF_ROW);
                for (row, s) in rows.iter_mut().zip(sizes) {
                    let usual = usual[&octave(s[0])];
                    // Rows of other sizes are no measure; nor are single numbers that a row's error depends on.
                    let alone = usual.is_none() && layout.columns();
                    let hangs = layout.shared || alone || usual.is_some_and(|usual| row[k] > usual);
                    let few = if hangs { FEW_OF_ROW } else { FEW };
                    let few = few.max(numbers);
                    row[k] = (few * row[k]).max(usual.unwrap_or(0.0)).max(s[k] * least).max(tiny / unit);
                }
            }
        }
        let mut columns = noise.columns.clone();
        let per_head = columns.len() / layout.lead.max(1);
        for (columns, sizes) in columns.chunks_mut(per_head.max(1)).zip(size.columns.chunks(per_head.max(1))) {
            let usual = quantile(columns.iter().zip(sizes).map(|(n, s)| n / s), 0.5).max(store);
            columns.iter_mut().zip(sizes).for_each(|(n, s)| *n = (FEW * *n).max(s * usual).max(tiny));
        }
        let few = |numbers: usize| if layout.columns() { 1.0 } else { FEW.max(few_numbers(numbers, precision)) };
        let few_of_head = few(layout.rows * layout.width);
        let heads = noise
            .heads(layout)
            .iter()
            .zip(size.heads(layout))
            .map(|(n, s)| (few_of_head * n).max(store * s).max(tiny / unit))
            .collect();
        let whole = (few(truth.len()) * noise.whole).max(store * size.whole).max(tiny);
        // Along the truth, the errors of N independent rows sum to 1/√N of their size. Rows are similar, so at most 16
        // rows count as independent (E10.4).
        let by_chance = whole / size.whole.max(tiny) / 4.0;
        // The mean of R independent errors is 1/√R of one error (E10.4).
        let units = noise.columns.iter().zip(&noise.scale).map(|(k, s)| (k / s).powi(2)).sum::<f64>();
        let draws = draws(layout, truth, precision.grid());
        let mean = (units / noise.columns.len().max(1) as f64 / draws).sqrt();
        let least = 0.5 * u * quantile(size.rows.iter().map(|r| r[0]), 0.5) / draws.sqrt();
        let trend = noise.trend.max(mean).max(least).max(tiny / unit);
        Rulers { rows, columns, heads, whole, gain: noise.gain.max(by_chance), trend }
    }
}

/// How many independent errors a column's mean averages: the mean over columns. Numbers of a column that a store rounds to
/// the same value share their error. Spec: E10.4
fn draws(layout: Layout, truth: &[f64], grid: Grid) -> f64 {
    if !layout.columns() || grid == Grid::Native {
        return layout.rows.max(1) as f64;
    }
    let all = (layout.rows * layout.rows) as f64;
    let squares = alike::squares(layout, truth, grid);
    squares.len() as f64 / squares.iter().map(|square| square / all).sum::<f64>()
}

/// The whole power of two below a size.
fn octave(size: f64) -> i64 {
    if size > 0.0 && size.is_finite() { size.log2().floor() as i64 } else { i64::MIN / 2 }
}

/// What most rows of about a row's size stay below, for each octave of sizes; none where such rows are too few to tell.
/// Rows of real models differ in size by orders of magnitude, and small rows are not judged by the noise of large ones.
/// rows, sizes: root mean square and largest of each row; k: which of them. Spec: E10.3
fn usual(rows: &[[f64; 2]], sizes: &[[f64; 2]], k: usize) -> BTreeMap<i64, Option<f64>> {
    let mut octaves: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    rows.iter().zip(sizes).for_each(|(row, size)| octaves.entry(octave(size[0])).or_default().push(row[k]));
    let near = |at: i64| octaves.range(at - 1..=at + 1).flat_map(|(_, noise)| noise).copied();
    let of = |at: i64| (near(at).count() >= ROWS_FOR_COLUMNS).then(|| quantile(near(at), USUAL));
    octaves.keys().map(|&at| (at, of(at))).collect()
}

/// The share of rows that are no noisier than usual. Spec: E10.3
const USUAL: f64 = 0.99;
/// Noise is measured from few draws. These draws may be smaller by this factor than the usual error of one row, one
/// column, or the only row of a stage. Spec: E10.3
const FEW: f64 = 2.0;
/// The same factor for one of the noisiest rows, and for weights, whose errors may depend on a single number. Spec: E10.3
const FEW_OF_ROW: f64 = 4.0;

/// A third of what the factor of one row may be off by: a norm's mean square, its root, the reciprocal and the product are
/// rounded in f32 in every type, and all numbers of the row share the factor. Spec: E10.2
const FACTOR_OF_ROW: f64 = 4.0 / 3.0 / 16_777_216.0;

/// How many times as large as the largest of all ways' errors of d numbers a ruler has to be, so that the error of
/// another way is three rulers off with a probability of 10⁻⁹ only. Of the two numbers of a rotated pair, one is on the
/// arc. Spec: E10.3
fn few_numbers(d: usize, precision: Precision) -> f64 {
    let draws = match precision {
        // Ways that read the same numbers have the same errors.
        Precision::Tf32 => NARROWED.len(),
        _ => ways(precision).len(),
    };
    10f64.powf(9.0 / (draws * (d / 2).max(1)) as f64) / LOCAL
}

/// The quantile of the finite values: this share of them does not exceed the result; 0 if no value is finite.
fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f64 * share).ceil() as usize;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

/// The largest allowed error in each row of numbers: the element ruler times its factor. [lead · rows] Spec: E10.6
pub(super) fn margins(name: &str, shape: &[usize], truth: &[f64], noise: &Errors, precision: Precision) -> Vec<f64> {
    let layout = Layout::of(name, shape);
    let rulers = Rulers::of(layout, truth, noise, precision);
    let unit = |row: usize| (0..layout.width).map(|c| noise.unit(layout, row * layout.width + c)).fold(0.0, f64::max);
    rulers.rows.iter().enumerate().map(|(i, r)| LOCAL * r[1] * unit(i)).collect()
}

/// The error of an honest program in pixels: the few operations of a normalisation, in f32. Spec: E10.7
pub(super) fn pixel_noise(layout: Layout, truth: &[f64]) -> Errors {
    let largest = truth.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let error = 4.0 * (-24f64).exp2() * largest;
    let mut noise = Errors::none(layout);
    noise.rows.fill([error, error]); // in units of 1
    noise.columns.fill(error);
    noise.whole = error;
    noise
}
