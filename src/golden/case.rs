//! A case: the two bundles that are compared, and everything else that is known. The kinds of stages read a case. Not
//! here: which kind judges which stage.

use super::answers::Answers;
use super::causes::{Again, levels};
use super::fit::Drift;
use super::ground::Ground;
use super::held::Rows;
use super::kinds::numbers::{self, Numbers};
use super::lossy::Hull;
use super::measure::{Errors, Layout};
use super::progress::Ticks;
use super::rows::{self, Sample};
use super::said::Types;
use super::verdict::{Outcome, StageVerdict};
use super::{Bundle, arc, layouts, noise, rulers, said};
use crate::pass::Precision;
use crate::policy::{Heads, Policy, Retain, Scorer};
use crate::stage::{Site, Stage};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What the rule says of the numbers of entries that layers keep.
#[derive(Debug, Clone)]
pub(super) enum Counts {
    /// The rule gives these numbers.
    Same,
    /// The rule gives them from scores that are moved by at most their margins. Holds the rule's own numbers.
    Moved(Vec<usize>),
    /// The rule does not give them. Holds the rule's own numbers.
    Other(Vec<usize>),
    /// The scores that the rule needs are not known.
    Unknown(&'static str),
}

/// Everything that a candidate is judged by.
pub(super) struct Case<'a> {
    /// The golden: the truth and its noise.
    pub golden: &'a Bundle,
    /// The bundle that is judged.
    pub candidate: &'a Bundle,
    /// The candidate's type.
    pub precision: Precision,
    /// The types of its stages, where they differ. Spec: D11.13
    pub types: Types,
    /// In a replay, the stages that can be computed from the candidate's own values.
    pub ground: Option<Ground<'a>>,
    /// The scorer of the policy, if the golden names a policy.
    pub scorer: Option<Scorer>,
    /// The policy and the retention.
    pub policy: Option<(Policy, Retain)>,
    /// In a replay, the reason why the policy and later stages are not known. Spec: C10.7a
    pub undecided: Option<String>,
    /// In a replay, the direction that the errors of a stage follow. Spec: E10.10
    pub drifts: BTreeMap<String, Drift>,
    /// In a replay, a layer computed once more with a change, to find causes. Spec: D11.9
    pub again: Option<&'a dyn Again>,
    /// Counts the stages that are judged.
    pub ticks: Option<&'a Ticks<'a>>,
    /// The rows that each layer's cache holds, as far as they were asked for.
    pub held: Answers<usize, Result<Rows, &'static str>>,
    /// Why each layer's cache, and each step's tokens, are not the golden's, as far as that was asked for.
    pub evicted: Answers<usize, Option<&'static str>>,
    /// See `evicted`.
    pub fed: Answers<usize, Option<&'static str>>,
    /// In a replay, whether no image gives the rows the positions that the candidate has.
    pub unplaced: bool,
    /// V, in a replay.
    pub vocab: Option<usize>,
    /// What the rule says of the numbers of kept entries, once it was asked for.
    pub counted: OnceLock<Counts>,
}

impl<'a> Case<'a> {
    /// A case by a golden; a replay adds to it.
    pub fn new(golden: &'a Bundle, candidate: &'a Bundle, types: Types, policy: Option<(Policy, Retain)>) -> Case<'a> {
        let scorer = said::scorer(golden, policy.as_ref()).or_else(|| said::scorer(candidate, policy.as_ref()));
        Case {
            golden,
            candidate,
            precision: types.all,
            types,
            ground: None,
            scorer,
            policy,
            undecided: None,
            drifts: BTreeMap::new(),
            again: None,
            ticks: None,
            held: Answers::default(),
            evicted: Answers::default(),
            fed: Answers::default(),
            unplaced: false,
            vocab: None,
            counted: OnceLock::new(),
        }
    }
}

