//! The model's input, for any family: from token ids and pixels, or from images and a prompt as in `AutoProcessor`.
//!
//! Spec: chapter 04

mod assemble;
#[cfg(feature = "input")]
mod film;
#[cfg(feature = "input")]
mod lossy;
#[cfg(feature = "input")]
mod prepare;

#[cfg(feature = "input")]
pub use prepare::Processor;
