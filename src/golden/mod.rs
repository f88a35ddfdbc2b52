//! Goldens: what a flow computed, in a file that others can write and judge by.
//!
//! ```text
//! bundle         a file of named stages, read
//! bundle_write   the same, written stage by stage with bounded memory
//! select         which stages: globs over names
//! record         the flow of `generate`, every stage written
//! stages         what is recorded beside the passes: inputs, the cache after eviction, metadata
//! ```

mod bundle;
mod bundle_write;
mod record;
mod select;
mod stages;

pub use bundle::{Bundle, FORMAT};
pub use bundle_write::BundleWriter;
pub use record::{Recorded, Recorder, Recording, record};
pub use select::Selection;
