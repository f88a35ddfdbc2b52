//! Helpers that several test binaries share. Each binary uses some of them.
#![allow(dead_code)]

#[cfg(feature = "input")]
pub mod bugs;
pub mod by_hand;
#[cfg(feature = "input")]
pub mod causes;
#[cfg(feature = "cli")]
pub mod cli;
pub mod decoding;
pub mod demo;
#[cfg(feature = "input")]
pub mod evicted;
#[cfg(feature = "input")]
pub mod flow;
#[cfg(feature = "input")]
pub mod held;
#[cfg(feature = "input")]
pub mod lab;
pub mod numbers;
pub mod prompts;
#[cfg(feature = "input")]
pub mod pruned;
pub mod raw;
#[cfg(feature = "input")]
pub mod toys;
pub mod twin;
