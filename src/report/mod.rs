//! Pictures of results.

mod plot;

pub use plot::{Line, Plot};

#[cfg(feature = "input")]
pub(crate) use plot::escape;
