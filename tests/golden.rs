//! The forward pass against what transformers computed for 29 toy checkpoints: `tests/golden/llava`.
#![cfg(feature = "input")]

#[path = "common/flow.rs"]
mod flow;
#[path = "common/toys.rs"]
mod toys;

use aircache::generate::Until;
use aircache::num::Real;
use flow::{relative, watched};
use ndarray::Axis;
use toys::{Case, toys};

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

#[test]
fn toys_equal_transformers_in_f64() {
    toys_equal::<f64>(1e-5);
}

#[test]
fn toys_equal_transformers_in_f32() {
    toys_equal::<f32>(1e-4);
}

/// Every stage of a whole run within `bound` of the largest value, and the same 16 tokens.
fn toys_equal<T: Real>(bound: f64) {
    let until = Until { stop: vec![], max_new_tokens: 16 };
    for Case { name, model, prompt, golden, .. } in cases() {
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
