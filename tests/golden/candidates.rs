//! Candidates from outside, made by transformers on a CPU and on an H100: `check` passes the honest candidates and
//! finds the bugs. `tests/golden/scripts/make_candidates.py` makes the candidates.

use aircache::files::Files;
use aircache::generate::Until;
use aircache::golden::{Bundle, BundleWriter, Recording, Selection, Verdict, check, record, replay};
use aircache::input::{Image, Prepared};
use aircache::model::Model;
use aircache::pass::Precision;
use aircache::policy::Policy;
use aircache::processor::Processor;
use aircache::sample::Sampling;
use std::path::{Path, PathBuf};

/// Candidates that fail: name, first stage that the verdict names, and a word of its message.
const BUGS: [(&str, &str, &str); 5] = [
    ("cpu-bf16-bug-entries-late", "cache.00.key", "no copy of row 1"),
    ("cpu-bf16-bug-no-mask", "decoder.00.mix", "no mask"),
    ("cpu-f16-bug-cache-length", "step.0000.logits", "what honest f16 would do"),
    ("cpu-f32-bug-one-head", "decoder.01.mix", "head 1 is 1.02000 times the truth"),
    ("h100-f32-tf32-sdpa", "vision.00.out", "10 bits of mantissa"),
];

pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// The toy that all candidates ran, and the prompt that all candidates read.
pub fn toy() -> (Model, Prepared) {
    let files = Files::Folder(golden("llava/shrink-anyres-max-2/model"));
    let model = Model::load(&files).unwrap();
    let processor = Processor::load(&files, &model.config).unwrap();
    let png = std::fs::read(golden("llava/shrink-anyres-max-2/image0.png")).unwrap();
    let image = Image::from_bytes(&png, "image0.png").unwrap();
    let prompt = processor.prepare(&[image], "Read all text.", None).unwrap();
    (model, prompt)
}

fn truth(model: &Model, prompt: &Prepared, path: &Path) -> Bundle {
    let how = Recording {
        precision: Precision::Truth,
        way: aircache::pass::Way::default(),
        kv: aircache::num::Grid::Native,
        policy: Policy::AIRCACHE,
        retain: "0.1".parse().unwrap(),
        sampling: Sampling::Greedy,
        until: Until { stop: model.generation.eos.clone(), max_new_tokens: 8 },
        stages: Selection::default(),
        noise: true,
    };
    record(model, prompt, &how, BundleWriter::create(path).unwrap(), |_| std::ops::ControlFlow::Continue(())).unwrap();
    Bundle::open(path).unwrap()
}

#[test]
fn candidates_of_transformers_are_judged_rightly() {
    let (model, prompt) = toy();
    let folder = tempfile::tempdir().unwrap();
    let truth = truth(&model, &prompt, &folder.path().join("golden.safetensors"));
    let mut files: Vec<_> = std::fs::read_dir(golden("candidates")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert_eq!(files.len(), 15, "five honest ones of a CPU, five of an H100, five that fail");
    let mut found = 0;
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let candidate = Bundle::open(&path).unwrap();
        let judged =
            |v: &Verdict| v.stages.iter().filter(|s| s.outcome != aircache::golden::Outcome::NotJudged).count();
        let waiting = BundleWriter::create(&folder.path().join("replay")).unwrap();
        for verdict in [check(&truth, &candidate).unwrap(), replay(&model, Some(&prompt), &candidate, waiting).unwrap()]
        {
            assert!(judged(&verdict) >= 30, "{name}, {}: {} stages judged", verdict.mode, judged(&verdict));
            let first = verdict.first_divergence();
            match BUGS.iter().find(|bug| bug.0 == name) {
                None => assert!(first.is_none(), "{name}, {}: {first:?}", verdict.mode),
                Some((_, stage, word)) => {
                    let first = first.unwrap_or_else(|| panic!("{name} passes by {}", verdict.mode));
                    assert_eq!(first.stage, *stage, "{name}, {}", verdict.mode);
                    let told = verdict.told().join("; ");
                    assert!(told.contains(word), "{name}, {}: {told}", verdict.mode);
                    found += 1;
                }
            }
        }
    }
    assert_eq!(found, 2 * BUGS.len());
}
