//! A known method: its name, its parts and its source. Not here: which methods there are.

use super::{Budget, Evict, Policy};

/// A method with a name. Spec: T9.1
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// The name that `--policy` takes.
    pub name: &'static str,
    /// The parts.
    pub policy: Policy,
    /// A description of the method, in one line.
    pub line: &'static str,
    /// The source of the method.
    pub source: &'static str,
    /// How this library, the paper and public implementations differ; empty if no difference is known.
    pub notes: &'static str,
}

impl Preset {
    /// The groups in which the command `policies` lists the methods.
    pub const GROUPS: [&'static str; 6] = [
        "drops nothing",
        "drops entries after prefill",
        "merges entries after prefill",
        "drops visual rows inside prefill",
        "drops visual rows before the decoder",
        "AirCache with one other part (the paper's ablations)",
    ];

    /// The group of the method.
    pub fn group(&self) -> &'static str {
        let kind = self.policy.kind();
        let ablation = self.source == OURS && self.policy != Policy::AIRCACHE;
        if ablation && kind == Self::GROUPS[1] { Self::GROUPS[5] } else { kind }
    }
}

impl Policy {
    /// What the policy does, and when: one of [`Preset::GROUPS`].
    pub fn kind(&self) -> &'static str {
        match self.evict {
            _ if self.budget == Budget::Full && !self.prunes() => Preset::GROUPS[0],
            Evict::Nearest | Evict::Pivot | Evict::ElasticCode => Preset::GROUPS[2],
            Evict::Drop if self.prune.rater().is_some() => Preset::GROUPS[4],
            Evict::Drop if self.prunes() => Preset::GROUPS[3],
            Evict::Drop => Preset::GROUPS[1],
        }
    }

    /// The kind in a word: `before` (the decoder), `inside` (prefill), `after` (prefill), `merge`, or `none` if the policy
    /// drops nothing.
    pub fn when(&self) -> &'static str {
        let words = ["none", "after", "merge", "inside", "before"];
        let kind = Preset::GROUPS.iter().zip(words).find(|(group, _)| **group == self.kind());
        match kind {
            Some((_, word)) => word,
            None => unreachable!("T9.1: one of five kinds"),
        }
    }
}

/// The source of AirCache.
pub(super) const OURS: &str = "AirCache, arXiv 2503.23956";

/// A row of the table of methods.
pub(super) const fn table(
    name: &'static str,
    policy: Policy,
    line: &'static str,
    source: &'static str,
    notes: &'static str,
) -> Preset {
    Preset { name, policy, line, source, notes }
}
