//! Our names of tensors → the names that checkpoints use: the rule that every family's table follows.
//!
//! `decoder.X` is the language model without its head, `head.X` the head, `vision.X` the tower, `projector.X` the
//! projector, `newline` the newline row.

/// The names that checkpoints may use for `ours`, in order of preference: its first part replaced by each of theirs that
/// `parts` lists, and in the rest the first of `within` that it holds.
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
