//! The prompt rows of an image in anyres tiles, and of a video with one tile for each frame.
//!
//! Source: transformers 5.17 `pack_image_features` of the LLaVA family. Spec: E4.7, E4.8, E4.23, D4.1

use super::anyres::{Anyres, TokenGrid};
use super::packing::{Moment, PackedRow, Packing};
use crate::error::{Result, ensure};

/// The mapping from tokens back to the image.
struct View {
    size: (usize, usize),
    tile: usize,
    patch: usize,
    drop_first: bool,
    /// Base tile and grid: image coordinate = factor · canvas coordinate − offset, (y, x).
    base: [(f64, f64); 2],
    grid: [(f64, f64); 2],
    tokens: TokenGrid,
}

/// The source index, and the index and weight of the second neighbour, as `interpolate(mode="bilinear")` computes them
/// in float64. Spec: E4.7
fn source(i: usize, n_in: usize, n_out: usize) -> (usize, usize, f64) {
    let at = ((n_in as f64 / n_out as f64) * (i as f64 + 0.5) - 0.5).max(0.0);
    let low = (at as usize).min(n_in - 1);
    (low, (low + 1).min(n_in - 1), (at - low as f64).clamp(0.0, 1.0))
}

/// The most rows of an image or a video: twice the limit of any published processor.
const MAX_ROWS: usize = 1 << 16;

impl Anyres {
    /// The rows of an image of `size` = (height, width). Set `tiled` if the image is the only one of its prompt.
    ///
    /// # Errors
    /// As [`Anyres::tokens`]; a tiled image if the checkpoint drops the first token, because transformers has no grid
    /// for it.
    /// Spec: E4.8, C4.8c, C4.8d
    pub fn packing(&self, size: (usize, usize), tiled: bool) -> Result<Packing> {
        let (h, w) = size;
        ensure!(h > 0 && w > 0, "image", "at least one pixel", format!("{h} × {w} pixels"));
        let side = self.side();
        let base = side * side - usize::from(self.drop_first && side > 0);
        let few = |rows: usize| -> Result<()> {
            let want = format!("an image of at most {MAX_ROWS} tokens");
            ensure!(rows <= MAX_ROWS, "patch_size", want, format!("{rows} tokens"), "no prompt is that long");
            Ok(())
        };
        few(base)?;
        let mut rows: Vec<PackedRow> = (0..base).map(|token| PackedRow::Token { tile: 0, token }).collect();
        let mut view = View {
            size,
            tile: self.tile,
            patch: self.patch,
            drop_first: self.drop_first,
            base: [h, w].map(|n| (n as f64 / self.tile as f64, 0.0)),
            grid: [(0.0, 0.0); 2],
            tokens: TokenGrid { cut: (0, 0), unpadded: (0, 0), shrunk: (0, 0) },
        };
        if !tiled {
            rows.push(PackedRow::Newline);
            let square = h.max(w);
            view.base = [h, w].map(|n| (square as f64 / self.tile as f64, ((square - n) / 2) as f64));
            return Ok(view.packing(base, (0, 0), 1, rows));
        }
        ensure!(
            !self.drop_first,
            "vision_feature_select_strategy",
            "\"full\" for a single image, which is tiled",
            "\"default\"",
            "transformers refuses this too; several images of one prompt work"
        );
        let target = self.resolution(size)?;
        let fitted = Anyres::fit(size, target);
        view.grid = [(h, fitted.0, target.0), (w, fitted.1, target.1)].map(|(n, fit, full)| {
            let factor = n as f64 / fit as f64;
            (factor, factor * ((full - fit) / 2) as f64)
        });
        view.tokens = self.tokens(size)?;
        let TokenGrid { cut, unpadded, shrunk } = view.tokens;
        let wide = target.1 / self.tile;
        let token = |y: usize, x: usize| {
            let (y, x) = (y + cut.0, x + cut.1);
            (1 + (y / side) * wide + x / side, (y % side) * side + x % side)
        };
        let (height, width) = shrunk;
        few(base + height * (width + 1))?;
        for y in 0..height {
            for x in 0..width {
                rows.push(if shrunk == unpadded {
                    let (tile, token) = token(y, x);
                    PackedRow::Token { tile, token }
                } else {
                    let (y0, y1, v) = source(y, unpadded.0, height);
                    let (x0, x1, u) = source(x, unpadded.1, width);
                    PackedRow::Blend(
                        [(y0, x0, 1.0 - v, 1.0 - u), (y0, x1, 1.0 - v, u), (y1, x0, v, 1.0 - u), (y1, x1, v, u)].map(
                            |(y, x, v, u)| {
                                let (tile, token) = token(y, x);
                                (tile, token, v * u)
                            },
                        ),
                    )
                });
            }
            rows.push(PackedRow::Newline);
        }
        let tiles = 1 + (target.0 / self.tile) * wide;
        Ok(view.packing(base, (height, width), tiles, rows))
    }
}

