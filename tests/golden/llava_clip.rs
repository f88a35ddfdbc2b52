//! The forward pass of LLaVA-1.5 and LLaVA-NeXT against the recorded results of transformers on toy checkpoints:
//! `tests/golden/llava_clip`.

use crate::common::held;
use crate::common::toys::{Case, toys, toys_pass};
use aircache::input::GivenImage;
use aircache::pass::Precision;

fn cases() -> Vec<Case> {
    toys("llava_clip", 9)
}

/// E4.28, E4.29: ids, roles, positions, sizes and pixels are equal.
#[test]
fn toys_read_what_transformers_reads() {
    let one = |c: &Case| c.golden.get("input.pixels").is_none() || c.prompt.images.len() == 1;
    // Several images in one array are padded with empty tiles; the core door below takes them apart.
    let padded = |c: &Case| !one(c) && c.name.starts_with("next");
    cases().iter().filter(|c| !padded(c)).for_each(held::reads_what_transformers_reads);
    let case = cases().into_iter().find(padded).unwrap();
    assert_eq!(case.prompt.prompt, case.rendered);
    let ids: Vec<i64> = case.golden.i64("input.ids").unwrap().into_raw_vec_and_offset().0;
    assert!(case.prompt.ids.iter().map(|&id| i64::from(id)).eq(ids));
    let pixels: Vec<_> = case.prompt.images.iter().map(|image| image.pixels.view()).collect();
    let all = case.model.config.profile().pixels.join(&pixels);
    assert_eq!(all, case.golden.f32("input.pixels").unwrap());
}

/// Transformers' ids and pixels give the same prompt, with and without expanded placeholders.
#[test]
fn ids_and_pixels_of_transformers_pass_the_core_door() {
    let mut cases = cases();
    // Without a processor's files, the square is the one in the middle; it only changes what part a row saw.
    cases.retain(|c| !["next-two-images", "squeezed", "zeros-around"].contains(&c.name.as_str()));
    held::pass_the_core_door(cases, |image, pixels| {
        GivenImage::tiles(pixels.into_dimensionality().unwrap(), image.size)
    });
}

toys_pass!(cases, but: [""], policies: ["next-mistral-bf16"] of "llava_clip", honest: &[Precision::Bf16]);
