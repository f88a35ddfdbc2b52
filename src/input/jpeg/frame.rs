//! What a JPEG file says outside its scans: the frame, its components, and the tables. Source: ITU-T T.81 B.2.

use super::bits::Huffman;
use crate::error::{Error, Result, ensure};
use std::sync::Arc;

/// The order in which the coefficients of a block are stored: index in the scan → place in the block.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A colour component of the frame.
pub(super) struct Component {
    pub id: u8,
    /// Sampling factors: across, down.
    pub sampling: (usize, usize),
    /// The size of the component in samples, and in blocks that hold samples.
    pub size: (usize, usize),
    pub blocks: (usize, usize),
    /// Blocks in a row of `coefficients`: whole interleaved units.
    pub stride: usize,
    pub quantizer: usize,
    /// The table that was current when the component's first scan began.
    pub table: Option<[u16; 64]>,
    /// [blocks, 64], in the order of the block.
    pub coefficients: Vec<[i16; 64]>,
    /// For each coefficient, the low bits that no scan has given yet; none if no scan gave the coefficient.
    pub known: [Option<u8>; 64],
}

/// The header of the image.
pub(super) struct Frame {
    /// Height and width.
    pub size: (usize, usize),
    pub progressive: bool,
    pub components: Vec<Component>,
    /// The largest sampling factors.
    pub most: (usize, usize),
}

/// What the file says between scans.
#[derive(Default)]
pub(super) struct Tables {
    pub quantizers: [Option<[u16; 64]>; 4],
    pub dc: [Option<Arc<Huffman>>; 4],
    pub ac: [Option<Arc<Huffman>>; 4],
    pub restart: usize,
    pub jfif: bool,
    /// The colour transform that Adobe's marker names.
    pub adobe: Option<u8>,
}

/// What the components mean.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Colour {
    Grey,
    Ycc,
    Rgb,
    /// Inks, stored inverted, as Pillow assumes of every file with four components.
    Cmyk,
    Ycck,
}

pub(super) fn broken(what: &str, got: impl ToString) -> Error {
    Error::new("JPEG", what, got.to_string())
}

impl Tables {
    /// Reads quantisation tables.
    pub fn quantize(&mut self, mut rest: &[u8]) -> Result<()> {
        while let Some((&head, values)) = rest.split_first() {
            let wide = head >> 4 == 1;
            let bytes = if wide { 128 } else { 64 };
            let values = values.get(..bytes).filter(|_| head >> 4 < 2 && head & 15 < 4);
            let values = values.ok_or_else(|| broken("a quantisation table of 64 numbers", "another"))?;
            let mut table = [0; 64];
            for (i, &place) in ZIGZAG.iter().enumerate() {
                let narrow = || u16::from(values[i]);
                table[usize::from(place)] =
                    if wide { u16::from_be_bytes([values[2 * i], values[2 * i + 1]]) } else { narrow() };
            }
            self.quantizers[usize::from(head & 3)] = Some(table);
            rest = &rest[1 + bytes..];
        }
        Ok(())
    }

    /// Reads Huffman tables.
    pub fn code(&mut self, mut rest: &[u8]) -> Result<()> {
        while let Some((&head, tail)) = rest.split_first() {
            let wrong = || broken("a Huffman table", "another");
            let counts: &[u8; 16] = tail.first_chunk().ok_or_else(wrong)?;
            let n: usize = counts.iter().map(|&n| usize::from(n)).sum();
            let symbols = tail.get(16..16 + n).ok_or_else(wrong)?;
            let table = Some(Arc::new(Huffman::new(counts, symbols).ok_or_else(wrong)?));
            let place = usize::from(head & 15);
            let tables = match head >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(wrong()),
            };
            *tables.get_mut(place).ok_or_else(wrong)? = table;
            rest = &tail[16 + n..];
        }
        Ok(())
    }
}

impl Frame {
    pub fn read(segment: &[u8], progressive: bool) -> Result<Frame> {
        let [bits, h1, h0, w1, w0, count, list @ ..] = segment else { return Err(broken("a frame header", "less")) };
        ensure!(*bits == 8, "JPEG", "8 bits a channel", bits);
        let size = (usize::from(u16::from_be_bytes([*h1, *h0])), usize::from(u16::from_be_bytes([*w1, *w0])));
        ensure!(size.0 > 0 && size.1 > 0, "JPEG", "an image with pixels", format!("{} × {}", size.0, size.1));
        let wanted = "1, 3 or 4 components, as Pillow reads them";
        ensure!(matches!(count, 1 | 3 | 4) && list.len() >= 3 * usize::from(*count), "JPEG", wanted, count);
        let parts: Vec<(u8, (usize, usize), usize)> = list
            .chunks_exact(3)
            .take(usize::from(*count))
            .map(|c| (c[0], (usize::from(c[1] >> 4), usize::from(c[1] & 15)), usize::from(c[2])))
            .collect();
        let fits =
            |&(_, (h, v), q): &(u8, (usize, usize), usize)| (1..=4).contains(&h) && (1..=4).contains(&v) && q < 4;
        ensure!(parts.iter().all(fits), "JPEG", "sampling factors from 1 to 4", "others");
        let most = parts.iter().fold((1, 1), |most, (_, s, _)| (most.0.max(s.0), most.1.max(s.1)));
        let whole = parts.iter().all(|(_, s, _)| most.0.is_multiple_of(s.0) && most.1.is_multiple_of(s.1));
        let remedy = "save the image as PNG; libjpeg refuses it too";
        ensure!(whole, "JPEG", "sampling factors that divide the largest", "others", remedy);
        let units = (size.0.div_ceil(8 * most.1), size.1.div_ceil(8 * most.0));
        let components = parts.into_iter().map(|(id, (h, v), quantizer)| {
            let samples = ((size.0 * v).div_ceil(most.1), (size.1 * h).div_ceil(most.0));
            Component {
                id,
                sampling: (h, v),
                size: samples,
                blocks: (samples.0.div_ceil(8), samples.1.div_ceil(8)),
                stride: units.1 * h,
                quantizer,
                table: None,
                coefficients: Vec::new(),
                known: [None; 64],
            }
        });
        Ok(Frame { size, progressive, components: components.collect(), most })
    }

    /// The frame with room for its coefficients.
    pub fn allocated(mut self) -> Frame {
        let rows = self.size.0.div_ceil(8 * self.most.1);
        for c in &mut self.components {
            c.coefficients = vec![[0; 64]; rows * c.sampling.1 * c.stride];
        }
        self
    }
}
