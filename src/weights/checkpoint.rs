//! All tensors of a checkpoint by name.

use super::header::{Entry, shortened};
use super::shards::{self, Shard};
use super::{Dtype, Storage};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::memory;
use crate::num::Grid;
use half::{bf16, f16};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An opened checkpoint: heads read and checked, data mapped and not yet touched.
#[derive(Debug)]
pub struct Checkpoint {
    /// What messages call the checkpoint as a whole.
    label: String,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Place>,
    /// Bytes of tensors that were made up for want of any.
    pub(super) made_up: AtomicU64,
}

/// Where a tensor is, and whether any part of the model has asked for it.
#[derive(Debug)]
struct Place {
    shard: usize,
    entry: usize,
    asked: AtomicBool,
}

/// What a checkpoint says of one tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its sides, the outermost first.
    pub shape: &'a [usize],
    /// Its raw bytes, row-major, little-endian.
    pub data: &'a [u8],
    /// The file it is in.
    pub file: &'a str,
}

/// Rounds numbers of N bytes in place.
fn round<const N: usize>(bytes: &mut [u8], to: impl Fn([u8; N]) -> [u8; N]) {
    bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|b| *b = to(*b));
}

impl TensorInfo<'_> {
    /// Whether its numbers can be read where they lie.
    pub(super) fn is_aligned(&self) -> bool {
        (self.data.as_ptr() as usize).is_multiple_of((self.dtype.bits() / 8).max(1))
    }

    /// Number of numbers.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// No weights, or damaged ones; the message names file and tensor. Weights that have to be copied, and no memory for
    /// that. What a model needs of them is checked later, by [`matrix`](Self::matrix) and [`vector`](Self::vector).
    pub fn open(files: &Files) -> Result<Checkpoint> {
        let (label, shards) = shards::open(files)?;
        let mut tensors = BTreeMap::new();
        for (s, shard) in shards.iter().enumerate() {
            for (e, entry) in shard.header.tensors.iter().enumerate() {
                let place = Place { shard: s, entry: e, asked: AtomicBool::new(false) };
                if let Some(Place { shard: other, .. }) = tensors.insert(entry.name.clone(), place) {
                    let at = format!("{}: {}", shard.label, shortened(&entry.name));
                    return Err(Error::new(at, "a tensor in one file", format!("another in {}", shards[other].label)));
                }
            }
        }
        let checkpoint = Checkpoint { label, shards, tensors, made_up: AtomicU64::new(0) };
        // Tensors that lie between the places of their numbers are copied as they are asked for.
        let copied = checkpoint.tensors().filter(|t| !t.is_aligned()).map(|t| t.data.len() as u64).sum();
        memory::check(&checkpoint.label, copied)?;
        Ok(checkpoint)
    }

    /// A checkpoint without tensors.
    pub(crate) fn empty(label: &str) -> Checkpoint {
        Checkpoint {
            label: label.to_string(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            made_up: AtomicU64::new(0),
        }
    }

    /// The path of the weights or of their index, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Every tensor, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.values().map(|place| self.info(place))
    }

    /// The first tensor that has one of these names.
    pub fn find(&self, names: &[String]) -> Option<TensorInfo<'_>> {
        self.place(names).map(|place| self.info(place))
    }

    /// Bytes of all tensors together, made-up ones included.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|t| t.data.len() as u64).sum::<u64>() + self.made_up.load(Ordering::Relaxed)
    }

    /// Bytes of those that lie in mapped files, which take memory only as they are read.
    pub fn mapped_bytes(&self) -> u64 {
        let mapped = |place: &&Place| matches!(*self.shards[place.shard].storage, Storage::Mapped(_));
        self.tensors.values().filter(mapped).map(|place| self.info(place).data.len() as u64).sum()
    }

    /// Names of the tensors that no part of a model has asked for so far.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let unasked = |(_, place): &(&String, &Place)| !place.asked.load(Ordering::Relaxed);
        self.tensors.iter().filter(unasked).map(|(name, _)| name.as_str())
    }

    /// What bundles call `model`: the sha-256, in hexadecimal, over all tensors sorted by name, each as name, line feed,
    /// dtype, line feed, shape joined by commas, line feed, raw bytes. It reads the whole checkpoint.
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

    /// The same checkpoint with every weight rounded to a type, as a program loads it that computes in that type; none
    /// where that changes no number. Spec: R10.4
    ///
    /// # Errors
    /// No memory for a copy of the weights.
    pub fn rounded(&self, grid: Grid) -> Result<Option<Checkpoint>> {
        let kept = |t: TensorInfo<'_>| match (grid, t.dtype) {
            (Grid::Native, _) | (Grid::Bf16, Dtype::Bf16) | (Grid::F16, Dtype::F16) => true,
            (_, Dtype::F32 | Dtype::Bf16 | Dtype::F16) => false,
            _ => true,
        };
        if self.tensors().all(kept) {
            return Ok(None);
        }
        memory::check(&self.label, self.bytes())?;
        let rounded = |t: &Entry, bytes: &mut [u8]| match t.dtype {
            Dtype::F32 => round(bytes, |b| grid.round(f32::from_le_bytes(b)).to_le_bytes()),
            Dtype::Bf16 => round(bytes, |b| bf16::from_f32(grid.round(bf16::from_le_bytes(b).to_f32())).to_le_bytes()),
            Dtype::F16 => round(bytes, |b| f16::from_f32(grid.round(f16::from_le_bytes(b).to_f32())).to_le_bytes()),
            _ => {}
        };
        let shards = self.shards.iter().map(|shard| {
            let tensors = &shard.header.tensors;
            let storage = Storage::edited(shard.storage.bytes(), |bytes| {
                tensors.iter().for_each(|t| rounded(t, &mut bytes[t.range.clone()]));
            });
            Shard { label: shard.label.clone(), storage: Arc::new(storage), header: shard.header.clone() }
        });
        let shards = shards.collect();
        let place = |(name, p): (&String, &Place)| {
            (name.clone(), Place { shard: p.shard, entry: p.entry, asked: AtomicBool::new(false) })
        };
        let tensors = self.tensors.iter().map(place).collect();
        Ok(Some(Checkpoint { label: self.label.clone(), shards, tensors, made_up: AtomicU64::new(0) }))
    }

    /// A tensor that a model asks for, with the storage it lies in.
    ///
    /// # Errors
    /// No tensor has one of these names.
    pub(crate) fn ask(&self, names: &[String]) -> Result<(TensorInfo<'_>, &Arc<Storage>, &Entry)> {
        let Some(place) = self.place(names) else {
            let first = names.first().map_or("", String::as_str);
            let tried =
                names.get(1..).filter(|rest| !rest.is_empty()).map(|rest| format!(", nor {}", rest.join(", nor ")));
            let got = format!("none{}", tried.unwrap_or_default());
            return Err(Error::new(format!("{}: {first}", self.label), "a tensor of this name", got)
                .remedy("the checkpoint is incomplete, or config.json describes another model"));
        };
        place.asked.store(true, Ordering::Relaxed);
        let shard = &self.shards[place.shard];
        Ok((self.info(place), &shard.storage, &shard.header.tensors[place.entry]))
    }

    fn place(&self, names: &[String]) -> Option<&Place> {
        names.iter().find_map(|name| self.tensors.get(name))
    }

    fn info(&self, place: &Place) -> TensorInfo<'_> {
        let shard = &self.shards[place.shard];
        let entry = &shard.header.tensors[place.entry];
        TensorInfo {
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
            data: &shard.storage.bytes()[entry.range.clone()],
            file: &shard.label,
        }
    }
}
