//! Chapter 10, attacks: recordings that are wrong and look as if they were honest, on every family. None may pass, and
//! nothing may go unjudged without being counted.

use super::ch10_partial::{Honest, recorded, told, without};
use crate::common::held::scratch;
use crate::common::lab::Lab;
use crate::common::numbers::Rng;
use crate::common::toys::toys;
use aircache::golden::{Bundle, BundleWriter, Outcome, Verdict, check, replay};
use aircache::pass::Precision::{self, Bf16, F16, Fast};
use aircache::stage::Stage;
use aircache::weights::Dtype;
use half::{bf16, f16};
use std::path::Path;
use std::sync::OnceLock;

/// The demo and a toy of every family, evicted.
fn all() -> &'static [Honest] {
    static ALL: OnceLock<Vec<Honest>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lab = Lab::new(20);
        let toy = |family: &str, name: &str| {
            let case = toys(family, 3).into_iter().find(|case| case.name == name).unwrap();
            Honest::new(&case.name, case.model, case.prompt, ("aircache", "0.4"), &[Fast, Bf16, F16])
        };
        vec![
            Honest::new("demo", lab.model, lab.prompt, ("aircache", "0.3"), &[Fast, Bf16, F16]),
            toy("qwen2_vl", "defaults"),
            toy("internvl", "defaults"),
            toy("internvl2", "qwen2"),
        ]
    })
}

/// A copy of a bundle whose values `change` may change, in the types that they have.
fn changed(from: &Bundle, to: &Path, mut change: impl FnMut(&str, &[usize], &mut [f64])) -> Bundle {
    let mut w = BundleWriter::create(to).unwrap();
    for name in from.names() {
        let t = from.get(name).unwrap();
        let mut values: Vec<f64> = match from.f64(name) {
            Ok(all) => all.into_iter().collect(),
            Err(_) => from.i64(name).unwrap().into_iter().map(|v| v as f64).collect(),
        };
        change(name, t.shape, &mut values);
        let bytes: Vec<u8> = match t.dtype {
            Dtype::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
            Dtype::I64 => values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect(),
            Dtype::U8 => values.iter().map(|&v| v as u8).collect(),
            other => panic!("{name}: {other}"),
        };
        w.put(name, t.dtype, t.shape, &bytes).unwrap();
    }
    let keys = ["precision", "policy", "retain", "noise", "sampling", "eviction"];
    w.finish(keys.iter().filter_map(|key| Some((*key, from.metadata(key)?)))).unwrap();
    Bundle::open(to).unwrap()
}

fn is(name: &str, part: &str, last: &str) -> bool {
    name.starts_with(part) && name.ends_with(last)
}

/// The outcome of a stage.
fn outcome(v: &Verdict, stage: &str) -> Outcome {
    v.stages.iter().find(|s| s.stage == stage).unwrap_or_else(|| panic!("{stage}")).outcome
}

/// One candidate of each prompt, in one type, without some stages and then attacked: both verdicts, without and with the
/// prompt.
fn attacked(
    honest: &Honest,
    precision: Precision,
    drops: impl Fn(&str) -> bool,
    unsaid: &[&str],
    change: impl FnMut(&str, &[usize], &mut [f64]),
) -> [Verdict; 2] {
    let whole = &honest.candidates.iter().find(|c| c.0 == precision).unwrap().1;
    let part = without(whole, &honest.path("part"), drops, unsaid);
    let bad = changed(&part, &honest.path("bad"), change);
    [check(&honest.golden, &bad).unwrap(), replay(&honest.model, None, &bad, scratch()).unwrap()]
}

fn fails(verdict: &Verdict, stage: &str, what: &str) {
    let first = verdict.first_divergence().map(|s| s.stage.clone()).unwrap_or_default();
    assert!(first.starts_with(stage), "{what}, {}: {}", verdict.mode, told(verdict));
}

#[test]
fn e10_6_ids_are_held_against_their_logits() {
    for honest in all() {
        for wrong in [7.0, -1.0, 1e9] {
            for verdict in attacked(
                honest,
                Bf16,
                |_| false,
                &[],
                |name, _, v| {
                    if name == "output.ids" {
                        v[2] = wrong;
                    }
                },
            ) {
                assert_eq!(outcome(&verdict, "output.ids"), Outcome::Fail, "{}: {wrong}", honest.name);
            }
        }
        // Tokens that have no logits are not judged, and that counts.
        let last =
            |name: &str| name.starts_with("step.0002") || (name.starts_with("step.0001") && name != "step.0001.logits");
        let [by_golden, by_replay] = attacked(honest, Fast, last, &[], |_, _, _| {});
        assert!(by_golden.passes() && by_replay.passes(), "{}", told(&by_replay));
    }
}

