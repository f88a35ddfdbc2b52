//! The bytes of a file, mapped into memory.
//!
//! The operating system loads a page when it is first read and may drop the page again, so a checkpoint need not fit
//! into memory twice. A mapped file must not change while it is mapped. If another program overwrites the file, the
//! weights change. If another program truncates the file, the next read of the lost part raises SIGBUS, which ends the
//! process (the binary prints the reason). A download tool that writes a new file and then renames it, as Hugging
//! Face's tool does, is safe.

use crate::error::{Error, Result, ensure};
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::path::Path;

/// The bytes of a file, from which tensors are read in place.
#[derive(Debug)]
pub enum Storage {
    /// A mapped file.
    Mapped(Mmap),
    /// Bytes in the binary.
    Static(&'static [u8]),
    /// A copy, aligned to 8 bytes, for tensors that are misaligned in their file.
    Owned(Vec<u64>),
}

impl Storage {
    /// Maps a file.
    ///
    /// # Errors
    /// The file is missing, is not regular, or cannot be read or mapped.
    pub fn open(path: &Path) -> Result<Storage> {
        let unreadable = |e: std::io::Error| Error::new(path.display(), "a readable file", e);
        // Read before the file is opened, because opening a pipe blocks until another process writes into it.
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

    /// An aligned copy that `edit` has changed.
    pub(super) fn edited(bytes: &[u8], edit: impl FnOnce(&mut [u8])) -> Storage {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        let copy = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()];
        copy.copy_from_slice(bytes);
        edit(copy);
        Storage::Owned(words)
    }

    /// The bytes. A copy may have padding at its end.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Owned(words) => bytemuck::cast_slice(words),
        }
    }
}

/// Maps a whole file, privately and for reading only.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private and read-only. Every offset into the map is checked against the map's length, which is
    // the length of the file when it was mapped. Another process can still change the file; see the top of this module.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}
