//! Goldens: what a flow computed, in a file that others can write and judge by.
//!
//! ```text
//! bundle         a file of named stages, read
//! bundle_write   the same, written stage by stage with bounded memory
//! select         which stages: globs over names
//! record         the flow of `generate`, every stage written
//! compress       the algorithm alone on anybody's bundle
//! rows           some rows of a huge stage, and hashes of all of them
//! stages         what is recorded beside the passes: inputs, the cache after eviction, metadata
//! ground         which stages a bundle's own values reach
//! measure        how far a stage is off, whole and in every part
//! rerun, given   the flow once more, by another honest way or from another's values
//! noise          the ruler: what honest computations show against the truth
//! said           what a bundle says of itself
//! judge          candidate against golden, stage by stage
//! drift, fit, alike   errors that follow something, where rows are independent
//! numbers, place      stages of numbers, and where they are wrong
//! decisions, shares, ranks, copies, tokens      what is decided, and what follows from it
//! replay         the golden of a candidate's own inputs
//! verdict, map   what is said, as JSON and as a report; the worst stage, to be drawn
//! ```
//!
//! Spec: chapter 10

mod alike;
mod bundle;
mod bundle_write;
mod compress;
mod copies;
mod decisions;
mod drift;
mod fit;
mod given;
mod ground;
mod images;
mod judge;
mod map;
mod measure;
mod noise;
mod numbers;
mod place;
mod ranks;
mod record;
mod replay;
mod rerun;
mod rows;
mod said;
mod select;
mod shares;
mod stages;
mod tokens;
mod verdict;

pub use bundle::{Bundle, FORMAT};
pub use bundle_write::BundleWriter;
pub use compress::compress;
#[cfg(feature = "lapack")]
pub(crate) use compress::roles;
pub use judge::check;
pub use map::Map;
pub use record::{Recorded, Recorder, Recording, record};
pub use replay::replay;
pub use select::Selection;
pub use verdict::{Outcome, StageVerdict, Verdict, Whole};
