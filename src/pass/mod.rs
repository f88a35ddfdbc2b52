//! A pass: how one run of the model rounds, which honest way it takes, and who watches it.
//!
//! The model's equations call the operations of `ops.rs`. Each operation may round, and each is written once for all
//! honest ways. A stage goes through [`Pass::put`]: it rounds the stage where a GPU of the pass's precision would store
//! it, and shows the stage to a read-only [`Tap`]. A tap cannot change a number. A replay adds a [`Source`]: the pass
//! continues with the source's value of a stage.

mod ops;
mod precision;
mod way;

pub use ops::{Attention, Stored, Weights};
pub use precision::{Precision, Work};
pub use way::{Aside, Branch, Rotation, Way};

use crate::num::{Grid, Real};
use crate::stage::Stage;
use ndarray::{Array, Array2, ArrayD, ArrayView3, ArrayViewD, Axis, Dimension};

/// A read-only observer of named stages (C1.3a).
pub trait Tap<T> {
    /// Whether the tap wants the stage; if not, the pass makes no view of the stage.
    fn wants(&self, at: Stage) -> bool;
    /// Receives the value of a stage, in the shape that the stage has in a bundle.
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>);
    /// Receives rows that the pass chose; most taps do not look at them. Spec: E9.20
    fn rows(&mut self, _at: Stage, _rows: &[usize]) {}
}

/// Values of stages from another program. A replay continues with these values instead of its own. Spec: D10.7
pub trait Source<T> {
    /// The value of the stage, if the source has it in the shape that the stage has in a bundle.
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>>;
    /// The rows that the source chose at a stage of rows. Spec: E9.20
    fn rows(&self, _at: Stage) -> Option<Vec<usize>> {
        None
    }
}

/// One run of the model: its rounding and its observer.
pub struct Pass<'t, T> {
    /// The grid that stores round to.
    pub grid: Grid,
    /// The honest way that the pass takes.
    pub way: Way,
    /// The type that the caches of this pass store; `Native` is the container, or the pass's own type. Spec: D7.4
    pub kv: Grid,
    tap: Option<&'t mut dyn Tap<T>>,
    source: Option<&'t dyn Source<T>>,
}

impl<'t, T: Real> Pass<'t, T> {
    /// A pass that nobody watches.
    pub fn new(grid: Grid) -> Self {
        Pass { grid, way: Way::default(), kv: Grid::Native, tap: None, source: None }
    }

    /// A pass that `tap` watches.
    pub fn watched(grid: Grid, tap: &'t mut dyn Tap<T>) -> Self {
        Pass { grid, way: Way::default(), kv: Grid::Native, tap: Some(tap), source: None }
    }

    /// The same pass by another honest way. Spec: D10.1
    pub fn by(self, way: Way) -> Self {
        Pass { way, ..self }
    }

    /// The same pass, whose caches store a type. Spec: D7.4, R7.4
    pub fn with_kv(self, kv: Grid) -> Self {
        Pass { kv, ..self }
    }

    /// The type that a cache stores. In a half type, keys and values are numbers of that type already, unless a replay
    /// supplies others. Spec: C7.4a
    pub fn stored_in_cache(&self) -> Grid {
        match self.kv {
            Grid::Native if self.source.is_none() => self.grid,
            kv => kv,
        }
    }

    /// The same pass, which continues with the values of `source`. Spec: D10.7
    pub fn replaying(self, source: &'t dyn Source<T>) -> Self {
        Pass { source: Some(source), ..self }
    }

    /// Whether a tap or a source needs whole stages. If so, a prompt goes through in one piece.
    pub fn is_watched(&self) -> bool {
        self.tap.is_some() || self.source.is_some()
    }

    /// Stores a stage and shows it; returns the value that the pass continues with.
    pub fn put<D: Dimension>(&mut self, at: Stage, a: Array<T, D>) -> Array<T, D> {
        let a = self.store(a);
        self.show(at, a)
    }

    /// Shows a stage that is already stored; returns the value that the pass continues with.
    pub fn show<D: Dimension>(&mut self, at: Stage, a: Array<T, D>) -> Array<T, D> {
        let given = self.exchange(at, a.view().into_dyn());
        given.map_or(a, |given| {
            given.into_dimensionality().unwrap_or_else(|_| unreachable!("D10.7: the shape asked for"))
        })
    }

    /// As [`show`](Self::show), with the shape that the stage has in a bundle; both shapes hold the same number of
    /// numbers.
    pub fn show_as<const N: usize>(&mut self, at: Stage, shape: [usize; N], a: Array2<T>) -> Array2<T> {
        let (dim, whole) = (a.dim(), "T1.2: as many numbers in another shape");
        let a = a.into_shape_with_order(shape.to_vec()).unwrap_or_else(|_| unreachable!("{whole}"));
        self.show(at, a).into_shape_with_order(dim).unwrap_or_else(|_| unreachable!("{whole}"))
    }

