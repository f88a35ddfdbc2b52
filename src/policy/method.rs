//! A policy: a method of eviction as a struct of parts.

use super::{Budget, Evict, Heads, Keep, Keys, Mask, Prune, Retain, Scope, Score, Split, Text, Window};
use crate::cache::Merge;
use crate::error::{Result, ensure};
use crate::roles::Roles;

/// A method of eviction, as a struct of parts. Written `aircache`, `window=last-text:32,budget=uniform` or
/// `snapkv,heads=mean`; in JSON an object of the same parts. Spec: D9.6
///
/// ```
/// use aircache::policy::{Budget, Policy, Window};
/// let p: Policy = "window=last-text:32,budget=uniform".parse()?;
/// assert_eq!(p, Policy { window: Window::LastText(32), budget: Budget::Uniform, ..Policy::AIRCACHE });
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
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
    /// How the KV heads of a layer share its budget (D9.7).
    pub split: Split,
    /// What becomes of an evicted entry (D9.8).
    pub evict: Evict,
    /// Where prefill drops visual rows (D9.9).
    pub prune: Prune,
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
        split: Split::Even,
        evict: Evict::Drop,
        prune: Prune::NONE,
        keys: Keys::Elite,
        mask: Mask::None,
    };

    /// The most positions that `score=expected` may look ahead.
    const MOST_POSITIONS: u32 = 65_536;

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
            Window::Nobody => {
                ensure!(
                    !self.votes(),
                    at("window=none"),
                    "a score without attention, such as score=position",
                    self.score
                );
            }
            Window::AllQueries | Window::AllText => {}
        }
        match self.score {
            Score::Pool(k) | Score::MaxPool(k) => ensure!(k % 2 == 1, at("score"), "an odd kernel", k),
            Score::Mix(k) => {
                ensure!(k % 2 == 1, at("score=mix"), "an odd kernel", k);
                ensure!(self.per_head(), at("score=mix"), "heads=kv or heads=kv-max", self.heads);
            }
            Score::Expected(positions) => {
                let most = Self::MOST_POSITIONS;
                ensure!(
                    (1..=most).contains(&positions),
                    at("score=expected"),
                    format!("1 to {most} positions"),
                    positions
                );
            }
            Score::Mean | Score::Sum | Score::ReceivedMean | Score::TextWeighted => {}
            Score::KeyDiff | Score::KeyNorm | Score::ValueNorm | Score::Position | Score::Random(_) => {}
        }
        match self.budget {
            Budget::Pyramid { beta: b } => {
                let ok = b.numerator() >= b.denominator() && b.numerator() <= 1_000_000_000;
                ensure!(ok, at("budget=pyramid"), "beta >= 1 with at most 9 digits", b);
            }
            Budget::Sparsity { p } => ensure!((0.0..=1.0).contains(&p), at("budget=sparsity"), "0 <= p <= 1", p),
            _ => {}
        }
        if self.budget.reads_rows() {
            let part = format!("budget={}", self.budget);
            ensure!(self.votes(), at(&part), "a score that looks at attention", self.score);
        }
        let r = self.keep.recent;
        ensure!(r.numerator() <= r.denominator(), at("keep=top+recent"), "a share of at most 1", r);
        if let Some((name, floor)) = self.split.floor() {
            let at = at(name);
            ensure!(floor.numerator() <= floor.denominator(), at, "a floor of at most 1", floor);
            ensure!(self.per_head(), at, "heads=kv or heads=kv-max", self.heads);
        }
        let scored = matches!(self.split, Split::Heads { .. });
        let scores = "scores of heads, as in split=file:PATH";
        ensure!(self.budget != Budget::Heads || scored, at("budget=heads"), scores, &self.split);
        if self.prunes() {
            ensure!(
                self.budget == Budget::Full,
                at("prune"),
                "budget=full: nothing is evicted after prefill",
                self.budget
            );
            ensure!(self.evict == Evict::Drop, at("prune"), "evict=drop: nothing is evicted after prefill", self.evict);
            ensure!(self.scope == Scope::Visual, at("prune"), "scope=visual: text is never dropped", self.scope);
        }
        if self.evict == Evict::ElasticCode {
            let at = at("evict=merge:elastic-code");
            ensure!(self.split == Split::Even, at, "split=even: its ranking cannot compare heads", &self.split);
        }
        if self.keep.on_top {
            ensure!(r.numerator() == 0, at("keep=top+on-top"), "no share of the budget beside it", self.keep);
            let varies = self.keep.window && matches!(self.window, Window::Elite { .. });
            ensure!(!varies, at("keep=top+window+on-top"), "a window of the same rows in all layers", self.window);
        }
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

    /// How evicted entries are merged; none if they are dropped. Spec: D9.8
    pub fn merge(&self) -> Option<Merge> {
        match self.evict {
            Evict::Drop => None,
            Evict::Nearest => Some(Merge::Nearest),
            Evict::Pivot => Some(Merge::Pivot),
            Evict::ElasticCode => Some(Merge::Shifted { first: self.keep.first, last: self.keep.last }),
        }
    }

    /// Whether rows are dropped inside prefill. Spec: D9.9
    pub fn prunes(&self) -> bool {
        self.prune != Prune::NONE
    }

    /// The policy at a retention, which says how much a cut without a share of its own keeps. Spec: D9.9, A9.8
    pub fn at(&self, retain: Retain) -> Policy {
        Policy { prune: self.prune.at(retain), ..self.clone() }
    }

    /// Whether the policy fits a model of `layers` layers of `kv_heads` KV heads. Spec: E9.22
    ///
    /// # Errors
    /// It has the scores of the heads of another model.
    pub fn fit(&self, layers: usize, kv_heads: usize) -> Result<()> {
        match &self.split {
            Split::Even | Split::Ada { .. } => Ok(()),
            Split::Heads { scores, .. } => scores.fit(layers, kv_heads),
        }
    }

    /// Whether importances come from attention.
    pub fn votes(&self) -> bool {
        let stored = matches!(self.score, Score::KeyDiff | Score::KeyNorm | Score::ValueNorm | Score::Expected(_));
        self.measures() && !stored
    }

    /// Whether importances come from the layer's queries, keys or values.
    pub fn measures(&self) -> bool {
        self.budget != Budget::Full && !matches!(self.score, Score::Position | Score::Random(_))
    }

    /// Whether importances come from values, so that `v` of [`super::Observed`] is needed. Spec: E9.14, E9.15, E9.38
    pub fn needs_values(&self) -> bool {
        self.measures() && matches!(self.score, Score::ValueNorm | Score::Mix(_) | Score::Expected(_))
    }

    /// The number of positions after the prompt whose queries the score expects, so that `future` of
    /// [`super::Observed`] is needed. Spec: E9.37
    pub fn needs_future(&self) -> Option<u32> {
        match self.score {
            Score::Expected(positions) if self.measures() => Some(positions),
            _ => None,
        }
    }

    /// The rows that may be evicted, ascending. Spec: D8.3, D9.5
    pub fn candidates(&self, roles: &Roles) -> Vec<usize> {
        match self.scope {
            Scope::Visual => roles.visual(),
            Scope::All => (0..roles.len()).collect(),
        }
    }

    /// Whether each KV head has a kept set of its own. Spec: A8.2
    pub fn per_head(&self) -> bool {
        matches!(self.heads, Heads::Kv | Heads::KvMax)
    }

    /// Whether `received` of [`super::Observed`] is needed: all queries vote by the model's own causal attention, and
    /// only the sum of the votes matters. Spec: E9.1
    pub fn needs_received(&self) -> bool {
        let single = self.budget.reads_rows() || self.heads == Heads::KvMax || self.score == Score::TextWeighted;
        self.votes() && self.window == Window::AllQueries && self.causal() && !single
    }

    /// S: the number of kept sets of a layer with this many KV heads. Spec: A8.2
    pub(super) fn sets(&self, kv_heads: usize) -> usize {
        if self.per_head() { kv_heads } else { 1 }
    }

    /// Whether a vote sees only keys up to its own row. Spec: A8.3, A8.4
    pub(super) fn causal(&self) -> bool {
        self.mask == Mask::Causal || self.keys == Keys::Causal
    }
}
