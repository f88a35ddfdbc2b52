//! Suspects of rotated stages: other positions, another base, pairs that are turned another way. Spec: D11.6

use super::factors::number;
use super::facts::Rotation;
use super::lineup::{Fitted, Lineup};
use crate::golden::arc;
use crate::golden::measure::Layout;
use crate::num::Grid;
use std::f64::consts::PI;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let facts = lineup.facts;
    if let Some(rotation) = &facts.rotation {
        positions(lineup, rotation);
        formed(lineup, rotation);
        neighbours(lineup, rotation);
        if facts.layout().rows > 1 {
            base(lineup, rotation);
        } else {
            other_position(lineup, rotation);
        }
    }
    turned(lineup);
}

/// The truth with other angles.
fn with(lineup: &Lineup<'_>, rotation: &Rotation, angle: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut values = lineup.facts.numbers.truth.to_vec();
    rotation.turn_by(lineup.facts.layout(), &mut values, |row, pair| angle(row, pair) - rotation.angle(row, pair));
    values
}

/// Positions that are wrong in the same way in every row.
fn positions(lineup: &mut Lineup<'_>, rotation: &Rotation) {
    let pairs = rotation.frequencies.len();
    let turn = |lineup: &Lineup<'_>, f: &dyn Fn(usize, f64) -> f64| {
        with(lineup, rotation, |row, pair| {
            f(row, rotation.positions[row * pairs + pair] as f64) * rotation.frequencies[pair]
        })
    };
    for by in [1.0, -1.0, 2.0, -2.0] {
        let (count, way) =
            (if by == 1.0 || by == -1.0 { "one" } else { "two" }, if by > 0.0 { "large" } else { "small" });
        let values = turn(lineup, &|_, p| p + by);
        lineup.add(Fitted::No, values, || format!("every position is {count} too {way}"));
    }
    let values = turn(lineup, &|_, _| 0.0);
    lineup.add(Fitted::No, values, || "pairs are not rotated".into());
    let values = turn(lineup, &|_, p| 2.0 * p);
    lineup.add(Fitted::No, values, || "pairs are rotated twice".into());
    let values = turn(lineup, &|_, p| -p);
    lineup.add(Fitted::No, values, || "pairs are rotated in the other direction".into());
    if rotation.positions.chunks(pairs).any(|row| row.iter().any(|p| *p != row[0])) {
        let values = turn(lineup, &|row, _| row as f64);
        lineup.add(Fitted::No, values, || "pairs are rotated by the number of the row: M-RoPE is left out".into());
        for (axis, name) in [(0, "time"), (pairs / 2, "height"), (pairs - 1, "width")] {
            let values = turn(lineup, &|row, _| rotation.positions[row * pairs + axis] as f64);
            lineup.add(Fitted::No, values, || format!("all pairs are rotated by the position of pair {axis} ({name})"));
        }
    }
    for (grid, name) in [(Grid::Bf16, "bf16"), (Grid::F16, "f16")] {
        let values = turn(lineup, &|_, p| grid.round(p));
        lineup.add(Fitted::No, values, || format!("positions are rounded to {name}"));
    }
}

/// Angles, or their cosines and sines, that were formed in a half type.
fn formed(lineup: &mut Lineup<'_>, rotation: &Rotation) {
    let pairs = rotation.frequencies.len();
    for (grid, name) in [(Grid::Bf16, "bf16"), (Grid::F16, "f16")] {
        let values = with(lineup, rotation, |row, pair| {
            let position = rotation.positions[row * pairs + pair] as f64;
            grid.round(grid.round(position) * grid.round(rotation.frequencies[pair]))
        });
        lineup.add(Fitted::No, values, || format!("angles are formed in {name}"));
        let values = with(lineup, rotation, |row, pair| grid.round(rotation.angle(row, pair)));
        lineup.add(Fitted::No, values, || format!("angles are rounded to {name}"));
    }
}

