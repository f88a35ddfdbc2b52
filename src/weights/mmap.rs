//! The bytes of a file, mapped into memory.
//!
//! The operating system reads pages as they are touched and may drop them again, so a checkpoint need not fit into
//! memory twice. A mapped file must not be changed meanwhile: another program that overwrites it changes the weights, and
//! one that truncates it makes the next read of the lost part raise SIGBUS, which ends the process; a program may have
//! itself told instead, by [`on_lost_file`], as the binary does. A download tool that writes beside the file and renames,
//! as Hugging Face's does, is safe.

use crate::error::{Error, Result, ensure};
use crate::os;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes that tensors are read from in place.
#[derive(Debug)]
pub enum Storage {
    /// A mapped file.
    Mapped(Mapping),
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
        let map = os::map(&file).map_err(|e| Error::new(path.display(), "a file that can be mapped into memory", e))?;
        Ok(Storage::Mapped(Mapping::new(map, path)))
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

/// Mappings that are there now: where they lie and of which file. Global because a signal handler has nothing else to go
/// by; no result depends on it.
static MAPPINGS: Mutex<Vec<(Range<usize>, String)>> = Mutex::new(Vec::new());

/// What [`on_lost_file`] was told to call.
static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// A mapped file, known to the handler of [`on_lost_file`] while it lives.
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

impl Mapping {
    fn new(map: memmap2::Mmap, path: &Path) -> Mapping {
        let start = map.as_ptr() as usize;
        let known = (start..start + map.len(), path.display().to_string());
        MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner).push(known);
        Mapping(map)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = self.0.as_ptr() as usize;
        MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(range, _)| range.start != start);
    }
}

/// From now on, where a mapped file has lost the bytes that are about to be read, `report` is called with its path, on the
/// thread that reads. It should end the process; if it returns, SIGBUS does. For programs, not for libraries: the handler
/// is the whole process's. Does nothing where there is no SIGBUS.
pub fn on_lost_file(report: fn(&str)) {
    let _ = REPORT.set(report); // the first stays
    #[cfg(unix)]
    os::on_lost_bytes(lost);
}

/// Calls what [`on_lost_file`] was told to, with the file that has lost the byte at this address.
#[cfg(unix)]
fn lost(at: usize) {
    // The signal is raised by this thread's own read of a mapping, during which it holds no lock and is inside no
    // allocation: neither can be left half done.
    let found = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let file = found.iter().find(|(range, _)| range.contains(&at)).map(|(_, file)| file.clone());
    drop(found);
    if let (Some(file), Some(report)) = (file, REPORT.get()) {
        report(&file);
    }
}
