//! The weights of a checkpoint: safetensors files, mapped into memory and read in place.
//!
//! ```text
//! mmap     the bytes of a file: mapped, embedded, or owned
//! file     a safetensors file, which the crate of that name reads behind a guard
//! shards   which files a checkpoint consists of: one, or those of an index
//! checkpoint  all tensors by name
//! tensors  a tensor as a matrix or vector, its shape and type checked
//! names    our names ("decoder.layers.3.mlp.up_proj.weight") → those that checkpoints of a family use
//! named    a checkpoint asked by our names
//! invented random weights, for measuring
//! scan     what `inspect` reports: numbers that are not finite, tensors nobody asked for
//! ```
//!
//! No matrix is widened as a whole: a [`Matrix`] is a view of the file, and a kernel widens each row when it reads it.

mod checkpoint;
pub(crate) mod file;
mod invented;
mod mmap;
mod named;
pub mod names;
mod scan;
pub(crate) mod shards;
mod tensors;

pub use checkpoint::Checkpoint;
pub(crate) use checkpoint::rounding_changes;
pub use file::{TensorInfo, bytes_of};
pub use mmap::Storage;
pub use named::Names;
pub use safetensors::Dtype;
pub use tensors::Matrix;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and are read in place");
