//! Causes of failed decisions, of integers, and of what follows from them. Each is a rule of its own that gives exactly
//! what the candidate has. Spec: D11.10

use super::lineup::{Fitted, Lineup};
use super::{entries, integers};
use crate::golden::case::Case;
use crate::golden::kinds::{kept, scores, shares};
use crate::golden::parsed::{importance, vector, window};
use crate::golden::verdict::StageVerdict;
use crate::policy::{Budget, Heads, Keys, Policy, Scorer, Window, over_sets, ranking, skewness, strength};
use crate::stage::{Kind, Site, Stage};

/// The cause of a failed stage that is no stage of plain numbers; none if no rule explains it.
pub(super) fn of(case: &Case<'_>, at: Stage, verdict: &StageVerdict) -> Option<String> {
    match at.site {
        Site::Roles => integers::roles(case),
        Site::Positions => integers::positions(case),
        Site::Window => windows(case, at.layer),
        Site::Strength | Site::Skewness => statistic(case, at.site, &verdict.stage),
        Site::Budget => budget(case),
        Site::Kept => sets(case, at.layer),
        Site::CacheKey | Site::CacheValue => entries::of(case, at),
        Site::OutputIds => integers::token(case, verdict),
        _ if at.row().kind == Kind::Numbers && verdict.words.contains("NaN or infinite") => {
            Some("a number is not finite".into())
        }
        _ => None,
    }
}

/// A window of another α, or of all rows of text.
fn windows(case: &Case<'_>, l: usize) -> Option<String> {
    let ((policy, sets), n) = case.sets(l).zip(case.rows())?;
    let scorer = case.scorer.as_ref()?;
    let name = Stage::layer(Site::Window, l).name();
    let got = window(case.candidate, &name, sets, n)?;
    if got.iter().all(|rows| rows == scorer.rows()) {
        return Some("every row of text votes".into());
    }
    if got.iter().all(|rows| rows.len() == 1) && !matches!(policy.window, Window::LastText(1)) {
        return Some("one row votes alone".into());
    }
    let Window::Elite { alpha } = policy.window else { return None };
    let name = Stage::layer(Site::Attention, l).name();
    let attention = case.candidate.f64(&name).or_else(|_| case.golden.f64(&name)).ok()?;
    let text = scorer.rows();
    let width = text.len();
    let all: Vec<f64> = attention.into_iter().collect();
    if policy.heads == Heads::Union || width == 0 || all.len() != sets * width {
        return union(&all, width, text, &got, alpha);
    }
    // The α's that give exactly these rows.
    let (mut low, mut high) = (0.0f64, 1.0f64);
    for (set, rows) in got.iter().enumerate() {
        let att = &all[set * width..][..width];
        let most = att.iter().copied().fold(0.0, f64::max);
        for (row, a) in text.iter().zip(att) {
            let share = a / most;
            if rows.binary_search(row).is_ok() { high = high.min(share) } else { low = low.max(share) }
        }
    }
    (low < high && !(low..=high).contains(&alpha)).then(|| other_alpha(low, high, alpha))
}

fn other_alpha(low: f64, high: f64, alpha: f64) -> String {
    format!("the window is that of an α between {low:.3} and {high:.3}; the policy's is {alpha}")
}

/// The same where a row votes if any head attends enough to it.
fn union(all: &[f64], width: usize, text: &[usize], got: &[Vec<usize>], alpha: f64) -> Option<String> {
    let [rows] = got else { return None };
    if width == 0 || !all.len().is_multiple_of(width) {
        return None;
    }
    let share = |column: usize| {
        let heads = all.chunks_exact(width).map(|att| att[column] / att.iter().copied().fold(0.0, f64::max));
        heads.fold(0.0, f64::max)
    };
    let (mut low, mut high) = (0.0f64, 1.0f64);
    for (column, row) in text.iter().enumerate() {
        let share = share(column);
        if rows.binary_search(row).is_ok() { high = high.min(share) } else { low = low.max(share) }
    }
    (low < high && !(low..=high).contains(&alpha)).then(|| other_alpha(low, high, alpha))
}

/// Importances of another rule.
pub(super) fn importances(lineup: &mut Lineup<'_>, case: &Case<'_>, l: usize) {
    let Some(((policy, sets), roles)) = case.sets(l).zip(case.roles()) else { return };
    let roles = crate::roles::Roles(roles);
    let others = [
        ("weights are of a softmax over all entries, not over the visual ones", Keys::All),
        ("weights are of a softmax over the entries that a row sees", Keys::Causal),
        ("weights are of a softmax over the entries of the policy's own rows", Keys::Elite),
    ];
    let Some(n) = case.rows() else { return };
    let name = Stage::layer(Site::Window, l).name();
    let votes = window(case.candidate, &name, sets, n).or_else(|| window(case.golden, &name, sets, n));
    for (words, keys) in others.into_iter().filter(|(_, keys)| *keys != policy.keys) {
        let other = Policy { keys, ..policy.clone() };
        let Ok(scorer) = Scorer::new(&other, &roles) else { continue };
        let found = votes.clone().and_then(|votes| scores::by(case, &scorer, l, votes));
        if let Some(found) = found {
            lineup.add(Fitted::No, found.into_iter().collect(), || words.into());
        }
    }
}

