//! Where patches lie in an image, in the order in which they are read.

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