impl Case<'_> {
    /// The policy, and the number of kept sets of a layer.
    pub fn sets(&self, l: usize) -> Option<(Policy, usize)> {
        let policy = self.policy.as_ref()?.0.clone();
        let importance = self.golden.get(&Stage::layer(Site::Importance, l).name());
        let sets = match policy.heads {
            Heads::Kv | Heads::KvMax => self.kv_heads().or(importance.map(|i| i.shape[0]))?,
            _ => 1,
        };
        Some((policy, sets))
    }

    /// G, as any stage of keys or values shows it.
    fn kv_heads(&self) -> Option<usize> {
        let shows = |site: Site| {
            matches!(
                site,
                Site::Key | Site::Value | Site::CacheKey | Site::CacheValue | Site::StepKey | Site::StepValue
            )
        };
        let of = |bundle: &Bundle, name: &str| {
            let at = Stage::parse(name).filter(|at| shows(at.site))?;
            let shape = bundle.get(name)?.shape;
            (shape.len() == at.row().shape.split(',').count()).then(|| shape[0])
        };
        [self.golden, self.candidate].into_iter().find_map(|bundle| bundle.names().find_map(|name| of(bundle, name)))
    }

    /// The number of rows of the prompt.
    pub fn rows(&self) -> Option<usize> {
        let of = |b: &Bundle| b.get(&Stage::once(Site::Roles).name()).and_then(|t| t.shape.first().copied());
        let ids = |b: &Bundle| b.get(&Stage::once(Site::Ids).name()).and_then(|t| t.shape.first().copied());
        of(self.golden).or_else(|| of(self.candidate)).or_else(|| ids(self.golden)).or_else(|| ids(self.candidate))
    }

    /// Judges a stage of numbers against the golden's.
    pub fn numbers(&self, name: &str) -> StageVerdict {
        let mut verdict = self.with_numbers(name, numbers::judge).unwrap_or_else(|verdict| *verdict);
        if verdict.outcome == Outcome::Fail && Stage::parse(name).is_some_and(|at| at.site == Site::Pixels) {
            let told = self.with_numbers(name, |n| levels(n.shape, n.truth, n.got)).ok().flatten();
            verdict.words.extend(told.map(|told| format!("; {told}")));
        }
        if verdict.outcome == Outcome::Pass
            && Stage::parse(name).is_some_and(|at| at.site == Site::Pixels)
            && let (Ok(truth), Ok(got)) = (self.golden.flat(name), self.candidate.flat(name))
            && let Some(hull) = Hull::of(self.golden, truth.len())
        {
            verdict.words = hull.words(&truth, &got);
        }
        let kept = self.golden.get(name).map(|t| t.shape);
        if let Some(Ok(Some(sample))) = kept.map(|kept| Sample::of(self.golden, name, kept))
            && !verdict.index.is_empty()
        {
            verdict.index = sample.index(name, &verdict.index);
            let part = format!("{} of {} rows judged", sample.rows.len(), Layout::of(name, &sample.shape).rows);
            let counted = "; the row numbers count only these rows";
            verdict.words = match verdict.outcome {
                Outcome::Fail => format!("{}; {part}{counted}", verdict.words),
                _ => part,
            };
        }
        verdict
    }

    /// Applies a function to a stage of numbers. If there is nothing to compare, returns the verdict that says so.
    pub fn with_numbers<R>(
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
                "the golden does not have this stage"
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
            return Err(Box::new(StageVerdict::plain(name, Outcome::Pass, "every bit equals the stored truth")));
        }
        let got = match &sample {
            Some(sample) => rows::pick(Layout::of(name, &sample.shape), &sample.rows, &got),
            None => got,
        };
        let layout = Layout::of(name, &shape);
        let noise = noise::read(self.golden, self.types.at(name), name, layout);
        let at = Stage::parse(name);
        let pixels = at.is_some_and(|at| at.site == Site::Pixels);
        if noise.is_none() && !pixels {
            return not_judged("the golden has no noise for this stage: record it without --no-noise");
        }
        let mut truth = truth;
        let slack = arc::of(self.golden, name, layout, sample.as_ref().map(|s| &s.rows[..]));
        if let Some(slack) = &slack {
            arc::nearest(layout, slack, &mut truth, &got);
        }
        let (truth, got) = (&truth[..], &got[..]);
        if truth.is_empty() {
            return Err(Box::new(StageVerdict::plain(name, Outcome::Pass, "")));
        }
        let precision = if pixels { rulers::shown(self.precision, got) } else { self.types.at(name) };
        let noise = noise.or_else(|| Some(rulers::pixel_noise(layout, truth)));
        let query = at.and_then(|at| self.golden.get(&Stage::layer(Site::Query, at.layer).to_string()));
        let heads = query.map_or(1, |q| q.shape.first().copied().unwrap_or(1));
        let independent = self.ground.is_some();
        let mut numbers = Numbers {
            name,
            shape: &shape,
            truth,
            got,
            noise,
            rotated: slack.is_some(),
            precision,
            heads,
            independent,
            drift: self.drifts.get(name),
        };
        // The pixels of another decoder are honest. If they are not the candidate's only difference, words and causes are
        // found from the pixels of libjpeg-turbo.
        let hull = if pixels { Hull::of(self.golden, truth.len()) } else { None };
        let decoded = hull.map(|hull| hull.nearest(truth, got));
        if let Some(decoded) = &decoded {
            numbers.truth = decoded;
            if numbers::judge(&numbers).outcome != Outcome::Pass {
                numbers.truth = truth;
            }
        }
        Ok(what(&numbers))
    }

    /// Judges numbers of the candidate against a truth that is not in the golden under this stage's own name. as_stage:
    /// the stage whose noise is `noise`, in the shape of the truth.
    pub fn against(
        &self,
        at: Stage,
        as_stage: Stage,
        truth: (&[usize], &[f64]),
        got: &[f64],
        noise: Errors,
    ) -> StageVerdict {
        let (name, shape) = (&as_stage.name()[..], truth.0);
        let (layout, mut truth) = (Layout::of(name, shape), truth.1.to_vec());
        let slack = arc::of(self.golden, name, layout, None);
        if let Some(slack) = &slack {
            arc::nearest(layout, slack, &mut truth, got);
        }
        let verdict = numbers::judge(&Numbers {
            name,
            shape,
            truth: &truth,
            got,
            noise: Some(noise),
            rotated: slack.is_some(),
            precision: self.types.at(name),
            heads: 1,
            independent: false,
            drift: None,
        });
        StageVerdict { stage: at.name(), whole: None, ..verdict }
    }

    /// In a replay, the failure of a stage of numbers whose shape differs from the model's own. Spec: C10.4a, C10.4b
    pub fn unfit(&self, at: Stage) -> Option<StageVerdict> {
        let ours = self.golden.get(&at.name()).filter(|_| at.is_computed())?;
        self.misfit(&at.name(), ours.shape)
    }

    /// A failure for a shape that does not fit, with the error that the shape suggests. Spec: C10.4a
    pub fn misfit(&self, name: &str, shape: &[usize]) -> Option<StageVerdict> {
        let got = self.candidate.get(name)?.shape.to_vec();
        if got == shape {
            return None;
        }
        let hint = layouts::suggests(self.candidate, name, &got, shape);
        let words = format!("shape {got:?}, expected {shape:?}{hint}");
        Some(StageVerdict::plain(name, Outcome::Fail, words))
    }
}