#[test]
fn c10_3a_a_cache_is_judged_without_the_keys_and_values_that_it_copies() {
    for honest in all() {
        for (precision, site) in [(Fast, "key"), (Bf16, "value"), (F16, "key")] {
            let drops = |name: &str| is(name, "decoder", ".key") || is(name, "decoder", ".value");
            let mut rng = Rng(5);
            let verdicts = attacked(honest, precision, drops, &[], |name, _, v| {
                if name == format!("cache.00.{site}") {
                    v.iter_mut().for_each(|v| *v = rng.number::<f64>(1.0));
                }
            });
            verdicts.iter().for_each(|v| fails(v, &format!("cache.00.{site}"), &honest.name));
        }
    }
}

/// D10.13
#[test]
fn e10_6_kept_sets_without_budgets_have_to_be_as_large_as_the_rule_says() {
    for honest in all() {
        let drops = |name: &str| name == "policy.budget" || name.starts_with("cache") || name.starts_with("step");
        for keep in [3, usize::MAX] {
            let whole = &honest.candidates[1].1;
            let part = without(whole, &honest.path("part"), drops, &[]);
            let mut w = BundleWriter::create(&honest.path("bad")).unwrap();
            for name in part.names() {
                let t = part.get(name).unwrap();
                match name.ends_with(".kept") {
                    true => {
                        let n = part.get("policy.00.importance").unwrap().shape[0];
                        let few: Vec<i64> = (0..n.min(keep) as i64).collect();
                        w.put_i64(name, &[few.len()], &few).unwrap();
                    }
                    false => w.put(name, t.dtype, t.shape, t.data).unwrap(),
                }
            }
            w.finish(["precision", "policy", "retain"].map(|key| (key, part.metadata(key).unwrap()))).unwrap();
            let bad = Bundle::open(&honest.path("bad")).unwrap();
            fails(&check(&honest.golden, &bad).unwrap(), "policy.0", &honest.name);
            fails(&replay(&honest.model, None, &bad, scratch()).unwrap(), "policy.0", &honest.name);
        }
    }
}

#[test]
fn c10_2a_nan_fails_where_nothing_judges_it() {
    for honest in all() {
        for precision in [Fast, Bf16, F16] {
            // Nothing before the first layer is there, so that nothing judges it.
            let drops = |name: &str| name == "input.pixels" || is(name, "policy", "") || is(name, "cache", "");
            let [_, by_replay] = attacked(honest, precision, drops, &[], |name, _, v| {
                if Stage::parse(name).is_some_and(Stage::is_computed) {
                    v.fill(f64::NAN);
                }
            });
            assert_eq!(outcome(&by_replay, "vision.00.out"), Outcome::Fail, "{}", honest.name);
            assert_eq!(outcome(&by_replay, "decoder.00.query"), Outcome::Fail, "{}", honest.name);
        }
    }
}

#[test]
fn c10_7a_a_full_cache_without_a_policy_is_judged_with_its_steps() {
    for honest in all() {
        for precision in [Fast, Bf16] {
            let whole = recorded(&honest.model, &honest.prompt, ("full", "1"), precision, &honest.path("full"));
            let drops = |name: &str| name.starts_with("policy");
            let part = without(&whole, &honest.path("part"), drops, &["policy", "retain"]);
            let verdict = replay(&honest.model, None, &part, scratch()).unwrap();
            assert!(verdict.passes(), "{}: {}", honest.name, told(&verdict));
            let stages =
                ["cache.00.key", "cache.00.positions", "step.0001.00.mix", "step.0000.00.out", "step.0002.logits"];
            stages
                .iter()
                .for_each(|stage| assert_eq!(outcome(&verdict, stage), Outcome::Pass, "{} {stage}", honest.name));
            let mut rng = Rng(3);
            for wrong in ["cache.00.key", "cache.00.value", "step.0001.00.key", "step.0001.00.mix", "step.0002.00.out"]
            {
                let bad = changed(&part, &honest.path("bad"), |name, _, v| {
                    if name == wrong {
                        v.iter_mut().for_each(|v| *v *= 1.0 + rng.number::<f64>(0.2));
                    }
                });
                fails(&replay(&honest.model, None, &bad, scratch()).unwrap(), wrong, &honest.name);
            }
        }
    }
}

