//! Names of stages: the tensor names of a bundle, and the report lines.

use std::fmt;

/// The part of the flow that a stage belongs to, in causal order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What goes in: `input.ids`, `input.pixels`, ….
    Input,
    /// The vision tower.
    Vision,
    /// The projector.
    Projector,
    /// The language model's prefill.
    Decoder,
    /// The compression's decisions.
    Policy,
    /// The cache after eviction.
    Cache,
    /// Decode steps; their number has four digits.
    Step,
    /// What comes out.
    Output,
}

impl Part {
    /// The name's first word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Input => "input",
            Part::Vision => "vision",
            Part::Projector => "projector",
            Part::Decoder => "decoder",
            Part::Policy => "policy",
            Part::Cache => "cache",
            Part::Step => "step",
            Part::Output => "output",
        }
    }
}

/// A place in the flow where a value can be seen: `decoder.07.mix`. Spec: D1.3
///
/// ```
/// use aircache::pass::{Part, Stage};
/// assert_eq!(Stage::layer(Part::Decoder, 7, "mix").to_string(), "decoder.07.mix");
/// assert_eq!(Stage::layer(Part::Step, 7, "logits").to_string(), "step.0007.logits");
/// assert_eq!(Stage::at(Part::Decoder, "norm").to_string(), "decoder.norm");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage {
    /// The part of the flow.
    pub part: Part,
    /// The layer, or the step.
    pub index: Option<usize>,
    /// What is seen there.
    pub site: &'static str,
}

impl Stage {
    /// A stage of which there is one.
    pub fn at(part: Part, site: &'static str) -> Self {
        Stage { part, index: None, site }
    }

    /// A stage of a layer, or of a step.
    pub fn layer(part: Part, index: usize, site: &'static str) -> Self {
        Stage { part, index: Some(index), site }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, site) = (self.part.name(), self.site);
        match self.index {
            None => write!(f, "{part}.{site}"),
            Some(i) if self.part == Part::Step => write!(f, "{part}.{i:04}.{site}"),
            Some(i) => write!(f, "{part}.{i:02}.{site}"),
        }
    }
}
