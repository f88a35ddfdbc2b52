//! Images in a bundle: pixels in the shape that the family's processor gives, and what tells how they lie.

use super::Bundle;
use super::record::Recorder;
use crate::config::{FamilyConfig, InternVlConfig, LlavaOnevisionConfig, Qwen2VlConfig};
use crate::error::{Error, Result, ensure};
use crate::input::tiling::Tiling;
use crate::input::{Anyres, GivenImage, Positions, Prepared, PreparedImage};
use crate::memory;
use crate::policy::Values;
use crate::stage::{Site, Stage};
use ndarray::{Array2, Array4, ArrayD, Axis, IxDyn, Slice, concatenate, s};

/// The stage that pixels cannot be understood without.
pub(super) fn shape(config: &FamilyConfig) -> Site {
    match config {
        FamilyConfig::LlavaOnevision(_) | FamilyConfig::InternVl(_) => Site::Sizes,
        FamilyConfig::Qwen2Vl(_) => Site::Grid,
    }
}

/// Sizes, grids and pixels of the prompt's images, of which there is at least one.
///
/// # Errors
/// As the recorder.
pub(super) fn put(out: &mut Recorder, config: &FamilyConfig, prompt: &Prepared) -> Result<()> {
    let images = &prompt.images;
    let grids: Vec<[usize; 3]> = images.iter().filter_map(|image| image.grid).collect();
    let sizes = Array2::from_shape_fn((images.len(), 2), |(i, k)| {
        let (h, w) = images[i].size;
        [h, w][k] as i64
    });
    out.values("input.sizes", &Values::I64(sizes.into_dyn()))?;
    if !grids.is_empty() {
        let grid = Array2::from_shape_fn((grids.len(), 3), |(i, k)| grids[i][k] as i64);
        out.values("input.grid", &Values::I64(grid.into_dyn()))?;
    }
    if out.takes("input.pixels") {
        let pixels = match config {
            FamilyConfig::LlavaOnevision(_) => padded(images),
            FamilyConfig::Qwen2Vl(_) | FamilyConfig::InternVl(_) => joined(images),
        };
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

/// [patches of all images, 3 · temporal · p²], or [tiles of all images, 3, S, S].
fn joined(images: &[PreparedImage]) -> ArrayD<f32> {
    let views: Vec<_> = images.iter().map(|image| image.pixels.view()).collect();
    concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("D4.5: patches or tiles of one shape"))
}

/// The images that a candidate's own stages describe, or the video, of a prompt of `visual` rows or placeholders; zeros where
/// it has no pixels.
///
/// # Errors
/// Shapes that do not fit, or sizes that the family does not take; more images than placeholders, or than memory holds.
pub(super) fn given(config: &FamilyConfig, candidate: &Bundle, visual: usize, film: bool) -> Result<Vec<GivenImage>> {
    let name = Stage::once(shape(config)).to_string();
    let images = candidate.stage(&name)?.shape.first().copied().unwrap_or(0);
    let at = || format!("{}: {name}", candidate.label());
    ensure!(images <= visual, at(), format!("at most an image for each of {visual} placeholders"), images);
    match config {
        FamilyConfig::LlavaOnevision(c) => given_tiles(c, candidate, film.then_some(visual)),
        FamilyConfig::Qwen2Vl(c) => given_patches(c, candidate),
        FamilyConfig::InternVl(c) => given_rows_of_tiles(c, candidate),
    }
}

/// Fails where there is no memory for pixels of these shapes, and for a copy.
fn room<const N: usize>(at: &str, shapes: impl IntoIterator<Item = [usize; N]>) -> Result<()> {
    let numbers = |shape: [usize; N]| shape.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64));
    memory::check(
        at,
        shapes.into_iter().map(numbers).fold(0, u64::saturating_add).saturating_mul(2 * size_of::<f32>() as u64),
    )
}

/// Where the `n` rows of a prompt stand, of whose images nobody knows how they lie.
///
/// # Errors
/// M-RoPE, where a candidate has no positions either.
pub(super) fn positions(config: &FamilyConfig, candidate: &Bundle, n: usize) -> Result<Positions> {
    const NAME: &str = "input.positions";
    if config.text().mrope.is_none() {
        return Ok(Positions::in_order(n));
    }
    let remedy = "record it, or input.grid, or give --image and --prompt";
    let found = candidate.i64(NAME).map_err(|e| e.remedy(remedy))?;
    let at = format!("{}: {NAME}", candidate.label());
    ensure!(found.shape() == [3, n], at, format!("the shape [3, {n}]"), format!("{:?}", found.shape()));
    let mut axes = found.outer_iter().map(|axis| axis.iter().copied().collect());
    Ok(Positions::Mrope(std::array::from_fn(|_| axes.next().unwrap_or_default())))
}

/// A table of whole numbers, N an image.
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

