//! The causal order of stages, and what each is computed from. Not here: what a stage holds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A stage's name, taken apart: `decoder.07.mix` is part `decoder`, index 7, site `mix`.
pub(super) fn split(name: &str) -> Option<(&str, Option<usize>, &str)> {
    let mut words = name.split('.');
    let (part, second) = (words.next()?, words.next()?);
    let (index, site) = match words.next() {
        None => (None, second),
        Some(site) => (Some(second.parse().ok()?), site),
    };
    if words.next().is_some() { None } else { Some((part, index, site)) }
}

/// Where a stage stands in the flow; none for names that are no stages. Spec: D10.4
pub(super) fn rank(name: &str) -> Option<(usize, usize, usize)> {
    let (part, index, site) = split(name)?;
    let place = |sites: &[&str]| sites.iter().position(|s| *s == site);
    Some(match (part, index) {
        ("input", None) => (0, 0, place(&["sizes", "grid", "pixels", "ids", "roles", "positions"])?),
        ("vision", Some(l)) => (1, l, place(&["out"])?),
        ("vision", None) => (2, 0, place(&["features"])?),
        ("projector", None) => (3, 0, place(&["out"])?),
        ("decoder", None) if site == "embed" => (4, 0, 0),
        ("decoder", Some(l)) => (5, l, place(&["query", "key", "value", "mix", "out"])?),
        ("decoder", None) => (6, 0, place(&["norm", "logits"])?),
        ("policy", Some(l)) if site != "kept" => (7, l, place(&["attention", "window", "importance"])?),
        ("policy", None) => (8, 0, place(&["strength", "skewness", "budget"])?),
        ("policy", Some(l)) => (9, l, 0),
        ("cache", Some(l)) => (10, l, place(&["positions", "key", "value"])?),
        ("step", Some(t)) => (11, t, place(&["logits"])?),
        ("output", None) => (12, 0, place(&["ids"])?),
        _ => return None,
    })
}

/// Names in causal order, each once; names that are no stages are left out.
pub(super) fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let unique: BTreeSet<_> = names.filter_map(|name| Some((rank(name)?, name))).collect();
    unique.into_iter().map(|(_, name)| name).collect()
}

/// Which stages a bundle's own values reach: what can be computed from what the bundle holds. Spec: D10.7
pub(super) struct Ground<'a> {
    /// Whether the bundle, or the caller, has a stage.
    pub has: &'a dyn Fn(&str) -> bool,
    /// Decoder layers.
    pub layers: usize,
    /// The stage that tells how pixels lie.
    pub shape: &'static str,
    /// Vision layers that are computed.
    pub vision_layers: usize,
    /// Whether images decide where rows stand (M-RoPE).
    pub placed: bool,
    /// Whether the prompt has visual rows.
    pub visual: bool,
    /// What has been found out.
    pub known: RefCell<BTreeMap<String, bool>>,
}

impl Ground<'_> {
    /// Whether everything a stage is computed from is there, or can be computed in turn.
    pub fn reaches(&self, name: &str) -> bool {
        if let Some(&known) = self.known.borrow().get(name) {
            return known;
        }
        let Some(bases) = self.bases(name) else { return false };
        let reached = bases.iter().all(|base| (self.has)(base) || self.reaches(base));
        self.known.borrow_mut().insert(name.to_string(), reached);
        reached
    }

    /// What a stage is computed from; none for what comes from outside.
    fn bases(&self, name: &str) -> Option<Vec<String>> {
        let (part, index, site) = split(name)?;
        let beyond = match part {
            "vision" => index.is_some_and(|l| l >= self.vision_layers),
            "step" => false,
            _ => index.is_some_and(|l| l >= self.layers),
        };
        if beyond {
            return None;
        }
        let input = |l: usize| match l {
            0 => "decoder.embed".to_string(),
            l => format!("decoder.{:02}.out", l - 1),
        };
        let pixels = || vec!["input.pixels".to_string(), self.shape.into()];
        let of = |l: usize, part: &str, sites: &[&str]| -> Vec<String> {
            sites.iter().map(|site| format!("{part}.{l:02}.{site}")).collect()
        };
        let every =
            |part: &str, sites: &[&str]| -> Vec<String> { (0..self.layers).flat_map(|l| of(l, part, sites)).collect() };
        Some(match (part, index, site) {
            ("input", None, "positions") if self.placed => vec!["input.ids".into(), self.shape.into()],
            ("vision", Some(0), _) => pixels(),
            ("vision", Some(l), _) => vec![format!("vision.{:02}.out", l - 1)],
            ("vision", None, _) if self.vision_layers == 0 => pixels(),
            ("vision", None, _) => vec![format!("vision.{:02}.out", self.vision_layers - 1)],
            ("projector", ..) => vec!["vision.features".into(), self.shape.into()],
            ("decoder", None, "embed") if self.visual => vec!["input.ids".into(), "projector.out".into()],
            ("decoder", None, "embed") => vec!["input.ids".into()],
            ("decoder", Some(l), "query" | "key") if self.placed => vec![input(l), "input.positions".into()],
            ("decoder", Some(l), "query" | "key" | "value") => vec![input(l)],
            ("decoder", Some(l), "mix") => of(l, part, &["query", "key", "value"]),
            ("decoder", Some(l), _) => [vec![input(l)], of(l, part, &["mix"])].concat(),
            ("decoder", None, "norm") => vec![input(self.layers)],
            ("decoder", None, _) => vec!["decoder.norm".into()],
            ("policy", Some(l), "attention" | "window" | "importance") => of(l, "decoder", &["query", "key"]),
            ("policy", ..) => every("policy", &["importance"]),
            ("cache", Some(l), _) => [of(l, "decoder", &["key", "value"]), of(l, "policy", &["kept"])].concat(),
            ("step", ..) => [every("cache", &["key", "value"]), vec!["output.ids".into()]].concat(),
            ("output", ..) => vec!["decoder.logits".into()],
            _ => return None,
        })
    }
}
