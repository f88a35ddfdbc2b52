//! Which stages a recording holds: globs over whole stage names. Not here: what a stage is.

use crate::error::{Error, Result, ensure};
use std::str::FromStr;

/// Globs of stage names; no glob selects everything. Spec: T1.2
///
/// `*` matches any number of characters, including dots; `?` matches one character.
///
/// ```
/// use aircache::golden::Selection;
/// let some: Selection = "decoder.*.key,input.*".parse()?;
/// assert!(some.takes("decoder.07.key") && some.takes("input.ids") && !some.takes("decoder.07.keys"));
/// assert!(Selection::default().takes("anything"));
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    globs: Vec<String>,
    rows: Option<usize>,
}

impl Selection {
    /// Whether a stage of this name is selected.
    pub fn takes(&self, name: &str) -> bool {
        self.globs.is_empty() || self.globs.iter().any(|glob| matches(glob, name))
    }

    /// The same selection, with at most this many rows of a large stage, and hashes of all its rows. Spec: D10.10
    ///
    /// # Errors
    /// `rows` is 0.
    pub fn with_rows(self, rows: usize) -> Result<Selection> {
        ensure!(rows > 0, "rows", "at least one row", rows);
        Ok(Selection { rows: Some(rows), ..self })
    }

    /// How many rows of a large stage are kept; none if all rows are kept.
    pub(super) fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// The globs that select none of `names`.
    pub fn idle<'a>(&'a self, names: &[String]) -> Vec<&'a str> {
        let idle = |glob: &&String| !names.iter().any(|name| matches(glob, name));
        self.globs.iter().filter(idle).map(String::as_str).collect()
    }

    /// Checks that every glob selects at least one of the `possible` stages.
    ///
    /// # Errors
    /// A glob selects no stage. The error names the glob, and the kinds of `possible` stages.
    pub fn check(&self, possible: &[String]) -> Result<()> {
        let Some(glob) = self.idle(possible).first().copied() else { return Ok(()) };
        let mut kinds: Vec<String> = Vec::new();
        for kind in possible.iter().map(|name| kind(name)) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let known = format!("names of stages: {}", kinds.join(", "));
        Err(Error::new("stages", known, format!("{glob:?}"))
            .remedy("* and ? stand for any characters; LL, TTTT: digits"))
    }
}

impl FromStr for Selection {
    type Err = Error;

    /// Globs separated by commas.
    fn from_str(text: &str) -> Result<Self> {
        let globs: Vec<String> = text.split(',').map(|glob| glob.trim().to_string()).collect();
        let empty = globs.iter().any(String::is_empty);
        ensure!(!empty, "stages", "globs separated by commas, such as decoder.*.key,policy.*", format!("{text:?}"));
        Ok(Selection { globs, rows: None })
    }
}

/// The name with its layer or step replaced by a placeholder.
fn kind(name: &str) -> String {
    let word = |word: &str| match (word.len(), word.bytes().all(|b| b.is_ascii_digit())) {
        (0, _) | (_, false) => word.to_string(),
        (4.., true) => "TTTT".into(),
        (_, true) => "LL".into(),
    };
    name.split('.').map(word).collect::<Vec<_>>().join(".")
}

/// Whether the glob matches the whole name. Every `*` is tried at its shortest and made longer if the rest does not
/// match. Only the last `*` reached needs to grow, so the time is at most the product of the lengths.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (g, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The twin: the definition, letter by letter.
    fn naive(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', glob)), None) => naive(glob, name),
            (Some((b'*', rest)), Some((_, shorter))) => naive(rest, name) || naive(glob, shorter),
            (Some((b'?', glob)), Some((_, name))) => naive(glob, name),
            (Some((c, glob)), Some((d, name))) => c == d && naive(glob, name),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn globs_cover_whole_names() {
        for (glob, name, yes) in [
            ("*", "", true),
            ("*", "a.b", true),
            ("decoder.*.key", "decoder.00.key", true),
            ("decoder.??.key", "decoder.100.key", false),
            ("decoder", "decoder.norm", false),
            ("*.logits", "step.0003.logits", true),
            ("d*r*t", "decoder.00.out", true),
            ("", "a", false),
            ("**?", "a", true),
        ] {
            assert_eq!(matches(glob, name), yes, "{glob} {name}");
        }
    }

    #[test]
    fn a_glob_that_selects_nothing_lists_the_stages() {
        let possible = ["input.ids", "decoder.00.key", "decoder.01.key", "step.0000.logits"].map(String::from);
        let selection: Selection = "input.*,decoder.0?.keys".parse().unwrap();
        let e = selection.check(&possible).unwrap_err().to_string();
        assert!(e.contains("input.ids, decoder.LL.key, step.TTTT.logits, found \"decoder.0?.keys\""), "{e}");
        assert!("decoder.*.key".parse::<Selection>().unwrap().check(&possible).is_ok());
        assert!("a,,b".parse::<Selection>().is_err() && "".parse::<Selection>().is_err());
    }

    proptest! {
        #[test]
        fn globs_equal_their_naive_twin(glob in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&glob, &name), naive(glob.as_bytes(), name.as_bytes()));
        }
    }
}
