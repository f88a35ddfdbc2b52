//! Suspects of pixels: another normalisation, borders, and how many grey levels pixels are off. Spec: D11.14

use super::factors::number;
use super::lineup::{Fitted, Lineup};
use crate::stage::Site;

/// A line a · t + b in place of the truth, by channel: another divisor, mean or standard deviation.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let n = lineup.facts.numbers;
    if lineup.facts.at.site != Site::Pixels || n.truth.len() < 16 {
        return;
    }
    let of = |i: usize| channel(n.shape, i);
    let lines: Vec<[f64; 2]> = (0..3).map(|c| line(n.truth, n.got, |i| of(i) == c)).collect();
    if lines.iter().flatten().any(|v| !v.is_finite()) {
        return;
    }
    let values = n.truth.iter().enumerate().map(|(i, t)| lines[of(i)][0] * t + lines[of(i)][1]).collect();
    let all = |a: f64| lines.iter().all(|line| (line[0] / a - 1.0).abs() < 1e-5);
    lineup.add(Fitted::Few, values, || match () {
        () if all(255.0 / 256.0) => "grey levels are divided by 256 in place of 255".into(),
        () if all(255.0) => "grey levels are not divided by 255".into(),
        () => {
            let each: Vec<String> = lines.iter().map(|[a, b]| format!("{} · t {b:+.4}", number(*a))).collect();
            format!(
                "every channel is a line of the right pixels, {}: another mean or standard deviation",
                each.join(", ")
            )
        }
    });
}

/// The line a · t + b that fits best.
fn line(truth: &[f64], got: &[f64], which: impl Fn(usize) -> bool) -> [f64; 2] {
    let (mut count, mut t1, mut t2, mut c1, mut tc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (_, (t, c)) in truth.iter().zip(got).enumerate().filter(|(i, _)| which(*i)) {
        (count, t1, t2, c1, tc) = (count + 1.0, t1 + t, t2 + t * t, c1 + c, tc + t * c);
    }
    let a = (count * tc - t1 * c1) / (count * t2 - t1 * t1);
    [a, (c1 - a * t1) / count]
}

/// The colour of a number: tiles [.., 3, h, w] and patches [patches, 3 · numbers] have one colour after the other.
fn channel(shape: &[usize], i: usize) -> usize {
    match *shape {
        [.., 3, h, w] => i / (h * w) % 3,
        [.., width] => i % width * 3 / width,
        [] => 0,
    }
}

/// The smallest step between different pixels of a colour: a grey level, in the stage's own numbers.
fn level(shape: &[usize], truth: &[f64], colour: usize) -> Option<f64> {
    let mut sorted: Vec<f64> = (0..truth.len()).filter(|&i| channel(shape, i) == colour).map(|i| truth[i]).collect();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (sorted.first()?, sorted.last()?);
    let tiny = (most - least) * 1e-4;
    sorted.windows(2).map(|w| w[1] - w[0]).filter(|step| *step > tiny).min_by(f64::total_cmp)
}

/// How far pixels are off, in grey levels, and what that looks like. Spec: D11.14
pub(in crate::golden) fn levels(shape: &[usize], truth: &[f64], got: &[f64]) -> Option<String> {
    // A colour of one level alone has no step: it counts in those of the others.
    let found: [Option<f64>; 3] = std::array::from_fn(|colour| level(shape, truth, colour));
    let any = found.into_iter().flatten().next()?;
    let levels = found.map(|level| level.unwrap_or(any));
    let off = |i: usize| ((got[i] - truth[i]) / levels[channel(shape, i)]).abs().round();
    let wrong = (0..truth.len()).filter(|&i| off(i) >= 1.0).count();
    let most = (0..truth.len()).map(off).fold(0.0, f64::max);
    if wrong == 0 {
        return Some("less than half a grey level: another mean, standard deviation or order of operations".into());
    }
    let share = 100.0 * wrong as f64 / truth.len() as f64;
    let share = if share < 1.0 { format!("{share:.2}") } else { format!("{share:.0}") };
    let words = match most {
        1.0 => format!("one grey level in {share} % of the values: another resampler, or another rounding?"),
        most => format!("up to {most} grey levels, in {share} % of the values"),
    };
    let border = bordered(shape, truth, got, any);
    Some(if border { format!("{words}; borders of one colour: padded in place of stretched?") } else { words })
}

/// Whether the candidate has lines of one colour at two opposite sides of a tile, where the truth has a picture.
fn bordered(shape: &[usize], truth: &[f64], got: &[f64], level: f64) -> bool {
    let [.., 3, height, width] = *shape else { return false };
    let plane = height * width;
    let flat = |x: &[f64], at: &dyn Fn(usize) -> usize, count: usize| {
        (0..count).all(|i| (x[at(i)] - x[at(0)]).abs() < level / 2.0)
    };
    (0..truth.len() / plane).any(|p| {
        let sides: [(&dyn Fn(usize) -> usize, usize); 4] = [
            (&|i| p * plane + i, width),
            (&|i| (p + 1) * plane - width + i, width),
            (&|i| p * plane + i * width, height),
            (&|i| p * plane + i * width + width - 1, height),
        ];
        let alone = |k: usize| flat(got, sides[k].0, sides[k].1) && !flat(truth, sides[k].0, sides[k].1);
        alone(0) && alone(1) || alone(2) && alone(3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_14_pixels_are_told_in_grey_levels() {
        let truth: Vec<f64> = (0..3 * 8 * 8).map(|i| f64::from(i * 7 % 50) / 127.5 - 1.0).collect();
        let shape = [1, 3, 8, 8];
        let mut got = truth.clone();
        (0..10).for_each(|i| got[i * 19] += 1.0 / 127.5);
        let said = |got: &[f64]| levels(&shape, &truth, got).unwrap();
        assert_eq!(said(&got), "one grey level in 5 % of the values: another resampler, or another rounding?");
        got[3] += 4.0 / 127.5;
        assert!(said(&got).starts_with("up to 4 grey levels, in "));
        let near: Vec<f64> = truth.iter().map(|t| t + 1e-3).collect();
        assert!(said(&near).starts_with("less than half a grey level"));
        let mut padded = truth.clone();
        for plane in 0..3 {
            (0..8).for_each(|x| (padded[plane * 64 + x], padded[plane * 64 + 56 + x]) = (-1.0, -1.0));
        }
        assert!(said(&padded).ends_with("padded in place of stretched?"));
    }
}
