//! The rotary angles of a batch of rows: which position each frequency uses, and how dynamic NTK scaling changes the
//! frequencies with the length of a sequence.

use crate::config::DecoderConfig;
use crate::input::Positions;
use crate::kernel::{Angles, inverse_frequencies};
use crate::num::{Grid, Real};
use ndarray::{Axis, concatenate};

/// The parameters of a decoder's rotary angles.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    frequencies: Vec<f32>,
    /// The index of the row's position that each frequency uses. It is 0 without M-RoPE (E6.10).
    axes: Vec<usize>,
    scaled: Option<Dynamic>,
}

/// Dynamic NTK scaling. Spec: E6.12
#[derive(Debug, Clone, Copy)]
struct Dynamic {
    theta: f64,
    head_dim: usize,
    factor: f64,
    trained: usize,
}

impl Dynamic {
    /// The frequencies of a sequence of `length` rows that is longer than the model was trained for. Spec: E6.12
    fn frequencies(&self, length: usize) -> Vec<f32> {
        let stretch = self.factor * length as f64 / self.trained as f64 - (self.factor - 1.0);
        let d = self.head_dim as f64;
        let theta = (self.theta * libm::pow(stretch, d / (d - 2.0))) as f32; // A6.12
        inverse_frequencies(f64::from(theta), self.head_dim)
    }
}

impl Rotary {
    pub fn new(c: &DecoderConfig) -> Rotary {
        let dynamic = |factor| Dynamic { theta: c.rope_theta, head_dim: c.head_dim, factor, trained: c.max_positions };
        Rotary {
            frequencies: inverse_frequencies(c.rope_theta, c.head_dim),
            axes: c.axes(),
            scaled: c.ntk.map(dynamic),
        }
    }

    /// The angles of rows at `positions`. sequences: the number of rows of each sequence, and 1 + the sequence's
    /// largest position, which is its length. If a sequence is longer than the model was trained for (C6.12a), its
    /// frequencies depend on its own length (C6.12b). Spec: E3.12, E6.10, E6.12
    pub fn angles<T: Real>(
        &self,
        positions: &Positions,
        sequences: impl Iterator<Item = (usize, i64)>,
        grid: Grid,
    ) -> Angles<T> {
        let mut first = 0;
        let each = sequences.map(|(rows, length)| {
            let of = first..first + rows;
            first = of.end;
            let length = length.max(0) as usize;
            let scaled = self.scaled.filter(|scaled| length > scaled.trained).map(|scaled| scaled.frequencies(length));
            let frequencies = scaled.as_deref().unwrap_or(&self.frequencies);
            Angles::new(rows, frequencies, |row, i| positions.at(of.start + row, self.axes[i]), grid)
        });
        let mut each: Vec<Angles<T>> = each.collect();
        if each.len() < 2 {
            return each.pop().unwrap_or_else(|| Angles::new(0, &self.frequencies, |_, _| 0, grid));
        }
        let joined = |of: fn(&Angles<T>) -> ndarray::ArrayView2<'_, T>| {
            let views: Vec<_> = each.iter().map(of).collect();
            concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E3.12: half a head a row"))
        };
        Angles { cos: joined(|a| a.cos.view()), sin: joined(|a| a.sin.view()) }
    }
}
