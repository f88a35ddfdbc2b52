//! The forward pass of transformers' InternVL against the recorded results of transformers on toy checkpoints:
//! `tests/golden/internvl`.

use crate::common::held;
use crate::common::toys::{Case, toys, toys_pass};
use aircache::golden::{Outcome, replay};
use aircache::input::{GivenImage, Image, Limits};
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

// The rows of a prompt that is longer than the trained length depend on its length (C6.12a).
toys_pass!(cases, but: ["dynamic"], policies: ["qwen2-bf16", "qwen3-bf16"] of "internvl", honest: &held::GPU);

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

/// D4.12: a recording that was made with another limit of tiles is replayed with that limit.
#[test]
fn d4_12_other_limits_of_tiles_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |case: &str, file: &str| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/internvl").join(case).join(file)
    };
    let pictures = [
        path("llama-two-images", "image0.png"),
        path("llama-two-images", "image1.png"),
        path("qwen2-bf16", "image0.png"),
    ];
    let images = Image::all(&pictures).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for most in [1, 2, 3, 5, 12] {
        let mut case = cases().into_iter().find(|c| c.name == "qwen2-bf16").unwrap();
        case.processor = case.processor.with_limits(Limits { max_tiles: Some(most), ..Limits::default() }).unwrap();
        for images in [&images[2..], &images[..]] {
            let prompt = case.processor.prepare(images, "What is it?", None).unwrap();
            seen.insert(prompt.images.iter().map(|image| image.packing.tiles).sum::<usize>());
            let candidate = held::recorded(&case, &prompt, Precision::Bf16, false, &folder.path().join("candidate"));
            let verdict = replay(&case.model, None, &candidate, held::scratch()).unwrap();
            assert!(verdict.passes(), "at most {most} tiles: {:?}", verdict.first_divergence().map(|s| &s.words));
            let judged = verdict.stages.iter().filter(|s| s.outcome == Outcome::Pass).map(|s| s.stage.as_str());
            assert!(judged.clone().any(|stage| stage == "vision.features") && judged.count() > 20);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
}
