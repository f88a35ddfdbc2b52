//! Pruning before the decoder and inside prefill: before some layers, visual rows are dropped, and later layers do not
//! see them. Not here: who rates the rows (rater.rs), and how a decoder goes on with fewer rows.

use super::{Rater, Retain, ranking};
use crate::error::{Error, Result, ensure};
use std::fmt;
use std::str::FromStr;

/// The largest number of cuts of a policy.
const MOST: usize = 4;

/// What stands before a layer where text rows rate.
const RATERS: &str = "raters@";

/// Where visual rows are dropped. Written `none`, or cuts joined by `+`: `2:0.5`, `25%:0.5+50%:0.25`, `class:0.1`,
/// `raters@3:0.5`. Spec: D9.9, D9.10, D9.11
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prune {
    cuts: [Option<Written>; MOST],
}

/// A cut as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    at: At,
    /// Who rates the visual rows.
    by: Rater,
    /// How many visual rows stay; none: as many as the retention says.
    keep: Option<Retain>,
}

/// The layer before which rows are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Layer 0.
    Decoder,
    /// This layer.
    Layer(usize),
    /// This share of the layers, in percent, rounded down; at least layer 1.
    Percent(usize),
}

/// A cut of a model and a prompt: before layer `layer`, all visual rows but `keep` are dropped. Spec: D9.9
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// K: the first layer that does not see the dropped rows.
    pub layer: usize,
    /// Who rates the rows; if K is at least 1, the last row of the prompt or the raters.
    pub by: Rater,
    /// The number of visual rows that stay.
    pub keep: usize,
}

impl Prune {
    /// No row is dropped.
    pub const NONE: Prune = Prune { cuts: [None; MOST] };

    /// One cut before layer K; as many rows stay as the retention says.
    pub(super) const fn once(layer: usize) -> Prune {
        let cut = Written { at: At::Layer(layer), by: Rater::LastRow, keep: None };
        Prune { cuts: [Some(cut), None, None, None] }
    }

    /// One cut before the decoder; as many rows stay as the retention says.
    pub(super) const fn before_decoder(by: Rater) -> Prune {
        Prune { cuts: [Some(Written { at: At::Decoder, by, keep: None }), None, None, None] }
    }

    /// Who rates the visual rows before the decoder, if rows are dropped there. Spec: D9.10
    pub fn rater(&self) -> Option<Rater> {
        match self.cuts[0] {
            Some(Written { at: At::Decoder, by, .. }) => Some(by),
            _ => None,
        }
    }

    /// Cuts at shares of the layers in percent; each with the share of the visual rows that stay.
    pub(super) const fn stages(by: Rater, all: [(usize, Retain); 3]) -> Prune {
        const fn cut(by: Rater, (share, keep): (usize, Retain)) -> Option<Written> {
            Some(Written { at: At::Percent(share), by, keep: Some(keep) })
        }
        Prune { cuts: [cut(by, all[0]), cut(by, all[1]), cut(by, all[2]), None] }
    }

    /// The same cuts at a retention: a cut that names no share keeps the share of the retention. Spec: D9.9, A9.8
    pub(super) fn at(mut self, retain: Retain) -> Prune {
        self.cuts.iter_mut().flatten().for_each(|cut| cut.keep = cut.keep.or(Some(retain)));
        self
    }

    /// The cuts of a model of `layers` layers for a prompt of `visual` visual rows, layers ascending. Of two cuts at one
    /// layer the later counts. Spec: D9.9, C9.9a
    ///
    /// # Errors
    /// A cut has no layer after it, or stands before the cut that is written before it; a cut names no share.
    pub fn cuts(&self, layers: usize, visual: usize) -> Result<Vec<Cut>> {
        let mut cuts: Vec<Cut> = Vec::new();
        for &Written { at, by, keep } in self.cuts.iter().flatten() {
            let layer = match at {
                At::Decoder => 0,
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
                Some(last) if last.layer == layer => *last = Cut { layer, by, keep: keep.min(last.keep) },
                Some(last) => {
                    let want = format!("a layer after layer {}, where the cut before it is", last.layer);
                    ensure!(layer > last.layer, "policy: prune", want, layer, "write the layers in ascending order");
                    let keep = keep.min(last.keep);
                    cuts.push(Cut { layer, by, keep });
                }
                None => cuts.push(Cut { layer, by, keep }),
            }
        }
        cuts.retain(|cut| cut.keep < visual);
        Ok(cuts)
    }
}

/// The numbers that are above the mean, as ascending indices; all, if none is. Spec: E9.33
///
/// ```
/// assert_eq!(aircache::policy::above_mean(&[0.5, 0.2, 0.3]), [0]);
/// assert_eq!(aircache::policy::above_mean(&[0.5, 0.5]), [0, 1]);
/// ```
pub fn above_mean(numbers: &[f64]) -> Vec<usize> {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let above: Vec<usize> = (0..numbers.len()).filter(|&i| numbers[i] > mean).collect();
    if above.is_empty() { (0..numbers.len()).collect() } else { above }
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
                        least 1, the share above 0 and at most 1; raters@ before a layer lets text rows rate, as in \
                        raters@3:0.5; the first cut may be class, received, dominant, diverse or zip, as in class:0.1";
        let bad = || Error::new("policy: prune", accepted, format!("{text:?}"));
        let mut prune = Prune::NONE;
        if text == "none" {
            return Ok(prune);
        }
        let words: Vec<&str> = text.split('+').collect();
        ensure!(words.len() <= MOST, bad().at, bad().expected, bad().got);
        for (i, (cut, word)) in prune.cuts.iter_mut().zip(words).enumerate() {
            let (at, keep) = word.split_once(':').map_or((word, None), |(at, keep)| (at, Some(keep)));
            let (by, layer) = match at.strip_prefix(RATERS) {
                Some(layer) => (Rater::Text, layer),
                None => (Rater::LastRow, at),
            };
            let number = |text: &str| text.parse::<usize>().ok();
            let (at, by) = match (Rater::before_decoder(at).filter(|_| i == 0), layer.strip_suffix('%')) {
                (Some(rater), _) => (At::Decoder, rater),
                (None, Some(share)) => {
                    let share = number(share).filter(|share| (1..100).contains(share));
                    (At::Percent(share.ok_or_else(bad)?), by)
                }
                (None, None) => (At::Layer(number(layer).filter(|&layer| layer > 0).ok_or_else(bad)?), by),
            };
            let keep = keep.map(str::parse).transpose().map_err(|_| bad())?;
            *cut = Some(Written { at, by, keep });
        }
        Ok(prune)
    }
}

impl fmt::Display for Prune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Prune::NONE {
            return f.write_str("none");
        }
        for (i, Written { at, by, keep }) in self.cuts.iter().flatten().enumerate() {
            f.write_str(if i > 0 { "+" } else { "" })?;
            f.write_str(if *by == Rater::Text { RATERS } else { "" })?;
            match at {
                At::Layer(layer) => write!(f, "{layer}")?,
                At::Percent(share) => write!(f, "{share}%")?,
                At::Decoder => f.write_str(by.word())?,
            }
            if let Some(keep) = keep {
                write!(f, ":{keep}")?;
            }
        }
        Ok(())
    }
}
