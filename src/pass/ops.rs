//! The operations of the forward pass that can round, or that differ between honest ways. This file has the shapes and
//! the places where numbers are rounded; the kernels have the arithmetic.

use super::{Aside, Branch, Pass, Rotation, Way};
use crate::config::Activation;
use crate::kernel::{
    Angles, Frequencies, HeadView, HeadViews, MatrixView, Operands, Start, Stores, Turn, Visible, activate, add,
    attention_over, gate, layer_norm, layer_norm_in_order, linear_in_order, linears, rms_norm, rms_norm_in_order,
    scale_columns, store, tiles::linears_in_tiles,
};
use crate::num::{Grid, Real};
use ndarray::{Array, Array2, ArrayView, ArrayView2, Dimension, Ix1};

/// How often a linear layer is stored. Spec: R3.3, R10.2, R10.6
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stored {
    /// Once, after the bias; twice if the way says so.
    #[default]
    Once,
    /// Twice: before the bias and after it.
    Twice,
    /// Twice, as convolutions do; once if the way says so.
    AsConvolution,
    /// As `Once`, by the last layer of a branch, whose result is added to the residual stream; not at all if the way
    /// adds it in the same kernel.
    AsBranch,
}

/// A linear layer's weights, and how often its result is stored.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// w: [outputs, inputs].
    pub w: MatrixView<'a>,
    /// b: \[outputs\].
    pub b: Option<&'a [f32]>,
    /// How often the result is stored.
    pub stored: Stored,
}

