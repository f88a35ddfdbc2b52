//! Replay: recomputes every stage in f64 from the candidate's own inputs, with the noise of honest computations in its
//! type from the same inputs. The result is then judged like any golden.

use super::arranged::Known;
use super::case::Case;
use super::causes::{Again, Replayed};
use super::given::{Decided, Sizes, Values as Given};
use super::ground::Ground;
use super::left::{rated, summed};
use super::progress::{Progress, Ticks};
use super::recorder::Recorder;
use super::rerun::{self, Rerun, Sink};
use super::said::{Types, policy};
use super::verdict::Verdict;
use super::{
    Bundle, BundleWriter, Selection, arc, arranged, drift, images, layouts, lossy, noise, rulers, stages, weights,
};
use crate::cache::Cache;
use crate::error::{Error, Result, ensure};
use crate::input::{Positions, Prepared};
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::{Precision, Tap, Way};
use crate::policy::{Policy, Rater, Retain, Scorer, Values, preset};
use crate::stage::{Facts, Site, Stage};
use ndarray::ArrayViewD;

/// A recorder that also takes the cache.
struct Truth<'a> {
    out: Recorder,
    positions: &'a Positions,
    policy: Policy,
    /// The rows of each layer, where the policy drops rows inside prefill.
    left: Vec<Vec<usize>>,
    undecided: Option<String>,
}

impl<T: Real> Tap<T> for Truth<'_> {
    fn wants(&self, at: Stage) -> bool {
        Tap::<T>::wants(&self.out, at)
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.out.see(at, value);
    }
    fn rows(&mut self, at: Stage, rows: &[usize]) {
        Tap::<T>::rows(&mut self.out, at, rows);
    }
}

impl<T: Real> Sink<T> for Truth<'_> {
    fn take(&mut self, name: &str, values: &Values) -> Result<()> {
        self.out.values(name, values)
    }
    fn cache(&mut self, cache: &Cache<T>) -> Result<()> {
        self.left = cache.layers.iter().flat_map(|heads| Some(heads.first()?.rows().to_vec())).collect();
        stages::cache(&mut self.out, cache, self.positions, &self.policy)
    }
    fn undecided(&mut self, why: &Error) {
        self.undecided = Some(format!("the policy fails on the bundle's own values: {why}"));
    }
}

/// The verdict on a candidate by replay. If `prompt` is known, the candidate's ids and pixels are judged too. The
/// replay keeps its own numbers in `truth` until it ends. Spec: D10.7, E10.9
///
/// # Errors
/// The candidate is of another model, has no type or no stages, or its ids and sizes make no prompt; errors as of the
/// flow.
pub fn replay(model: &Model, prompt: Option<&Prepared>, candidate: &Bundle, truth: BundleWriter) -> Result<Verdict> {
    replay_told(model, prompt, candidate, truth, &|_| ())
}

