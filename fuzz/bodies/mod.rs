//! The checks of the fuzz targets on arbitrary bytes. They are separate from the fuzzer, so that `cargo test` replays
//! every seed and every input that once caused a failure (`tests/files/fuzz_corpus.rs`).
//!
//! A body panics if it finds a bug: two readers disagree, or the program breaks a promise of its documentation. Bad
//! input gives an `Err`, and this is correct.

mod files;
mod numbers;
mod pictures;
mod texts;

/// A target: its name and its check.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 15] = [
    ("header", files::header),
    ("index", files::index),
    ("config", files::config),
    ("processor", files::processor),
    ("bundle", files::bundle),
    ("questions", files::questions),
    ("template", texts::template),
    ("tokenizer", texts::tokenizer),
    ("prompt", texts::prompt),
    ("image", pictures::image),
    ("geometry", pictures::geometry),
    ("policy", numbers::policy),
    ("grid", numbers::grid),
    ("rounding", numbers::rounding),
    ("kernels", numbers::kernels),
];

/// Runs a target by its name.
///
/// # Panics
/// The target does not exist, or it found a bug.
pub fn run(name: &str, data: &[u8]) {
    quiet_inside();
    let (_, body) = TARGETS.iter().find(|(n, _)| *n == name).expect("a target of this name");
    body(data)
}

/// The fuzzer ends at every panic. A panic in foreign code becomes an error, so it must not end the fuzzer.
fn quiet_inside() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !aircache::foreign::inside() {
                before(info);
            }
        }));
    });
}

/// Numbers read from the front of a byte string, one after the other; zeros after the end of the bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.u32() as usize % n
    }

    /// An f32 with arbitrary bits, or a moderate number if `tame`.
    fn f32(&mut self, tame: bool) -> f32 {
        let bits = self.u32();
        match tame {
            true => (bits as i32) as f32 / (1u32 << 29) as f32,
            false => f32::from_bits(bits),
        }
    }

    fn f32s(&mut self, n: usize, tame: bool) -> Vec<f32> {
        (0..n).map(|_| self.f32(tame)).collect()
    }
}
