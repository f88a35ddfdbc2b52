//! Writing a bundle: a flow puts stages one by one as it computes them. The stages wait in a file, not in memory.
//!
//! A safetensors file starts with a header that names all tensors, so the file is put together at the end. The widest
//! numbers come first, which aligns every tensor to the size of its own numbers. Until then no file exists at the
//! target path.

use super::bundle::{Bundle, FORMAT};
use super::widths;
use crate::error::{Result, ensure};
use crate::files::Temporary;
use crate::files::output::unwritable;
use crate::weights::file::{self, Entry};
use crate::weights::{Dtype, bytes_of};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A bundle being written. If it is dropped without [`finish`](Self::finish), it leaves no file behind.
///
/// ```
/// # fn main() -> aircache::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// use aircache::golden::{Bundle, BundleWriter};
/// let path = folder.path().join("run.safetensors");
/// let mut writer = BundleWriter::create(&path)?;
/// writer.put_i64("input.ids", &[3], &[5, 7, 9])?;
/// writer.put_f32("decoder.logits", &[2], &[0.25, -1.0])?;
/// writer.finish([("precision", "f32")])?;
///
/// let bundle = Bundle::open(&path)?;
/// assert_eq!(bundle.metadata("precision"), Some("f32"));
/// assert_eq!(bundle.f64("decoder.logits")?.as_slice(), Some([0.25, -1.0].as_slice()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BundleWriter {
    target: PathBuf,
    /// The function that makes temporary files beside the target.
    make: fn(&Path) -> Result<Temporary>,
    spool: BufWriter<SpoolFile>,
    /// By name; `data_offsets` count from the start of the spool.
    entries: BTreeMap<String, Entry>,
    length: usize,
}

/// The file in which stages wait. It is a type of its own because a buffered writer has to own a `Write`.
#[derive(Debug)]
struct SpoolFile(Temporary);

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.file().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.file().flush()
    }
}

impl BundleWriter {
    /// Starts a bundle at `target`. [`finish`](Self::finish) replaces an existing file at `target`; until then that
    /// file stays.
    ///
    /// # Errors
    /// The folder is missing or not writable, or the target exists and is not a regular file.
    pub fn create(target: &Path) -> Result<BundleWriter> {
        Self::create_by(Temporary::beside, target)
    }

    /// As [`create`](Self::create), for a program that keeps a list of its temporary files: `make` makes them beside a
    /// target.
    ///
    /// # Errors
    /// As [`create`](Self::create) and `make`.
    pub fn create_by(make: fn(&Path) -> Result<Temporary>, target: &Path) -> Result<BundleWriter> {
        let spool = BufWriter::with_capacity(1 << 20, SpoolFile(make(target)?.unnamed()));
        Ok(BundleWriter { target: target.into(), make, spool, entries: BTreeMap::new(), length: 0 })
    }

    /// Adds a stage: its numbers row-major, little-endian.
    ///
    /// # Errors
    /// Writing fails, for example because the disk is full.
    ///
    /// # Panics
    /// The bytes do not fill the shape, or a stage of this name was put before. Both are bugs of the caller.
    pub fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<()> {
        assert_eq!(bytes_of(dtype, shape), Some(bytes.len()), "T1.2: {name}: the bytes fill the shape {shape:?}");
        let Slot::Vacant(slot) = self.entries.entry(name.into()) else { panic!("T1.2: {name}: a stage is put once") };
        self.spool.write_all(bytes).map_err(|e| unwritable(&self.target, e))?;
        let data_offsets = (self.length, self.length + bytes.len());
        self.length = data_offsets.1;
        slot.insert(Entry { dtype, shape: shape.into(), data_offsets });
        Ok(())
    }

    /// Bytes of all stages that were put before.
    pub(super) fn bytes(&self) -> usize {
        self.length
    }

