//! Images in a bundle: pixels in the shape of the family's processor, and the sizes or grids that give their
//! arrangement.

use super::Bundle;
use super::recorder::Recorder;
use crate::error::{Error, Result, ensure};
use crate::family::{self, Family, Outline};
use crate::input::{GivenImage, Positions, Prepared};
use crate::policy::Values;
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayD, IxDyn};

/// The stage that is needed to interpret pixels: grids or sizes.
pub(super) fn shape(family: &dyn Family) -> Site {
    if family.profile().pixels.has_grids() { Site::Grid } else { Site::Sizes }
}

/// Puts sizes, grids and pixels of the prompt's images. The prompt has at least one image.
///
/// # Errors
/// As the recorder.
pub(super) fn put(out: &mut Recorder, family: &dyn Family, prompt: &Prepared) -> Result<()> {
    let images = &prompt.images;
    let grids: Vec<[usize; 3]> = images.iter().filter_map(|image| image.grid).collect();
    let sizes = Array2::from_shape_fn((images.len(), 2), |(i, k)| {
        let (h, w) = images[i].size;
        [h, w][k] as i64
    });
    out.values(&Stage::once(Site::Sizes).name(), &Values::I64(sizes.into_dyn()))?;
    if !grids.is_empty() {
        let grid = Array2::from_shape_fn((grids.len(), 3), |(i, k)| grids[i][k] as i64);
        out.values(&Stage::once(Site::Grid).name(), &Values::I64(grid.into_dyn()))?;
    }
    if out.takes(&Stage::once(Site::Pixels).name()) {
        let views: Vec<_> = images.iter().map(|image| image.pixels.view()).collect();
        let pixels = family.profile().pixels.join(&views);
        out.pixels(&Stage::once(Site::Pixels).name(), pixels.shape(), pixels.as_slice().unwrap_or_default())?;
    }
    Ok(())
}

/// The images that a candidate's own stages describe: sizes, grids where the family has them, tiles or patches of each.
struct Described {
    sizes: Vec<[usize; 2]>,
    grids: Option<Vec<[usize; 3]>>,
    counts: Vec<usize>,
}

/// The images or the video that a candidate describes, in a prompt of `visual` rows or placeholders.
///
/// # Errors
/// Sizes or grids that the family does not accept; more images than placeholders.
fn described(family: &dyn Family, candidate: &Bundle, visual: usize, film: bool) -> Result<Described> {
    let name = |site: Site| Stage::once(site).name();
    let at = |site: Site| format!("{}: {}", candidate.label(), name(site));
    let (layout, lie) = (family.profile().pixels, shape(family));
    let images = candidate.stage(&name(lie))?.shape.first().copied().unwrap_or(0);
    ensure!(images <= visual, at(lie), format!("at most an image for each of {visual} placeholders"), images);

    let grids = if layout.has_grids() { Some(table::<3>(candidate, &name(Site::Grid))?) } else { None };
    let sizes: Vec<[usize; 2]> = match &grids {
        // Sizes are for drawing only. Without sizes, an image counts as large as its grid.
        Some(grids) if candidate.get(&name(Site::Sizes)).is_none() => {
            let patch = family.profile().tower.patch;
            grids.iter().map(|&[_, h, w]| [h.saturating_mul(patch), w.saturating_mul(patch)]).collect()
        }
        _ => table::<2>(candidate, &name(Site::Sizes))?,
    };
    ensure!(sizes.len() == images, at(Site::Sizes), format!("sizes of {images} images"), sizes.len());
    // Where a video has no placeholder of its own, its frames are images of one tile each.
    let tiles = candidate.get(&name(Site::Pixels)).and_then(|pixels| pixels.shape.first().copied());
    let alone = family.profile().video_token.is_none() && layout.is_flat() && tiles == Some(images);
    let frames = (film || alone).then(|| family.frames(visual));
    let counts = match &grids {
        Some(grids) => {
            patches(grids).ok_or_else(|| Error::new(at(lie), "sides of images", "more patches than any prompt has"))?
        }
        None => {
            let of = |&[h, w]: &[usize; 2]| Outline { size: (h, w), grid: None, of: images, frames, most: None };
            let all: Vec<Outline> = sizes.iter().map(of).collect();
            let all =
                family::packings(family, &all, tiles.filter(|_| layout.is_flat())).map_err(|e| e.within(at(lie)))?;
            all.iter().map(|packing| packing.tiles).collect()
        }
    };
    Ok(Described { sizes, grids, counts })
}

