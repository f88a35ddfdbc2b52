//! The stages of the decoder, for prompt rows and for decode steps.

use super::name::Stage;
use super::row::Site;

/// The stages of one decoder layer.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the table says what each is")]
pub struct LayerStages {
    pub query: Stage,
    pub key: Stage,
    pub value: Stage,
    pub mix: Stage,
    pub out: Stage,
}

/// When rows go through the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The prompt's rows.
    Prefill,
    /// The generated token of this number.
    Step(usize),
}

impl Phase {
    /// The stages of a layer.
    pub fn at(self, layer: usize) -> LayerStages {
        let [query, key, value, mix, out] = match self {
            Phase::Prefill => {
                [Site::Query, Site::Key, Site::Value, Site::Mix, Site::Out].map(|site| Stage::layer(site, layer))
            }
            Phase::Step(step) => [Site::StepQuery, Site::StepKey, Site::StepValue, Site::StepMix, Site::StepOut]
                .map(|site| Stage::of_step(site, step, layer)),
        };
        LayerStages { query, key, value, mix, out }
    }

    /// The stage of the logits.
    pub fn logits(self) -> Stage {
        match self {
            Phase::Prefill => Stage::once(Site::Logits),
            Phase::Step(step) => Stage::step(Site::StepLogits, step),
        }
    }
}
