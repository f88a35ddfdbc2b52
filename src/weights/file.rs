//! A safetensors file. Types, checks and writing come from the `safetensors` crate; a guard checks each file before the
//! crate does.
//!
//! The bytes of a file are not trusted. The guard refuses files that the crate accepts (a duplicate name, a shape of
//! more than 64 dimensions) and files for which the crate adds without an overflow check (offsets near 2⁶⁴). The
//! guard's messages name the tensor; most of the crate's messages do not. Source: huggingface.co/docs/safetensors.

use super::Storage;
use crate::error::{Error, Result, ensure};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
pub(crate) use safetensors::tensor::TensorInfo as Entry;
use serde::de::value::Error as Unknown;
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

/// The maximum length of a header in bytes, from the format's specification. A longer header is refused.
pub(crate) const MAX_HEADER: usize = 100_000_000;
/// The maximum number of dimensions of a tensor, the same as in numpy. A tensor with more dimensions is refused.
const MAX_SIDES: usize = 64;

/// The data of one tensor in a file.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    /// The tensor's name in the file.
    pub name: &'a str,
    /// The storage type of the tensor's numbers.
    pub dtype: Dtype,
    /// The tensor's dimensions, outermost first.
    pub shape: &'a [usize],
    /// The tensor's raw bytes, row-major, little-endian.
    pub data: &'a [u8],
    /// The file that holds the tensor.
    pub file: &'a str,
    /// The offset of the tensor's first byte in the storage.
    pub(super) offset: usize,
}

impl<'a> TensorInfo<'a> {
    /// The same tensor, read in another layout or type.
    pub(crate) fn read_as(self, dtype: Dtype, shape: &'a [usize], data: &'a [u8]) -> TensorInfo<'a> {
        TensorInfo { dtype, shape, data, ..self }
    }

    /// Whether the tensor's numbers are aligned, so that they can be read in place.
    pub(super) fn is_aligned(&self) -> bool {
        (self.data.as_ptr() as usize).is_multiple_of((self.dtype.bitsize() / 8).max(1))
    }

    /// Number of numbers.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Bytes of a tensor of this type and shape; none if it has 2⁶⁴ or more bits, or if its last byte is not full.
pub fn bytes_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let numbers = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))?;
    let bits = numbers.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// An opened file. Its header is read and checked; its numbers are not yet read.
#[derive(Debug, Clone)]
pub(crate) struct TensorFile {
    /// The file's path, for messages.
    pub(crate) label: String,
    pub(super) storage: Arc<Storage>,
    /// The offset of the numbers in the storage, after the header.
    pub(super) start: usize,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The names of the tensors.
    pub(crate) names: BTreeSet<String>,
    pub(super) head: Metadata,
}

impl TensorFile {
    /// Reads the header of a file whose bytes are `storage`. `label` is the file's name in messages.
    ///
    /// # Errors
    /// The file violates the format. If the error concerns a tensor, the message names the tensor.
    pub(crate) fn read(storage: Storage, label: String) -> Result<TensorFile> {
        let (length, metadata, tensors) = guarded(storage.bytes(), &label)?;
        let mut names = BTreeSet::new();
        for (name, _) in &tensors {
            ensure!(names.insert(name.clone()), format!("{label}: {}", shortened(name)), "one tensor of a name", "two");
        }
        let head = Metadata::new(None, tensors).map_err(|e| damaged(&label, "a safetensors file", e))?;
        Ok(TensorFile { label, storage: Arc::new(storage), start: 8 + length, metadata, names, head })
    }

    /// The tensor with this name.
    pub(crate) fn get(&self, name: &str) -> Option<TensorInfo<'_>> {
        let (name, entry) = (self.names.get(name)?, self.head.info(name)?);
        let (from, to) = entry.data_offsets;
        let offset = self.start + from;
        let data = &self.storage.bytes()[offset..self.start + to];
        Some(TensorInfo { name, dtype: entry.dtype, shape: &entry.shape, data, file: &self.label, offset })
    }
}

