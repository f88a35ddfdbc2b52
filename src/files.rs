//! A checkpoint folder as a set of named files: on disk, or embedded in the binary.
//!
//! Names are plain file names, so a name cannot reach a file outside the folder. Links inside the folder are followed,
//! because the hub's cache consists of links. The module [`output`] writes files.

pub mod output;

pub use output::{Temporary, atomic_write};

use crate::error::{Error, Result, ensure};
use std::borrow::Cow;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The place of a checkpoint's files.
#[derive(Debug, Clone)]
pub enum Files {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files compiled into the binary: name and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The files that are read from a checkpoint folder if they exist, except the weights.
pub const NAMES: [&str; 17] = [
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "pytorch_model.bin.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
];

/// The maximum size of a text file of a checkpoint in bytes. It is larger than any such file on the hub. It is small
/// enough that the JSON values of several files fit into memory at once; in the worst case, JSON values take eighty
/// times the memory of their text.
fn most(name: &str) -> u64 {
    (if name == "tokenizer.json" { 48 } else { 16 }) << 20
}

/// Reads a text file of at most `most` bytes that does not belong to a checkpoint. `expected` describes the file in
/// messages.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is larger.
pub fn read_text(path: &Path, expected: &str, most: u64) -> Result<Vec<u8>> {
    let found = std::fs::metadata(path).map_err(|e| Error::new(path.display(), expected, e))?;
    whole(path, &found, expected, most, "divide it")
}

/// Reads all bytes of a file of at most `most` bytes. `found` is the file's metadata, read before the file is opened,
/// because opening a pipe blocks until another process writes into it. The function reads at most the size in `found`:
/// the system generates files such as those under `/proc` during the read, so they report no size and may have no end.
pub(crate) fn whole(
    path: &Path,
    found: &std::fs::Metadata,
    expected: &str,
    most: u64,
    remedy: &str,
) -> Result<Vec<u8>> {
    ensure!(found.is_file(), path.display(), expected, "a folder, pipe or device");
    ensure!(found.len() <= most, path.display(), format!("at most {most} bytes"), found.len(), remedy);
    let mut bytes = Vec::with_capacity(found.len() as usize + 1);
    let read = std::fs::File::open(path).and_then(|file| file.take(found.len()).read_to_end(&mut bytes));
    read.map_err(|e| Error::new(path.display(), expected, e))?;
    Ok(bytes)
}

impl Files {
    /// The path of a file in messages.
    pub fn label(&self, name: &str) -> String {
        match self {
            Files::Folder(dir) => dir.join(name).display().to_string(),
            Files::Embedded(_) => format!("demo model: {name}"),
        }
    }

    /// The path of a file in a folder; `None` for embedded files.
    ///
    /// # Errors
    /// The name is not a plain file name inside the folder.
    pub fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        ensure!(plain, format!("file name {name:?}"), "a plain file name inside the checkpoint folder", "a path");
        Ok(match self {
            Files::Folder(dir) => Some(dir.join(name)),
            Files::Embedded(_) => None,
        })
    }

    /// The contents of a text file; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file, or is larger than the limit for its name.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        let Some(path) = self.path(name)? else {
            let Files::Embedded(files) = self else { return Ok(None) };
            return Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| Cow::Borrowed(*bytes)));
        };
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::new(path.display(), "a readable file", e)),
            Ok(found) => whole(&path, &found, "a regular file", most(name), "check that it is the right file")
                .map(|b| Some(Cow::Owned(b))),
        }
    }
}
