//! One kernel by itself: a file of its inputs and its output is judged without a model. The truth is the kernel in f64;
//! the ruler is what honest computations of the same inputs in the declared type are off by. Spec: E10.20
//!
//! ```text
//! mod          measures the honest ways, gives the verdict
//! arrays       what a kernel gives: its inputs, its output by every way
//! attention    softmax(q·kᵀ·scale + mask)·v of query heads over their KV heads
//! rows         norm, linear, softmax, rotary: kernels of independent rows
//! fewer        a linear layer whose weights or inputs are read in fewer bits
//! topk         the places of the largest numbers: judged exactly
//! ```

mod arrays;
mod attention;
mod fewer;
mod rows;
mod topk;

use super::causes::{self, Facts, Fitted, Lineup};
use super::kinds::numbers::{self, Numbers};
use super::map::map;
use super::measure::{Errors, Layout, unravel};
use super::rerun::ways;
use super::verdict::{Map, Outcome, StageVerdict, Verdict};
use super::{Bundle, arc, precision};
use crate::error::{Error, Result};
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision};
use crate::stage::Stage;
use arrays::{Arrays, Kernel};

/// The kernels that [`kernel`] judges.
pub const KERNELS: [&str; 6] = ["attention", "norm", "rotary", "linear", "softmax", "topk"];

/// The verdict on one kernel, from a file of arrays. Spec: E10.20
///
/// # Errors
/// The kernel is unknown; an array or a value of the metadata is missing, or does not fit the others.
pub fn kernel(name: &str, file: &Bundle) -> Result<Verdict> {
    let precision = precision(file)?;
    let arrays = Arrays { file };
    let Judged { stage, map, mut notes } = match name {
        "attention" => judge(&attention::Attention::read(&arrays)?, &arrays, precision)?,
        "norm" => judge(&rows::Norm::read(&arrays)?, &arrays, precision)?,
        "rotary" => judge(&rows::Rotary::read(&arrays)?, &arrays, precision)?,
        "linear" => judge(&rows::Linear::read(&arrays)?, &arrays, precision)?,
        "softmax" => judge(&rows::Softmax::read(&arrays)?, &arrays, precision)?,
        "topk" => Judged { stage: topk::judge(&arrays)?, map: None, notes: vec![] },
        other => return Err(Error::new("--kernel", KERNELS.join(", "), format!("{other:?}"))),
    };
    notes.extend(arrays.off_the_grid(precision));
    let known = ["q", "k", "v", "mask", "x", "weight", "bias", "positions", "out"];
    let unknown = file.names().filter(|name| !known.contains(name)).map(|name| (name.to_string(), None)).collect();
    Ok(Verdict {
        mode: "kernel",
        precision: precision.bundle_name(),
        stages: vec![stage],
        missing: vec![],
        unknown,
        strict: false,
        notes,
        map,
    })
}

/// What is said of an output.
struct Judged {
    stage: StageVerdict,
    map: Option<Map>,
    notes: Vec<String>,
}

/// The noise of a kernel, given once or with several inputs, in a type. near: the truth, turned towards numbers as far as
/// honest angles differ. Spec: E10.1
fn measured<K: Kernel>(kernels: &[&K], kind: Precision, layout: Layout, near: &dyn Fn(&[f64]) -> Vec<f64>) -> Errors {
    let mut noise: Option<Errors> = None;
    for (kernel, honest) in kernels.iter().flat_map(|kernel| ways(kind).into_iter().map(move |way| (kernel, way))) {
        let pass = Pass::<f32>::new(kind.grid()).by(honest.way);
        let values: Vec<f64> = kernel.run(&pass).into_iter().map(Real::to_f64).collect();
        let errors = Errors::of(layout, &near(&values), &values, noise.as_ref().map(|n| &n.scale[..]));
        match &mut noise {
            Some(noise) => noise.widen(&errors),
            None => {
                let mut first = Errors { rows: vec![[0.0; 2]; errors.rows.len()], ..errors.clone() };
                first.widen(&errors);
                noise = Some(first);
            }
        }
    }
    noise.unwrap_or_else(|| Errors::none(layout))
}

