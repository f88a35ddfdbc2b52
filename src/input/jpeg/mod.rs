//! JPEG files to the pixels that libjpeg-turbo makes of them, value for value.
//!
//! ```text
//! mod      the markers of a file, from the first to the last
//! bits     bits, markers and Huffman codes
//! fast     the fast DCT, which other programs may use
//! frame    the frame and the tables
//! scan     coefficients of a scan, sequential and progressive
//! samples  coefficients to samples, and samples to the size of the image
//! way      how programs decode where JPEG leaves a choice
//! ```
//!
//! No crate does this: they differ from libjpeg in upsampling and colours, and decode some sampling factors wrong.
//! Source: ITU-T T.81; libjpeg-turbo's choices where T.81 leaves one (slow integer DCT, "fancy" upsampling, colours in
//! 16-bit fixed point). Spec: T4.6, E4.24–E4.27, C4.14c, C4.14f

mod bits;
mod fast;
mod frame;
mod samples;
mod scan;
mod way;

use crate::error::{Result, ensure};
use bits::marker;
use frame::{Colour, Frame, Tables, broken};
use samples::Plane;
use scan::Scan;
pub(super) use way::{Chroma, Way};

/// The most scans of a file; real progressive files have about ten.
const MAX_SCANS: usize = 200;

/// The pixels of an image: [h, w, 3], and whether the file holds colours of three components.
pub(super) struct Decoded {
    pub size: (usize, usize),
    pub rgb: Vec<u8>,
    pub colour: bool,
}

/// Decodes a file in one way. `check` receives the size before anything is allocated.
///
/// # Errors
/// A file that is not complete, or of a kind that Pillow or this decoder does not read. Spec: C4.14c, C4.14f
pub(super) fn decode(bytes: &[u8], way: Way, check: impl Fn((usize, usize)) -> Result<()>) -> Result<Decoded> {
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
    finished(frame, &tables, way)
}

/// The pixels. Spec: E4.25–E4.27
fn finished(frame: Frame, tables: &Tables, way: Way) -> Result<Decoded> {
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
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
    for component in frame.components {
        // libjpeg guesses coefficients that no scan gave (it smooths the blocks).
        let complete = !frame.progressive || component.known[..10].iter().all(|known| *known == Some(0));
        let remedy = "save the image as PNG";
        ensure!(complete, "JPEG", "progressive scans that give every coefficient", "fewer scans", remedy);
        planes.push(Plane::new(component, frame.most, frame.size, way)?);
    }
    let rgb = samples::coloured(&planes, colour, frame.size, way.chroma);
    Ok(Decoded { size: frame.size, rgb, colour: matches!(colour, Colour::Ycc | Colour::Rgb) })
}
