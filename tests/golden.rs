//! The forward pass against what transformers computed: `tests/golden/llava` (toys) and `tests/golden/demo`.


use aircache::files::Files;
use aircache::generate::{self, Until};
use aircache::golden::Bundle;
use aircache::input::{Image, Prepared, Processor};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Stage, Tap};
use aircache::sample::{Sampler, Sampling};
use ndarray::{ArrayD, ArrayViewD};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Keeps every stage, widened.
#[derive(Default)]
struct Stages(BTreeMap<String, ArrayD<f64>>);

impl<T: Real> Tap<T> for Stages {
    fn wants(&self, _: Stage) -> bool {
        true
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.0.insert(at.to_string(), value.mapv(Real::to_f64));
    }
}

/// max |a − b| / max |b|.
fn relative(a: &ArrayD<f64>, b: &ArrayD<f64>, what: &str) -> f64 {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let largest = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let off = a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    if off == 0.0 { 0.0 } else { off / largest }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

struct Case {
    name: String,
    model: Model,
    prompt: Prepared,
    golden: Bundle,
}

fn toys() -> Vec<Case> {
    let mut folders: Vec<_> = std::fs::read_dir(root().join("llava")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 28, "the toy checkpoints are there");
    folders
        .into_iter()
        .map(|folder| {
            let name = folder.file_name().unwrap().to_string_lossy().to_string();
            let case: serde_json::Value =
                serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
            let files = Files::Folder(folder.join("model"));
            let model = Model::load(&files).unwrap_or_else(|e| panic!("{name}: {e}"));
            let processor = Processor::load(&files, &model.config).unwrap_or_else(|e| panic!("{name}: {e}"));
            let images: Vec<Image> = case["images"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| Image::open(&folder.join(file.as_str().unwrap())).unwrap())
                .collect();
            let prompt = processor
                .prepare(&images, case["prompt"].as_str().unwrap(), case["system"].as_str())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let golden = Bundle::open(&folder.join("expected.safetensors")).unwrap();
            Case { name, model, prompt, golden }
        })
        .collect()
}

/// Runs a case with all stages seen, feeding `tokens`.
fn run<T: Real>(case: &Case) -> (Stages, Vec<u32>) {
    let mut stages = Stages::default();
    let mut pass = Pass::<T>::watched(Grid::Native, &mut stages);
    let mut prefilled = generate::prefill(&case.model, &mut pass, &case.prompt, &[]).unwrap();
    let until = Until { stop: vec![], max_new_tokens: 16 };
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let tokens = generate::decode(&case.model, &mut pass, &mut prefilled, &mut greedy, &until, go_on).unwrap();
    (stages, tokens)
}

#[test]
fn toys_equal_transformers_in_f64() {
    toys_equal::<f64>(1e-5);
}

#[test]
fn toys_equal_transformers_in_f32() {
    toys_equal::<f32>(1e-4);
}

fn toys_equal<T: Real>(bound: f64) {
    let mut failures = Vec::new();
    for case in toys() {
        let name = &case.name;
        let ids: Vec<i64> = case.prompt.ids.iter().map(|&id| id as i64).collect();
        assert_eq!(ids, case.golden.i64("input.ids").unwrap().into_raw_vec_and_offset().0, "{name}");
        let (stages, tokens) = run::<T>(&case);
        let mut worst = (0.0, String::new());
        for stage in case.golden.names().filter(|n| !n.starts_with("input.") && !n.starts_with("output.")) {
            let want = case.golden.f64(stage).unwrap();
            let Some(got) = stages.0.get(stage) else { panic!("{name}: {stage} was not seen") };
            let off = relative(got, &want, &format!("{name}: {stage}"));
            if off > worst.0 {
                worst = (off, stage.to_string());
            }
        }
        println!("{name}: worst {:.1e} at {}", worst.0, worst.1);
        if !(worst.0 <= bound) {
            failures.push(format!("{name}: {:.1e} at {}", worst.0, worst.1));
        }
        let want: Vec<i64> = case.golden.i64("output.ids").unwrap().into_raw_vec_and_offset().0;
        let tokens: Vec<i64> = tokens.into_iter().map(|t| t as i64).collect();
        assert_eq!(tokens, want, "{name}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
