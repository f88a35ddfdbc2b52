//! Pictures of results.
//!
//! ```text
//! plot           shares against retention, as SVG
//! verdict        a verdict as a page, with the pictures of depth and heat
//! page           templates and escaping of pages
//! ```

mod depth;
mod heat;
mod page;
mod plot;
mod verdict;

pub use plot::{Line, Plot};
pub use verdict::page as verdict_page;

#[cfg(feature = "input")]
pub(crate) use page::{escape, fill};
