//! Suspects of attention: a page, or all entries, read from an address that is some numbers off. Spec: D11.7

use super::attend::{Attend, Trial};
use super::lineup::Fitted;
use super::look::{LEFT, Look, SIZES, Sum, error};
use ndarray::{Array3, s};
use rayon::prelude::*;
use std::ops::Range;

/// How many numbers an address may be off.
const OFF: [isize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// All numbers some places before, as they lie in memory: [heads, entries, d], or [entries, heads, d].
fn off(x: &Array3<f64>, by: isize, heads_apart: bool) -> Array3<f64> {
    let (_, m, d) = x.dim();
    let heads = x.shape()[0];
    let at = |(g, j, c): (usize, usize, usize)| if heads_apart { (g * m + j) * d + c } else { (j * heads + g) * d + c };
    Array3::from_shape_fn(x.dim(), |place| {
        let from = at(place) as isize - by;
        let Some(from) = usize::try_from(from).ok().filter(|&from| from < x.len()) else { return 0.0 };
        let (line, c) = (from / d, from % d);
        if heads_apart { x[[line / m, line % m, c]] } else { x[[line % heads, line / heads, c]] }
    })
}

/// Adds the page and the distance that leave least. page: where the page begins, if known.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>, looks: &[Look<'_>], page: Option<usize>) {
    let (groups, m, d) = right.k.dim();
    if right.v.dim() != right.k.dim() {
        return;
    }
    let sizes = SIZES.into_iter().filter(|&size| size > 1 && size < m);
    let of = |size: usize| (0..m).step_by(size).map(move |from| from..m.min(from + size));
    let known = |r: &Range<usize>| page.is_none_or(|page| r.start == page);
    let pages: Vec<Range<usize>> = sizes.flat_map(of).filter(known).chain(std::iter::once(0..m)).collect();
    let orders = if groups > 1 { vec![true, false] } else { vec![true] };
    let mut best: Option<(f64, isize, bool, Range<usize>)> = None;
    for by in OFF.into_iter().filter(|&by| by < d as isize).flat_map(|by| [by, -by]) {
        for &heads_apart in &orders {
            let (k, v) = (off(right.k, by, heads_apart), off(right.v, by, heads_apart));
            let left = |look: &Look<'_>| -> Vec<f64> {
                let mut other = Sum(0.0, vec![0.0; d]);
                // Sums of all entries before each one, right and off.
                let (mut own, mut sums) = (other.clone(), vec![(other.clone(), other.clone())]);
                for j in 0..m {
                    if look.sees[j] {
                        own = own.with(look.e[j], look.values.row(j));
                        other = other.with(look.weight(k.slice(s![look.group, j, ..])), v.slice(s![look.group, j, ..]));
                    }
                    sums.push((own.clone(), other.clone()));
                }
                let page = |r: &Range<usize>| {
                    let (from, to) = (&sums[r.start], &sums[r.end]);
                    let changed = own.plus(-1.0, &to.0).plus(1.0, &from.0).plus(1.0, &to.1).plus(-1.0, &from.1);
                    look.apart(&changed)
                };
                pages.iter().map(page).collect()
            };
            let all: Vec<Vec<f64>> = looks.par_iter().map(left).collect();
            for (i, page) in pages.iter().enumerate() {
                let left: f64 = all.iter().map(|look| look[i]).sum();
                if best.as_ref().is_none_or(|best| left < best.0) {
                    best = Some((left, by, heads_apart, page.clone()));
                }
            }
        }
    }
    let Some((_, by, heads_apart, page)) = best.filter(|best| best.0 < LEFT * error(looks)) else { return };
    let read = |x: &Array3<f64>| {
        let (mut all, other) = (x.clone(), off(x, by, heads_apart));
        all.slice_mut(s![.., page.clone(), ..]).assign(&other.slice(s![.., page.clone(), ..]));
        all
    };
    let (k, v) = (read(right.k), read(right.v));
    trial.add(Fitted::Few, &Attend { k: &k, v: &v, ..right.with(|_| {}) }, || {
        let way = if by > 0 { "before" } else { "after" };
        let (first, last, far) = (page.start, page.end - 1, by.abs());
        format!("entries {first} to {last} are read from {far} numbers {way} their address: it is not aligned")
    });
}
