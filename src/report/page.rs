//! Pages that load no other file: escaped text, filled templates, and outcomes as classes of the style sheet.

use crate::golden::Outcome;

/// Escapes text for HTML or SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A template with its marks replaced. Inserted text is not searched for marks again.
pub(crate) fn fill(template: &str, filled: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((at, (mark, text))) =
        filled.iter().filter_map(|f| Some((rest.find(f.0)?, f))).min_by_key(|(at, _)| *at)
    {
        out.push_str(&rest[..at]);
        out.push_str(text);
        rest = &rest[at + mark.len()..];
    }
    out + rest
}

/// The style sheet's class for an outcome.
pub(super) fn class(outcome: Outcome) -> &'static str {
    if outcome == Outcome::NotJudged { "not" } else { outcome.name() }
}
