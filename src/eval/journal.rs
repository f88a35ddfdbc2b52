//! The journal of answers: a header line that describes the evaluation, then one JSON line for each question, appended and
//! flushed at once.
//!
//! A killed run leaves whole lines, and perhaps one incomplete line, which is removed when the run continues. Each shard
//! writes its own journal, and [`Journal::absorb`] merges them.

use super::Cells;
use crate::error::{Error, Result, ensure};
use crate::files::read_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The largest size of a journal.
const MAX_BYTES: u64 = 256 << 20;

/// The header of a journal. Journals of the same evaluation have the same header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "the first line of a journal")]
pub struct Header {
    /// `aircache-eval`, or `aircache-run` if the file is answered under one policy.
    pub format: String,
    /// sha-256 of the model's tensors.
    pub model: String,
    /// sha-256 of the question file.
    pub data: String,
    /// Number of questions.
    pub questions: usize,
    /// The precision's name in bundles.
    pub precision: String,
    /// The resampler's name.
    pub preprocess: String,
    /// The largest number of tokens of an answer.
    pub max_new_tokens: usize,
    /// The choice of tokens and the end of an answer; empty for greedy tokens and the checkpoint's own end tokens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
    /// How the questions were asked, if a recipe changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Value>,
    /// Policy and retention of each cell, as written.
    pub cells: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    question: usize,
    answers: Vec<String>,
}

/// The answers so far, and their file, if the journal has one.
#[derive(Debug)]
pub struct Journal {
    header: Header,
    answers: BTreeMap<usize, Vec<String>>,
    file: Option<(PathBuf, File)>,
    /// True if the file did not exist before.
    new: bool,
}

impl Drop for Journal {
    /// Removes a new file that holds no answer.
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.as_ref().filter(|_| self.new && self.answers.is_empty()) {
            let _ = std::fs::remove_file(path); // if the file cannot be removed, it stays
        }
    }
}

impl Header {
    /// The value of `format`.
    pub const FORMAT: &'static str = "aircache-eval";

    /// The names of cells.
    pub fn cells(cells: &Cells) -> Vec<(String, String)> {
        cells.all.iter().map(|c| (c.name.clone(), c.retain.clone())).collect()
    }

    /// Fails if `other`, read from `at`, describes another evaluation; the error names the first field that differs.
    fn same(&self, other: &Header, at: &Path) -> Result<()> {
        let fields = |h: &Header| {
            [
                ("format", h.format.clone()),
                ("model", h.model.clone()),
                ("data", h.data.clone()),
                ("questions", h.questions.to_string()),
                ("precision", h.precision.clone()),
                ("preprocess", h.preprocess.clone()),
                ("max_new_tokens", h.max_new_tokens.to_string()),
                ("how tokens are chosen", h.how.clone()),
                ("recipe", h.recipe.as_ref().map_or("none".into(), Value::to_string)),
                ("cells", h.cells.iter().map(|(p, r)| format!("{p} at {r}")).collect::<Vec<_>>().join("; ")),
            ]
        };
        match fields(self).into_iter().zip(fields(other)).find(|(ours, theirs)| ours != theirs) {
            None => Ok(()),
            Some(((field, ours), (_, theirs))) => Err(Error::new(format!("{}: {field}", at.display()), ours, theirs)
                .remedy("the file has the answers of another evaluation: choose another --out, or delete the file")),
        }
    }
}

/// The content of a journal.
fn text(path: &Path) -> Result<String> {
    const WHAT: &str = "a journal of answers";
    String::from_utf8(read_text(path, WHAT, MAX_BYTES)?).map_err(|e| Error::new(path.display(), WHAT, e))
}

impl Journal {
    /// A journal in memory only, without a file.
    pub fn in_memory(header: Header) -> Journal {
        Journal { header, answers: BTreeMap::new(), file: None, new: false }
    }

