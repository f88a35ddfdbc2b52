//! The forward pass of transformers' InternVL against the recorded results of transformers on toy checkpoints:
//! `tests/golden/internvl`.

use crate::common::toys::{Case, all_equal, toys};
use crate::common::{evicted, held};
use aircache::input::GivenImage;
use aircache::pass::Precision;
use ndarray::Axis;

fn cases() -> Vec<Case> {
    toys("internvl", 16)
}

/// D4.6, E4.15–E4.17: ids, roles, positions, sizes and pixels are equal.
#[test]
fn toys_read_what_transformers_reads() {
    cases().iter().for_each(held::reads_what_transformers_reads);
}

/// Transformers' ids and pixels give the same prompt, with and without expanded placeholders.
#[test]
fn ids_and_pixels_of_transformers_pass_the_core_door() {
    held::pass_the_core_door(cases(), |image, pixels| {
        GivenImage::tiles(pixels.into_dimensionality().unwrap(), image.size)
    });
}

#[test]
fn toys_equal_transformers_in_f64() {
    all_equal::<f64>(cases(), 1e-5);
}

#[test]
fn toys_equal_transformers_in_f32() {
    all_equal::<f32>(cases(), 1e-4);
}

/// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal.
#[test]
fn policies_on_a_prefill_equal_the_twin() {
    for case in cases().into_iter().filter(|c| ["qwen2-bf16", "qwen3-bf16"].contains(&c.name.as_str())) {
        evicted::equals_its_golden(&case, "internvl");
    }
}

/// This does not hold if the prompt is longer than the trained length (C6.12a).
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

/// Typical errors of ports are found at the right stage: tiles in another order, the tile of the whole image at the
/// wrong end.
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
    // A replay takes the pixels from the candidate without a check.
    let at = ("input.pixels".to_string(), "none".to_string());
    assert_eq!(order(&[4, 0, 1, 2, 3]), at);
    assert_eq!(order(&[0, 2, 1, 3, 4]), at);
    assert_eq!(order(&[0, 1, 2, 3, 4]).0, "none");
}
