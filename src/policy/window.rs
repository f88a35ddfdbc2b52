//! Who votes: the text that counts, the rows whose queries must be kept, and the elite.

use super::attend::Panel;
use super::{Heads, Observed, Policy, Scope, Score, Scorer, Text, Window};
use crate::error::{Error, Result, ensure};
use crate::num::{Grid, Real};
use crate::roles::Roles;
use ndarray::s;

/// The prompt as a policy sees it. Spec: D8.3, D9.1, C9.1a, A8.11, A8.12
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// n: prompt rows.
    pub n: usize,
    /// Rows that may be evicted, ascending. Empty where the prompt has no visual row (A8.13).
    pub candidates: Vec<usize>,
    /// Rows whose queries must be observed, ascending: all the rows that may turn out to vote.
    pub rows: Vec<usize>,
}

impl Sight {
    /// # Errors
    /// Where the window needs text that the prompt does not have (A8.13).
    pub fn new(policy: &Policy, roles: &Roles) -> Result<Self> {
        let visual = roles.visual();
        let n = roles.len();
        if visual.is_empty() {
            return Ok(Sight { n, candidates: vec![], rows: vec![] });
        }
        let rows = if !policy.votes() {
            vec![]
        } else {
            match policy.window {
                Window::AllQueries if !policy.needs_received() => (0..n).collect(),
                Window::Nobody | Window::AllQueries => vec![],
                Window::Last(w) => (n.saturating_sub(w)..n).collect(),
                Window::LastVisual(w) => visual[visual.len().saturating_sub(w)..].to_vec(),
                Window::LastText(w) => {
                    let text = counted(policy.text, roles)?;
                    text[text.len().saturating_sub(w)..].to_vec()
                }
                Window::AllText | Window::Elite { .. } => counted(policy.text, roles)?,
            }
        };
        let candidates = match policy.scope {
            Scope::Visual => visual,
            Scope::All => (0..n).collect(),
        };
        Ok(Sight { n, candidates, rows })
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
        Text::After => "text after the last visual token, which judges the visual ones",
        Text::All => "a text token in the prompt",
        Text::Question { .. } => "a question between the last visual token and the template's tail",
    };
    ensure!(!rows.is_empty(), "policy: text", expected, "none", "put the question after the image, or use text=all");
    Ok(rows)
}

/// The windows of one layer: \[S\]\[w\], S = 1, or G under `heads=kv`. Each ascending, none empty. Spec: E8.1, E8.2, A8.2
///
/// # Errors
/// NaN in the attention among the text.
pub(super) fn select<T: Real>(scorer: &Scorer, layer: usize, seen: &Observed<'_, T>) -> Result<Vec<Vec<usize>>> {
    let (policy, sight) = (&scorer.policy, &scorer.sight);
    let kv_heads = seen.k.shape()[0];
    let sets = if policy.heads == Heads::Kv { kv_heads } else { 1 };
    let alpha = match policy.window {
        Window::Elite { alpha } if policy.votes() => alpha,
        Window::AllQueries if policy.votes() => return Ok(vec![(0..sight.n).collect(); sets]),
        _ => return Ok(vec![sight.rows.clone(); sets]),
    };
    let text = &sight.rows;
    let sets = attention(scorer, seen).into_iter().map(|att| {
        let chosen = elite(&att, T::of(alpha));
        ensure!(!chosen.is_empty(), format!("layer {layer}: attention of the last text row"), "finite numbers", "NaN");
        Ok(chosen.into_iter().map(|j| text[j]).collect())
    });
    let sets = sets.collect::<Result<Vec<Vec<usize>>>>()?;
    if policy.heads != Heads::Union {
        return Ok(sets);
    }
    let mut all = sets.concat();
    all.sort_unstable();
    all.dedup();
    Ok(vec![all])
}

/// The rows of Att that elites are read off, averaged over the heads that share one: \[A\]\[N_t\], A = 1, or G under
/// `heads=kv`, or H under `heads=union`. Spec: E8.1, A8.2
pub(super) fn attention<T: Real>(scorer: &Scorer, seen: &Observed<'_, T>) -> Vec<Vec<T>> {
    let att = text_attention(&scorer.sight.rows, seen, scorer.grid);
    let mean = |heads: &[Vec<T>]| {
        let mut mean = vec![T::ZERO; scorer.sight.rows.len()];
        for row in heads {
            mean.iter_mut().zip(row).for_each(|(m, &a)| *m += a);
        }
        let count = T::of(heads.len() as f64);
        mean.iter_mut().for_each(|m| *m = *m / count);
        mean
    };
    match scorer.policy.heads {
        Heads::Mean => vec![mean(&att)],
        Heads::Kv => att.chunks(seen.group()).map(mean).collect(),
        Heads::Union => att.chunks(1).map(mean).collect(),
    }
}

/// The last row of Att, the softmax over the text keys alone: [H][N_t]. Spec: E8.1
// ANCHOR: text_attention
fn text_attention<T: Real>(text: &[usize], seen: &Observed<'_, T>, grid: Grid) -> Vec<Vec<T>> {
    let mut att = Vec::with_capacity(seen.q.shape()[0]);
    for g in 0..seen.k.shape()[0] {
        let panel = Panel::new(seen.k.slice(s![g, .., ..]), text.to_vec(), grid);
        for h in g * seen.group()..(g + 1) * seen.group() {
            let mut p = vec![T::ZERO; text.len()];
            panel.attend(&seen.query(h, text[text.len() - 1]), text.len(), &mut p);
            att.push(p);
        }
    }
    att
}
// ANCHOR_END: text_attention

/// The elite of a row of attention: the entries that reach α times the largest, ascending. Spec: E8.2, C8.2b
///
/// ```
/// assert_eq!(aircache::policy::elite(&[0.5, 0.05, 0.45], 0.9), [0, 2]);
/// ```
// ANCHOR: elite
pub fn elite<T: Real>(att: &[T], alpha: T) -> Vec<usize> {
    let max = att.iter().copied().fold(T::NEG_INFINITY, T::max);
    (0..att.len()).filter(|&j| att[j] >= alpha * max).collect()
}
// ANCHOR_END: elite

impl Policy {
    /// Whether importances come from attention.
    pub fn votes(&self) -> bool {
        self.budget != super::Budget::Full && !matches!(self.score, Score::Position | Score::Random(_))
    }
}
