//! Top-k by itself: `x` [..., n] and `out` [..., k], the places of the k largest numbers of each row, in any order. It is
//! judged exactly; of equal numbers at the edge any may stay. Spec: E10.20

use super::arrays::Arrays;
use crate::error::{Result, ensure};
use crate::golden::verdict::{Outcome, StageVerdict};

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
    let mut tied = false;
    for (row, (x, places)) in x.chunks_exact(n).zip(out.chunks_exact(k)).enumerate() {
        let fail = |words: String| Ok(StageVerdict::plain("out", Outcome::Fail, format!("row {row}: {words}")));
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
            let words = format!("{larger} places were left out whose numbers are larger, such as {best}");
            let verdict = StageVerdict::plain("out", Outcome::Fail, format!("row {row}: {words}"));
            return Ok(verdict.at(vec![row, i], x[best], least));
        }
        tied |= x[best] == least
            && (0..n).any(|at| {
                left(&at) && x[at] == least && places.iter().any(|&p| p as usize > at && x[p as usize] == least)
            });
    }
    Ok(match tied {
        true => StageVerdict::plain("out", Outcome::Admissible, "of equal numbers, a later place was taken"),
        false => StageVerdict::plain("out", Outcome::Pass, ""),
    })
}
