//! Judges a candidate against a golden, stage by stage in causal order. The same code judges a replay: the golden of a
//! replay is computed from the candidate's own inputs.

use super::case::Case;
use super::formats::SCALE;
use super::kinds::{copies, integers, kept, pruned, raters, scores, shares, tokens, windows, zip};
use super::lanes::TOGETHER;
use super::map::{map, worst};
use super::measure::{ROWS_FOR_COLUMNS, unravel};
use super::progress::{Progress, Ticks};
use super::said::{Types, is_given, policy, same};
use super::verdict::{Outcome, StageVerdict, Verdict};
use super::{Bundle, causes, layouts, noise};
use crate::error::{Result, ensure};
use crate::pass::Precision;
use crate::stage::{Site, Stage};
use crate::weights::file::shortened;
use rayon::prelude::*;

/// The verdict on a candidate against a golden. Spec: D10.5, C10.1a
///
/// # Errors
/// The golden has no truth or no noise. The candidate is of another model, prompt or policy, has no stages, or names no
/// type.
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
    check_told(golden, candidate, &|_| ())
}

/// As [`check`]; `tell` is told how far it is.
///
/// # Errors
/// As [`check`].
pub fn check_told(golden: &Bundle, candidate: &Bundle, tell: &(dyn Fn(&Progress) + Sync)) -> Result<Verdict> {
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
    let types = Types::of(candidate)?;
    ensure!(
        !types.all().contains(&Precision::Tf32),
        format!("{}: metadata precision", candidate.label()),
        "f64, f32, bf16 or f16: a golden has no noise of tf32",
        "tf32",
        "replay it: give --model in place of the golden"
    );
    same(golden, candidate)?;
    types.all().into_iter().try_for_each(|precision| noise::check(golden, precision))?;
    let vocab = golden.get(&Stage::once(Site::Logits).name()).and_then(|t| t.shape.first().copied());
    let (candidate, notes) = layouts::accepted(candidate, vocab);
    let ticks = Ticks::new(tell, &candidate, 0, 0);
    let case = Case::new(golden, &candidate, types, policy(golden)?);
    let mut verdict = Case { ticks: Some(&ticks), ..case }.verdict("golden")?;
    verdict.notes.splice(0..0, notes);
    Ok(verdict)
}

/// Whether a tensor stands beside a stage: noise, or the scales of a quantised cache.
fn beside(name: &str) -> bool {
    let scaled = name.strip_suffix(SCALE).and_then(Stage::parse);
    name.starts_with("noise.") || scaled.is_some_and(|at| at.row().part == "cache")
}

