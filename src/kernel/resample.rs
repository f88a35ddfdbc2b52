//! The two uint8 image resamplers that users meet, value for value: PyTorch's (torchvision) and Pillow's.
//!
//! Separable, antialiased, in fixed point. Each pass rounds and clamps to u8, so the order of the passes changes the
//! result. This is not a float resampler, and `fast_image_resize` gives other values too (16–21 % of values differ).
//! Source: tests/golden/resample/README.md, proven against torchvision 0.26 and Pillow 13. Spec: E4.1–E4.3

use crate::error::{Result, ensure};
use ndarray::{Array3, ArrayView3, Axis};

/// The program whose fixed-point arithmetic is used. Spec: T4.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resampler {
    /// PyTorch's uint8 kernel: int16 weights, horizontal pass first. transformers 5 uses it.
    #[default]
    Torchvision,
    /// Pillow 13: int32 weights of 22 bits; the vertical pass comes first if the height shrinks by much.
    Pillow,
    /// Pillow 12 and before: the same weights, horizontal pass always first.
    Pillow12,
}

impl Resampler {
    /// Every resampler.
    pub const ALL: [Resampler; 3] = [Resampler::Torchvision, Resampler::Pillow, Resampler::Pillow12];

    /// The name in bundles and options.
    pub fn name(self) -> &'static str {
        match self {
            Resampler::Torchvision => "torchvision",
            Resampler::Pillow => "pillow",
            Resampler::Pillow12 => "pillow-12",
        }
    }
}

/// The interpolation filter. Spec: T4.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The triangle, radius 1; Pillow's number 2.
    Bilinear,
    /// Keys' cubic with a = −1/2, radius 2; Pillow's number 3.
    Bicubic,
    /// Windowed sinc, radius 3; Pillow's number 1. Pillow only.
    Lanczos,
}

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// f(x), in the order of operations of the two programs. Spec: T4.2
    pub fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Filter::Bilinear => {
                let x = x.abs();
                if x < 1.0 { 1.0 - x } else { 0.0 }
            }
            Filter::Bicubic => {
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    // Pillow factors A out; A is a power of two, so the double is the same.
                    ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    libm::sin(x) / x
}

/// The longest side that is accepted: the tables of an axis grow with the side. Spec: C4.3a
pub const MAX_SIDE: usize = 1 << 20;

/// `image` [h, w, c] resized to `size` = (H, W): [H, W, c].
///
/// ```
/// use aircache::kernel::resample::{Filter, Resampler, resize};
/// let image = ndarray::Array3::from_shape_vec((1, 2, 1), vec![0u8, 255]).unwrap();
/// let wide = resize(image.view(), (1, 4), Filter::Bilinear, Resampler::Torchvision).unwrap();
/// assert_eq!(wide.into_raw_vec_and_offset().0, [0, 64, 191, 255]);
/// ```
///
/// # Errors
/// A side of 0 or over [`MAX_SIDE`]; lanczos with torchvision (0.26 has none for tensors; transformers takes bicubic).
/// Spec: E4.3
pub fn resize(
    image: ArrayView3<'_, u8>,
    size: (usize, usize),
    filter: Filter,
    resampler: Resampler,
) -> Result<Array3<u8>> {
    let (h, w, c) = image.dim();
    let (height, width) = size;
    for side in [h, w, height, width] {
        ensure!((1..=MAX_SIDE).contains(&side), "image", format!("sides of 1 to {MAX_SIDE} pixels"), {
            format!("{h} × {w} to be resized to {height} × {width}")
        });
    }
    ensure!(
        filter != Filter::Lanczos || resampler != Resampler::Torchvision,
        "resample",
        "bilinear (2) or bicubic (3) with torchvision's resampler",
        "lanczos (1)",
        "choose Pillow's resampler, which has it"
    );
    if (h, w) == size {
        return Ok(image.to_owned());
    }
    let down = AxisWeights::new(h, height, filter, resampler);
    let across = AxisWeights::new(w, width, filter, resampler);
    let vertical_first = resampler == Resampler::Pillow && height < h && {
        let (lost, gained) = ((h - height) as i64, width as i64 - w as i64);
        lost > -2 * gained
    };
    let mut out = Array3::zeros((height, width, c));
    if vertical_first {
        let mut squeezed = Array3::zeros((height, w, c));
        down.vertical(h, w * c, |y, row| copy_row(&image, y, row), |y, row| put_row(&mut squeezed, y, row));
        let mut line = vec![0; w * c];
        let mut wide = vec![0; width * c];
        for y in 0..height {
            copy_row(&squeezed.view(), y, &mut line);
            across.horizontal(&line, c, &mut wide);
            put_row(&mut out, y, &wide);
        }
    } else {
        let mut line = vec![0; w * c];
        let wide = |y: usize, row: &mut [u8]| {
            copy_row(&image, y, &mut line);
            across.horizontal(&line, c, row);
        };
        down.vertical(h, width * c, wide, |y, row| put_row(&mut out, y, row));
    }
    Ok(out)
}

