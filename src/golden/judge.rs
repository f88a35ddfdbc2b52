//! Judging a candidate against a golden, stage by stage in causal order. A replay is judged by the same code: its golden
//! was computed from the candidate's own inputs.

use super::decisions;
use super::drift::Drift;
use super::ground::Ground;
use super::map::{Map, worst};
use super::measure::Layout;
use super::numbers::{self, Numbers};
use super::rows::{self, Sample};
use super::said::{policy, precision, same, scorer};
use super::verdict::{Outcome, StageVerdict, Verdict};
use super::{Bundle, noise};
use crate::error::{Result, ensure};
use crate::pass::Precision;
use crate::policy::{Policy, Retain, Scorer};
use crate::stage::{Site, Stage};
use crate::weights::file::shortened;
use std::collections::BTreeMap;

/// What a candidate is judged by.
pub(super) struct Judge<'a> {
    /// The truth, and its noise.
    pub golden: &'a Bundle,
    /// Who is judged.
    pub candidate: &'a Bundle,
    /// The candidate's type.
    pub precision: Precision,
    /// In a replay, what the candidate's own values reach.
    pub ground: Option<Ground<'a>>,
    /// The policy at work, where the golden says so.
    pub scorer: Option<Scorer>,
    /// The policy.
    pub policy: Option<(Policy, Retain)>,
    /// In a replay, why nothing is known from the policy on. Spec: C10.7a
    pub undecided: Option<String>,
    /// In a replay, what the errors of a stage follow. Spec: E10.10
    pub drifts: BTreeMap<String, Drift>,
}

/// The verdict on a candidate by a golden. Spec: D10.5, C10.1a
///
/// # Errors
/// A golden without truth or noise; a candidate of another model, prompt or policy, without stages, or without a type.
///
/// ```
/// # fn main() -> aircache::Result<()> {
/// use aircache::golden::{Bundle, BundleWriter, check};
/// # let folder = tempfile::tempdir().unwrap();
/// # let (golden, candidate) = (folder.path().join("golden"), folder.path().join("candidate"));
/// let mut g = BundleWriter::create(&golden)?;
/// g.put_i64("input.ids", &[2], &[5, 7])?;
/// g.finish([("precision", "f64"), ("noise", "1")])?;
/// let mut c = BundleWriter::create(&candidate)?;
/// c.put_i64("input.ids", &[2], &[5, 8])?;
/// c.finish([("precision", "bf16")])?;
/// let verdict = check(&Bundle::open(&golden)?, &Bundle::open(&candidate)?)?;
/// assert_eq!(verdict.first_divergence().unwrap().stage, "input.ids");
/// # Ok(()) }
/// ```
pub fn check(golden: &Bundle, candidate: &Bundle) -> Result<Verdict> {
    let at = |what: &str| format!("{}: {what}", golden.label());
    let remedy = "record it at precision truth, without --no-noise, or replay with --model";
    let truth = golden.required("precision")?;
    ensure!(truth == "f64", at("metadata precision"), "f64, the truth", format!("{truth:?}"), remedy);
    ensure!(
        golden.metadata("noise").is_some(),
        at("metadata noise"),
        "the noise of honest computations",
        "none",
        remedy
    );
    let precision = precision(candidate)?;
    same(golden, candidate)?;
    noise::check(golden, precision)?;
    let policy = policy(golden)?;
    let scorer = scorer(golden, policy.as_ref());
    Judge { golden, candidate, precision, ground: None, scorer, policy, undecided: None, drifts: BTreeMap::new() }
        .verdict("golden")
}