impl Case<'_> {
    /// Judges every stage. Spec: D10.4, D10.5
    ///
    /// # Errors
    /// The candidate has no stages.
    pub fn verdict(&self, mode: &'static str) -> Result<Verdict> {
        let known = Stage::sorted(self.candidate.names());
        ensure!(
            !known.is_empty(),
            self.candidate.label(),
            "at least one stage",
            "none",
            "stages are named as in decoder.07.mix; `record` writes an example"
        );
        let missing = Stage::sorted(self.golden.names()).into_iter().map(|at| at.to_string());
        let missing = missing.filter(|name| self.candidate.get(name).is_none());
        let unknown = self.candidate.names().filter(|name| Stage::parse(name).is_none() && !beside(name));
        let unknown: Vec<_> = unknown.map(|name| (shortened(name), Stage::meant(name).map(Stage::name))).collect();
        let mut notes = vec![];
        if let (Some(ours), Some(theirs)) = (self.golden.metadata("preprocess"), self.candidate.metadata("preprocess"))
            && ours != theirs
        {
            notes.push(format!("pixels were resized by {theirs} in the candidate, by {ours} in the golden"));
        }
        if let Some(rows) = self.rows().filter(|&rows| rows < ROWS_FOR_COLUMNS) {
            notes.push(format!(
                "the prompt has {rows} rows: columns, gains, trends and drifts are judged from {ROWS_FOR_COLUMNS} rows on, so an error that is \
                 small everywhere passes here: judge a longer prompt as well"
            ));
        }
        let mut stages = self.stages(&known);
        if let Some(late) = kept::late_ties(self)
            && let Some(stage) = stages.iter_mut().find(|s| s.stage == late.stage && s.outcome != Outcome::Fail)
        {
            *stage = late;
        }
        if let Some(first) =
            stages.iter_mut().filter(|s| s.outcome == Outcome::Fail).min_by_key(|s| Stage::parse(&s.stage))
        {
            causes::of(self, first).to(first);
        }
        let reason = stages.first().map_or(String::new(), |s| format!("; {}: {}", s.stage, s.words));
        ensure!(
            stages.iter().any(|s| s.outcome != Outcome::NotJudged),
            self.candidate.label(),
            "at least one stage that can be judged",
            format!("{} stages, none of them judged{reason}", stages.len()),
            "record the stages that these are computed from, or give a golden that holds them"
        );
        let map = worst(&stages).and_then(|name| self.with_numbers(name, map).ok());
        Ok(Verdict {
            mode,
            precision: match self.precision {
                Precision::Truth => Precision::Fast.bundle_name(),
                other => other.bundle_name(),
            },
            stages,
            missing: if mode == "golden" { missing.collect() } else { vec![] },
            unknown,
            strict: false,
            notes,
            map,
        })
    }

    /// Judges stages: small ones side by side, as far as they have [`TOGETHER`] numbers.
    fn stages(&self, all: &[Stage]) -> Vec<StageVerdict> {
        let numbers = |at: Stage| self.candidate.get(&at.name()).map_or(0, |t| t.shape.iter().product::<usize>());
        let mut verdicts = Vec::with_capacity(all.len());
        let (mut first, mut waiting) = (0, 0);
        for (i, &at) in all.iter().enumerate() {
            self.ticks.iter().for_each(|ticks| ticks.see(at));
            waiting += numbers(at);
            if waiting >= TOGETHER || i + 1 == all.len() {
                verdicts.par_extend(all[first..=i].par_iter().map(|&at| self.stage(at)));
                (first, waiting) = (i + 1, 0);
            }
        }
        verdicts
    }

    /// Judges one stage. Spec: C10.2a
    fn stage(&self, at: Stage) -> StageVerdict {
        let verdict = self.judged(at);
        match verdict.outcome {
            // What is not judged excuses nothing: later stages would stand on these numbers.
            Outcome::NotJudged if at.is_computed() || at.row().part == "cache" => self.broken(at).unwrap_or(verdict),
            _ => verdict,
        }
    }

    /// The failure of a stage that nothing judges, but that no honest program computes: it holds NaN, or mostly
    /// infinities. Spec: C10.2a
    fn broken(&self, at: Stage) -> Option<StageVerdict> {
        let name = at.name();
        let got = self.candidate.flat(&name).ok()?;
        let (nan, infinite) =
            (got.iter().filter(|v| v.is_nan()).count(), got.iter().filter(|v| v.is_infinite()).count());
        let overflows = self.precision == Precision::F16 && nan == 0 && 2 * infinite <= got.len();
        if nan + infinite == 0 || overflows {
            return None;
        }
        let first = got.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let shape = self.candidate.get(&name).map(|t| t.shape.to_vec()).unwrap_or_default();
        let words = format!("{} of {} numbers are NaN or infinite", nan + infinite, got.len());
        Some(StageVerdict::plain(&name, Outcome::Fail, words).at(unravel(first, &shape), f64::NAN, got[first]))
    }

    /// Judges one stage by what is known.
    fn judged(&self, at: Stage) -> StageVerdict {
        let (name, part) = (&at.name()[..], at.row().part);
        if let Some(ground) = &self.ground {
            if let Some(words) = ground.beyond(at) {
                return StageVerdict::plain(name, Outcome::Fail, words);
            }
            // A value in another layout is wrong at its own stage: later stages cannot be computed from that value.
            if let Some(fail) = self.unfit(at) {
                return fail;
            }
            // Decisions, the cache and tokens are judged by what they need, not by all that they may follow from.
            let alone = matches!(part, "input" | "cache" | "output");
            let alone = alone
                || matches!(
                    at.site,
                    Site::Raters
                        | Site::Into
                        | Site::Rows
                        | Site::Strength
                        | Site::Skewness
                        | Site::Budget
                        | Site::Kept
                );
            if !alone && !self.reaches(at) {
                let words = "the stages that it is computed from are not in the bundle";
                return StageVerdict::plain(name, Outcome::NotJudged, words);
            }
        }
        if let Some(why) = self.other_rows(at) {
            return StageVerdict::plain(name, Outcome::NotJudged, why);
        }
        if let Some(why) = self.undecided.as_ref().filter(|_| part == "policy") {
            return StageVerdict::plain(name, Outcome::NotJudged, why);
        }
        if at.is_step() && self.lost() {
            let words = "the cache was evicted, and neither the policy nor all of its entries are in the bundle";
            return StageVerdict::plain(name, Outcome::NotJudged, words);
        }
        match self.decision(at, name) {
            Some(verdict) => verdict,
            None => self.numbers(name),
        }
    }

    /// Whether steps read a cache that nobody knows: the candidate names no policy, its cache has fewer entries than the
    /// prompt has rows, and not all keys and values of it are recorded.
    fn lost(&self) -> bool {
        let (Some(rows), Some(layers)) = (self.rows(), self.layers()) else { return false };
        let sites = [Site::CacheKey, Site::CacheValue];
        let all = || (0..layers).flat_map(|l| sites.map(|site| self.candidate.get(&Stage::layer(site, l).name())));
        let fewer = all().flatten().any(|cache| cache.shape.get(1).is_some_and(|&len| len < rows));
        self.policy.is_none() && fewer && !all().all(|cache| cache.is_some())
    }

    /// The verdict on a stage that is a decision or follows from a decision; none for plain numbers.
    fn decision(&self, at: Stage, name: &str) -> Option<StageVerdict> {
        let l = at.layer;
        Some(match at.site {
            Site::Positions if self.unplaced => {
                StageVerdict::plain(name, Outcome::Fail, "no image of any size gives its rows these positions")
            }
            Site::Sizes | Site::Grid | Site::Ids | Site::Roles | Site::Positions => integers::judge(self, name),
            Site::Budget | Site::Kept if self.ground.is_some() && is_given(self.candidate) => {
                StageVerdict::plain(name, Outcome::NotJudged, "the eviction was given, not decided")
            }
            Site::Raters => raters::judge(self, name),
            Site::Into => zip::judge(self, name),
            Site::Rows => pruned::rows(self, name, l),
            Site::Budget if self.prunes() => pruned::budget(self, name),
            Site::Kept if self.prunes() => pruned::kept_tokens(self, name, l),
            Site::Window => windows::judge(self, name, l),
            Site::Importance => return scores::through_other_window(self, at, name),
            Site::Strength | Site::Skewness => shares::statistics(self, at, name),
            Site::Budget => shares::budget(self, name),
            Site::Kept => kept::judge(self, name, l),
            Site::CachePositions | Site::CacheKey | Site::CacheValue => copies::judge(self, at, name),
            Site::OutputIds => tokens::judge(self, name),
            _ if at.is_step() => StageVerdict::plain(name, Outcome::NotJudged, tokens::other_prefix(self, at)?),
            _ => return None,
        })
    }
}
