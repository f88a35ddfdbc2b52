//! Top-k by itself: `x` [..., n] and `out` [..., k], the places of the k largest numbers of each row, in any order. It is
//! judged exactly; of equal numbers at the edge any may stay. Spec: E10.20

use super::arrays::Arrays;
use crate::error::{Result, ensure};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::ranking;

/// The verdict on the chosen places.
///
/// # Errors
/// An array is missing or does not fit the other; a number is NaN.
pub(super) fn judge(arrays: &Arrays<'_>) -> Result<StageVerdict> {
    let (x, rows, n) = arrays.rows("x")?;
    let nan = x.iter().position(|v| v.is_nan());
    ensure!(nan.is_none(), arrays.at("x"), "numbers that can be ordered", "NaN");
    let out = arrays.file.i64("out")?;
    let shape = out.shape().to_vec();
    let k = shape.last().copied().unwrap_or(0);
    let fits = k > 0 && k <= n && out.len() == rows * k;
    ensure!(fits, arrays.at("out"), format!("{rows} rows of at most {n} places"), format!("{shape:?}"));
    let out: Vec<i64> = out.into_iter().collect();
    let mut verdict = chosen(&x, n, &out, k);
    if verdict.outcome == Outcome::Fail {
        verdict.cause = cause(&x, n, &out, k).unwrap_or_default();
    }
    Ok(verdict)
}

/// Whether the chosen places hold the largest numbers of their rows.
fn chosen(x: &[f64], n: usize, out: &[i64], k: usize) -> StageVerdict {
    let mut tied = false;
    for (row, (x, places)) in x.chunks_exact(n).zip(out.chunks_exact(k)).enumerate() {
        let fail = |words: String| StageVerdict::plain("out", Outcome::Fail, format!("row {row}: {words}"));
        let mut chosen = vec![false; n];
        for &place in places {
            let Some(at) = usize::try_from(place).ok().filter(|&at| at < n) else {
                return fail(format!("place {place} of {n}"));
            };
            if std::mem::replace(&mut chosen[at], true) {
                return fail(format!("place {place} twice"));
            }
        }
        let least = places.iter().map(|&at| x[at as usize]).fold(f64::INFINITY, f64::min);
        let left = |at: &usize| !chosen[*at];
        let Some(best) = (0..n).filter(left).reduce(|a, b| if x[b] > x[a] { b } else { a }) else { continue };
        if x[best] > least {
            let larger = (0..n).filter(left).filter(|&at| x[at] > least).count();
            let i = places.iter().position(|&at| x[at as usize] == least).unwrap_or(0);
            let words = match larger {
                1 => format!("place {best} was left out, whose number is larger"),
                _ => format!("{larger} places were left out whose numbers are larger, such as {best}"),
            };
            return fail(words).at(vec![row, i], x[best], least);
        }
        tied |= x[best] == least
            && (0..n).any(|at| {
                left(&at) && x[at] == least && places.iter().any(|&p| p as usize > at && x[p as usize] == least)
            });
    }
    match tied {
        true => StageVerdict::plain("out", Outcome::Admissible, "of equal numbers, a later place was taken"),
        false => StageVerdict::plain("out", Outcome::Pass, ""),
    }
}

/// Another rule that gives just these places in every row. Spec: D11.11
fn cause(x: &[f64], n: usize, out: &[i64], k: usize) -> Option<String> {
    let rows = out.len() / k;
    let ranks = |row: usize| ranking(&x[row * n..][..n]);
    let first = |row: usize| ranks(row).into_iter().take(k).collect::<Vec<usize>>();
    let size = |row: usize| x[row * n..][..n].iter().map(|v| v.abs()).collect::<Vec<f64>>();
    let parts = |row: usize, side: usize| -> Vec<usize> {
        let part = |at: usize| ranking(&x[row * n + at..][..side]).into_iter().take(k * side / n).map(move |i| at + i);
        (0..n).step_by(side).flat_map(part).collect()
    };
    let is = |rule: &dyn Fn(usize) -> Vec<usize>| {
        (0..rows).all(|row| {
            let (mut due, mut got) = (rule(row), out[row * k..][..k].to_vec());
            due.sort_unstable();
            got.sort_unstable();
            due.iter().map(|&i| i as i64).eq(got)
        })
    };
    let from_one = |row: usize| first(row).into_iter().map(|i| i + 1).collect();
    let over_all = |row: usize| first(row).into_iter().map(|i| row * n + i).collect();
    type Places<'a> = &'a dyn Fn(usize) -> Vec<usize>;
    let rules: [(&str, Places<'_>); 6] = [
        ("the smallest numbers are taken", &|row| ranks(row)[n - k..].to_vec()),
        ("numbers are compared without their sign", &|row| ranking(&size(row))[..k].to_vec()),
        ("the largest number is left out: ranks are one late", &|row| ranks(row).into_iter().skip(1).take(k).collect()),
        ("places are counted from 1", &from_one),
        ("places are counted over all rows", &over_all),
        ("each row has the places of the row before", &|row| first((row + rows - 1) % rows)),
    ];
    let found = rules.iter().find(|(_, rule)| is(rule)).map(|(words, _)| words.to_string());
    let whole = |count: &usize| n.is_multiple_of(*count) && k.is_multiple_of(*count);
    let merged = || (2..=k).filter(whole).find(|count| is(&|row| parts(row, n / count)));
    found.or_else(|| Some(format!("each of {} parts gives as many places: the parts are not merged", merged()?)))
}
