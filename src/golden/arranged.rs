//! Images whose sizes or grids a bundle does not hold: the grids that its positions show, and tiles whose order in the
//! prompt is not known. Not here: images that a bundle describes.

use super::images::shape;
use super::{Bundle, stages};
use crate::error::Result;
use crate::family::{Family, Outline};
use crate::input::mrope::{self, AfterVideo};
use crate::input::{GivenImage, Packing, Positions, Prepared, PreparedImage};
use crate::roles::{Role, Roles};
use crate::stage::{Site, Stage};
use ndarray::{ArrayD, IxDyn};

/// The stage of a replay that a prompt without sizes or grids makes up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: later stages are known from the projector on.
    Rows,
    /// The grids: the positions show them.
    Grids,
    /// The tiles, without their order in the prompt.
    Tiles,
}

/// The prompt of a bundle that has no sizes, or no grids in families that read images of any size.
///
/// # Errors
/// The ids make no prompt of this model.
pub(super) fn prompt(family: &dyn Family, candidate: &Bundle, ids: &[u32]) -> Result<(Prepared, Known)> {
    let token = family.visual_token(ids);
    let text: Vec<u32> = ids.iter().copied().filter(|&id| id != token).collect();
    let mut prompt = Prepared::from_ids(family, &text, vec![])?;
    (prompt.ids, prompt.roles) = (ids.to_vec(), Roles::of(ids, token));
    let n = ids.len();
    prompt.positions = Positions::in_order(n);
    if family.text().mrope.is_none() {
        let images = tiles(family, candidate, prompt.roles.visual().len());
        let known = if images.is_some() { Known::Tiles } else { Known::Rows };
        prompt.images = images.into_iter().collect();
        return Ok((prompt, known));
    }
    let in_order: Vec<i64> = (0..n as i64).collect();
    prompt.positions = Positions::Mrope([in_order.clone(), in_order.clone(), in_order]);
    let images = grids(candidate, &prompt.roles, n).and_then(|all| given(family, candidate, ids, &all));
    Ok(match images.and_then(|images| Prepared::from_ids(family, ids, images).ok()) {
        Some(shown) if shown.ids.len() == n => (shown, Known::Grids),
        // Positions in order are those of no image: a bundle's own positions fail against them.
        _ => (prompt, Known::Rows),
    })
}

/// Rows of each image in time, height and width: as many as its rows have different positions on each axis.
/// Spec: C10.5d
fn grids(candidate: &Bundle, roles: &Roles, n: usize) -> Option<Vec<[usize; 3]>> {
    let name = Stage::once(Site::Positions).name();
    let positions = candidate.get(&name).and_then(|_| candidate.i64(&name).ok())?;
    let positions: Vec<i64> = Some(positions).filter(|p| p.shape() == [3, n])?.into_iter().collect();
    let runs = roles.0.chunk_by(|a, b| a == b);
    let mut first = 0;
    let mut all = vec![];
    for run in runs {
        let rows = first..first + run.len();
        first = rows.end;
        if run[0] != Role::Visual {
            continue;
        }
        let sides = [0, 1, 2].map(|axis| {
            let mut found = positions[axis * n..][rows.clone()].to_vec();
            found.sort_unstable();
            found.dedup();
            found.len()
        });
        let count = sides.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        if count != Some(rows.len()) {
            return None;
        }
        all.push(sides);
    }
    Some(all)
}

/// Images of these grids, counted in rows; their pixels are the bundle's own, or zeros.
fn given(family: &dyn Family, candidate: &Bundle, ids: &[u32], rows: &[[usize; 3]]) -> Option<Vec<GivenImage>> {
    let (layout, patch) = (family.profile().pixels, family.profile().tower.patch);
    let film = family.visual_token(ids) != family.image_token();
    let visual = rows.iter().map(|[t, h, w]| t * h * w).sum();
    let merged = |merge: usize| {
        let images = rows.iter().map(|&[t, h, w]| {
            let (grid, frames) = ([t, h * merge, w * merge], film.then(|| family.frames(visual)));
            let size = (grid[1] * patch, grid[2] * patch);
            let packing =
                family.packing(&Outline { size, grid: Some(grid), of: rows.len(), frames, most: None }).ok()?;
            (packing.rows.len() == t * h * w).then_some((grid, size))
        });
        images.collect::<Option<Vec<_>>>()
    };
    let images = (1..=MOST_MERGED).find_map(merged)?;
    let counts: Vec<usize> = images.iter().map(|(grid, _)| grid.iter().product()).collect();
    let name = Stage::once(Site::Pixels).name();
    let own = candidate.get(&name).and_then(|_| candidate.f32(&name).ok());
    let own = own.and_then(|all| layout.part(all.view(), &counts).ok());
    let pixels =
        own.unwrap_or_else(|| counts.iter().map(|&count| ArrayD::zeros(IxDyn(&layout.shape(count)))).collect());
    let image = |((grid, size), pixels)| GivenImage { pixels, size, grid: Some(grid) };
    Some(images.into_iter().zip(pixels).map(image).collect())
}

