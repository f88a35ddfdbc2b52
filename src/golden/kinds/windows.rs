//! Windows: the rows that vote. A window may differ from the truth's if honest noise could have caused the difference.
//! Spec: D10.5, E10.6

use super::integers::{self, not_integers};
use crate::golden::case::Case;
use crate::golden::measure::Layout;
use crate::golden::noise;
use crate::golden::parsed::window;
use crate::golden::rulers::margins;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Heads, Window};
use crate::stage::{Site, Stage};

/// What a window is judged by.
struct Attention {
    /// [heads or sets, text rows]: the truth.
    truth: Vec<f64>,
    layout: Layout,
    /// How far honest noise may move a number of each row.
    margin: Vec<f64>,
}

/// The attention that a window is read off, with its noise; none if the golden does not have both.
fn attention(case: &Case<'_>, l: usize) -> Option<Attention> {
    let name = Stage::layer(Site::Attention, l).name();
    let found = case.golden.get(&name).and_then(|_| case.golden.f64(&name).ok())?;
    let shape = found.shape().to_vec();
    let truth: Vec<f64> = found.into_iter().collect();
    let layout = Layout::of(&name, &shape);
    let noise = noise::read(case.golden, case.precision, &name, layout)?;
    let margin = margins(&name, &shape, &truth, &noise, case.precision);
    Some(Attention { truth, layout, margin })
}

/// Whether no honest noise could change a layer's window.
pub(in crate::golden) fn firm(case: &Case<'_>, l: usize) -> bool {
    let Some((policy, _)) = case.sets(l) else { return false };
    let Window::Elite { alpha } = policy.window else { return true };
    if !case.reaches(Stage::layer(Site::Window, l)) {
        return false;
    }
    let Some(Attention { truth, layout, margin }) = attention(case, l) else { return false };
    truth.chunks(layout.width.max(1)).zip(margin).all(|(att, margin)| {
        let threshold = alpha * att.iter().copied().fold(0.0, f64::max);
        att.iter().all(|a| (a - threshold).abs() > margin * (1.0 + alpha))
    })
}

/// Judges a window: its rows have to reach the threshold, within the margin. Spec: E10.6
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str, l: usize) -> StageVerdict {
    let Some(((policy, sets), n)) = case.sets(l).zip(case.rows()) else { return integers::equal(case, name) };
    if case.golden.get(name).is_none() {
        return integers::judge(case, name);
    }
    let (Some(ours), Some(got)) = (window(case.golden, name, sets, n), window(case.candidate, name, sets, n)) else {
        return not_integers(case, name);
    };
    if ours == got {
        return StageVerdict::plain(name, Outcome::Pass, "");
    }
    let Window::Elite { alpha } = policy.window else {
        let (at, a, b) = first_difference(&ours, &got);
        return StageVerdict::plain(name, Outcome::Fail, "other rows vote").at(vec![at], a, b);
    };
    let (Some(Attention { truth, layout, margin }), Some(scorer)) = (attention(case, l), &case.scorer) else {
        let words = "another window than the golden's, which does not hold the attention that windows are read off";
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    };
    let text = scorer.rows();
    if layout.width != text.len() || layout.rows < sets {
        return integers::judge(case, name);
    }
    let mut largest = (0.0, 0.0, 0, 0.0, 0.0); // gap, margin, row, attention, threshold
    for (set, (ours, got)) in ours.iter().zip(&got).enumerate() {
        let differ = |r: &&usize| ours.binary_search(r).is_ok() != got.binary_search(r).is_ok();
        for &row in ours.iter().chain(got).filter(differ) {
            let Ok(column) = text.binary_search(&row) else {
                let words = format!("row {row} votes, and this row is not counted text (A8.1)");
                return StageVerdict::plain(name, Outcome::Fail, words);
            };
            let heads: Vec<usize> = if policy.heads == Heads::Union { (0..layout.rows).collect() } else { vec![set] };
            let gaps = heads.iter().map(|&h| {
                let att = &truth[h * layout.width..][..layout.width];
                let threshold = alpha * att.iter().copied().fold(0.0, f64::max);
                ((att[column] - threshold).abs(), margin[h] * (1.0 + alpha), row, att[column], threshold)
            });
            if let Some(gap) = gaps.min_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))
                && (largest.1 == 0.0 || gap.0 / gap.1 > largest.0 / largest.1)
            {
                largest = gap;
            }
        }
    }
    let (gap, margin, row, attention, threshold) = largest;
    let words = format!(
        "row {row} attends {attention:.3e}, the threshold is {threshold:.3e}: gap {gap:.0e}, noise {margin:.0e}"
    );
    let outcome = if gap <= margin { Outcome::Admissible } else { Outcome::Fail };
    StageVerdict::plain(name, outcome, words).by("margin", gap, margin, 1.0)
}

fn first_difference(ours: &[Vec<usize>], got: &[Vec<usize>]) -> (usize, f64, f64) {
    let of = |sets: &[Vec<usize>], i: usize| sets.concat().get(i).map_or(f64::NAN, |&v| v as f64);
    let longest = ours.concat().len().max(got.concat().len());
    let at = (0..longest).find(|&i| of(ours, i) != of(got, i)).unwrap_or(0);
    (at, of(ours, at), of(got, at))
}
