//! A safetensors file, as the `safetensors` crate has it: its types, its checks, its writing. A guard stands in front.
//!
//! The bytes are distrusted. The guard refuses what the crate lets through (a name that stands twice, a shape of more than
//! 64 sides) or adds up unchecked (offsets near 2⁶⁴), and its messages name the tensor, which most of the crate's do not.
//! Source: huggingface.co/docs/safetensors.

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

/// A longer head is refused, as the format says.
pub(crate) const MAX_HEADER: usize = 100_000_000;
/// Tensors of more sides are refused, as numpy refuses them.
const MAX_SIDES: usize = 64;

/// What a file says of one tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its sides, the outermost first.
    pub shape: &'a [usize],
    /// Its raw bytes, row-major, little-endian.
    pub data: &'a [u8],
    /// The file it is in.
    pub file: &'a str,
    /// The place of its first byte in the storage.
    pub(super) offset: usize,
}

impl TensorInfo<'_> {
    /// Whether its numbers can be read where they lie.
    pub(super) fn is_aligned(&self) -> bool {
        (self.data.as_ptr() as usize).is_multiple_of((self.dtype.bitsize() / 8).max(1))
    }

    /// Number of numbers.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Bytes that a tensor of this type and shape takes; none past 2⁶⁴ bits or where the last byte is not full.
pub fn bytes_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let numbers = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))?;
    let bits = numbers.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// An opened file: its head is read and checked, its numbers are not yet touched.
#[derive(Debug, Clone)]
pub(crate) struct TensorFile {
    /// Its path, for messages.
    pub(crate) label: String,
    pub(super) storage: Arc<Storage>,
    /// Where the numbers begin in the storage, behind the head.
    pub(super) start: usize,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The names of the tensors.
    pub(crate) names: BTreeSet<String>,
    pub(super) head: Metadata,
}

impl TensorFile {
    /// Reads the head of a whole file, called `label` in messages.
    ///
    /// # Errors
    /// Anything that the format forbids; the message names the tensor where there is one.
    pub(crate) fn read(storage: Storage, label: String) -> Result<TensorFile> {
        let (length, metadata, tensors) = guarded(storage.bytes(), &label)?;
        let mut names = BTreeSet::new();
        for (name, _) in &tensors {
            ensure!(names.insert(name.clone()), format!("{label}: {}", shortened(name)), "one tensor of a name", "two");
        }
        let head = Metadata::new(None, tensors).map_err(|e| damaged(&label, "a safetensors file", e))?;
        Ok(TensorFile { label, storage: Arc::new(storage), start: 8 + length, metadata, names, head })
    }

    /// A tensor by its name.
    pub(crate) fn get(&self, name: &str) -> Option<TensorInfo<'_>> {
        let (name, entry) = (self.names.get(name)?, self.head.info(name)?);
        let (from, to) = entry.data_offsets;
        let offset = self.start + from;
        let data = &self.storage.bytes()[offset..self.start + to];
        Some(TensorInfo { name, dtype: entry.dtype, shape: &entry.shape, data, file: &self.label, offset })
    }
}

/// The head of a file in which `tensors` lie one behind another in the order given, padded to 8 bytes with spaces.
///
/// The crate's own writer would hold all numbers in memory or need a feature of its own that links ten crates more, and it
/// puts metadata in another order every time.
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

/// A name for a message; hostile ones are megabytes long.
pub(crate) fn shortened(name: &str) -> String {
    match name.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_string(),
    }
}

fn damaged(file: &str, expected: impl Display, got: impl Display) -> Error {
    Error::new(file, expected, got).remedy("the file is damaged or incomplete: download or convert it again")
}

/// A head as its JSON has it. Names may stand there twice, which a map would hide.
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

/// Bytes of the JSON; metadata; tensors in the order of their bytes, which have their sizes and fill the file without gaps.
type Guarded = (usize, BTreeMap<String, String>, Vec<(String, Entry)>);

/// What the head of a file says.
///
/// # Errors
/// As [`TensorFile::read`].
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
        let bytes = bytes.ok_or_else(|| Error::new(at(), "a shape whose size in bytes is below 2^63", told()))?;
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
