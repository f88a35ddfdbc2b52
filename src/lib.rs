//! Reference forward pass of large vision-language models, and AirCache visual KV cache eviction, on the CPU.

pub mod cache;
pub mod config;
pub mod decoder;
pub mod demo;
pub mod error;
#[cfg(feature = "input")]
pub mod eval;
pub mod files;
pub mod generate;
pub mod golden;
pub mod input;
pub mod kernel;
pub mod layer;
pub mod model;
pub mod num;
pub mod pass;
pub mod policy;
pub mod report;
pub mod roles;
pub mod sample;
pub mod vision;
pub mod weights;

pub use error::{Error, Result};
pub use roles::{Role, Roles};
