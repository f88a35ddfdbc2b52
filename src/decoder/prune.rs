//! Pruning before the decoder and inside prefill: the rows of a prompt that are left, and the step before a layer that
//! drops others. Not here: how votes are computed and which rows win them.

use crate::cache::{Cache, HeadCache};
use crate::error::Result;
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::policy::{
    Cut, NOWHERE, Policy, Rater, above_mean, best, keyed, relevance, spread, unmerged, votes_of_raters, zip,
};
use crate::roles::Roles;
use crate::stage::{Site, Stage};
use ndarray::{Array1, Array2, Array3, ArrayView2};

/// What a policy drops from a prompt before the decoder and inside prefill, and what was dropped so far. Spec: D9.9,
/// D9.10
#[derive(Debug, Clone)]
pub struct Pruning<T> {
    /// The cuts, layers ascending.
    pub cuts: Vec<Cut>,
    /// The cuts that were made.
    pub made: Vec<Made>,
    /// The text rows that may rate, ascending; empty if none is asked to. Spec: E9.33
    text: Vec<usize>,
    /// The text rows that rate, ascending. Spec: E9.33
    pub raters: Vec<usize>,
    /// The rows that rate before the next cut: the place of each among the rows that are left, and its query in the layer
    /// before the cut, \[H·d_h\].
    asked: Vec<(usize, Vec<T>)>,
    /// How the visual rows were rated before the decoder.
    rated: Option<Rated>,
    /// The destination of each visual row before the decoder, \[n_v\]; empty if none are merged. Spec: E9.35
    pub into: Vec<usize>,
    /// The prompt rows that contextual rows take the place of, and these rows, [targets, d]. Spec: E9.36
    contextual: Option<(Vec<usize>, Array2<T>)>,
}

/// The rating of visual rows before the decoder.
#[derive(Debug, Clone)]
struct Rated {
    /// One number for each visual row. Spec: E9.30, E9.31, E9.32
    votes: Vec<f64>,
    /// The visual rows that stay. Spec: E9.20, E9.32, E9.35
    chosen: Vec<usize>,
}

/// What is known of the visual rows before the decoder.
pub struct Told<'a, T> {
    /// The visual rows: [n_v, d].
    pub rows: ArrayView2<'a, T>,
    /// What rows of the vision tower give to each of them: \[n_v\]; empty if none rate.
    pub votes: &'a [T],
    /// Their keys: [n_v, d_h]; no columns if nobody asks for them.
    pub metric: ArrayView2<'a, T>,
}

/// A cut that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// K: the first layer that does not see the dropped rows.
    pub layer: usize,
    /// The visual rows before the cut, and the vote of each of them. Spec: E9.19, E9.30–E9.32
    pub votes: Vec<(usize, f64)>,
    /// The prompt rows that are left, ascending. Spec: E9.20
    pub rows: Vec<usize>,
}

impl<T: Real> Pruning<T> {
    /// No cuts.
    pub const NONE: Self = Pruning {
        cuts: Vec::new(),
        made: Vec::new(),
        text: Vec::new(),
        raters: Vec::new(),
        asked: Vec::new(),
        rated: None,
        into: Vec::new(),
        contextual: None,
    };

    /// What the policies drop from a prompt in a decoder of `layers` layers.
    ///
    /// # Errors
    /// A cut does not fit the layers; no text row could rate; another policy shares the prefill with one that drops rows.
    pub fn of(policies: &[Policy], layers: usize, roles: &Roles) -> Result<Self> {
        let Some(policy) = policies.iter().find(|policy| policy.prunes()) else { return Ok(Self::NONE) };
        crate::error::ensure!(
            policies.iter().all(|other| other == policy),
            "policy: prune",
            "a prefill of its own: rows that it drops are missing for other policies",
            format!("{} policies", policies.len())
        );
        let cuts = policy.prune.cuts(layers, roles.visual().len())?;
        let asks = cuts.iter().any(|cut| cut.by == Rater::Text);
        let text = if asks { policy.counted(roles)? } else { vec![] };
        Ok(Pruning { cuts, text, ..Self::NONE })
    }

