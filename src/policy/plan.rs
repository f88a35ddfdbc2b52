//! The plan: the prompt rows that each KV head of each layer keeps, and the decisions behind them.

use super::{Policy, Split};
use crate::roles::Roles;
use crate::stage::{Site, Stage};
use ndarray::{Array1, Array2, ArrayD};

/// The entries that stay in the cache. Spec: D8.4, C8.4a, C8.4b, C8.4c
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Layer, KV head: the prompt rows that stay, ascending, text included.
    pub kept: Vec<Vec<Vec<usize>>>,
    /// n: rows of the prompt.
    pub rows: usize,
    /// The decisions behind it; none for [`Plan::full`].
    pub decisions: Option<Decisions>,
}

/// The decisions behind a plan, in the bundle's terms. Candidates are visual tokens under scope visual.
/// Spec: D8.4, C9.5b
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions {
    /// The policy that decided.
    pub policy: Policy,
    /// The scores of each layer: \[L\].
    pub layers: Vec<LayerScores>,
    /// Candidates kept per layer, by each kept set, or by a kept set in the mean (D9.7): \[L\]. Spec: E8.7
    pub budget: Vec<usize>,
    /// Layer, kept set: the candidates kept, ascending, counted 0 … N_c − 1.
    pub kept: Vec<Vec<Vec<usize>>>,
    /// The destination of each visual row before the decoder, \[n_v\]; empty if none are merged there. Spec: E9.35
    pub into: Vec<usize>,
}

/// The scores of one layer. They are small, so that queries and keys can be freed before the next layer.
///
/// S = 1 kept set, or one per KV head under `heads=kv`; N_c candidates (under scope visual the N_v visual tokens).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerScores {
    /// G: KV heads of the layer.
    pub kv_heads: usize,
    /// The prompt rows that voted: `[S][w]`, ascending. Spec: E8.2
    pub window: Vec<Vec<usize>>,
    /// I_v: [S, N_c], finite. Spec: E8.4
    pub importance: Array2<f64>,
    /// s_t, the mean over S. Spec: E8.5
    pub strength: f64,
    /// s_k before any clamp, the mean over S. Spec: E8.6, A8.6
    pub skewness: f64,
    /// What the budget rule reads off the attention rows: the density (E9.7), e to their entropy (E9.16) or the votes
    /// (E9.17); 1 under any other rule.
    pub spread: f64,
    /// The weights by which kept sets share the layer's budget: \[S\], 1 in the mean over the model. Spec: E9.22
    pub weights: Vec<f64>,
}

/// Values of a bundle tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Counts and rows.
    I64(ArrayD<i64>),
    /// Masks.
    U8(ArrayD<u8>),
    /// Importances and statistics.
    F64(ArrayD<f64>),
}

impl LayerScores {
    /// Importances, [1, N_c], that no window and no statistic stand behind.
    pub(crate) fn of(importance: Array2<f64>, kv_heads: usize) -> Self {
        LayerScores {
            kv_heads,
            window: vec![vec![]],
            importance,
            strength: 0.0,
            skewness: 0.0,
            spread: 1.0,
            weights: vec![1.0],
        }
    }
}

impl Plan {
    /// The plan that evicts nothing.
    pub fn full(roles: &Roles, layers: usize, kv_heads: usize) -> Self {
        let n = roles.len();
        Plan { kept: vec![vec![(0..n).collect(); kv_heads]; layers], rows: n, decisions: None }
    }

    /// Whether nothing is evicted.
    pub fn is_full(&self) -> bool {
        self.kept.iter().flatten().all(|rows| rows.len() == self.rows)
    }

    /// Entries kept over all layers and KV heads, text included.
    pub fn entries(&self) -> usize {
        self.kept.iter().flatten().map(Vec::len).sum()
    }

    /// The bundle's `policy.*` tensors with their stages, in causal order; empty for a plan without decisions.
    ///
    /// `window` is I64 \[w\], a U8 mask [G, n] under `heads=kv`; `importance` \[N_c\] or [G, N_c]; `kept` \[b\] or [G,
    /// b], or where heads have budgets of their own a U8 mask [G, N_c]; `strength`, `skewness` F64 \[L\]; `budget` I64 \[L\]
    /// or [L, G]. A score without attention has no window, and
    /// `position` and `random` have no importances.
    /// Spec: D8.4
    pub fn tensors(&self) -> Vec<(Stage, Values)> {
        let Some(d) = &self.decisions else { return vec![] };
        let per_head = d.policy.per_head();
        let mut out = Vec::new();
        if d.policy.measures() {
            for (l, scores) in d.layers.iter().enumerate() {
                let window = match per_head {
                    true => Values::U8(mask(&scores.window, self.rows).into_dyn()),
                    false => Values::I64(whole(&scores.window[0])),
                };
                if d.policy.votes() {
                    out.push((Stage::layer(Site::Window, l), window));
                }
                let importance = scores.importance.clone();
                let importance = if per_head { importance.into_dyn() } else { importance.row(0).to_owned().into_dyn() };
                out.push((Stage::layer(Site::Importance, l), Values::F64(importance)));
            }
            let of =
                |f: fn(&LayerScores) -> f64| Values::F64(d.layers.iter().map(f).collect::<Array1<f64>>().into_dyn());
            out.push((Stage::once(Site::Strength), of(|l| l.strength)));
            out.push((Stage::once(Site::Skewness), of(|l| l.skewness)));
        }
        out.push((Stage::once(Site::Budget), d.budgets()));
        for (l, sets) in d.kept.iter().enumerate() {
            let list = || Array2::from_shape_fn((sets.len(), sets[0].len()), |(g, i)| sets[g][i] as i64).into_dyn();
            let kept = match (&d.policy.split, per_head) {
                (Split::Ada { .. } | Split::Heads { .. }, _) => {
                    Values::U8(mask(sets, d.layers[l].importance.ncols()).into_dyn())
                }
                (Split::Even, true) => Values::I64(list()),
                (Split::Even, false) => Values::I64(whole(&sets[0])),
            };
            out.push((Stage::layer(Site::Kept, l), kept));
        }
        out
    }
}

impl Decisions {
    /// The stage `policy.budget`: \[L\], or [L, G] where the heads of a layer have budgets of their own. Spec: D9.7, C9.7a
    pub(crate) fn budgets(&self) -> Values {
        match self.policy.split {
            Split::Even => Values::I64(whole(&self.budget)),
            Split::Ada { .. } | Split::Heads { .. } => {
                let heads = self.kept.first().map_or(0, Vec::len);
                let of = |(l, g): (usize, usize)| self.kept[l][g].len() as i64;
                Values::I64(Array2::from_shape_fn((self.kept.len(), heads), of).into_dyn())
            }
        }
    }
}

fn whole(values: &[usize]) -> ArrayD<i64> {
    values.iter().map(|&v| v as i64).collect::<Array1<i64>>().into_dyn()
}

fn mask(sets: &[Vec<usize>], n: usize) -> Array2<u8> {
    let mut mask = Array2::zeros((sets.len(), n));
    for (g, rows) in sets.iter().enumerate() {
        rows.iter().for_each(|&r| mask[[g, r]] = 1);
    }
    mask
}
