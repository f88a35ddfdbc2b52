//! The library's readers and writers: configurations, checkpoints, bundles, good and bad.

#[path = "../common/mod.rs"]
mod common;

mod bundle;
mod config;
#[cfg(feature = "input")]
mod fuzz_corpus;
mod generation;
#[cfg(feature = "input")]
mod metrics;
mod weights;
mod weights_hostile;
