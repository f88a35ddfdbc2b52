//! The rows that a candidate's layers have, where a policy drops rows inside prefill: what the candidate recorded, what
//! its kept sets or its cache show, or what no honest noise could change. Not here: whether these are the right rows.

use super::Bundle;
use super::case::Case;
use super::held::{Rows, left, list};
use super::kinds::pruned::firm;
use crate::policy::Cut;
use crate::stage::{Site, Stage};

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

    /// Where the rows that a cache holds stand among the rows of the layer's keys: after a cut, keys were computed only for
    /// the rows that were left.
    pub fn sources(&self, held: &Rows) -> Rows {
        if self.prunes() { held.iter().map(|rows| (0..rows.len()).collect()).collect() } else { held.clone() }
    }

    /// Why a stage of the prompt does not follow from the golden's own rows; none if it does. Spec: C9.9c
    pub fn other_rows(&self, at: Stage) -> Option<&'static str> {
        let follows = at.row().part == "decoder" && at.site != Site::Embed;
        if self.ground.is_some() || !self.prunes() || !follows {
            return None;
        }
        let end = match at.site {
            Site::Norm | Site::Logits => usize::MAX,
            Site::Votes | Site::Rows => at.layer,
            _ => at.layer + 1,
        };
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
