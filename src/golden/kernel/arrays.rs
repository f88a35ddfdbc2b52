//! What a kernel gives to be judged: its inputs, and its output by every way. Spec: E10.20

use crate::error::{Error, Result, ensure};
use crate::golden::Bundle;
use crate::golden::causes::{Lineup, Rotation};
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision};
use crate::stage::Site;

/// A kernel with its inputs.
pub(super) trait Kernel: Sized {
    /// A stage with the same kind of layout: heads in front, or rows alone.
    const LIKE: Site;
    /// The shape of the output as it is computed and judged: [heads, rows, width], or [rows, width].
    fn judged(&self) -> Vec<usize>;
    /// The output, row-major in that shape, as a pass computes it.
    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T>;
    /// The kernel with its inputs in a type. Spec: D11.20
    fn in_type(&self, grid: Grid) -> Self;
    /// How far honest angles of rotated pairs may be from the truth's, [rows, width/2], in radians. Spec: D10.11
    fn slack(&self) -> Option<Vec<f64>> {
        None
    }
    /// How pairs are rotated, if they are.
    fn rotation(&self) -> Option<Rotation> {
        None
    }
    /// What the kernel may have computed instead. Spec: D11.7, D11.11
    fn suspects(&self, _lineup: &mut Lineup<'_>) {}
    /// Why numbers of this output are not finite. Spec: D11.11
    fn not_finite(&self, _got: &[f64]) -> Option<String> {
        None
    }
    /// What was assumed, for the reader.
    fn notes(&self) -> Vec<String>;
    /// The candidate's output in the judged shape. shape: as it lies in the file.
    ///
    /// # Errors
    /// The output has another shape.
    fn output(&self, arrays: &Arrays<'_>) -> Result<Vec<f64>> {
        let want = self.judged();
        let (got, shape) = arrays.numbers("out")?;
        ensure!(
            got.len() == want.iter().product::<usize>() && shape.last() == want.last(),
            arrays.at("out"),
            format!("{want:?}, after leading axes are joined"),
            format!("{shape:?}")
        );
        Ok(got)
    }
}

/// The arrays of a kernel, and the metadata beside them.
pub(super) struct Arrays<'a> {
    /// The file.
    pub file: &'a Bundle,
}

impl Arrays<'_> {
    /// The place of an array, for messages.
    pub fn at(&self, name: &str) -> String {
        format!("{}: {name}", self.file.label())
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.get(name).is_some()
    }

    /// An array of numbers, widened exactly, with its shape.
    ///
    /// # Errors
    /// It is missing, has no axis, or holds other things than floating-point numbers.
    pub fn numbers(&self, name: &str) -> Result<(Vec<f64>, Vec<usize>)> {
        let remedy = "`aircache check --help` lists the arrays of each kernel";
        let shape = self.file.stage(name).map_err(|e| e.remedy(remedy))?.shape.to_vec();
        ensure!(!shape.is_empty() && !shape.contains(&0), self.at(name), "at least one number", format!("{shape:?}"));
        Ok((self.file.flat(name)?, shape))
    }

    /// An array of rows: every axis but the last is joined. [rows · width], rows, width.
    pub fn rows(&self, name: &str) -> Result<(Vec<f64>, usize, usize)> {
        let (values, shape) = self.numbers(name)?;
        let width = shape[shape.len() - 1];
        Ok((values, shape.iter().product::<usize>() / width, width))
    }

    /// A vector of `length` numbers, in f32: the type of weights.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let (values, shape) = self.numbers(name)?;
        ensure!(shape == [length], self.at(name), format!("[{length}]"), format!("{shape:?}"));
        Ok(values.into_iter().map(|v| v as f32).collect())
    }

    /// A number of the metadata.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let at = self.at(&format!("metadata {key}"));
        let Some(text) = self.file.metadata(key) else { return Ok(None) };
        let shown: String = text.chars().take(40).collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(Error::new(at, "a number", format!("{shown:?}"))),
        }
    }

    /// Inputs that the declared type cannot hold: then the kernel read other numbers than these.
    pub fn off_the_grid(&self, precision: Precision) -> Vec<String> {
        let grid = precision.grid();
        let off =
            |name: &&&str| self.file.flat(name).is_ok_and(|x| x.iter().any(|&v| grid.round(v) != v && !v.is_nan()));
        let off: Vec<&str> = ["q", "k", "v", "x", "weight", "bias"].iter().filter(off).copied().collect();
        let kind = precision.bundle_name();
        if off.is_empty() || grid == Grid::Native {
            return vec![];
        }
        vec![format!("{} has numbers that {kind} cannot hold: give the arrays that the kernel read", off.join(", "))]
    }
}

/// Numbers in a container.
pub(super) fn of<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::of(v)).collect()
}

/// Numbers in a type.
pub(super) fn rounded<T: Real>(values: &[T], grid: Grid) -> Vec<T> {
    values.iter().map(|&v| grid.round(v)).collect()
}