/// Bytes of the pixels that [`given`] makes, and of one copy.
///
/// # Errors
/// As [`given`], for sizes and grids.
pub(super) fn bytes(family: &dyn Family, candidate: &Bundle, visual: usize, film: bool) -> Result<u64> {
    let counts = described(family, candidate, visual, film)?.counts;
    let numbers = |&count: &usize| {
        let shape = family.profile().pixels.shape(count);
        shape.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64))
    };
    Ok(counts.iter().map(numbers).fold(0, u64::saturating_add).saturating_mul(2 * size_of::<f32>() as u64))
}

/// The images or the video that a candidate's own stages describe, in a prompt of `visual` rows or placeholders. If the
/// candidate has no pixels, the pixels are zeros.
///
/// # Errors
/// Shapes that do not fit; sizes that the family does not accept; more images than placeholders.
pub(super) fn given(family: &dyn Family, candidate: &Bundle, visual: usize, film: bool) -> Result<Vec<GivenImage>> {
    let Described { sizes, grids, counts } = described(family, candidate, visual, film)?;
    let name = |site: Site| Stage::once(site).name();
    let at = |site: Site| format!("{}: {}", candidate.label(), name(site));
    let (layout, lie) = (family.profile().pixels, shape(family));
    let pixels = match candidate.get(&name(Site::Pixels)) {
        None => counts.iter().map(|&count| ArrayD::zeros(IxDyn(&layout.shape(count)))).collect(),
        Some(_) => {
            let all = candidate.f32(&name(Site::Pixels))?;
            let found = format!("{:?}", all.shape());
            layout
                .part(all.view(), &counts)
                .map_err(|want| Error::new(at(Site::Pixels), format!("{want} of {}", name(lie)), found))?
        }
    };
    let image = |(i, pixels): (usize, ArrayD<f32>)| GivenImage {
        pixels,
        size: (sizes[i][0], sizes[i][1]),
        grid: grids.as_ref().map(|g| g[i]),
    };
    Ok(pixels.into_iter().enumerate().map(image).collect())
}

/// The number of patches of each image; none if it is larger than any prompt allows.
fn patches(grids: &[[usize; 3]]) -> Option<Vec<usize>> {
    let of = |grid: &[usize; 3]| grid.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let counts: Vec<usize> = grids.iter().map(of).collect::<Option<_>>()?;
    let all = counts.iter().try_fold(0usize, |n, &count| n.checked_add(count));
    all.filter(|&all| all <= 1 << 24).map(|_| counts)
}

/// The prompt with the candidate's own ids, positions and pixels, if the candidate has them in the prompt's shapes.
/// Also the stages that the candidate has in other shapes. Spec: D10.7
pub(super) fn own(family: &dyn Family, prompt: &Prepared, candidate: &Bundle) -> (Prepared, Vec<Site>) {
    let (mut own, mut unfit) = (prompt.clone(), vec![]);
    let n = prompt.ids.len();
    let integers =
        |site: Site| candidate.get(&Stage::once(site).name()).map(|_| candidate.i64(&Stage::once(site).name()));
    if let Some(ids) = integers(Site::Ids) {
        let known = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < family.profile().text.vocab);
        let ids = ids.ok().filter(|ids| ids.shape() == [n]);
        match ids.and_then(|ids| ids.into_iter().map(known).collect::<Option<Vec<u32>>>()) {
            Some(ids) => own.ids = ids,
            None => unfit.push(Site::Ids),
        }
    }
    if let Some(found) = integers(Site::Positions) {
        let sane = |all: &ArrayD<i64>| all.iter().all(|position| (0..1 << 31).contains(position));
        match (&mut own.positions, found.ok().filter(sane)) {
            (Positions::Linear(rows), Some(all)) if all.shape() == [n] => *rows = all.into_iter().collect(),
            (Positions::Mrope(axes), Some(all)) if all.shape() == [3, n] => {
                axes.iter_mut().zip(all.outer_iter()).for_each(|(axis, all)| *axis = all.iter().copied().collect());
            }
            _ => unfit.push(Site::Positions),
        }
    }
    let name = Stage::once(Site::Pixels).name();
    if candidate.get(&name).is_some() && !own.images.is_empty() {
        let counts: Vec<usize> = own.images.iter().map(|image| image.pixels.shape()[0]).collect();
        let parts = candidate.f32(&name).ok().and_then(|all| family.profile().pixels.part(all.view(), &counts).ok());
        match parts {
            Some(parts) => own.images.iter_mut().zip(parts).for_each(|(image, pixels)| image.pixels = pixels),
            None => unfit.push(Site::Pixels),
        }
    }
    (own, unfit)
}

/// A table of whole numbers, with N numbers for each image.
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
