//! Pruning inside prefill: the rows of a prompt that are left, and the step between two layers that drops others. Not
//! here: how votes are computed and which rows win them.

use crate::cache::{Cache, HeadCache};
use crate::error::Result;
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::policy::{Cut, Policy, best, votes};
use crate::roles::Roles;
use crate::stage::{Site, Stage};
use ndarray::{Array1, Array2, Array3, ArrayView1};

/// What a policy drops from a prompt inside prefill, and what was dropped so far. Spec: D9.9
#[derive(Debug, Clone)]
pub struct Pruning<T> {
    /// The cuts, layers ascending.
    pub cuts: Vec<Cut>,
    /// The cuts that were made.
    pub made: Vec<Made>,
    /// The query of the prompt's last row in the layer before the next cut: \[H·d_h\].
    query: Vec<T>,
}

/// A cut that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// K: the first layer that does not see the dropped rows.
    pub layer: usize,
    /// The visual rows before the cut, and what the last row gave to each of them. Spec: E9.19
    pub votes: Vec<(usize, f64)>,
    /// The prompt rows that are left, ascending. Spec: E9.20
    pub rows: Vec<usize>,
}

impl<T: Real> Pruning<T> {
    /// No cuts.
    pub const NONE: Self = Pruning { cuts: Vec::new(), made: Vec::new(), query: Vec::new() };

    /// What the policies drop from a prompt in a decoder of `layers` layers.
    ///
    /// # Errors
    /// A cut does not fit the layers; another policy shares the prefill with one that drops rows.
    pub fn of(policies: &[Policy], layers: usize, roles: &Roles) -> Result<Self> {
        let Some(policy) = policies.iter().find(|policy| policy.prunes()) else { return Ok(Self::NONE) };
        crate::error::ensure!(
            policies.iter().all(|other| other == policy),
            "policy: prune",
            "a prefill of its own: rows that it drops are missing for other policies",
            format!("{} policies", policies.len())
        );
        Ok(Pruning { cuts: policy.prune.cuts(layers, roles.visual().len())?, ..Self::NONE })
    }

    /// The prompt rows that layer `layer` sees; none if it sees all. Spec: C9.9b
    pub fn rows(&self, layer: usize) -> Option<&[usize]> {
        let made = self.made.iter().rev().find(|made| made.layer <= layer)?;
        Some(&made.rows)
    }

    /// The number of a prompt's n rows that layer `layer` will see.
    pub(super) fn count(&self, layer: usize, roles: &Roles, n: usize) -> usize {
        let cut = self.cuts.iter().rev().find(|cut| cut.layer <= layer);
        cut.map_or(n, |cut| n - roles.visual().len() + cut.keep)
    }

    /// The prompt row of the i-th row that is left.
    pub(super) fn row(&self, i: usize) -> usize {
        self.made.last().map_or(i, |made| made.rows[i])
    }

    /// Keeps the query of the last row so far, \[H·d_h\], where the next layer begins with a cut.
    pub(super) fn see(&mut self, layer: usize, last: ArrayView1<'_, T>) {
        if self.cuts.get(self.made.len()).is_some_and(|cut| cut.layer == layer + 1) {
            self.query = last.to_vec();
        }
    }

    /// Makes the cut before a layer, if there is one: returns the indices, among the rows that were left before, of the
    /// rows that are left now. Spec: E9.19, E9.20, C9.9a, R9.19
    pub(super) fn cut(
        &mut self,
        pass: &mut Pass<'_, T>,
        (cache, roles): (&Cache<T>, &Roles),
        layer: usize,
        head_dim: usize,
    ) -> Option<Vec<usize>> {
        let cut = *self.cuts.get(self.made.len()).filter(|cut| cut.layer == layer)?;
        let keys: Vec<Array2<T>> = cache.layers[layer - 1].iter().map(HeadCache::keys).collect();
        let left = keys[0].nrows();
        let k = Array3::from_shape_fn((keys.len(), left, head_dim), |(g, i, j)| keys[g][[i, j]]);
        let q = Array2::from_shape_fn((self.query.len() / head_dim, head_dim), |(h, j)| self.query[h * head_dim + j]);
        // An implementation that does not store its attention does not store votes either.
        let grid = if pass.way.fused { Grid::Native } else { pass.grid };
        let all = votes(q.view(), k.view(), grid); // E9.19
        let is_visual = |i: &usize| roles.0[self.row(*i)] == crate::Role::Visual;
        let visual: Vec<usize> = (0..left).filter(is_visual).collect();
        let of_visual: Array1<T> = visual.iter().map(|&i| all[i]).collect();
        let of_visual = pass.show(Stage::layer(Site::Votes, layer), of_visual);
        let of_visual: Vec<f64> = of_visual.iter().map(|v| v.to_f64()).collect();

        let kept = best(&of_visual, cut.keep); // E9.20
        let mut stays = vec![true; left];
        visual.iter().for_each(|&i| stays[i] = false);
        kept.iter().for_each(|&v| stays[visual[v]] = true);
        let before: Vec<usize> = (0..left).map(|i| self.row(i)).collect();
        let own: Vec<usize> = (0..left).filter(|&i| stays[i]).map(|i| before[i]).collect();
        let text = |rows: &[usize]| rows.iter().filter(|&&row| roles.0[row] == crate::Role::Text).count();
        let fits = |rows: &Vec<usize>| {
            let known =
                rows.windows(2).all(|r| r[0] < r[1]) && rows.iter().all(|row| before.binary_search(row).is_ok());
            known && text(rows) == text(&before) && rows.last() == before.last()
        };
        let rows = pass.rows(Stage::layer(Site::Rows, layer), &own).filter(fits).unwrap_or(own);
        let indices = rows.iter().map(|row| before.binary_search(row)).collect::<std::result::Result<_, _>>();
        let votes = visual.iter().map(|&i| before[i]).zip(of_visual).collect();
        self.made.push(Made { layer, votes, rows });
        Some(indices.unwrap_or_else(|_| unreachable!("C9.9a: rows that were left before")))
    }
}
