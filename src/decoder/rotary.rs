//! The rotary angles of a batch of rows: which position each frequency uses, and how the frequencies change with the
//! length of a sequence (dynamic NTK scaling, long rope).

use crate::config::{DecoderConfig, LongRope};
use crate::input::Positions;
use crate::kernel::{Angles, Frequencies, Turn};
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, Axis, concatenate};
use std::borrow::Cow;

/// The parameters of a decoder's rotary angles.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    frequencies: Frequencies,
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
        frequencies: Frequencies,
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
    fn frequencies(&self, length: usize) -> Frequencies {
        let stretch = self.factor * length as f64 / self.trained as f64 - (self.factor - 1.0);
        let d = self.head_dim as f64;
        let theta = (self.theta * libm::pow(stretch, d / (d - 2.0))) as f32; // A6.12
        Frequencies::new(f64::from(theta), self.head_dim)
    }
}

impl Scaled {
    /// The frequencies of a sequence of `length` rows, if the length changes them.
    fn frequencies(&self, length: usize) -> Option<Cow<'_, Frequencies>> {
        match self {
            Scaled::Dynamic(scaled) => (length > scaled.trained).then(|| Cow::Owned(scaled.frequencies(length))),
            Scaled::Long { frequencies, trained } => (length > *trained).then_some(Cow::Borrowed(frequencies)),
        }
    }
}

impl Rotary {
    pub fn new(c: &DecoderConfig) -> Rotary {
        let dynamic = |factor| Dynamic { theta: c.rope_theta, head_dim: c.head_dim, factor, trained: c.max_positions };
        let of = |theta| Frequencies::new(theta, c.head_dim);
        let Some(LongRope { short, long, trained, scale }) = &c.long_rope else {
            let scaled = c.ntk.map(dynamic).map(Scaled::Dynamic);
            return Rotary { frequencies: of(c.rope_theta), axes: c.axes(), scaled, scale: None };
        };
        let by = |factors: &[f64]| of(c.rope_theta).divided(factors);
        let scaled = Some(Scaled::Long { frequencies: by(long), trained: *trained });
        Rotary { frequencies: by(short), axes: c.axes(), scaled, scale: Some(*scale) }
    }

    /// The frequencies of a sequence. If the sequence is longer than the model was trained for (C6.12a), they depend on
    /// its own length (C6.12b).
    fn frequencies(&self, length: i64) -> Cow<'_, Frequencies> {
        let scaled = self.scaled.as_ref().and_then(|scaled| scaled.frequencies(length.max(0) as usize));
        scaled.unwrap_or(Cow::Borrowed(&self.frequencies))
    }

    /// The angles of rows at `positions`. sequences: the number of rows of each sequence, and 1 + the sequence's
    /// largest position, which is its length. Spec: E3.12, E6.10, E6.12, E6.15
    pub fn angles<T: Real>(
        &self,
        pass: &Pass<'_, T>,
        positions: &Positions,
        sequences: impl Iterator<Item = (usize, i64)>,
    ) -> Angles<T> {
        let (mut first, pairs) = (0, self.frequencies.len());
        let of = |first: usize, rows: usize, length: i64| {
            let at = |row, i: usize| (i, positions.at(first + row, self.axes[i]));
            pass.angles((rows, pairs), &self.frequencies(length), at, self.scale, pass.grid)
        };
        let each = sequences.map(|(rows, length)| {
            first += rows;
            of(first - rows, rows, length)
        });
        let mut each: Vec<Angles<T>> = each.collect();
        if each.len() < 2 {
            return each.pop().unwrap_or_else(|| of(0, 0, 0));
        }
        let joined = |of: fn(&Angles<T>) -> ndarray::ArrayView2<'_, T>| {
            let views: Vec<_> = each.iter().map(of).collect();
            concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E3.12: half a head a row"))
        };
        Angles { cos: joined(|a| a.cos.view()), sin: joined(|a| a.sin.view()) }
    }

    /// The frequency of each pair, and the axis of its position: \[d_h/2\].
    pub fn pairs(&self, length: i64) -> Vec<(f64, usize)> {
        let frequencies = self.frequencies(length);
        (0..frequencies.len()).map(|i| (frequencies.angle(Turn::Exact, 1, i), self.axes[i])).collect()
    }

    /// How far honest angles in f32 may be from the exact angles: [rows, d_h/2], in radians. Spec: D10.11
    pub fn slack(&self, rows: usize, positions: &Positions, length: i64) -> Array2<f64> {
        let frequencies = self.frequencies(length);
        let slack = |(row, i): (usize, usize)| frequencies.slack(positions.at(row, self.axes[i]), i);
        Array2::from_shape_fn((rows, frequencies.len()), slack)
    }
}
