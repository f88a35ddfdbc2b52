//! Policies: which entries of the visual KV cache stay. AirCache, the methods it is compared with, and every mixture of
//! them.
//!
//! A [`Policy`] is plain data: who votes ([`Window`]), how votes become importances ([`Score`]), how layers share the
//! total ([`Budget`]), which candidates are always kept ([`Keep`]), which rows may be evicted ([`Scope`]), and the
//! readings that the paper leaves open. [`presets`] names the known policies. No code here knows a model: it reads
//! queries, keys and roles, and returns a [`Plan`], at once ([`compress`]) or layer by layer ([`Scorer`]). Layer by
//! layer, only one layer's queries and keys are in memory, although all layers share the budgets.
//!
//! Spec: chapters 08 (AirCache) and 09 (the other methods).

mod apportion;
mod attend;
mod budget;
mod decimal;
mod expected;
mod future;
mod heads;
mod keep;
mod method;
mod observed;
mod parts;
mod plan;
mod preset;
mod presets;
mod prune;
mod pruning;
mod rater;
mod retain;
mod score;
mod scorer;
mod sight;
mod split;
mod stats;
mod stored;
mod text;
mod unit;
mod window;
mod written;
mod zip;

pub use apportion::apportion;
pub use decimal::Decimal;
pub(crate) use future::mean_rotation;
pub use future::{Future, Moments, SINKS};
pub use heads::HeadScores;
pub use keep::ranking;
pub use method::Policy;
pub use observed::{Observed, received};
pub use parts::{Budget, Evict, Heads, Keep, Keys, Mask, Scope, Score, Split, Text, Window};
pub use plan::{Decisions, LayerScores, Plan, Values};
pub use preset::Preset;
pub use presets::{preset, presets};
pub use prune::{Cut, Prune, above_mean, best};
pub use rater::{Directions, Farthest, Rate, Rater, relevance, spread, votes, votes_of_raters, votes_of_rows};
pub use retain::Retain;
pub use scorer::Scorer;
pub(crate) use stats::over_sets;
pub use stats::{skewness, strength};
pub use window::elite;
pub use zip::{NOWHERE, contextual, destinations, keyed, merged, targets, unmerged, zip};

use crate::error::Result;
use crate::num::Real;
use crate::roles::Roles;

/// Decides which entries stay, from the observations of all layers. seen: \[L\].
///
/// If not all layers fit in memory, use [`Scorer`].
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
/// let seen = Observed { q: q.view(), rows: &[3], k: k.view(), received: None, v: None, future: None };
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
