//! Translates our tensor names into the names that checkpoints use. Every family's table uses this rule.
//!
//! In our names, `decoder.X` is the language model without its head, `head.X` the head, `vision.X` the tower,
//! `projector.X` the projector, and `newline` the newline row.

/// The names that checkpoints may use for `ours`, in order of preference. `parts` lists prefixes of our names with the
/// prefixes of the checkpoints; each of these prefixes gives one result. In the rest of the name, the first entry of
/// `within` that the rest contains is replaced.
///
/// ```
/// let parts: &[(&str, &[&str])] = &[("vision.", &["visual.", "model.visual."])];
/// let names = aircache::weights::names::renamed(parts, &[(".out.", ".proj.")], "vision.3.out.bias");
/// assert_eq!(names, ["visual.3.proj.bias", "model.visual.3.proj.bias"]);
/// ```
pub fn renamed(parts: &[(&str, &[&str])], within: &[(&str, &str)], ours: &str) -> Vec<String> {
    let found = parts.iter().find_map(|(own, theirs)| Some((ours.strip_prefix(own)?, theirs)));
    let Some((rest, theirs)) = found else { return vec![ours.to_string()] };
    let part = within.iter().find(|(own, _)| rest.contains(own));
    let rest = part.map_or(rest.to_string(), |(own, their)| rest.replacen(own, their, 1));
    theirs.iter().map(|their| format!("{their}{rest}")).collect()
}

/// The names of a tensor where the tower is called `visual`, in order of preference: the names that transformers 4 wrote
/// and 5 writes again, then those of its modules.
///
/// ```
/// let names = aircache::weights::names::visual("vision.merger.mlp.0.weight");
/// assert_eq!(names, ["visual.merger.mlp.0.weight", "model.visual.merger.mlp.0.weight"]);
/// ```
pub fn visual(ours: &str) -> Vec<String> {
    const PREFIXES: &[(&str, &[&str])] = &[
        ("decoder.", &["model.", "model.language_model."]),
        ("head.", &["lm_head."]),
        ("vision.", &["visual.", "model.visual."]),
    ];
    renamed(PREFIXES, &[], ours)
}

/// The names of a tensor in transformers' modules of a tower, a projector and a language model, in order of preference:
/// those of every version, with and without `vision_model.`.
pub fn modules(ours: &str) -> Vec<String> {
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
