//! Our numbers against the numbers of outside programs. The goldens lie beside the tests; README.md names the programs
//! that made them.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "input")]
mod candidates;
#[cfg(feature = "input")]
mod decoders;
#[cfg(feature = "input")]
mod demo;
#[cfg(feature = "input")]
mod early;
mod expected;
#[cfg(feature = "input")]
mod held_out;
#[cfg(feature = "input")]
mod internvl;
#[cfg(feature = "input")]
mod internvl2;
#[cfg(feature = "input")]
mod llava;
#[cfg(feature = "input")]
mod llava_clip;
mod methods;
#[cfg(feature = "input")]
mod patches;
mod policy;
mod pruning;
#[cfg(feature = "input")]
mod qwen2_vl;
#[cfg(feature = "input")]
mod sentencepiece;
#[cfg(feature = "input")]
mod tf32;
#[cfg(feature = "input")]
mod video;
#[cfg(feature = "input")]
mod zip;
