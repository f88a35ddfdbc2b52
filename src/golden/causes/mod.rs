//! Causes: what a program that fails may have computed instead. A suspect is the numbers that a stage would have if the
//! program had made one mistake. A suspect is named only if it explains the candidate; nothing is guessed. No verdict
//! depends on a cause. Spec: chapter 11
//!
//! ```text
//! mod          finds the cause of a failed stage
//! lineup       compares suspects with the candidate, names the one that explains it
//! facts        what suspects are made of: plain numbers, and a layer that can be computed once more
//! again        computes a replayed layer once more, with a change of the model
//! bits         numbers of fewer bits, with scales
//! factors, copies, moved, constant, pixels, rotary, formats, layer   the suspects, by kind of mistake
//! attend, attention, reads, scores, look, pages, address, slot   those of attention
//! decisions, integers, entries   causes of failed decisions, integers and cache entries
//! ```

mod address;
mod again;
mod attend;
mod attention;
mod bits;
mod constant;
mod copies;
mod decisions;
mod entries;
mod factors;
mod facts;
mod formats;
mod integers;
mod layer;
mod lineup;
mod look;
mod moved;
mod pages;
mod pixels;
mod reads;
mod rotary;
mod scores;
mod slot;
#[cfg(test)]
mod tests;

pub(in crate::golden) use again::Replayed;
pub(in crate::golden) use attend::Attend;
pub(in crate::golden) use attention::suspects_of;
pub(in crate::golden) use bits::{BITS, Sizes};
pub(in crate::golden) use facts::{Again, Facts, Rotation};
pub(in crate::golden) use formats::TIES;
pub(in crate::golden) use lineup::{Fitted, Lineup};
pub(in crate::golden) use pixels::levels;

use super::alike::{self, Cells};
use super::arc;
use super::case::Case;
use super::fit::Groups;
use super::kinds::numbers::Numbers;
use super::measure::{Errors, Layout};
use super::noise;
use super::verdict::StageVerdict;
use crate::pass::Precision;
use crate::roles::Roles;
use crate::stage::{Kind, Site, Stage};
use facts::Drifting;
use ndarray::ArrayD;

/// What is said of a failed stage. Spec: D11.2
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The cause; none if no suspect explains the stage.
    pub cause: Option<String>,
    /// Where there is no cause: the type in which the stage would pass.
    pub passes: Option<&'static str>,
}

impl Told {
    /// Adds it to the verdict.
    pub fn to(self, verdict: &mut StageVerdict) {
        if let (None, Some(passes)) = (&self.cause, self.passes) {
            verdict.words = format!("{}; {passes}", verdict.words);
        }
        verdict.cause = self.cause.unwrap_or_default();
    }
}

/// What is said of a failed stage. Spec: D11.2
pub(super) fn of(case: &Case<'_>, verdict: &StageVerdict) -> Told {
    let Some(at) = Stage::parse(&verdict.stage) else { return Told::default() };
    if let Some(words) = decisions::of(case, at, verdict) {
        return Told { cause: Some(words), passes: None };
    }
    if at.row().kind != Kind::Numbers || verdict.ratio.is_none() {
        return Told::default();
    }
    case.with_numbers(&verdict.stage, |numbers| {
        let known = |stage: Stage| value(case, stage);
        let honest = |kind: Precision, number: usize| {
            let again = case.again.filter(|_| number == 0)?;
            again.again(at, &facts::Change::Stored(kind.grid()))
        };
        let facts = Facts {
            at,
            numbers,
            slack: arc::of(case.golden, numbers.name, Layout::of(numbers.name, numbers.shape), None),
            rotation: rotation(case, at, numbers),
            known: &known,
            alike: alike(case, at, numbers),
            roles: case.roles(),
            again: case.again,
            halves: halves(case, numbers),
            honest: &honest,
            drift: drifting(case, numbers, verdict),
        };
        named(&facts, |lineup| {
            if at.site == Site::Importance {
                decisions::importances(lineup, case, at.layer);
            }
        })
    })
    .unwrap_or_default()
}

/// What is said of a failed stage of numbers, from plain data. more: adds suspects of the stage's own kind. Spec: D11.2
pub(super) fn named(facts: &Facts<'_>, more: impl FnOnce(&mut Lineup<'_>)) -> Told {
    let mut lineup = Lineup::new(facts);
    if facts.drift.is_none() {
        copies::stage(&mut lineup);
        copies::suspects(&mut lineup);
        moved::suspects(&mut lineup);
        pixels::suspects(&mut lineup);
        formats::suspects(&mut lineup);
        constant::suspects(&mut lineup);
        factors::suspects(&mut lineup);
        rotary::suspects(&mut lineup);
        attention::suspects(&mut lineup);
    }
    more(&mut lineup);
    if !lineup.is_solved() {
        layer::suspects(&mut lineup);
    }
    if !lineup.is_solved() {
        formats::narrow(&mut lineup);
        formats::halves(&mut lineup);
    }
    let passes = lineup.passes;
    Told { cause: lineup.words(), passes }
}