    /// Who rates the visual rows before the decoder, if some are dropped there.
    pub fn rater(&self) -> Option<Rater> {
        self.cuts.first().filter(|cut| cut.layer == 0).map(|cut| cut.by)
    }

    /// Chooses the visual rows that enter the decoder, if some are dropped before it. merge: makes the contextual rows,
    /// [targets, d], of the destination of each visual row. Spec: E9.30, E9.31, E9.32, E9.35, R9.32
    pub fn rate(
        &mut self,
        pass: &mut Pass<'_, T>,
        roles: &Roles,
        told: Told<'_, T>,
        merge: impl FnOnce(&Pass<'_, T>, &[usize]) -> Array2<T>,
    ) {
        let Some(cut) = self.cuts.first().copied().filter(|cut| cut.layer == 0) else { return };
        let (votes, far) = match cut.by {
            Rater::Diverse => {
                let (votes, chosen) = spread(told.rows, cut.keep, pass.grid);
                (votes, Some(chosen))
            }
            _ => (told.votes.to_vec(), None),
        };
        let votes = pass.show(Stage::layer(Site::Votes, 0), Array1::from(votes));
        let votes: Vec<f64> = votes.iter().map(|v| v.to_f64()).collect();
        let chosen = match cut.by {
            Rater::Zip => self.zip(pass, roles, (&votes, told.metric), cut.keep, merge),
            _ => far.unwrap_or_else(|| best(&votes, cut.keep)), // E9.20
        };
        self.rated = Some(Rated { votes, chosen });
    }

    /// Decides where each visual row goes, and makes the contextual rows; returns the visual rows that stay.
    /// Spec: E9.35, E9.36, C9.12c
    fn zip(
        &mut self,
        pass: &mut Pass<'_, T>,
        roles: &Roles,
        (votes, metric): (&[f64], ArrayView2<'_, T>),
        keep: usize,
        merge: impl FnOnce(&Pass<'_, T>, &[usize]) -> Array2<T>,
    ) -> Vec<usize> {
        let metric = pass.show(Stage::layer(Site::Metric, 0), metric.to_owned());
        let own = zip(votes, metric.view(), keep, pass.grid); // E9.35
        let keyed = keyed(metric.view());
        let stay = |into: &[usize]| unmerged(votes, &keyed, into, keep);
        let fits = |into: &Vec<usize>| {
            let goes = |&v: &usize| into.get(v).is_some_and(|&target| into[target] == target);
            let known = into.len() == votes.len() && into.iter().filter(|&&v| v != NOWHERE).all(goes);
            known && stay(into).len() == keep
        };
        self.into = pass.rows(Stage::layer(Site::Into, 0), &own).filter(fits).unwrap_or(own);
        let rows = pass.put(Stage::layer(Site::Merged, 0), merge(pass, &self.into)); // E9.36
        let visual = roles.visual();
        let targets = (0..visual.len()).filter(|&v| self.into[v] == v).map(|v| visual[v]).collect();
        self.contextual = Some((targets, rows));
        stay(&self.into)
    }

    /// Puts the contextual rows into their places. x: [n′, d], the rows that enter the decoder; left: their prompt rows.
    /// Spec: E9.36, C9.12a, A9.13
    pub(super) fn fill(&mut self, x: &mut Array2<T>, left: &[usize]) {
        let Some((targets, rows)) = self.contextual.take() else { return };
        for (target, row) in targets.iter().zip(rows.outer_iter()) {
            if let Ok(i) = left.binary_search(target) {
                x.row_mut(i).assign(&row);
            }
        }
    }

    /// Chooses the text rows that rate, if some are asked to. x: [n, d], merged embeddings. Spec: C9.11a, E9.33, R9.33, A9.14
    pub fn choose_raters(&mut self, pass: &mut Pass<'_, T>, roles: &Roles, x: ArrayView2<'_, T>) {
        if self.text.is_empty() {
            return;
        }
        let grid = if pass.way.fused { Grid::Native } else { pass.grid };
        let found = relevance(x, &roles.visual(), &self.text, grid);
        let found = pass.show(Stage::once(Site::Relevance), Array1::from(found));
        let found: Vec<f64> = found.iter().map(|v| v.to_f64()).collect();
        let own: Vec<usize> = above_mean(&found).into_iter().map(|i| self.text[i]).collect();
        let fits = |rows: &Vec<usize>| {
            let known = rows.iter().all(|row| self.text.binary_search(row).is_ok());
            known && !rows.is_empty() && rows.windows(2).all(|r| r[0] < r[1])
        };
        self.raters = pass.rows(Stage::once(Site::Raters), &own).filter(fits).unwrap_or(own);
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

    /// Keeps the queries of the rows that rate, where the next layer begins with a cut. cached: the number of rows that came
    /// before; q: [rows, H·d_h].
    pub(super) fn see(&mut self, layer: usize, cached: usize, q: ArrayView2<'_, T>) {
        let Some(cut) = self.cuts.get(self.made.len()).filter(|cut| cut.layer == layer + 1) else { return };
        let rates = |i: usize| match cut.by {
            Rater::Text => self.raters.binary_search(&self.row(cached + i)).is_ok(),
            _ => i + 1 == q.nrows(),
        };
        let seen = (0..q.nrows()).filter(|&i| rates(i)).map(|i| (cached + i, q.row(i).to_vec())).collect();
        if cut.by == Rater::Text && cached > 0 { self.asked.extend::<Vec<_>>(seen) } else { self.asked = seen }
    }

    /// What the rows that rate give to each row in the layer before a cut. Spec: E9.19, E9.34, R9.19, R9.34
    fn votes(&self, pass: &Pass<'_, T>, cache: &Cache<T>, layer: usize, head_dim: usize) -> Vec<T> {
        let keys: Vec<Array2<T>> = cache.layers[layer - 1].iter().map(HeadCache::keys).collect();
        let k = Array3::from_shape_fn((keys.len(), keys[0].nrows(), head_dim), |(g, i, j)| keys[g][[i, j]]);
        let heads = self.asked[0].1.len() / head_dim;
        let query = |(h, i, j): (usize, usize, usize)| self.asked[i].1[h * head_dim + j];
        let q = Array3::from_shape_fn((heads, self.asked.len(), head_dim), query);
        let seen: Vec<usize> = self.asked.iter().map(|(place, _)| place + 1).collect();
        // An implementation that does not store its attention does not store votes either.
        let grid = if pass.way.fused { Grid::Native } else { pass.grid };
        votes_of_raters(q.view(), &seen, k.view(), grid)
    }

    /// Makes the cut before a layer, if there is one: returns the indices, among the `left` rows that were left before,
    /// of the rows that are left now. Spec: E9.19, E9.20, C9.9a
    pub(super) fn cut(
        &mut self,
        pass: &mut Pass<'_, T>,
        (cache, roles): (&Cache<T>, &Roles),
        (layer, left): (usize, usize),
        head_dim: usize,
    ) -> Option<Vec<usize>> {
        let cut = *self.cuts.get(self.made.len()).filter(|cut| cut.layer == layer)?;
        let is_visual = |i: &usize| roles.0[self.row(*i)] == crate::Role::Visual;
        let visual: Vec<usize> = (0..left).filter(is_visual).collect();
        let Rated { votes: of_visual, chosen: kept } = match self.rated.take() {
            Some(rated) => rated, // E9.30–E9.32, E9.35
            None if layer == 0 => unreachable!("D9.10: visual rows are rated before the decoder"),
            None => {
                let all = self.votes(pass, cache, layer, head_dim); // E9.19, E9.34
                let votes: Array1<T> = visual.iter().map(|&i| all[i]).collect();
                let votes = pass.show(Stage::layer(Site::Votes, layer), votes);
                let votes: Vec<f64> = votes.iter().map(|v| v.to_f64()).collect();
                Rated { chosen: best(&votes, cut.keep), votes } // E9.20
            }
        };
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
