//! Compares the policies on a model's own prefill with the independent Python twin: scores, budgets, kept sets, and
//! tokens after eviction.

use super::flow::greedy;
use super::toys::Case;
use aircache::generate::{self, Until};
use aircache::golden::Bundle;
use aircache::input::Prepared;
use aircache::kernel::Turn;
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::{Pass, Way};
use aircache::policy::{Budget, Plan, Policy, Scorer, preset};
use ndarray::{ArrayD, Axis, s};
use std::path::Path;

fn ids(bundle: &Bundle, name: &str) -> Vec<u32> {
    bundle.i64(name).unwrap().iter().map(|&id| id as u32).collect()
}

/// The twin's results for one question under every policy.
struct Twin {
    golden: Bundle,
    retain: Vec<String>,
    others: Vec<String>,
    rules: Vec<String>,
}

impl Twin {
    fn of(golden: Bundle) -> Twin {
        let list = |key: &str| serde_json::from_str(golden.metadata(key).unwrap()).unwrap();
        let (retain, others, rules) = (list("retain"), list("retain.others"), list("rules"));
        Twin { golden, retain, others, rules }
    }

    fn names(&self, key: &str) -> Vec<String> {
        serde_json::from_str(self.golden.metadata(key).unwrap()).unwrap()
    }

    fn undecided(&self, name: &str, rule: &str, retain: &str) -> bool {
        let all: Vec<[String; 3]> = serde_json::from_str(self.golden.metadata("undecided").unwrap()).unwrap();
        all.iter().any(|u| u[0] == name && u[1] == rule && u[2] == retain)
    }
}

/// Checks every policy in `tests/golden/policy/FAMILY` on a toy.
pub fn equals_its_golden(case: &Case, family: &str) {
    let file = format!("tests/golden/policy/{family}/{}.safetensors", case.name);
    let golden = Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let tail: usize = golden.metadata("tail").unwrap().parse().unwrap();
    assert_eq!(case.processor.tail(&case.prompt, &case.question), tail, "{}", case.name);
    let until = Until { stop: vec![], max_new_tokens: 16 };
    equal_the_twin(&case.model, &case.prompt, golden, &until, &case.name);
}

/// Checks every policy in the golden on the prefill of this prompt.
pub fn equal_the_twin(model: &Model, prompt: &Prepared, golden: Bundle, until: &Until, at: &str) {
    let twin = Twin::of(golden);
    let tail: usize = twin.golden.metadata("tail").unwrap().parse().unwrap();
    assert_eq!(prompt.ids, ids(&twin.golden, "input.ids"));
    let variants = twin.names("variants").into_iter().map(|name| {
        let policy: Policy = name.parse().unwrap();
        (name, policy.with_tail(tail), true)
    });
    let methods =
        twin.names("methods").into_iter().map(|name| (name.clone(), preset(&name).unwrap().policy.clone(), false));
    let all: Vec<(String, Policy, bool)> = variants.chain(methods).collect();
    let policies: Vec<Policy> = all.iter().map(|(_, p, _)| p.clone()).collect();
    let way = Way { turn: Some(Turn::Rounded), ..Way::default() }; // the angles of transformers, which made the golden
    let mut pass = Pass::<f64>::new(Grid::Native).by(way);
    let prefilled = generate::prefill(model, &mut pass, prompt, &policies).unwrap();
    for (name, policy, parts) in &all {
        let scorer = Scorer::new(policy, &prompt.roles).unwrap();
        let layers = prefilled.scores(&scorer).unwrap();
        let what = format!("{at}: {name}");
        check_scores(&twin.golden, name, &layers, &what);
        let retain = if name == "aircache" { &twin.retain } else { &twin.others };
        let own = [String::from("own")];
        let rules = if *parts { &twin.rules[..] } else { &own[..] };
        for (b, rule) in rules.iter().enumerate() {
            let policy = if *parts { Policy { budget: rule_of(rule), ..policy.clone() } } else { policy.clone() };
            let scorer = Scorer::new(&policy, &prompt.roles).unwrap();
            // Densities are counted only if the budget needs them.
            let layers = if rule == "sparsity" { &prefilled.scores(&scorer).unwrap() } else { &layers };
            for (r, retain) in retain.iter().enumerate() {
                if twin.undecided(name, rule, retain) {
                    continue;
                }
                let plan = scorer.decide(retain.parse().unwrap(), layers);
                let want = twin.golden.i64(&format!("{name}/budget")).unwrap();
                let want: Vec<i64> = match parts {
                    true => want.slice(s![b, r, ..]).to_vec(),
                    false => want.slice(s![r, ..]).to_vec(),
                };
                let got = &plan.decisions.as_ref().unwrap().budget;
                assert_eq!(got.iter().map(|&b| b as i64).collect::<Vec<_>>(), want, "{what}, {rule}, {retain}: budget");
                if !*parts || rule == "both" {
                    check_kept(&twin.golden, name, r, &plan, &format!("{what}, {rule}, {retain}: kept"));
                }
            }
        }
    }
    let written: Vec<String> =
        twin.golden.names().filter_map(|n| n.strip_suffix("/output.ids")).map(String::from).collect();
    assert!(written.len() >= 5);
    for name in written {
        let (policy, retain) = name.split_once('@').unwrap_or((&name, "1"));
        let policy: Policy = policy.parse().unwrap();
        let compression = Some((&policy, retain.parse().unwrap()));
        let tokens = greedy(model, &mut pass, prefilled.clone(), compression, until);
        assert_eq!(tokens, ids(&twin.golden, &format!("{name}/output.ids")), "{at}: {name}");
    }
}