/// A stage of the candidate, or else of the golden, as numbers.
fn value(case: &Case<'_>, stage: Stage) -> Option<ArrayD<f64>> {
    let name = stage.name();
    let of = |bundle: &super::Bundle| bundle.get(&name).and_then(|_| bundle.f64(&name).ok());
    of(case.candidate).or_else(|| of(case.golden))
}

/// The noise of half types that a golden holds beside that of f32.
fn halves(case: &Case<'_>, numbers: &Numbers<'_>) -> Vec<(Precision, Errors)> {
    let layout = Layout::of(numbers.name, numbers.shape);
    let of = |kind| Some((kind, noise::read(case.golden, kind, numbers.name, layout)?));
    match numbers.precision {
        Precision::Fast | Precision::Truth => [Precision::Bf16, Precision::F16].into_iter().filter_map(of).collect(),
        _ => vec![],
    }
}

/// The candidate's other stages of the same shape, without those that are copies of this one by definition: the cache of a
/// run that evicts nothing, and the features that are the last layer's result. Spec: D11.4
fn alike(case: &Case<'_>, at: Stage, numbers: &Numbers<'_>) -> Vec<Stage> {
    let fits = |stage: &Stage| case.candidate.get(&stage.name()).is_some_and(|t| t.shape == numbers.shape);
    let copies = |other: &Stage| match (at.site, other.site) {
        (Site::Key, Site::CacheKey) | (Site::Value, Site::CacheValue) => at.layer == other.layer,
        (Site::VisionOut, Site::Features) => true,
        _ => false,
    };
    let all = Stage::sorted(case.candidate.names()).into_iter();
    all.filter(|stage| *stage != at && stage.row().kind == Kind::Numbers && fits(stage) && !copies(stage)).collect()
}

/// How the pairs of a rotated stage are turned, if the golden tells the frequencies.
fn rotation(case: &Case<'_>, at: Stage, numbers: &Numbers<'_>) -> Option<Rotation> {
    if !numbers.rotated {
        return None;
    }
    let layout = Layout::of(numbers.name, numbers.shape);
    let table = case.golden.get(arc::FREQUENCIES).and_then(|_| case.golden.f64(arc::FREQUENCIES).ok())?;
    let pairs = layout.width / 2;
    if table.shape() != [2, pairs] {
        return None;
    }
    let positions = case.placed()?;
    let n = *positions.shape().last()?;
    let (axes, flat) = (positions.len() / n.max(1), positions.into_iter().collect::<Vec<i64>>());
    let axis = |pair: usize| (table[[1, pair]] as usize).min(axes.saturating_sub(1));
    let of: Vec<i64> = match at.site {
        Site::Query | Site::Key => {
            let rows = if case.prunes() { case.left(at.layer).ok()? } else { (0..n).collect() };
            if layout.rows != rows.len() {
                return None;
            }
            (0..rows.len() * pairs).map(|i| flat[axis(i % pairs) * n + rows[i / pairs]]).collect()
        }
        Site::StepQuery | Site::StepKey => vec![flat.iter().max()? + 1 + at.step as i64; pairs],
        _ => return None,
    };
    Some(Rotation { frequencies: (0..pairs).map(|i| table[[0, i]]).collect(), positions: of })
}

/// What a drift is measured from, if only a drift fails.
fn drifting(case: &Case<'_>, numbers: &Numbers<'_>, verdict: &StageVerdict) -> Option<Drifting> {
    let noise = numbers.noise.as_ref().filter(|_| verdict.statistic == "drift")?;
    let layout = Layout::of(numbers.name, numbers.shape);
    let apart = |x: &[f64]| x.iter().zip(numbers.got).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let ways = (0..).map_while(|way| {
        let name = noise::way(way, numbers.name);
        case.golden.get(&name).and_then(|_| case.golden.flat(&name).ok())
    });
    let base = ways.chain([numbers.truth.to_vec()]).min_by(|a, b| apart(a).total_cmp(&apart(b)))?;
    let groups = Groups {
        rows: alike::groups(layout, numbers.truth, &noise.scale),
        cells: Cells::new(layout, numbers.truth, numbers.precision.grid()),
    };
    Some(Drifting { base, groups })
}

impl Case<'_> {
    /// The roles of the prompt's rows.
    fn roles(&self) -> Option<Vec<crate::roles::Role>> {
        let name = Stage::once(Site::Roles).name();
        let of = |bundle: &super::Bundle| bundle.get(&name).and_then(|_| bundle.i64(&name).ok());
        let found = of(self.candidate).or_else(|| of(self.golden))?;
        Roles::read(found).ok().map(|roles| roles.0)
    }
}
