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
