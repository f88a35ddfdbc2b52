//! JPEG coefficients to samples, samples to the size of the image, and samples to RGB.
//!
//! Source: libjpeg-turbo's slow integer DCT, its "fancy" upsampling (a triangle filter for factors of two) and its
//! conversion of colours. Spec: E4.25–E4.27

use super::fast;
use super::frame::{Colour, Component, broken};
use super::way::{Chroma, Way};
use crate::error::Result;
use crate::input::formats::cmyk;

/// The samples of a component.
pub(super) struct Plane {
    /// [rows, columns]
    samples: Vec<u8>,
    rows: usize,
    columns: usize,
    /// How many pixels of the image a sample covers: across, down.
    factor: (usize, usize),
    /// The width of the image.
    width: usize,
}

/// The fraction bits of the DCT's constants, and the bits that the first pass keeps.
const BITS: u32 = 13;
const KEPT: u32 = 2;

/// One pass of the DCT over eight numbers, without the final shift. Spec: E4.25
fn idct(x: [i32; 8]) -> [i64; 8] {
    let x = x.map(i64::from);
    let z = (x[2] + x[6]) * 4433;
    let (even, odd) = (z - x[6] * 15137, z + x[2] * 6270);
    let (sum, difference) = ((x[0] + x[4]) << BITS, (x[0] - x[4]) << BITS);
    let a = [sum + odd, difference + even, difference - even, sum - odd];
    let [s, t, u, v] = [x[7] + x[1], x[5] + x[3], x[7] + x[3], x[5] + x[1]];
    let z = (u + v) * 9633;
    let (s, t, u, v) = (s * -7373, t * -20995, z - u * 16069, z - v * 3196);
    let b = [x[1] * 12299 + s + v, x[3] * 25172 + t + u, x[5] * 16819 + t + v, x[7] * 2446 + s + u];
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[3] - b[3], a[2] - b[2], a[1] - b[1], a[0] - b[0]]
}

/// The samples of a block: columns first, then rows. Spec: E4.25
fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; 64] {
    let level = |v: i64, shift: u32| (((v + (1 << (shift - 1))) >> shift) + 128).clamp(0, 255) as u8;
    if block[1..].iter().all(|&v| v == 0) {
        let dc = i32::from(block[0]).wrapping_mul(i32::from(table[0])) as i16;
        return [level(i64::from(dc) << KEPT, KEPT + 3); 64];
    }
    let mut passed = [0i32; 64];
    for x in 0..8 {
        // The product has 16 bits, as in the vectorised code.
        let column = std::array::from_fn(|y| {
            i32::from(i32::from(block[8 * y + x]).wrapping_mul(i32::from(table[8 * y + x])) as i16)
        });
        for (y, v) in idct(column).into_iter().enumerate() {
            passed[8 * y + x] = ((v + (1 << (BITS - KEPT - 1))) >> (BITS - KEPT)).clamp(-32768, 32767) as i32;
        }
    }
    let mut out = [0; 64];
    for y in 0..8 {
        let row = std::array::from_fn(|x| passed[8 * y + x]);
        for (x, v) in idct(row).into_iter().enumerate() {
            out[8 * y + x] = level(v, BITS + KEPT + 3);
        }
    }
    out
}

impl Plane {
    pub fn new(component: Component, most: (usize, usize), size: (usize, usize), way: Way) -> Result<Plane> {
        let table = component.table.ok_or_else(|| broken("the quantisation tables that components name", "none"))?;
        let scaled = fast::scaled(&table);
        let (rows, columns) = component.size;
        let mut plane = vec![0; rows * columns];
        for by in 0..component.blocks.0 {
            for bx in 0..component.blocks.1 {
                let block = &component.coefficients[by * component.stride + bx];
                let block = if way.fast { fast::samples(block, &scaled) } else { samples(block, &table) };
                let n = (columns - 8 * bx).min(8);
                for (y, line) in block.chunks_exact(8).take((rows - 8 * by).min(8)).enumerate() {
                    let start = (8 * by + y) * columns + 8 * bx;
                    plane[start..start + n].copy_from_slice(&line[..n]);
                }
            }
        }
        let factor = (most.0 / component.sampling.0, most.1 / component.sampling.1);
        Ok(Plane { samples: plane, rows, columns, factor, width: size.1 })
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.columns..(y + 1) * self.columns]
    }

    /// Row `y` of the image. Spec: E4.26
    fn line(&self, y: usize, out: &mut Vec<u8>) {
        out.clear();
        let near = y / self.factor.1;
        let here = self.row(near);
        // The other row that a triangle filter of factor two reads.
        let far = match y % 2 {
            0 => near.saturating_sub(1),
            _ => (near + 1).min(self.rows - 1),
        };
        match self.factor {
            (1, 1) => out.extend(here),
            (1, 2) => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let blend = |(&a, &b): (&u8, &u8)| ((3 * u32::from(a) + u32::from(b) + bias) >> 2) as u8;
                out.extend(here.iter().zip(self.row(far)).map(blend));
            }
            (2, 1) if self.columns > 2 => {
                let sums: Vec<u32> = here.iter().map(|&v| 4 * u32::from(v)).collect();
                doubled(&sums, 4, [4, 8], out);
            }
            (2, 2) if self.columns > 2 => {
                let sum = |(&a, &b): (&u8, &u8)| 3 * u32::from(a) + u32::from(b);
                let sums: Vec<u32> = here.iter().zip(self.row(far)).map(sum).collect();
                doubled(&sums, 4, [8, 7], out);
            }
            (across, _) => out.extend(here.iter().flat_map(|&v| std::iter::repeat_n(v, across))),
        }
        out.truncate(self.width);
    }
}