/// As [`replay`]; `tell` is told how far it is.
///
/// # Errors
/// As [`replay`].
pub fn replay_told(
    model: &Model,
    prompt: Option<&Prepared>,
    candidate: &Bundle,
    truth: BundleWriter,
    tell: &(dyn Fn(&Progress) + Sync),
) -> Result<Verdict> {
    let types = Types::of(candidate)?;
    let precision = types.all;
    let (candidate, notes) = layouts::accepted(candidate, Some(model.decoder.config.vocab));
    let candidate = &candidate;
    let digest = candidate.metadata("model").map(|_| model.checkpoint.digest());
    for (key, ours) in [("family", Some(model.config.name())), ("model", digest.as_deref())] {
        let (Some(theirs), Some(ours)) = (candidate.metadata(key), ours) else { continue };
        let shown: String = theirs.chars().take(64).collect();
        let remedy = "give --model with the checkpoint of the candidate";
        let at = format!("{}: metadata {key}", candidate.label());
        ensure!(theirs == ours, at, format!("{ours:?}, as the model's"), format!("{shown:?}"), remedy);
    }
    ensure!(
        candidate.names().any(|name| Stage::parse(name).is_some()),
        candidate.label(),
        "at least one stage",
        "none",
        "stages are named as in decoder.07.mix; `record` writes an example"
    );
    let reconstructed;
    let (asked, arranged) = match prompt {
        Some(prompt) => (prompt, None),
        None => {
            reconstructed = prepared(model, candidate)?;
            (&reconstructed.0, reconstructed.1)
        }
    };
    let (read, unfit) = images::own(&*model.config, asked, candidate);
    let read = &read;
    let policy = policy(candidate)?;
    let (rule, retain) = match &policy {
        Some(named) => named.clone(),
        None => (preset("full")?.policy.clone(), Retain::ALL),
    };
    let config = &model.decoder.config;
    let longest = model.config.text().longest();
    let sizes =
        Sizes { layers: config.layers, kv_heads: config.kv_heads, rows: read.ids.len(), vocab: config.vocab, longest };
    let chooses = Scorer::new(&rule, &read.roles).ok();
    let decided = Decided::in_bundle(candidate, &rule, chooses.as_ref(), sizes, &stages::table(&read.positions));
    let at = format!("{}: output.ids", candidate.label());
    let want = format!("at most max_position_embeddings = {longest} tokens");
    ensure!(decided.fed.len() <= longest, at, want, format!("{} or more", decided.fed.len()));
    let runs = types.all().into_iter().map(|kind| rerun::ways(kind).len()).sum::<usize>();
    let drifting = types.all().into_iter().any(rulers::drifts);
    let ticks = Ticks::new(tell, candidate, 1 + runs, if drifting { drift::RUNS } else { 0 });
    let given = Given(candidate, &decided, &ticks);

    let evicts = |name: &str| Stage::parse(name).is_some_and(|at| at.row().part == "policy");
    let unnamed = policy.is_none() && candidate.names().any(evicts);
    let unnamed =
        unnamed.then(|| "the metadata policy and retain are missing, so the expected value is unknown".into());

    let out = Recorder::new(truth, Precision::Truth, Selection::default());
    let run = Rerun { model, prompt: read, policy: &rule, retain, decided: &decided, given: Some(&given) };
    let (weights, kept) = weights::nearest(&run, candidate, precision.grid())?;
    let (weights, run) = (&*weights, Rerun { model: &weights, ..run });
    let mut truth = Truth { out, positions: &read.positions, policy: rule.clone(), left: vec![], undecided: unnamed };
    stages::prompt(&mut truth.out, &*model.config, asked, prompt.is_some())?;
    if let Some(lossy) = &asked.lossy {
        lossy::put(truth.out.writer()?, model.config.profile().pixels, lossy)?;
    }
    run.run::<f64, _>(Grid::Native, Way::default(), Grid::Native, &mut truth)?;
    let Truth { mut out, left, undecided, .. } = truth;
    let left = if rule.prunes() { &left[..] } else { &[] };
    arc::put(weights, read, (decided.fed.len(), left), out.writer()?)?;
    for kind in types.all() {
        let kind = if kind == Precision::Truth { Precision::Fast } else { kind };
        noise::measure(None, &run, (kind, Some(&types)), out.writer()?)?;
    }
    let drifts = match drifting {
        true => drift::drifts(&run, candidate, &types, out.writer()?)?,
        false => Default::default(),
    };
    let golden = out.read(vec![("precision", "f64".into())])?;

    // A value in another layout counts as missing: its own stage fails.
    let fits =
        |at: Stage, shape: &[usize]| !at.is_computed() || golden.get(&at.name()).is_none_or(|ours| ours.shape == shape);
    let known = |at: Stage| {
        if at.site == Site::OutputIds {
            return decided.fed.get(at.step).is_some_and(Option::is_some);
        }
        if at.site == Site::Grid && arranged == Some(Known::Grids) {
            return true;
        }
        let outside = at.site == Site::Ids || (prompt.is_some() && at.row().part == "input");
        let outside = outside && !unfit.contains(&at.site);
        outside || candidate.get(&at.name()).is_some_and(|tensor| fits(at, tensor.shape))
    };
    let cuts = rule.prune.cuts(config.layers, read.roles.visual().len())?;
    let polled: Vec<usize> = cuts.iter().filter(|cut| cut.by == Rater::Text).map(|cut| cut.layer).collect();
    let cuts: Vec<usize> = cuts.iter().map(|cut| cut.layer).collect();
    let lie = images::shape(&*model.config);
    let rated = rated(&rule, model.config.profile().tower, lie);
    let summed = summed(&rule, &*model.config, lie);
    let facts = Facts {
        cuts: &cuts,
        polled: &polled,
        rated: &rated,
        summed: &summed,
        layers: config.layers,
        vision_layers: model.config.profile().tower.used,
        deepstack: model.config.deepstack(),
        lie,
        placed: model.config.text().mrope.is_some(),
        visual: !read.roles.visual().is_empty(),
        values: policy.as_ref().is_some_and(|(policy, _)| policy.needs_values()),
        expects: policy.as_ref().is_some_and(|(policy, _)| policy.needs_future().is_some()),
        tiles: arranged == Some(Known::Tiles),
    };
    let unnamed_policy = policy.is_none();
    let unplaced = arranged == Some(Known::Rows) && facts.placed;
    let ground = Ground { has: &known, facts, known: Default::default() };
    let case = Case::new(&golden, candidate, types, policy);
    let again = Replayed::new(&run);
    let again = again.as_ref().map(|again| again as &dyn Again);
    let case = Case {
        ground: Some(ground),
        ticks: Some(&ticks),
        undecided,
        drifts,
        again,
        vocab: Some(config.vocab),
        unplaced,
        ..case
    };
    let mut verdict = case.verdict("replay")?;
    verdict.notes.splice(0..0, notes);
    let steps = candidate.names().any(|name| Stage::parse(name).is_some_and(Stage::is_step));
    if unnamed_policy && steps && (0..config.layers).all(|l| decided.rows[l].is_none()) {
        let note = "the metadata policy and retain are missing, so steps are replayed with the full cache";
        verdict.notes.push(note.into());
    }
    verdict.notes.extend(kept.map(String::from));
    verdict.notes.extend(asked.lossy.as_ref().map(lossy::note));
    if arranged == Some(Known::Grids) {
        verdict.notes.push("input.grid is not in the bundle: the grids are those that input.positions shows".into());
    }
    if prompt.is_none() {
        verdict.notes.push("ids and pixels are not judged: give --image and --prompt to have them judged".into());
    }
    Ok(verdict)
}

