//! The demo model against outside programs: transformers (answers, keys, values, logits), and the independent Python
//! twin of the policies, which runs on this model's own prefill. Data: `tests/golden/demo`, `tests/golden/policy/demo`.

use crate::common::evicted;
use crate::common::flow::{greedy, relative, watched};
use aircache::demo;
use aircache::generate::{self, Until};
use aircache::golden::Bundle;
use aircache::input::{Image, Prepared};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use aircache::processor::Processor;
use ndarray::Axis;
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

    /// The prompt of the question on line `line`.
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

/// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal.
#[test]
fn policies_on_the_demo_prefill_equal_the_twin() {
    let d = Demo::load();
    golden("policy/demo").par_iter().for_each(|file| {
        let golden = Bundle::open(file).unwrap();
        let prompt = d.prompt(golden.metadata("line").unwrap().parse().unwrap());
        assert_eq!(prompt.ids, ids(&golden, "input.ids"));
        evicted::equal_the_twin(&d.model, &prompt, golden, &d.until(64), &file.display().to_string());
    });
}

/// The two precisions run the same code: f32 stays near f64 on every stage.
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
