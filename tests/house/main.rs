//! The repository itself: imports, labels, dependencies, the README and the book.

#[cfg(feature = "cli")]
mod book;
mod dependencies;
mod layers;
mod sentences;
mod spec_index;
mod tests;
