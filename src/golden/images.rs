//! Images in a bundle: pixels in the shape that the family's processor gives, and what tells how they lie.

use super::Bundle;
use super::record::Recorder;
use crate::config::{FamilyConfig, LlavaOnevisionConfig};
use crate::error::{Error, Result, ensure};
use crate::input::{Anyres, GivenImage, Prepared, PreparedImage};
use crate::policy::Values;
use ndarray::{Array2, Array4, ArrayD, Axis, IxDyn, Slice, s};

/// The stage that pixels cannot be understood without.
pub(super) fn shape(config: &FamilyConfig) -> &'static str {
    match config {
        FamilyConfig::LlavaOnevision(_) => "input.sizes",
    }
}

/// Sites of the inputs that only some families have.
pub(super) fn shapes(config: &FamilyConfig) -> &'static [&'static str] {
    match config {
        FamilyConfig::LlavaOnevision(_) => &[],
    }
}

/// Sizes, grids and pixels of the prompt's images, of which there is at least one.
///
/// # Errors
/// As the recorder.
pub(super) fn put(out: &mut Recorder, prompt: &Prepared) -> Result<()> {
    let images = &prompt.images;
    let sizes = Array2::from_shape_fn((images.len(), 2), |(i, k)| {
        let (h, w) = images[i].size;
        [h, w][k] as i64
    });
    out.values("input.sizes", &Values::I64(sizes.into_dyn()))?;
    if images.iter().all(|image| image.grid.is_some()) {
        let grid = |(i, k): (usize, usize)| images[i].grid.map_or(0, |grid| grid[k] as i64);
        out.values("input.grid", &Values::I64(Array2::from_shape_fn((images.len(), 3), grid).into_dyn()))?;
    }
    if out.takes("input.pixels") {
        let pixels = padded(images);
        out.pixels("input.pixels", pixels.shape(), pixels.as_slice().unwrap_or_default())?;
    }
    Ok(())
}

/// [images, tiles of the largest, 3, S, S], shorter ones padded with zero tiles.
fn padded(images: &[PreparedImage]) -> ArrayD<f32> {
    let tiles = images.iter().map(|i| i.pixels.shape()[0]).max().unwrap_or(0);
    let shape = [&[images.len(), tiles], &images[0].pixels.shape()[1..]].concat();
    let mut all = ArrayD::zeros(IxDyn(&shape));
    for (mut padded, image) in all.outer_iter_mut().zip(images) {
        padded.slice_axis_mut(Axis(0), Slice::from(..image.pixels.shape()[0])).assign(&image.pixels);
    }
    all
}

/// The images that a candidate's own stages describe; zeros where it has no pixels.
///
/// # Errors
/// Shapes that do not fit, or sizes that the family does not take.
pub(super) fn given(config: &FamilyConfig, candidate: &Bundle) -> Result<Vec<GivenImage>> {
    match config {
        FamilyConfig::LlavaOnevision(c) => given_tiles(c, candidate),
    }
}

/// A table of whole numbers, `columns` an image.
fn table<const N: usize>(candidate: &Bundle, name: &str) -> Result<Vec<[usize; N]>> {
    let table = candidate.i64(name)?;
    let shape = || format!("{:?}", table.shape());
    ensure!(
        table.ndim() == 2 && table.shape()[1] == N,
        format!("{}: {name}", candidate.label()),
        format!("the shape [images, {N}]"),
        shape()
    );
    let numbers: Vec<usize> = table.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect();
    Ok(numbers.as_chunks::<N>().0.to_vec())
}

fn given_tiles(config: &LlavaOnevisionConfig, candidate: &Bundle) -> Result<Vec<GivenImage>> {
    let at = |name: &str| format!("{}: {name}", candidate.label());
    let sizes = table::<2>(candidate, "input.sizes")?;
    let anyres = Anyres::from(config);
    let pixels = match candidate.get("input.pixels") {
        Some(_) => Some(candidate.f32("input.pixels")?),
        None => None,
    };
    let images = sizes.iter().enumerate().map(|(i, &[h, w])| {
        let tiles = anyres.packing((h, w), sizes.len() == 1).map_err(|e| e.within(at("input.sizes")))?.tiles;
        let shape = [tiles, 3, anyres.tile, anyres.tile];
        let Some(all) = &pixels else { return Ok(GivenImage::tiles(Array4::zeros(shape), (h, w))) };
        let fits = all.ndim() == 5
            && all.shape()[0] == sizes.len()
            && all.shape()[1] >= tiles
            && all.shape()[2..] == shape[1..];
        ensure!(
            fits,
            at("input.pixels"),
            format!("[{}, tiles, 3, {}, {}]", sizes.len(), anyres.tile, anyres.tile),
            format!("{:?}", all.shape())
        );
        let of = all.slice(s![i, ..tiles, .., .., ..]).to_owned();
        let pixels = of.into_shape_with_order(shape).map_err(|e| Error::new(at("input.pixels"), "its tiles", e))?;
        Ok(GivenImage::tiles(pixels, (h, w)))
    });
    images.collect()
}
