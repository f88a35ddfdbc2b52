//! Runs the model in a test: records every stage, generates greedy tokens, measures distances.

use aircache::decoder::Sequence;
use aircache::generate::{self, Until};
use aircache::input::Prepared;
use aircache::kernel::Turn;
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Tap, Way};
use aircache::policy::{Policy, Retain};
use aircache::sample::{Sampler, Sampling};
use aircache::stage::Stage;
use ndarray::{ArrayD, ArrayViewD};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Keeps every stage, widened to f64.
#[derive(Default)]
pub struct Stages(pub BTreeMap<String, ArrayD<f64>>);

impl<T: Real> Tap<T> for Stages {
    fn wants(&self, _: Stage) -> bool {
        true
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.0.insert(at.to_string(), value.mapv(Real::to_f64));
    }
}

/// max |a − b| / max |b|; infinite if a number is NaN.
pub fn relative(a: &ArrayD<f64>, b: &ArrayD<f64>, what: &str) -> f64 {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let largest = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let off =
        a.iter().zip(b).fold(0.0, |m: f64, (a, b)| if (a - b).is_nan() { f64::INFINITY } else { m.max((a - b).abs()) });
    if off == 0.0 { 0.0 } else { off / largest }
}

/// Greedy tokens from a prefilled prompt; if there is a `policy`, the cache is compacted by it first.
pub fn greedy<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    mut prefilled: Sequence<T>,
    compression: Option<(&Policy, Retain)>,
    until: &Until,
) -> Vec<u32> {
    if let Some((policy, retain)) = compression {
        let plan = prefilled.plan(policy, retain).unwrap();
        prefilled.cache.compact(&plan.kept);
    }
    let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
    generate::decode(model, pass, &mut prefilled, &mut sampler, until, |_| ControlFlow::Continue(())).unwrap()
}

/// A whole run with the full cache that records all stages. Its rotary angles are those of transformers, whose goldens it
/// is compared with (A3.12).
pub fn watched<T: Real>(model: &Model, prompt: &Prepared, until: &Until) -> (Stages, Vec<u32>) {
    let mut stages = Stages::default();
    let way = Way { turn: Some(Turn::Rounded), ..Way::default() };
    let mut pass = Pass::<T>::watched(Grid::Native, &mut stages).by(way);
    let prefilled = generate::prefill(model, &mut pass, prompt, &[]).unwrap();
    let tokens = greedy(model, &mut pass, prefilled, None, until);
    (stages, tokens)
}
