//! Vision towers, which map tiles or patches of pixels to features; projectors; packing of projected features into
//! prompt rows.

mod attention;
mod intern_vit;
mod layer;
mod pack;
mod patch_vit;
mod places;
mod projector;
mod rated;
mod shuffle;
mod siglip;
mod tiles;

pub use attention::attention_within;
pub use intern_vit::InternVit;
pub use layer::VitLayer;
pub use pack::pack;
pub use patch_vit::{PATCH_VIT_EPS, PatchVit, PatchVitParts, frames};
pub use places::{interpolated, places, windows};
pub use projector::Projector;
pub use shuffle::{shuffled, shuffled_rows};
pub use siglip::Siglip;
pub(crate) use tiles::rows_at_once;
