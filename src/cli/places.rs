//! Where results go: places that can be written, apart from each other and from every file that is read.

use aircache::eval::Questions;
use aircache::files::{self, output};
use aircache::{Error, Result};
use std::path::{Path, PathBuf};

/// The files that a command reads.
#[derive(Debug, Default)]
pub struct Read(Vec<PathBuf>);

impl Read {
    /// No file yet.
    pub fn new() -> Self {
        Read::default()
    }

    /// These files too; of a folder (frames) all that it holds.
    pub fn files<'a>(mut self, files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        for file in files {
            match std::fs::read_dir(file) {
                Ok(inside) => self.0.extend(inside.flatten().map(|entry| entry.path())),
                Err(_) => self.0.push(file.clone()),
            }
        }
        self
    }

    /// The files of a checkpoint folder too: those that it has, and those that it would have.
    pub fn model(mut self, folder: Option<&PathBuf>) -> Self {
        let Some(folder) = folder else { return self };
        self.0.extend(files::NAMES.iter().map(|name| folder.join(name)));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "safetensors") {
                self.0.push(entry.path());
            }
        }
        self
    }

    /// The pictures of a question file too.
    pub fn questions(self, questions: &Questions) -> Self {
        let all = questions.items.iter();
        self.files(all.flat_map(|item| item.images.iter().chain(&item.video)))
    }

    /// Fails where one of the outputs, each named by its option, is a file that is read or the same as another, by whatever name, or
    /// cannot be written: before the work, not after it.
    ///
    /// # Errors
    /// As said.
    pub fn apart(&self, outputs: &[(&str, &Path)]) -> Result<()> {
        let mut taken = Vec::new();
        for (option, path) in outputs {
            output::writable(path)?;
            let found = place(path);
            if taken.contains(&found) {
                return Err(Error::new(option, "names for files apart from each other", path.display())
                    .remedy("two files would get this name"));
            }
            taken.push(found);
        }
        for file in &self.0 {
            let found = place(file);
            if let Some(i) = taken.iter().position(|place| *place == found) {
                let (option, path) = outputs[i];
                let e = Error::new(option, "another file than those that are read", file.display());
                return Err(e.remedy(format!("{} would take its place", path.display())));
            }
        }
        Ok(())
    }
}

/// Where a path leads: by its own links if it is there, else by its folder's.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(new).unwrap_or_else(|| path.to_path_buf())
}
