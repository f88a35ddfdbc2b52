//! Vision towers: tiles or patches of pixels in, features out; and the projector's packing into prompt rows.

mod attention;
mod norm;
mod pack;
mod qwen2_vl;
mod siglip;

pub use attention::attention_within;
pub use pack::pack;
pub use qwen2_vl::{Merger, Qwen2VlTower};
pub use siglip::Siglip;
