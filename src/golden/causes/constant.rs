//! Suspects: the same numbers are added to every row, or another stage is added or missing. Spec: D11.5

use super::lineup::{Fitted, Lineup};
use crate::golden::fit::errors;
use crate::golden::measure::{Layout, ROWS_FOR_COLUMNS};
use crate::stage::{Site, Stage};

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    other_stage(lineup);
    vector(lineup);
    rotated(lineup);
}

/// The layer's input is missing, or there twice.
fn other_stage(lineup: &mut Lineup<'_>) {
    let (facts, n) = (lineup.facts, lineup.facts.numbers);
    let at = facts.at;
    let before = match at.site {
        Site::Out if at.layer == 0 => vec![Stage::once(Site::Embed)],
        Site::Out | Site::VisionOut if at.layer > 0 => vec![Stage::layer(at.site, at.layer - 1)],
        Site::StepOut if at.layer > 0 => vec![Stage::of_step(Site::StepOut, at.step, at.layer - 1)],
        _ => vec![],
    };
    for other in before {
        let Some(x) = (facts.known)(other).filter(|x| x.len() == n.truth.len()) else { continue };
        for (sign, words) in [(-1.0, "is missing: a residual is left out"), (1.0, "is added once too often")] {
            let values = n.truth.iter().zip(&x).map(|(t, x)| t + sign * x).collect();
            lineup.add(Fitted::No, values, || format!("{other} {words}"));
        }
    }
}

/// Every row is off by the same numbers.
fn vector(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    if layout.rows < ROWS_FOR_COLUMNS || n.rotated {
        return;
    }
    let mean = mean(layout, &errors(n.got, n.truth));
    let values = n.truth.iter().enumerate().map(|(i, t)| t + mean[column(layout, i)]).collect();
    lineup.add(Fitted::Many, values, || "every row is off by the same numbers: a bias is left out, or another".into());
}

/// Before the rotation, every row is off by the same numbers.
fn rotated(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    let Some(rotation) = lineup.facts.rotation.as_ref().filter(|_| layout.rows >= ROWS_FOR_COLUMNS) else { return };
    let mut error = errors(n.got, n.truth);
    rotation.turn(layout, &mut error, -1.0);
    let mean = mean(layout, &error);
    let mut off: Vec<f64> = (0..error.len()).map(|i| mean[column(layout, i)]).collect();
    rotation.turn(layout, &mut off, 1.0);
    let values = n.truth.iter().zip(off).map(|(t, off)| t + off).collect();
    lineup.add(Fitted::Many, values, || {
        "before the rotation every row is off by the same numbers: a bias is left out, or another".into()
    });
}

/// The mean over rows of each column of each head.
fn mean(layout: Layout, error: &[f64]) -> Vec<f64> {
    let mut mean = vec![0.0; layout.lead * layout.width];
    error.iter().enumerate().for_each(|(i, e)| mean[column(layout, i)] += e / layout.rows as f64);
    mean
}

/// The column of a number, counted over all heads.
fn column(layout: Layout, i: usize) -> usize {
    i / (layout.rows * layout.width) * layout.width + i % layout.width
}
