//! A policy: a method of eviction as a struct of parts.

use super::{Budget, Heads, Keep, Keys, Mask, Scope, Score, Text, Window};
use crate::error::{Result, ensure};

/// A method of eviction, as a struct of parts. Written `aircache`, `window=last-text:32,budget=uniform` or
/// `snapkv,heads=mean`; in JSON an object of the same parts. Spec: D9.6
///
/// ```
/// use aircache::policy::{Budget, Policy, Window};
/// let p: Policy = "window=last-text:32,budget=uniform".parse()?;
/// assert_eq!(p, Policy { window: Window::LastText(32), budget: Budget::Uniform, ..Policy::AIRCACHE });
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Which rows vote.
    pub window: Window,
    /// How votes become importances.
    pub score: Score,
    /// How the layers share the total.
    pub budget: Budget,
    /// Which candidates are always kept.
    pub keep: Keep,
    /// Which rows may be evicted.
    pub scope: Scope,
    /// Which text counts (A8.1).
    pub text: Text,
    /// How the attention of several heads is joined (A8.2).
    pub heads: Heads,
    /// The keys over which votes are normalised (A8.4).
    pub keys: Keys,
    /// Whether votes see later keys (A8.3).
    pub mask: Mask,
}

impl Policy {
    /// AirCache as printed, with the defaults of A8.1–A8.4.
    pub const AIRCACHE: Policy = Policy {
        window: Window::Elite { alpha: 0.9 },
        score: Score::Mean,
        budget: Budget::Both,
        keep: Keep::TOP,
        scope: Scope::Visual,
        text: Text::After,
        heads: Heads::Mean,
        keys: Keys::Elite,
        mask: Mask::None,
    };

    /// Checks that the parts fit together and that their numbers are in range. Spec: C9.6b
    ///
    /// # Errors
    /// A part does not fit. The error names the part.
    pub fn check(&self) -> Result<()> {
        let at = |part: &str| format!("policy: {part}");
        match self.window {
            Window::Elite { alpha } => {
                ensure!((0.0..=1.0).contains(&alpha), at("window=elite"), "0 <= alpha <= 1", alpha);
            }
            Window::Last(w) | Window::LastText(w) | Window::LastVisual(w) => {
                ensure!(w > 0, at("window"), "a window of at least 1 row", w);
            }
            Window::Nobody => ensure!(!self.votes(), at("window=none"), "score=position or score=random", self.score),
            Window::AllQueries | Window::AllText => {}
        }
        match self.score {
            Score::Pool(k) => ensure!(k % 2 == 1, at("score=pool"), "an odd kernel", k),
            Score::Mean | Score::Sum | Score::Position | Score::Random(_) => {}
        }
        match self.budget {
            Budget::Pyramid { beta: b } => {
                let ok = b.numerator() >= b.denominator() && b.numerator() <= 1_000_000_000;
                ensure!(ok, at("budget=pyramid"), "beta >= 1 with at most 9 digits", b);
            }
            Budget::Sparsity { p } => {
                ensure!((0.0..=1.0).contains(&p), at("budget=sparsity"), "0 <= p <= 1", p);
                ensure!(self.votes(), at("budget=sparsity"), "a score that looks at attention", self.score);
            }
            _ => {}
        }
        let r = self.keep.recent;
        ensure!(r.numerator() <= r.denominator(), at("keep=top+recent"), "a share of at most 1", r);
        Ok(())
    }

    /// The same policy with another α.
    ///
    /// # Errors
    /// The window is not the elite, or α is not in 0 … 1.
    pub fn with_alpha(mut self, alpha: f64) -> Result<Self> {
        ensure!(matches!(self.window, Window::Elite { .. }), "alpha", "a policy whose window is elite", self.window);
        self.window = Window::Elite { alpha };
        self.check()?;
        Ok(self)
    }

    /// The same policy with the number of rows that the chat template puts after the question; only `text=question`
    /// needs it.
    pub fn with_tail(mut self, tail: usize) -> Self {
        if self.text == (Text::Question { tail: None }) {
            self.text = Text::Question { tail: Some(tail) };
        }
        self
    }

    /// Whether importances come from attention.
    pub fn votes(&self) -> bool {
        self.budget != Budget::Full && !matches!(self.score, Score::Position | Score::Random(_))
    }

    /// Whether `received` of [`super::Observed`] is needed: all queries vote by the model's own causal attention, and
    /// only the sum of the votes matters. Spec: E9.1
    pub fn needs_received(&self) -> bool {
        let single = matches!(self.budget, Budget::Sparsity { .. });
        self.votes() && self.window == Window::AllQueries && self.causal() && !single
    }

    /// S: the number of kept sets of a layer with this many KV heads. Spec: A8.2
    pub(super) fn sets(&self, kv_heads: usize) -> usize {
        if self.heads == Heads::Kv { kv_heads } else { 1 }
    }

    /// Whether a vote sees only keys up to its own row. Spec: A8.3, A8.4
    pub(super) fn causal(&self) -> bool {
        self.mask == Mask::Causal || self.keys == Keys::Causal
    }
}