impl Plane {
    /// Row `y` of the image, with each sample repeated. Spec: D4.18
    fn plain(&self, y: usize, out: &mut Vec<u8>) {
        out.clear();
        let (across, down) = self.factor;
        out.extend((0..self.width).map(|x| self.row(y / down)[x / across]));
    }

    /// Row `y` of the image by the least or the greatest of the samples around each pixel: of 3 in each direction in which
    /// samples are fewer than pixels. Spec: D4.18
    fn extreme(&self, y: usize, least: bool, out: &mut Vec<u8>) {
        let around = |at: usize, factor: usize, most: usize| {
            let reach = usize::from(factor > 1);
            (at / factor).saturating_sub(reach)..=(at / factor + reach).min(most - 1)
        };
        let rows = around(y, self.factor.1, self.rows);
        let of = |x: usize| {
            let columns = around(x, self.factor.0, self.columns);
            let samples = rows.clone().flat_map(|row| self.row(row)[columns.clone()].iter().copied());
            if least { samples.min() } else { samples.max() }
        };
        out.clear();
        out.extend((0..self.width).map(|x| of(x).unwrap_or_default()));
    }
}

/// Twice as many samples: each is ¾ of the nearest and ¼ of the next nearest. `sums`: samples times four.
fn doubled(sums: &[u32], shift: u32, bias: [u32; 2], out: &mut Vec<u8>) {
    for (i, &here) in sums.iter().enumerate() {
        let left = if i > 0 { sums[i - 1] } else { here };
        let right = *sums.get(i + 1).unwrap_or(&here);
        out.push(((3 * here + left + bias[0]) >> shift) as u8);
        out.push(((3 * here + right + bias[1]) >> shift) as u8);
    }
}

/// A number of 16 fraction bits.
const fn fix(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// RGB of one pixel. Spec: E4.27
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fix(1.402) * cr + HALF) >> 16);
    let green = y + ((-fix(0.34414) * cb - fix(0.71414) * cr + HALF) >> 16);
    let blue = y + ((fix(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}

/// The image in RGB: [h, w, 3].
#[allow(clippy::needless_range_loop)] // a pixel is read off several lines by one index
pub(super) fn coloured(planes: &[Plane], colour: Colour, (height, width): (usize, usize), chroma: Chroma) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * height * width);
    let mut lines = vec![Vec::new(); planes.len()];
    let mut far = lines.clone();
    for y in 0..height {
        for (plane, (line, far)) in planes.iter().zip(lines.iter_mut().zip(&mut far)) {
            match chroma {
                Chroma::Fancy => plane.line(y, line),
                Chroma::Plain => plane.plain(y, line),
                Chroma::Least | Chroma::Most => {
                    plane.extreme(y, chroma == Chroma::Least, line);
                    plane.extreme(y, chroma == Chroma::Most, far);
                }
            }
        }
        for x in 0..width {
            let at = |i: usize| -> u8 { lines[i][x] };
            let ycc = || {
                let [r, g, b] = rgb(at(0), at(1), at(2));
                // Green falls with chroma.
                let green = |far: &[Vec<u8>]| rgb(at(0), far[1][x], far[2][x])[1];
                [r, if matches!(chroma, Chroma::Least | Chroma::Most) { green(&far) } else { g }, b]
            };
            out.extend(match colour {
                Colour::Grey => [at(0); 3],
                Colour::Ycc => ycc(),
                Colour::Rgb => [at(0), at(1), at(2)],
                Colour::Cmyk => cmyk([0, 1, 2, 3].map(|i| 255 - at(i))),
                Colour::Ycck => {
                    let [r, g, b] = ycc();
                    cmyk([r, g, b, 255 - at(3)])
                }
            });
        }
    }
    out
}