impl Judge<'_> {
    /// Judges every stage. Spec: D10.4, D10.5
    ///
    /// # Errors
    /// A candidate without any stage; stages that memory cannot hold.
    pub fn verdict(&self, mode: &'static str) -> Result<Verdict> {
        let known = Stage::sorted(self.candidate.names());
        ensure!(
            !known.is_empty(),
            self.candidate.label(),
            "at least one stage",
            "none",
            "stages are named as in decoder.07.mix; `record` writes an example"
        );
        // Of both, and of errors beside them.
        self.golden.fits(3)?;
        self.candidate.fits(6)?;
        let missing = Stage::sorted(self.golden.names()).into_iter().map(|at| at.to_string());
        let missing = missing.filter(|name| self.candidate.get(name).is_none());
        let unknown: Vec<&str> =
            self.candidate.names().filter(|n| Stage::parse(n).is_none() && !n.starts_with("noise.")).collect();
        let mut notes = vec![];
        if !unknown.is_empty() {
            let mut few: Vec<String> = unknown.iter().take(8).map(|name| shortened(name)).collect();
            few.extend((unknown.len() > few.len()).then(|| format!("{} more", unknown.len() - few.len())));
            notes.push(format!("no stages, and not judged: {}", few.join(", ")));
        }
        if let (Some(ours), Some(theirs)) = (self.golden.metadata("preprocess"), self.candidate.metadata("preprocess"))
            && ours != theirs
        {
            notes.push(format!("pixels were resized by {theirs} in the candidate, by {ours} in the golden"));
        }
        let stages: Vec<StageVerdict> = known.iter().map(|&at| self.stage(at)).collect();
        let map = worst(&stages).and_then(|name| self.with_numbers(name, Map::of).ok());
        Ok(Verdict {
            mode,
            precision: match self.precision {
                Precision::Truth => Precision::Fast.bundle_name(),
                other => other.bundle_name(),
            },
            stages,
            missing: if mode == "golden" { missing.collect() } else { vec![] },
            notes,
            map,
        })
    }

    /// Judges one stage.
    fn stage(&self, at: Stage) -> StageVerdict {
        let (name, part) = (&at.to_string()[..], at.row().part);
        if let Some(ground) = &self.ground {
            let judged = part == "input" || ground.reaches(at);
            if !judged {
                let words = "what it is computed from is not in the bundle";
                return StageVerdict::plain(name, Outcome::NotJudged, words);
            }
        }
        if let Some(why) = self.undecided.as_ref().filter(|_| matches!(part, "policy" | "cache" | "step")) {
            return StageVerdict::plain(name, Outcome::NotJudged, why);
        }
        match decisions::judge(self, at, name) {
            Some(verdict) => verdict,
            None => self.numbers(name),
        }
    }

    /// Judges a stage of numbers against the golden's.
    pub fn numbers(&self, name: &str) -> StageVerdict {
        let mut verdict = self.with_numbers(name, numbers::judge).unwrap_or_else(|verdict| *verdict);
        let kept = self.golden.get(name).map(|t| t.shape);
        if let Some(Ok(Some(sample))) = kept.map(|kept| Sample::of(self.golden, name, kept))
            && !verdict.index.is_empty()
        {
            verdict.index = sample.index(name, &verdict.index);
            let part = format!("{} of {} rows judged", sample.rows.len(), Layout::of(name, &sample.shape).rows);
            let counted = "; rows in words are counted among these";
            verdict.words = match verdict.outcome {
                Outcome::Fail => format!("{}; {part}{counted}", verdict.words),
                _ => part,
            };
        }
        verdict
    }

    /// Does something with a stage of numbers; where there is nothing to compare, the verdict that says so.
    fn with_numbers<R>(
        &self,
        name: &str,
        what: impl FnOnce(&Numbers<'_>) -> R,
    ) -> std::result::Result<R, Box<StageVerdict>> {
        let not_judged = |words: &str| Err(Box::new(StageVerdict::plain(name, Outcome::NotJudged, words)));
        let Some(ours) = self.golden.get(name) else {
            let input = Stage::parse(name).is_some_and(|at| at.row().part == "input") && self.ground.is_some();
            return not_judged(if input {
                "give --image and --prompt to have it judged"
            } else {
                "the golden does not hold it"
            });
        };
        let shape = ours.shape.to_vec();
        let sample = match Sample::of(self.golden, name, &shape) {
            Ok(sample) => sample,
            Err(why) => return not_judged(why),
        };
        if let Some(fail) = self.misfit(name, sample.as_ref().map_or(&shape, |s| &s.shape)) {
            return Err(Box::new(fail));
        }
        let (Ok(truth), Ok(got)) = (self.golden.flat(name), self.candidate.flat(name)) else {
            let words = format!(
                "stored as {}, expected F64, F32, BF16 or F16",
                self.candidate.get(name).map_or("?".into(), |t| t.dtype.to_string())
            );
            return Err(Box::new(StageVerdict::plain(name, Outcome::Fail, words)));
        };
        if sample.as_ref().is_some_and(|s| s.is_equal(self.golden, self.candidate, name)) {
            return Err(Box::new(StageVerdict::plain(
                name,
                Outcome::Pass,
                "the truth as the type stores it, every bit",
            )));
        }
        let got = match &sample {
            Some(sample) => rows::pick(Layout::of(name, &sample.shape), &sample.rows, &got),
            None => got,
        };
        let layout = Layout::of(name, &shape);
        let noise = noise::read(self.golden, self.precision, name, layout);
        let at = Stage::parse(name);
        let pixels = at.is_some_and(|at| at.site == Site::Pixels);
        if noise.is_none() && !pixels {
            return not_judged("the golden holds no noise for it");
        }
        let (truth, got) = (&truth[..], &got[..]);
        if truth.is_empty() {
            return Err(Box::new(StageVerdict::plain(name, Outcome::Pass, "")));
        }
        let precision = if pixels { numbers::shown(self.precision, got) } else { self.precision };
        let noise = noise.or_else(|| Some(decisions::pixel_noise(layout, truth)));
        let query = at.and_then(|at| self.golden.get(&Stage::layer(Site::Query, at.layer).to_string()));
        let heads = query.map_or(1, |q| q.shape.first().copied().unwrap_or(1));
        let independent = self.ground.is_some();
        Ok(what(&Numbers {
            name,
            shape: &shape,
            truth,
            got,
            noise,
            precision,
            heads,
            independent,
            drift: self.drifts.get(name),
        }))
    }

    /// A failure for a shape that does not fit, with what it looks like. Spec: C10.4a
    pub fn misfit(&self, name: &str, shape: &[usize]) -> Option<StageVerdict> {
        let got = self.candidate.get(name)?.shape.to_vec();
        if got == shape {
            return None;
        }
        let mut sorted = (got.clone(), shape.to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        let squeezed: Vec<usize> = got.iter().copied().filter(|&s| s != 1).collect();
        let hint = if sorted.0 == sorted.1 {
            "; the same sides in another order: transposed?"
        } else if squeezed == shape {
            "; a side of 1 too many: a batch?"
        } else if got.len() == shape.len() && got.iter().zip(shape).filter(|(a, b)| a != b).count() == 1 {
            "; one side differs: another number of rows or heads"
        } else {
            ""
        };
        let words = format!("shape {got:?}, expected {shape:?}{hint}");
        Some(StageVerdict::plain(name, Outcome::Fail, words))
    }
}
