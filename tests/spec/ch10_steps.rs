//! Chapter 10, decode steps: bugs of steps alone are found in half types, by replay and by a golden whose own eviction
//! the candidate took; an honest sampled run passes; so do importances stored in the type.

use crate::common::lab::{Backend, Dump, Lab, altered, scratch, stored};
use aircache::golden::{Bundle, BundleWriter, Outcome, Verdict, check, replay};
use aircache::pass::Precision::{self, Bf16, F16, Fast};
use std::sync::OnceLock;

fn lab() -> &'static (Lab, Bundle) {
    static LAB: OnceLock<(Lab, Bundle)> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new(20);
        let golden = lab.golden();
        (lab, golden)
    })
}

fn told(v: &Verdict) -> String {
    v.first_divergence().map_or("pass".into(), |s| format!("{}: {}", s.stage, s.words))
}

/// A dump as a candidate that took the golden's kept sets and says so.
fn given(lab: &Lab, dump: &Dump, precision: Precision) -> Bundle {
    let from = lab.write(dump, precision);
    let path = lab.path();
    let mut w = BundleWriter::create(&path).unwrap();
    for name in from.names() {
        let t = from.get(name).unwrap();
        w.put(name, t.dtype, t.shape, t.data).unwrap();
    }
    let said = ["precision", "policy", "retain"].map(|key| (key, from.metadata(key).unwrap()));
    w.finish(said.into_iter().chain([("eviction", "given")])).unwrap();
    Bundle::open(&path).unwrap()
}

/// A backend that evicts what the golden evicts.
fn backend(lab: &Lab, golden: &Bundle) -> Backend {
    let kept = |l: usize| golden.i64(&format!("policy.{l:02}.kept")).unwrap().iter().map(|&k| k as usize).collect();
    Backend { kept: Some((0..6).map(kept).collect()), ..lab.backend() }
}

fn both(lab: &Lab, golden: &Bundle, dump: &Dump, precision: Precision) -> [Verdict; 2] {
    let candidate = given(lab, dump, precision);
    [check(golden, &candidate).unwrap(), replay(&lab.model, Some(&lab.prompt), &candidate, scratch()).unwrap()]
}

/// The mix of a step in a layer, from the run's own queries and entries: `weight` changes the weight of an entry,
/// counted from the newest.
fn mixed(dump: &Dump, step: usize, layer: usize, weight: impl Fn(usize) -> f64) -> ndarray::ArrayD<f64> {
    let q = &dump.numbers[&format!("step.{step:04}.{layer:02}.query")];
    let (heads, d) = (q.shape()[0], q.shape()[1]);
    let entries = |site: &str| -> Vec<Vec<Vec<f64>>> {
        let cache = &dump.numbers[&format!("cache.{layer:02}.{site}")];
        (0..cache.shape()[0])
            .map(|g| {
                let mut all: Vec<Vec<f64>> =
                    (0..cache.shape()[1]).map(|e| (0..d).map(|i| cache[[g, e, i]]).collect()).collect();
                for t in 0..=step {
                    let own = &dump.numbers[&format!("step.{t:04}.{layer:02}.{site}")];
                    all.push((0..d).map(|i| own[[g, i]]).collect());
                }
                all
            })
            .collect()
    };
    let (keys, values) = (entries("key"), entries("value"));
    let mut out = ndarray::Array1::zeros(heads * d);
    for h in 0..heads {
        let g = h * keys.len() / heads;
        let n = keys[g].len();
        let score = |e: usize| (0..d).map(|i| q[[h, i]] * keys[g][e][i]).sum::<f64>() / (d as f64).sqrt();
        let weights: Vec<f64> = (0..n).map(|e| score(e).exp() * weight(n - 1 - e)).collect();
        let total: f64 = weights.iter().sum();
        for i in 0..d {
            out[h * d + i] = (0..n).map(|e| weights[e] * values[g][e][i]).sum::<f64>() / total;
        }
    }
    out.into_dyn()
}

