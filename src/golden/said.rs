//! The metadata of a bundle: its type and its policy; and whether two bundles name the same prompt.

use super::Bundle;
use crate::error::{Error, Result, ensure};
use crate::pass::Precision;
use crate::policy::{Policy, Retain, Scorer};
use crate::roles::Roles;
use crate::stage::{Site, Stage};

/// The type in which a candidate computed, from its metadata; of a candidate that computed in several types, the type of
/// all other stages.
///
/// # Errors
/// The candidate names no type, or an unknown type. Spec: C10.1b
pub fn precision(candidate: &Bundle) -> Result<Precision> {
    Types::of(candidate).map(|types| types.all)
}

/// The types in which a candidate computed its stages. Spec: D11.13
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Types {
    /// The type of every stage that no part names.
    pub all: Precision,
    /// Parts of stage names, each with its type; the first that fits a stage counts.
    parts: Vec<(String, Precision)>,
}

/// Types of a quantised cache, beside those that programs compute in.
const STORED: [&str; 5] = ["fp8_e4m3", "fp8_e4m3fnuz", "fp8_e5m2", "fp8_e5m2fnuz", "int8"];

impl Types {
    /// The types that a candidate's metadata name.
    ///
    /// # Errors
    /// As [`precision`].
    pub fn of(candidate: &Bundle) -> Result<Types> {
        let at = || format!("{}: metadata precision", candidate.label());
        let kinds = "f32, tf32, bf16, f16 or f64: it selects the ruler";
        let word = candidate.required("precision").map_err(|e| e.remedy(kinds))?;
        let unknown = |word: &str| {
            let shown: String = word.chars().take(40).collect();
            Error::new(at(), "f64, f32, tf32, bf16 or f16", format!("{shown:?}"))
        };
        if !word.trim_start().starts_with('{') {
            let all = known(word).ok_or_else(|| unknown(word))?;
            return Ok(Types { all, parts: vec![] });
        }
        let example = r#"{"cache": "fp8_e4m3", "*": "bf16"}"#;
        let parts: serde_json::Map<String, serde_json::Value> = serde_json::from_str(word)
            .map_err(|e| Error::new(at(), format!("a type, or types by part as {example}"), e))?;
        let (mut all, mut named) = (None, vec![]);
        for (part, kind) in parts {
            let kind = kind.as_str().unwrap_or_default();
            match (part.as_str(), known(kind)) {
                ("*", Some(kind)) => all = Some(kind),
                ("cache", None) if STORED.contains(&kind) => {}
                (_, Some(kind)) => named.push((part, kind)),
                (_, None) => {
                    return Err(unknown(kind).remedy("a cache may also be fp8_e4m3, fp8_e4m3fnuz, fp8_e5m2, int8"));
                }
            }
        }
        let all =
            all.ok_or_else(|| Error::new(at(), format!("the type of all other parts, as in {example}"), "no *"))?;
        Ok(Types { all, parts: named })
    }

    /// The type of a stage.
    pub fn at(&self, stage: &str) -> Precision {
        let fits = |part: &str| stage == part || stage.strip_prefix(part).is_some_and(|rest| rest.starts_with('.'));
        self.parts.iter().find(|(part, _)| fits(part)).map_or(self.all, |(_, kind)| *kind)
    }

    /// Every type, once: first that of all other stages.
    pub fn all(&self) -> Vec<Precision> {
        let mut all = vec![self.all];
        self.parts.iter().for_each(|(_, kind)| all.extend((!all.contains(kind)).then_some(*kind)));
        all
    }
}

/// A type by our name or torch's.
fn known(word: &str) -> Option<Precision> {
    let torch = [("float64", "f64"), ("float32", "f32"), ("bfloat16", "bf16"), ("float16", "f16")];
    let word = torch.iter().find(|(theirs, _)| *theirs == word).map_or(word, |(_, ours)| ours);
    Precision::ALL.into_iter().chain([Precision::Tf32]).find(|p| p.bundle_name() == word)
}