impl Anyres {
    /// The rows of a video of `frames` frames of `size` = (height, width), one tile for each frame. Each frame has half
    /// as many tokens on both sides, and each token is a blend of four. One newline follows the last frame. Spec: E4.23
    ///
    /// # Errors
    /// Frames without pixels; a checkpoint that drops the first token, because transformers has no grid for it; more
    /// rows than any prompt has.
    pub fn video(&self, frames: usize, (h, w): (usize, usize)) -> Result<Packing> {
        ensure!(
            h > 0 && w > 0 && frames > 0,
            "video",
            "frames of at least one pixel",
            format!("{frames} of {h} × {w}")
        );
        let expected = "\"full\" for a video, whose tokens form a grid";
        ensure!(
            !self.drop_first,
            "vision_feature_select_strategy",
            expected,
            "\"default\"",
            "transformers refuses this too"
        );
        let side = self.side();
        let half = side.div_ceil(2);
        let a_frame = half * half;
        let few = format!("at most {MAX_ROWS} rows");
        ensure!(frames.saturating_mul(a_frame) < MAX_ROWS, "video", few, format!("{frames} frames of {a_frame}"));
        let blend = |(tile, y, x): (usize, usize, usize)| {
            let ((y0, y1, v), (x0, x1, u)) = (source(y, side, half), source(x, side, half));
            let corners = [(y0, x0, 1.0 - v, 1.0 - u), (y0, x1, 1.0 - v, u), (y1, x0, v, 1.0 - u), (y1, x1, v, u)];
            PackedRow::Blend(corners.map(|(y, x, v, u)| (tile, y * side + x, v * u)))
        };
        // The tokens may not cover the whole tile; the tile shows the whole frame.
        let seen = (side * self.patch) as f64 / (self.tile * half) as f64;
        let region = |(_, y, x): (usize, usize, usize)| {
            let at = |i: usize, n: usize| i as f64 * seen * n as f64;
            Some([at(y, h), at(x, w), at(y + 1, h), at(x + 1, w)])
        };
        let places = (0..frames).flat_map(|f| (0..a_frame).map(move |i| (f, i / half, i % half)));
        Ok(Packing {
            base: 0,
            height: frames * half,
            width: half,
            tiles: frames,
            rows: places.clone().map(blend).chain([PackedRow::Newline]).collect(),
            moment: Some(Moment { rows: a_frame, frames: 1 }),
            regions: places.map(region).chain([None]).collect(),
        })
    }

    /// The number of frames of a video of `rows` rows. `rows` includes the newline.
    pub fn frames(&self, rows: usize) -> usize {
        let half = self.side().div_ceil(2);
        rows.saturating_sub(1) / (half * half).max(1)
    }
}

impl View {
    fn packing(&self, base: usize, (height, width): (usize, usize), tiles: usize, rows: Vec<PackedRow>) -> Packing {
        let region = |(i, row): (usize, &PackedRow)| self.region(i, row, base, width);
        let regions = rows.iter().enumerate().map(region).collect();
        Packing { base, height, width, tiles, rows, moment: None, regions }
    }

    fn region(&self, i: usize, row: &PackedRow, base: usize, width: usize) -> Option<[f64; 4]> {
        let View { tile, patch, tokens, .. } = self;
        let side = tile / patch;
        let spans = match row {
            PackedRow::Newline => return None,
            PackedRow::Token { token, .. } if i < base => {
                let token = token + usize::from(self.drop_first);
                self.spans(&self.base, [token / side, token % side].map(|t| (t as f64, t as f64 + 1.0)))
            }
            _ => {
                let (y, x) = ((i - base) / (width + 1), (i - base) % (width + 1));
                let span = |i: usize, cut: usize, n_in: usize, n_out: usize| {
                    let step = n_in as f64 / n_out as f64;
                    (cut as f64 + i as f64 * step, cut as f64 + (i + 1) as f64 * step)
                };
                let across = span(x, tokens.cut.1, tokens.unpadded.1, tokens.shrunk.1);
                self.spans(&self.grid, [span(y, tokens.cut.0, tokens.unpadded.0, tokens.shrunk.0), across])
            }
        };
        let [(top, bottom), (left, right)] = spans;
        (top < bottom && left < right).then_some([top, left, bottom, right])
    }

    /// Maps token coordinates (from, to) of both axes to clipped image coordinates.
    fn spans(&self, map: &[(f64, f64); 2], tokens: [(f64, f64); 2]) -> [(f64, f64); 2] {
        let View { size, tile, patch, .. } = self;
        let side = (tile / patch) as f64;
        // Patches may not fill a tile, so a border between tiles has two pixel coordinates: one from each side.
        let pixel = |t: f64, tiles: f64| tiles * *tile as f64 + (t - tiles * side) * *patch as f64;
        let mut axis = 0;
        tokens.map(|(from, to)| {
            let (factor, offset) = map[axis];
            let n = [size.0, size.1][axis] as f64;
            axis += 1;
            let (from, to) = (pixel(from, (from / side).floor()), pixel(to, (to / side).ceil() - 1.0));
            ((from * factor - offset).clamp(0.0, n), (to * factor - offset).clamp(0.0, n))
        })
    }
}
