//! One file for each chapter of the specification: every worked example, constraint and rounding site, by its label.

#[path = "../common/mod.rs"]
mod common;

mod ch01_symbols;
mod ch02_numbers;
mod ch03_kernels;
mod ch04_input;
mod ch05_vision;
mod ch06_decoder;
mod ch07_cache;
mod ch08_aircache;
#[cfg(feature = "input")]
mod ch09_early;
mod ch09_expected;
mod ch09_policies;
#[cfg(feature = "input")]
mod ch09_pruning;
#[cfg(feature = "input")]
mod ch09_raters;
#[cfg(feature = "input")]
mod ch09_zip;
#[cfg(feature = "input")]
mod ch10_attacks;
mod ch10_kernels;
#[cfg(feature = "input")]
mod ch10_partial;
#[cfg(feature = "input")]
mod ch10_steps;
#[cfg(feature = "input")]
mod ch10_tf32;
#[cfg(feature = "input")]
mod ch10_verdicts;
mod ch11_bits;
#[cfg(feature = "input")]
mod ch11_causes;
mod ch11_kernels;
#[cfg(feature = "input")]
mod ch11_words;
