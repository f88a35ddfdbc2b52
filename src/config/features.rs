//! Fields that towers of several families share: the grids of tiles, the states that become rows, lists of layers, and two-dimensional
//! rotary positions.
//!
//! Source: transformers 5.17, `models/{llava,llava_next,llava_onevision}/configuration_*.py`.

use super::json::{Scope, integer, kind, state_of};
use crate::error::{Error, Result, ensure};
use serde_json::Value;

/// Resolutions as (height, width), multiples of `tile`; `default` if absent or `null`.
///
/// # Errors
/// The field is not a list of pairs; a resolution is not a whole number of tiles.
pub(crate) fn pinpoints(
    scope: &Scope<'_>,
    tile: usize,
    default: impl FnOnce() -> Vec<(usize, usize)>,
) -> Result<Vec<(usize, usize)>> {
    let at = |i: usize| scope.at(&format!("image_grid_pinpoints[{i}]"));
    let pairs = match scope.get("image_grid_pinpoints") {
        None | Some(Value::Null) => default(),
        Some(Value::Array(list)) if (1..=4096).contains(&list.len()) => list
            .iter()
            .enumerate()
            .map(|(i, pair)| match pair {
                Value::Array(p) if p.len() == 2 => {
                    let side = |k: usize| integer(&p[k], &format!("{}[{k}]", at(i)), (1, 1 << 16));
                    Ok((side(0)?, side(1)?))
                }
                other => Err(Error::new(at(i), "a pair [height, width]", kind(other))),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(other) => {
            return Err(Error::new(scope.at("image_grid_pinpoints"), "a list of 1 to 4096 pairs", kind(other)));
        }
    };
    for (i, &(h, w)) in pairs.iter().enumerate() {
        let got = format!("[{h}, {w}]");
        ensure!(h % tile == 0 && w % tile == 0, at(i), format!("multiples of vision_config.image_size {tile}"), got);
    }
    Ok(pairs)
}

/// Indices into the hidden states (0 = embeddings, k = after layer k); `default` if absent. Negative indices count from
/// the end.
///
/// # Errors
/// The field is not such an index or a list of them.
pub(crate) fn feature_layers(scope: &Scope<'_>, layers: usize, default: i64) -> Result<Vec<usize>> {
    match scope.get("vision_feature_layer") {
        None => Ok(vec![state_of(&default.into(), scope.at("vision_feature_layer"), layers)?]),
        Some(Value::Array(list)) if (1..=1024).contains(&list.len()) => {
            let at = |i: usize| scope.at(&format!("vision_feature_layer[{i}]"));
            list.iter().enumerate().map(|(i, value)| state_of(value, at(i), layers)).collect()
        }
        Some(value @ Value::Array(_)) => {
            Err(Error::new(scope.at("vision_feature_layer"), "a layer or a list of 1 to 1024 layers", kind(value)))
        }
        Some(value) => Ok(vec![state_of(value, scope.at("vision_feature_layer"), layers)?]),
    }
}

/// Whether the first token of each tile is dropped: `vision_feature_select_strategy` is `default`, not `full`.
///
/// # Errors
/// The field has another value.
pub(crate) fn drop_first<'a>(scope: &Scope<'a>, default: &'a str) -> Result<bool> {
    match scope.string("vision_feature_select_strategy", default)? {
        "full" => Ok(false),
        "default" => Ok(true),
        other => {
            Err(Error::new(scope.at("vision_feature_select_strategy"), "full or default", kind(&Value::from(other))))
        }
    }
}

/// Indices of layers; `default` if absent.
///
/// # Errors
/// The field is not a list of whole numbers.
pub(crate) fn layers(scope: &Scope<'_>, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    match scope.get(key) {
        None => Ok(default.to_vec()),
        Some(Value::Array(list)) if list.len() <= 1024 => {
            let index = |(i, v): (usize, &Value)| integer(v, &scope.at(&format!("{key}[{i}]")), (0, 1 << 20));
            list.iter().enumerate().map(index).collect()
        }
        Some(other) => Err(Error::new(scope.at(key), "a list of layers", kind(other))),
    }
}

/// The number of heads of a tower with two-dimensional rotary positions, and θ. Half of a head turns with the row, half
/// with the column, each by pairs, so the size of a head is a multiple of 4. width: the name of the field, and its value.
///
/// # Errors
/// A field has the wrong type; heads of another size.
pub(crate) fn turned(scope: &Scope<'_>, (name, hidden): (&str, usize)) -> Result<(usize, f64)> {
    let key = if scope.get("num_attention_heads").is_some() { "num_attention_heads" } else { "num_heads" };
    let heads = scope.heads(key, 16)?;
    let want = format!("heads of a multiple of 4 in {name} {hidden}");
    ensure!(hidden % (4 * heads) == 0, scope.at(key), want, heads);
    let theta = |s: &Scope<'_>| s.number("rope_theta", 1e4, |x| x > 0.0 && x <= 1e18, "a number above 0");
    Ok((heads, scope.object("rope_parameters")?.as_ref().map_or(Ok(1e4), theta)?))
}
