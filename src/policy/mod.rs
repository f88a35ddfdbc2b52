//! Policies: which entries of the visual KV cache stay. AirCache, the methods it is compared with, and every mixture.
//!
//! A [`Policy`] is plain data: who votes ([`Window`]), how votes become importances ([`Score`]), how layers share the
//! total ([`Budget`]), what is always kept ([`Keep`]), what may be evicted ([`Scope`]), and the readings that the paper
//! leaves open. [`presets`] names the known ones. Nothing here knows a model: queries, keys and roles go in, a [`Plan`]
//! comes out, either at once ([`compress`]) or layer by layer ([`Scorer`]), so that only one layer's queries and keys
//! need to be in memory although the budgets are shared over all.
//!
//! Spec: chapters 08 (AirCache) and 09 (the other methods).

mod apportion;
mod attend;
mod budget;
mod decimal;
mod keep;
mod observed;
mod parts;
mod plan;
mod presets;
mod retain;
mod score;
mod scorer;
mod stats;
mod text;
mod window;
mod written;

pub use apportion::apportion;
pub use decimal::Decimal;
pub use keep::ranking;
pub use observed::{Observed, received};
pub use parts::{Budget, Heads, Keep, Keys, Mask, Scope, Score, Text, Window};
pub use plan::{Decisions, Plan, Values};
pub use presets::{Preset, preset, presets};
pub use retain::Retain;
pub use score::LayerScores;
pub use scorer::Scorer;
pub(crate) use stats::over_sets;
pub use stats::{skewness, strength};
pub use window::elite;

use crate::error::{Result, ensure};
use crate::num::Real;
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
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(into = "text::Form", try_from = "text::Form")]
pub struct Policy {
    /// Who judges.
    pub window: Window,
    /// How votes become importances.
    pub score: Score,
    /// How the layers share the total.
    pub budget: Budget,
    /// What is always kept.
    pub keep: Keep,
    /// What may be evicted.
    pub scope: Scope,
    /// Which text counts (A8.1).
    pub text: Text,
    /// What becomes of the heads (A8.2).
    pub heads: Heads,
    /// What votes are normalised over (A8.4).
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

    /// Whether the parts go together and their numbers are in range. Spec: C9.6b
    ///
    /// # Errors
    /// Naming the part that does not fit.
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
    /// Where the window is not the elite, or α is not in 0 … 1.
    pub fn with_alpha(mut self, alpha: f64) -> Result<Self> {
        ensure!(matches!(self.window, Window::Elite { .. }), "alpha", "a policy whose window is elite", self.window);
        self.window = Window::Elite { alpha };
        self.check()?;
        Ok(self)
    }

    /// The same policy, told how many rows the chat template puts after the question; matters to `text=question` only.
    pub fn with_tail(mut self, tail: usize) -> Self {
        if self.text == (Text::Question { tail: None }) {
            self.text = Text::Question { tail: Some(tail) };
        }
        self
    }

    /// The prompt rows whose queries must be observed, ascending: few, unless the text is long.
    ///
    /// # Errors
    /// Where the window needs text that the prompt does not have (A8.13).
    pub fn rows(&self, roles: &Roles) -> Result<Vec<usize>> {
        Ok(window::Sight::new(self, roles)?.rows)
    }

    /// Whether `received` of [`Observed`] is needed: all queries vote by the model's own causal attention, and only the sum
    /// of their votes matters. Spec: E9.1
    pub fn needs_received(&self) -> bool {
        let single = matches!(self.budget, Budget::Sparsity { .. });
        self.votes() && self.window == Window::AllQueries && self.causal() && !single
    }

    /// Whether a vote sees only keys up to its own row. Spec: A8.3, A8.4
    fn causal(&self) -> bool {
        self.mask == Mask::Causal || self.keys == Keys::Causal
    }
}

/// Which entries stay, from what all layers observed. seen: \[L\].
///
/// Where not all layers fit in memory, use [`Scorer`].
///
/// # Errors
/// As [`Scorer::new`] and [`Scorer::observe`].
///
/// ```
/// use aircache::{Role, Roles, policy::{Observed, Policy, compress}};
/// use ndarray::Array3;
/// let roles = Roles(vec![Role::Text, Role::Visual, Role::Visual, Role::Text]);
/// // One head of size 1: the text asks for 1, visual token 1 offers it.
/// let q = Array3::from_shape_vec((1, 1, 1), vec![1.0])?;
/// let k = Array3::from_shape_vec((1, 4, 1), vec![0.0, 0.0, 1.0, 0.0])?;
/// let seen = Observed { q: q.view(), rows: &[3], k: k.view(), received: None };
/// let plan = compress(&Policy::AIRCACHE, "0.5".parse()?, &[seen], &roles)?;
/// assert_eq!(plan.kept, [[[0, 2, 3]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Spec: E8.1–E8.7
pub fn compress<T: Real>(policy: &Policy, retain: Retain, seen: &[Observed<'_, T>], roles: &Roles) -> Result<Plan> {
    let scorer = Scorer::new(policy, roles)?;
    let layers = seen.iter().enumerate().map(|(l, seen)| scorer.observe(l, seen)).collect::<Result<Vec<_>>>()?;
    Ok(scorer.decide(retain, &layers))
}
