//! Settings of image processors that cut tiles: the side of a tile, and the grids, which the model has too.
//!
//! Source: transformers 5.17 `LlavaNextImageProcessor`, `LlavaOnevisionImageProcessor`. Spec: T4.4, C4.12

use super::section::Section;
use crate::error::{Error, Result};
use serde_json::Value;

/// The side of a tile in pixels. `size` may be a number, a pair or an object. Spec: T4.4
pub(crate) fn side(images: &Section, default: usize) -> Result<usize> {
    let Some(size) = images.get("size") else { return Ok(default) };
    let number = |v: Option<&Value>| v.and_then(Value::as_u64).filter(|&n| n > 0).map(|n| n as usize);
    let square = |h: Option<usize>, w: Option<usize>| h.filter(|_| h == w);
    let side = match size {
        Value::Array(pair) if pair.len() == 2 => square(number(pair.first()), number(pair.get(1))),
        Value::Object(o) if o.len() == 1 => number(o.get("shortest_edge")),
        Value::Object(o) if o.len() == 2 => square(number(o.get("height")), number(o.get("width"))),
        v => number(Some(v)),
    };
    side.ok_or_else(|| images.wrong("size", "a square: {\"height\": n, \"width\": n} or {\"shortest_edge\": n}"))
}

/// Fails if the grids of the image processor are not those of the model in the file `model`. Spec: C4.12
pub(crate) fn same_pinpoints(
    images: &Section,
    default: impl FnOnce() -> Vec<(usize, usize)>,
    want: &[(usize, usize)],
    model: &str,
) -> Result<()> {
    const KEY: &str = "image_grid_pinpoints";
    let at = || format!("{}: {KEY}", images.at);
    let found: Vec<(usize, usize)> = match images.get(KEY) {
        None => default(),
        Some(v) => serde_json::from_value(v.clone()).map_err(|e| Error::new(at(), "a list of [height, width]", e))?,
    };
    let differ = found.iter().zip(want).position(|(a, b)| a != b);
    let differ = differ.or((found.len() != want.len()).then(|| found.len().min(want.len())));
    let Some(i) = differ else { return Ok(()) };
    let show = |list: &[(usize, usize)]| match list.get(i) {
        Some((h, w)) => format!("[{h}, {w}] as number {} of {}", i + 1, list.len()),
        None => format!("{} of them", list.len()),
    };
    Err(Error::new(at(), format!("those of {model}: {}", show(want)), show(&found)))
}
