//! The demo model and its sample images, compiled into the binary; `README.md` beside this file is its model card.
//!
//! The model is an ordinary checkpoint folder in memory: all code reads it through [`Files`].

mod questions;
mod samples;

pub use questions::{Question, questions};
pub use samples::{Sample, sample, samples};

use crate::files::Files;

/// Bytes with the alignment of a mapped file, so that weights are used in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static WEIGHTS: &Aligned<[u8]> = &Aligned(*include_bytes!("model/model.safetensors"));

static FILES: [(&str, &[u8]); 8] = [
    ("config.json", include_bytes!("model/config.json")),
    ("generation_config.json", include_bytes!("model/generation_config.json")),
    ("model.safetensors", &WEIGHTS.0),
    ("preprocessor_config.json", include_bytes!("model/preprocessor_config.json")),
    ("processor_config.json", include_bytes!("model/processor_config.json")),
    ("tokenizer.json", include_bytes!("model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("model/tokenizer_config.json")),
    ("chat_template.jinja", include_bytes!("model/chat_template.jinja")),
];

/// The demo model's checkpoint.
///
/// ```
/// # fn main() -> aircache::Result<()> {
/// let checkpoint = aircache::weights::Checkpoint::open(&aircache::demo::files())?;
/// assert_eq!(checkpoint.tensors().map(|t| t.numbers()).sum::<usize>(), 3_747_008);
/// # Ok(()) }
/// ```
pub fn files() -> Files {
    Files::Embedded(&FILES)
}
