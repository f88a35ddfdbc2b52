//! Files that a command writes: whole or not there, also where a signal ends the process.

use aircache::files::Temporary;
use aircache::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// Where temporary files were made. Global because a signal handler has nothing else to go by.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A temporary file in the folder of `target`, of which [`tidy`] knows.
///
/// # Errors
/// As [`Temporary::beside`].
pub fn temporary(target: &Path) -> Result<Temporary> {
    // Made and noted at once: a handler comes before both, and then there is none, or after both.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = Temporary::beside(target)?;
    made.push(file.path().into());
    Ok(file)
}

/// Writes a whole file, or nothing.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or the target is there and no regular file.
pub fn write(target: &Path, bytes: &[u8]) -> Result<()> {
    temporary(target)?.holding(target, bytes)?.persist(target)
}

/// Writes whole files that belong together: all of them, or none.
///
/// # Errors
/// As [`write`].
pub fn write_together<'a>(files: impl IntoIterator<Item = (PathBuf, Cow<'a, [u8]>)>) -> Result<()> {
    let mut written = Vec::new();
    for (target, bytes) in files {
        written.push((temporary(&target)?.holding(&target, &bytes)?, target));
    }
    written.into_iter().try_for_each(|(file, target)| file.persist(&target))
}

/// Writes whole files into a folder, which is made if it is missing: all of them, or none.
///
/// # Errors
/// As [`write`]; the folder cannot be made.
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
/// As [`write`].
pub fn writable(target: &Path) -> Result<()> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::new(target.display(), "a file in a folder that is there", "no such folder"));
    }
    temporary(target).map(drop)
}

/// Removes all temporary files of this process, and lets it make no more, for a handler that is about to end it.
pub fn tidy() {
    // The list is held for moments only, unless by the very thread that the signal has stopped.
    for _ in 0..1000 {
        let mut all = match MADE.try_lock() {
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
