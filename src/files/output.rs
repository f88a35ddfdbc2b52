//! Output files that are either complete or absent. A file is written under a temporary name in the folder of its
//! target and then renamed.
//!
//! A temporary name is `.NAME.PID-RANDOM.tmp`. The temporary file is removed when its [`Temporary`] is dropped. If a
//! program's signal handlers end it without dropping values, the program makes its temporary files itself, records
//! their paths, and removes the files in the handlers.

use crate::error::{Error, Result, ensure};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes a whole file, or nothing.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or the target exists and is not a regular file.
pub fn atomic_write(target: &Path, bytes: &[u8]) -> Result<()> {
    Temporary::beside(target)?.holding(target, bytes)?.persist(target)
}

/// The error for a target that cannot be written.
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
    /// The folder is missing or not writable, or the target exists and is not a regular file. A rename would replace
    /// such a target, `/dev/null` as well as a folder.
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

    /// Writes these bytes to the file and returns it. Messages name `target`.
    ///
    /// # Errors
    /// The bytes cannot be written; for example, the disk is full.
    pub fn holding(mut self, target: &Path, bytes: &[u8]) -> Result<Temporary> {
        self.file.write_all(bytes).map_err(|e| unwritable(target, e))?;
        Ok(self)
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Removes the name of the open file if the system allows it. The system then frees the file's space when the
    /// process ends for any reason.
    pub(crate) fn unnamed(self) -> Self {
        if cfg!(unix) {
            let _ = std::fs::remove_file(&self.path); // if this fails, dropping tries again
        }
        self
    }

    /// Renames the file to `target`.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub fn persist(self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).map_err(|e| unwritable(target, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // fails after `persist`; no other file has this name
    }
}
