//! Goldens: the values that a flow computed, in a file that other programs can write and be judged by.
//!
//! ```text
//! judge, replay            on top: the verdict by a golden, and by the candidate's own inputs
//! kernel                   one kernel by itself, from a file of arrays, without a model
//! causes                   what a program that fails may have computed instead, in words
//! kinds                    how a stage is judged: numbers, integers, windows, kept sets, copies, tokens
//! case, eviction, left     what is compared; the eviction that cache and steps follow from; the rows that layers have
//! ground, held             which stages a bundle's own values reach; which rows its cache shows
//! rulers, drift, aslant, along, fit, alike   how far honest computations may be off; errors that follow a direction
//! arc                      rotary angles that are honest and still differ
//! noise, rerun, given      how the rulers are measured: the flow once more, by other honest ways or from given values
//! weights                  the type of the weights that a candidate read
//! measure, rows            statistics of an error; some rows of a huge stage
//! verdict, map             what is said, as JSON and as a report; the worst stage, to be drawn
//! record, recorder, stages, images, arranged   the flow of `generate`, every stage written; the images of a bundle
//! layouts, formats         layouts that programs dump stages in; quantised caches
//! bundle, bundle_write, parsed, select, said   a file of named stages; its lists and sets; which stages; what it says of itself
//! progress                 how far a check is, for a bar
//! compress                 the algorithm alone on anybody's bundle
//! ```
//!
//! Spec: chapter 10

mod alike;
mod along;
mod answers;
mod arc;
mod arranged;
mod aslant;
mod bundle;
mod bundle_write;
mod case;
mod causes;
mod compress;
mod drift;
mod eviction;
mod fit;
mod formats;
mod given;
mod ground;
mod held;
mod holding;
mod images;
mod judge;
mod kernel;
mod kinds;
mod lanes;
mod layouts;
mod left;
mod lossy;
mod map;
mod measure;
mod noise;
mod parsed;
mod progress;
mod record;
mod recorder;
mod replay;
mod rerun;
mod rows;
mod rulers;
mod said;
mod select;
mod stages;
mod verdict;
mod weights;
mod widths;

pub use bundle::{Bundle, FORMAT};
pub use bundle_write::BundleWriter;
pub use compress::compress;
#[cfg(feature = "lapack")]
pub(crate) use compress::roles;
pub use judge::{check, check_told};
pub use kernel::{KERNELS, kernel};
pub use progress::Progress;
pub use record::{Recorded, Recording, record};
pub use recorder::Recorder;
pub use replay::{replay, replay_told, replayed_pixels};
pub use said::precision;
pub use select::Selection;
pub use verdict::{Map, Outcome, StageVerdict, Verdict, Whole};