/// The header of a file that holds `tensors` one after the other in this order, padded with spaces to a multiple of 8
/// bytes.
///
/// The crate's own writer is not used for two reasons. It holds all numbers in memory, or needs a feature that links
/// ten more crates. It also writes the metadata in a different order each time.
pub(crate) fn head(metadata: &BTreeMap<String, String>, tensors: Vec<(String, Entry)>) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Head<'a> {
        #[serde(rename = "__metadata__")]
        metadata: &'a BTreeMap<String, String>,
        #[serde(flatten)]
        tensors: Metadata,
    }
    let lawful = Metadata::new(None, tensors).unwrap_or_else(|e| unreachable!("T1.2: tensors fill a file: {e}"));
    let written = serde_json::to_vec(&Head { metadata, tensors: lawful });
    let mut json = written.unwrap_or_else(|e| unreachable!("T1.2: texts and numbers can be written: {e}"));
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), &json[..]].concat()
}

/// A name, shortened for a message. A hostile file can have names of several megabytes.
pub(crate) fn shortened(name: &str) -> String {
    match name.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_string(),
    }
}

fn damaged(file: &str, expected: impl Display, got: impl Display) -> Error {
    Error::new(file, expected, got).remedy("the file is damaged or incomplete: download or convert it again")
}

/// A header as its JSON holds it. A name may occur twice; a map would hide the duplicate.
#[derive(Default)]
struct Raw {
    metadata: Option<BTreeMap<String, String>>,
    tensors: Vec<(String, RawEntry)>,
}

#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw, A::Error> {
                let mut raw = Raw::default();
                while let Some(name) = map.next_key::<String>()? {
                    let named = |e: A::Error| A::Error::custom(format!("{}: {e}", shortened(&name)));
                    if name == "__metadata__" {
                        raw.metadata = map.next_value().map_err(named)?;
                    } else {
                        let entry = map.next_value().map_err(named)?;
                        raw.tensors.push((name, entry));
                    }
                }
                Ok(raw)
            }
        }
        d.deserialize_map(Named)
    }
}

/// The length of the JSON in bytes; the metadata; the tensors in the order of their bytes. The bytes of the tensors
/// have the right sizes and fill the file without gaps.
type Guarded = (usize, BTreeMap<String, String>, Vec<(String, Entry)>);

/// Reads and checks the header of a file.
///
/// # Errors
/// The errors of [`TensorFile::read`].
fn guarded(bytes: &[u8], file: &str) -> Result<Guarded> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::new(file, "a safetensors file", "a Git LFS pointer").remedy("fetch it with `git lfs pull`"));
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(file, "a safetensors file", format!("{} bytes", bytes.len())));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(damaged(file, format!("a safetensors header of at most {MAX_HEADER} bytes"), length));
    }
    let Some((json, data)) = rest.split_at_checked(length) else {
        let found = format!("{} bytes", rest.len());
        return Err(damaged(file, format!("a safetensors header of {length} bytes"), found));
    };
    let raw = serde_json::from_slice(json);
    let Raw { metadata, mut tensors } = raw.map_err(|e| damaged(file, "a valid safetensors header", e))?;
    tensors.sort_by_key(|(_, t)| t.data_offsets);
    let (mut end, mut guarded) = (0, Vec::with_capacity(tensors.len()));
    for (name, RawEntry { dtype, shape, data_offsets: (from, to) }) in tensors {
        let at = || format!("{file}: {}", shortened(&name));
        let known = Dtype::deserialize(IntoDeserializer::<Unknown>::into_deserializer(&dtype[..]));
        let dtype = known.map_err(|_| Error::new(at(), "a dtype of the safetensors format", shortened(&dtype)))?;
        ensure!(shape.len() <= MAX_SIDES, at(), format!("at most {MAX_SIDES} sides"), shape.len());
        let told = || format!("{dtype} {}", shortened(&format!("{shape:?}")));
        let bytes = bytes_of(dtype, &shape);
        let bytes = bytes.ok_or_else(|| Error::new(at(), "a shape whose bytes can be counted", told()))?;
        let found = || format!("data_offsets [{from}, {to}]");
        ensure!(to.checked_sub(from) == Some(bytes), at(), format!("{bytes} bytes ({})", told()), found());
        let place = || format!("data at offset {end}, where the tensor before ends");
        ensure!(from == end, at(), place(), format!("{from} ({})", if from < end { "an overlap" } else { "a gap" }));
        end = to;
        guarded.push((name, Entry { dtype, shape, data_offsets: (from, to) }));
    }
    if end != data.len() {
        let whole = format!("a file of {} bytes, as its header says", end.saturating_add(8 + length));
        return Err(damaged(file, whole, format!("{} bytes", bytes.len())));
    }
    Ok((length, metadata.unwrap_or_default(), guarded))
}
