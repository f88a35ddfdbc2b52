//! The recorder: writes each selected stage that it receives, in the type of a precision. The target file appears only
//! if nothing failed. Spec: T1.2

use super::measure::{Layout, flat};
use super::rows;
use super::{Bundle, BundleWriter, Selection};
use crate::error::{Error, Result};
use crate::num::Real;
use crate::pass::{Precision, Tap};
use crate::policy::Values;
use crate::stage::Stage;
use half::{bf16, f16};
use ndarray::{Array1, ArrayViewD};

/// Writes the stages that it receives in the type of a precision. A [`Tap`] cannot fail, so the recorder keeps the
/// first error.
pub struct Recorder {
    writer: BundleWriter,
    precision: Precision,
    selection: Selection,
    stages: Vec<String>,
    bytes: u64,
    failed: Option<Error>,
}

impl Recorder {
    /// A recorder that puts stages into a bundle.
    pub fn new(writer: BundleWriter, precision: Precision, selection: Selection) -> Recorder {
        Recorder { writer, precision, selection, stages: Vec::new(), bytes: 0, failed: None }
    }

    /// Writes numbers under a name, in the type of the precision, if they are selected. values: row-major.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn numbers<T: Real>(&mut self, name: &str, shape: &[usize], values: impl Iterator<Item = T>) -> Result<()> {
        let layout = Layout::of(name, shape);
        let most = self.selection.rows().filter(|&most| layout.rows > most && rows::may_be_sampled(name));
        match most.filter(|_| self.selection.takes(name)) {
            Some(most) => self.sample(name, shape, most, &values.map(Real::to_f64).collect::<Vec<_>>()),
            None => self.whole(name, shape, values),
        }
    }

    /// Writes some rows of a stage, their indices, and hashes of all rows. Spec: D10.10
    fn sample(&mut self, name: &str, shape: &[usize], most: usize, values: &[f64]) -> Result<()> {
        let layout = Layout::of(name, shape);
        let chosen = rows::chosen(layout.rows, most);
        let list = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
        self.writer.put_i64(&format!("rows.{name}"), &[chosen.len()], &list(&chosen))?;
        self.writer.put_i64(&format!("shape.{name}"), &[shape.len()], &list(shape))?;
        for (kind, hash) in rows::hashes(values) {
            self.writer.put_u8(&format!("hash.{kind}.{name}"), &[hash.len()], &hash)?;
        }
        let picked = rows::pick(layout, &chosen, values);
        self.whole(name, &rows::shape(layout, shape, chosen.len()), picked.into_iter())
    }

    fn whole<T: Real>(&mut self, name: &str, shape: &[usize], values: impl Iterator<Item = T>) -> Result<()> {
        let precision = self.precision;
        let width = match precision {
            Precision::Truth => 8,
            Precision::Fast | Precision::Tf32 => 4,
            Precision::Bf16 | Precision::F16 => 2,
        };
        self.with(name, shape.iter().product::<usize>() * width, |w| match precision {
            Precision::Truth => w.put_f64(name, shape, &values.map(Real::to_f64).collect::<Vec<_>>()),
            Precision::Fast | Precision::Tf32 => w.put_f32(name, shape, &values.map(Real::to_f32).collect::<Vec<_>>()),
            Precision::Bf16 => w.put_bf16(name, shape, &values.map(|v| bf16::from_f32(v.to_f32())).collect::<Vec<_>>()),
            Precision::F16 => w.put_f16(name, shape, &values.map(|v| f16::from_f32(v.to_f32())).collect::<Vec<_>>()),
        })
    }

    /// Writes values that have a type of their own.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn values(&mut self, name: &str, values: &Values) -> Result<()> {
        let bytes = match values {
            Values::I64(a) => 8 * a.len(),
            Values::U8(a) => a.len(),
            Values::F64(a) => 8 * a.len(),
        };
        self.with(name, bytes, |w| match values {
            Values::I64(a) => w.put_i64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
            Values::U8(a) => w.put_u8(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
            Values::F64(a) => w.put_f64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
        })
    }

    /// Writes pixels, which are f32 in every precision.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn pixels(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        self.with(name, 4 * values.len(), |w| w.put_f32(name, shape, values))
    }

    /// Whether a stage of this name is selected.
    pub fn takes(&self, name: &str) -> bool {
        self.selection.takes(name)
    }

    /// The writer, for tensors that are no stages.
    ///
    /// # Errors
    /// The error that the recorder kept.
    pub(super) fn writer(&mut self) -> Result<&mut BundleWriter> {
        self.check()?;
        Ok(&mut self.writer)
    }

    /// Puts the bundle together.
    ///
    /// # Errors
    /// The error that the recorder kept; as [`BundleWriter::finish`].
    pub fn finish(mut self, metadata: Vec<(&'static str, String)>) -> Result<(Vec<String>, u64)> {
        self.check()?;
        self.writer.finish(metadata)?;
        Ok((self.stages, self.bytes))
    }

    /// Puts the bundle together and opens it: see [`BundleWriter::read`].
    pub(super) fn read(mut self, metadata: Vec<(&'static str, String)>) -> Result<Bundle> {
        self.check()?;
        self.writer.read(metadata)
    }

    /// Fails with the error that the recorder kept, if any.
    pub(super) fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn with(&mut self, name: &str, bytes: usize, put: impl FnOnce(&mut BundleWriter) -> Result<()>) -> Result<()> {
        if self.selection.takes(name) {
            put(&mut self.writer)?;
            self.bytes += bytes as u64;
            self.stages.push(name.to_string());
        }
        Ok(())
    }
}

impl<T: Real> Tap<T> for Recorder {
    fn wants(&self, at: Stage) -> bool {
        self.failed.is_none() && self.selection.takes(&at.to_string())
    }

    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.failed = self.numbers(&at.to_string(), value.shape(), flat(&value).into_iter()).err();
    }

    fn rows(&mut self, at: Stage, rows: &[usize]) {
        let rows: Array1<i64> = rows.iter().map(|&row| row as i64).collect();
        self.failed = self.values(&at.to_string(), &Values::I64(rows.into_dyn())).err();
    }
}