impl<T: Real> Pass<'_, T> {
    /// Rounds to the pass's grid, at a place without a stage name.
    pub fn store<D: Dimension>(&self, a: Array<T, D>) -> Array<T, D> {
        self.store_in(a, self.grid)
    }

    /// Rounds to a grid.
    fn store_in<D: Dimension>(&self, mut a: Array<T, D>, grid: Grid) -> Array<T, D> {
        match a.as_slice_memory_order_mut() {
            Some(all) => store(all, grid),
            None => a.mapv_inplace(|v| grid.round(v)),
        }
        a
    }

    /// A norm with its weight, stored: a layer norm if there is a bias, else an RMS norm. x: [n, d] → [n, d].
    /// Spec: E3.10, E3.11, R3.10, R3.11
    pub fn norm(&self, x: ArrayView2<'_, T>, weight: &[f32], bias: Option<&[f32]>, eps: f64) -> Array2<T> {
        let eps = self.epsilon(eps, x);
        let normed = if self.way.norm_once { Grid::Native } else { self.grid };
        match (bias, self.order()) {
            (Some(bias), None) => layer_norm(x, weight, bias, eps, self.grid),
            (Some(bias), Some(from)) => self.store(layer_norm_in_order(x, weight, bias, eps, from)),
            (None, None) => rms_norm(x, weight, eps, [normed, self.grid]),
            (None, Some(from)) => self.store(rms_norm_in_order(x, weight, eps, normed, from)),
        }
    }

    /// y = x · wᵀ + b, stored. x: [n, inputs], w: [outputs, inputs] → [n, outputs]. Spec: E3.3, R3.3, R10.2, R10.6
    pub fn linear(&self, x: ArrayView2<'_, T>, layer: Weights<'_>) -> Array2<T> {
        self.linears(x, &[layer]).pop().unwrap_or_else(|| unreachable!("one result for each layer"))
    }

    /// y = x · wᵀ + b of each layer, stored. x: [n, inputs], w: [outputs, inputs] → [n, outputs] of each layer.
    /// Spec: E3.3, R3.3, R10.2, R10.6
    pub fn linears(&self, x: ArrayView2<'_, T>, layers: &[Weights<'_>]) -> Vec<Array2<T>> {
        if layers.iter().any(|layer| self.operands(layer) != Operands::Whole) {
            return layers.iter().map(|layer| self.narrow(x, *layer)).collect();
        }
        let later: Vec<Option<&[f32]>> = layers.iter().map(|layer| layer.b.filter(|_| self.twice(layer))).collect();
        let ends = layers.iter().zip(&later).map(|(layer, later)| {
            let unstored = layer.stored == Stored::AsBranch && self.way.epilogue;
            let b = if later.is_some() { None } else { layer.b };
            (layer.w, (b, if unstored { Grid::Native } else { self.grid }))
        });
        let ends: Vec<_> = ends.collect();
        let y = match self.order() {
            Some(from) => {
                ends.iter().map(|&(w, (b, grid))| self.store_in(linear_in_order(x, w, b, from), grid)).collect()
            }
            None if self.way.tiles && self.grid == Grid::Bf16 => linears_in_tiles(x, &ends),
            None => linears(x, &ends),
        };
        let biased = |(mut y, bias): (Array2<T>, Option<&[f32]>)| {
            let Some(bias) = bias else { return y };
            y.outer_iter_mut().for_each(|mut y| y.iter_mut().zip(bias).for_each(|(y, &b)| *y += T::of_f32(b)));
            self.store(y)
        };
        y.into_iter().zip(later).map(biased).collect()
    }

    /// How the products of a layer read their numbers. Spec: R10.14, D11.9
    fn operands(&self, layer: &Weights<'_>) -> Operands {
        match self.way.aside {
            Some(Aside::Narrow { all }) if all || layer.stored == Stored::AsConvolution => Operands::Nearest,
            _ => self.way.operands,
        }
    }

    /// As [`linear`](Self::linear), with products that read fewer bits. Spec: R10.14
    fn narrow(&self, x: ArrayView2<'_, T>, layer: Weights<'_>) -> Array2<T> {
        let operands = self.operands(&layer);
        let (x, all) = (x.mapv(|x| operands.read(x)), read(operands, layer.w));
        let way = Way { operands: Operands::Whole, aside: None, ..self.way };
        let w = MatrixView::f32(&all, layer.w.rows, layer.w.cols);
        Pass::new(self.grid).by(way).linear(x.view(), Weights { w, ..layer })
    }

    /// Whether a layer is stored before its bias is added, and again after it. Spec: R3.3, R10.2, R10.6
    fn twice(&self, layer: &Weights<'_>) -> bool {
        match layer.stored {
            Stored::AsBranch if self.way.epilogue => false,
            Stored::Once | Stored::AsBranch => self.way.bias_apart,
            Stored::Twice => true,
            Stored::AsConvolution => !self.way.bias_fused,
        }
    }

    /// f(x), stored. Spec: E3.7–E3.9, R3.6
    pub fn activate(&self, x: Array2<T>, f: Activation) -> Array2<T> {
        self.activated(x, f, self.grid)
    }

    /// f(gate) ⊙ up, stored; f(gate) is stored too, unless the way says otherwise. Spec: E6.6, R6.6, R10.10
    pub fn gate(&self, x: Array2<T>, up: Array2<T>, f: Activation) -> Array2<T> {
        if self.way.aside.is_none() {
            return gate(x, up, f, self.grid, self.way.gate_once);
        }
        let once = if self.way.gate_once { Grid::Native } else { self.grid };
        self.store(self.activated(x, f, once) * up)
    }

    /// f(x), stored in a grid; in some ways with a mistake (D10.8, D11.9).
    fn activated(&self, mut x: Array2<T>, f: Activation, grid: Grid) -> Array2<T> {
        if let Some(Aside::Activation(knot)) = self.way.aside {
            let knot = T::of(f64::from(knot));
            let bump = x.mapv(|x| (T::ONE - (x - knot).max(knot - x)).max(T::ZERO));
            activate(&mut x, f, Grid::Native);
            x.scaled_add(T::of(Aside::SHARE), &bump);
            return self.store_in(x, grid);
        }
        let other = if let Some(Aside::Function(other)) = self.way.aside { Some(other) } else { None };
        activate(&mut x, other.unwrap_or(f), grid);
        x
    }

    /// The cosine and sine of rotary angles, times `scale` in long rope, stored in `grid`; the other arguments are those of
    /// [`Angles::new`]. Spec: E3.12, E6.15, R3.12, R6.15
    pub fn angles(
        &self,
        shape: (usize, usize),
        frequencies: &Frequencies,
        at: impl Fn(usize, usize) -> (usize, i64),
        scale: Option<f64>,
        grid: Grid,
    ) -> Angles<T> {
        let grid = if self.way.rotation == Rotation::Once { Grid::Native } else { grid };
        let turn = self.way.turn.unwrap_or(Turn::of::<T>());
        match scale {
            None => Angles::new(shape, frequencies, at, turn, grid),
            Some(scale) => Angles::new(shape, frequencies, at, turn, Grid::Native).scaled(scale, grid),
        }
    }

    /// Rotates every head of x by the angles of its row; products and sums are stored. x: [n, heads · d_h] → the same.
    /// Spec: E3.13, R3.13
    pub fn rotate(&self, mut x: Array2<T>, angles: &Angles<T>, d_h: usize) -> Array2<T> {
        if self.way.rotation != Rotation::Everywhere {
            return self.rotate_wide(x, angles, d_h);
        }
        angles.rotate(x.view_mut(), d_h, self.grid);
        x
    }

    /// As [`rotate`](Self::rotate), in full width and stored once. Spec: E5.8, R5.8
    pub fn rotate_wide(&self, mut x: Array2<T>, angles: &Angles<T>, d_h: usize) -> Array2<T> {
        angles.rotate(x.view_mut(), d_h, Grid::Native);
        self.store(x)
    }

    /// Attention as this pass computes it.
    pub fn attention(&self) -> Attention {
        let Way { fused, in_order: split, backwards: chain, scaled, .. } = self.way;
        let tiles = self.way.tiles && self.grid == Grid::Bf16;
        Attention(Stores { grid: self.grid, fused, split, chain, scaled, tiles, operands: self.way.operands })
    }

    /// The residual stream x plus a branch y, stored. Spec: R5.2, R6.5, R10.12
    pub fn add(&self, x: Array2<T>, y: Array2<T>) -> Array2<T> {
        add(x, y, if self.way.wide { Grid::Native } else { self.grid })
    }

    /// Multiplies each column of x by its entry of `scale` and stores the result; returns x unchanged without a scale.
    /// x: [n, d], scale: \[d\] → [n, d]. Spec: E5.12, R5.12
    pub fn scale_columns(&self, x: Array2<T>, scale: Option<&[f32]>) -> Array2<T> {
        match scale {
            Some(scale) => scale_columns(x, scale, self.grid),
            None => x,
        }
    }

    /// The result of a layer's branch, before it is added to the residual stream.
    pub fn branch<D: Dimension>(&self, of: Branch, y: Array<T, D>) -> Array<T, D> {
        let times = match self.way.aside {
            Some(Aside::Branch(off)) if off == of => 1.0 + Aside::SHARE,
            Some(Aside::Without(off)) if off == of => 0.0,
            _ => return y,
        };
        y.mapv_into(|v| v * T::of(times))
    }

    /// Where a sum begins whose terms are added one by one; none in the canonical order.
    fn order(&self) -> Option<Start> {
        match self.way {
            Way { backwards: true, .. } => Some(Start::Last),
            Way { in_order: true, .. } => Some(Start::First),
            _ => None,
        }
    }

    /// ε of a norm over rows x: \[n, d\], which the way may change on purpose. Spec: D10.8
    fn epsilon(&self, eps: f64, x: ArrayView2<'_, T>) -> f64 {
        match self.way.aside {
            Some(Aside::OtherEpsilon(other)) => return other,
            Some(Aside::Epsilon) => {}
            _ => return eps,
        }
        let size = |row: ArrayView<'_, T, Ix1>| row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>() / row.len() as f64;
        eps + Aside::SHARE * x.rows().into_iter().map(size).fold(f64::INFINITY, f64::min)
    }
}

