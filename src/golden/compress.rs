//! The algorithm alone, on a bundle from any program: it reads `input.roles`, `decoder.LL.query` and `decoder.LL.key`
//! (and `decoder.LL.value` where the score reads values, `decoder.LL.query-mean` and `decoder.LL.query-covariance` where it
//! expects later queries), and returns a plan. One layer's queries and keys are in memory at a time. Spec: D8.1

use super::Bundle;
use crate::error::{Error, Result, ensure};
use crate::num::Real;
use crate::policy::{Future, Observed, Plan, Policy, Retain, Scorer};
use crate::roles::Roles;
use crate::stage::{Site, Stage};
use ndarray::{Array, Array3, Dimension, Ix2, Ix3};
use std::collections::BTreeSet;

/// Decides which entries each layer keeps, computed in T.
///
/// # Errors
/// A stage is missing or does not fit the others; the layers are not 0 … L − 1; errors as of [`Scorer`].
///
/// ```
/// # fn main() -> aircache::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// use aircache::golden::{Bundle, BundleWriter, compress};
/// use aircache::policy::Policy;
/// let path = folder.path().join("dump.safetensors");
/// let mut dump = BundleWriter::create(&path)?;
/// dump.put_u8("input.roles", &[4], &[0, 1, 1, 0])?;
/// dump.put_f32("decoder.00.query", &[1, 4, 1], &[0.0, 0.0, 0.0, 1.0])?; // the text asks for 1
/// dump.put_f32("decoder.00.key", &[1, 4, 1], &[0.0, 0.0, 1.0, 0.0])?; // visual token 1 offers it
/// dump.finish([("precision", "f32")])?;
/// let plan = compress::<f64>(&Bundle::open(&path)?, &Policy::AIRCACHE, "0.5".parse()?)?;
/// assert_eq!(plan.kept, [[[0, 2, 3]]]);
/// # Ok(()) }
/// ```
pub fn compress<T: Real>(bundle: &Bundle, policy: &Policy, retain: Retain) -> Result<Plan> {
    let why = "a policy that decides after prefill: queries and keys alone do not say what later layers would compute";
    ensure!(!policy.prunes(), "policy: prune", why, policy, "use record or run, which compute the model");
    let roles = roles(bundle)?;
    let layers = layers(bundle)?;
    let within = |e: Error| e.within(bundle.label());
    let scorer = Scorer::new(policy, &roles).map_err(within)?;
    let rows: Vec<usize> = (0..roles.len()).collect();
    let mut scores = Vec::with_capacity(layers);
    for l in 0..layers {
        let q = heads::<T>(bundle, &Stage::layer(Site::Query, l).name(), "[H, n, d_h]", roles.len())?;
        let k = heads::<T>(bundle, &Stage::layer(Site::Key, l).name(), "[G, n, d_h]", roles.len())?;
        let values = || heads::<T>(bundle, &Stage::layer(Site::Value, l).name(), "[G, n, d_h]", roles.len());
        let v = policy.needs_values().then(values).transpose()?;
        let future = policy.needs_future().map(|_| future::<T>(bundle, l)).transpose()?;
        let seen = Observed {
            q: q.view(),
            rows: &rows,
            k: k.view(),
            received: None,
            v: v.as_ref().map(|v| v.view()),
            future: future.as_ref(),
        };
        scores.push(scorer.observe(l, &seen).map_err(within)?);
    }
    Ok(scorer.decide(retain, &scores))
}

/// The role of each row, from `input.roles`.
pub(crate) fn roles(bundle: &Bundle) -> Result<Roles> {
    let at = |i: String| format!("{}: input.roles{i}", bundle.label());
    let values = bundle.i64(&Stage::once(Site::Roles).name())?;
    ensure!(values.ndim() == 1, at(String::new()), "the shape [n]", format!("{:?}", values.shape()));
    Roles::read(values).map_err(|(i, other)| Error::new(at(format!("[{i}]")), "0 (text) or 1 (visual)", other))
}

/// L, if the queries and keys of layers 0 … L − 1 are all present.
fn layers(bundle: &Bundle) -> Result<usize> {
    let layer = |name: &str| {
        let at = Stage::parse(name)?;
        matches!(at.site, Site::Query | Site::Key).then_some(at.layer)
    };
    let found: BTreeSet<usize> = bundle.names().filter_map(layer).collect();
    let missing = found.iter().zip(0..).find(|&(&l, i)| l != i).map_or(found.len(), |(_, i)| i);
    let next = if found.len() == missing && missing > 0 { None } else { Some(missing) };
    if let Some(l) = next {
        let at = format!("{}: decoder.{l:02}.query", bundle.label());
        let others =
            found.iter().next_back().map_or("none of any layer".into(), |last| format!("none, but layer {last}"));
        return Err(Error::new(at, "this stage", others).remedy("layers are counted from 00 without gaps"));
    }
    Ok(missing)
}

/// A stage of three dimensions, of which the second is n.
fn heads<T: Real>(bundle: &Bundle, name: &str, sides: &str, n: usize) -> Result<Array3<T>> {
    let shape = bundle.stage(name)?.shape.to_vec();
    let at = || format!("{}: {name}", bundle.label());
    ensure!(shape.len() == 3, at(), format!("the shape {sides}"), format!("{shape:?}"));
    ensure!(
        shape[1] == n,
        at(),
        format!("the shape {sides} with n = {n} rows, as many as input.roles"),
        format!("{shape:?}"),
        "export all rows of the prompt, after rotary, without those of decoding"
    );
    numbers::<T, Ix3>(bundle, name, sides)
}

/// What later queries are expected to be. Spec: E9.37, C9.37c
fn future<T: Real>(bundle: &Bundle, l: usize) -> Result<Future<T>> {
    let remedy = "record the bundle with --policy expected, or export mean and covariance (E9.37)";
    let named = |site: Site| Stage::layer(site, l).name();
    let with = |e: Error| if e.remedy.is_none() { e.remedy(remedy) } else { e };
    let mean = numbers::<T, Ix2>(bundle, &named(Site::QueryMean), "[H, d_h]").map_err(with)?;
    let covariance = numbers::<T, Ix3>(bundle, &named(Site::QueryCovariance), "[H, d_h, d_h]").map_err(with)?;
    Ok(Future { mean, covariance })
}

/// A stage of some dimensions.
fn numbers<T: Real, D: Dimension>(bundle: &Bundle, name: &str, sides: &str) -> Result<Array<T, D>> {
    let found = bundle.stage(name)?.shape.to_vec();
    let misfit =
        |_| Error::new(format!("{}: {name}", bundle.label()), format!("the shape {sides}"), format!("{found:?}"));
    Ok(bundle.f64(name)?.into_dimensionality::<D>().map_err(misfit)?.mapv(T::of))
}
