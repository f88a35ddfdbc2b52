//! InternVL in its own form against the recorded results of other programs on toy checkpoints: InternVL2's own code
//! (`tests/golden/internvl2`); transformers, for the decoders of later sizes (`tests/golden/internvl_own`).

use crate::common::flow::{relative, watched};
use crate::common::toys::{self, Case, toys};
use crate::common::{evicted, held};
use aircache::generate::Until;
use aircache::input::{GivenImage, Prepared};
use aircache::num::Real;
use aircache::pass::Precision;
use ndarray::{ArrayD, Axis, Ix4, Slice, concatenate};

fn cases() -> Vec<Case> {
    toys("internvl2", 4)
}

/// InternVL2.5, 3 and 3.5, and Phi-3 beyond its trained length.
fn later() -> Vec<Case> {
    toys("internvl_own", 6)
}

/// The same pixels, with each step of the levels rounded to f32: the other reading of A4.7.
fn in_f32(pixels: &ArrayD<f32>) -> ArrayD<f32> {
    let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let side = pixels.shape()[3];
    let each = pixels.iter().enumerate().map(|(i, &v)| {
        let channel = i / (side * side) % 3;
        let level = (v * std[channel] + mean[channel]) * 255.0;
        (level.round() / 255.0 - mean[channel]) / std[channel]
    });
    ArrayD::from_shape_vec(pixels.raw_dim(), each.collect()).unwrap()
}

/// Ids and pixels are equal.
#[test]
fn toys_read_what_their_own_code_reads() {
    for Case { name, prompt, golden, rendered, .. } in cases().into_iter().chain(later()) {
        assert_eq!(prompt.prompt, rendered, "{name}");
        let ids = golden.i64("input.ids").unwrap().into_raw_vec_and_offset().0;
        assert_eq!(prompt.ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), ids, "{name}");
        if prompt.images.is_empty() {
            continue;
        }
        let pixels: Vec<_> = prompt.images.iter().map(|i| i.pixels.view()).collect();
        let (pixels, want) = (concatenate(Axis(0), &pixels).unwrap(), golden.f32("input.pixels").unwrap());
        assert_eq!(pixels.shape(), want.shape(), "{name}");
        // Phi-3's golden was made in the default type of its code, the others in float64 (A4.7).
        let pixels = if name == "phi3" { in_f32(&pixels) } else { pixels };
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

/// E6.14, E6.15, E6.16.
#[test]
fn later_toys_equal_transformers_in_f64() {
    toys::all_equal::<f64>(later(), 1e-5);
}

#[test]
fn later_toys_equal_transformers_in_f32() {
    toys::all_equal::<f32>(later(), 1e-4);
}

/// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal; Qwen2,
/// InternLM2 and Phi-3.
#[test]
fn policies_on_a_prefill_equal_the_twin() {
    whole().iter().for_each(|case| evicted::equals_its_golden(case, "internvl2"));
}

/// The cases with whole checkpoints; the goldens of these cases contain output tokens. Their prompts are made from the
/// golden's ids and pixels.
fn whole() -> Vec<Case> {
    let mut cases = cases();
    cases.retain(|c| c.golden.get("output.ids").is_some());
    assert!(cases.len() >= 3);
    for case in &mut cases {
        let ids: Vec<u32> = case.golden.i64("input.ids").unwrap().iter().map(|&id| id as u32).collect();
        let mut pixels = case.golden.f32("input.pixels").unwrap().into_dimensionality::<Ix4>().unwrap();
        let images = case.prompt.images.iter().map(|image| {
            let (own, rest) = pixels.view().split_at(Axis(0), image.packing.tiles);
            let (own, rest) = (own.to_owned(), rest.to_owned());
            pixels = rest;
            GivenImage::tiles(own, image.size)
        });
        let text = case.prompt.prompt.clone();
        case.prompt = Prepared::from_ids(&*case.model.config, &ids, images.collect()).unwrap();
        case.prompt.prompt = text;
    }
    cases
}

#[test]
fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
    held::a_prefill_is_one_row_less_and_a_step(&whole());
    // At the trained length, the factors of long rope change, and cached keys do not.
    let mut later = later();
    later.retain(|c| c.name != "phi3-crossing");
    held::a_prefill_is_one_row_less_and_a_step(&later);
}

#[test]
fn c6_1a_chunks_and_batches_change_no_bit() {
    held::chunks_and_batches_change_no_bit(&whole());
    held::chunks_and_batches_change_no_bit(&later());
}

#[test]
fn e10_5_d10_7_honest_candidates_pass() {
    held::honest_candidates_pass(&whole(), &[Precision::Bf16]);
    held::honest_candidates_pass(&later(), &[Precision::Bf16]);
}
