//! M-RoPE: the positions of prompt rows in time, height and width. Source: `get_rope_index` of transformers 4.45 to 4.57,
//! and of 5.3 and later ([`AfterVideo::Side`]). Spec: E4.14, A4.8

use super::positions::Positions;
use std::ops::Range;

/// The frames a second of a video of which this is not known, as transformers 5 has it. Spec: D4.15
pub const FPS: f64 = 24.0;

/// Where the text after a video stands. Spec: A4.8
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterVideo {
    /// Behind every position of the video: the model was trained so.
    #[default]
    Largest,
    /// Behind the longer side of a frame, as transformers 5.3 and later do, also if the video has more moments.
    Side,
}

impl AfterVideo {
    /// The name of the choice.
    pub fn name(self) -> &'static str {
        match self {
            AfterVideo::Largest => "largest",
            AfterVideo::Side => "side",
        }
    }
}

/// Moves the text after a video to the place that [`AfterVideo::Side`] gives it, and tells whether it moved. `rows`: the
/// rows of the video, which follow each other; `side`: the longer side of a frame in rows. Spec: A4.8
pub fn after_side(positions: &mut Positions, rows: Range<usize>, side: usize) -> bool {
    let Positions::Mrope(axes) = positions else { return false };
    let Some(&next) = axes[0].get(rows.end) else { return false };
    let by = (next - axes[0][rows.start] - side as i64).max(0);
    axes.iter_mut().flat_map(|axis| &mut axis[rows.end..]).for_each(|position| *position -= by);
    by > 0
}

/// An image or a video among the rows of a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// Time, height and width in rows.
    pub rows: [usize; 3],
    /// How far moments stand apart in time. Spec: E4.30
    pub interval: f32,
}

impl Placed {
    /// The time of a moment, counted from the first: the product in f32, truncated. Spec: E4.30
    fn time(&self, moment: usize) -> i64 {
        (moment as f32 * self.interval) as i64
    }
}

/// Positions of a prompt whose placeholders are expanded: ids \[n\] → 3 × \[n\].
///
/// grids: time, height and width of each image in rows, in prompt order. Spec: E4.14, C4.16a
pub fn positions(ids: &[u32], image_token: u32, grids: &[[usize; 3]]) -> Positions {
    let placed: Vec<Placed> = grids.iter().map(|&rows| Placed { rows, interval: 1.0 }).collect();
    timed(ids, image_token, &placed)
}

/// As [`positions`], with videos whose moments stand apart. Spec: E4.30
pub fn timed(ids: &[u32], image_token: u32, placed: &[Placed]) -> Positions {
    let mut axes: [Vec<i64>; 3] = Default::default();
    let (mut next, mut row) = (0, 0);
    let mut placed = placed.iter().filter(|placed| placed.rows.iter().all(|&side| side > 0));
    while row < ids.len() {
        let here = if ids[row] == image_token { placed.next() } else { None };
        let Some(here @ &Placed { rows: [t, h, w], .. }) = here else {
            axes.iter_mut().for_each(|axis| axis.push(next));
            (next, row) = (next + 1, row + 1);
            continue;
        };
        let rows = (t * h * w).min(ids.len() - row);
        for i in 0..rows {
            for (axis, at) in axes.iter_mut().zip([here.time(i / (h * w)), (i / w % h) as i64, (i % w) as i64]) {
                axis.push(next + at);
            }
        }
        next += (here.time(t - 1) + 1).max(h.max(w) as i64);
        row += rows;
    }
    Positions::Mrope(axes)
}
