//! The head of a safetensors file: eight bytes of length, then JSON that says where each tensor lies.
//!
//! Read from bytes that nobody vouches for. The `safetensors` crate reads the same format and is the twin that the tests
//! hold this against; it is not used here because its errors name no tensor and because it adds up offsets unchecked
//! (lengths near 2⁶⁴ overflow). Source: huggingface.co/docs/safetensors.

use super::Dtype;
use crate::error::{Error, Result, ensure};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// A longer head is refused, as the format says.
pub(crate) const MAX_HEADER: usize = 100_000_000;

/// Tensors of more sides are refused, as numpy refuses them.
const MAX_SIDES: usize = 64;

/// One tensor in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Where its bytes lie, counted from the start of the file.
    pub(crate) range: Range<usize>,
}

/// What the head says, checked against the length of the file: the tensors lie one behind another and fill it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Header {
    /// Its own size as JSON.
    pub(crate) bytes: usize,
    pub(crate) metadata: BTreeMap<String, String>,
    /// In the order of their bytes.
    pub(crate) tensors: Vec<Entry>,
}

/// The head as JSON, before checking. Names may stand there twice, which a map would hide.
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
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
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
        d.deserialize_map(Entries)
    }
}

/// A name for a message; hostile ones are megabytes long.
pub(crate) fn shortened(name: &str) -> String {
    match name.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_string(),
    }
}

/// Reads and checks the head of `bytes`, a whole file called `file` in messages.
///
/// # Errors
/// Anything that the format forbids; the message names the tensor where there is one.
pub(crate) fn read(bytes: &[u8], file: &str) -> Result<Header> {
    let damaged = |expected: &str, got: String| {
        Error::new(file, expected, got).remedy("the file is damaged or incomplete: download or convert it again")
    };
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::new(file, "a safetensors file", "a Git LFS pointer").remedy("fetch it with `git lfs pull`"));
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged("a safetensors file", format!("{} bytes", bytes.len())));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(damaged("a safetensors header of at most 100000000 bytes", length.to_string()));
    }
    let Some((json, data)) = rest.split_at_checked(length) else {
        return Err(damaged(&format!("a safetensors header of {length} bytes"), format!("{} bytes", rest.len())));
    };
    let raw: Raw = serde_json::from_slice(json).map_err(|e| damaged("a valid safetensors header", e.to_string()))?;
    let mut header = Header { bytes: length, metadata: raw.metadata.unwrap_or_default(), tensors: Vec::new() };
    for (name, raw) in raw.tensors {
        header.tensors.push(entry(name, raw, file, 8 + length)?);
    }
    in_order(&mut header.tensors, file, 8 + length)?;
    let end = header.tensors.last().map_or(8 + length, |t| t.range.end);
    if end != 8 + length + data.len() {
        return Err(damaged(&format!("a file of {end} bytes, as its header says"), format!("{} bytes", bytes.len())));
    }
    unique(&header.tensors, file)?;
    Ok(header)
}

/// The head of a file in which `tensors` lie one behind another in the order given, padded to 8 bytes with spaces.
pub(crate) fn write(metadata: &BTreeMap<String, String>, tensors: &[Entry]) -> Vec<u8> {
    let mut json = format!("{{\"__metadata__\":{}", serde_json::json!(metadata));
    let mut offset = 0;
    for t in tensors {
        let end = offset + t.range.len();
        let (name, dtype) = (serde_json::json!(t.name), t.dtype);
        let _ =
            write!(json, ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{:?},\"data_offsets\":[{offset},{end}]}}", t.shape);
        offset = end;
    }
    json.push('}');
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.extend(json.into_bytes());
    head
}

/// One tensor, its size checked against its shape.
fn entry(name: String, raw: RawEntry, file: &str, start: usize) -> Result<Entry> {
    let at = || format!("{file}: {}", shortened(&name));
    let Some(dtype) = Dtype::parse(&raw.dtype) else {
        return Err(Error::new(at(), "a dtype of the safetensors format", shortened(&raw.dtype)));
    };
    ensure!(raw.shape.len() <= MAX_SIDES, at(), format!("at most {MAX_SIDES} sides"), raw.shape.len());
    let shape = || shortened(&format!("{:?}", raw.shape));
    let Some(bytes) = dtype.bytes(&raw.shape) else {
        return Err(Error::new(at(), "a shape whose bytes can be counted", format!("{dtype} {}", shape())));
    };
    let (from, to) = raw.data_offsets;
    let found = format!("data_offsets [{from}, {to}]");
    ensure!(to.checked_sub(from) == Some(bytes), at(), format!("{bytes} bytes ({dtype} {})", shape()), found);
    let place = |offset: usize| start.checked_add(offset);
    let (Some(from), Some(to)) = (place(from), place(to)) else {
        return Err(Error::new(at(), "offsets inside the file", found));
    };
    Ok(Entry { name, dtype, shape: raw.shape, range: from..to })
}

/// Sorts by place and fails on overlaps and gaps.
fn in_order(tensors: &mut [Entry], file: &str, start: usize) -> Result<()> {
    tensors.sort_by_key(|t| (t.range.start, t.range.end));
    let mut end = start;
    for t in tensors {
        let found = format!("{} ({})", t.range.start - start, if t.range.start < end { "an overlap" } else { "a gap" });
        let at = format!("{file}: {}", shortened(&t.name));
        ensure!(
            t.range.start == end,
            at,
            format!("data at offset {}, where the tensor before ends", end - start),
            found
        );
        end = t.range.end;
    }
    Ok(())
}

fn unique(tensors: &[Entry], file: &str) -> Result<()> {
    let mut seen = std::collections::HashSet::with_capacity(tensors.len());
    for t in tensors {
        ensure!(seen.insert(t.name.as_str()), format!("{file}: {}", shortened(&t.name)), "one tensor of a name", "two");
    }
    Ok(())
}
