//! The bytes of a file, mapped into memory.
//!
//! The operating system reads pages as they are touched and may drop them again, so a checkpoint need not fit into
//! memory twice. A mapped file must not be changed meanwhile: another program that overwrites it changes the weights, and
//! one that truncates it makes the next read of the lost part raise SIGBUS, which ends the process (the binary says why). A
//! download tool that writes beside the file and renames, as Hugging Face's does, is safe.

use crate::error::{Error, Result, ensure};
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::path::Path;

/// Bytes that tensors are read from in place.
#[derive(Debug)]
pub enum Storage {
    /// A mapped file.
    Mapped(Mmap),
    /// Part of the binary.
    Static(&'static [u8]),
    /// A copy, aligned to 8 bytes; for tensors that lie misaligned in their file.
    Owned(Vec<u64>),
}

impl Storage {
    /// Maps a file.
    ///
    /// # Errors
    /// The file is missing, is not regular, or cannot be read or mapped.
    pub fn open(path: &Path) -> Result<Storage> {
        let unreadable = |e: std::io::Error| Error::new(path.display(), "a readable file", e);
        // Asked before opening: to open a pipe would wait for somebody to write into it.
        let found = std::fs::metadata(path).map_err(unreadable)?;
        ensure!(found.is_file(), path.display(), "a regular file", "a folder, pipe or device");
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length == 0 {
            return Ok(Storage::Static(&[]));
        }
        map(&file)
            .map_err(|e| Error::new(path.display(), "a file that can be mapped into memory", e))
            .map(Storage::Mapped)
    }

    /// An aligned copy.
    pub fn copy(bytes: &[u8]) -> Storage {
        Self::edited(bytes, |_| {})
    }

    /// An aligned copy with changes.
    pub(super) fn edited(bytes: &[u8], edit: impl FnOnce(&mut [u8])) -> Storage {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        let copy = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()];
        copy.copy_from_slice(bytes);
        edit(copy);
        Storage::Owned(words)
    }

    /// The bytes; a copy's end may be padded.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Owned(words) => bytemuck::cast_slice(words),
        }
    }
}

/// A private map of a whole file, for reading.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private and read-only, and every offset into it is checked against its length, which is that of
    // the file when mapped. What cannot be ruled out is another process changing the file, as said at the top.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}
