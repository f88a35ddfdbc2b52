//! The stages of a recording that no pass shows: the inputs, and the cache after eviction. T1.2 gives their shapes and
//! names.

use super::images;
use super::recorder::Recorder;
use crate::cache::{Cache, HeadCache};
use crate::error::Result;
use crate::family::Family;
use crate::input::{Positions, Prepared};
use crate::model::Model;
use crate::num::Real;
use crate::policy::{Policy, Values};
use crate::stage::{Place, Site, Stage, TABLE};
use ndarray::{Array1, ArrayD};

/// The stages of a prompt in a replay: roles and positions. If the prompt did not come from the candidate, all inputs.
pub(super) fn prompt(out: &mut Recorder, family: &dyn Family, prompt: &Prepared, outside: bool) -> Result<()> {
    if outside {
        return inputs(out, family, prompt);
    }
    out.values(&Stage::once(Site::Roles).name(), &Values::U8(Array1::from(prompt.roles.numbers()).into_dyn()))?;
    let rows: Vec<usize> = (0..prompt.ids.len()).collect();
    out.values(&Stage::once(Site::Positions).name(), &positions(&prompt.positions, &[&rows], false))
}

/// Everything under `input.`; a prompt without images has neither sizes nor pixels.
pub(super) fn inputs(out: &mut Recorder, family: &dyn Family, prompt: &Prepared) -> Result<()> {
    let whole = |values: Array1<i64>| Values::I64(values.into_dyn());
    out.values(&Stage::once(Site::Ids).name(), &whole(prompt.ids.iter().map(|&id| i64::from(id)).collect()))?;
    out.values(&Stage::once(Site::Roles).name(), &Values::U8(Array1::from(prompt.roles.numbers()).into_dyn()))?;
    let rows: Vec<usize> = (0..prompt.ids.len()).collect();
    out.values(&Stage::once(Site::Positions).name(), &positions(&prompt.positions, &[&rows], false))?;
    if prompt.images.is_empty() {
        return Ok(());
    }
    images::put(out, family, prompt)
}

/// Everything under `cache.`: keys and values [G, len, d_h], positions \[len\], or [G, len] if each KV head keeps its
/// own rows; positions of M-RoPE have one more axis of 3 in front. A head that keeps fewer rows than another ends with
/// zeros at the positions −1 (D9.7). Where rows were dropped before the decoder, positions are counted anew (C9.10a).
pub(super) fn cache<T: Real>(out: &mut Recorder, cache: &Cache<T>, at: &Positions, policy: &Policy) -> Result<()> {
    let (per_head, early) = (policy.per_head(), policy.prune.rater().is_some());
    let first = cache.layers.first().and_then(|heads| heads.first()).filter(|_| early);
    let at = &first.map_or_else(|| at.clone(), |head| at.closed(head.rows()));
    for (l, heads) in cache.layers.iter().enumerate() {
        let Some(first) = heads.first() else { continue };
        let (longest, d) = (heads.iter().map(HeadCache::len).max().unwrap_or(0), first.keys().ncols());
        let shape = [heads.len(), longest, d];
        let rest = |head: &HeadCache<T>| std::iter::repeat_n(T::ZERO, (longest - head.len()) * d);
        let keys = heads.iter().flat_map(|head| (0..head.len()).flat_map(|e| head.key(e)).chain(rest(head)));
        out.numbers(&Stage::layer(Site::CacheKey, l).name(), &shape, keys)?;
        let values = heads.iter().flat_map(|head| (0..head.len()).flat_map(|e| head.value(e)).chain(rest(head)));
        out.numbers(&Stage::layer(Site::CacheValue, l).name(), &shape, values)?;
        let rows: Vec<&[usize]> = heads.iter().map(|head| head.rows()).collect();
        let rows = if per_head { &rows[..] } else { &rows[..1] };
        out.values(&Stage::layer(Site::CachePositions, l).name(), &positions(at, rows, per_head))?;
    }
    Ok(())
}

/// The positions of all rows of a prompt: \[n\], or [3, n] of M-RoPE.
pub(super) fn table(at: &Positions) -> ArrayD<i64> {
    let rows: Vec<usize> = match at {
        Positions::Linear(all) => (0..all.len()).collect(),
        Positions::Mrope(axes) => (0..axes[0].len()).collect(),
    };
    match positions(at, &[&rows], false) {
        Values::I64(table) => table,
        _ => unreachable!("T1.2: positions are integers"),
    }
}

/// The positions of rows: \[len\], or [heads, len]; positions of M-RoPE have one more axis of 3 in front.
fn positions(at: &Positions, rows: &[&[usize]], per_head: bool) -> Values {
    let axes: Vec<&Vec<i64>> = match at {
        Positions::Linear(all) => vec![all],
        Positions::Mrope(axes) => axes.iter().collect(),
    };
    let len = rows.iter().map(|rows| rows.len()).max().unwrap_or(0);
    let mut shape = vec![len];
    if per_head {
        shape.insert(0, rows.len());
    }
    if axes.len() > 1 {
        shape.insert(0, axes.len());
    }
    let of = |axis: &[i64], rows: &[usize]| -> Vec<i64> {
        let own = rows.iter().map(|&r| axis[r]);
        own.chain(std::iter::repeat_n(-1, len - rows.len())).collect()
    };
    let values: Array1<i64> = axes.iter().flat_map(|axis| rows.iter().flat_map(|rows| of(axis, rows))).collect();
    match values.into_shape_with_order(shape) {
        Ok(shaped) => Values::I64(shaped),
        Err(_) => unreachable!("T1.2: as many positions for every KV head"),
    }
}

/// The names of all stages that a recording may hold, in causal order. Globs are checked against this list before the
/// run.
pub(super) fn possible(model: &Model, max_new_tokens: usize) -> Vec<String> {
    let (depth, tower) = (model.decoder.config.layers, model.config.profile().tower.used);
    // The list stops at 10 000 steps: nobody names later steps one by one, and `step.*` matches the steps in the list.
    let steps = max_new_tokens.saturating_sub(1).min(10_000);
    let grids = images::shape(&*model.config) == Site::Grid;
    let rows = TABLE.iter().map(|row| row.site).filter(|&site| site != Site::Grid || grids);
    let stages = rows.flat_map(|site| -> Vec<Stage> {
        match Stage::once(site).row().place {
            Place::Once => vec![Stage::once(site)],
            Place::VisionLayer => (0..tower).map(|l| Stage::layer(site, l)).collect(),
            Place::Layer => (0..depth).map(|l| Stage::layer(site, l)).collect(),
            Place::Step => (0..steps).map(|t| Stage::step(site, t)).collect(),
            Place::StepLayer => (0..steps).flat_map(|t| (0..depth).map(move |l| Stage::of_step(site, t, l))).collect(),
        }
    });
    stages.map(|stage| stage.to_string()).collect()
}
