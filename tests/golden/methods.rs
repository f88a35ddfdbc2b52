//! The policies against the public code of their methods: kept rows, scores, and what budgets follow from. The answers
//! are in methods/answers.json and methods/factory.json; scripts/make_methods.py and scripts/make_factory.py made them and
//! name the commits.

use crate::common::prompts::{Prompt, policy, roles};
use aircache::cache::HeadCache;
use aircache::num::Grid;
use aircache::policy::{Budget, LayerScores, Policy, Retain, Scorer, Split};
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
    /// [L][G] of the rows that each KV head keeps, under the budgets of public code.
    kept_of_budgets: Option<Vec<Vec<Vec<usize>>>>,
    /// Where the budgets of all layers are equal in public code, the label of this reading.
    even: Option<String>,
    /// \[G\] of the rows that each KV head keeps where the heads' own counts are mixed with a floor, and the floor.
    kept_of_counts: Option<Vec<Vec<usize>>>,
    floor: Option<f64>,
    /// [L][G] of the rows that each KV head keeps where each head's share of the budget is rounded alone.
    kept_of_heads: Option<Vec<Vec<Vec<usize>>>>,
    /// [L][S] of the scores of the candidates.
    scores: Option<Vec<Vec<Vec<f64>>>>,
    /// \[L\]: what budgets follow from.
    spread: Option<Vec<f64>>,
    /// \[L\]: entries that each layer keeps.
    budgets: Option<Vec<usize>>,
    /// The prompt, G, d_h and the factor of the queries, where they are not those of all cases.
    roles: Option<String>,
    kv_heads: Option<usize>,
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
    fn read(name: &str) -> Answers {
        let path = format!("{}/tests/golden/methods/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn prompt(&self, case: &Case) -> Prompt {
        let sizes = [self.heads, case.kv_heads.unwrap_or(self.kv_heads), case.dim.unwrap_or(self.dim)];
        let roles = roles(case.roles.as_ref().unwrap_or(&self.roles));
        Prompt::seeded(case.seed, roles, case.layers, sizes, case.queries.unwrap_or(1.0))
    }
}

/// Public code computes in f32.
fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 2e-6 * b.abs().max(0.05), "{what}: {a}, public code has {b}");
}

#[test]
fn methods_answer_as_their_public_code() {
    let counts = ["answers", "factory"].map(|name| {
        let answers = Answers::read(name);
        answers.cases.iter().for_each(|case| compare(case, &answers.prompt(case)));
        answers.cases.len()
    });
    assert_eq!(counts, [24, 29]);
}

fn compare(case: &Case, prompt: &Prompt) {
    let policy: Policy = policy(&case.policy);
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
            // Public codes step from layer to layer in whole numbers, or round each layer alone (A9.4).
            let ours = plan.decisions.as_ref().unwrap().budget[l];
            let even = case.even.as_deref() == Some("A9.4") && budgets.iter().all(|&b| b == case.tokens);
            assert!(even || ours.abs_diff(budgets[l]) <= 1, "{}, layer {l}: {ours}, {}", case.name, budgets[l]);
        }
    }
    if let (Some(kept), Some(budgets)) = (&case.kept_of_budgets, &case.budgets) {
        assert_eq!(&scorer.keep(budgets.clone(), &layers).kept, kept, "{}", case.name);
    }
    if let (Some(kept), Some(floor)) = (&case.kept_of_counts, case.floor) {
        mixed(case, &policy, prompt, &layers, [kept, &plan.kept[0]], floor);
    }
    if let Some(kept) = &case.kept_of_heads {
        rounded_alone(case, &policy, prompt, &layers, kept, &plan.kept);
    }
    if let (Some(keys), Some(values)) = (&case.keys, &case.values) {
        merged(case, &policy, prompt, &plan.kept[0], keys, values);
    }
}

/// AdaKV's own rule (E9.18): the count of each head among the best pairs, without the window, is mixed with the floor and
/// rounded, a half to even. The candidates of a head are then the first ones of the same order. kept: public code's, and
/// ours of `ada:0`.
fn mixed(case: &Case, policy: &Policy, prompt: &Prompt, layers: &[LayerScores], kept: [&[Vec<usize>]; 2], floor: f64) {
    let [theirs, best] = kept;
    let window = layers[0].window[0].len();
    let least = ((case.tokens - window) as f64 * floor).floor();
    let even = Scorer::new(&Policy { split: Split::Even, ..policy.clone() }, &prompt.roles).unwrap();
    for (g, theirs) in theirs.iter().enumerate() {
        let count = ((best[g].len() - window) as f64 * (1.0 - floor) + least).round_ties_even() as usize;
        let ours = &even.keep(vec![count + window], layers).kept[0][g];
        // A maximum makes ties (E9.10), and torch leaves open which of them stays (A8.10).
        let only = |a: &[usize], b: &[usize]| {
            let rows = a.iter().filter(|row| !b.contains(row));
            let mut ties: Vec<f64> = rows.map(|&row| layers[0].importance[[g, row]]).collect();
            ties.sort_by(f64::total_cmp);
            ties
        };
        assert_eq!(only(ours, theirs), only(theirs, ours), "{}, head {g}: {ours:?}, {theirs:?}", case.name);
    }
}

/// Shares by head scores (E9.22): a head's count differs by one at most, because it is rounded alone, or by what its layer's
/// whole budget rounds. Of its own count a head keeps the same rows.
fn rounded_alone(
    case: &Case,
    policy: &Policy,
    prompt: &Prompt,
    layers: &[LayerScores],
    theirs: &[Vec<Vec<usize>>],
    ours: &[Vec<Vec<usize>>],
) {
    let even = Policy { split: Split::Even, budget: Budget::Uniform, ..policy.clone() };
    let even = Scorer::new(&even, &prompt.roles).unwrap();
    let text = prompt.roles.text().len();
    for (l, layer) in layers.iter().enumerate() {
        for (g, rows) in theirs[l].iter().enumerate() {
            let what = format!("{}, layer {l}, head {g}: {} and {}", case.name, ours[l][g].len(), rows.len());
            assert!(ours[l][g].len().abs_diff(rows.len()) <= 1, "{what}");
            let same = even.keep(vec![rows.len() - text], std::slice::from_ref(layer));
            assert_eq!(&same.kept[0][g], rows, "{what}");
        }
    }
}

/// Compares the entries of one layer after a merge.
fn merged(
    case: &Case,
    policy: &Policy,
    prompt: &Prompt,
    kept: &[Vec<usize>],
    keys: &[Vec<[f64; 4]>],
    values: &[Vec<[f64; 4]>],
) {
    let how = policy.merge().unwrap_or_else(|| panic!("{}: nothing is merged", case.name));
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