    /// Computes and stores costly rows, unless a replay knows them and nobody watches; shows them as [n, width], or
    /// \[width\] in a decode step.
    pub fn put_rows(
        &mut self,
        at: Stage,
        (n, width): (usize, usize),
        compute: impl FnOnce(&Self) -> Array2<T>,
    ) -> Array2<T> {
        let shape = if at.is_step() { vec![n * width] } else { vec![n, width] };
        let known = self.known(at, &shape).unwrap_or_else(|| {
            let rows = compute(self);
            let shown = rows.into_shape_with_order(shape).unwrap_or_else(|_| unreachable!("T1.2: one row a step"));
            self.show(at, shown)
        });
        known.into_shape_with_order((n, width)).unwrap_or_else(|_| unreachable!("T1.2: rows of one width"))
    }

    /// Computes queries, keys or values together, unless a replay knows all of them and nobody watches.
    ///
    /// at: each stage with its number of heads; every array [n, heads · d_h] is shown as [heads, n, d_h], or [heads,
    /// d_h] in a decode step.
    pub fn put_heads<const N: usize>(
        &mut self,
        at: [(Stage, usize); N],
        (n, d_h): (usize, usize),
        compute: impl FnOnce(&Self) -> [Array2<T>; N],
    ) -> [Array2<T>; N] {
        let shape = |(at, heads): (Stage, usize)| if at.is_step() { vec![heads, d_h] } else { vec![heads, n, d_h] };
        let known: Vec<ArrayD<T>> = at.iter().map_while(|&stage| self.known(stage.0, &shape(stage))).collect();
        if let Ok(known) = <[ArrayD<T>; N]>::try_from(known) {
            return known.map(|known| by_row(known, n, d_h));
        }
        let mut at = at.into_iter();
        compute(self).map(|x| {
            let Some((at, heads)) = at.next() else { unreachable!("a stage for each") };
            let shown = by_head(&x, heads);
            let shown = if at.is_step() { shown.index_axis_move(Axis(1), 0).into_dyn() } else { shown.into_dyn() };
            match self.exchange(at, shown) {
                Some(given) => by_row(given, n, d_h),
                None => x,
            }
        })
    }

    /// Shows rows that the pass chose; returns the source's choice, if it has one. Spec: E9.20
    pub fn rows(&mut self, at: Stage, own: &[usize]) -> Option<Vec<usize>> {
        if let Some(tap) = self.tap.as_deref_mut().filter(|tap| tap.wants(at)) {
            tap.rows(at, own);
        }
        self.source?.rows(at)
    }

    /// Shows a stage, and asks the source for its value of it.
    fn exchange(&mut self, at: Stage, a: ArrayViewD<'_, T>) -> Option<ArrayD<T>> {
        let given = self.given(at, a.shape());
        if let Some(tap) = self.tap.as_deref_mut().filter(|tap| tap.wants(at)) {
            match self.way.wide {
                // Recorded is what the type stores, also where the pass continues with more.
                true => tap.see(at, a.mapv(|v| self.grid.round(v)).view()),
                false => tap.see(at, a),
            }
        }
        given
    }

    /// The value that a replay continues with, if nobody wants to see the stage: then it need not be computed.
    /// Spec: D10.7
    fn known(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        let wanted = self.tap.as_deref().is_some_and(|tap| tap.wants(at));
        if wanted { None } else { self.given(at, shape) }
    }

    /// The source's value of a stage, row-major.
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        let given = self.source?.given(at, shape)?;
        Some(if given.is_standard_layout() { given } else { given.as_standard_layout().into_owned() })
    }
}

/// [n, heads · d_h] seen as [heads, n, d_h].
pub fn by_head<T>(x: &Array2<T>, heads: usize) -> ArrayView3<'_, T> {
    let (n, width) = x.dim();
    let view = x.view().into_shape_with_order((n, heads, width / heads));
    view.unwrap_or_else(|_| unreachable!("E6.3: whole heads")).permuted_axes([1, 0, 2])
}

/// [heads, n, d_h], or [heads, d_h] of one row, as [n, heads · d_h].
fn by_row<T: Real>(x: ArrayD<T>, n: usize, d_h: usize) -> Array2<T> {
    let heads = x.shape()[0];
    let shaped = x.into_shape_with_order((heads, n, d_h)).map(|x| x.permuted_axes([1, 0, 2]));
    let rows = shaped.map(|x| x.as_standard_layout().into_owned().into_shape_with_order((n, heads * d_h)));
    rows.and_then(|rows| rows).unwrap_or_else(|_| unreachable!("E6.3: whole heads"))
}