/// A weight as products read it: [outputs · inputs]. Spec: R10.14
fn read(operands: Operands, w: MatrixView<'_>) -> Vec<f32> {
    let mut row = vec![0f32; w.cols];
    let rows = (0..w.rows).flat_map(|i| {
        w.row_into(i, &mut row);
        row.iter().map(|&w| operands.read(w)).collect::<Vec<f32>>()
    });
    rows.collect()
}

/// Attention as a pass computes it; threads can share it. Spec: E3.5, R3.5, R10.3
#[derive(Debug, Clone, Copy)]
pub struct Attention(Stores);

impl Attention {
    /// Attention of the last queries of a sequence. Each query sees the entries up to its own. q: [n, H · d_h]
    /// row-major → mix, of the same shape.
    ///
    /// received: each entry's received attention is added to it. Spec: E3.15
    pub fn causal<T: Real>(
        self,
        q: &[T],
        (heads, d_h): (usize, usize),
        entries: &HeadViews<'_, T>,
        received: Option<&mut [Vec<T>]>,
        mix: &mut [T],
    ) {
        attention_over(q, heads, entries, d_h, Visible::Causal, self.0, received, mix);
    }

    /// Attention of queries that see every entry, as in a vision tower. q: [n, heads · d_h] row-major → mix, of the same
    /// shape. Spec: E5.3
    pub fn all<T: Real>(self, q: &[T], (heads, d_h): (usize, usize), entries: Vec<HeadView<'_, T>>, mix: &mut [T]) {
        attention_over(q, heads, &HeadViews::Own(entries), d_h, Visible::All, self.0, None, mix);
    }
}
