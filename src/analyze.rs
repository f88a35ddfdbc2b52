//! The loss of an eviction by linear algebra: spectra of keys and values, and the share of the evicted rows that lies
//! in the span of the kept rows.
//!
//! This analysis is a second opinion beside attention mass. Attention mixes values. If a part of an evicted value lies
//! outside the span of the kept values, no reweighting of the kept values can replace it; a part inside the span might
//! be replaced. LAPACK computes the singular values, through `ndarray-linalg`; feature `lapack`. Spec: E7.4

use crate::error::{Error, Result, ensure};
use crate::golden::{Bundle, roles};
use crate::policy::{Policy, Retain};
use crate::stage::{Site, Stage};
use ndarray::{Array2, Array3, ArrayView2, Axis, Ix3};
use ndarray_linalg::SVD;
use serde_json::{Value, json};

/// The share of the energy that the leading directions hold. Spec: E7.4
pub const LEADING: f64 = 0.99;

/// The keys or the values of one KV head. Spec: E7.4
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// The singular values σ in descending order: [min(N_c, d_h)].
    pub singular: Vec<f64>,
    /// The number of directions that hold [`LEADING`] of Σσ².
    pub leading: usize,
    /// The number of candidates that are kept.
    pub kept: usize,
    /// Numerical rank of the kept rows.
    pub rank: usize,
    /// The share of the evicted rows' energy in the span of the kept rows; 1 if no row was evicted.
    pub span: f64,
    /// The share of the evicted rows' energy in the span of the kept rows' leading directions.
    pub lead: f64,
}

/// One layer: the keys and the values of each KV head, and the attention that the eviction loses. Spec: E7.4
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The share of the last prompt row's attention on evicted rows, mean over query heads; none if the bundle has no
    /// queries.
    pub lost: Option<f64>,
    /// The keys of each KV head: [G].
    pub keys: Vec<Spectrum>,
    /// The values of each KV head: [G].
    pub values: Vec<Spectrum>,
}

fn svd(rows: ArrayView2<'_, f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    if rows.is_empty() {
        return Ok((Vec::new(), Array2::zeros((0, rows.ncols()))));
    }
    let failed = |e: ndarray_linalg::error::LinalgError| Error::new("singular values", "numbers they converge for", e);
    // LAPACK returns all right singular vectors, also if there are fewer rows than columns. The first `many` vectors
    // belong to the singular values.
    let (_, singular, right) = rows.to_owned().svd(false, true).map_err(failed)?;
    let right = right.ok_or_else(|| Error::new("singular values", "directions", "none"))?;
    let many = singular.len();
    Ok((singular.to_vec(), right.slice(ndarray::s![..many, ..]).to_owned()))
}

/// The number of first directions that together hold `share` of the energy.
fn directions(singular: &[f64], share: f64) -> usize {
    let all: f64 = singular.iter().map(|s| s * s).sum();
    let mut sum = 0.0;
    let reached = singular.iter().position(|s| {
        sum += s * s;
        sum >= share * all
    });
    reached.map_or(singular.len(), |i| i + 1)
}

/// The spectrum of `rows` [N_c, d_h]; `kept` has the indices of the kept rows, ascending.
///
/// # Errors
/// A number is not finite; a kept row does not exist. Spec: E7.4
pub fn spectrum(rows: ArrayView2<'_, f64>, kept: &[usize]) -> Result<Spectrum> {
    ensure!(rows.iter().all(|v| v.is_finite()), "rows", "finite numbers", "NaN or infinite");
    ensure!(kept.iter().all(|&k| k < rows.nrows()), "kept", format!("rows below {}", rows.nrows()), "others");
    let (singular, _) = svd(rows)?;
    let (own, right) = svd(rows.select(Axis(0), kept).view())?;
    let least = own.first().unwrap_or(&0.0) * f64::EPSILON * kept.len().max(rows.ncols()) as f64;
    let rank = own.iter().filter(|&&s| s > least).count();
    let gone: Vec<usize> = (0..rows.nrows()).filter(|row| kept.binary_search(row).is_err()).collect();
    let gone = rows.select(Axis(0), &gone);
    let energy = |a: &Array2<f64>| a.iter().map(|v| v * v).sum::<f64>();
    let share = |many: usize| match energy(&gone) {
        0.0 => 1.0,
        all => energy(&gone.dot(&right.slice(ndarray::s![..many, ..]).t())) / all,
    };
    let (span, lead) = (share(rank), share(directions(&own, LEADING).min(rank)));
    Ok(Spectrum { leading: directions(&singular, LEADING), singular, kept: kept.len(), rank, span, lead })
}