fn rule_of(name: &str) -> Budget {
    format!("budget={name}").parse::<Policy>().unwrap().budget
}

fn check_scores(golden: &Bundle, name: &str, layers: &[aircache::policy::LayerScores], what: &str) {
    if golden.get(&format!("{name}/importance")).is_none() {
        return;
    }
    let importance = golden.f64(&format!("{name}/importance")).unwrap();
    let window = golden.i64(&format!("{name}/window")).unwrap();
    for (l, layer) in layers.iter().enumerate() {
        let sets = layer.window.len();
        let want = importance.index_axis(Axis(0), l).to_owned();
        let want = want.into_shape_with_order((sets, layer.importance.ncols())).unwrap();
        let largest = want.iter().fold(0.0, |m: f64, v| m.max(*v));
        for (got, want) in layer.importance.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-9 * largest, "{what}, layer {l}: importance {got} for {want}");
        }
        let want = window.index_axis(Axis(0), l).to_owned();
        let want = want.into_shape_with_order((sets, window.shape()[window.ndim() - 1])).unwrap();
        for (set, want) in layer.window.iter().zip(want.outer_iter()) {
            let want: Vec<usize> = (0..want.len()).filter(|&row| want[row] == 1).collect();
            assert_eq!(set, &want, "{what}, layer {l}: window");
        }
    }
    for (key, of) in [("strength", 0), ("skewness", 1)] {
        let want = golden.f64(&format!("{name}/{key}")).unwrap();
        for (layer, want) in layers.iter().zip(&want) {
            let got = if of == 0 { layer.strength } else { layer.skewness };
            assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: {key} {got} for {want}");
        }
    }
}

fn check_kept(golden: &Bundle, name: &str, retain: usize, plan: &Plan, what: &str) {
    let mask: ArrayD<i64> = golden.i64(&format!("{name}/kept")).unwrap();
    for (l, sets) in plan.decisions.as_ref().unwrap().kept.iter().enumerate() {
        let mask = mask.index_axis(Axis(0), retain).index_axis(Axis(0), l).to_owned();
        let width = mask.shape()[mask.ndim() - 1];
        let mask = mask.into_shape_with_order((sets.len(), width)).unwrap();
        for (set, mask) in sets.iter().zip(mask.outer_iter()) {
            let want: Vec<usize> = (0..width).filter(|&v| mask[v] == 1).collect();
            assert_eq!(set, &want, "{what}, layer {l}");
        }
    }
}
