//! Pruning inside prefill: after some layers, the visual rows that the last row looks at least are dropped, and later
//! layers do not see them. Not here: how a decoder goes on with fewer rows.

use super::attend::PackedKeys;
use super::{Retain, ranking};
use crate::error::{Error, Result, ensure};
use crate::num::{Grid, Real};
use ndarray::{ArrayView2, ArrayView3, s};
use std::fmt;
use std::str::FromStr;

/// The largest number of cuts of a policy.
const MOST: usize = 4;

/// Where prefill drops visual rows. Written `none`, or cuts joined by `+`: `2:0.5`, `25%:0.5+50%:0.25`. Spec: D9.9
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prune {
    cuts: [Option<(At, Option<Retain>)>; MOST],
}

/// The layer before which rows are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// This layer.
    Layer(usize),
    /// This share of the layers, in percent, rounded down; at least layer 1.
    Percent(usize),
}

/// A cut of a model and a prompt: before layer `layer`, all visual rows but `keep` are dropped. Spec: D9.9
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// K: the first layer that does not see the dropped rows; at least 1.
    pub layer: usize,
    /// The number of visual rows that stay.
    pub keep: usize,
}

impl Prune {
    /// No row is dropped.
    pub const NONE: Prune = Prune { cuts: [None; MOST] };

    /// One cut before layer K; as many rows stay as the retention says.
    pub(super) const fn once(layer: usize) -> Prune {
        Prune { cuts: [Some((At::Layer(layer), None)), None, None, None] }
    }

    /// Cuts at shares of the layers in percent; each with the share of the visual rows that stay.
    pub(super) const fn stages(all: [(usize, Retain); 3]) -> Prune {
        let [a, b, c] = all;
        Prune {
            cuts: [
                Some((At::Percent(a.0), Some(a.1))),
                Some((At::Percent(b.0), Some(b.1))),
                Some((At::Percent(c.0), Some(c.1))),
                None,
            ],
        }
    }

    /// The same cuts at a retention: a cut that names no share keeps the share of the retention. Spec: D9.9, A9.8
    pub(super) fn at(mut self, retain: Retain) -> Prune {
        self.cuts.iter_mut().flatten().for_each(|(_, keep)| *keep = keep.or(Some(retain)));
        self
    }

    /// The cuts of a model of `layers` layers for a prompt of `visual` visual rows, layers ascending. Of two cuts at one
    /// layer the later counts. Spec: D9.9, C9.9a
    ///
    /// # Errors
    /// A cut has no layer after it, or stands before the cut that is written before it; a cut names no share.
    pub fn cuts(&self, layers: usize, visual: usize) -> Result<Vec<Cut>> {
        let mut cuts: Vec<Cut> = Vec::new();
        for &(at, keep) in self.cuts.iter().flatten() {
            let layer = match at {
                At::Layer(layer) => layer,
                At::Percent(share) => (share * layers / 100).max(1),
            };
            if matches!(at, At::Percent(_)) && layer >= layers {
                continue; // a model of one layer
            }
            let want = format!("a layer before layer {layers}: the model has {layers} layers, counted from 0");
            ensure!(layer < layers, "policy: prune", want, layer, "give an earlier layer, as in prune=2:0.5");
            let share = keep.ok_or_else(|| {
                Error::new("policy: prune", "a share of the visual rows after the layer, as in prune=2:0.5", self)
            })?;
            let keep = share.total(visual, 1).max(1).min(visual);
            match cuts.last_mut() {
                Some(last) if last.layer == layer => last.keep = last.keep.min(keep),
                Some(last) => {
                    let want = format!("a layer after layer {}, where the cut before it is", last.layer);
                    ensure!(layer > last.layer, "policy: prune", want, layer, "write the layers in ascending order");
                    let keep = keep.min(last.keep);
                    cuts.push(Cut { layer, keep });
                }
                None => cuts.push(Cut { layer, keep }),
            }
        }
        cuts.retain(|cut| cut.keep < visual);
        Ok(cuts)
    }
}

/// What the last row gives to each row, averaged over query heads: \[n\]. q: [H, d_h], the query of the last row; k:
/// [G, n, d_h], the keys that it sees, its own included. Spec: E9.19
///
/// ```
/// use aircache::{num::Grid, policy::votes};
/// use ndarray::{array, aview2};
/// let k = array![[[0.0], [0.0]]]; // one KV head, two rows
/// assert_eq!(votes(aview2(&[[1.0], [2.0]]), k.view(), Grid::Native), [0.5, 0.5]);
/// ```
pub fn votes<T: Real>(q: ArrayView2<'_, T>, k: ArrayView3<'_, T>, grid: Grid) -> Vec<T> {
    let (heads, n) = (q.nrows(), k.shape()[1]);
    let group = (heads / k.shape()[0].max(1)).max(1);
    let (mut sum, mut p) = (vec![T::ZERO; n], vec![T::ZERO; n]);
    for (g, k) in k.outer_iter().enumerate() {
        let keys = PackedKeys::new(k, (0..n).collect(), grid);
        for h in g * group..(g + 1) * group {
            keys.attend(&q.slice(s![h, ..]).to_vec(), n, &mut p);
            sum.iter_mut().zip(&p).for_each(|(sum, &p)| *sum += p);
        }
    }
    let count = T::of(heads as f64);
    sum.into_iter().map(|sum| grid.round(sum / count)).collect()
}

/// The `keep` largest of these votes, as ascending indices; of equal votes, the lower index stays. Spec: E9.20
pub fn best(votes: &[f64], keep: usize) -> Vec<usize> {
    let mut best = ranking(votes);
    best.truncate(keep);
    best.sort_unstable();
    best
}

impl FromStr for Prune {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let accepted = "none, or up to 4 cuts LAYER:SHARE or PERCENT%:SHARE joined by +, as in 2:0.5; the layer is at \
                        least 1, the share above 0 and at most 1";
        let bad = || Error::new("policy: prune", accepted, format!("{text:?}"));
        let mut prune = Prune::NONE;
        if text == "none" {
            return Ok(prune);
        }
        let words: Vec<&str> = text.split('+').collect();
        ensure!(words.len() <= MOST, bad().at, bad().expected, bad().got);
        for (cut, word) in prune.cuts.iter_mut().zip(words) {
            let (at, keep) = word.split_once(':').map_or((word, None), |(at, keep)| (at, Some(keep)));
            let at = match at.strip_suffix('%') {
                Some(share) => {
                    At::Percent(share.parse().ok().filter(|share| (1..100).contains(share)).ok_or_else(bad)?)
                }
                None => At::Layer(at.parse().ok().filter(|&layer| layer > 0).ok_or_else(bad)?),
            };
            *cut = Some((at, keep.map(str::parse).transpose().map_err(|_| bad())?));
        }
        Ok(prune)
    }
}

impl fmt::Display for Prune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Prune::NONE {
            return f.write_str("none");
        }
        for (i, (at, keep)) in self.cuts.iter().flatten().enumerate() {
            f.write_str(if i > 0 { "+" } else { "" })?;
            match at {
                At::Layer(layer) => write!(f, "{layer}")?,
                At::Percent(share) => write!(f, "{share}%")?,
            }
            if let Some(keep) = keep {
                write!(f, ":{keep}")?;
            }
        }
        Ok(())
    }
}
