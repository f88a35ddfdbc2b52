//! The policies against the public code of their methods: kept rows, scores, and what budgets follow from. The answers
//! are in methods/answers.json; scripts/make_methods.py made them and names the commits.

use crate::common::prompts::{Prompt, policy, roles};
use aircache::cache::HeadCache;
use aircache::num::Grid;
use aircache::policy::{Evict, Policy, Retain, Scorer};
use ndarray::Array3;
use serde::Deserialize;

#[derive(Deserialize)]
struct Answers {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    roles: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    policy: String,
    tokens: usize,
    seed: u64,
    layers: usize,
    /// [L][G] of the rows that each KV head keeps.
    kept: Option<Vec<Vec<Vec<usize>>>>,
    /// [L][S] of the scores of the candidates.
    scores: Option<Vec<Vec<Vec<f64>>>>,
    /// \[L\]: what budgets follow from.
    spread: Option<Vec<f64>>,
    /// \[L\]: entries that each layer keeps.
    budgets: Option<Vec<usize>>,
    /// d_h, and the factor of the queries, where they are not those of all cases.
    dim: Option<usize>,
    queries: Option<f64>,
    /// The rows that every head keeps, where the policy does not decide them.
    keep: Option<Vec<usize>>,
    /// [G][len] of the first four numbers of each merged entry, and the type that they were stored in.
    keys: Option<Vec<Vec<[f64; 4]>>>,
    values: Option<Vec<Vec<[f64; 4]>>>,
    stored: Option<String>,
}

impl Answers {
    fn read() -> Answers {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/answers.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The queries, keys and values of a seed, as the script has them.
    fn prompt(&self, case: &Case) -> Prompt<f64> {
        let (mut state, n, layers) = (case.seed, self.roles.len(), case.layers);
        let dim = case.dim.unwrap_or(self.dim);
        let mut take = |heads: usize, scale: f64| {
            Array3::from_shape_simple_fn((heads, n, dim), || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (((state >> 40) % 385) as f64 - 192.0) / 64.0 * scale
            })
        };
        let mut prompt = Prompt { roles: roles(&self.roles), q: vec![], k: vec![], v: vec![] };
        for l in 0..layers {
            prompt.q.push(take(self.heads, (1 + l) as f64 / 2.0 * case.queries.unwrap_or(1.0)));
            prompt.k.push(take(self.kv_heads, 1.0));
            prompt.v.push(take(self.kv_heads, 1.0));
        }
        prompt
    }
}

/// Public code computes in f32.
fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 2e-6 * b.abs().max(0.05), "{what}: {a}, public code has {b}");
}

#[test]
fn methods_answer_as_their_public_code() {
    let answers = Answers::read();
    for case in &answers.cases {
        let (policy, prompt): (Policy, _) = (policy(&case.policy), answers.prompt(case));
        let layers = prompt.observe(&policy).unwrap();
        let scorer = Scorer::new(&policy, &prompt.roles).unwrap();
        let plan = scorer.decide(Retain::tokens(case.tokens).unwrap(), &layers);
        for (l, layer) in layers.iter().enumerate() {
            if let Some(kept) = &case.kept {
                assert_eq!(plan.kept[l], kept[l], "{}, layer {l}", case.name);
            }
            for (set, scores) in case.scores.iter().flat_map(|all| all[l].iter().enumerate()) {
                assert_eq!(scores.len(), layer.importance.ncols());
                let what = format!("{}, layer {l}, set {set}", case.name);
                layer.importance.row(set).iter().zip(scores).for_each(|(&a, &b)| near(a, b, &what));
            }
            if let Some(spread) = &case.spread {
                near(layer.spread, spread[l], &format!("{}, layer {l}", case.name));
            }
            if let Some(budgets) = &case.budgets {
                // Public codes step from layer to layer in whole numbers (A9.4).
                let ours = plan.decisions.as_ref().unwrap().budget[l];
                assert!(ours.abs_diff(budgets[l]) <= 1, "{}, layer {l}: {ours}, {}", case.name, budgets[l]);
            }
        }
        if let (Some(keys), Some(values)) = (&case.keys, &case.values) {
            merged(case, &policy, &prompt, &plan.kept[0], keys, values);
        }
    }
    assert_eq!(answers.cases.len(), 24);
}

/// Compares the entries of one layer after a merge.
fn merged(
    case: &Case,
    policy: &Policy,
    prompt: &Prompt<f64>,
    kept: &[Vec<usize>],
    keys: &[Vec<[f64; 4]>],
    values: &[Vec<[f64; 4]>],
) {
    let Evict::Merge(how) = policy.evict else { panic!("{}: nothing is merged", case.name) };
    let (heads, n, d) = prompt.k[0].dim();
    let u = if case.stored.as_deref() == Some("bf16") { 2f64.powi(-8) } else { 2e-6 };
    for g in 0..heads {
        let mut head = HeadCache::<f64>::new(d);
        for row in 0..n {
            let of = |x: &Array3<f64>| x.slice(ndarray::s![g, row, ..]).to_vec().into_iter();
            head.push(row, of(&prompt.k[0]), of(&prompt.v[0]));
        }
        // Elastic Cache does not merge into the last row.
        let (keep, candidates) = match &case.keep {
            Some(keep) => (keep, (0..n - 1).collect()),
            None => (&kept[g], policy.candidates(&prompt.roles)),
        };
        let got = head.merged(keep, &candidates, how, Grid::Native);
        assert_eq!((got.len(), keys[g].len()), (keep.len(), keep.len()), "{}", case.name);
        for e in 0..keep.len() {
            for (numbers, theirs) in
                [(got.key(e).collect::<Vec<_>>(), keys[g][e]), (got.value(e).collect(), values[g][e])]
            {
                for (a, b) in numbers.iter().zip(theirs) {
                    assert!((a - b).abs() <= u * b.abs().max(0.1), "{}, head {g}, entry {e}: {a}, {b}", case.name);
                }
            }
        }
    }
}
