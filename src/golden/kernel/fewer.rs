//! What a linear layer may have read in fewer bits: its weights, its inputs, or both. Each reading is computed, so that it
//! is named only if it has the candidate's errors, and not if it has their size. Naive on purpose: it computes suspects
//! only. Spec: D11.21

use crate::golden::causes::{BITS, Fitted, Lineup, Sizes, TIES};
use rayon::prelude::*;

/// A reading is tried on this many rows and outputs first.
const TRIED: [usize; 2] = [16, 64];
/// It is computed as a whole if it leaves at most this share of their squared error.
const LEAVES: f64 = 0.6;

/// A linear layer: x [rows, inputs], weight [outputs, inputs], bias \[outputs\].
#[derive(Clone)]
pub(super) struct Layer {
    pub inputs: usize,
    pub x: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Option<Vec<f64>>,
}

impl Layer {
    /// [rows, outputs].
    fn output(&self) -> Vec<f64> {
        let weights: Vec<&[f64]> = self.weight.chunks_exact(self.inputs).collect();
        let one = |x: &[f64], o: usize| {
            let sum = x.iter().zip(weights[o]).map(|(x, w)| x * w).sum::<f64>();
            sum + self.bias.as_ref().map_or(0.0, |bias| bias[o])
        };
        let of = |x| (0..weights.len()).into_par_iter().map(move |o| one(x, o)).collect::<Vec<f64>>();
        self.x.chunks_exact(self.inputs).flat_map(of).collect()
    }

    /// The layer with one or both matrices in fewer bits. sizes: of the whole x and the whole weight.
    fn read(&self, [x, weight]: [bool; 2], at: usize, sizes: &[Sizes; 2]) -> Layer {
        let matrix =
            |all: &[f64], sizes: &Sizes| all.chunks_exact(self.inputs).flat_map(|row| BITS[at].1(row, sizes)).collect();
        Layer {
            x: if x { matrix(&self.x, &sizes[0]) } else { self.x.clone() },
            weight: if weight { matrix(&self.weight, &sizes[1]) } else { self.weight.clone() },
            ..self.clone()
        }
    }
}

/// Adds the suspects.
pub(super) fn suspects(layer: &Layer, lineup: &mut Lineup<'_>) {
    let (n, inputs) = (lineup.facts.numbers, layer.inputs);
    let (count, outputs) = (layer.x.len() / inputs, layer.weight.len() / inputs);
    let (few_rows, few_outputs) = (spread(count, TRIED[0]), spread(outputs, TRIED[1]));
    let at = |all: &[f64]| -> Vec<f64> {
        few_rows.iter().flat_map(|r| few_outputs.iter().map(move |o| all[r * outputs + o])).collect()
    };
    let (got, truth) = (at(n.got), at(n.truth));
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let few = Layer {
        x: picked(&layer.x, inputs, &few_rows),
        weight: picked(&layer.weight, inputs, &few_outputs),
        bias: layer.bias.as_ref().map(|bias| picked(bias, 1, &few_outputs)),
        inputs,
    };
    let sizes = [Sizes::of(&layer.x, inputs), Sizes::of(&layer.weight, inputs)];
    for (what, reads) in
        [("the weight is", [false, true]), ("x is", [true, false]), ("x and the weight are", [true, true])]
    {
        // A scale for each column is one of weights.
        let has = |name: &str| !reads[0] || !name.ends_with("column");
        for (at, (name, _)) in BITS.iter().enumerate().filter(|(_, (name, _))| has(name)) {
            let left = apart(&got, &few.read(reads, at, &sizes).output()) / apart(&got, &truth);
            if left <= LEAVES {
                let values = layer.read(reads, at, &sizes).output();
                let words = || format!("{what} read in {name}");
                if !lineup.add(Fitted::No, values.clone(), words) {
                    lineup.add_like(TIES, values, words);
                }
            }
        }
    }
}

/// At most this many of so many places, evenly spread.
fn spread(count: usize, most: usize) -> Vec<usize> {
    (0..count).step_by(count.div_ceil(most).max(1)).collect()
}

/// Some rows of a matrix.
fn picked(all: &[f64], width: usize, rows: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|r| all[r * width..(r + 1) * width].iter().copied()).collect()
}
