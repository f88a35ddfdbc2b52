//! What causes are found from: plain numbers of a failed stage, and of other stages. Not here: how they are found.

use crate::config::Activation;
use crate::golden::fit::Groups;
use crate::golden::kinds::numbers::Numbers;
use crate::golden::measure::{Errors, Layout};
use crate::pass::{Branch, Precision};
use crate::roles::Role;
use crate::stage::{Site, Stage};
use ndarray::ArrayD;

/// A failed stage of numbers, and what is known around it.
pub(in crate::golden) struct Facts<'a> {
    /// The stage.
    pub at: Stage,
    /// Its truth, its values, its noise.
    pub numbers: &'a Numbers<'a>,
    /// Half lengths of the arcs of its pairs, if it is rotated. Spec: D10.11
    pub slack: Option<Vec<f64>>,
    /// How its pairs are rotated, if they are.
    pub rotation: Option<Rotation>,
    /// Another stage: the candidate's value of it, or else the golden's.
    pub known: &'a dyn Fn(Stage) -> Option<ArrayD<f64>>,
    /// The candidate's other stages of the same shape.
    pub alike: Vec<Stage>,
    /// Roles of the prompt's rows, if they are known.
    pub roles: Option<Vec<Role>>,
    /// In a replay: the stage computed once more, with a change.
    pub again: Option<&'a dyn Again>,
    /// The noise of honest computations in half types, if that is known and the declared type is f32.
    pub halves: Vec<(Precision, Errors)>,
    /// The stage as programs of a half type compute it, row-major, by their number; none if there is no program of this
    /// number. Spec: D11.20
    pub honest: &'a dyn Fn(Precision, usize) -> Option<Vec<f64>>,
    /// If each number is within the noise, and only a drift fails.
    pub drift: Option<Drifting>,
}

/// How the pairs of a stage are rotated.
pub(in crate::golden) struct Rotation {
    /// The frequency of each pair: \[d_h/2\].
    pub frequencies: Vec<f64>,
    /// The position of each row and pair: [rows, d_h/2].
    pub positions: Vec<i64>,
}

/// What a drift is measured from. Spec: E10.10
pub(in crate::golden) struct Drifting {
    /// The honest way that is nearest to the candidate.
    pub base: Vec<f64>,
    /// Numbers that are rounded alike.
    pub groups: Groups,
}

/// A change of a model.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::golden) enum Change {
    /// Every activation is another function.
    Function(Activation),
    /// Every norm has this ε.
    Epsilon(f64),
    /// A branch is left out.
    Without(Branch),
    /// What convolutions, or all linear layers, read has 10 bits of mantissa, as in TF32.
    Narrow {
        /// Whether all linear layers do.
        all: bool,
    },
    /// The tensor of this number among [`Again::tensors`] is edited.
    Weight(usize, Edit),
    /// Another stage holds these numbers.
    Instead(Stage, ArrayD<f64>),
    /// Stages are stored in bf16, or in f16.
    Stored(crate::num::Grid),
}

/// A change of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::golden) enum Edit {
    /// All numbers are 0.
    Zero,
    /// All numbers are 1.
    One,
    /// 1 is added.
    Plus,
    /// Rows move by this many rows.
    Rows(isize),
    /// The second axis is reversed.
    Channels,
}

/// A tensor that a stage reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::golden) struct Tensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Computes a stage once more from the candidate's own inputs.
pub(in crate::golden) trait Again: Sync {
    /// The stage's value with a change, row-major; none if it cannot be computed.
    fn again(&self, at: Stage, change: &Change) -> Option<Vec<f64>>;
    /// The tensors that the layer of a stage reads.
    fn tensors(&self, at: Stage) -> Vec<Tensor>;
    /// ε of the layer's norms.
    fn epsilon(&self, at: Stage) -> Option<f64>;
}

impl Facts<'_> {
    /// The layout of the stage.
    pub fn layout(&self) -> Layout {
        Layout::of(self.numbers.name, self.numbers.shape)
    }

    /// The noise of honest computations.
    pub fn noise(&self) -> Errors {
        self.numbers.noise.clone().unwrap_or_else(|| Errors::none(self.layout()))
    }

    /// The number of heads that the stage is seen in, and the head of a number.
    pub fn heads(&self) -> (usize, impl Fn(usize) -> usize) {
        let (layout, wide) = (self.layout(), self.numbers.heads);
        let mix = matches!(self.at.site, Site::Mix | Site::StepMix) && wide > 1 && layout.width.is_multiple_of(wide);
        let (count, each) = if mix { (wide, layout.width / wide) } else { (layout.lead, layout.width) };
        (count, move |i: usize| if mix { i % layout.width / each } else { i / (layout.rows * layout.width).max(1) })
    }
}

impl Facts<'_> {
    /// The number of query heads, as the layer's queries show it; 0 if they are not known.
    pub fn known_heads(&self) -> usize {
        let query = (self.known)(Stage::layer(Site::Query, self.at.layer));
        query.map_or(0, |q| q.shape().first().copied().unwrap_or(0))
    }
}

impl Rotation {
    /// The angle of a pair of a row, in radians.
    pub fn angle(&self, row: usize, pair: usize) -> f64 {
        let at = self.positions[row * self.frequencies.len() + pair];
        at as f64 * self.frequencies[pair]
    }

    /// Turns every pair of x by `times` its angle. x: row-major in the layout.
    pub fn turn(&self, layout: Layout, x: &mut [f64], times: f64) {
        self.turn_by(layout, x, |row, pair| times * self.angle(row, pair));
    }

    /// Turns every pair of x by an angle of its own. x: row-major in the layout.
    pub fn turn_by(&self, layout: Layout, x: &mut [f64], angle: impl Fn(usize, usize) -> f64) {
        let half = self.frequencies.len();
        for (i, row) in x.chunks_exact_mut(layout.width).enumerate() {
            for pair in 0..half.min(layout.width / 2) {
                let (sin, cos) = libm::sincos(angle(i % layout.rows, pair));
                let (a, b) = (row[pair], row[pair + half]);
                (row[pair], row[pair + half]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
}
