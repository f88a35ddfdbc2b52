//! The toy checkpoints of a family with their prompts, and the recorded results of an outside program.

use super::flow::{relative, watched};
use aircache::files::Files;
use aircache::generate::Until;
use aircache::golden::Bundle;
use aircache::input::frames::Frames;
use aircache::input::mrope::AfterVideo;
use aircache::input::{Image, Prepared};
use aircache::model::Model;
use aircache::num::Real;
use aircache::processor::Processor;
use std::path::Path;

/// A toy and its golden.
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The checkpoint.
    pub model: Model,
    /// Its processor.
    pub processor: Processor,
    /// The text of the question.
    pub question: String,
    /// The prompt that our processor prepares.
    pub prompt: Prepared,
    /// The prompt that the outside program rendered.
    pub rendered: String,
    /// Every stage of the outside program's run.
    pub golden: Bundle,
}

/// All cases in `tests/golden/FAMILY`; fails if there are fewer than `at_least` cases.
pub fn toys(family: &str, at_least: usize) -> Vec<Case> {
    let cases = toys_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family));
    assert!(cases.len() >= at_least, "the toy checkpoints are there");
    cases
}

/// All cases in a folder.
pub fn toys_in(root: &Path) -> Vec<Case> {
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().map(|folder| case(folder)).collect()
}

fn case(folder: &Path) -> Case {
    let name = folder.file_name().unwrap().to_string_lossy().to_string();
    let about: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
    let text = |key: &str| about[key].as_str().unwrap().to_string();
    let files = Files::Folder(folder.join(about["model"].as_str().unwrap_or("model")));
    let model = Model::load(&files).unwrap_or_else(|e| panic!("{name}: {e}"));
    let processor = Processor::load(&files, &model.config).unwrap_or_else(|e| panic!("{name}: {e}"));
    // The goldens come from transformers 5.17 (A4.8).
    let processor = processor.with_after_video(AfterVideo::Side);
    let processor = match about["fps"].as_f64() {
        Some(fps) => processor.with_fps(fps),
        None => processor,
    };
    let processor = match (about["choose"]["fps"].as_f64(), about["choose"]["num_frames"].as_u64()) {
        (Some(rate), _) => processor.with_frames(Frames::Rate(rate)),
        (_, Some(count)) => processor.with_frames(Frames::Count(count as usize)),
        _ => processor,
    };
    let path = |f: &serde_json::Value| folder.join(f.as_str().unwrap());
    let pictures = |key: &str| about[key].as_array().map(|all| all.iter().map(path).collect::<Vec<_>>());
    let asked = (about["prompt"].as_str().unwrap(), about["system"].as_str());
    let prompt = match pictures("frames") {
        Some(frames) => {
            let (frames, chosen) = processor.film(&frames).unwrap();
            processor.prepare_film(&frames, &chosen, asked.0, asked.1)
        }
        None => processor.prepare(&Image::all(&pictures("images").unwrap()).unwrap(), asked.0, asked.1),
    };
    let prompt = prompt.unwrap_or_else(|e| panic!("{name}: {e}"));
    let golden = Bundle::open(&folder.join("expected.safetensors")).unwrap();
    Case { question: text("prompt"), rendered: text("rendered"), name, model, processor, prompt, golden }
}

/// In a whole run of every case, every stage differs by at most `bound` of its largest value, and the 16 tokens are
/// equal.
pub fn all_equal<T: Real>(cases: Vec<Case>, bound: f64) {
    let until = Until { stop: vec![], max_new_tokens: 16 };
    for Case { name, model, prompt, golden, .. } in cases {
        let (stages, tokens) = watched::<T>(&model, &prompt, &until);
        let judged = golden.names().filter(|n| !n.starts_with("input.") && !n.starts_with("output."));
        for stage in judged {
            let what = format!("{name}: {stage}");
            let got = stages.0.get(stage).unwrap_or_else(|| panic!("{what} was not seen"));
            let off = relative(got, &golden.f64(stage).unwrap(), &what);
            assert!(off <= bound, "{what}: off by {off:.1e} of the largest value");
        }
        let want: Vec<i64> = golden.i64("output.ids").unwrap().into_raw_vec_and_offset().0;
        assert_eq!(tokens.into_iter().map(i64::from).collect::<Vec<_>>(), want, "{name}");
    }
}

/// The tests that the toys of a family pass, in addition to how they are read. cases: the function that makes them; but: the
/// cases whose first rows depend on the length of the prompt; policies: the toys with a golden in `policy/FOLDER`; honest:
/// the precisions of honest recordings.
#[allow(unused_macros)]
macro_rules! toys_pass {
    ($cases:ident, but: $but:expr, policies: [$($toy:literal),*] of $folder:literal, honest: $honest:expr) => {
        #[test]
        fn toys_equal_their_golden_in_f64() {
            crate::common::toys::all_equal::<f64>($cases(), 1e-5);
        }

        #[test]
        fn toys_equal_their_golden_in_f32() {
            crate::common::toys::all_equal::<f32>($cases(), 1e-4);
        }

        /// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal.
        #[test]
        fn policies_on_a_prefill_equal_the_twin() {
            let toys: &[&str] = &[$($toy),*];
            for case in $cases().into_iter().filter(|case| toys.contains(&case.name.as_str())) {
                crate::common::evicted::equals_its_golden(&case, $folder);
            }
        }

        #[test]
        fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
            let mut cases = $cases();
            cases.retain(|case| !$but.contains(&case.name.as_str()));
            crate::common::held::a_prefill_is_one_row_less_and_a_step(&cases);
        }

        #[test]
        fn c6_1a_c6_18a_chunks_and_batches_change_no_bit() {
            let mut cases = $cases();
            cases.retain(|case| !$but.contains(&case.name.as_str()));
            crate::common::held::chunks_and_batches_change_no_bit(&cases);
        }

        #[test]
        fn e10_5_d10_7_honest_candidates_pass() {
            crate::common::held::honest_candidates_pass(&$cases(), $honest);
        }
    };
}
#[allow(unused_imports)]
pub(crate) use toys_pass;
