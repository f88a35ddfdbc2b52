//! Goldens: what a flow computed, in a file that others can write and judge by.
//!
//! ```text
//! bundle         a file of named stages, read
//! bundle_write   the same, written stage by stage with bounded memory
//! ```

mod bundle;
mod bundle_write;

pub use bundle::{Bundle, FORMAT};
pub use bundle_write::BundleWriter;
