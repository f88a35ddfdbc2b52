//! Suspects: numbers that were stored, or read, in a narrower type than the declared one. Spec: D11.8

use super::bits::{e4m3, e5m2, in_blocks, in_fp8};
use super::facts::Change;
use super::lineup::{Fitted, Lineup};
use crate::golden::kinds::numbers::{self, Numbers};
use crate::golden::measure::{Errors, Layout};
use crate::golden::verdict::Outcome;
use crate::num::Grid;
use crate::pass::Precision;
use crate::stage::Site;

/// The share of the squared error that numbers of the same blocks may leave: a number near a tie rounds the other way, and
/// programs store scales in f16 or bf16.
pub(in crate::golden) const TIES: f64 = 0.1;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let facts = lineup.facts;
    let n = facts.numbers;
    if n.precision.grid() == Grid::Native {
        for (grid, name) in [(Grid::Bf16, "bf16"), (Grid::F16, "f16")] {
            if n.got.iter().all(|v| grid.round(*v) == *v) && !n.truth.iter().all(|v| grid.round(*v) == *v) {
                let values = n.truth.iter().map(|v| grid.round(*v)).collect();
                lineup.add_like(TIES, values, || format!("every number is one of {name}: stored in {name}"));
                if let Some(again) = facts.again.and_then(|again| again.again(facts.at, &Change::Stored(grid))) {
                    lineup.add_like(1.0, again, || format!("every number is one of {name}: computed in {name}"));
                }
            }
        }
    }
    if matches!(facts.at.site, Site::Key | Site::Value | Site::StepKey | Site::StepValue) {
        blocks(lineup);
    }
}

/// Keys and values as a quantised cache holds them.
fn blocks(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    let row = layout.width;
    for (values, words) in [
        (in_blocks(n.truth, row, 127.0), "int8, a scale for each row of a head"),
        (in_blocks(n.truth, 32, 127.0), "int8, a scale for 32 numbers"),
        (in_blocks(n.truth, row, 7.0), "int4, a scale for each row of a head"),
        (in_blocks(n.truth, 32, 7.0), "int4, a scale for 32 numbers"),
        (in_blocks(n.truth, layout.rows * row, 127.0), "int8, a scale for each head"),
        (in_columns(layout, n.truth, 127.0), "int8, a scale for each column of a head"),
        (n.truth.iter().map(|v| e4m3(*v)).collect(), "fp8 (e4m3)"),
        (n.truth.iter().map(|v| e5m2(*v)).collect(), "fp8 (e5m2)"),
        (in_fp8(n.truth, row), "fp8 (e4m3), a scale for each row of a head"),
        (in_fp8(n.truth, n.truth.len()), "fp8 (e4m3), one scale for all"),
    ] {
        lineup.add_like(TIES, values, || format!("every number is one of {words}"));
    }
}

/// What linear layers read has 10 bits of mantissa. Spec: D11.8
pub(super) fn narrow(lineup: &mut Lineup<'_>) {
    let facts = lineup.facts;
    let n = facts.numbers.truth;
    if facts.numbers.precision.grid() != Grid::Native || facts.numbers.precision == Precision::Tf32 {
        return;
    }
    for (all, words) in [
        (true, "linear layers read numbers with 10 bits of mantissa: TF32 is on"),
        (false, "convolutions read numbers with 10 bits of mantissa: TF32 is on (in torch, backends.cudnn.allow_tf32)"),
    ] {
        let values = facts.again.and_then(|again| again.again(facts.at, &Change::Narrow { all }));
        let Some(values) = values.filter(|values| values != n) else { continue };
        if !lineup.add(Fitted::No, values.clone(), || words.into()) {
            lineup.add_like(HALF, values, || words.into());
        }
    }
}

/// An f32 candidate that would pass in a half type and is off by about as much as honest programs of the type. It is named
/// if it shows that it was computed in the type. Spec: D11.8, D11.20
pub(super) fn halves(lineup: &mut Lineup<'_>) {
    let (facts, n) = (lineup.facts, lineup.facts.numbers);
    let layout = facts.layout();
    let mut all = facts.halves.clone();
    if all.is_empty() && n.precision.grid() == Grid::Native {
        for kind in [Precision::Bf16, Precision::F16] {
            let values = (facts.honest)(kind, 0);
            all.extend(values.map(|values| (kind, Errors::of(layout, n.truth, &values, None))));
        }
    }
    let narrower = |kind: &Precision| n.precision != Precision::Tf32 || *kind == Precision::Bf16;
    for (precision, noise) in all.into_iter().filter(|(kind, _)| narrower(kind)) {
        let errors = Errors::of(layout, n.truth, n.got, Some(&noise.scale));
        let about = errors.whole > ABOUT * noise.whole;
        let other = Numbers { noise: Some(noise), precision, drift: None, ..*n };
        if !about || numbers::judge(&other).outcome != Outcome::Pass {
            continue;
        }
        if !shows(lineup, precision) {
            lineup.passes = lineup.passes.or(Some(match precision {
                Precision::Bf16 => "it would pass as bf16",
                _ => "it would pass as f16, which has the 10 bits of mantissa of TF32",
            }));
            continue;
        }
        lineup.name(match precision {
            Precision::Bf16 => "these are honest numbers of bf16, with errors of its size: is f32 the right type?",
            _ => {
                "these are honest numbers of f16, with errors of its size: is it f16 or TF32 (10 bits of mantissa), not f32?"
            }
        });
    }
}

/// Whether a candidate shows that it was computed in a half type: every number is one of the type, or the errors follow
/// those of a program of the type. The size of errors shows nothing: int8 weights and a short polynomial for exp have
/// errors of this size as well. Spec: D11.20
fn shows(lineup: &Lineup<'_>, precision: Precision) -> bool {
    let (n, grid) = (lineup.facts.numbers, precision.grid());
    let stored = |v: f64| grid.round(v) == v;
    let rounded = || n.truth.iter().filter(|&&t| !stored(f64::from(t as f32))).count();
    if n.got.iter().all(|&v| stored(v)) && rounded() >= ROUNDED {
        return true;
    }
    let honest = |number: usize| (lineup.facts.honest)(precision, number);
    // TF32 reads 10 bits of mantissa, as f16 has.
    let tf32 = |all: bool| lineup.facts.again.and_then(|again| again.again(lineup.facts.at, &Change::Narrow { all }));
    let tf32 = [true, false].into_iter().filter(|_| precision == Precision::F16).filter_map(tf32);
    (0..).map_while(honest).chain(tf32).any(|values| lineup.follows(&values))
}

/// Numbers of a type show the type if the truth has this many numbers that the type does not have. Spec: D11.20
const ROUNDED: usize = 4;

/// Errors are about as large as those of a half type, if they are at least this share of them.
const ABOUT: f64 = 0.3;

/// The share of the squared error that TF32 may leave: a GPU rounds in attention as well.
pub(super) const HALF: f64 = 0.5;

fn in_columns(layout: Layout, values: &[f64], most: f64) -> Vec<f64> {
    let Layout { lead, rows, width, .. } = layout;
    let mut out = values.to_vec();
    for head in 0..lead {
        for c in 0..width {
            let at = |r: usize| (head * rows + r) * width + c;
            let column: Vec<f64> = (0..rows).map(|r| values[at(r)]).collect();
            in_blocks(&column, rows, most).into_iter().enumerate().for_each(|(r, v)| out[at(r)] = v);
        }
    }
    out
}
