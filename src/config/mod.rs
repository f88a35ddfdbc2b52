//! The code that reads the configurations of all families, and the shared parts of configurations: decoders, towers,
//! activations.
//!
//! The structs have plain fields whose values were checked when they were read, so later code need not check them
//! again. Spec: chapter 05, 06
//!
//! Source: transformers 5.17, `configuration_utils.py`, `models/*/configuration_*.py`. A missing number takes
//! transformers' default; `null` is an error if the forward pass needs a number.

mod activation;
pub(crate) mod added;
mod decoder;
pub(crate) mod defaults;
pub(crate) mod features;
mod generation;
mod intern_vit;
pub(crate) mod json;
mod norm;
pub(crate) mod patch_vit;
mod projections;
pub(crate) mod refused;
mod rope;
mod siglip;

pub use activation::Activation;
pub use decoder::DecoderConfig;
pub use generation::GenerationConfig;
pub use intern_vit::InternVitConfig;
pub use norm::NormKind;
pub use patch_vit::PatchVitConfig;
pub use projections::Projections;
pub use rope::LongRope;
pub use siglip::SiglipConfig;
