//! Suspects of a replay: the layer with one mistake, from the candidate's own inputs. Spec: D11.9

use super::facts::{Again, Change, Edit};
use super::lineup::{Fitted, Lineup};
use crate::config::Activation;
use crate::golden::fit::errors;
use crate::pass::Branch;
use crate::stage::{Site, Stage};
use ndarray::ArrayD;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let Some(again) = lineup.facts.again else { return };
    let at = lineup.facts.at;
    if matches!(at.site, Site::VisionOut | Site::Projected | Site::Out) {
        functions(lineup, again);
        for (branch, name) in [(Branch::Attention, "attention"), (Branch::Mlp, "the MLP")] {
            tried(lineup, again, &Change::Without(branch), || format!("what {name} adds is left out"));
        }
        columns(lineup, again);
    }
    weights(lineup, again);
    if at.site == Site::Out && !lineup.is_solved() {
        heads(lineup, again);
    }
    if at.site == Site::Logits {
        rows(lineup, again);
    }
    epsilon(lineup, again);
}

fn tried(lineup: &mut Lineup<'_>, again: &dyn Again, change: &Change, words: impl FnOnce() -> String) -> bool {
    let values = again.again(lineup.facts.at, change);
    values.is_some_and(|values| values != lineup.facts.numbers.truth && lineup.add(Fitted::No, values, words))
}

/// Another activation.
fn functions(lineup: &mut Lineup<'_>, again: &dyn Again) {
    for (function, name) in [
        (Activation::GeluErf, "gelu (with the error function)"),
        (Activation::GeluTanh, "gelu_pytorch_tanh"),
        (Activation::QuickGelu, "quick_gelu"),
        (Activation::Silu, "silu"),
        (Activation::Relu, "relu"),
    ] {
        tried(lineup, again, &Change::Function(function), || format!("the activation is {name}"));
    }
}

/// What tensors of the layer may hold instead.
fn weights(lineup: &mut Lineup<'_>, again: &dyn Again) {
    for (i, tensor) in again.tensors(lineup.facts.at).into_iter().enumerate() {
        let name = &tensor.name;
        let edits: &[(Edit, &str)] = match tensor.shape.len() {
            1 if name.ends_with("bias") => &[(Edit::Zero, "is left out")],
            1 => &[(Edit::One, "is left out"), (Edit::Plus, "is read as 1 + w"), (Edit::Zero, "is all zeros")],
            4 | 5 => &[(Edit::Channels, "reads the channels in the other order (blue first)")],
            _ if name.contains("position") => &[
                (Edit::Rows(1), "is read one row late: a patch gets the position before its own"),
                (Edit::Rows(-1), "is read one row early: a patch gets the position after its own"),
                (Edit::Zero, "is left out"),
            ],
            _ => &[],
        };
        for (edit, words) in edits {
            tried(lineup, again, &Change::Weight(i, *edit), || format!("{name} {words}"));
        }
    }
}

/// One output of a branch is a factor times what it should be.
fn columns(lineup: &mut Lineup<'_>, again: &dyn Again) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    for (branch, name) in [(Branch::Attention, "attention"), (Branch::Mlp, "the MLP")] {
        let Some(without) = again.again(lineup.facts.at, &Change::Without(branch)) else { continue };
        let (error, adds) = (errors(n.got, n.truth), errors(n.truth, &without));
        let column = |c: usize| (c..error.len()).step_by(layout.width.max(1));
        let square = |c: usize| column(c).map(|i| error[i] * error[i]).sum::<f64>();
        let all: f64 = error.iter().map(|e| e * e).sum();
        let Some(worst) = (0..layout.width).max_by(|&a, &b| square(a).total_cmp(&square(b))) else { continue };
        if square(worst) < 0.3 * all {
            continue;
        }
        let a = column(worst).map(|i| error[i] * adds[i]).sum::<f64>()
            / column(worst).map(|i| adds[i] * adds[i]).sum::<f64>();
        let mut values = n.truth.to_vec();
        column(worst).for_each(|i| values[i] += a * adds[i]);
        lineup.add(Fitted::Few, values, || {
            format!("output {worst} of {name} is {} times what it should be", super::factors::number(1.0 + a))
        });
    }
}

