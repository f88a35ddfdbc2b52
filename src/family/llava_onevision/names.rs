//! LLaVA-OneVision's tensor names in Hugging Face's form. transformers up to 4.51, and again from 5 on, writes the
//! older names (`language_model.model.…`). Some versions in between wrote the newer names (`model.language_model.…`).
//! transformers 5 dropped `vision_model.` from the tower's names. This library reads all of these names. Source:
//! transformers 5.17, `conversion_mapping.py` (`llava_next`), and the names in checkpoints on the hub.

use crate::weights::names::modules;

/// The names that LLaVA-OneVision checkpoints may use for `ours`, in order of preference.
///
/// `decoder.X` is the language model without its head, `head.X` the head, `vision.X` the tower, `projector.X` the
/// projector, `newline` the newline row.
///
/// ```
/// let names = aircache::family::llava_onevision::names("decoder.norm.weight");
/// assert_eq!(names[..2], ["language_model.model.norm.weight", "model.language_model.norm.weight"]);
/// ```
pub fn names(ours: &str) -> Vec<String> {
    modules(ours)
}
