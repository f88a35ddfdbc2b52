//! Huge stages in a golden: a sample of the rows, and hashes of all rows. Not here: how the rows are judged.

use super::Bundle;
use super::measure::{Layout, unravel};
use super::widths;
use crate::num::Grid;
use crate::stage::Stage;
use crate::weights::Dtype;
use sha2::{Digest, Sha256};

/// Whether a stage of this name may be sampled. Logits, and stages from which decisions are computed, stay whole.
/// Spec: D10.10
pub(super) fn may_be_sampled(name: &str) -> bool {
    Stage::parse(name).is_some_and(|at| at.row().sampled)
}

/// `most` of `rows` rows, ascending: the first, the last, and one row in each of `most` − 2 equal parts between them;
/// all rows if there are no more than `most`. The row's place in a part depends only on the part's number. Spec: D10.10
pub(super) fn chosen(rows: usize, most: usize) -> Vec<usize> {
    if rows <= most {
        return (0..rows).collect();
    }
    let parts = most.saturating_sub(2);
    let inner = |part: usize| {
        let (from, to) = (1 + part * (rows - 2) / parts, 1 + (part + 1) * (rows - 2) / parts);
        from + (part as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize % (to - from).max(1)
    };
    let ends = if most > 1 { vec![rows - 1] } else { vec![] };
    std::iter::once(0).chain((0..parts).map(inner)).chain(ends).collect()
}

/// The chosen rows of a stage, for every head. values: row-major in the layout.
pub(super) fn pick(layout: Layout, rows: &[usize], values: &[f64]) -> Vec<f64> {
    let of = |lead: usize, row: usize| &values[(lead * layout.rows + row) * layout.width..][..layout.width];
    (0..layout.lead).flat_map(|lead| rows.iter().flat_map(move |&row| of(lead, row))).copied().collect()
}

/// The shape of a stage of which this many rows are kept.
pub(super) fn shape(layout: Layout, shape: &[usize], rows: usize) -> Vec<usize> {
    match (layout.lead, shape.len()) {
        (1, n) if n < 3 || shape[0] != 1 => vec![rows, layout.width],
        (lead, _) => vec![lead, rows, layout.width],
    }
}

/// Picks from `values`, in `shape`, the rows that a stage of shape `kept` holds; none if `kept` is no sample of the
/// stage.
pub(super) fn as_kept(name: &str, shape: &[usize], kept: &[usize], values: Vec<f64>) -> Option<Vec<f64>> {
    if shape == kept {
        return Some(values);
    }
    let (whole, part) = (Layout::of(name, shape), Layout::of(name, kept));
    let fits = may_be_sampled(name) && (whole.lead, whole.width) == (part.lead, part.width) && part.rows < whole.rows;
    fits.then(|| pick(whole, &chosen(whole.rows, part.rows), &values))
}

/// sha-256 of numbers as each type stores them, row-major, little-endian. Spec: D10.10
pub(super) fn hashes(values: &[f64]) -> [(&'static str, [u8; 32]); 3] {
    let of = |grid: Grid, dtype: Dtype| {
        let mut sha = Sha256::new();
        for part in values.chunks(4096) {
            let rounded: Vec<f64> = part.iter().map(|&v| grid.round(v)).collect();
            sha.update(widths::bytes(dtype, &rounded));
        }
        sha.finalize().into()
    };
    [("f32", Grid::Native, Dtype::F32), ("bf16", Grid::Bf16, Dtype::BF16), ("f16", Grid::F16, Dtype::F16)]
        .map(|(name, grid, dtype)| (name, of(grid, dtype)))
}

/// The sample of a stage in a golden.
pub(super) struct Sample {
    /// The rows, ascending.
    pub rows: Vec<usize>,
    /// The whole stage's shape.
    pub shape: Vec<usize>,
}

impl Sample {
    /// The sample of a stage; none if the stage is whole; `Err` if the sample is invalid.
    pub fn of(golden: &Bundle, name: &str, kept: &[usize]) -> Result<Option<Sample>, &'static str> {
        let list = |what: &str| -> Option<Vec<usize>> {
            let all = golden.i64(&format!("{what}.{name}")).ok()?;
            all.iter().map(|&v| usize::try_from(v).ok()).collect()
        };
        if golden.get(&format!("rows.{name}")).is_none() {
            return Ok(None);
        }
        let (Some(rows), Some(shape)) = (list("rows"), list("shape")) else {
            return Err("the golden's sample is damaged");
        };
        let numbers = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        if numbers.is_none() {
            return Err("the golden's sample is damaged");
        }
        let (whole, part) = (Layout::of(name, &shape), Layout::of(name, kept));
        let fits = (whole.lead, whole.width) == (part.lead, part.width) && rows.len() == part.rows;
        let ascend = rows.windows(2).all(|r| r[0] < r[1]) && rows.last().is_some_and(|&r| r < whole.rows);
        if fits && ascend { Ok(Some(Sample { rows, shape })) } else { Err("the golden's sample is damaged") }
    }

    /// Whether a candidate's stage equals the truth as its type stores it, in every bit.
    pub fn is_equal(&self, golden: &Bundle, candidate: &Bundle, name: &str) -> bool {
        let Some(got) = candidate.get(name) else { return false };
        let kind = match got.dtype {
            Dtype::F32 => "f32",
            Dtype::BF16 => "bf16",
            Dtype::F16 => "f16",
            _ => return false,
        };
        let known = golden.get(&format!("hash.{kind}.{name}"));
        known.is_some_and(|hash| hash.data == Sha256::digest(got.data).as_slice())
    }

    /// The index in the whole stage of an element of the sample.
    pub fn index(&self, name: &str, index: &[usize]) -> Vec<usize> {
        let whole = Layout::of(name, &self.shape);
        let [head @ .., row, column] = index else { return index.to_vec() };
        let row = self.rows.get(*row).copied().unwrap_or(*row);
        let row = row + head.first().map_or(0, |head| head * whole.rows);
        unravel(row * whole.width + column, &self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_10_rows_are_ascending_and_spread() {
        assert_eq!(chosen(5, 8), [0, 1, 2, 3, 4]);
        for (rows, most) in [(9, 8), (10, 3), (507, 64), (507, 2), (507, 1), (1000, 999)] {
            let found = chosen(rows, most);
            assert_eq!(found.len(), most, "{rows} {most}");
            assert!(found.windows(2).all(|r| r[0] < r[1]) && *found.last().unwrap() < rows, "{found:?}");
            let gap = found.windows(2).map(|r| r[1] - r[0]).max().unwrap_or(0);
            assert!(most < 3 || gap <= 2 * rows.div_ceil(most - 2), "{found:?}");
        }
    }
}
