//! Suspects of attention: queries, keys or values that are read in fewer bits. Spec: D11.7, D11.21

use super::attend::{Attend, Trial};
use super::bits::{BITS, Sizes};
use super::formats::{HALF, TIES};
use crate::kernel::Operands;
use crate::num::Grid;
use crate::pass::Precision;
use ndarray::Array3;

/// Readings of attention that programs have, among those of [`BITS`].
const READ: [&str; 6] = [
    "bf16",
    "f16 or TF32 (10 bits of mantissa)",
    "int8, a scale for each row",
    "int8, a scale for 32 numbers",
    "fp8 (e4m3)",
    "fp8 (e4m3), one scale for all",
];

/// Which of queries, keys and values are read in fewer bits, in words.
const WHICH: [(&str, [bool; 3]); 6] = [
    ("keys and values are", [false, true, true]),
    ("keys are", [false, true, false]),
    ("values are", [false, false, true]),
    ("queries are", [true, false, false]),
    ("queries and keys are", [true, true, false]),
    ("queries, keys and values are", [true, true, true]),
];

/// Adds the suspects.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    for (at, (name, _)) in BITS.iter().enumerate().filter(|(_, (name, _))| READ.contains(name)) {
        let coarse = [right.q, right.k, right.v].map(|x| read(x, at));
        let name = if name.ends_with("row") { format!("{name} of a head") } else { name.to_string() };
        let half = match at {
            0 => Some(Grid::Bf16),
            1 => Some(Grid::F16),
            _ => None,
        };
        for (which, [q, k, v]) in WHICH {
            let pick = |is: bool, i: usize, own| if is { &coarse[i] } else { own };
            let (q, k, v) = (pick(q, 0, right.q), pick(k, 1, right.k), pick(v, 2, right.v));
            let coarse = Attend { q, k, v, ..right.with(|_| {}) };
            trial.add_like(TIES, &coarse, || format!("{which} read in {name}"));
            if half.is_some() && which.starts_with("queries, keys") {
                let weight = if at == 0 { |p| Grid::Bf16.round(p) } else { |p| Grid::F16.round(p) };
                for undivided in [false, true] {
                    let stored = coarse.with(|a| (a.weight, a.undivided) = (weight, undivided));
                    trial.add_like(TIES, &stored, || format!("{which} read in {name}, and weights are stored in it"));
                }
            }
        }
    }
    tf32(trial, right);
}

/// Queries, keys or values, [heads, rows, d], as read.
pub(super) fn read(x: &Array3<f64>, at: usize) -> Array3<f64> {
    let width = x.shape()[2];
    let flat: Vec<f64> = x.iter().copied().collect();
    let sizes = Sizes::of(&flat, width);
    let values = flat.chunks_exact(width.max(1)).flat_map(|row| BITS[at].1(row, &sizes));
    let mut read = x.clone();
    read.iter_mut().zip(values).for_each(|(x, value)| *x = value);
    read
}

/// Both products in TF32, if that is not the declared type.
fn tf32(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    if !matches!(trial.lineup.facts.numbers.precision, Precision::Truth | Precision::Fast) {
        return;
    }
    for read in [Operands::Nearest, Operands::TowardZero] {
        let weight = match read {
            Operands::TowardZero => |p| Operands::TowardZero.read(p),
            _ => |p| Operands::Nearest.read(p),
        };
        let [q, k, v] = [right.q, right.k, right.v].map(|x| x.mapv(|x| read.read(x)));
        let short = Attend { q: &q, k: &k, v: &v, ..right.with(|a| a.weight = weight) };
        trial.add_like(HALF, &short, || "attention reads numbers with 10 bits of mantissa: TF32 is on".into());
    }
}
