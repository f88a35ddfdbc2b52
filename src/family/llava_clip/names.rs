//! The tensor names of LLaVA-1.5 and LLaVA-NeXT: the hub's, those of transformers' modules, and those of CLIP without
//! `vision_model.`, which transformers 5 writes. Source: transformers 5.17, `conversion_mapping.py`.

use crate::weights::names::modules;

/// The names that checkpoints may use for `ours`, in order of preference.
///
/// ```
/// let names = aircache::family::llava_clip::names("vision.pre_layrnorm.weight");
/// assert_eq!(names[0], "vision_tower.vision_model.pre_layrnorm.weight");
/// ```
pub fn names(ours: &str) -> Vec<String> {
    modules(ours)
}
