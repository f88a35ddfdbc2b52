//! Suspects: the truth times a factor, one for all numbers, for a head, a row or a column. Spec: D11.3

use super::lineup::{Fitted, Lineup};
use crate::golden::measure::ROWS_FOR_COLUMNS;
use crate::stage::Site;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    whole(lineup);
    heads(lineup);
    columns(lineup);
    rows(lineup);
}

/// The factor a of the best fit got = a · truth over some numbers, in units of the noise, and the share of the squared
/// error that is left.
fn fit(lineup: &Lineup<'_>, which: impl Iterator<Item = usize>) -> Option<(f64, f64)> {
    let (n, layout, noise) = (lineup.facts.numbers, lineup.facts.layout(), lineup.facts.noise());
    let (mut product, mut square, mut own, mut error) = (0.0, 0.0, 0.0, 0.0);
    for i in which {
        let unit = noise.unit(layout, i).powi(-2);
        let (t, c) = (n.truth[i], n.got[i]);
        product += c * t * unit;
        square += t * t * unit;
        own += c * c * unit;
        error += (c - t).powi(2) * unit;
    }
    let a = product / square;
    (a.is_finite() && error > 0.0).then(|| (a, (own - a * product).max(0.0) / error))
}

/// All numbers are a factor times the truth.
fn whole(lineup: &mut Lineup<'_>) {
    let n = lineup.facts.numbers;
    let Some((a, _)) = fit(lineup, 0..n.truth.len()).filter(|(a, rest)| *rest < 0.6 && *a != 1.0) else { return };
    for (known, says) in known(lineup) {
        if (a / known - 1.0).abs() < 0.02 {
            let values = n.truth.iter().map(|t| t * known).collect();
            lineup.add(Fitted::No, values, || format!("everything is {} times the truth: {says}", number(known)));
        }
    }
    let values = n.truth.iter().map(|t| t * a).collect();
    lineup.add(Fitted::Few, values, || format!("everything is {} times the truth", number(a)));
}

/// Factors that mistakes give.
fn known(lineup: &Lineup<'_>) -> Vec<(f64, String)> {
    let facts = lineup.facts;
    let layout = facts.layout();
    let mut all = vec![];
    if facts.at.site == Site::Importance {
        let heads = facts.known_heads() as f64;
        if heads > 1.0 {
            all.push(((heads - 1.0) / heads, format!("one of {heads} heads is left out")));
            all.push((heads, format!("a sum over {heads} heads in place of the mean")));
            all.push((1.0 / heads, format!("divided by {heads} heads once too often")));
        }
        return all;
    }
    let d = layout.width as f64;
    if matches!(facts.at.site, Site::Query | Site::StepQuery) {
        all.push((1.0 / d.sqrt(), "queries are scaled by 1/√d_h, which belongs to the scores".into()));
        all.push((
            std::f64::consts::LOG2_E / d.sqrt(),
            "queries are scaled by log₂e/√d_h for a softmax by powers of 2".into(),
        ));
    }
    all
}

/// Some heads are a factor times the truth.
fn heads(lineup: &mut Lineup<'_>) {
    let n = lineup.facts.numbers;
    let (count, head) = lineup.facts.heads();
    if count < 2 {
        return;
    }
    let all = 0..n.truth.len();
    let fits: Vec<Option<(f64, f64)>> =
        (0..count).map(|h| fit(lineup, all.clone().filter(|&i| head(i) == h)).filter(|f| f.1 < 0.6)).collect();
    let bad: Vec<usize> = (0..count).filter(|&h| fits[h].is_some()).collect();
    if bad.is_empty() || 2 * bad.len() > count {
        return;
    }
    let values = all.map(|i| fits[head(i)].map_or(1.0, |f| f.0) * n.truth[i]).collect();
    let each = bad.iter().filter_map(|&h| Some(format!("head {h} is {} times the truth", number(fits[h]?.0))));
    lineup.add(Fitted::Few, values, || each.collect::<Vec<_>>().join(", "));
}

/// Every column is a factor of its own times the truth, as where the weight of a norm is another.
fn columns(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    if layout.lead > 1 || layout.rows < ROWS_FOR_COLUMNS {
        return;
    }
    let factor = |c: usize| fit(lineup, (c..n.truth.len()).step_by(layout.width)).map_or(1.0, |f| f.0);
    let factors: Vec<f64> = (0..layout.width).map(factor).collect();
    let most = factors.iter().map(|a| (a - 1.0).abs()).fold(0.0, f64::max);
    let off: Vec<usize> = (0..layout.width).filter(|&c| (factors[c] - 1.0).abs() > 0.1 * most).collect();
    if let [c] = off[..] {
        let values = n.truth.iter().enumerate().map(|(i, t)| if i % layout.width == c { t * factors[c] } else { *t });
        lineup.add(Fitted::Few, values.collect(), || format!("column {c} is {} times the truth", number(factors[c])));
    }
    let size = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>() / layout.width as f64;
    let normed = n.got.chunks(layout.width).all(|row| (size(row) - 1.0).abs() < 0.02);
    let values = n.truth.iter().enumerate().map(|(i, t)| t * factors[i % layout.width]).collect();
    lineup.add(Fitted::Many, values, || match normed {
        true => {
            "every column has a factor of its own, and every row has the size 1: the norm's weight is left out".into()
        }
        false => "every column has a factor of its own, the same in every row: another weight of a norm".into(),
    });
}

/// Tiles of keys that kernels have.
const TILES: [usize; 5] = [8, 16, 32, 64, 128];

/// Every row is a factor of its own times the truth.
fn rows(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    if layout.rows < ROWS_FOR_COLUMNS || layout.width < 8 {
        return;
    }
    if lineup.facts.at.site == Site::Mix {
        for tile in TILES {
            let share = |i: usize| {
                let seen = i / layout.width + 1;
                seen as f64 / seen.next_multiple_of(tile) as f64
            };
            let values = n.truth.iter().enumerate().map(|(i, t)| t * share(i)).collect();
            lineup.add(Fitted::No, values, || {
                format!("every row is divided by too much: padding of the last tile of {tile} keys counts as entries")
            });
        }
    }
    let each = (0..layout.lead * layout.rows)
        .map(|row| fit(lineup, row * layout.width..(row + 1) * layout.width).map_or(1.0, |f| f.0));
    let factors: Vec<f64> = each.collect();
    let (least, most) = factors.iter().fold((f64::INFINITY, 0.0f64), |m, &a| (m.0.min(a), m.1.max(a)));
    let values = n.truth.iter().enumerate().map(|(i, t)| t * factors[i / layout.width]).collect();
    lineup.add(Fitted::Many, values, || {
        format!(
            "every row has a factor of its own, from {} to {}: a norm or a softmax divides it by another number",
            number(least),
            number(most)
        )
    });
}

/// A factor with as many digits as tell it from 1.
pub(super) fn number(a: f64) -> String {
    let off = (a - 1.0).abs();
    let digits = if off > 0.0 && off < 1.0 { (3.0 - off.log10()).ceil().clamp(4.0, 12.0) as usize } else { 4 };
    match a.abs() {
        1e-3..1e4 => format!("{a:.digits$}"),
        _ => format!("{a:.4e}"),
    }
}
