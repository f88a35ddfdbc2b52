//! Reading a bundle: a safetensors file of stages. Any program may have written the file, so it is not trusted.

use super::widths::{self, each};
use crate::error::{Error, Result, ensure};
use crate::files::Temporary;
use crate::num::Real;
use crate::weights::file::{TensorFile, shortened};
use crate::weights::{Dtype, Storage, TensorInfo};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;
use std::path::Path;

/// The metadata's `format`.
pub const FORMAT: &str = "aircache-bundle";

/// The longest metadata allowed, all values together. Metadata is parsed, and parsed JSON takes eighty times its text.
const MAX_METADATA: usize = 16 << 20;

/// An opened bundle, mapped into memory.
#[derive(Debug)]
pub struct Bundle {
    file: TensorFile,
    /// Stages that are read in another layout or type than the file's. Spec: D11.12, D11.13
    laid: BTreeMap<String, Laid>,
    /// The temporary file of a bundle that is deleted when the bundle is dropped.
    _temporary: Option<Temporary>,
}

/// A stage as it is read, if that is not as it lies in the file.
#[derive(Debug)]
struct Laid {
    shape: Vec<usize>,
    /// Another type and other bytes; none if only the shape is another.
    data: Option<(Dtype, Vec<u8>)>,
    /// The type of a quantised stage, and the scale of each number.
    quantised: Option<(Dtype, Vec<f64>)>,
}

impl Bundle {
    /// Opens a file and checks its head.
    ///
    /// # Errors
    /// The file is missing, damaged, or no bundle (`format` in the metadata).
    pub fn open(path: &Path) -> Result<Bundle> {
        let file = TensorFile::read(Storage::open(path)?, path.display().to_string())?;
        let label = &file.label;
        let found = file.metadata.get("format").map_or("none".into(), |s| format!("{:?}", shortened(s)));
        ensure!(
            found == format!("{FORMAT:?}"),
            format!("{label}: metadata format"),
            format!("{FORMAT:?}"),
            found,
            "give a bundle as `record` writes it; an export sets this metadata, and `precision`"
        );
        let metadata = file.metadata.values().map(String::len).sum::<usize>();
        ensure!(
            metadata <= MAX_METADATA,
            format!("{label}: metadata"),
            format!("at most {MAX_METADATA} bytes"),
            metadata
        );
        Ok(Bundle { file, laid: BTreeMap::new(), _temporary: None })
    }

    /// Opens a temporary file, which is deleted when the bundle is dropped.
    pub(super) fn of(temporary: Temporary) -> Result<Bundle> {
        let bundle = Bundle::open(temporary.path())?;
        Ok(Bundle { _temporary: Some(temporary.unnamed()), ..bundle })
    }

    /// The path, for messages.
    pub fn label(&self) -> &str {
        &self.file.label
    }

