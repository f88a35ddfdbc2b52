//! Which stages can be computed from the values that a bundle holds. Spec: D10.7

use super::answers::Answers;
use crate::stage::{Facts, Place, Site, Stage};

/// The values that a replay can compute from.
pub(super) struct Ground<'a> {
    /// Whether the bundle or the caller has a stage.
    pub has: &'a (dyn Fn(Stage) -> bool + Sync),
    /// The facts of model and prompt that decide from which stages a stage is computed.
    pub facts: Facts<'a>,
    /// The answers found so far.
    pub known: Answers<Stage, bool>,
}

impl Ground<'_> {
    /// Why a stage cannot exist: the model does not have its layer.
    pub fn beyond(&self, stage: Stage) -> Option<String> {
        let layers = self.facts.layers_of(stage.row())?;
        let kind = match stage.row().place {
            _ if stage.site == Site::Deepstack => "DeepStack",
            Place::VisionLayer => "vision",
            _ => "decoder",
        };
        let beyond = stage.layer >= layers;
        beyond.then(|| format!("layer {:02}: the model computes {layers} {kind} layers, counted from 00", stage.layer))
    }

    /// Whether every stage that a stage is computed from is present, or can itself be computed. A kept set can be
    /// computed where `decided` says that no honest noise could change it, and so can chosen rows; a token is either
    /// present or unknown.
    pub fn reaches(&self, stage: Stage, decided: &dyn Fn(Stage) -> bool) -> bool {
        self.known.get(stage, |&stage| {
            let Some(origins) = self.facts.origins(stage) else { return false };
            origins.iter().all(|&origin| match origin.site {
                Site::Kept => decided(origin),
                Site::Raters | Site::Into | Site::Rows => (self.has)(origin) || decided(origin),
                Site::OutputIds => (self.has)(origin),
                _ => (self.has)(origin) || self.reaches(origin, decided),
            })
        })
    }
}
