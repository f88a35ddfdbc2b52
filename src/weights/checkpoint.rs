//! All tensors of a checkpoint by name.

use super::file::{Entry, TensorFile, TensorInfo, head, shortened};
use super::{Storage, shards};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::num::Grid;
use half::{bf16, f16};
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An opened checkpoint. The headers of its files are read and checked; the data is mapped but not yet read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The name of the whole checkpoint in messages.
    label: String,
    files: Vec<TensorFile>,
    tensors: BTreeMap<String, Place>,
    /// Bytes of random or counted tensors that no file holds.
    pub(super) made_up: AtomicU64,
}

/// The file of a tensor, and whether any part of the model has asked for the tensor.
#[derive(Debug)]
struct Place {
    file: usize,
    asked: AtomicBool,
}

/// Rounds numbers of N bytes in place.
fn round<const N: usize>(bytes: &mut [u8], to: impl Fn([u8; N]) -> [u8; N]) {
    bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|b| *b = to(*b));
}

/// Whether rounding to a grid may change a number of this type.
pub(crate) fn rounding_changes(grid: Grid, dtype: Dtype) -> bool {
    match (grid, dtype) {
        (Grid::Native, _) | (Grid::Bf16, Dtype::BF16) | (Grid::F16, Dtype::F16) => false,
        (_, dtype) => matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16),
    }
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// The weights are missing or damaged; the message names the file and the tensor. [`matrix`](Self::matrix) checks
    /// later that the weights fit the model.
    pub fn open(files: &Files) -> Result<Checkpoint> {
        let (label, files) = shards::open(files)?;
        let mut tensors = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in &file.names {
                let place = Place { file: i, asked: AtomicBool::new(false) };
                if let Some(other) = tensors.insert(name.clone(), place) {
                    let at = format!("{}: {}", file.label, shortened(name));
                    return Err(Error::new(
                        at,
                        "a tensor in one file",
                        format!("another in {}", files[other.file].label),
                    ));
                }
            }
        }
        Ok(Checkpoint { label, files, tensors, made_up: AtomicU64::new(0) })
    }

    /// A checkpoint without tensors.
    pub(crate) fn empty(label: &str) -> Checkpoint {
        Checkpoint { label: label.to_string(), files: Vec::new(), tensors: BTreeMap::new(), made_up: AtomicU64::new(0) }
    }

    /// The path of the weights or of the index of the weights, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Every tensor, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|(name, place)| self.info(name, place))
    }

    /// The first tensor that has one of these names.
    pub fn find(&self, names: &[String]) -> Option<TensorInfo<'_>> {
        self.place(names).map(|(name, place)| self.info(name, place))
    }

    /// Bytes of all tensors together, including tensors that no file holds.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|t| t.data.len() as u64).sum::<u64>() + self.made_up.load(Ordering::Relaxed)
    }

    /// Bytes of the tensors in mapped files. These tensors take memory only when they are read.
    pub fn mapped_bytes(&self) -> u64 {
        let mapped = |file: &&TensorFile| matches!(*file.storage, Storage::Mapped(_));
        let bytes = |file: &TensorFile| (file.storage.bytes().len() - file.start) as u64;
        self.files.iter().filter(mapped).map(bytes).sum()
    }

    /// Bytes of the tensors that are misaligned in their files. A model copies such a tensor when it asks for the
    /// tensor.
    pub fn copied_bytes(&self) -> u64 {
        self.tensors().filter(|t| !t.is_aligned()).map(|t| t.data.len() as u64).sum()
    }

    /// Names of the tensors that no part of a model has asked for so far.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let unasked = |(_, place): &(&String, &Place)| !place.asked.load(Ordering::Relaxed);
        self.tensors.iter().filter(unasked).map(|(name, _)| name.as_str())
    }

    /// The digest that bundles store as `model`: the sha-256, in hexadecimal, over all tensors sorted by name. Each
    /// tensor contributes its name, a line feed, its dtype, a line feed, its shape joined by commas, a line feed, and
    /// its raw bytes. The function reads the whole checkpoint.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for t in self.tensors() {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            hash.update(format!("{}\n{}\n{}\n", t.name, t.dtype, shape.join(",")));
            hash.update(t.data);
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}"); // writing to a string does not fail
            hex
        })
    }

    /// Bytes of the copy that [`rounded`](Self::rounded) makes; 0 if rounding changes no number.
    pub fn rounded_bytes(&self, grid: Grid) -> u64 {
        if self.tensors().any(|t| rounding_changes(grid, t.dtype)) { self.bytes() } else { 0 }
    }

    /// A copy of the checkpoint with every weight rounded to a type. A program that computes in this type loads the
    /// same weights. `which` says by its shape whether a tensor is rounded. None if rounding changes no number.
    /// Spec: R10.4
    pub fn rounded(&self, grid: Grid, which: impl Fn(&[usize]) -> bool) -> Option<Checkpoint> {
        if self.rounded_bytes(grid) == 0 {
            return None;
        }
        let rounded = |dtype: Dtype, bytes: &mut [u8]| match dtype {
            Dtype::F32 => round(bytes, |b| grid.round(f32::from_le_bytes(b)).to_le_bytes()),
            Dtype::BF16 => round(bytes, |b| bf16::from_f32(grid.round(bf16::from_le_bytes(b).to_f32())).to_le_bytes()),
            Dtype::F16 => round(bytes, |b| f16::from_f32(grid.round(f16::from_le_bytes(b).to_f32())).to_le_bytes()),
            _ => {}
        };
        let files = self.files.iter().map(|file| {
            let storage = Storage::edited(file.storage.bytes(), |bytes| {
                for t in file.names.iter().filter_map(|name| file.get(name)).filter(|t| which(t.shape)) {
                    rounded(t.dtype, &mut bytes[t.offset..][..t.data.len()]);
                }
            });
            TensorFile { storage: Arc::new(storage), ..file.clone() }
        });
        let unasked = |(name, place): (&String, &Place)| {
            (name.clone(), Place { file: place.file, asked: AtomicBool::new(false) })
        };
        let tensors = self.tensors.iter().map(unasked).collect();
        Some(Checkpoint { label: self.label.clone(), files: files.collect(), tensors, made_up: AtomicU64::new(0) })
    }

    /// The same checkpoint with other numbers in one tensor; all other tensors stay where they are.
    ///
    /// # Errors
    /// No tensor has this name, or `data` has another size.
    pub(crate) fn with(&self, name: &str, data: &[u8]) -> Result<Checkpoint> {
        let (info, _) = self.ask(&[name.to_string()])?;
        let entry = Entry { dtype: info.dtype, shape: info.shape.to_vec(), data_offsets: (0, data.len()) };
        let mut bytes = head(&BTreeMap::new(), vec![(name.to_string(), entry)]);
        bytes.extend_from_slice(data);
        let mut files = self.files.clone();
        files.push(TensorFile::read(Storage::copy(&bytes), self.label.clone())?);
        let last = files.len() - 1;
        let place = |(at, place): (&String, &Place)| {
            let file = if at == name { last } else { place.file };
            (at.clone(), Place { file, asked: AtomicBool::new(false) })
        };
        let tensors = self.tensors.iter().map(place).collect();
        Ok(Checkpoint { label: self.label.clone(), files, tensors, made_up: AtomicU64::new(0) })
    }

    /// A tensor that a model asks for, with the storage that holds it. `names`: the accepted names, in order of
    /// preference.
    ///
    /// # Errors
    /// No tensor has one of these names.
    pub(super) fn ask(&self, names: &[String]) -> Result<(TensorInfo<'_>, &Arc<Storage>)> {
        let Some((name, place)) = self.place(names) else {
            let first = names.first().map_or("", String::as_str);
            let tried =
                names.get(1..).filter(|rest| !rest.is_empty()).map(|rest| format!(", nor {}", rest.join(", nor ")));
            let got = format!("none{}", tried.unwrap_or_default());
            return Err(Error::new(format!("{}: {first}", self.label), "a tensor of this name", got)
                .remedy("the checkpoint is incomplete, or config.json describes another model"));
        };
        place.asked.store(true, Ordering::Relaxed);
        Ok((self.info(name, place), &self.files[place.file].storage))
    }

    fn place(&self, names: &[String]) -> Option<(&String, &Place)> {
        names.iter().find_map(|name| self.tensors.get_key_value(name))
    }

    fn info(&self, name: &str, place: &Place) -> TensorInfo<'_> {
        self.files[place.file].get(name).unwrap_or_else(|| unreachable!("D3.2: {name} was read from this file"))
    }
}