/// The most patches on each side of a row.
const MOST_MERGED: usize = 4;

/// All tiles of a prompt as one image, if the number of tiles is known; its rows are placeholders. Spec: C10.7c
fn tiles(family: &dyn Family, candidate: &Bundle, rows: usize) -> Option<PreparedImage> {
    let layout = family.profile().pixels;
    if shape(family) == Site::Grid || rows == 0 {
        return None;
    }
    let stage = |at: Stage| candidate.get(&at.name()).map(|t| t.shape.to_vec());
    let pixels = stage(Stage::once(Site::Pixels)).and_then(|shape| match shape[..] {
        [1, tiles, 3, _, _] | [tiles, 3, _, _] => Some(tiles),
        _ => None, // padded tiles of several images
    });
    let layers = family.profile().tower.used;
    let seen = (0..layers).map(|l| Stage::layer(Site::VisionOut, l)).chain([Stage::once(Site::Features)]);
    let tiles = pixels.or_else(|| seen.filter_map(stage).find_map(|shape| shape.first().copied()))?;
    let whole = layout.shape(tiles);
    if tiles == 0 || tiles > rows {
        return None;
    }
    let name = Stage::once(Site::Pixels).name();
    let own = candidate.get(&name).and_then(|_| candidate.f32(&name).ok());
    let own = own.and_then(|all| all.into_shape_with_order(IxDyn(&whole)).ok());
    Some(PreparedImage {
        size: (1, 1),
        grid: None,
        interval: 1.0,
        pixels: own.unwrap_or_else(|| ArrayD::zeros(IxDyn(&whole))),
        packing: Packing::unordered(tiles, rows),
        sha256: String::new(),
    })
}

/// Takes the frames a second, and the reading of where the text after a video stands, that the candidate's positions
/// have, if some video has these positions. Spec: A4.8, C10.7d
pub(super) fn as_timed(family: &dyn Family, prompt: &mut Prepared, candidate: &Bundle) {
    let name = Stage::once(Site::Positions).name();
    let own = candidate.get(&name).and_then(|_| candidate.i64(&name).ok());
    let (Some(own), Some(video)) = (own, prompt.roles.one_run()) else { return };
    let Some([t, h, w]) = prompt.images.first().and_then(|image| image.grid) else { return };
    if own.shape() != [3, prompt.ids.len()] || t == 0 || !video.len().is_multiple_of(t) {
        return;
    }
    // Moment i is at trunc(i · interval): each of the times gives a least interval, and the largest of these serves all.
    let time = |moment: usize| own[[0, video.start + moment * (video.len() / t)]] - own[[0, video.start]];
    let interval = (1..t).map(|moment| time(moment) as f32 / moment as f32).fold(0.0, f32::max);
    let merged = (t * h * w / video.len()).isqrt().max(1); // patches along a side of a row's square
    let reads_time = family.interval(1.0) != family.interval(2.0);
    let others = [interval, interval.next_up()].into_iter().filter(|_| reads_time);
    for interval in std::iter::once(prompt.images[0].interval).chain(others) {
        let images = vec![PreparedImage { interval, ..prompt.images[0].clone() }];
        let mut positions = family.positions(&prompt.ids, &images);
        for _ in [AfterVideo::Largest, AfterVideo::Side] {
            if own == stages::table(&positions) {
                prompt.positions = positions;
                return;
            }
            mrope::after_side(&mut positions, video.clone(), h.max(w) / merged);
        }
    }
}
