//! Pictures of results.

mod plot;

pub use plot::{Line, Plot};