#[test]
fn d10_7_bugs_of_steps_are_found_in_half_types() {
    let (lab, golden) = lab();
    for precision in [Bf16, F16] {
        let how = backend(lab, golden);
        let run = |how: &Backend| lab.run(&lab.model, &lab.prompt, precision, how);
        let honest = run(&how);
        for verdict in both(lab, golden, &honest, precision) {
            assert!(verdict.passes(), "{precision:?} {}: {}", verdict.mode, told(&verdict));
            let unjudged = verdict.stages.iter().filter(|s| s.outcome == Outcome::NotJudged);
            let steps = unjudged.filter(|s| s.stage.starts_with("step")).count();
            assert_eq!(steps, 0, "{precision:?} {}", verdict.mode);
        }
        let instead = |stage: &str, value: ndarray::ArrayD<f64>| {
            let mut instead = Dump::default();
            instead.numbers.insert(stage.into(), stored(precision.grid(), value));
            run(&Backend { instead, ..how.clone() })
        };
        let unbiased = altered(&[], "model.layers.2.self_attn.v_proj.bias", |w, _| w.fill(0.0));
        let bugs: Vec<(&str, &str, Dump)> = vec![
            (
                "a token does not see itself",
                "step.0001.00.mix",
                instead("step.0001.00.mix", mixed(&honest, 1, 0, |age| if age == 0 { 0.0 } else { 1.0 })),
            ),
            (
                "a token sees the token before twice",
                "step.0001.00.mix",
                instead("step.0001.00.mix", mixed(&honest, 1, 0, |age| if age == 1 { 2.0 } else { 1.0 })),
            ),
            (
                "the slot of the step before is stale",
                "step.0002.00.mix",
                instead("step.0002.00.mix", mixed(&honest, 2, 0, |age| if age == 1 { 0.0 } else { 1.0 })),
            ),
            ("positions are compacted", "step.0000.00.", {
                let kept = honest.numbers["cache.00.key"].shape()[1] as i64;
                run(&Backend { shift: kept - lab.prompt.ids.len() as i64, ..how.clone() })
            }),
            (
                "a bias is left out in steps",
                "step.0000.02.value",
                run(&Backend { steps: Some(std::sync::Arc::new(unbiased)), ..how.clone() }),
            ),
        ];
        // Whether one entry of one mix shows depends on its weight: those are told. Wrong positions and a bias that is
        // left out have to be found by replay.
        for (what, stage, dump) in bugs {
            let [by_golden, by_replay] = both(lab, golden, &dump, precision);
            println!("{precision:?}, {what}: {}; by golden: {}", told(&by_replay), told(&by_golden));
            if !stage.ends_with("mix") {
                assert!(told(&by_replay).starts_with(stage), "{what}, {precision:?}: {}", told(&by_replay));
            }
        }
    }
}

#[test]
fn e10_8_importances_stored_in_the_type_beside_wider_strengths_pass() {
    let (lab, golden) = lab();
    for precision in [Bf16, F16] {
        let mut dump = lab.honest(precision);
        for l in 0..6 {
            let importance = dump.numbers.get_mut(&format!("policy.{l:02}.importance")).unwrap();
            *importance = stored(precision.grid(), importance.clone());
        }
        for verdict in [lab.by_golden(golden, &dump, precision), lab.by_replay(&dump, precision)] {
            assert!(verdict.passes(), "{precision:?} {}: {}", verdict.mode, told(&verdict));
        }
        let wrong = dump.numbers.get_mut("policy.strength").unwrap();
        wrong.mapv_inplace(|s| s * 1.05);
        let first = told(&lab.by_replay(&dump, precision));
        assert!(first.starts_with("policy.strength"), "{first}");
    }
}

#[test]
fn e10_6_a_sampled_run_passes_and_its_tokens_have_to_be_possible() {
    use aircache::generate::Until;
    use aircache::golden::{Recording, Selection, record};
    use aircache::sample::Sampling;
    let (lab, golden) = lab();
    for precision in [Fast, Bf16] {
        let how = Recording {
            precision,
            way: aircache::pass::Way::default(),
            kv: aircache::num::Grid::Native,
            policy: lab.policy.clone(),
            retain: lab.retain,
            sampling: Sampling::Draw { temperature: 40.0, top_k: 0, top_p: 1.0, seed: 3 },
            until: Until { stop: vec![], max_new_tokens: 4 },
            stages: Selection::default(),
            noise: false,
        };
        let path = lab.path();
        let out = BundleWriter::create(&path).unwrap();
        let found = record(&lab.model, &lab.prompt, &how, out, |_| std::ops::ControlFlow::Continue(())).unwrap();
        let candidate = Bundle::open(&path).unwrap();
        assert!(candidate.metadata("sampling").unwrap().starts_with("temperature=40"));
        let greedy: Vec<u32> = golden.i64("output.ids").unwrap().iter().map(|&id| id as u32).collect();
        assert_ne!(found.tokens, greedy[..4], "the draw is no argmax");
        for verdict in
            [check(golden, &candidate).unwrap(), replay(&lab.model, Some(&lab.prompt), &candidate, scratch()).unwrap()]
        {
            assert!(verdict.passes(), "{precision:?} {}: {}", verdict.mode, told(&verdict));
        }
    }
}