/// Analyses the keys and values of a bundle's visual rows, layer by layer. The kept rows come from `policy` if it is
/// given, otherwise from the bundle's own `policy.LL.kept`.
///
/// # Errors
/// Stages are missing or do not fit each other; as [`spectrum`].
pub fn analyze(bundle: &Bundle, policy: Option<(&Policy, Retain)>) -> Result<Vec<Layer>> {
    let visual = roles(bundle)?.visual();
    let plan = policy.map(|(policy, retain)| crate::golden::compress::<f64>(bundle, policy, retain)).transpose()?;
    let mut layers = Vec::new();
    for l in 0.. {
        let name = |site: Site| Stage::layer(site, l).name();
        if bundle.get(&name(Site::Key)).is_none() && l > 0 {
            break;
        }
        let read = |site: Site| -> Result<Array3<f64>> {
            let at = || format!("{}: {}", bundle.label(), name(site));
            let rows = bundle.f64(&name(site))?;
            let rows = rows.into_dimensionality::<Ix3>().map_err(|e| Error::new(at(), "the shape [G, n, d_h]", e))?;
            let most = visual.last().map_or(0, |row| row + 1);
            ensure!(rows.dim().1 >= most, at(), format!("at least {most} rows, as input.roles"), rows.dim().1);
            Ok(rows)
        };
        let (all, values) = (read(Site::Key)?, read(Site::Value)?);
        let (keys, values) = (all.select(Axis(1), &visual), values.select(Axis(1), &visual));
        let heads = keys.dim().0;
        let kept = match &plan {
            Some(plan) => decided(plan, l),
            None => stored(bundle, l, heads)?,
        };
        let each = |rows: Array3<f64>| -> Result<Vec<Spectrum>> {
            let one = |(g, rows): (usize, ArrayView2<'_, f64>)| {
                spectrum(rows, &kept[g.min(kept.len() - 1)])
                    .map_err(|e| e.within(format!("{}: layer {l}, KV head {g}", bundle.label())))
            };
            rows.outer_iter().enumerate().map(one).collect()
        };
        let lost = match bundle.get(&name(Site::Query)) {
            Some(_) => Some(lost((&read(Site::Query)?, &all), &visual, &kept, &name(Site::Query))?),
            None => None,
        };
        layers.push(Layer { lost, keys: each(keys)?, values: each(values)? });
    }
    Ok(layers)
}

/// The share of the last row's attention on candidates that their head does not keep: mean over query heads. q: [H, n,
/// d_h]; k: [G, n, d_h]. Spec: E7.4
fn lost((q, k): (&Array3<f64>, &Array3<f64>), visual: &[usize], kept: &[Vec<usize>], at: &str) -> Result<f64> {
    let ((many, rows, d), (heads, ..)) = (q.dim(), k.dim());
    let fits = heads > 0 && many.is_multiple_of(heads) && k.dim() == (heads, rows, d) && rows > 0;
    ensure!(fits, at, format!("[H, n, d_h] beside keys of {:?}", k.dim()), format!("{:?}", q.dim()));
    let mut sum = 0.0;
    for (h, q) in q.outer_iter().enumerate() {
        let g = h / (many / heads);
        let scores = k.index_axis(Axis(0), g).dot(&q.row(rows - 1)) / (d as f64).sqrt();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let p = scores.mapv(|s| (s - most).exp());
        let kept = &kept[g.min(kept.len() - 1)];
        let gone = (0..visual.len()).filter(|c| kept.binary_search(c).is_err());
        sum += gone.map(|c| p[visual[c]]).sum::<f64>() / p.sum();
    }
    Ok(sum / many as f64)
}

/// The kept sets of a layer in a plan: one set for all heads, or one set for each head.
fn decided(plan: &crate::policy::Plan, l: usize) -> Vec<Vec<usize>> {
    let sets = plan.decisions.as_ref().and_then(|d| d.kept.get(l)).cloned().unwrap_or_default();
    if sets.is_empty() { vec![Vec::new()] } else { sets }
}

/// The kept sets of a layer in a bundle's stage.
fn stored(bundle: &Bundle, l: usize, heads: usize) -> Result<Vec<Vec<usize>>> {
    let name = Stage::layer(Site::Kept, l).name();
    let values = bundle.i64(&name).map_err(|e| e.remedy("record with --retain, or give --policy and --retain"))?;
    let at = || format!("{}: {name}", bundle.label());
    let sets = if values.ndim() == 2 { values.shape()[0] } else { 1 };
    ensure!(sets == 1 || sets == heads, at(), format!("one set, or {heads}"), sets);
    if values.ndim() == 2 && bundle.get(&name).is_some_and(|t| t.dtype == safetensors::Dtype::U8) {
        // A mask, where heads have budgets of their own (D9.7).
        let kept = |row: ndarray::ArrayViewD<'_, i64>| (0..row.len()).filter(|&i| row[i] != 0).collect();
        return Ok(values.outer_iter().map(kept).collect());
    }
    let many = values.len() / sets;
    let all: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    let sets: Vec<Vec<usize>> = match (all, many) {
        (Some(_), 0) => vec![Vec::new(); sets],
        (Some(all), _) => all.chunks(many).map(<[usize]>::to_vec).collect(),
        (None, _) => Vec::new(),
    };
    let ascending = !sets.is_empty() && sets.iter().all(|s| s.windows(2).all(|p| p[0] < p[1]));
    ensure!(ascending, at(), "ascending candidates", "others");
    Ok(sets)
}

impl Layer {
    /// The mean of a figure over KV heads.
    pub fn mean(heads: &[Spectrum], figure: fn(&Spectrum) -> f64) -> f64 {
        heads.iter().map(figure).sum::<f64>() / heads.len().max(1) as f64
    }

    /// The machine-readable form.
    pub fn json(&self) -> Value {
        let heads = |all: &[Spectrum]| -> Vec<Value> {
            let one = |s: &Spectrum| json!({"singular": s.singular, "leading": s.leading, "kept": s.kept, "rank": s.rank, "span": s.span, "lead": s.lead});
            all.iter().map(one).collect()
        };
        json!({"lost": self.lost, "keys": heads(&self.keys), "values": heads(&self.values)})
    }
}