/// A strength or skewness of another formula.
fn statistic(case: &Case<'_>, site: Site, name: &str) -> Option<String> {
    let got = vector(case.candidate, name)?;
    let own = |l: usize| {
        let (_, sets) = case.sets(l)?;
        importance(case.candidate, l, sets).or_else(|| importance(case.golden, l, sets))
    };
    let layers: Vec<_> = (0..got.len()).map(own).collect::<Option<_>>()?;
    let n = layers.first()?.ncols() as f64;
    let heads = case.golden.get(&Stage::layer(Site::Query, 0).name()).map_or(1, |q| q.shape[0]) as f64;
    let formulas: Vec<(f64, String)> = match site {
        Site::Strength => vec![
            (1.0 / n, "the mean of importances in place of their sum".into()),
            (heads, format!("a sum over {heads} heads in place of their mean")),
        ],
        _ => vec![
            (
                (n - 2.0) / (n * (n - 1.0)).sqrt(),
                "the skewness of a population, n − 1 and n − 2 in place of n are left out".into(),
            ),
            ((n - 2.0) * (n - 1.0) / (n * n), "the third moment over n, with the deviation over n − 1".into()),
            (-1.0, "the sign is turned".into()),
        ],
    };
    let f = if site == Site::Skewness { skewness } else { strength };
    let near = |factor: f64| layers.iter().zip(&got).all(|(i, g)| (g / (factor * over_sets(i, f)) - 1.0).abs() < 1e-3);
    formulas.into_iter().find(|(factor, _)| near(*factor)).map(|(_, words)| words)
}

/// Budgets of another rule.
fn budget(case: &Case<'_>) -> Option<String> {
    let name = Stage::once(Site::Budget).name();
    let got: Vec<i64> = case.candidate.i64(&name).ok()?.into_iter().collect();
    let ours: Vec<i64> = shares::due(case)?.into_iter().map(|b| b as i64).collect();
    if got.len() != ours.len() {
        return None; // budgets of heads
    }
    let (policy, _) = case.policy.as_ref()?;
    let total: i64 = ours.iter().sum();
    let (least, most) = (got.iter().min()?, got.iter().max()?);
    if most - least <= 1 && policy.budget != Budget::Uniform {
        return Some("every layer keeps as many: the budget is uniform".into());
    }
    let short: Vec<usize> = (0..got.len()).filter(|&l| got[l] < ours[l]).collect();
    if !short.is_empty() && got.iter().zip(&ours).all(|(g, o)| (0..=1).contains(&(o - g))) {
        let layers = short.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return Some(format!(
            "shares are rounded down, and the rest of {total} entries is not given out (layers {layers} have one too few)"
        ));
    }
    let mut sorted = (got.clone(), ours.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    (sorted.0 == sorted.1).then(|| "the numbers are right, and stand at other layers".into())
}

/// Kept sets of another rule.
fn sets(case: &Case<'_>, l: usize) -> Option<String> {
    let (_, sets) = case.sets(l)?;
    let got = case.shown_sets(l)?;
    let (values, _) = scores::importances(case, l).ok()?;
    if values.nrows() != sets || got.len() != sets {
        return None;
    }
    let b = got[0].len();
    let n = values.ncols();
    let sorted = |mut set: Vec<usize>| {
        set.sort_unstable();
        set
    };
    let rule = |f: &dyn Fn(&[usize]) -> Vec<usize>| {
        values.outer_iter().zip(&got).all(|(row, got)| sorted(f(&ranking(&row.to_vec()))) == *got)
    };
    if rule(&|ranks| ranks[n - b..].to_vec()) {
        return Some("the least important are kept".into());
    }
    if rule(&|_| (n - b..n).collect()) {
        return Some("the last are kept, whatever their importance".into());
    }
    if rule(&|_| (0..b).collect()) {
        return Some("the first are kept, whatever their importance".into());
    }
    for recent in 1..b {
        let first = n - recent;
        let mixed = |ranks: &[usize]| {
            let top = ranks.iter().copied().filter(|&i| i < first).take(b - recent);
            top.chain(first..n).collect::<Vec<usize>>()
        };
        if rule(&mixed) {
            return Some(format!(
                "the last {recent} are kept whatever their importance, beside {} of the most important",
                b - recent
            ));
        }
    }
    let due = kept::decided(case, l, b)?;
    let moved = |by: i64| {
        due.iter().zip(&got).all(|(due, got)| due.iter().map(|&i| i as i64 + by).eq(got.iter().map(|&i| i as i64)))
    };
    (1..=4)
        .flat_map(|by| [by, -by])
        .find(|&by| moved(by))
        .map(|by| format!("every kept number is {} too {}", by.abs(), if by > 0 { "large" } else { "small" }))
}
