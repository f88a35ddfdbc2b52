//! Weights as they lie in a checkpoint: safetensors, mapped into memory and read in place.
//!
//! ```text
//! mmap     the bytes of a file: mapped, embedded, or owned
//! dtype    the number formats that a safetensors file may hold
//! header   the head of a safetensors file, read from distrusted bytes, and written
//! shards   which files a checkpoint consists of: one, or those of an index
//! checkpoint  all tensors by name
//! tensors  a tensor as a matrix or vector, its shape and type checked
//! names    our names ("decoder.layers.3.mlp.up_proj.weight") → those that checkpoints of a family use
//! named    a checkpoint asked by our names
//! invented weights that nobody trained, for measuring
//! scan     what `inspect` reports: numbers that are not finite, tensors nobody asked for
//! ```
//!
//! Nothing is widened as a whole: a [`Matrix`] is a window on the file, and a kernel widens the row that it reads.

mod checkpoint;
mod dtype;
pub(crate) mod header;
mod invented;
mod mmap;
mod named;
pub mod names;
mod scan;
pub(crate) mod shards;
mod tensors;

pub use checkpoint::{Checkpoint, TensorInfo};
pub use dtype::Dtype;
pub use mmap::{Mapping, Storage, on_lost_file};
pub use named::Names;
pub use tensors::Matrix;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and are read in place");