#[test]
fn c10_5a_importances_through_another_window_are_judged() {
    for honest in all().iter().filter(|h| h.candidates[1].1.i64("policy.01.window").is_ok()) {
        let text = honest.prompt.roles.0.iter().rposition(|r| *r == aircache::Role::Text).unwrap();
        let mut rng = Rng(11);
        let [by_golden, _] = attacked(
            honest,
            Bf16,
            |_| false,
            &[],
            |name, _, v| match name {
                "policy.01.window" => v[0] = if v[0] == text as f64 { text as f64 - 1.0 } else { v[0] },
                "policy.01.importance" => v.iter_mut().for_each(|v| *v = rng.number::<f64>(1.0).abs()),
                _ => {}
            },
        );
        assert_eq!(outcome(&by_golden, "policy.01.importance"), Outcome::Fail, "{}", honest.name);
    }
}

/// C10.7b, C10.7c
#[test]
fn d10_7_steps_without_ids_and_towers_without_sizes_are_judged() {
    for honest in all() {
        for precision in [Fast, Bf16] {
            let [_, by_replay] = attacked(
                honest,
                precision,
                |name| name == "output.ids",
                &[],
                |name, _, v| {
                    if name == "step.0001.00.mix" {
                        v.iter_mut().for_each(|v| *v *= 1.1);
                    }
                },
            );
            fails(&by_replay, "step.0001.00.mix", &honest.name);
            if honest.candidates[0].1.get("input.grid").is_some() {
                continue; // rows of images of any size depend on their grids
            }
            let [_, by_replay] = attacked(
                honest,
                precision,
                |name| name == "input.sizes",
                &[],
                |name, _, v| {
                    if name == "vision.00.out" {
                        v.iter_mut().step_by(3).for_each(|v| *v = 1.1 * *v + 0.1);
                    }
                },
            );
            fails(&by_replay, "vision.00.out", &honest.name);
        }
    }
}

#[test]
fn c10_5d_positions_without_grids_have_to_be_those_of_some_image() {
    let honest = &all()[1];
    let n = honest.prompt.ids.len();
    for (what, turned) in [("in order", true), ("permuted", false)] {
        let [_, by_replay] = attacked(
            honest,
            Fast,
            |name| name == "input.grid",
            &[],
            |name, _, v| {
                if name != "input.positions" {
                    return;
                }
                match turned {
                    true => (0..3 * n).for_each(|i| v[i] = (i % n) as f64),
                    false => (0..n).for_each(|i| v.swap(n + i, 2 * n + i)),
                }
            },
        );
        fails(&by_replay, "input.positions", what);
    }
    let [_, by_replay] = attacked(honest, Bf16, |name| name == "input.grid", &[], |_, _, _| {});
    assert!(by_replay.passes(), "{}", told(&by_replay));
    assert_eq!(outcome(&by_replay, "input.positions"), Outcome::Pass);
    assert_eq!(outcome(&by_replay, "vision.00.out"), Outcome::Pass);
}

#[test]
fn e10_12_ties_that_always_go_the_wrong_way_are_a_rule() {
    for honest in all().iter().take(1) {
        // Importances in bins of 1/8, of which the later tokens are kept.
        let whole = &honest.candidates[1].1;
        let mut binned = std::collections::BTreeMap::new();
        for name in whole.names().filter(|name| name.ends_with(".importance")) {
            let all: Vec<f64> = whole.f64(name).unwrap().into_iter().collect();
            let coarse: Vec<f64> = all.iter().map(|v| (v.log2() * 8.0).round().div_euclid(8.0).exp2()).collect();
            binned.insert(name.to_string(), coarse);
        }
        for (late, expected) in [(true, false), (false, true)] {
            let drops =
                |name: &str| name.starts_with("cache") || name.starts_with("step") || name.starts_with("policy.s");
            let part = without(whole, &honest.path("part"), drops, &[]);
            let bad = changed(&part, &honest.path("bad"), |name, _, v| {
                if let Some(coarse) = binned.get(name) {
                    v.copy_from_slice(coarse);
                }
                if let Some(coarse) = name.strip_suffix(".kept").and_then(|l| binned.get(&format!("{l}.importance"))) {
                    let mut order: Vec<usize> = (0..coarse.len()).collect();
                    order.sort_by(|&a, &b| {
                        coarse[b].total_cmp(&coarse[a]).then(if late { b.cmp(&a) } else { a.cmp(&b) })
                    });
                    let mut kept: Vec<usize> = order.into_iter().take(v.len()).collect();
                    kept.sort_unstable();
                    v.iter_mut().zip(kept).for_each(|(v, k)| *v = k as f64);
                }
            });
            let verdict = replay(&honest.model, None, &bad, scratch()).unwrap();
            let told = verdict.stages.iter().any(|s| s.words.contains("the later tokens are kept"));
            assert_eq!(told, !expected, "{}", verdict.lines().join("\n"));
        }
    }
}
