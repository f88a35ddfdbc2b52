//! The queries and keys of a layer that a policy sees, and the attention that keys receive from all queries, for
//! methods that need it.

use super::Future;
use super::attend::PackedKeys;
use crate::error::{Error, Result, ensure};
use crate::num::{Grid, Real};
use ndarray::{Array2, ArrayView2, ArrayView3, s};
use rayon::prelude::*;

/// One layer's queries and keys of the prompt, after rotary.
///
/// H query heads, G KV heads (G divides H; query head h belongs to KV head ⌊h·G/H⌋), n prompt rows, head size d_h.
/// Spec: D8.1, C8.1b
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a, T> {
    /// q: [H, w, d_h], the queries at `rows`.
    pub q: ArrayView3<'a, T>,
    /// The prompt rows of the queries, ascending: \[w\]. At least the rows of [`super::Scorer::rows`].
    pub rows: &'a [usize],
    /// k: [G, n, d_h], all keys.
    pub k: ArrayView3<'a, T>,
    /// [G, n]: causal attention that each key received, summed over all queries of the prompt and over the query heads
    /// of the KV head's group (E9.1). If it is left out, it is computed from `q`, which then has to hold all n rows.
    pub received: Option<ArrayView2<'a, T>>,
    /// v: [G, n, d_h], all values, for scores that read values ([`super::Policy::needs_values`]).
    pub v: Option<ArrayView3<'a, T>>,
    /// The mean and the covariance of the queries that are expected after the prompt, for `score=expected`
    /// ([`super::Policy::needs_future`]). Spec: E9.37
    pub future: Option<&'a Future<T>>,
}

impl<T: Real> Observed<'_, T> {
    /// Query heads per KV head.
    pub(super) fn group(&self) -> usize {
        self.q.shape()[0] / self.k.shape()[0].max(1)
    }

    /// The query of head `h` at one of the requested rows: \[d_h\].
    pub(super) fn query(&self, h: usize, row: usize) -> Vec<T> {
        let i = self.rows.partition_point(|&r| r < row);
        self.q.slice(s![h, i, ..]).to_vec()
    }

    /// Checks that the shapes fit each other and `n` rows, and that the queries of `wanted` are present.
    ///
    /// # Errors
    /// An array does not fit. The error names the array. Spec: C8.1a
    pub(super) fn check(&self, layer: usize, n: usize, wanted: &[usize]) -> Result<()> {
        let at = |what: &str| format!("layer {layer}: {what}");
        let (q, k) = (self.q.shape(), self.k.shape());
        ensure!(k[1] == n, at("keys [G, n, d_h]"), format!("n = {n} rows, as many as roles"), k[1]);
        ensure!(
            k[0] > 0 && k[2] > 0,
            at("keys [G, n, d_h]"),
            "at least one KV head, and keys of at least one number",
            format!("{k:?}")
        );
        ensure!(q[2] == k[2], at("queries [H, w, d_h]"), format!("head size {}", k[2]), q[2]);
        let divides = q[0] > 0 && q[0].is_multiple_of(k[0]);
        ensure!(divides, at("queries [H, w, d_h]"), format!("a multiple of {} KV heads", k[0]), q[0]);
        let ascending = self.rows.windows(2).all(|r| r[0] < r[1]) && self.rows.last().is_none_or(|&r| r < n);
        ensure!(ascending, at("rows"), format!("ascending prompt rows below {n}"), "others");
        ensure!(self.rows.len() == q[1], at("queries [H, w, d_h]"), format!("w = {} rows", self.rows.len()), q[1]);
        if let Some(row) = wanted.iter().find(|r| self.rows.binary_search(r).is_err()) {
            ensure!(false, at("rows"), format!("the query of prompt row {row}, which the window may use"), "none");
        }
        if let Some(v) = &self.v {
            ensure!(v.dim() == self.k.dim(), at("values [G, n, d_h]"), format!("{k:?}"), format!("{:?}", v.shape()));
        }
        if let Some(f) = self.future {
            let (mean, covariance) = ((q[0], q[2]), (q[0], q[2], q[2]));
            ensure!(
                f.mean.dim() == mean,
                at("query-mean [H, d_h]"),
                format!("{mean:?}"),
                format!("{:?}", f.mean.dim())
            );
            let found = f.covariance.dim();
            ensure!(
                found == covariance,
                at("query-covariance [H, d_h, d_h]"),
                format!("{covariance:?}"),
                format!("{found:?}")
            );
        }
        if let Some(r) = &self.received {
            ensure!(r.dim() == (k[0], n), at("received [G, n]"), format!("{:?}", (k[0], n)), format!("{:?}", r.dim()));
        }
        Ok(())
    }

    /// v: [G, n, d_h].
    ///
    /// # Errors
    /// The values are not given.
    pub(super) fn values(&self, layer: usize) -> Result<ArrayView3<'_, T>> {
        self.v.ok_or_else(|| {
            Error::new(format!("layer {layer}: values [G, n, d_h]"), "values, which the score reads", "none")
        })
    }

    /// What is expected after the prompt.
    ///
    /// # Errors
    /// It is not given.
    pub(super) fn future(&self, layer: usize) -> Result<&Future<T>> {
        self.future.ok_or_else(|| {
            let at = format!("layer {layer}: query-mean [H, d_h] and query-covariance [H, d_h, d_h]");
            Error::new(at, "mean and covariance of later queries, which the score reads", "none")
        })
    }

    /// [G, n]: the attention received, as given or computed.
    ///
    /// # Errors
    /// The attention is not given, and some queries are missing.
    pub(super) fn received(&self, layer: usize) -> Result<Array2<T>> {
        if let Some(r) = &self.received {
            return Ok(r.to_owned());
        }
        let (w, n) = (self.rows.len(), self.k.shape()[1]);
        ensure!(w == n, format!("layer {layer}: queries [H, w, d_h]"), format!("all {n} rows, or `received`"), w);
        Ok(received(self.q, self.k))
    }
}

/// Causal attention that each key receives, summed over all queries (ascending) and then over the query heads of the
/// KV head's group (ascending). q: [H, n, d_h], k: [G, n, d_h] → [G, n]. Row by row: nothing of size n × n.
///
/// # Panics
/// The two arrays differ in n or d_h, or G does not divide H (E9.1).
/// Spec: E9.1
pub fn received<T: Real>(q: ArrayView3<'_, T>, k: ArrayView3<'_, T>) -> Array2<T> {
    let (heads, n, _) = q.dim();
    let kv_heads = k.shape()[0];
    assert!(k.shape()[1..] == q.shape()[1..] && heads.is_multiple_of(kv_heads), "E9.1: q and k do not fit");
    let per_head: Vec<Vec<T>> = (0..heads)
        .into_par_iter()
        .map(|h| {
            let keys = PackedKeys::new(k.slice(s![h * kv_heads / heads, .., ..]), (0..n).collect(), Grid::Native);
            let (mut sum, mut p) = (vec![T::ZERO; n], vec![T::ZERO; n]);
            for row in 0..n {
                keys.attend(&q.slice(s![h, row, ..]).to_vec(), row + 1, &mut p);
                sum.iter_mut().zip(&p[..=row]).for_each(|(a, &p)| *a += p);
            }
            sum
        })
        .collect();
    let mut out = Array2::zeros((kv_heads, n));
    for (h, sums) in per_head.iter().enumerate() {
        out.row_mut(h * kv_heads / heads).iter_mut().zip(sums).for_each(|(o, &s)| *o += s);
    }
    out
}
