//! Output files that are whole or not there: written beside the target under a temporary name, then renamed.
//!
//! A temporary name is `.NAME.PID-N.tmp`. It is removed when its holder is dropped; a signal handler, which ends the
//! process without dropping anything, calls [`remove_temporaries`]. Only a process killed outright (SIGKILL, power)
//! between the start of a write and its rename leaves one behind.

use crate::error::{Error, Result, ensure};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// Temporary files that exist now. Global because a signal handler has nothing else to go by; no result depends on it.
static TEMPORARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Writes a whole file, or nothing.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or the target is there and no regular file.
pub fn atomic_write(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = Temporary::beside(target)?;
    temporary.file().write_all(bytes).map_err(|e| unwritable(target, e))?;
    temporary.persist(target)
}

/// Writes whole files that belong together: all of them, or none.
///
/// # Errors
/// As [`atomic_write`].
pub fn write_together<'a>(files: impl IntoIterator<Item = (PathBuf, Cow<'a, [u8]>)>) -> Result<()> {
    let mut written = Vec::new();
    for (target, bytes) in files {
        let mut temporary = Temporary::beside(&target)?;
        temporary.file().write_all(&bytes).map_err(|e| unwritable(&target, e))?;
        written.push((temporary, target));
    }
    written.into_iter().try_for_each(|(temporary, target)| temporary.persist(&target))
}

/// Writes whole files into a folder, which is made if it is missing: all of them, or none.
///
/// # Errors
/// As [`atomic_write`]; the folder cannot be made.
pub fn write_folder<'a>(folder: &Path, files: impl IntoIterator<Item = (String, Cow<'a, [u8]>)>) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
    let write = || {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|e| Error::new(folder.display(), "a folder that can be made", e))?;
        write_together(files.into_iter().map(|(name, bytes)| (folder.join(name), bytes)))
    };
    write().inspect_err(|_| {
        for folder in missing {
            let _ = std::fs::remove_dir(folder); // only if nothing is in it
        }
    })
}

/// Fails where `target` could not be written in the end.
///
/// # Errors
/// As [`atomic_write`].
pub fn writable(target: &Path) -> Result<()> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), target.display(), "a file in a folder that is there", "no such folder");
    Temporary::beside(target).map(drop)
}

/// Removes all temporary files of this process, and lets it make no more, for a handler that is about to end it.
pub fn remove_temporaries() {
    // The list is held for moments only, unless by the very thread that the signal has stopped.
    for _ in 0..1000 {
        let mut all = match TEMPORARIES.try_lock() {
            Ok(all) => all,
            Err(TryLockError::Poisoned(all)) => all.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        for path in std::mem::take(&mut *all) {
            let _ = std::fs::remove_file(path); // there is nobody left to tell
        }
        std::mem::forget(all); // who makes another one now waits for the end
        return;
    }
}

/// An error in writing `target`.
pub(crate) fn unwritable(target: &Path, e: std::io::Error) -> Error {
    Error::new(target.display(), "a file that can be written", e)
}

/// A file under a temporary name; removed when dropped.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new file in the folder of `target`, open for reading and writing.
    ///
    /// # Errors
    /// The folder is missing or not writable, or the target is there and no regular file (which a rename would replace:
    /// `/dev/null` as well as a folder).
    pub(crate) fn beside(target: &Path) -> Result<Temporary> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
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
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let short: String = name.to_string_lossy().chars().take(40).collect();
            let path = target.with_file_name(format!(".{short}.{}-{n}.tmp", std::process::id()));
            // Made and registered at once: a handler comes before both, and then there is none, or after both.
            let made: std::io::Result<File> = register(|all| {
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
                all.insert(path.clone());
                Ok(file)
            });
            match made {
                Ok(file) => return Ok(Temporary { path, file }),
                // A leftover of a process that was killed and had the same id.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(unwritable(target, e)),
            }
        }
    }

    /// Where it is, for those who write it by that name.
    pub(crate) fn path(&self) -> &Path {
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
    pub(crate) fn persist(self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).map_err(|e| unwritable(target, e))?;
        register(|all| all.remove(&self.path));
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if register(|all| all.remove(&self.path)) {
            let _ = std::fs::remove_file(&self.path); // already gone if unnamed
        }
    }
}

fn register<R>(change: impl FnOnce(&mut BTreeSet<PathBuf>) -> R) -> R {
    change(&mut TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner))
}
