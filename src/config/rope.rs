//! The rotary part of a decoder's configuration: θ, sections of M-RoPE, and the two kinds of scaling.
//!
//! Source: transformers 5.17, `modeling_rope_utils.py`; Phi-3's own `configuration_phi3.py`.

use super::defaults::Defaults;
use super::json::{Scope, integer, kind};
use crate::error::{Error, Result, ensure};
use serde_json::Value;

/// The rotary fields of a [`DecoderConfig`](super::DecoderConfig), by the same names.
pub(super) struct Rope {
    pub theta: f64,
    pub mrope: Option<Vec<usize>>,
    pub ntk: Option<f64>,
    pub long: Option<LongRope>,
}

/// Long rope: each frequency is divided by a factor of its own, and cosines and sines are scaled. Spec: E6.15
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    /// The factors of sequences of at most `trained` rows: \[d_h/2\].
    pub short: Vec<f64>,
    /// The factors of longer sequences: \[d_h/2\].
    pub long: Vec<f64>,
    /// O: the number of positions before the extension.
    pub trained: usize,
    /// s: the scale of cosines and sines.
    pub scale: f64,
}

/// θ, the sections of M-RoPE and the scaling. The function looks first in `rope_scaling` (or, if that object is empty,
/// in `rope_parameters`), then in the object that contains it, then in the family's defaults.
/// Spec: T6.2, E6.10, E6.12, E6.15
pub(super) fn rope(scope: &Scope<'_>, default: &Defaults, head_dim: usize, max_positions: usize) -> Result<Rope> {
    let filled = |key| Ok(scope.object(key)?.filter(|s: &Scope<'_>| !s.is_empty()).map(|s| (key, s)));
    let (key, rope) = match filled("rope_scaling")? {
        Some(found) => found,
        None => filled("rope_parameters")?.unwrap_or(("rope_parameters", scope.inner("rope_parameters")?)),
    };
    if ["full_attention", "sliding_attention"].iter().any(|k| rope.get(k).is_some()) {
        return Err(Error::new(
            scope.at(key),
            "one set of rotary parameters for all layers",
            "one for each kind of layer",
        ));
    }
    let kinds = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let found = rope.string(kinds, "default")?;
    let known: &[&str] = match (default.mrope, default.long_rope) {
        (Some(_), _) => &["default", "mrope"],
        (None, false) => &["default", "dynamic"],
        (None, true) => &["default", "su", "longrope"],
    };
    ensure!(
        known.contains(&found),
        rope.at(kinds),
        format!("{} (other scaled rotary frequencies are not supported)", known.join(" or ")),
        kind(&Value::from(found))
    );
    let holder = if rope.get("rope_theta").is_some() { &rope } else { scope };
    let theta =
        holder.number("rope_theta", default.theta, |x| x > 0.0 && x <= 1e18, "a number above 0 and at most 1e18")?;
    let mrope =
        default.mrope.map(|sections| mrope_section(&rope, &sections, head_dim, default.interleaved)).transpose()?;
    let factor = || rope.number("factor", f64::NAN, |x| (1.0..=1e6).contains(&x), "a number from 1 to 1000000");
    let ntk = match found {
        "dynamic" => Some(factor()?).filter(|&f| f > 0.0),
        _ => None,
    };
    ensure!(found != "dynamic" || ntk.is_some(), rope.at("factor"), "the factor of dynamic scaling", "nothing");
    ensure!(ntk.is_none() || head_dim > 2, rope.at(kinds), "a head size above 2 for dynamic scaling", head_dim);
    let long = ["su", "longrope"].contains(&found);
    let long = long.then(|| long_rope(scope, &rope, head_dim, max_positions)).transpose()?;
    Ok(Rope { theta, mrope, ntk, long })
}

/// The factors of long rope, and s = √(1 + ln(M/O) / ln O), M = `max_position_embeddings`. Spec: E6.15
fn long_rope(scope: &Scope<'_>, rope: &Scope<'_>, head_dim: usize, max_positions: usize) -> Result<LongRope> {
    const TRAINED: &str = "original_max_position_embeddings";
    let holder = if rope.get(TRAINED).is_some() { rope } else { scope };
    let trained = holder.size(TRAINED, 4096, (2, 1 << 30))?;
    let (most, of) = (max_positions as f64, trained as f64);
    let natural = if max_positions > trained { (1.0 + (most / of).ln() / of.ln()).sqrt() } else { 1.0 };
    let scale = match rope.get("attention_factor") {
        Some(Value::Null) => natural,
        _ => rope.number("attention_factor", natural, |x| x > 0.0 && x <= 1e3, "a number above 0 and at most 1000")?,
    };
    let factors = |key: &str| {
        let want = || format!("a list of {} numbers from 0.001 to 1000000, half the head size", head_dim / 2);
        let wrong = |got: String| Error::new(rope.at(key), want(), got);
        let Some(Value::Array(list)) = rope.get(key) else {
            return Err(wrong(rope.get(key).map_or("nothing".into(), kind)));
        };
        let number = |v: &Value| v.as_f64().filter(|x| (1e-3..=1e6).contains(x)).ok_or_else(|| wrong(kind(v)));
        ensure!(list.len() == head_dim / 2, rope.at(key), want(), format!("a list of {}", list.len()));
        list.iter().map(number).collect::<Result<Vec<f64>>>()
    };
    Ok(LongRope { short: factors("short_factor")?, long: factors("long_factor")?, trained, scale })
}

/// The number of frequencies in each section: a list with the sum d_h/2. Sections that are interleaved are three, and
/// their sum is free: height and width take their frequencies, time takes all others (C6.17a).
fn mrope_section(rope: &Scope<'_>, default: &[usize], head_dim: usize, interleaved: bool) -> Result<Vec<usize>> {
    const KEY: &str = "mrope_section";
    let so = interleaved == rope.boolean("mrope_interleaved", interleaved)?;
    ensure!(so, rope.at("mrope_interleaved"), interleaved, !interleaved);
    let sections = match rope.get(KEY) {
        None => default.to_vec(),
        Some(Value::Array(list)) if (1..=4096).contains(&list.len()) => {
            let size = |(i, v): (usize, &Value)| integer(v, &rope.at(&format!("{KEY}[{i}]")), (0, head_dim));
            list.iter().enumerate().map(size).collect::<Result<_>>()?
        }
        Some(other) => return Err(Error::new(rope.at(KEY), "a list of 1 to 4096 whole numbers", kind(other))),
    };
    if interleaved {
        ensure!(sections.len() == 3, rope.at(KEY), "three numbers: time, height, width", sections.len());
        return Ok(sections);
    }
    let sum: usize = sections.iter().sum();
    let half = head_dim / 2;
    ensure!(sum == half, rope.at(KEY), format!("numbers that add up to half the head size, {half}"), sum);
    Ok(sections)
}
