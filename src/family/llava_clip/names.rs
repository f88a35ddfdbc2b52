//! The tensor names of LLaVA-1.5 and LLaVA-NeXT: the hub's, those of transformers' modules, and those of CLIP without
//! `vision_model.`, which transformers 5 writes. Source: transformers 5.17, `conversion_mapping.py`.

use crate::weights::names::renamed;

/// The names that checkpoints may use for `ours`, in order of preference.
///
/// ```
/// let names = aircache::family::llava_clip::names("vision.pre_layrnorm.weight");
/// assert_eq!(names[0], "vision_tower.vision_model.pre_layrnorm.weight");
/// ```
pub fn names(ours: &str) -> Vec<String> {
    const PREFIXES: &[(&str, &[&str])] = &[
        (
            "decoder.",
            &["language_model.model.", "model.language_model.", "language_model.", "model.language_model.model."],
        ),
        ("head.", &["language_model.lm_head.", "lm_head.", "model.language_model.lm_head."]),
        (
            "vision.",
            &["vision_tower.vision_model.", "model.vision_tower.vision_model.", "vision_tower.", "model.vision_tower."],
        ),
        ("projector.", &["multi_modal_projector.", "model.multi_modal_projector."]),
        ("newline", &["image_newline", "model.image_newline"]),
    ];
    renamed(PREFIXES, &[], ours)
}
