//! InternVL2 in its own form against the recorded results of its own code on toy checkpoints: `tests/golden/internvl2`.

use crate::common::flow::{relative, watched};
use crate::common::toys::{Case, toys};
use crate::common::{evicted, held};
use aircache::generate::Until;
use aircache::golden::Bundle;
use aircache::num::Real;
use aircache::pass::Precision;
use ndarray::{Axis, Slice, concatenate};
use std::path::Path;

fn cases() -> Vec<Case> {
    toys("internvl2", 4)
}

/// Ids and pixels are equal.
#[test]
fn toys_read_what_their_own_code_reads() {
    for Case { name, prompt, golden, rendered, .. } in cases() {
        assert_eq!(prompt.prompt, rendered, "{name}");
        let ids = golden.i64("input.ids").unwrap().into_raw_vec_and_offset().0;
        assert_eq!(prompt.ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), ids, "{name}");
        let pixels: Vec<_> = prompt.images.iter().map(|i| i.pixels.view()).collect();
        let (pixels, want) = (concatenate(Axis(0), &pixels).unwrap(), golden.f32("input.pixels").unwrap());
        assert_eq!(pixels.shape(), want.shape(), "{name}");
        let off = pixels.iter().zip(&want).filter(|(a, b)| a != b).count();
        let most = pixels.iter().zip(&want).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
        assert_eq!(off, 0, "{name}: {off} of {} values differ, by at most {most}", want.len());
    }
}

fn all_equal<T: Real>(bound: f64) {
    let until = Until { stop: vec![], max_new_tokens: 16 };
    for Case { name, model, prompt, golden, .. } in whole() {
        let (stages, tokens) = watched::<T>(&model, &prompt, &until);
        for stage in golden.names().filter(|n| !n.starts_with("input.") && !n.starts_with("output.")) {
            let what = format!("{name}: {stage}");
            let got = stages.0.get(stage.trim_start_matches("tail.")).unwrap_or_else(|| panic!("{what} was not seen"));
            let want = golden.f64(stage).unwrap();
            let rows = if stage.starts_with("tail.") { -(want.shape()[0] as isize) } else { 0 };
            let got = got.slice_axis(Axis(0), Slice::from(rows..)).to_owned();
            let off = relative(&got, &want, &what);
            assert!(off <= bound, "{what}: off by {off:.1e} of the largest value");
        }
        let want: Vec<i64> = golden.i64("output.ids").unwrap().into_raw_vec_and_offset().0;
        assert_eq!(tokens.into_iter().map(i64::from).collect::<Vec<_>>(), want, "{name}");
    }
}

#[test]
fn toys_equal_their_own_code_in_f64() {
    all_equal::<f64>(1e-5);
}

#[test]
fn toys_equal_their_own_code_in_f32() {
    all_equal::<f32>(1e-4);
}

/// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal; Qwen2
/// and InternLM2.
#[test]
fn policies_on_a_prefill_equal_the_twin() {
    for case in whole() {
        let file = format!("tests/golden/policy/internvl2/{}.safetensors", case.name);
        let golden = Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let tail: usize = golden.metadata("tail").unwrap().parse().unwrap();
        assert_eq!(case.processor.tail(&case.prompt, &case.question), tail, "{}", case.name);
        let until = Until { stop: vec![], max_new_tokens: 16 };
        evicted::equal_the_twin(&case.model, &case.prompt, golden, &until, &case.name);
    }
}

/// The cases with whole checkpoints; the goldens of these cases contain output tokens.
fn whole() -> Vec<Case> {
    let mut cases = cases();
    cases.retain(|c| c.golden.get("output.ids").is_some());
    assert!(cases.len() >= 3);
    cases
}

#[test]
fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
    held::a_prefill_is_one_row_less_and_a_step(&whole());
}

#[test]
fn e10_5_d10_7_honest_candidates_pass() {
    held::honest_candidates_pass(&whole(), &[Precision::Bf16]);
}