/// Checks that both bundles are of one model and one prompt, if both name them. Spec: C10.1c
pub(super) fn same(golden: &Bundle, candidate: &Bundle) -> Result<()> {
    for key in ["model", "family", "prompt", "images"] {
        let (Some(ours), Some(theirs)) = (golden.metadata(key), candidate.metadata(key)) else { continue };
        let alike = match (
            serde_json::from_str::<serde_json::Value>(ours),
            serde_json::from_str::<serde_json::Value>(theirs),
        ) {
            (Ok(a), Ok(b)) => a == b || ours == theirs,
            _ => ours == theirs,
        };
        let short = |s: &str| format!("{:?}", s.chars().take(60).collect::<String>());
        ensure!(
            alike,
            format!("{}: metadata {key}", candidate.label()),
            format!("{}, as in {}", short(ours), golden.label()),
            short(theirs),
            "two bundles can be compared only with the same model, images and prompt"
        );
    }
    let theirs = policy(candidate)?;
    if let (Some(ours), Some(theirs)) = (policy(golden)?, theirs) {
        ensure!(
            ours == theirs,
            format!("{}: metadata policy, retain", candidate.label()),
            format!("{} {}, as in {}", serde_json::json!(ours.0), ours.1, golden.label()),
            format!("{} {}", serde_json::json!(theirs.0), theirs.1)
        );
    }
    Ok(())
}

/// The policy and the retention that a bundle names; none if it names no policy.
///
/// # Errors
/// The bundle names a policy and no retention; a value is invalid. Spec: C10.1d
pub(super) fn policy(bundle: &Bundle) -> Result<Option<(Policy, Retain)>> {
    let at = |key: &str| format!("{}: metadata {key}", bundle.label());
    let Some(policy) = bundle.metadata("policy") else { return Ok(None) };
    let retain = bundle.metadata("retain").ok_or_else(|| {
        let remedy = "an eviction is known by both, for example policy = aircache, retain = 0.1";
        Error::new(at("retain"), "the retention beside the policy", "none").remedy(remedy)
    })?;
    // A name alone means the method with its default values.
    let policy: Policy = match policy.trim_start().starts_with('{') {
        true => {
            serde_json::from_str(policy).map_err(|e| Error::new(at("policy"), "a policy as JSON, or its name", e))?
        }
        false => policy.parse().map_err(|e: Error| Error { at: at("policy"), ..e })?,
    };
    let retain = match retain.strip_suffix(" tokens") {
        Some(tokens) => {
            let tokens = tokens.parse().map_err(|e| Error::new(at("retain"), "a number of tokens", e))?;
            Retain::tokens(tokens).map_err(|e| e.within(bundle.label()))?
        }
        None => retain.parse().map_err(|e: Error| e.within(bundle.label()))?,
    };
    Ok(Some((policy.at(retain), retain)))
}

/// Whether tokens were drawn at random, or given, instead of chosen as the greatest logits. Spec: T1.3
pub(super) fn is_sampled(bundle: &Bundle) -> bool {
    bundle.metadata("sampling").is_some_and(|how| how != "greedy")
}

/// Whether the run evicted what it was told to evict, as a golden's own kept sets, and decided nothing. Spec: T1.3
pub(super) fn is_given(bundle: &Bundle) -> bool {
    bundle.metadata("eviction") == Some("given")
}

/// The scorer of the policy for a bundle's prompt; none if the bundle does not hold enough.
pub(super) fn scorer(bundle: &Bundle, policy: Option<&(Policy, Retain)>) -> Option<Scorer> {
    let roles =
        bundle.get(&Stage::once(Site::Roles).name()).and_then(|_| bundle.i64(&Stage::once(Site::Roles).name()).ok())?;
    Scorer::new(&policy?.0, &Roles::read(roles).ok()?).ok()
}