    /// A value of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata.get(key).map(String::as_str)
    }

    /// A value of the metadata that has to be present.
    ///
    /// # Errors
    /// The metadata has no such value.
    pub fn required(&self, key: &str) -> Result<&str> {
        self.metadata(key).ok_or_else(|| Error::new(self.at(&format!("metadata {key}")), "a value", "none"))
    }

    /// The stage with the most numbers. Its size gives the memory needed to read a bundle; none if the bundle has no
    /// stages.
    pub fn largest(&self) -> Option<TensorInfo<'_>> {
        self.names().filter_map(|name| self.get(name)).max_by_key(TensorInfo::numbers)
    }

    /// The names of the stages, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names.iter().map(String::as_str)
    }

    /// A stage's type, shape and bytes; `None` if the bundle does not hold it.
    pub fn get(&self, name: &str) -> Option<TensorInfo<'_>> {
        let stored = self.file.get(name)?;
        let Some(laid) = self.laid.get(name) else { return Some(stored) };
        let (dtype, data) = match &laid.data {
            Some((dtype, data)) => (*dtype, &data[..]),
            None => (stored.dtype, stored.data),
        };
        Some(stored.read_as(dtype, &laid.shape, data))
    }

    /// The same file, opened once more: its stages can be laid otherwise.
    pub(super) fn again(&self) -> Bundle {
        Bundle { file: self.file.clone(), laid: BTreeMap::new(), _temporary: None }
    }

    /// Reads a stage in another shape, and perhaps with other numbers of a type.
    pub(super) fn lay(&mut self, name: &str, shape: &[usize], data: Option<(Dtype, Vec<u8>)>) {
        let before = self.laid.remove(name);
        let (own, quantised) = before.map_or((None, None), |laid| (laid.data, laid.quantised));
        self.laid.insert(name.into(), Laid { shape: shape.to_vec(), data: data.or(own), quantised });
    }

    /// Notes that a stage, which is read in full width, was quantised. scale: of each number.
    pub(super) fn quantise(&mut self, name: &str, dtype: Dtype, scale: Vec<f64>) {
        if let Some(laid) = self.laid.get_mut(name) {
            laid.quantised = Some((dtype, scale));
        }
    }

    /// The type of a quantised stage, and the scale of each number, row-major; none if the stage is not quantised.
    pub(super) fn quantised(&self, name: &str) -> Option<(Dtype, &[f64])> {
        let (dtype, scale) = self.laid.get(name)?.quantised.as_ref()?;
        Some((*dtype, scale))
    }

    /// A stage that has to be present.
    ///
    /// # Errors
    /// The bundle does not have the stage.
    pub fn stage(&self, name: &str) -> Result<TensorInfo<'_>> {
        self.get(name).ok_or_else(|| Error::new(self.at(name), "this stage", "none"))
    }

    /// A stage of numbers, widened exactly.
    ///
    /// # Errors
    /// The stage is missing, or its type is not F64, F32, BF16 or F16.
    pub fn f64(&self, name: &str) -> Result<ArrayD<f64>> {
        let t = self.stage(name)?;
        self.shaped(name, t.shape, self.flat(name)?)
    }

    /// The numbers of a stage, row-major, widened exactly.
    ///
    /// # Errors
    /// As [`f64`](Self::f64), except for shapes.
    pub(super) fn flat(&self, name: &str) -> Result<Vec<f64>> {
        self.numbers(name)
    }

    /// The numbers of a stage in a container, row-major: exact, but for F64 in f32.
    ///
    /// # Errors
    /// As [`flat`](Self::flat).
    pub(super) fn numbers<T: Real>(&self, name: &str) -> Result<Vec<T>> {
        let t = self.stage(name)?;
        let wrong = || Error::new(self.at(name), "dtype F64, F32, BF16 or F16", t.dtype);
        widths::read(t.dtype, t.data).ok_or_else(wrong)
    }

    /// A stage of numbers, as f32: exact unless it is stored as F64, which is rounded to nearest.
    ///
    /// # Errors
    /// As [`f64`](Self::f64).
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>> {
        let t = self.stage(name)?;
        self.shaped(name, t.shape, self.numbers(name)?)
    }

    /// A stage of ids, positions, roles or indices.
    ///
    /// # Errors
    /// The stage is missing, or its type is not I64, I32, U32, U8 or BOOL.
    pub fn i64(&self, name: &str) -> Result<ArrayD<i64>> {
        let t = self.stage(name)?;
        let values = match t.dtype {
            Dtype::I64 => each(t.data, i64::from_le_bytes),
            Dtype::I32 => each(t.data, |b| i32::from_le_bytes(b).into()),
            Dtype::U32 => each(t.data, |b| u32::from_le_bytes(b).into()),
            Dtype::U8 | Dtype::BOOL => each(t.data, |[b]: [u8; 1]| b.into()),
            other => return Err(Error::new(self.at(name), "dtype I64, I32, U32, U8 or BOOL", other)),
        };
        self.shaped(name, t.shape, values)
    }

    fn at(&self, name: &str) -> String {
        format!("{}: {name}", self.file.label)
    }

    /// Gives numbers their shape; fails on shapes such as [0, 2⁶³], which hold nothing and still overflow.
    fn shaped<T>(&self, name: &str, shape: &[usize], values: Vec<T>) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(shape), values)
            .map_err(|e| Error::new(self.at(name), "a shape of countable size", format!("{shape:?} ({e})")))
    }
}
