//! A prompt as a policy sees it: the rows that may be evicted, and the rows that may vote.

use super::{Policy, Text, Window};
use crate::error::{Error, Result, ensure};
use crate::num::Grid;
use crate::roles::Roles;

/// The prompt as a policy sees it. Spec: D8.3, D9.1, C9.1a, A8.11, A8.12
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The policy.
    pub policy: Policy,
    /// The type in which the policy stores scores and weights.
    pub grid: Grid,
    /// n: prompt rows.
    pub n: usize,
    /// Rows that may be evicted, ascending. Empty if the prompt has no visual row (A8.13).
    pub candidates: Vec<usize>,
    /// Rows whose queries must be observed, ascending: all rows that may vote.
    pub rows: Vec<usize>,
}

impl Sight {
    /// # Errors
    /// The window needs text, but the prompt has no text that counts (A8.13).
    pub fn new(policy: &Policy, roles: &Roles) -> Result<Self> {
        let visual = roles.visual();
        let n = roles.len();
        let mut sight = Sight { policy: policy.clone(), grid: Grid::Native, n, candidates: vec![], rows: vec![] };
        if visual.is_empty() {
            return Ok(sight);
        }
        if policy.votes() {
            sight.rows = match policy.window {
                Window::AllQueries if !policy.needs_received() => (0..n).collect(),
                Window::Nobody | Window::AllQueries => vec![],
                Window::Last(w) => (n.saturating_sub(w)..n).collect(),
                Window::LastVisual(w) => visual[visual.len().saturating_sub(w)..].to_vec(),
                Window::LastText(w) => {
                    let text = counted(policy.text, roles)?;
                    text[text.len().saturating_sub(w)..].to_vec()
                }
                Window::AllText | Window::Elite { .. } => counted(policy.text, roles)?,
            };
        }
        sight.candidates = policy.candidates(roles);
        Ok(sight)
    }
}

/// The text rows that count, ascending; at least one. Spec: A8.1, A8.13
fn counted(text: Text, roles: &Roles) -> Result<Vec<usize>> {
    let after = roles.visual().last().map_or(0, |&v| v + 1);
    let mut rows: Vec<usize> = roles.text();
    if text != Text::All {
        rows.retain(|&r| r >= after);
    }
    if let Text::Question { tail } = text {
        let tail = tail.ok_or_else(|| {
            Error::new("policy: text=question", "the number of rows of the template's tail", "none")
                .remedy("write text=question:N, or use the model's own template")
        })?;
        rows.truncate(rows.len().saturating_sub(tail));
    }
    let expected = match text {
        Text::After => "text after the last visual token (these rows vote)",
        Text::All => "a text token in the prompt",
        Text::Question { .. } => "a question between the last visual token and the template's tail",
    };
    ensure!(!rows.is_empty(), "policy: text", expected, "none", "put the question after the image, or use text=all");
    Ok(rows)
}

impl Policy {
    /// The prompt rows whose queries must be observed, ascending. There are few rows, unless the text is long.
    ///
    /// # Errors
    /// The window needs text, but the prompt has no text that counts (A8.13).
    pub fn rows(&self, roles: &Roles) -> Result<Vec<usize>> {
        Ok(Sight::new(self, roles)?.rows)
    }

    /// The text rows that count, ascending; at least one. Spec: A8.1
    ///
    /// # Errors
    /// The prompt has no text that counts (A8.13).
    pub fn counted(&self, roles: &Roles) -> Result<Vec<usize>> {
        counted(self.text, roles)
    }
}
