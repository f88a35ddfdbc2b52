//! The scores that a candidate's decisions were made from: its own where it recorded them, else the truth's; and how
//! far honest computations may move them. Not here: the decisions.

use super::windows;
use crate::golden::case::Case;
use crate::golden::measure::{Errors, Layout};
use crate::golden::noise;
use crate::golden::parsed::{importance, vector, window};
use crate::golden::rerun::DENSITY;
use crate::golden::rulers::{margins, roundoff, shown};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::pass::Precision;
use crate::policy::{LayerScores, Observed, Scorer, Window, over_sets, skewness, strength};
use crate::stage::{Site, Stage};
use ndarray::{Array2, Axis, Ix3};

/// The allowed error of a statistic of importances, in rulers. Spec: T10.3
pub(super) const STATISTIC: f64 = 3.0;
/// Another window's votes are other draws of the same noise (E10.3).
const OTHER_WINDOW: f64 = 2.0;

/// Importances that a candidate did not record, as the truth has them.
pub(in crate::golden) struct Truth {
    /// [S, N_c], through the candidate's window.
    pub importance: Array2<f64>,
    /// The noise of it, in the shape of the stage.
    pub noise: Errors,
    /// The stage's shape.
    pub shape: Vec<usize>,
}

/// The scores of one layer, and how far honest computations may move each of them.
pub(super) struct Layer {
    pub scores: LayerScores,
    /// [S, N_c]: of each importance.
    pub importance: Array2<f64>,
    /// Of strength and skewness, relative.
    pub share: f64,
}

/// A reason why something is not known.
pub(in crate::golden) type Unknown = &'static str;

const NO_POLICY: Unknown = "the policy or the roles are not known";

/// The window through which the candidate's importances were computed, if it is not the golden's.
fn other_window(case: &Case<'_>, l: usize) -> Result<Option<Vec<Vec<usize>>>, Unknown> {
    let (policy, sets) = case.sets(l).ok_or(NO_POLICY)?;
    let name = Stage::layer(Site::Window, l).name();
    if !matches!(policy.window, Window::Elite { .. }) || !policy.votes() {
        return Ok(None);
    }
    if case.candidate.get(&name).is_none() {
        let why = "the window is not recorded, and honest noise could change it";
        return if windows::firm(case, l) { Ok(None) } else { Err(why) };
    }
    let n = case.rows().ok_or(NO_POLICY)?;
    let got = window(case.candidate, &name, sets, n).ok_or("the window is no set of prompt rows")?;
    if case.ground.is_some() {
        return Ok(None); // the truth's importances are those through this window
    }
    let ours = window(case.golden, &name, sets, n).ok_or("the golden does not have this window")?;
    Ok((ours != got).then_some(got))
}

/// The truth's importances of a layer, through the candidate's window. Spec: C10.5a
pub(in crate::golden) fn truth(case: &Case<'_>, l: usize) -> Result<Truth, Unknown> {
    let at = Stage::layer(Site::Importance, l);
    let (_, sets) = case.sets(l).ok_or(NO_POLICY)?;
    if !case.reaches(at) {
        return Err("the stages that importances are computed from are not in the bundle");
    }
    let name = at.name();
    let ours = importance(case.golden, l, sets).ok_or("the golden does not have these importances")?;
    let shape = case.golden.get(&name).map(|t| t.shape.to_vec()).unwrap_or_default();
    let noise = noise::read(case.golden, case.precision, &name, Layout::of(&name, &shape));
    let noise = noise.ok_or("the golden has no noise of importances")?;
    let Some(window) = other_window(case, l)? else { return Ok(Truth { importance: ours, noise, shape }) };
    let importance =
        through(case, l, window).ok_or("the golden does not hold the queries and keys of another window")?;
    let mut wider = noise;
    wider.whole *= OTHER_WINDOW;
    wider.columns.iter_mut().chain(wider.rows.as_flattened_mut()).for_each(|e| *e *= OTHER_WINDOW);
    Ok(Truth { importance, noise: wider, shape })
}

/// The verdict on importances that were computed through another window than the golden's, or through one that is not
/// known; none if the window is the golden's. Spec: C10.5a
pub(in crate::golden) fn through_other_window(case: &Case<'_>, at: Stage, name: &str) -> Option<StageVerdict> {
    let not_judged = |why: Unknown| Some(StageVerdict::plain(name, Outcome::NotJudged, why));
    match other_window(case, at.layer) {
        Ok(None) => return None,
        Ok(Some(_)) => {}
        Err(NO_POLICY) => return None,
        Err(why) => return not_judged(why),
    }
    let Truth { importance, noise, shape } = match truth(case, at.layer) {
        Ok(truth) => truth,
        Err(why) => return not_judged(why),
    };
    if let Some(fail) = case.misfit(name, &shape) {
        return Some(fail);
    }
    let Ok(got) = case.candidate.flat(name) else {
        return Some(StageVerdict::plain(name, Outcome::Fail, "no stored numbers"));
    };
    let truth: Vec<f64> = importance.into_iter().collect();
    Some(case.against(at, at, (&shape, &truth), &got, noise))
}