fn given_tiles(config: &LlavaOnevisionConfig, candidate: &Bundle, film: Option<usize>) -> Result<Vec<GivenImage>> {
    let at = |name: &str| format!("{}: {name}", candidate.label());
    let sizes = table::<2>(candidate, "input.sizes")?;
    let anyres = Anyres::from(config);
    let pixels = match candidate.get("input.pixels") {
        Some(_) => Some(candidate.f32("input.pixels")?),
        None => None,
    };
    let tiles = |&[h, w]: &[usize; 2]| {
        let packing = match film {
            Some(rows) => anyres.video(anyres.frames(rows), (h, w)),
            None => anyres.packing((h, w), sizes.len() == 1),
        };
        Ok(packing.map_err(|e| e.within(at("input.sizes")))?.tiles)
    };
    let tiles = sizes.iter().map(tiles).collect::<Result<Vec<usize>>>()?;
    let shape = |tiles: usize| [tiles, 3, anyres.tile, anyres.tile];
    room(&at("input.sizes"), tiles.iter().map(|&tiles| shape(tiles)))?;
    let images = sizes.iter().zip(tiles).enumerate().map(|(i, (&[h, w], tiles))| {
        let shape = shape(tiles);
        let Some(all) = &pixels else { return Ok(GivenImage::tiles(Array4::zeros(shape), (h, w))) };
        let fits = all.ndim() == 5
            && all.shape()[0] == sizes.len()
            && all.shape()[1] >= tiles
            && all.shape()[2..] == shape[1..];
        ensure!(
            fits,
            at("input.pixels"),
            format!("the shape [{}, tiles, 3, {}, {}] of input.sizes", sizes.len(), anyres.tile, anyres.tile),
            format!("{:?}", all.shape())
        );
        let of = all.slice(s![i, ..tiles, .., .., ..]).to_owned();
        let pixels = of.into_shape_with_order(shape).map_err(|e| Error::new(at("input.pixels"), "its tiles", e))?;
        Ok(GivenImage::tiles(pixels, (h, w)))
    });
    images.collect()
}

/// Tiles of all images one after the other; their number follows from the sizes.
fn given_rows_of_tiles(config: &InternVlConfig, candidate: &Bundle) -> Result<Vec<GivenImage>> {
    let at = |name: &str| format!("{}: {name}", candidate.label());
    let sizes = table::<2>(candidate, "input.sizes")?;
    let tiling = Tiling::of(config);
    let count = |&[h, w]: &[usize; 2]| Ok(tiling.packing((h, w)).map_err(|e| e.within(at("input.sizes")))?.tiles);
    let counts = sizes.iter().map(count).collect::<Result<Vec<usize>>>()?;
    let shape = [counts.iter().sum(), 3, tiling.tile, tiling.tile];
    room(&at("input.sizes"), [shape])?;
    let pixels = match candidate.get("input.pixels") {
        None => Array4::zeros(shape),
        Some(_) => {
            let found = candidate.f32("input.pixels")?;
            let got = format!("{:?}", found.shape());
            let fits = found.into_dimensionality().ok().filter(|p: &Array4<f32>| p.shape() == shape);
            fits.ok_or_else(|| Error::new(at("input.pixels"), format!("the shape {shape:?} of input.sizes"), got))?
        }
    };
    let mut first = 0;
    let image = |(&[h, w], tiles): (&[usize; 2], usize)| {
        let range = first..first + tiles;
        first = range.end;
        GivenImage::tiles(pixels.slice(s![range, .., .., ..]).to_owned(), (h, w))
    };
    Ok(sizes.iter().zip(counts).map(image).collect())
}

fn given_patches(config: &Qwen2VlConfig, candidate: &Bundle) -> Result<Vec<GivenImage>> {
    let at = |name: &str| format!("{}: {name}", candidate.label());
    let grids = table::<3>(candidate, "input.grid")?;
    let v = &config.vision;
    // Sizes are for drawing only; without them an image is as large as it is read.
    let sizes = match candidate.get("input.sizes") {
        Some(_) => table::<2>(candidate, "input.sizes")?,
        None => grids.iter().map(|&[_, h, w]| [h.saturating_mul(v.patch), w.saturating_mul(v.patch)]).collect(),
    };
    let patches = |grid: &[usize; 3]| grid.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let all = grids.iter().try_fold(0usize, |n, grid| n.checked_add(patches(grid)?)).filter(|&n| n <= 1 << 24);
    let all = all.ok_or_else(|| Error::new(at("input.grid"), "sides of images", "more patches than any prompt has"))?;
    ensure!(sizes.len() == grids.len(), at("input.sizes"), format!("sizes of {} images", grids.len()), sizes.len());
    let shape = (all, v.patch_numbers());
    room(&at("input.grid"), [[shape.0, shape.1]])?;
    let pixels = match candidate.get("input.pixels") {
        None => Array2::zeros(shape),
        Some(_) => {
            let found = candidate.f32("input.pixels")?;
            let got = format!("{:?}", found.shape());
            let fits = found.into_dimensionality().ok().filter(|p: &Array2<f32>| p.dim() == shape);
            fits.ok_or_else(|| Error::new(at("input.pixels"), format!("the shape {shape:?} of input.grid"), got))?
        }
    };
    let mut first = 0;
    let image = |(&grid, [h, w]): (&[usize; 3], [usize; 2])| {
        let rows = first..first + patches(&grid).unwrap_or(0);
        first = rows.end;
        GivenImage::patches(pixels.slice(s![rows, ..]).to_owned(), (h, w), grid)
    };
    Ok(grids.iter().zip(sizes).map(image).collect())
}
