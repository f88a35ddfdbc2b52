//! Vision towers: tiles of pixels in, features out; and the projector's packing into prompt rows.

mod pack;
mod siglip;

pub use pack::pack;
pub use siglip::Siglip;