/// The importances that the golden's queries and keys give through a window.
fn through(case: &Case<'_>, l: usize, window: Vec<Vec<usize>>) -> Option<Array2<f64>> {
    by(case, case.scorer.as_ref()?, l, window)
}

/// The importances that queries and keys give through a window by any scorer: in a replay the candidate's, else the
/// golden's.
pub(in crate::golden) fn by(
    case: &Case<'_>,
    scorer: &Scorer,
    l: usize,
    window: Vec<Vec<usize>>,
) -> Option<Array2<f64>> {
    let whole = |site: Site| {
        let name = Stage::layer(site, l).name();
        let own = case.ground.is_some() && case.candidate.get(&name).is_some();
        let bundle = if own { case.candidate } else { case.golden };
        let known = bundle.get(&name).is_some() && bundle.get(&format!("rows.{name}")).is_none();
        known.then(|| bundle.f64(&name).ok()?.into_dimensionality::<Ix3>().ok()).flatten()
    };
    let (q, k) = (whole(Site::Query)?, whole(Site::Key)?);
    if scorer.rows().iter().any(|&row| row >= q.len_of(Axis(1))) {
        return None;
    }
    let q = q.select(Axis(1), scorer.rows());
    let seen = Observed { q: q.view(), rows: scorer.rows(), k: k.view(), received: None, v: None, future: None };
    Some(scorer.observe_through(l, &seen, window).ok()?.importance)
}

/// The importances of a layer, and the margin of each: its own with what a store may hide, or the truth's with their
/// noise. Spec: E10.6
pub(in crate::golden) fn importances(case: &Case<'_>, l: usize) -> Result<(Array2<f64>, Array2<f64>), Unknown> {
    let (policy, sets) = case.sets(l).ok_or(NO_POLICY)?;
    let candidates = case.scorer.as_ref().ok_or(NO_POLICY)?.candidates().len();
    if let Some(own) = importance(case.candidate, l, sets).filter(|own| own.ncols() == candidates) {
        let margin = hidden_by_a_store(case, &own).mapv(|error| 2.0 * error);
        return Ok((own, margin));
    }
    if !policy.measures() {
        let ours = importance(case.golden, l, sets).unwrap_or_else(|| Array2::zeros((sets, candidates)));
        return Ok((ours.clone(), Array2::zeros(ours.dim())));
    }
    let Truth { importance, noise, shape } = truth(case, l)?;
    if importance.ncols() != candidates {
        return Err("the golden's importances are of other tokens");
    }
    let name = Stage::layer(Site::Importance, l).name();
    let each = margins(&name, &shape, importance.as_slice().unwrap_or_default(), &noise, case.precision);
    let margin = Array2::from_shape_fn(importance.dim(), |(set, _)| each.get(set).copied().unwrap_or(0.0));
    Ok((importance, margin))
}

/// How far each number may have been rounded when it was stored, in the type that the numbers show; importances that
/// show f32 count as exact to its roundoff. Spec: A10.2
pub(super) fn hidden_by_a_store(case: &Case<'_>, own: &Array2<f64>) -> Array2<f64> {
    let shown = shown(case.precision, own.as_slice().unwrap_or_default());
    let (u, tiny) = (roundoff(shown), if shown == Precision::F16 { (-25f64).exp2() } else { 0.0 });
    own.mapv(|v| (2.0 * u * v.abs()).max(tiny)) // half a step of the type at its largest
}

/// The relative error of a statistic over n importances: a few stores and four sums of n numbers in f32. Spec: E10.8
fn statistic_ruler(case: &Case<'_>, values: &[f64], n: usize) -> f64 {
    4.0 * roundoff(shown(case.precision, values)) + 4.0 * (n as f64).sqrt() * (-24f64).exp2()
}

