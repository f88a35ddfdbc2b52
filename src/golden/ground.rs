//! Which stages a bundle's own values reach: what can be computed from what the bundle holds. Spec: D10.7

use crate::stage::{Facts, Place, Stage};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a replay has to compute from.
pub(super) struct Ground<'a> {
    /// Whether the bundle, or the caller, has a stage.
    pub has: &'a dyn Fn(Stage) -> bool,
    /// What decides what stages are computed from.
    pub facts: Facts,
    /// What has been found out.
    pub known: RefCell<BTreeMap<Stage, bool>>,
}

impl Ground<'_> {
    /// Why a stage cannot be: the model lacks its layer.
    pub fn beyond(&self, stage: Stage) -> Option<String> {
        let (kind, layers) = match stage.row().place {
            Place::VisionLayer => ("vision", self.facts.vision_layers),
            Place::Layer | Place::StepLayer => ("decoder", self.facts.layers),
            Place::Once | Place::Step => return None,
        };
        let beyond = stage.layer >= layers;
        beyond.then(|| format!("layer {:02}: the model computes {layers} {kind} layers, counted from 00", stage.layer))
    }

    /// Whether everything that a stage is computed from is there, or can be computed in turn.
    pub fn reaches(&self, stage: Stage) -> bool {
        if let Some(&known) = self.known.borrow().get(&stage) {
            return known;
        }
        let Some(origins) = self.facts.origins(stage) else { return false };
        let reached = origins.iter().all(|&origin| (self.has)(origin) || self.reaches(origin));
        self.known.borrow_mut().insert(stage, reached);
        reached
    }
}
