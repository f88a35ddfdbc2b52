//! The rows that a candidate's layers have, where a policy drops rows before the decoder or inside prefill: what the candidate recorded, what
//! its kept sets or its cache show, or what no honest noise could change. Not here: whether these are the right rows.

use super::Bundle;
use super::case::Case;
use super::held::{Rows, left, list};
use super::kinds::pruned::firm;
use super::kinds::{raters, zip};
use crate::family::{Family, Tower};
use crate::input::Positions;
use crate::policy::{Cut, Policy, Rater};
use crate::stage::{Site, Stage};
use ndarray::ArrayD;

/// The stages that rows are summed from before the decoder, if the policy merges some. Spec: E9.36
pub(super) fn summed(policy: &Policy, family: &dyn Family, lie: Site) -> Vec<Stage> {
    match policy.prune.rater() {
        Some(Rater::Zip) if family.sums_features() => vec![Stage::once(Site::Features), Stage::once(lie)],
        Some(Rater::Zip) => vec![Stage::once(Site::Projected)],
        _ => vec![],
    }
}

/// The stages that a policy's votes before layer 0 are computed from; lie: the stage that gives the arrangement of
/// pixels. Spec: D9.10
pub(super) fn rated(policy: &Policy, tower: Tower, lie: Site) -> Vec<Stage> {
    let Some(by) = policy.prune.rater() else { return vec![] };
    match (by.in_tower(tower.class), tower.used.checked_sub(2)) {
        (None, _) => vec![Stage::once(Site::Projected)],
        (Some(_), Some(layer)) => vec![Stage::layer(Site::VisionOut, layer), Stage::once(lie)],
        (Some(_), None) => vec![Stage::once(Site::Pixels), Stage::once(lie)],
    }
}

impl Case<'_> {
    /// The cuts of the policy; none if the policy or the prompt is not known.
    pub fn cuts(&self) -> Vec<Cut> {
        let known = self.policy.as_ref().zip(self.scorer.as_ref()).zip(self.layers());
        let cuts = known.map(|((policy, scorer), layers)| policy.0.prune.cuts(layers, scorer.candidates().len()));
        cuts.and_then(Result::ok).unwrap_or_default()
    }

    /// Whether the policy drops rows inside prefill.
    pub fn prunes(&self) -> bool {
        self.policy.as_ref().is_some_and(|(policy, _)| policy.prunes())
    }

    /// The rows that a bundle says a layer has.
    pub(super) fn left_in(&self, bundle: &Bundle, l: usize) -> Option<Vec<usize>> {
        let (cuts, n) = (self.cuts(), self.rows()?);
        if cuts.iter().all(|cut| cut.layer > l) {
            return Some((0..n).collect());
        }
        left(bundle, self.scorer.as_ref()?, &cuts, l, self.positions().as_ref())
    }

    /// The rows that a layer of the candidate has. Spec: C9.9b
    ///
    /// # Errors
    /// The reason why they are not known.
    pub fn left(&self, l: usize) -> Result<Vec<usize>, &'static str> {
        if let Some(rows) = self.left_in(self.candidate, l) {
            return Ok(rows);
        }
        let cut = self.cuts().into_iter().rev().find(|cut| cut.layer <= l);
        firm(self, cut.ok_or("the number of prompt rows is not known")?)
    }

    /// The rows that the layer before a cut has; all rows before the decoder.
    ///
    /// # Errors
    /// As [`left`](Self::left).
    pub fn before(&self, cut: Cut) -> Result<Vec<usize>, &'static str> {
        match cut.layer {
            0 => self.rows().map(|n| (0..n).collect()).ok_or("the number of prompt rows is not known"),
            layer => self.left(layer - 1),
        }
    }

    /// The positions of the prompt rows in the decoder: counted anew where rows are dropped before it. Spec: C9.10a
    pub fn placed(&self) -> Option<ArrayD<i64>> {
        let mut all = self.positions()?;
        if all.ndim() == 1 && self.cuts().first().is_some_and(|cut| cut.layer == 0) {
            let left = self.left(0).ok()?;
            let rows = Positions::in_order(all.len()).closed(&left);
            all.iter_mut().enumerate().for_each(|(row, position)| *position = rows.at(row, 0));
        }
        Some(all)
    }

    /// Where the rows that a cache holds stand among the rows of the layer's keys: after a cut, keys were computed only for
    /// the rows that were left.
    pub fn sources(&self, held: &Rows) -> Rows {
        if self.prunes() { held.iter().map(|rows| (0..rows.len()).collect()).collect() } else { held.clone() }
    }

    /// Why rows that are merged before the decoder do not follow from the golden's own choice; none if they do. Spec: C9.12c
    pub(super) fn other_merges(&self) -> Option<&'static str> {
        let zips = self.cuts().first().is_some_and(|cut| cut.by == Rater::Zip);
        if !zips || self.ground.is_some() {
            return None;
        }
        match (zip::own(self, self.golden), zip::own(self, self.candidate)) {
            (None, _) => Some("the golden does not say which rows are merged"),
            (_, None) => Some("the bundle does not say which rows are merged"),
            (ours, got) if ours == got => None,
            _ => Some("the rows that are merged differ from the golden's; a replay (--model) judges this stage"),
        }
    }

    /// Why a stage of the prompt does not follow from the golden's own rows; none if it does. Spec: C9.9c
    pub fn other_rows(&self, at: Stage) -> Option<&'static str> {
        let follows = at.row().part == "decoder" && !matches!(at.site, Site::Embed | Site::Relevance | Site::Raters);
        if self.ground.is_some() || !self.prunes() || !follows {
            return None;
        }
        let end = match at.site {
            Site::Norm | Site::Logits => usize::MAX,
            Site::Votes | Site::Metric | Site::Into | Site::Rows | Site::Merged => at.layer,
            _ => at.layer + 1,
        };
        let polled = |cut: &Cut| cut.layer == at.layer && cut.by == Rater::Text;
        if at.site == Site::Votes && self.cuts().iter().any(polled) {
            match raters::raters(self) {
                Ok(got) if list(self.golden, &Stage::once(Site::Raters).name()).is_some_and(|ours| ours == got) => {}
                Ok(_) => {
                    return Some("the rows that rate differ from the golden's; a replay (--model) judges this stage");
                }
                Err(why) => return Some(why),
            }
        }
        let before = matches!(at.site, Site::Votes | Site::Metric | Site::Into | Site::Rows) && at.layer == 0;
        if let Some(why) = self.other_merges().filter(|_| !before) {
            return Some(why);
        }
        self.cuts().into_iter().filter(|cut| cut.layer < end).find_map(|cut| {
            let Some(ours) = list(self.golden, &Stage::layer(Site::Rows, cut.layer).name()) else {
                return Some("the golden does not say which rows are left");
            };
            match self.left(cut.layer) {
                Ok(got) if got == ours => None,
                Ok(_) => Some("the rows that are left differ from the golden's; a replay (--model) judges this stage"),
                Err(why) => Some(why),
            }
        })
    }
}