/// How far a statistic may move if each importance moves by its margin: the sum over importances of margin ·
/// |∂statistic/∂importance|. Spec: E10.8
fn hidden(importance: &Array2<f64>, margin: &Array2<f64>, site: Site) -> f64 {
    let of = |(i, m): (ndarray::ArrayView1<'_, f64>, ndarray::ArrayView1<'_, f64>)| -> f64 {
        if site == Site::Strength {
            return m.sum();
        }
        let n = i.len() as f64;
        let mean = i.sum() / n;
        let sigma = (i.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        if i.len() < 3 || sigma <= 0.0 {
            return 0.0;
        }
        let z: Vec<f64> = i.iter().map(|v| (v - mean) / sigma).collect();
        let (squares, cubes) = z.iter().fold((0.0, 0.0), |(s, c), z| (s + z * z, c + z * z * z));
        let slope = |z: f64| 3.0 / sigma * (z * z - squares / n - z * cubes / (n - 1.0));
        n / ((n - 1.0) * (n - 2.0)) * z.iter().zip(m).map(|(&z, m)| m * slope(z).abs()).sum::<f64>()
    };
    let sets = importance.nrows().max(1) as f64;
    importance.outer_iter().zip(margin.outer_iter()).map(of).sum::<f64>() / sets
}

/// The value that a statistic of a layer has to have, and its ruler. got: the recorded statistics of all layers, if
/// any; they show the type that statistics are stored in.
pub(super) fn statistic(case: &Case<'_>, l: usize, site: Site, got: &[f64]) -> Result<(f64, f64), Unknown> {
    let f = if site == Site::Skewness { skewness } else { strength };
    let (_, sets) = case.sets(l).ok_or(NO_POLICY)?;
    if let Some(own) = importance(case.candidate, l, sets) {
        let margin = hidden_by_a_store(case, &own);
        let value = over_sets(&own, f);
        let ruler = statistic_ruler(case, got, own.ncols()) * value.abs() + hidden(&own, &margin, site) / STATISTIC;
        return Ok((value, ruler.max(f64::MIN_POSITIVE)));
    }
    let Truth { importance, noise: of_importance, shape } = truth(case, l)?;
    let value = over_sets(&importance, f);
    // The noise of the statistic itself; else, what the noise of importances makes of it.
    let name = Stage::once(site).name();
    let ours = vector(case.golden, &name).unwrap_or_default();
    let noise = noise::read(case.golden, case.precision, &name, Layout::of(&name, &[ours.len()]));
    let noise = match noise {
        Some(noise) => margins(&name, &[ours.len()], &ours, &noise, case.precision).first().copied().unwrap_or(0.0),
        None => {
            let at = Stage::layer(Site::Importance, l).name();
            let each = margins(&at, &shape, importance.as_slice().unwrap_or_default(), &of_importance, case.precision);
            let margin = Array2::from_shape_fn(importance.dim(), |(set, _)| each.get(set).copied().unwrap_or(0.0));
            hidden(&importance, &margin, site)
        }
    };
    let other = if other_window(case, l)?.is_some() { OTHER_WINDOW } else { 1.0 };
    let ruler = statistic_ruler(case, got, 1) * value.abs() + other * noise / STATISTIC;
    Ok((value, ruler.max(f64::MIN_POSITIVE)))
}

/// The scores of a layer that budgets follow from. recorded: strengths and skewnesses, if the candidate has them.
pub(super) fn layer(case: &Case<'_>, l: usize, recorded: [Option<&[f64]>; 2]) -> Result<Layer, Unknown> {
    let (_, sets) = case.sets(l).ok_or(NO_POLICY)?;
    let value = |site: Site, recorded: Option<&[f64]>| match recorded {
        Some(all) => Ok((all[l], statistic_ruler(case, all, 1) * all[l].abs())),
        None => statistic(case, l, site, &[]),
    };
    let (s, k) = (value(Site::Strength, recorded[0])?, value(Site::Skewness, recorded[1])?);
    let (importance, margin) = match recorded {
        [Some(_), Some(_)] => {
            importances(case, l).unwrap_or_else(|_| (Array2::zeros((sets, 0)), Array2::zeros((sets, 0))))
        }
        _ => importances(case, l)?,
    };
    let share = |(value, ruler): (f64, f64)| ruler / value.abs().max(f64::MIN_POSITIVE);
    let scores = LayerScores {
        kv_heads: sets,
        window: vec![vec![]; sets],
        importance,
        strength: s.0,
        skewness: k.0,
        spread: 1.0,
        weights: vec![1.0; sets],
    };
    Ok(Layer { scores, importance: margin, share: STATISTIC * share(s).max(share(k)) })
}

/// What the budget rule reads off the attention rows of every layer, in the truth, and its relative margin.
pub(super) fn spreads(case: &Case<'_>, layers: usize) -> Result<Vec<(f64, f64)>, Unknown> {
    let ours =
        vector(case.golden, DENSITY).filter(|v| v.len() == layers).ok_or("the golden does not hold densities")?;
    let noise = noise::read(case.golden, case.precision, DENSITY, Layout::of(DENSITY, &[layers]));
    let noise = noise.ok_or("the golden has no noise of densities")?;
    let margin = margins(DENSITY, &[layers], &ours, &noise, case.precision).first().copied().unwrap_or(0.0);
    Ok(ours.into_iter().map(|d| (d, margin / d.max(f64::MIN_POSITIVE))).collect())
}
