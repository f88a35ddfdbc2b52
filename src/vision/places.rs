//! Where patches lie in an image, in the order in which they are read, and what their places give them: rotary angles,
//! windows, learned positions.

use crate::kernel::{Angles, Frequencies};
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::weights::Matrix;
use ndarray::Array2;

/// Row and column of every patch, in the order of the patches: the squares of m × m patches come row by row, and the
/// patches of a square come row by row. Spec: D4.5
pub fn places([t, h, w]: [usize; 3], m: usize) -> impl Iterator<Item = [i64; 2]> {
    let within = move |i: usize| {
        let (square, part) = (i / (m * m), i % (m * m));
        let (y, x) = (square / (w / m) * m + part / m, square % (w / m) * m + part % m);
        [y as i64, x as i64]
    };
    (0..t * h * w).map(move |i| within(i % (h * w)))
}

/// The rotary angles of patches: each frequency turns with the patch's row, then with its column. at: row and column of
/// each patch. The rotation runs in full width, with full-width cosine and sine (R5.8). Spec: E5.8
pub fn angles<T: Real>(pass: &Pass<'_, T>, frequencies: &Frequencies, at: &[[i64; 2]]) -> Angles<T> {
    let half = frequencies.len();
    let axis = |row: usize, i: usize| (i % half, at[row][i / half]);
    pass.angles((at.len(), 2 * half), frequencies, axis, None, Grid::Native)
}

/// The order in which squares of patches go through windows, and the number of squares in each window that is not empty.
/// A window has `side` × `side` squares; the windows at the right and at the bottom may have fewer. Windows come row by
/// row, and the squares of a window come row by row.
///
/// [t, h, w]: the moments, and the squares of each. Spec: E5.17
///
/// ```
/// let (order, lengths) = aircache::vision::windows([1, 2, 3], 2);
/// assert_eq!((order, lengths), (vec![0, 1, 3, 4, 2, 5], vec![4, 2]));
/// ```
pub fn windows([t, h, w]: [usize; 3], side: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut order, mut lengths) = (Vec::with_capacity(t * h * w), Vec::new());
    for time in 0..t {
        for top in (0..h).step_by(side) {
            for left in (0..w).step_by(side) {
                let (bottom, right) = ((top + side).min(h), (left + side).min(w));
                let rows = (top..bottom).flat_map(|y| (left..right).map(move |x| (time * h + y) * w + x));
                order.extend(rows);
                lengths.push((bottom - top) * (right - left));
            }
        }
    }
    (order, lengths)
}

/// Learned positions of a grid of side × side, interpolated between its corners to the patches of images: [n, d_v], not
/// stored. table: [side · side or more, d_v]; grids: time, height and width of each image in patches; m: side in patches
/// of the squares, which order the patches (D4.5). Spec: E5.19, A5.19
pub fn interpolated<T: Real>(table: &Matrix, side: usize, grids: &[[usize; 3]], m: usize) -> Array2<T> {
    let n = grids.iter().map(|grid| grid.iter().product::<usize>()).sum();
    let mut rows = Array2::from_elem((n, table.cols()), T::ZERO);
    let each = grids.iter().flat_map(|&grid| places(grid, m).map(move |at| (grid, at)));
    let mut learned = vec![T::ZERO; table.cols()];
    for (mut row, ([_, h, w], [y, x])) in rows.outer_iter_mut().zip(each) {
        let (down, across) = (taps(y as usize, h, side), taps(x as usize, w, side));
        for (top, by_row) in down {
            for (left, by_column) in across {
                table.view().row_into(top * side + left, &mut learned);
                let weight = T::of_f32(by_row * by_column);
                row.iter_mut().zip(&learned).for_each(|(sum, &v)| *sum += weight * v);
            }
        }
    }
    rows
}

/// The two entries of `side` between which place i of `size` lies, if the first and the last places of both coincide,
/// and the share of each. Spec: E5.19
fn taps(i: usize, size: usize, side: usize) -> [(usize, f32); 2] {
    let source = i as f32 * (side - 1) as f32 / size.saturating_sub(1).max(1) as f32;
    let floor = source.floor();
    let share = |offset: f32| (1.0 - (source - floor - offset).abs()).max(0.0);
    [0, 1].map(|offset| ((floor as usize + offset).min(side - 1), share(offset as f32)))
}
