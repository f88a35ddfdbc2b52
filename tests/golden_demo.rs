//! The demo model against outside programs: transformers (answers, keys, values, logits), and the independent Python
//! twin of the policies, driven on this model's own prefill. Data: `tests/golden/demo`, `tests/golden/policy/demo`.
#![cfg(feature = "input")]

#[path = "common/flow.rs"]
mod flow;

use aircache::demo;
use aircache::generate::{self, Until};
use aircache::golden::Bundle;
use aircache::input::{Image, Prepared, Processor};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use aircache::policy::{Budget, Plan, Policy, Scorer, preset};
use flow::{greedy, relative, watched};
use ndarray::{ArrayD, Axis, s};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

fn golden(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let files = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

struct Demo {
    model: Model,
    processor: Processor,
}

impl Demo {
    fn load() -> Demo {
        let model = Model::load(&demo::files()).unwrap();
        let processor = Processor::load(&demo::files(), &model.config).unwrap();
        Demo { model, processor }
    }

    /// The prompt of line `line` of the questions.
    fn prompt(&self, line: usize) -> Prepared {
        let q = &demo::questions()[line];
        let image = Image::from_bytes(demo::sample(q.sample()).unwrap().png, q.sample()).unwrap();
        self.processor.prepare(&[image], &q.question, q.system.as_deref()).unwrap()
    }

    fn until(&self, max_new_tokens: usize) -> Until {
        Until { stop: self.model.generation.eos.clone(), max_new_tokens }
    }
}

fn ids(bundle: &Bundle, name: &str) -> Vec<u32> {
    bundle.i64(name).unwrap().iter().map(|&id| id as u32).collect()
}

#[test]
fn all_250_answers_are_those_of_transformers() {
    let d = Demo::load();
    let wrong: Vec<_> = (0..demo::questions().len())
        .into_par_iter()
        .filter_map(|line| {
            let (q, prompt) = (&demo::questions()[line], d.prompt(line));
            assert_eq!(
                (prompt.ids.len(), prompt.roles.visual().len()),
                (q.prompt_tokens, q.visual_tokens),
                "line {line}"
            );
            let mut pass = Pass::<f32>::new(Grid::Native);
            let prefilled = generate::prefill(&d.model, &mut pass, &prompt, &[]).unwrap();
            let tokens = greedy(&d.model, &mut pass, prefilled, None, &d.until(256));
            let text = d.processor.tokenizer().decode(&tokens).unwrap();
            (text != q.hf_output).then(|| (line, text, q.hf_output.clone()))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn demo_equals_transformers_in_f64() {
    demo_equals::<f64>(1e-5);
}

#[test]
fn demo_equals_transformers_in_f32() {
    demo_equals::<f32>(1e-4);
}

fn demo_equals<T: Real>(bound: f64) {
    let d = Demo::load();
    for file in golden("demo") {
        let golden = Bundle::open(&file).unwrap();
        let prompt = d.prompt(golden.metadata("question_line").unwrap().parse().unwrap());
        assert_eq!(prompt.ids, ids(&golden, "input.ids"));
        assert_eq!(prompt.prompt, golden.metadata("prompt").unwrap());
        let (stages, tokens) = watched::<T>(&d.model, &prompt, &d.until(64));
        assert_eq!(tokens, ids(&golden, "output.ids"));
        let rows: Vec<usize> = golden.i64("sample.rows").unwrap().iter().map(|&r| r as usize).collect();
        for name in golden.names() {
            let (stage, got) = match name.strip_prefix("sample.decoder.") {
                Some(rest) => {
                    let stage = format!("decoder.{rest}");
                    let whole = &stages.0[&stage];
                    let axis = Axis(whole.ndim() - 2);
                    (stage, whole.select(axis, &rows))
                }
                None if name.ends_with("logits") => (name.to_string(), stages.0[name].clone()),
                None => continue,
            };
            let off = relative(&got, &golden.f64(name).unwrap(), &stage);
            assert!(off <= bound, "{}: {stage}: off by {off:.1e} of the largest value", file.display());
        }
    }
}

/// One question's results under every policy of the twin.
struct Twin {
    golden: Bundle,
    retain: Vec<String>,
    others: Vec<String>,
    rules: Vec<String>,
}

impl Twin {
    fn open(file: &Path) -> Twin {
        let golden = Bundle::open(file).unwrap();
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

/// Elite sets, budgets and kept sets equal, importances to 1e-9, tokens after eviction equal.
#[test]
fn policies_on_the_demo_prefill_equal_the_twin() {
    let d = Demo::load();
    golden("policy/demo").par_iter().for_each(|file| {
        let twin = Twin::open(file);
        let prompt = d.prompt(twin.golden.metadata("line").unwrap().parse().unwrap());
        let tail: usize = twin.golden.metadata("tail").unwrap().parse().unwrap();
        assert_eq!(prompt.ids, ids(&twin.golden, "input.ids"));
        let variants = twin.names("variants").into_iter().map(|name| {
            let policy: Policy = name.parse().unwrap();
            (name, policy.with_tail(tail), true)
        });
        let methods =
            twin.names("methods").into_iter().map(|name| (name.clone(), preset(&name).unwrap().policy, false));
        let all: Vec<(String, Policy, bool)> = variants.chain(methods).collect();
        let policies: Vec<Policy> = all.iter().map(|(_, p, _)| *p).collect();
        let mut pass = Pass::<f64>::new(Grid::Native);
        let prefilled = generate::prefill(&d.model, &mut pass, &prompt, &policies).unwrap();
        for (name, policy, parts) in &all {
            let scorer = Scorer::new(policy, &prompt.roles).unwrap();
            let layers = prefilled.scores(&scorer).unwrap();
            let what = format!("{}: {name}", file.display());
            check_scores(&twin.golden, name, &layers, &what);
            let retain = if name == "aircache" { &twin.retain } else { &twin.others };
            let own = [String::from("own")];
            let rules = if *parts { &twin.rules[..] } else { &own[..] };
            for (b, rule) in rules.iter().enumerate() {
                let policy = if *parts { Policy { budget: rule_of(rule), ..*policy } } else { *policy };
                let scorer = Scorer::new(&policy, &prompt.roles).unwrap();
                // Densities are counted only where the budget asks for them.
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
                    assert_eq!(
                        got.iter().map(|&b| b as i64).collect::<Vec<_>>(),
                        want,
                        "{what}, {rule}, {retain}: budget"
                    );
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
            let tokens = greedy(&d.model, &mut pass, prefilled.clone(), compression, &d.until(64));
            assert_eq!(tokens, ids(&twin.golden, &format!("{name}/output.ids")), "{}: {name}", file.display());
        }
    });
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

/// The two precisions are the same code: f32 stays near f64 on every stage.
#[test]
fn fast_stays_near_truth() {
    let d = Demo::load();
    let prompt = d.prompt(7);
    let (truth, tokens) = watched::<f64>(&d.model, &prompt, &d.until(64));
    let (fast, same) = watched::<f32>(&d.model, &prompt, &d.until(64));
    assert_eq!(tokens, same);
    for (stage, want) in &truth.0 {
        let off = relative(&fast.0[stage], want, stage);
        assert!(off <= 1e-4, "{stage}: {off:.1e}");
    }
    assert_eq!(f64::NAME, "f64");
}
