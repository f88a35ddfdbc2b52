//! The weights of a checkpoint: safetensors files, mapped into memory and read in place.
//!
//! ```text
//! mmap     the bytes of a file: mapped, embedded, or owned
//! file     a safetensors file, read by the crate of that name after a guard has checked it
//! shards   the files of a checkpoint: one file, or the files that an index lists
//! checkpoint  all tensors by name
//! tensors  a tensor as a matrix or vector, with checks of its shape and type
//! names    our names ("decoder.layers.3.mlp.up_proj.weight") → the names in checkpoints of a family
//! named    access to a checkpoint by our names
//! invented random weights, for measurements
//! scan     a search for numbers that are not finite, for `inspect`
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
pub use file::{TensorInfo, bytes_of};
pub use mmap::Storage;
pub use named::Names;
pub use safetensors::Dtype;
pub use tensors::Matrix;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and are read in place");
