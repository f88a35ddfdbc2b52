//! M-RoPE: the positions of prompt rows in time, height and width. Source: `get_rope_index` of transformers 4.45 to 4.57,
//! and of 5.3 and later ([`AfterVideo::Side`]). Spec: E4.14, A4.8

use super::positions::Positions;

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

/// Moves the text after a video of this grid in rows to the place that [`AfterVideo::Side`] gives it, and tells whether it
/// moved. `last` is the last row of the video. Spec: A4.8
pub fn after_side(positions: &mut Positions, last: usize, [t, h, w]: [usize; 3]) -> bool {
    let by = t.saturating_sub(h.max(w)) as i64;
    if let Positions::Mrope(axes) = positions {
        axes.iter_mut().flat_map(|axis| &mut axis[last + 1..]).for_each(|position| *position -= by);
    }
    by > 0
}

/// Positions of a prompt whose placeholders are expanded: ids \[n\] → 3 × \[n\].
///
/// grids: time, height and width of each image in rows, in prompt order. Spec: E4.14, C4.16a
pub fn positions(ids: &[u32], image_token: u32, grids: &[[usize; 3]]) -> Positions {
    let mut axes: [Vec<i64>; 3] = Default::default();
    let (mut next, mut row) = (0, 0);
    let mut grids = grids.iter().filter(|grid| grid.iter().all(|&side| side > 0));
    while row < ids.len() {
        let grid = if ids[row] == image_token { grids.next() } else { None };
        let Some(&[t, h, w]) = grid else {
            axes.iter_mut().for_each(|axis| axis.push(next));
            (next, row) = (next + 1, row + 1);
            continue;
        };
        let rows = (t * h * w).min(ids.len() - row);
        for i in 0..rows {
            for (axis, at) in axes.iter_mut().zip([i / (h * w), i / w % h, i % w]) {
                axis.push(next + at as i64);
            }
        }
        next += t.max(h).max(w) as i64;
        row += rows;
    }
    Positions::Mrope(axes)
}