    /// The shape of a stage that was put before.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| &entry.shape[..])
    }

    /// The numbers of a stage that was put before; none if no stage of numbers has this name.
    ///
    /// # Errors
    /// The waiting file cannot be read.
    pub fn numbers(&mut self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(&Entry { dtype, data_offsets: (from, to), .. }) = self.entries.get(name) else { return Ok(None) };
        let mut bytes = vec![0u8; to - from];
        let mut read = |spool: &mut BufWriter<SpoolFile>| {
            spool.flush()?;
            let file = spool.get_mut().0.file();
            file.seek(SeekFrom::Start(from as u64))?;
            file.read_exact(&mut bytes)?;
            file.seek(SeekFrom::End(0))
        };
        read(&mut self.spool).map_err(|e| unwritable(&self.target, e))?;
        Ok(widths::read(dtype, &bytes))
    }

    /// Puts the file together and moves it to the target; `format` is added to the metadata.
    ///
    /// # Errors
    /// Writing fails, for example because the disk is full; or the header is longer than the format allows.
    pub fn finish<K: Into<String>, V: Into<String>>(self, metadata: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let target = self.target.clone();
        self.whole(metadata)?.persist(&target)
    }

    /// Puts the file together and opens it without a name: the file is deleted when the bundle is dropped.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn read<K: Into<String>, V: Into<String>>(self, metadata: impl IntoIterator<Item = (K, V)>) -> Result<Bundle> {
        self.whole(metadata).and_then(Bundle::of)
    }

    /// Puts the file together.
    fn whole<K: Into<String>, V: Into<String>>(self, metadata: impl IntoIterator<Item = (K, V)>) -> Result<Temporary> {
        let BundleWriter { target, make, spool, entries, .. } = self;
        let failed = |e: std::io::Error| unwritable(&target, e);
        let SpoolFile(mut spool) = spool.into_inner().map_err(|e| failed(e.into_error()))?;
        let mut metadata: BTreeMap<String, String> = metadata.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        metadata.insert("format".into(), FORMAT.into());
        let mut entries: Vec<(String, Entry)> = entries.into_iter().collect();
        entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.dtype.bitsize())); // stable: equal widths by name
        let mut end = 0;
        let waiting = entries.iter_mut().map(|(_, entry)| {
            let (from, to) = entry.data_offsets;
            entry.data_offsets = (end, end + to - from);
            end = entry.data_offsets.1;
            (from as u64, (to - from) as u64)
        });
        let waiting: Vec<(u64, u64)> = waiting.collect();
        let head = file::head(&metadata, entries.clone());
        ensure!(head.len() - 8 <= file::MAX_HEADER, target.display(), "a header within 100 MB", head.len());

        let mut file = make(&target)?;
        file.file().write_all(&head).map_err(failed)?;
        for ((name, _), (from, length)) in entries.iter().zip(waiting) {
            spool.file().seek(SeekFrom::Start(from)).map_err(failed)?;
            let copied = std::io::copy(&mut spool.file().take(length), file.file()).map_err(failed)?;
            let at = || format!("{}: {name}", target.display());
            ensure!(copied == length, at(), "the bytes that were put", "a temporary file cut short");
        }
        Ok(file)
    }
}

macro_rules! put {
    ($($name:ident $type:ty, $dtype:ident $(, $bits:ident)?;)*) => {
        impl BundleWriter {
            $(
                #[doc = concat!("Adds a stage stored as ", stringify!($dtype), ". See [`put`](Self::put).")]
                ///
                /// # Errors
                /// As [`put`](Self::put).
                ///
                /// # Panics
                /// As [`put`](Self::put).
                pub fn $name(&mut self, name: &str, shape: &[usize], values: &[$type]) -> Result<()> {
                    self.put(name, Dtype::$dtype, shape, bytemuck::cast_slice(values$(.$bits())?))
                }
            )*
        }
    };
}
put! {
    put_f64 f64, F64;
    put_f32 f32, F32;
    put_bf16 bf16, BF16, reinterpret_cast;
    put_f16 f16, F16, reinterpret_cast;
    put_i64 i64, I64;
    put_u8 u8, U8;
}
