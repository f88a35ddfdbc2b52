//! Files that a command writes. A file is complete or absent, even if a signal ends the process.

use aircache::files::Temporary;
use aircache::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// The paths of the temporary files. This list is global because a signal handler can reach only global state.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A temporary file in the folder of `target`. [`tidy`] removes it if a signal ends the process.
///
/// # Errors
/// As [`Temporary::beside`].
pub fn temporary(target: &Path) -> Result<Temporary> {
    // The lock covers both the creation and the entry in the list. So a handler runs before both or after both.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = Temporary::beside(target)?;
    made.push(file.path().into());
    Ok(file)
}

/// Writes a whole file, or nothing.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or the target exists and is not a regular file.
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

/// Writes whole files into a folder, and creates the folder if it is missing: all of the files, or none.
///
/// # Errors
/// As [`write`]; the folder cannot be created.
pub fn write_folder<'a>(folder: &Path, files: impl IntoIterator<Item = (String, Cow<'a, [u8]>)>) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
    let write = || {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|e| Error::new(folder.display(), "a folder that can be made", e))?;
        write_together(files.into_iter().map(|(name, bytes)| (folder.join(name), bytes)))
    };
    write().inspect_err(|_| {
        for folder in missing {
            let _ = std::fs::remove_dir(folder); // succeeds only if the folder is empty
        }
    })
}

/// Fails if `target` could not be written at the end of the command.
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

/// Removes all temporary files of this process and prevents new ones. A signal handler calls it just before it ends the
/// process.
pub fn tidy() {
    // Threads hold the list only for moments. The exception is the thread that the signal has stopped while it holds
    // the list.
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
            let _ = std::fs::remove_file(path); // an error cannot be reported any more
        }
        std::mem::forget(all); // a thread that creates another temporary file now waits until the process ends
        return;
    }
}
