//! The binary as its users meet it: what it prints and writes, how it ends.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod bad;
mod batch;
mod browser;
mod eval;
mod explain;
mod families;
#[cfg(target_os = "linux")]
mod faults;
mod folders;
mod good;
mod selftest;
mod video;
