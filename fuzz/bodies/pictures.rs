//! Image files with arbitrary bytes, and the arithmetic of tiles and tokens at any size.

use super::Bytes;
use aircache::demo;
use aircache::family::{self, Reader};
use aircache::input::sizes::Sizes;
use aircache::input::{Anyres, Image};
use std::sync::OnceLock;

fn demo_reader() -> &'static dyn Reader {
    static DEMO: OnceLock<Box<dyn Reader>> = OnceLock::new();
    let load = || family::load(&demo::files())?.reader(&demo::files());
    &**DEMO.get_or_init(|| load().expect("the demo model"))
}

/// An image file: decoding it twice gives the same image, and its tiles follow from its size.
pub fn image(data: &[u8]) {
    let image = match Image::from_bytes(data, "image") {
        Ok(image) => image,
        Err(e) => return assert!(!e.got.contains("no end"), "{e}"),
    };
    let (h, w) = image.size();
    assert_eq!(image.rgb().dim(), (h, w, 3));
    if h * w > 1 << 16 || h.max(w) > 4096 {
        return; // decoded; to resize in every run of a fuzzer takes too long
    }
    let again = Image::from_bytes(data, "image").expect("decoded once");
    assert_eq!((image.rgb(), image.sha256()), (again.rgb(), again.sha256()));
    let reader = demo_reader();
    for of in [1, 2] {
        let Ok(prepared) = reader.prepare(&image, of) else { continue };
        assert_eq!(prepared.pixels.shape()[0], prepared.packing.tiles);
        assert!(prepared.pixels.iter().all(|v| v.is_finite()));
    }
}

/// Grids, tokens and rows of any size under any settings: no panic, every row inside its tile, every region inside the image.
pub fn geometry(data: &[u8]) {
    let mut bytes = Bytes(data);
    let side = |b: &mut Bytes<'_>| match b.u8() % 4 {
        0 => b.u8() as usize,
        1 => b.below(4096),
        2 => b.below(1 << 20),
        _ => b.u32() as usize,
    };
    let size = (side(&mut bytes), side(&mut bytes));
    let tile = 1 + bytes.below(1024);
    let anyres = Anyres {
        pinpoints: (0..1 + bytes.below(12)).map(|_| (tile * bytes.below(9), tile * bytes.below(9))).collect(),
        tile,
        patch: 1 + bytes.below(tile),
        max_tiles: 1 + bytes.below(16),
        drop_first: bytes.u8() % 8 == 0,
    };
    let tiled = bytes.u8() % 4 > 0;
    // The list of tokens is short enough to compute in every run of a fuzzer.
    let few = anyres.side() < 6;
    if let (true, Ok(packing)) = (few, anyres.packing(size, tiled)) {
        // If nothing is left of a grid, it has no rows; a single tile has a newline.
        let rest = if tiled { packing.height * (packing.width + 1) } else { 1 };
        assert_eq!(packing.rows.len(), packing.base + rest);
        for row in 0..packing.rows.len() {
            let Some([top, left, bottom, right]) = packing.region(row) else { continue };
            assert!(0.0 <= top && top < bottom && bottom <= size.0 as f64, "{size:?}: row {row}");
            assert!(0.0 <= left && left < right && right <= size.1 as f64, "{size:?}: row {row}");
        }
        let tokens = anyres.side() * anyres.side() - usize::from(anyres.drop_first);
        for row in &packing.rows {
            if let aircache::input::PackedRow::Token { tile, token } = row {
                assert!(*tile < packing.tiles && *token < tokens);
            }
            if let aircache::input::PackedRow::Blend(parts) = row {
                let sum: f64 = parts.iter().map(|p| p.2).sum();
                assert!((sum - 1.0).abs() < 1e-9 && parts.iter().all(|p| p.0 < packing.tiles && p.1 < tokens));
            }
        }
    }
    let sizes = Sizes {
        patch: 1 + bytes.below(64),
        merge: 1 + bytes.below(8),
        min_pixels: 1 + side(&mut bytes),
        max_pixels: 1 + side(&mut bytes),
    };
    if let Ok((h, w)) = sizes.fit(size) {
        assert!(h % sizes.unit() == 0 && w % sizes.unit() == 0 && h > 0 && w > 0, "{sizes:?}: {size:?} → {h} × {w}");
        let one = sizes.unit() * sizes.unit();
        let flat = h == sizes.unit() || w == sizes.unit();
        let most = sizes.max_pixels.max(sizes.min_pixels);
        assert!(
            h * w <= most.max(one) || flat || h * w < 2 * most + (h + w) * sizes.unit(),
            "{sizes:?}: {size:?} → {h} × {w}"
        );
    }
}