/// The output by a program of a half type: what it reads is rounded to the type and the rest is exact, or it takes one of
/// the honest ways, with its inputs as they are or rounded. number: which of them. Spec: D11.20
fn honest<K: Kernel>(kernel: &K, kind: Precision, number: usize) -> Option<Vec<f64>> {
    let read = kernel.in_type(kind.grid());
    let Some(number) = number.checked_sub(1) else { return Some(rows::exact(&read)) };
    let way = ways(kind).into_iter().nth(number / 2)?.way;
    let pass = Pass::<f32>::new(kind.grid()).by(way);
    let values = if number.is_multiple_of(2) { kernel.run(&pass) } else { read.run(&pass) };
    Some(values.into_iter().map(Real::to_f64).collect())
}

/// The kernel with its inputs in a half type. Spec: D11.21
fn narrow<K: Kernel>(kernel: &K, lineup: &mut Lineup<'_>) {
    if lineup.is_solved() || lineup.facts.numbers.precision.grid() != Grid::Native {
        return;
    }
    for (grid, name) in [(Grid::Bf16, "bf16"), (Grid::F16, "f16 or TF32 (10 bits of mantissa)")] {
        lineup.add(Fitted::No, rows::exact(&kernel.in_type(grid)), || format!("the inputs are read in {name}"));
    }
}

/// Judges an output of numbers. Spec: E10.20
fn judge<K: Kernel>(kernel: &K, arrays: &Arrays<'_>, precision: Precision) -> Result<Judged> {
    let got = kernel.output(arrays)?;
    let shape = kernel.judged();
    let like = Stage::layer(K::LIKE, 0).name();
    let layout = Layout::of(&like, &shape);
    let truth: Vec<f64> = kernel.run(&Pass::new(Grid::Native));
    let slack = kernel.slack();
    let near = |to: &[f64]| {
        let mut truth = truth.clone();
        slack.iter().for_each(|slack| arc::nearest(layout, slack, &mut truth, to));
        truth
    };
    let kind = if precision == Precision::Truth { Precision::Fast } else { precision };
    let measured = |kernels: &[&K], kind: Precision| measured(kernels, kind, layout, &near);
    let noise = Some(measured(&[kernel], kind));
    if truth.is_empty() {
        return Err(Error::new(arrays.at("out"), "at least one number", "none"));
    }
    let numbers = Numbers {
        name: &like,
        shape: &shape,
        truth: &near(&got),
        got: &got,
        noise,
        rotated: slack.is_some(),
        precision,
        heads: 1,
        independent: true,
        drift: None,
    };
    let mut verdict = numbers::judge(&numbers);
    if verdict.outcome == Outcome::Fail && verdict.ratio.is_none() {
        verdict.cause = kernel.not_finite(&got).unwrap_or_default();
    }
    if verdict.outcome == Outcome::Fail && verdict.ratio.is_some() {
        let facts = Facts {
            at: Stage::layer(K::LIKE, 0),
            numbers: &numbers,
            slack: kernel.slack(),
            rotation: kernel.rotation(),
            known: &|_| None,
            alike: vec![],
            roles: None,
            again: None,
            halves: match kind {
                Precision::Fast | Precision::Tf32 => {
                    let half = |kind: Precision| (kind, measured(&[kernel, &kernel.in_type(kind.grid())], kind));
                    [half(Precision::Bf16), half(Precision::F16)].into()
                }
                _ => vec![],
            },
            honest: &|kind, number| honest(kernel, kind, number),
            drift: None,
        };
        let told = causes::named(&facts, |lineup| {
            kernel.suspects(lineup);
            narrow(kernel, lineup);
        });
        told.to(&mut verdict);
    }
    verdict.stage = "out".into();
    // The place in the array as it lies in the file, if the order of its numbers is the judged one.
    if let Some(file) = arrays.file.get("out").filter(|out| out.shape.len() > shape.len()) {
        let flat = verdict.index.iter().zip(&shape).fold(0, |flat, (i, side)| flat * side + i);
        verdict.index = unravel(flat, file.shape);
    }
    let map = Some(Map { stage: verdict.stage.clone(), ..map(&numbers) });
    Ok(Judged { stage: verdict, map, notes: kernel.notes() })
}