    /// Opens the journal at `path`: starts a new file, or continues an existing file. An incomplete last line is cut
    /// off.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds another evaluation.
    pub fn open(path: &Path, header: Header) -> Result<Journal> {
        let unusable = |e: std::io::Error| Error::new(path.display(), "a file that can be read and written", e);
        let new = !path.exists();
        let text = if new { String::new() } else { text(path)? };
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(unusable)?;
        // Two workers on one shard would write over each other. A file system without locks says neither.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let e = Error::new(path.display(), "a journal that no other process writes", "one that is being written");
            return Err(e.remedy("wait for the other process, or choose another --out"));
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut journal = Journal::in_memory(header);
        journal.new = new;
        if whole == 0 {
            let header = serde_json::to_string(&journal.header).unwrap_or_default();
            // An incomplete line is the start of our own header. Any other text means that the file belongs to somebody
            // else.
            ensure!(
                header.starts_with(&text),
                path.display(),
                "a journal of answers, or no file",
                "a file of another kind"
            );
            file.set_len(0).map_err(unusable)?;
            file.seek(SeekFrom::Start(0)).map_err(unusable)?;
            journal.file = Some((path.to_path_buf(), file));
            journal.append(&header)?;
        } else {
            journal.answers = journal.read(&text[..whole], path)?;
            file.set_len(whole as u64).map_err(unusable)?;
            file.seek(SeekFrom::Start(whole as u64)).map_err(unusable)?;
            journal.file = Some((path.to_path_buf(), file));
        }
        Ok(journal)
    }

    /// Reads the journal at `path` without writing to it; its questions must be those of `data`, a question file's sha-256.
    ///
    /// # Errors
    /// The file cannot be read, is no journal, or has the answers to another file of questions.
    pub fn of_file(path: &Path, data: &str) -> Result<Journal> {
        let text = text(path)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let header = whole.lines().next().map(serde_json::from_str::<Header>);
        let Some(Ok(header)) = header else {
            return Err(Error::new(path.display(), "a journal of answers", "a file of another kind"));
        };
        let remedy = "give the file of questions with --data";
        ensure!(header.data == data, format!("{}: data", path.display()), data, header.data, remedy);
        let mut journal = Journal::in_memory(header);
        journal.answers = journal.read(whole, path)?;
        Ok(journal)
    }

    /// Adds the answers of another journal of the same evaluation, for example the journal of a shard.
    ///
    /// # Errors
    /// The other journal cannot be read, belongs to another evaluation, or has a different answer to the same question.
    pub fn absorb(&mut self, path: &Path) -> Result<()> {
        let text = text(path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (question, answers) in self.read(&text[..whole], path)? {
            if !self.has(question) {
                self.add(question, answers)?;
            }
        }
        Ok(())
    }

    /// Reads the answers on the complete lines of the file at `path`. They must fit this evaluation and the answers so
    /// far.
    fn read(&self, text: &str, path: &Path) -> Result<BTreeMap<usize, Vec<String>>> {
        let bad = |line: usize, e: &dyn std::fmt::Display| {
            Error::new(format!("{}: line {line}", path.display()), "a line of a journal of answers", e)
        };
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else { return Err(bad(1, &"nothing")) };
        let theirs: Header = serde_json::from_str(first).map_err(|e| bad(1, &e))?;
        self.header.same(&theirs, path)?;
        let mut answers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (i, line) in lines {
            let at = || format!("{}: line {}", path.display(), i + 1);
            let line: Line = serde_json::from_str(line).map_err(|e| bad(i + 1, &e))?;
            let fits = line.question < self.header.questions && line.answers.len() == self.header.cells.len();
            let wanted = format!("a question below {} with {} answers", self.header.questions, self.header.cells.len());
            ensure!(fits, at(), wanted, format!("question {} with {} answers", line.question, line.answers.len()));
            let before = self.answers.get(&line.question).or(answers.get(&line.question));
            if let Some(before) = before.filter(|before| **before != line.answers) {
                let wanted = format!("the same answers to question {} as elsewhere: {before:?}", line.question);
                return Err(Error::new(at(), wanted, format!("{:?}", line.answers)));
            }
            answers.insert(line.question, line.answers);
        }
        Ok(answers)
    }

    /// True if the question is answered.
    pub fn has(&self, question: usize) -> bool {
        self.answers.contains_key(&question)
    }

    /// Adds the answers to a question. The answers are on disk when this function returns.
    ///
    /// # Errors
    /// The answers cannot be written, for example because the disk is full.
    pub fn add(&mut self, question: usize, answers: Vec<String>) -> Result<()> {
        let line = Line { question, answers };
        self.append(&serde_json::to_string(&line).unwrap_or_default())?;
        self.answers.insert(question, line.answers);
        Ok(())
    }

    fn append(&mut self, line: &str) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.flush());
        written.map_err(|e| Error::new(path.display(), "a file that can be written", e))
    }

    /// The answers by question, in the order of the file.
    pub fn answers(&self) -> &BTreeMap<usize, Vec<String>> {
        &self.answers
    }

    /// The description of the evaluation.
    pub fn header(&self) -> &Header {
        &self.header
    }
}
