//! Expected Attention against kvpress's own class: mean and covariance after the mean rotation, scores, kept rows. The
//! answers are in methods/expected.json; scripts/make_expected.py made them and names the commit.

use crate::common::prompts::{Prompt, roles};
use aircache::kernel::{Angles, Frequencies, Turn};
use aircache::num::Grid;
use aircache::policy::{Future, Moments, Observed, Policy, Retain, Scorer, ranking};
use ndarray::{Array2, Axis};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answers {
    roles: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed: u64,
    /// H, G, d_h.
    sizes: [usize; 3],
    theta: f64,
    positions: i64,
    /// Entries that each KV head keeps.
    tokens: usize,
    /// [H, d_h].
    mean: Vec<Vec<f64>>,
    /// [H, d_h, d_h].
    covariance: Vec<Vec<Vec<f64>>>,
    /// [G, n].
    scores: Vec<Vec<f64>>,
    /// [G] of rows.
    kept: Vec<Vec<usize>>,
}

/// transformers computes angles in f32, and stores their cosines and sines in f32.
fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 2e-6 * b.abs().max(0.05), "{what}: {a}, kvpress has {b}");
}

/// What the prompt's queries say of the next positions: the prompt's queries stand for queries before rotary.
fn future(prompt: &Prompt, case: &Case) -> Future<f64> {
    let (n, [heads, _, d]) = (prompt.roles.len() as i64, case.sizes);
    let frequencies = Frequencies::new(case.theta, d);
    let shape = (case.positions as usize, d / 2);
    let angles = Angles::<f64>::new(shape, &frequencies, |t, i| (i, n + t as i64), Turn::Rounded, Grid::Native);
    let mean = |table: Array2<f64>| table.mean_axis(Axis(0)).unwrap().to_vec();
    let mut moments = Moments::new(heads, d);
    for first in (0..n as usize).step_by(8) {
        moments.add(first, prompt.q[0].slice(ndarray::s![.., first..first + 8, ..]));
    }
    moments.turned(&mean(angles.cos), &mean(angles.sin), Grid::Native)
}

#[test]
fn e9_37_e9_38_kvpress_has_the_same_statistics_scores_and_rows() {
    let path = format!("{}/tests/golden/methods/expected.json", env!("CARGO_MANIFEST_DIR"));
    let answers: Answers = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(answers.cases.len(), 5);
    for case in &answers.cases {
        let prompt = Prompt::seeded(case.seed, roles(&answers.roles), 1, case.sizes, 1.0);
        let future = future(&prompt, case);
        for ((h, c), &a) in future.mean.indexed_iter() {
            near(a, case.mean[h][c], &format!("{}, mean {h} {c}", case.name));
        }
        for ((h, i, j), &a) in future.covariance.indexed_iter() {
            near(a, case.covariance[h][i][j], &format!("{}, covariance {h} {i} {j}", case.name));
        }
        let written = format!("expected,score=expected:{}", case.positions);
        let observe = |scope: &str| {
            let policy: Policy = format!("{written},scope={scope}").parse().unwrap();
            let scorer = Scorer::new(&policy, &prompt.roles).unwrap();
            let q = prompt.q[0].select(Axis(1), &[]);
            let (k, v) = (prompt.k[0].view(), Some(prompt.v[0].view()));
            let seen = Observed { q: q.view(), rows: &[], k, received: None, v, future: Some(&future) };
            let layer = scorer.observe(0, &seen).unwrap();
            (scorer, layer)
        };
        let (scorer, layer) = observe("all");
        let plan = scorer.decide(Retain::tokens(case.tokens).unwrap(), std::slice::from_ref(&layer));
        for (g, theirs) in case.scores.iter().enumerate() {
            let ours = layer.importance.row(g);
            ours.iter().zip(theirs).for_each(|(&a, &b)| near(a, b, &format!("{}, score of head {g}", case.name)));
            let best = ranking(&ours.to_vec());
            let of = |count: usize| {
                let mut rows = best[..count].to_vec();
                rows.sort_unstable();
                rows
            };
            assert_eq!(of(case.tokens), case.kept[g], "{}, head {g}", case.name);
            // Here the last row stays in any case (C9.5a).
            let last = prompt.roles.len() - 1;
            let mut rows = of(case.tokens);
            if rows.last() != Some(&last) {
                rows = [of(case.tokens - 1), vec![last]].concat();
            }
            assert_eq!(plan.kept[0][g], rows, "{}, head {g}", case.name);
        }
        // On visual entries the same scores, of the visual rows; row 3 is visual and one of the first four.
        let (_, visual) = observe("visual");
        for (i, &row) in prompt.roles.visual().iter().enumerate() {
            (0..case.sizes[1]).for_each(|g| assert_eq!(visual.importance[[g, i]], layer.importance[[g, row]]));
        }
    }
}
