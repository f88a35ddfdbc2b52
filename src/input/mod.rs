//! The building blocks that turn images and a prompt into the model's input: pixels, tiles, rows, templates, tokens,
//! positions.
//!
//! Families use these blocks, and no block knows a family. [`processor`](crate::processor) joins the blocks. The
//! feature `input` adds image files, chat templates and tokenizers. Spec: chapter 04

pub mod anyres;
mod anyres_rows;
pub(crate) mod anyres_settings;
pub mod conversation;
pub mod crop;
pub mod frames;
pub mod image;
pub mod layout;
pub mod mrope;
pub mod packing;
pub mod patches;
pub mod pixels;
pub mod positions;
pub mod prepared;
pub(crate) mod section;
pub mod settings;
pub mod sizes;
mod tiles;
pub mod tiling;
pub mod video;

#[cfg(feature = "input")]
mod added_tokens;
#[cfg(feature = "input")]
mod decode;
#[cfg(feature = "input")]
pub mod dialogue;
#[cfg(feature = "input")]
mod formats;
#[cfg(feature = "input")]
mod jpeg;
#[cfg(feature = "input")]
pub mod lossy;
#[cfg(feature = "input")]
pub mod messages;
#[cfg(feature = "input")]
mod metadata;
#[cfg(feature = "input")]
pub mod sentencepiece;
#[cfg(feature = "input")]
pub mod template;
#[cfg(feature = "input")]
pub mod tokenizer;
#[cfg(feature = "input")]
mod tokenizer_bounds;
#[cfg(feature = "input")]
pub mod tokenizer_model;
#[cfg(feature = "input")]
mod vocabulary;

pub use anyres::Anyres;
pub use crop::Crop;
pub use image::{Image, Orientation};
pub use layout::PixelLayout;
pub use packing::{Moment, PackedRow, Packing};
pub use pixels::Pixels;
pub use positions::Positions;
pub use prepared::{GivenImage, Prepared, PreparedImage};
pub(crate) use section::Section;
pub(crate) use settings::sections;
pub use settings::{Limits, Settings};
pub use sizes::Sizes;
pub use tiling::Tiling;
#[cfg(feature = "input")]
pub use tokenizer::{TokenStream, Tokenizer};
