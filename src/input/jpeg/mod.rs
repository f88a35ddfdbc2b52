//! JPEG files to the pixels that libjpeg-turbo makes of them, value for value.
//!
//! ```text
//! mod      markers and tables, the frame, the colours
//! bits     bits and Huffman codes
//! scan     coefficients of a scan, sequential and progressive
//! samples  coefficients to samples, and samples to the size of the image
//! ```
//!
//! No crate does this: they differ from libjpeg in upsampling and colours, and decode some sampling factors wrong.
//! Source: ITU-T T.81; libjpeg-turbo's choices where T.81 leaves one (slow integer DCT, "fancy" upsampling, colours in
//! 16-bit fixed point). Spec: T4.6, E4.24–E4.27, C4.14c, C4.14f

mod bits;
mod samples;
mod scan;

use crate::error::{Error, Result, ensure};
use bits::Huffman;
use samples::Plane;
use scan::Scan;
use std::sync::Arc;

/// The most scans of a file; real progressive files have about ten.
const MAX_SCANS: usize = 200;
/// The most components of a scan, and the most blocks of an interleaved unit. Source: T.81 B.2.3
const MAX_UNIT: usize = 10;

/// The order in which the coefficients of a block are stored: index in the scan → place in the block.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A colour component of the frame.
struct Component {
    id: u8,
    /// Sampling factors: across, down.
    sampling: (usize, usize),
    /// The size of the component in samples, and in blocks that hold samples.
    size: (usize, usize),
    blocks: (usize, usize),
    /// Blocks in a row of `coefficients`: whole interleaved units.
    stride: usize,
    quantizer: usize,
    /// The table that was current when the component's first scan began.
    table: Option<[u16; 64]>,
    /// [blocks, 64], in the order of the block.
    coefficients: Vec<[i16; 64]>,
    /// For each coefficient, the low bits that no scan has given yet; none if no scan gave the coefficient.
    known: [Option<u8>; 64],
}

/// The header of the image.
struct Frame {
    /// Height and width.
    size: (usize, usize),
    progressive: bool,
    components: Vec<Component>,
    /// The largest sampling factors.
    most: (usize, usize),
}

/// What the file says between scans.
#[derive(Default)]
struct Tables {
    quantizers: [Option<[u16; 64]>; 4],
    dc: [Option<Arc<Huffman>>; 4],
    ac: [Option<Arc<Huffman>>; 4],
    restart: usize,
    jfif: bool,
    /// The colour transform that Adobe's marker names.
    adobe: Option<u8>,
}

/// The pixels of an image: [h, w, 3], and whether the file holds colours of three components.
pub(super) struct Decoded {
    pub size: (usize, usize),
    pub rgb: Vec<u8>,
    pub colour: bool,
}

fn broken(what: &str, got: impl ToString) -> Error {
    Error::new("JPEG", what, got.to_string())
}

/// The next marker at or after `at`, and the place behind it.
fn marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)?;
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        match bytes.get(at)? {
            0 => at += 1,
            &code => return Some((code, at + 1)),
        }
    }
}

/// Decodes a file. `check` receives the size before anything is allocated.
///
/// # Errors
/// A file that is not complete, or of a kind that Pillow or this decoder does not read. Spec: C4.14c, C4.14f
pub(super) fn decode(bytes: &[u8], check: impl Fn((usize, usize)) -> Result<()>) -> Result<Decoded> {
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let mut scans = 0;
    let mut at = 0;
    loop {
        let Some((code, start)) = marker(bytes, at) else {
            return Err(
                broken("a whole JPEG file", "one that ends before its end marker").remedy("Pillow refuses it too")
            );
        };
        at = start;
        if matches!(code, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        if code == 0xD9 {
            break;
        }
        let length = bytes.get(at..at + 2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let segment = (length >= 2).then(|| bytes.get(at + 2..at + length)).flatten();
        let segment = segment.ok_or_else(|| broken("a marker with its whole content", format!("marker {code:02x}")))?;
        at += length;
        match code {
            0xDB => tables.quantize(segment)?,
            0xC4 => tables.code(segment)?,
            0xDD => tables.restart = segment.first_chunk().map_or(0, |b| usize::from(u16::from_be_bytes(*b))),
            0xE0 if segment.starts_with(b"JFIF\0") => tables.jfif = true,
            0xEE if segment.starts_with(b"Adobe") => tables.adobe = segment.get(11).copied(),
            0xC0..=0xC2 if frame.is_none() => {
                let read = Frame::read(segment, code == 0xC2)?;
                check(read.size)?;
                frame = Some(read.allocated());
            }
            0xC0..=0xCF => {
                let wanted = "one image in baseline, extended or progressive Huffman coding";
                return Err(broken(wanted, format!("marker {code:02x}")).remedy("save the image as PNG"));
            }
            0xDA => {
                let frame = frame.as_mut().ok_or_else(|| broken("a frame before its first scan", "none"))?;
                scans += 1;
                ensure!(scans <= MAX_SCANS, "JPEG", format!("at most {MAX_SCANS} scans"), "more");
                at += Scan::read(segment, frame, &tables)?.run(&bytes[at..]);
            }
            _ => {}
        }
    }
    let frame = frame.filter(|_| scans > 0).ok_or_else(|| broken("an image with a scan", "none"))?;
    frame.finished(&tables)
}

impl Tables {
    /// Reads quantisation tables.
    fn quantize(&mut self, mut rest: &[u8]) -> Result<()> {
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
    fn code(&mut self, mut rest: &[u8]) -> Result<()> {
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
    fn read(segment: &[u8], progressive: bool) -> Result<Frame> {
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
    fn allocated(mut self) -> Frame {
        let rows = self.size.0.div_ceil(8 * self.most.1);
        for c in &mut self.components {
            c.coefficients = vec![[0; 64]; rows * c.sampling.1 * c.stride];
        }
        self
    }

    /// The pixels. Spec: E4.25–E4.27
    fn finished(self, tables: &Tables) -> Result<Decoded> {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        let colour = match (ids.len(), tables.jfif, tables.adobe) {
            (1, ..) => Colour::Grey,
            (3, true, _) => Colour::Ycc,
            (3, false, Some(0)) => Colour::Rgb,
            (3, false, None) if ids == *b"RGB" => Colour::Rgb,
            (3, ..) => Colour::Ycc,
            (_, _, None | Some(0)) => Colour::Cmyk,
            _ => Colour::Ycck,
        };
        let mut planes = Vec::new();
        for component in self.components {
            // libjpeg guesses coefficients that no scan gave (it smooths the blocks).
            let complete = !self.progressive || component.known[..10].iter().all(|known| *known == Some(0));
            let remedy = "save the image as PNG";
            ensure!(complete, "JPEG", "progressive scans that give every coefficient", "fewer scans", remedy);
            planes.push(Plane::new(component, self.most, self.size)?);
        }
        let rgb = samples::coloured(&planes, colour, self.size);
        Ok(Decoded { size: self.size, rgb, colour: matches!(colour, Colour::Ycc | Colour::Rgb) })
    }
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
