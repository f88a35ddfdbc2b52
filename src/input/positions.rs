//! The positions of rows for the rotary embedding: one number for each row, or three.

use std::ops::Range;

/// The rotary positions of the prompt rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// One position for each row.
    Linear(Vec<i64>),
    /// M-RoPE: time, height and width of each row.
    Mrope([Vec<i64>; 3]),
}

impl Positions {
    /// Positions of rows in sequence, from 0.
    pub fn in_order(n: usize) -> Positions {
        Positions::Linear((0..n as i64).collect())
    }

    /// The positions of rows of several prompts, one prompt after the other. All prompts belong to one family, so all
    /// have one position for each row, or all have three.
    pub fn joined<'a>(parts: impl Iterator<Item = (&'a Positions, Range<usize>)> + Clone) -> Positions {
        let axis = |axis: usize| parts.clone().flat_map(|(of, rows)| rows.map(move |row| of.at(row, axis))).collect();
        match parts.clone().next() {
            Some((Positions::Mrope(_), _)) => Positions::Mrope([axis(0), axis(1), axis(2)]),
            _ => Positions::Linear(axis(0)),
        }
    }

    /// The positions of some rows.
    pub fn picked(&self, rows: &[usize]) -> Positions {
        Positions::joined(rows.iter().map(|&row| (self, row..row + 1)))
    }

    /// The positions of all rows, where only the rows `left`, ascending, enter the decoder: these are counted from 0, and
    /// a row that was dropped has the position of the row before it. M-RoPE: unchanged. Spec: C9.10a
    ///
    /// ```
    /// use aircache::input::Positions;
    /// assert_eq!(Positions::in_order(4).closed(&[0, 2]), Positions::Linear(vec![0, 0, 1, 1]));
    /// ```
    pub fn closed(&self, left: &[usize]) -> Positions {
        match self {
            Positions::Linear(all) => {
                let rank = |row: usize| left.partition_point(|&l| l <= row).saturating_sub(1) as i64;
                Positions::Linear((0..all.len()).map(rank).collect())
            }
            Positions::Mrope(_) => self.clone(),
        }
    }

    /// The position of `row` on an axis: 0 time, 1 height, 2 width. If rows have one position, all axes return the same
    /// value.
    pub fn at(&self, row: usize, axis: usize) -> i64 {
        match self {
            Positions::Linear(rows) => rows[row],
            Positions::Mrope(axes) => axes[axis][row],
        }
    }

    /// The position of the first generated token: 1 + the largest position, or 0 if there are no rows.
    /// Spec: E6.8, C6.10b
    pub fn next(&self) -> i64 {
        let largest = match self {
            Positions::Linear(rows) => rows.iter().max(),
            Positions::Mrope(axes) => axes.iter().flatten().max(),
        };
        largest.map_or(0, |p| p + 1)
    }

    /// As [`next`](Self::next), for some of the rows.
    pub fn next_of(&self, rows: Range<usize>) -> i64 {
        rows.flat_map(|row| (0..3).map(move |axis| self.at(row, axis))).max().map_or(0, |p| p + 1)
    }
}
