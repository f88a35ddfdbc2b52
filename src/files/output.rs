//! Output files that are whole or not there: written beside the target under a temporary name, then renamed.
//!
//! A temporary name is `.NAME.PID-RANDOM.tmp`. It is removed when its holder is dropped. A program whose signal handlers end
//! it without dropping anything makes its temporary files itself, notes their paths, and removes them there.

use crate::error::{Error, Result, ensure};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes a whole file, or nothing.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or the target is there and no regular file.
pub fn atomic_write(target: &Path, bytes: &[u8]) -> Result<()> {
    Temporary::beside(target)?.holding(target, bytes)?.persist(target)
}

/// An error in writing `target`.
pub(crate) fn unwritable(target: &Path, e: std::io::Error) -> Error {
    Error::new(target.display(), "a file that can be written", e)
}

/// A file under a temporary name; removed when dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new file in the folder of `target`, open for reading and writing.
    ///
    /// # Errors
    /// The folder is missing or not writable, or the target is there and no regular file (which a rename would replace:
    /// `/dev/null` as well as a folder).
    pub fn beside(target: &Path) -> Result<Temporary> {
        match target.metadata() {
            Ok(found) => {
                ensure!(found.is_file(), target.display(), "a regular file or none", "a folder, pipe or device")
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(unwritable(target, e)),
        }
        let of_folder = target.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
        let Some(name) = target.file_name().filter(|_| !of_folder) else {
            return Err(Error::new(format!("{:?}", target.display().to_string()), "a file name", "none"));
        };
        let short: String = name.to_string_lossy().chars().take(40).collect();
        let random = RandomState::new().hash_one(0);
        let path = target.with_file_name(format!(".{short}.{}-{random:016x}.tmp", std::process::id()));
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        Ok(Temporary { file: made.map_err(|e| unwritable(target, e))?, path })
    }

    /// The same file with these bytes in it; `target` is what messages name.
    ///
    /// # Errors
    /// The disk is full or the like.
    pub fn holding(mut self, target: &Path, bytes: &[u8]) -> Result<Temporary> {
        self.file.write_all(bytes).map_err(|e| unwritable(target, e))?;
        Ok(self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives up the name where the system allows it, so that the space is freed however the process ends.
    pub(crate) fn unnamed(self) -> Self {
        if cfg!(unix) {
            let _ = std::fs::remove_file(&self.path); // dropping tries again
        }
        self
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn persist(self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).map_err(|e| unwritable(target, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // gone already if it was given its name; nothing else has this one
    }
}
