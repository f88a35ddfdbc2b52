//! Softmax of a row of scores. Naive twin: [`super::naive::softmax`]. Spec: E3.2

use crate::num::{LANES, Real, sum};

/// Turns scores into weights exp(s − m). Returns their canonical sum: 0 for an empty row, NaN if a score is NaN.
/// Spec: E3.2
#[inline(always)]
pub(crate) fn weights<T: Real>(s: &mut [T]) -> T {
    let mut m = [T::NEG_INFINITY; LANES];
    let (blocks, rest) = s.as_chunks::<LANES>();
    for block in blocks {
        for j in 0..LANES {
            m[j] = block[j].max(m[j]);
        }
    }
    let m = m.iter().chain(rest).fold(T::NEG_INFINITY, |m, &v| v.max(m));
    if m == T::NEG_INFINITY {
        // Every score is −∞ or NaN: the row is masked everywhere (C3.2a), or it holds a NaN (C3.2c).
        let nothing = s.iter().copied().find(|v| v.to_f64().is_nan()).unwrap_or(T::ZERO);
        s.fill(nothing);
        return nothing;
    }
    s.iter_mut().for_each(|p| *p = (*p - m).exp());
    sum(s)
}

/// Softmax of one row of scores, in place.
///
/// s: \[n\], −∞ where masked. A row that is masked everywhere becomes zeros (C3.2a); a row with a NaN becomes all NaN
/// (C3.2c).
/// Spec: E3.2, A3.2
pub fn softmax<T: Real>(s: &mut [T]) {
    let total = weights(s);
    if total != T::ZERO {
        s.iter_mut().for_each(|p| *p = *p / total);
    }
}