/// The most heads that are left out one by one.
const HEADS: usize = 32;

/// The output projection lacks a head, or reads the heads in another order.
fn heads(lineup: &mut Lineup<'_>, again: &dyn Again) {
    let at = lineup.facts.at;
    let mix = Stage::layer(Site::Mix, at.layer);
    let count = lineup.facts.known_heads();
    let Some(own) = (lineup.facts.known)(mix).filter(|x| x.ndim() == 2) else { return };
    let (n, width) = (own.shape()[0], own.shape()[1]);
    if !(2..=HEADS).contains(&count) || !width.is_multiple_of(count) {
        return;
    }
    let d = width / count;
    for h in 0..count {
        let without = ArrayD::from_shape_fn(vec![n, width], |i| if i[1] / d == h { 0.0 } else { own[[i[0], i[1]]] });
        tried(lineup, again, &Change::Instead(mix, without), || {
            format!("the output projection does not read head {h}")
        });
    }
    let woven = ArrayD::from_shape_fn(vec![n, width], |i| own[[i[0], i[1] % count * d + i[1] / count]]);
    tried(lineup, again, &Change::Instead(mix, woven), || {
        "the output projection reads [n, d_h, H] in place of [n, H, d_h]".into()
    });
}

/// Logits of another row.
fn rows(lineup: &mut Lineup<'_>, again: &dyn Again) {
    let norm = Stage::once(Site::Norm);
    let Some(own) = (lineup.facts.known)(norm).filter(|x| x.ndim() == 2) else { return };
    let (n, width) = (own.shape()[0], own.shape()[1]);
    for back in [1, 2, n - 1] {
        if back >= n || back == 0 {
            continue;
        }
        let other = ArrayD::from_shape_fn(vec![n, width], |i| own[[(i[0] + n - back) % n, i[1]]]);
        tried(lineup, again, &Change::Instead(norm, other), || {
            format!("these are the logits of row {}; the prompt's last row is {}", n - 1 - back, n - 1)
        });
    }
}

/// Values of ε that programs have.
const COMMON: [f64; 7] = [0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-5, 1e-3];

/// Another ε: a usual one, or the one that errors show.
fn epsilon(lineup: &mut Lineup<'_>, again: &dyn Again) {
    let at = lineup.facts.at;
    let Some(own) = again.epsilon(at) else { return };
    let says = move |found: f64| format!("ε is {found:.3e}; the model's is {own:e}");
    for other in COMMON {
        if other != own {
            tried(lineup, again, &Change::Epsilon(other), || format!("ε is {other:e}; the model's is {own:e}"));
        }
    }
    if lineup.is_solved() || lineup.facts.drift.is_some() {
        return;
    }
    // Newton's steps in the logarithm: the errors are nearly linear in ε where it is small.
    let n = lineup.facts.numbers;
    let value = |epsilon: f64| again.again(at, &Change::Epsilon(epsilon));
    let mut epsilon: f64 = own;
    for _ in 0..6 {
        let step = epsilon * 1e-2;
        let (Some(here), Some(there)) = (value(epsilon), value(epsilon + step)) else { return };
        let (left, slope) = (errors(n.got, &here), errors(&there, &here));
        let product: f64 = left.iter().zip(&slope).map(|(a, b)| a * b).sum();
        let square: f64 = slope.iter().map(|b| b * b).sum();
        if square == 0.0 {
            return;
        }
        epsilon = (epsilon + step * product / square).clamp(epsilon * 1e-3, epsilon * 1e3);
    }
    if let Some(values) = value(epsilon) {
        lineup.add(Fitted::Few, values, || says(epsilon));
    }
}
