//! A policy at work on one prompt: it observes each layer, then divides the budgets, then chooses kept sets. A replay
//! starts at any of these steps, from the decisions of a candidate.

use super::sight::Sight;
use super::{Decisions, LayerScores, Observed, Plan, Policy, Retain, Window, budget, keep, score, split, window};
use crate::error::{Result, ensure};
use crate::num::{Grid, Real};
use crate::roles::Roles;
use ndarray::Array2;

/// A policy at work on one prompt, layer by layer: observe each layer, free its queries and keys, then decide. One
/// observation serves any number of retentions. Spec: D8.1
#[derive(Debug, Clone)]
pub struct Scorer {
    sight: Sight,
}

impl Scorer {
    /// The scorer of a policy for a prompt.
    ///
    /// # Errors
    /// Parts do not fit together; the window needs text, but the prompt has no text that counts (A8.13).
    pub fn new(policy: &Policy, roles: &Roles) -> Result<Self> {
        policy.check()?;
        Ok(Scorer { sight: Sight::new(policy, roles)? })
    }

    /// The same scorer, which stores scores and weights in a GPU's type, as an implementation in that type may.
    /// Spec: R10.5
    pub fn storing(self, grid: Grid) -> Self {
        Scorer { sight: Sight { grid, ..self.sight } }
    }

    /// The prompt rows whose queries must be observed, ascending.
    pub fn rows(&self) -> &[usize] {
        &self.sight.rows
    }

    /// The scores of layer `layer`.
    ///
    /// # Errors
    /// Shapes that do not fit, queries that are missing, NaN.
    pub fn observe<T: Real>(&self, layer: usize, seen: &Observed<'_, T>) -> Result<LayerScores> {
        score::score(&self.sight, layer, seen, None)
    }

    /// As [`observe`](Self::observe), through this window, \[S\]\[w\], instead of the policy's own window. Spec: D10.7
    ///
    /// # Errors
    /// As [`observe`](Self::observe); the window is no set of rows that may vote, or the number of windows is wrong.
    pub fn observe_through<T: Real>(
        &self,
        layer: usize,
        seen: &Observed<'_, T>,
        window: Vec<Vec<usize>>,
    ) -> Result<LayerScores> {
        let sets = self.sight.policy.sets(seen.k.shape()[0]);
        let votes = |w: &Vec<usize>| !w.is_empty() && w.iter().all(|r| seen.rows.binary_search(r).is_ok());
        let fits = window.len() == sets && (window.iter().all(votes) || self.sight.candidates.is_empty());
        ensure!(fits, format!("layer {layer}: window"), format!("{sets} sets of rows that may vote"), "others");
        score::score(&self.sight, layer, seen, Some(window))
    }

    /// The attention from which an elite is chosen: \[A\]\[N_t\] over the text rows that count, A = 1, or G under
    /// `heads=kv`, or H under `heads=union`; none for other windows. Spec: E8.1
    ///
    /// # Errors
    /// Shapes that do not fit, queries that are missing.
    pub fn text_attention<T: Real>(&self, layer: usize, seen: &Observed<'_, T>) -> Result<Option<Array2<f64>>> {
        seen.check(layer, self.sight.n, &self.sight.rows)?;
        let elite = matches!(self.sight.policy.window, Window::Elite { .. });
        if !elite || !self.sight.policy.votes() || self.sight.candidates.is_empty() {
            return Ok(None);
        }
        let rows = window::attention(&self.sight, seen);
        Ok(Some(Array2::from_shape_fn((rows.len(), self.sight.rows.len()), |(a, j)| rows[a][j].to_f64())))
    }

    /// How many candidates each layer keeps: \[L\]. Spec: E8.7, C9.4b
    pub fn budget(&self, retain: Retain, layers: &[LayerScores]) -> Vec<usize> {
        let Sight { policy, rows, candidates, .. } = &self.sight;
        let n = candidates.len();
        let voters: Vec<usize> = match policy.window {
            Window::AllQueries => (0..n).collect(),
            _ => rows.iter().filter_map(|r| candidates.binary_search(r).ok()).collect(),
        };
        let more = keep::on_top(&policy.keep, &voters, n);
        let budgets = budget::budgets(policy.budget, retain, layers, n);
        budgets.into_iter().map(|b| (b + more).min(n)).collect()
    }

    /// The plan, from the scores of all layers, in order.
    ///
    /// # Panics
    /// `layers` come from another prompt or policy (D8.4).
    /// Spec: E8.7, D8.4
    pub fn decide(&self, retain: Retain, layers: &[LayerScores]) -> Plan {
        self.keep(self.budget(retain, layers), layers)
    }

    /// The plan for these budgets \[L\].
    ///
    /// # Panics
    /// As [`decide`](Self::decide).
    /// Spec: E9.8, D8.4
    pub fn keep(&self, budget: Vec<usize>, layers: &[LayerScores]) -> Plan {
        let candidates = &self.sight.candidates;
        let kept: Vec<Vec<Vec<usize>>> = layers
            .iter()
            .zip(&budget)
            .map(|(layer, &b)| {
                let voters = |rows: &Vec<usize>| rows.iter().filter_map(|r| candidates.binary_search(r).ok()).collect();
                split::kept(&self.sight.policy, layer, &layer.window.iter().map(voters).collect::<Vec<_>>(), b)
            })
            .collect();
        Plan {
            kept: layers.iter().zip(&kept).map(|(layer, sets)| self.rows_kept(sets, layer.kv_heads)).collect(),
            rows: self.sight.n,
            decisions: Some(Decisions {
                policy: self.sight.policy.clone(),
                layers: layers.to_vec(),
                budget,
                kept,
                into: vec![],
            }),
        }
    }
}

impl Scorer {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.sight.policy
    }

    /// The rows that may be evicted, ascending: \[N_c\].
    pub fn candidates(&self) -> &[usize] {
        &self.sight.candidates
    }

    /// The prompt rows that each KV head of a layer keeps. sets: the layer's kept candidates, one set, or one for each
    /// KV head.
    ///
    /// # Panics
    /// A kept candidate is out of range (D8.4).
    pub fn rows_kept(&self, sets: &[Vec<usize>], kv_heads: usize) -> Vec<Vec<usize>> {
        let (n, candidates) = (self.sight.n, &self.sight.candidates);
        let rows: Vec<Vec<usize>> = sets.iter().map(|kept| staying(n, candidates, kept)).collect();
        if rows.len() == kv_heads { rows } else { vec![rows[0].clone(); kv_heads] }
    }
}

/// The prompt rows that stay: the kept candidates, and all rows that are no candidates.
fn staying(n: usize, candidates: &[usize], kept: &[usize]) -> Vec<usize> {
    let mut stays = vec![true; n];
    candidates.iter().for_each(|&row| stays[row] = false);
    kept.iter().for_each(|&i| stays[candidates[i]] = true);
    (0..n).filter(|&row| stays[row]).collect()
}
