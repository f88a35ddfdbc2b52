//! The rotary angles of a batch of rows: which position each frequency uses, and how the frequencies change with the
//! length of a sequence (dynamic NTK scaling, long rope).

use crate::config::{DecoderConfig, LongRope};
use crate::input::Positions;
use crate::kernel::{Angles, divided_frequencies, inverse_frequencies};
use crate::num::{Grid, Real};
use ndarray::{Axis, concatenate};
use std::borrow::Cow;

/// The parameters of a decoder's rotary angles.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    frequencies: Vec<f32>,
    /// The index of the row's position that each frequency uses. It is 0 without M-RoPE (E6.10).
    axes: Vec<usize>,
    /// The frequencies of long sequences.
    scaled: Option<Scaled>,
    /// s: the scale of cosines and sines, in long rope.
    scale: Option<f64>,
}

/// How the frequencies of a long sequence differ.
#[derive(Debug, Clone)]
enum Scaled {
    Dynamic(Dynamic),
    /// The frequencies of sequences of more rows than `trained`. Spec: E6.15, C6.15a, A6.15
    Long {
        frequencies: Vec<f32>,
        trained: usize,
    },
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

impl Scaled {
    /// The frequencies of a sequence of `length` rows, if the length changes them.
    fn frequencies(&self, length: usize) -> Option<Cow<'_, [f32]>> {
        match self {
            Scaled::Dynamic(scaled) => (length > scaled.trained).then(|| scaled.frequencies(length).into()),
            Scaled::Long { frequencies, trained } => (length > *trained).then(|| frequencies.into()),
        }
    }
}

impl Rotary {
    pub fn new(c: &DecoderConfig) -> Rotary {
        let dynamic = |factor| Dynamic { theta: c.rope_theta, head_dim: c.head_dim, factor, trained: c.max_positions };
        let Some(LongRope { short, long, trained, scale }) = &c.long_rope else {
            let frequencies = inverse_frequencies(c.rope_theta, c.head_dim);
            return Rotary {
                frequencies,
                axes: c.axes(),
                scaled: c.ntk.map(dynamic).map(Scaled::Dynamic),
                scale: None,
            };
        };
        let by = |factors: &[f64]| divided_frequencies(c.rope_theta, factors);
        let scaled = Some(Scaled::Long { frequencies: by(long), trained: *trained });
        Rotary { frequencies: by(short), axes: c.axes(), scaled, scale: Some(*scale) }
    }

    /// The angles of rows at `positions`. sequences: the number of rows of each sequence, and 1 + the sequence's
    /// largest position, which is its length. If a sequence is longer than the model was trained for (C6.12a), its
    /// frequencies depend on its own length (C6.12b). Spec: E3.12, E6.10, E6.12, E6.15
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
            let scaled = self.scaled.as_ref().and_then(|scaled| scaled.frequencies(length));
            let frequencies = scaled.as_deref().unwrap_or(&self.frequencies);
            let position = |row: usize, i: usize| positions.at(of.start + row, self.axes[i]);
            match self.scale {
                None => Angles::new(rows, frequencies, position, grid),
                Some(scale) => Angles::new(rows, frequencies, position, Grid::Native).scaled(scale, grid),
            }
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
