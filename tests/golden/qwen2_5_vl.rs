//! The forward pass of Qwen2.5-VL against the recorded results of transformers on toy checkpoints:
//! `tests/golden/qwen2_5_vl`.

use crate::common::toys::{Case, all_equal, toys};
use crate::common::{evicted, held};
use aircache::input::GivenImage;
use aircache::pass::Precision;

fn cases() -> Vec<Case> {
    toys("qwen2_5_vl", 6)
}

/// Ids, roles, positions, grids, sizes and pixels are equal.
#[test]
fn toys_read_what_transformers_reads() {
    cases().iter().for_each(held::reads_what_transformers_reads);
}

/// Transformers' ids and pixels give the same prompt, with and without expanded placeholders.
#[test]
fn ids_and_pixels_of_transformers_pass_the_core_door() {
    held::pass_the_core_door(cases(), |image, pixels| {
        GivenImage::patches(pixels.into_dimensionality().unwrap(), image.size, image.grid.unwrap())
    });
}

/// E5.17, E5.18.
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
    let case = cases().into_iter().find(|c| c.name == "hub-bf16").unwrap();
    evicted::equals_its_golden(&case, "qwen2_5_vl");
}

#[test]
fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
    held::a_prefill_is_one_row_less_and_a_step(&cases());
}

#[test]
fn e10_5_d10_7_honest_candidates_pass() {
    held::honest_candidates_pass(&cases(), &[Precision::Bf16]);
}