fn copy_row(image: &ArrayView3<'_, u8>, y: usize, row: &mut [u8]) {
    row.iter_mut().zip(image.index_axis(Axis(0), y)).for_each(|(o, v)| *o = *v);
}

fn put_row(image: &mut Array3<u8>, y: usize, row: &[u8]) {
    image.index_axis_mut(Axis(0), y).iter_mut().zip(row).for_each(|(o, v)| *o = *v);
}

/// The fixed-point weights of one axis; empty if the axis keeps its size (then no filter runs). Spec: E4.2
struct AxisWeights {
    /// Fractional bits.
    bits: u32,
    /// Per output index: the first input index and the range of its weights in `k`.
    taps: Vec<(usize, std::ops::Range<usize>)>,
    k: Vec<i32>,
}

impl AxisWeights {
    fn new(n_in: usize, n_out: usize, filter: Filter, resampler: Resampler) -> AxisWeights {
        let mut axis = AxisWeights { bits: 22, taps: Vec::new(), k: Vec::new() };
        if n_in == n_out {
            return axis;
        }
        if resampler == Resampler::Torchvision {
            let mut top = 0f64;
            float_weights(n_in, n_out, filter, |_, w| top = w.iter().fold(top, |m, &v| m.max(v)));
            axis.bits = 0;
            while axis.bits < 22 && (0.5 + top * f64::from(1u32 << (axis.bits + 1))) as i64 <= i64::from(i16::MAX) {
                axis.bits += 1;
            }
        }
        let one = f64::from(1u32 << axis.bits);
        float_weights(n_in, n_out, filter, |first, w| {
            let start = axis.k.len();
            // `round` is half away from zero, as both programs do it by adding ±0.5 and truncating.
            axis.k.extend(w.iter().map(|&v| (v * one + 0.5f64.copysign(v)) as i32));
            axis.taps.push((first, start..axis.k.len()));
        });
        axis
    }

    /// One row, with `c` values for each pixel. Spec: E4.2
    fn horizontal(&self, line: &[u8], c: usize, out: &mut [u8]) {
        if self.taps.is_empty() {
            return out.copy_from_slice(line);
        }
        for ((first, range), pixel) in self.taps.iter().zip(out.chunks_exact_mut(c)) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let column = line[first * c + channel..].iter().step_by(c);
                let acc = self.k[range.clone()].iter().zip(column).map(|(&k, &v)| k * i32::from(v)).sum::<i32>();
                *value = self.value(acc);
            }
        }
    }

    /// All rows: `row(y, into)` supplies one row at a time. Only sums are kept, so that no second image is in memory.
    fn vertical(&self, h: usize, len: usize, mut row: impl FnMut(usize, &mut [u8]), mut put: impl FnMut(usize, &[u8])) {
        let mut line = vec![0u8; len];
        if self.taps.is_empty() {
            for y in 0..h {
                row(y, &mut line);
                put(y, &line);
            }
            return;
        }
        let mut open: std::collections::VecDeque<Vec<i32>> = Default::default();
        let mut next = 0; // outputs `next..next + open.len()` are being summed
        for y in 0..h {
            while self.taps.get(next + open.len()).is_some_and(|(first, _)| *first <= y) {
                open.push_back(vec![0; len]);
            }
            row(y, &mut line);
            for (sums, (first, range)) in open.iter_mut().zip(&self.taps[next..]) {
                if let Some(&k) = self.k[range.clone()].get(y - first) {
                    sums.iter_mut().zip(&line).for_each(|(s, &v)| *s += k * i32::from(v));
                }
            }
            while let Some((first, range)) = self.taps.get(next)
                && first + range.len() <= y + 1
                && let Some(sums) = open.pop_front()
            {
                line.iter_mut().zip(&sums).for_each(|(v, &s)| *v = self.value(s));
                put(next, &line);
                next += 1;
            }
        }
    }

    /// The u8 of a sum Σ k·pixel: rounded to nearest, ties up, clamped.
    #[inline(always)]
    fn value(&self, acc: i32) -> u8 {
        ((acc + (1 << self.bits >> 1)) >> self.bits).clamp(0, 255) as u8
    }
}

/// The normalised weights of every output index, in float64: `see(first input index, weights)`. Spec: E4.1
fn float_weights(n_in: usize, n_out: usize, filter: Filter, mut see: impl FnMut(usize, &[f64])) {
    let scale = n_in as f64 / n_out as f64;
    let stretch = scale.max(1.0);
    let (support, inverse) = (filter.radius() * stretch, 1.0 / stretch);
    let mut w = Vec::new();
    for i in 0..n_out {
        let center = scale * (i as f64 + 0.5);
        // A cast truncates towards zero and saturates negatives at 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(n_in);
        w.clear();
        w.extend((first..end).map(|j| filter.at((j as f64 - center + 0.5) * inverse)));
        let total: f64 = w.iter().fold(0.0, |t, v| t + v);
        if total != 0.0 {
            w.iter_mut().for_each(|v| *v /= total);
        }
        see(first, &w);
    }
}
