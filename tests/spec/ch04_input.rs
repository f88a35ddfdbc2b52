//! Chapter 04: images and prompts as model input, compared with torchvision, Pillow and transformers.

use aircache::input::image::Image;
use aircache::input::pixels::Pixels;
use aircache::input::{Anyres, PackedRow};
use aircache::kernel::resample::{Filter, Resampler, resize};
use ndarray::Array3;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(path)).unwrap()).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn pair(v: &Value) -> (usize, usize) {
    (v[0].as_u64().unwrap() as usize, v[1].as_u64().unwrap() as usize)
}

/// The images of tests/golden/resample/README.md: [h, w, 3].
fn content(kind: &str, (h, w): (usize, usize), seed: u64) -> Array3<u8> {
    let mut s = seed as u32;
    let mut out = Array3::zeros((h, w, 3));
    for ((y, x, c), v) in out.indexed_iter_mut() {
        s = s.wrapping_mul(1664525).wrapping_add(1013904223);
        *v = match (kind, c) {
            ("noise", _) => (s >> 24) as u8,
            (_, 0) => ((7 * x + 3 * y + seed as usize) % 256) as u8,
            (_, 1) => 255 - (5 * x % 256) as u8,
            _ => ((11 * y + x * y) % 256) as u8,
        };
    }
    out
}

fn bytes(image: &Array3<u8>) -> Vec<u8> {
    image.iter().copied().collect()
}

#[cfg(feature = "input")]
mod clip;
#[cfg(feature = "input")]
mod conversion;
#[cfg(feature = "input")]
mod folders;
mod geometry;
mod ids;
mod internvl;
#[cfg(feature = "input")]
mod pictures;
mod pixels;
mod qwen2_vl;
mod resampling;
mod settings;
#[cfg(feature = "input")]
mod templates;
mod video;
#[cfg(feature = "input")]
mod whole;
