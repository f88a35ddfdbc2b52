//! From real shares to integer budgets, in exact arithmetic. Spec: A8.8, A8.9
//!
//! Shares are measured numbers (f64). A share enters as the nearest whole multiple of 2^−40 of the power of two at or
//! below the largest share, so shares that differ only by the rounding of their own sums are equal. Everything after
//! that is an integer or a quotient of integers. No order of operations, no compiler and no thread can move an entry
//! from one layer to another, and scaling all shares by a power of two changes nothing.

use super::Retain;
use std::cmp::Ordering;

/// The real budget of a layer, whole + rest / D. D is the same for all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    /// The floor of the budget.
    pub whole: u128,
    /// The remainder, in units of 1/D.
    pub rest: u128,
}

/// Integer budgets of L layers of `candidates` entries: in proportion to `shares`, capped, with an exact sum. → \[L\]
///
/// shares: \[L\], finite and not negative. If all shares are zero, they count as equal.
/// Spec: A8.8, A8.9
///
/// ```
/// use aircache::policy::{apportion, Retain};
/// // 3 layers of 10, half of all: 15. The first is capped at 10; the others share the remaining 5 as 1 : 1.
/// assert_eq!(apportion(&[8.0, 1.0, 1.0], "0.5".parse::<Retain>()?, 10), [10, 3, 2]);
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn apportion(shares: &[f64], retain: Retain, candidates: usize) -> Vec<usize> {
    let total = retain.total(candidates, shares.len());
    let quotas = quotas(&multiples(shares, SHARE_BITS), retain, candidates, total);
    floor_of_one(largest_remainders(&quotas, total), total)
}

/// The number of bits after the leading bit of the largest share that count. Spec: A8.9
const SHARE_BITS: u32 = 40;

/// Non-negative numbers as the nearest integers (ties up) in units of 2^−`bits` of the power of two at or below the
/// largest; `bits` up to 52. Spec: A8.9
pub(super) fn multiples(values: &[f64], bits: u32) -> Vec<u128> {
    // x = significand · 2^(exponent − 1075)
    let parts = |x: f64| {
        let hidden = u64::from(x >= f64::MIN_POSITIVE) << 52;
        ((x.to_bits() & ((1 << 52) - 1)) | hidden, ((x.to_bits() >> 52) as u32 & 0x7ff).max(1))
    };
    let top = values.iter().map(|&x| parts(x).1).max().unwrap_or(1);
    let nearest = |(significand, exponent): (u64, u32)| {
        let doubled = ((significand as u128) << 1).checked_shr(52 - bits + top - exponent).unwrap_or(0);
        doubled.div_ceil(2)
    };
    values.iter().map(|&x| nearest(parts(x))).collect()
}

/// Real budgets: share · r · N if no layer is capped. Otherwise each capped layer has N, and the other layers share the
/// rest of the integer total in proportion to their shares, until no layer exceeds N. Spec: A8.8
fn quotas(weights: &[u128], retain: Retain, candidates: usize, total: usize) -> Vec<Quota> {
    let (num, den) = retain.ratio(candidates);
    let (n, layers, total) = (candidates as u128, weights.len() as u128, total as u128);
    let mut capped = vec![false; weights.len()];
    loop {
        let free: Vec<usize> = (0..weights.len()).filter(|&l| !capped[l]).collect();
        let full = layers - free.len() as u128;
        let sum: u128 = free.iter().map(|&l| weights[l]).sum();
        // If the weights of all free layers are 0, the layers share equally.
        let weight = |l: usize| if sum == 0 { 1 } else { weights[l] };
        let sum = if sum == 0 { free.len() as u128 } else { sum };
        let (pool, unit) = if full == 0 { (num * n * layers, den * sum) } else { (total - n * full, sum) };
        let mut quotas = vec![Quota { whole: n, rest: 0 }; weights.len()];
        free.iter().for_each(|&l| quotas[l] = multiply_divide(weight(l), pool, unit));
        let over: Vec<usize> = free.into_iter().filter(|&l| over(quotas[l], n)).collect();
        if over.is_empty() {
            return quotas;
        }
        over.into_iter().for_each(|l| capped[l] = true);
    }
}

fn over(q: Quota, n: u128) -> bool {
    q.whole > n || (q.whole == n && q.rest > 0)
}

/// a · b / d with the remainder, by doubling: exact even if the product does not fit. Needs a · (b/d) and 3·d below
/// 2^128.
fn multiply_divide(a: u128, b: u128, d: u128) -> Quota {
    let (whole, rest) = (b / d, b % d);
    let mut q = Quota { whole: 0, rest: 0 };
    for bit in (0..u128::BITS - a.leading_zeros()).rev() {
        let set = (a >> bit) & 1;
        q = Quota { whole: 2 * q.whole + set * whole, rest: 2 * q.rest + set * rest };
        q = Quota { whole: q.whole + q.rest / d, rest: q.rest % d };
    }
    q
}

/// Compares two quotients of integers exactly: whole parts first, then the inverses of the remainders.
pub(super) fn compare(a: (u128, u128), b: (u128, u128)) -> Ordering {
    let (whole_a, rest_a) = (a.0 / a.1, a.0 % a.1);
    let (whole_b, rest_b) = (b.0 / b.1, b.0 % b.1);
    whole_a.cmp(&whole_b).then_with(|| match (rest_a, rest_b) {
        (0, _) | (_, 0) => rest_a.cmp(&rest_b),
        _ => compare((b.1, rest_b), (a.1, rest_a)),
    })
}

/// Floors, then one more for each of the largest remainders until the sum is `total`; ties go to the lower layer.
/// Spec: A8.9
pub(super) fn largest_remainders(quotas: &[Quota], total: usize) -> Vec<usize> {
    let mut budget: Vec<usize> = quotas.iter().map(|q| q.whole as usize).collect();
    let mut order: Vec<usize> = (0..quotas.len()).collect();
    order.sort_by_key(|&l| (std::cmp::Reverse(quotas[l].rest), l));
    let left = total - budget.iter().sum::<usize>();
    order.into_iter().take(left).for_each(|l| budget[l] += 1);
    budget
}

/// If the total allows one for each layer, each empty layer takes one from the fullest layer (ties: the higher).
/// Spec: A8.9
pub(super) fn floor_of_one(mut budget: Vec<usize>, total: usize) -> Vec<usize> {
    if total >= budget.len() {
        for empty in 0..budget.len() {
            if budget[empty] == 0 {
                let fullest = (0..budget.len()).fold(0, |most, l| if budget[l] >= budget[most] { l } else { most });
                budget[fullest] -= 1;
                budget[empty] = 1;
            }
        }
    }
    budget
}
