//! Goldens: what a flow computed, in a file that others can write and judge by.
//!
//! ```text
//! bundle         a file of named stages, read
//! bundle_write   the same, written stage by stage with bounded memory
//! select         which stages: globs over names
//! record         the flow of `generate`, every stage written
//! compress       the algorithm alone on anybody's bundle
//! stages         what is recorded beside the passes: inputs, the cache after eviction, metadata
//! ```

mod bundle;
mod bundle_write;
mod compress;
mod record;
mod select;
mod stages;

pub use bundle::{Bundle, FORMAT};
pub use bundle_write::BundleWriter;
pub use compress::compress;
pub use record::{Recorded, Recorder, Recording, record};
pub use select::Selection;
