//! A pass: how one run of the model rounds, and who watches it.
//!
//! One name serves rounding site, bundle tensor, GPU export and report line: [`Pass::put`] rounds a value where a GPU of
//! the pass's precision would store it, then shows it to a read-only [`Tap`]. A tap cannot change a number. A replay gives
//! the pass a [`Source`] beside it: what the source has of a stage is what the pass goes on with, after its own value was
//! shown.

mod stage;

pub use stage::{Part, Stage};

use crate::kernel::{Aside, Stores, Way, store};
use crate::num::{Grid, Real};
use ndarray::{Array, ArrayD, ArrayView, ArrayView2, ArrayViewD, Dimension, Ix1};

/// How a pass computes. Spec: T6.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float64 throughout.
    Truth,
    /// float32 throughout.
    #[default]
    Fast,
    /// What an honest GPU computes in bfloat16: float32 inside kernels, rounded at stores.
    Bf16,
    /// The same in IEEE half precision.
    F16,
}

impl Precision {
    /// The grid that stores round to.
    pub fn grid(self) -> Grid {
        match self {
            Precision::Truth | Precision::Fast => Grid::Native,
            Precision::Bf16 => Grid::Bf16,
            Precision::F16 => Grid::F16,
        }
    }

    /// The value of the bundle's `precision` key.
    pub fn bundle_name(self) -> &'static str {
        match self {
            Precision::Truth => "f64",
            Precision::Fast => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }
}

/// A read-only observer of named stages (C1.3a).
pub trait Tap<T> {
    /// Whether the stage is wanted; if not, no view of it is made.
    fn wants(&self, at: Stage) -> bool;
    /// Takes the value of a stage, in the shape the bundle gives it.
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>);
}

/// Values of stages from elsewhere, which a replay goes on with instead of its own. Spec: D10.7
pub trait Source<T> {
    /// The stage in the shape the bundle gives it; none where the source has none of this shape.
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>>;
}

/// One run of the model: its rounding and its observer.
pub struct Pass<'t, T> {
    /// What stores round to.
    pub grid: Grid,
    /// Which honest way is taken.
    pub way: Way,
    tap: Option<&'t mut dyn Tap<T>>,
    source: Option<&'t dyn Source<T>>,
}

impl<'t, T: Real> Pass<'t, T> {
    /// A pass that nobody watches.
    pub fn new(grid: Grid) -> Self {
        Pass { grid, way: Way::default(), tap: None, source: None }
    }

    /// A pass that `tap` watches.
    pub fn watched(grid: Grid, tap: &'t mut dyn Tap<T>) -> Self {
        Pass { grid, way: Way::default(), tap: Some(tap), source: None }
    }

    /// The same pass by another honest way. Spec: D10.1
    pub fn by(self, way: Way) -> Self {
        Pass { way, ..self }
    }

    /// The same pass, going on with what `source` has. Spec: D10.7
    pub fn replaying(self, source: &'t dyn Source<T>) -> Self {
        Pass { source: Some(source), ..self }
    }

    /// A pass that computes as this one does, and that nobody watches.
    pub fn unwatched<'u>(&self) -> Pass<'u, T> {
        Pass::new(self.grid).by(self.way)
    }

    /// What attention stores.
    pub fn stores(&self) -> Stores {
        Stores { grid: self.grid, fused: self.way.fused, split: self.way.in_order }
    }

    /// Rounds where the precision rounds, at a site without a name.
    pub fn store<D: Dimension>(&self, mut a: Array<T, D>) -> Array<T, D> {
        match a.as_slice_memory_order_mut() {
            Some(all) => store(all, self.grid),
            None => a.mapv_inplace(|v| self.grid.round(v)),
        }
        a
    }

    /// Rounds where the precision rounds, then shows the value; gives back what the pass goes on with.
    pub fn put<D: Dimension>(&mut self, at: Stage, a: Array<T, D>) -> Array<T, D> {
        let a = self.store(a);
        match self.show(at, a.view()).map(|given| given.into_dimensionality()) {
            Some(Ok(given)) => given,
            _ => a,
        }
    }

    /// Shows a value that is stored already; `a` is a view in the shape that the bundle gives it. What comes back, if
    /// anything, is what a replay goes on with, in the same shape.
    pub fn show<D: Dimension>(&mut self, at: Stage, a: ArrayView<'_, T, D>) -> Option<ArrayD<T>> {
        let given = self.source.and_then(|source| source.given(at, a.shape()));
        if let Some(tap) = self.tap.as_deref_mut().filter(|t| t.wants(at)) {
            tap.see(at, a.into_dyn());
        }
        given
    }

    /// What a replay goes on with at a stage that nobody wants to see: it need not be computed. Spec: D10.7
    pub fn unseen(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        let wanted = self.tap.as_deref().is_some_and(|tap| tap.wants(at));
        self.source.filter(|_| !wanted).and_then(|source| source.given(at, shape))
    }

    /// A result that the way may be off in on purpose. Spec: D10.8
    pub fn aside<D: Dimension>(&self, at: Aside, a: Array<T, D>) -> Array<T, D> {
        if self.way.aside == Some(at) { a.mapv_into(|v| v * T::of(1.0 + Aside::SHARE)) } else { a }
    }

    /// ε of a norm over rows x: \[n, d\], which the way may be off in on purpose. Spec: D10.8
    pub fn epsilon(&self, eps: f64, x: ArrayView2<'_, T>) -> f64 {
        if self.way.aside != Some(Aside::Epsilon) {
            return eps;
        }
        let size = |row: ArrayView<'_, T, Ix1>| row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>() / row.len() as f64;
        eps + Aside::SHARE * x.rows().into_iter().map(size).fold(f64::INFINITY, f64::min)
    }

    /// Whether anybody watches, or gives values to go on with: then stages are made whole.
    pub fn is_watched(&self) -> bool {
        self.tap.is_some() || self.source.is_some()
    }
}