/// If a replay gets no prompt, it makes pixels from a candidate's own images. Returns the bytes of these pixels, and
/// the stage that gives their size; none if there are no images, or if the replay will refuse them.
pub fn replayed_pixels(model: &Model, candidate: &Bundle) -> Option<(Stage, u64)> {
    let ids = ids(candidate).ok()?;
    let image_token = model.config.visual_token(&ids);
    let visual = ids.iter().filter(|&&id| id == image_token).count();
    let film = image_token != model.config.image_token();
    let bytes = images::bytes(&*model.config, candidate, visual, film).ok()?;
    Some((Stage::once(images::shape(&*model.config)), bytes))
}

/// The ids of a candidate's prompt.
fn ids(candidate: &Bundle) -> Result<Vec<u32>> {
    let remedy = "record it, or give --image and --prompt";
    let name = Stage::once(Site::Ids).name();
    let ids = candidate.i64(&name).map_err(|e| e.remedy(remedy))?;
    let ids: Option<Vec<u32>> = ids.iter().map(|&id| u32::try_from(id).ok()).collect();
    let at = || format!("{}: {name}", candidate.label());
    ids.ok_or_else(|| Error::new(at(), "token ids", "a number that is none"))
}

/// The prompt that a candidate's own stages describe.
///
/// # Errors
/// The candidate has no ids; or its ids, sizes or pixels make no prompt of this model.
fn prepared(model: &Model, candidate: &Bundle) -> Result<(Prepared, Option<Known>)> {
    let at = |name: &str| format!("{}: {name}", candidate.label());
    let ids = ids(candidate)?;
    let image_token = model.config.visual_token(&ids);
    let visual = ids.iter().filter(|&&id| id == image_token).count();
    if visual == 0 {
        return Prepared::from_ids(&*model.config, &ids, vec![])
            .map(|prompt| (prompt, None))
            .map_err(|e| e.within(at(&Stage::once(Site::Ids).name())));
    }
    if candidate.get(&Stage::once(images::shape(&*model.config)).to_string()).is_none() {
        let found = arranged::prompt(&*model.config, candidate, &ids).map(|(prompt, known)| (prompt, Some(known)));
        return found.map_err(|e| e.within(candidate.label()));
    }
    let film = image_token != model.config.image_token();
    let images = images::given(&*model.config, candidate, visual, film)?;
    let mut prompt = Prepared::from_ids(&*model.config, &ids, images).map_err(|e| e.within(candidate.label()))?;
    if film {
        arranged::as_timed(&*model.config, &mut prompt, candidate);
    }
    ensure!(
        prompt.ids.len() == ids.len(),
        at(&Stage::once(Site::Ids).name()),
        format!("placeholders expanded to {} ids", prompt.ids.len()),
        ids.len()
    );
    Ok((prompt, None))
}
