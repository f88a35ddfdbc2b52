//! What configurations of all families are read with, and the parts that they are made of: decoders, towers,
//! activations.
//!
//! Structs whose fields are plain numbers: whoever holds one need not check again. Spec: chapter 05, 06
//!
//! Source: transformers 5.17, `configuration_utils.py`, `models/*/configuration_*.py`. A missing number takes
//! transformers' default; `null` is an error where the forward pass needs a number.

mod activation;
pub(crate) mod added;
mod decoder;
pub(crate) mod defaults;
mod generation;
mod intern_vit;
pub(crate) mod json;
mod norm;
mod projections;
mod siglip;

pub use activation::Activation;
pub use decoder::DecoderConfig;
pub use generation::GenerationConfig;
pub use intern_vit::InternVitConfig;
pub use norm::NormKind;
pub use projections::Projections;
pub use siglip::SiglipConfig;
