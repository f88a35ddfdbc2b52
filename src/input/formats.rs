//! Files that Pillow reads differently from the crate `image`: GIF canvases, CMYK in TIFF.
//!
//! Source: Pillow 13 `GifImagePlugin.load_prepare`, `Convert.c` (cmyk2rgb). Spec: T4.6

use crate::error::{Error, Result};
use std::io::Cursor;

/// The first frame of a GIF on its canvas: its size and pixels [h, w, 3].
///
/// Pixels outside the frame have the colour of the transparent index, or of index 0 if there is no transparent index. A
/// colour index beyond the palette gives grey. `check` receives the size before any pixel is decoded.
pub(super) fn gif(bytes: &[u8], check: impl FnOnce((usize, usize)) -> Result<()>) -> Result<((usize, usize), Vec<u8>)> {
    let broken = |e: gif::DecodingError| Error::new("GIF", "a first frame", e);
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(broken)?;
    let screen = (usize::from(decoder.height()), usize::from(decoder.width()));
    let Some(frame) = decoder.next_frame_info().map_err(broken)? else {
        return Err(Error::new("GIF", "a first frame", "none"));
    };
    let (top, left) = (usize::from(frame.top), usize::from(frame.left));
    let (rows, cols) = (usize::from(frame.height), usize::from(frame.width));
    let (height, width) = (screen.0.max(top + rows), screen.1.max(left + cols));
    check((height, width))?;
    let free = frame.transparent.unwrap_or(0);
    let local = frame.palette.clone();
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(broken)?;
    let palette = local.or_else(|| decoder.global_palette().map(<[u8]>::to_vec)).unwrap_or_default();
    let colour = |i: u8| -> [u8; 3] {
        let at = 3 * usize::from(i);
        palette.get(at..at + 3).and_then(|c| c.try_into().ok()).unwrap_or([i; 3])
    };
    let mut canvas: Vec<u8> = colour(free).repeat(height * width);
    if cols > 0 {
        for (y, row) in indices.chunks_exact(cols).take(rows).enumerate() {
            let start = 3 * ((top + y) * width + left);
            for (pixel, &i) in canvas[start..start + 3 * cols].chunks_exact_mut(3).zip(row) {
                pixel.copy_from_slice(&colour(i));
            }
        }
    }
    Ok(((height, width), canvas))
}

/// Removes a PNG's compressed metadata (colour profile and texts): one megabyte of it may expand to gigabytes. Bytes
/// that form no chain of chunks stay as they are.
pub(super) fn png_alone(mut bytes: Vec<u8>) -> Vec<u8> {
    const BESIDE: [&[u8; 4]; 3] = [b"iCCP", b"iTXt", b"zTXt"];
    // Each kept chunk moves up in place, over the removed chunks.
    let mut at = bytes.len().min(8);
    let mut kept = at;
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at + 8) {
        let end = (at + 12).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
        if end > bytes.len() {
            break;
        }
        if !BESIDE.iter().any(|beside| beside[..] == *kind) {
            bytes.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    bytes.copy_within(at.., kept);
    bytes.truncate(kept + bytes.len() - at);
    bytes
}

/// The pixels of a CMYK TIFF: [h, w, 3], from 0 (no ink) to 255, as `convert("RGB")` mixes them.
pub(super) fn cmyk_tiff(bytes: &[u8], most: u64) -> Result<Vec<u8>> {
    let broken = |e: tiff::TiffError| Error::new("TIFF", "CMYK pixels", e);
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = usize::try_from(most).unwrap_or(usize::MAX);
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(broken)?.with_limits(limits);
    let inks = match decoder.read_image().map_err(broken)? {
        tiff::decoder::DecodingResult::U8(v) => v,
        tiff::decoder::DecodingResult::U16(v) => v.into_iter().map(|v| (v >> 8) as u8).collect(),
        _ => return Err(Error::new("TIFF", "CMYK of 8 or 16 bits", "other numbers")),
    };
    Ok(inks.chunks_exact(4).flat_map(|ink| cmyk([ink[0], ink[1], ink[2], ink[3]])).collect())
}

/// Four inks, from 0 (none) to 255, as `convert("RGB")` mixes them.
pub(super) fn cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let k = 255 - k;
    let muldiv = |a: u8, b: u8| {
        let t = u32::from(a) * u32::from(b) + 128;
        (t + (t >> 8)) >> 8
    };
    [c, m, y].map(|ink| u32::from(k).saturating_sub(muldiv(k, ink)) as u8)
}

/// Scales the levels of a BMP of 16 bits a pixel as Pillow does: ⌊v·255/31⌋, and ⌊v·255/63⌋ for six bits of green.
/// `rgb` holds the levels with other bits behind the bits of the file.
pub(super) fn bmp(bytes: &[u8], rgb: &mut [u8]) -> Result<()> {
    let short = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
    let old = long(14) == 12;
    if short(if old { 24 } else { 28 }) != 16 {
        return Ok(());
    }
    let masks = if !old && long(30) == 3 { [long(54), long(58), long(62)] } else { [0x7C00, 0x3E0, 0x1F] };
    let six = masks == [0xF800, 0x7E0, 0x1F];
    let known = six || masks == [0x7C00, 0x3E0, 0x1F];
    crate::error::ensure!(known, "BMP", "16 bits a pixel as 5 5 5 or 5 6 5", format!("{masks:x?}"), "save it as PNG");
    for pixel in rgb.chunks_exact_mut(3) {
        for (c, v) in pixel.iter_mut().enumerate() {
            let bits = if six && c == 1 { 6 } else { 5 };
            *v = ((u32::from(*v) >> (8 - bits)) * 255 / ((1 << bits) - 1)) as u8;
        }
    }
    Ok(())
}

/// Whether Pillow gives a file with RGB and alpha the mode RGBA: not a PNG whose alpha stands in a palette or is one
/// colour, and not a BMP.
pub(super) fn stores_alpha(bytes: &[u8]) -> bool {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => bytes.get(25) == Some(&6),
        _ => !bytes.starts_with(b"BM"),
    }
}
