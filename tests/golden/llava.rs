//! The forward pass against the recorded results of transformers on 29 toy checkpoints: `tests/golden/llava`.

use crate::common::toys::{Case, toys, toys_pass};
use aircache::pass::Precision;
use ndarray::Axis;

fn cases() -> Vec<Case> {
    toys("llava", 29)
}

/// Ids, roles, positions and pixels are equal.
#[test]
fn toys_read_what_transformers_reads() {
    for Case { name, prompt, golden, .. } in cases() {
        let ids: Vec<i64> = prompt.ids.iter().map(|&id| id as i64).collect();
        assert_eq!(ids, golden.i64("input.ids").unwrap().into_raw_vec_and_offset().0, "{name}");
        let roles: Vec<i64> = prompt.roles.0.iter().map(|&r| r as i64).collect();
        assert_eq!(roles, golden.i64("input.roles").unwrap().into_raw_vec_and_offset().0, "{name}");
        if prompt.images.is_empty() {
            continue;
        }
        let pixels = golden.f32("input.pixels").unwrap();
        for (image, want) in prompt.images.iter().zip(pixels.axis_iter(Axis(0))) {
            let (tiles, padding) = want.split_at(Axis(0), image.pixels.shape()[0]);
            assert_eq!(image.pixels.view(), tiles, "{name}");
            assert!(padding.iter().all(|&v| v == 0.0), "{name}: shorter images are padded with zero tiles");
        }
    }
}

// The policies of this family are judged on the demo model (`policy.rs`, `demo.rs`).
toys_pass!(cases, but: [""], policies: [] of "", honest: &[Precision::Bf16]);