/// Neighbours that turn together, in place of the two halves of a head.
fn neighbours(lineup: &mut Lineup<'_>, rotation: &Rotation) {
    let (n, layout, pairs) = (lineup.facts.numbers, lineup.facts.layout(), rotation.frequencies.len());
    let mut plain = n.truth.to_vec();
    rotation.turn(layout, &mut plain, -1.0);
    let mut side = plain.clone();
    for (i, row) in side.chunks_exact_mut(layout.width).enumerate() {
        for pair in 0..pairs {
            let (sin, cos) = libm::sincos(rotation.angle(i % layout.rows, pair));
            let (a, b) = (row[2 * pair], row[2 * pair + 1]);
            (row[2 * pair], row[2 * pair + 1]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    // Angles in f32 differ from exact ones, and the pairs of neighbours have no arcs.
    lineup.add_like(ANGLES, side, || {
        "pairs are neighbours (0, 1), (2, 3), … in place of halves (0, d/2), (1, d/2 + 1), …".into()
    });
    let mut woven = n.truth.to_vec();
    for (row, from) in woven.chunks_exact_mut(layout.width).zip(n.truth.chunks_exact(layout.width)) {
        (0..pairs).for_each(|pair| (row[2 * pair], row[2 * pair + 1]) = (from[pair], from[pair + pairs]));
    }
    lineup.add(Fitted::No, woven, || {
        "the halves of every head are woven: its dimensions stand as 0, d/2, 1, d/2 + 1, …".into()
    });
}

/// The share of the squared error that angles in f32 leave.
const ANGLES: f64 = 1e-4;

/// The position that the one row of a step shows: the nearest to every pair's angle.
fn other_position(lineup: &mut Lineup<'_>, rotation: &Rotation) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    let own = rotation.positions[0];
    let far = |by: i64| -> f64 {
        let mut values = n.truth.to_vec();
        rotation.turn_by(layout, &mut values, |_, pair| by as f64 * rotation.frequencies[pair]);
        values.iter().zip(n.got).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let Some(by) = (-own..=own).filter(|by| *by != 0).min_by(|&a, &b| far(a).total_cmp(&far(b))) else { return };
    let values = with(lineup, rotation, |_, pair| (own + by) as f64 * rotation.frequencies[pair]);
    lineup.add(Fitted::Few, values, || format!("the token stands at position {}; its own is {own}", own + by));
}

/// Bases that models have.
const ROUND: [f64; 10] = [1e3, 1e4, 1e5, 1.5e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7];

/// Frequencies of another base, or of positions that are scaled.
fn base(lineup: &mut Lineup<'_>, rotation: &Rotation) {
    let layout = lineup.facts.layout();
    let pairs = rotation.frequencies.len();
    if pairs < 4 || rotation.frequencies[0] <= 0.0 {
        return;
    }
    let found: Vec<Option<f64>> = (0..pairs).map(|pair| frequency(lineup, layout, rotation, pair)).collect();
    let (first, d) = (rotation.frequencies[1] / rotation.frequencies[0], layout.width as f64);
    let theta = first.powf(-d / 2.0);
    for base in ROUND.into_iter().filter(|base| (base / theta - 1.0).abs() > 1e-3) {
        let values = by_frequencies(lineup, rotation, &|i| base.powf(-2.0 * i as f64 / d));
        lineup.add(Fitted::No, values, || format!("the rotary base is {base:.0}; the model's is {theta:.0}"));
    }
    // Of a base, every pair but the first shows the logarithm.
    let shown =
        (1..pairs).filter_map(|i| Some((-(found[i].filter(|f| *f > 0.0)?.ln()) * d / (2.0 * i as f64), i as f64)));
    let (sum, weight) = shown.fold((0.0, 0.0), |m, (log, w)| (m.0 + log * w, m.1 + w));
    if weight > 0.0 {
        let base = (sum / weight).exp();
        let values = by_frequencies(lineup, rotation, &|i| base.powf(-2.0 * i as f64 / d));
        lineup.add(Fitted::Few, values, || format!("the rotary base is {base:.0}; the model's is {theta:.0}"));
    }
    let ratios: Vec<f64> = (0..pairs).filter_map(|i| Some(found[i]? / rotation.frequencies[i])).collect();
    if !ratios.is_empty() {
        let mut sorted = ratios;
        sorted.sort_by(f64::total_cmp);
        let times = sorted[sorted.len() / 2];
        let values = by_frequencies(lineup, rotation, &|i| times * rotation.frequencies[i]);
        lineup.add(Fitted::Few, values, || format!("positions are {} times as large", number(times)));
    }
}

/// The truth with other frequencies.
fn by_frequencies(lineup: &Lineup<'_>, rotation: &Rotation, frequency: &dyn Fn(usize) -> f64) -> Vec<f64> {
    let pairs = rotation.frequencies.len();
    let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
    with(lineup, rotation, |row, pair| rotation.positions[row * pairs + pair] as f64 * frequencies[pair])
}

/// The frequency that the errors of a pair show: its phase grows with the position.
fn frequency(lineup: &Lineup<'_>, layout: Layout, rotation: &Rotation, pair: usize) -> Option<f64> {
    let (n, pairs) = (lineup.facts.numbers, rotation.frequencies.len());
    let phasor = |lead: usize, row: usize| {
        let at = (lead * layout.rows + row) * layout.width + pair;
        let ((a, b), (x, y)) = ((n.truth[at], n.truth[at + pairs]), (n.got[at], n.got[at + pairs]));
        (a * x + b * y, a * y - b * x)
    };
    let phases: Vec<(i64, f64, f64)> = (0..layout.rows)
        .map(|row| {
            let all = (0..layout.lead).map(|lead| phasor(lead, row));
            let (re, im) = all.fold((0.0, 0.0), |m, p| (m.0 + p.0, m.1 + p.1));
            (rotation.positions[row * pairs + pair], re, im)
        })
        .collect();
    // Neighbouring rows give the difference of frequencies up to a turn; the sum over all rows sharpens it.
    let (re, im) = phases.windows(2).filter(|w| w[1].0 == w[0].0 + 1).fold((0.0, 0.0), |m, w| {
        let ((_, a, b), (_, c, d)) = (w[0], w[1]);
        let size = (a.hypot(b) * c.hypot(d)).max(f64::MIN_POSITIVE);
        (m.0 + (a * c + b * d) / size, m.1 + (a * d - b * c) / size)
    });
    if re == 0.0 && im == 0.0 {
        return None;
    }
    let mut off = libm::atan2(im, re);
    for _ in 0..4 {
        let (mut weight, mut rest) = (0.0, 0.0);
        for &(p, re, im) in &phases {
            let mut left = libm::atan2(im, re) - off * p as f64;
            left -= (left / (2.0 * PI)).round() * 2.0 * PI;
            let size = re.hypot(im);
            (weight, rest) = (weight + size * (p * p) as f64, rest + size * left * p as f64);
        }
        off += rest / weight.max(f64::MIN_POSITIVE);
    }
    Some(rotation.frequencies[pair] + off)
}

/// Every pair is only turned.
fn turned(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    if !n.rotated {
        return;
    }
    let mut near = n.truth.to_vec();
    arc::nearest(layout, &vec![PI; layout.rows * (layout.width / 2)], &mut near, n.got);
    lineup.add(Fitted::Many, near, || {
        "each pair is only turned, too far or not far enough: rotary angles or positions".into()
    });
}
