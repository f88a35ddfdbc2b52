//! The forward pass of transformers' InternVL against what transformers computed for toy checkpoints: `tests/golden/internvl`.
#![cfg(feature = "input")]

#[path = "common/evicted.rs"]
mod evicted;
#[path = "common/flow.rs"]
mod flow;
#[path = "common/held.rs"]
mod held;
#[path = "common/toys.rs"]
mod toys;

use aircache::generate::Until;
use aircache::golden::Bundle;
use aircache::input::{GivenImage, Prepared};
use aircache::pass::Precision;
use ndarray::{Array4, Axis, concatenate, s};
use std::path::Path;
use toys::{Case, all_equal, toys};

fn cases() -> Vec<Case> {
    toys("internvl", 13)
}

/// D4.6, E4.15–E4.17: ids, roles, positions, sizes and pixels are equal, value for value.
#[test]
fn toys_read_what_transformers_reads() {
    for Case { name, prompt, golden, rendered, .. } in cases() {
        assert_eq!(prompt.prompt, rendered, "{name}");
        let list = |stage: &str| golden.i64(stage).unwrap().into_raw_vec_and_offset().0;
        assert_eq!(prompt.ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), list("input.ids"), "{name}");
        assert_eq!(prompt.roles.0.iter().map(|&r| r as i64).collect::<Vec<_>>(), list("input.roles"), "{name}");
        if prompt.images.is_empty() {
            continue;
        }
        let sizes: Vec<i64> = prompt.images.iter().flat_map(|i| [i.size.0 as i64, i.size.1 as i64]).collect();
        assert_eq!(sizes, list("input.sizes"), "{name}");
        let pixels: Vec<_> = prompt.images.iter().map(|i| i.pixels.view()).collect();
        assert_eq!(concatenate(Axis(0), &pixels).unwrap(), golden.f32("input.pixels").unwrap(), "{name}");
    }
}

/// The same prompt comes of transformers' ids and pixels, with and without placeholders expanded.
#[test]
fn ids_and_pixels_of_transformers_pass_the_core_door() {
    for Case { name, model, prompt, golden, .. } in cases().into_iter().filter(|c| !c.prompt.images.is_empty()) {
        let pixels: Array4<f32> = golden.f32("input.pixels").unwrap().into_dimensionality().unwrap();
        let mut first = 0;
        let images = prompt.images.iter().map(|image| {
            let tiles = first..first + image.packing.tiles;
            first = tiles.end;
            GivenImage::tiles(pixels.slice(s![tiles, .., .., ..]).to_owned(), image.size)
        });
        let images: Vec<GivenImage> = images.collect();
        let mut short = prompt.ids.clone();
        short.dedup_by(|b, a| a == b && *a == model.config.image_token());
        for ids in [&short, &prompt.ids] {
            let again = Prepared::from_ids(&model.config, ids, images.clone()).unwrap();
            assert_eq!((&again.ids, &again.roles), (&prompt.ids, &prompt.roles), "{name}");
            assert!(again.images.iter().zip(&prompt.images).all(|(a, b)| a.packing == b.packing), "{name}");
        }
    }
}

#[test]
fn toys_equal_transformers_in_f64() {
    all_equal::<f64>(cases(), 1e-5);
}

#[test]
fn toys_equal_transformers_in_f32() {
    all_equal::<f32>(cases(), 1e-4);
}

/// Elite sets, budgets and kept sets equal, importances to 1e-9, tokens after eviction equal.
#[test]
fn policies_on_a_prefill_equal_the_twin() {
    let case = cases().into_iter().find(|c| c.name == "qwen2-bf16").unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy/internvl/qwen2-bf16.safetensors");
    let golden = Bundle::open(&file).unwrap();
    let tail: usize = golden.metadata("tail").unwrap().parse().unwrap();
    assert_eq!(case.processor.tail(&case.prompt, &case.question), tail);
    let until = Until { stop: vec![], max_new_tokens: 16 };
    evicted::equal_the_twin(&case.model, &case.prompt, golden, &until, &case.name);
}

/// Not where the prompt is longer than the model was trained for (C6.12a).
#[test]
fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
    let mut cases = cases();
    cases.retain(|c| c.name != "dynamic");
    held::a_prefill_is_one_row_less_and_a_step(&cases);
}

#[test]
fn e10_5_d10_7_honest_candidates_pass() {
    held::honest_candidates_pass(&cases(), &held::GPU);
}

/// What ports get wrong is found where it is: tiles in another order, a tile of the whole image at the wrong end.
#[test]
fn tiles_in_another_order_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let case = cases().into_iter().find(|c| c.name == "qwen2-bf16").unwrap();
    let golden = held::recorded(&case, &case.prompt, Precision::Truth, true, &path("golden"));
    let order = |order: &[usize]| {
        held::found(&case, &golden, &path("candidate"), &|p| {
            p.images[0].pixels = p.images[0].pixels.select(Axis(0), order)
        })
    };
    assert_eq!(case.prompt.images[0].packing.tiles, 5);
    // A replay takes pixels as they are.
    let at = ("input.pixels".to_string(), "none".to_string());
    assert_eq!(order(&[4, 0, 1, 2, 3]), at);
    assert_eq!(order(&[0, 2, 1, 3, 4]), at);
    assert_eq!(order(&[0, 1, 2, 3, 4]).0, "none");
}
