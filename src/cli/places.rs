//! The outputs of a command: each can be written, and differs from every other output and from every input.

use super::output;
use aircache::eval::Questions;
use aircache::files;
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

    /// Adds these files; of a folder (frames), all files in it.
    pub fn files<'a>(mut self, files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        for file in files {
            match std::fs::read_dir(file) {
                Ok(inside) => self.0.extend(inside.flatten().map(|entry| entry.path())),
                Err(_) => self.0.push(file.clone()),
            }
        }
        self
    }

    /// Adds the files of a checkpoint folder: the existing files, and the known file names that do not exist.
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

    /// Adds the pictures of a question file.
    pub fn questions(self, questions: &Questions) -> Self {
        self.files(questions.items.iter().flat_map(|item| item.files()))
    }

    /// Checks the outputs before the work; each has the name of its option.
    ///
    /// # Errors
    /// An output is an input or another output (links are followed), or it cannot be written.
    pub fn apart(&self, outputs: &[(&str, &Path)]) -> Result<()> {
        let mut taken = Vec::new();
        for (option, path) in outputs {
            output::writable(path)?;
            let found = place(path);
            if taken.contains(&found) {
                return Err(Error::new(option, "another name for each output", path.display())
                    .remedy("two outputs would have this name"));
            }
            taken.push(found);
        }
        for file in &self.0 {
            let found = place(file);
            if let Some(i) = taken.iter().position(|place| *place == found) {
                let (option, path) = outputs[i];
                let e = Error::new(option, "a file that is not an input", file.display());
                return Err(e.remedy(format!("{} would replace this input", path.display())));
            }
        }
        Ok(())
    }
}

/// The place of a path, with its links followed if it exists, else with the links of its folder followed.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(new).unwrap_or_else(|| path.to_path_buf())
}
