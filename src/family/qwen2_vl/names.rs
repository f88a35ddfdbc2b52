//! Qwen2-VL's tensor names. Source: transformers 5.17, `conversion_mapping.py`, and the names in checkpoints on the
//! hub.

use crate::weights::names::renamed;

/// The names that Qwen2-VL checkpoints may use for `ours`, in order of preference. First come the hub's names
/// (`model.layers.…`, `visual.…`), which transformers writes again from 5 on. Then come the names of transformers'
/// modules (`model.language_model.…`).
///
/// ```
/// let names = aircache::family::qwen2_vl::names("vision.merger.mlp.0.weight");
/// assert_eq!(names, ["visual.merger.mlp.0.weight", "model.visual.merger.mlp.0.weight"]);
/// ```
pub fn names(ours: &str) -> Vec<String> {
    const PREFIXES: &[(&str, &[&str])] = &[
        ("decoder.", &["model.", "model.language_model."]),
        ("head.", &["lm_head."]),
        ("vision.", &["visual.", "model.visual."]),
    ];
    renamed(PREFIXES, &[], ours)
}
