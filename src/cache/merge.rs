//! Merging: an evicted entry goes into an entry that stays, instead of being dropped. Not here: which entries stay.

use super::{Cache, HeadCache};
use crate::num::{Grid, Real, sum};

/// Into which entry an evicted entry goes, and with what weight. Spec: E7.5, E7.6
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Into the kept candidate that stands nearest; all have the same weight.
    Nearest,
    /// Into the kept entry whose key is most alike; the kept entry has the greater weight.
    Pivot,
    /// As `Nearest`, but in place of each evicted candidate goes the one that stands `first` places before it, and the
    /// first and the last candidates take none. Spec: E9.21
    Shifted {
        /// How many candidates at the beginning always stay.
        first: usize,
        /// How many candidates at the end always stay.
        last: usize,
    },
}

impl<T: Real> Cache<T> {
    /// A cache of the named entries, into which the other entries are merged. keep: \[layer\]\[KV head\], indices into
    /// that head's entries, ascending; candidates: the entries that may be evicted, ascending; grid: the type in which
    /// merged numbers are stored. Spec: E7.5, E7.6
    ///
    /// # Panics
    /// As [`compact`](Self::compact).
    pub fn merged(&self, keep: &[Vec<Vec<usize>>], candidates: &[usize], how: Merge, grid: Grid) -> Self {
        self.check(keep);
        let merge = |(heads, keep): (&Vec<HeadCache<T>>, &Vec<Vec<usize>>)| {
            heads.iter().zip(keep).map(|(head, keep)| head.merged(keep, candidates, how, grid)).collect()
        };
        Cache { layers: self.layers.iter().zip(keep).map(merge).collect(), rows: self.rows }
    }
}

impl<T: Real> HeadCache<T> {
    /// For each evicted candidate: the entry that is merged, and the place in `keep` of the entry that it goes into. An
    /// entry that has no entry to go into is left out. Spec: E7.6, E9.21
    pub fn targets(&self, keep: &[usize], candidates: &[usize], how: Merge) -> Vec<(usize, usize)> {
        let goes = |entry: &usize| keep.binary_search(entry).is_err();
        let evicted = candidates.iter().copied().filter(goes);
        match how {
            Merge::Nearest => nearest(keep, candidates, evicted),
            Merge::Shifted { first, last } => {
                let among = first.min(candidates.len())..candidates.len().saturating_sub(last).max(first);
                let sorted = candidates.get(among).unwrap_or(&[]);
                let earlier =
                    sorted.iter().zip(candidates).filter(|(entry, _)| goes(entry)).map(|(_, &earlier)| earlier);
                nearest(keep, sorted, earlier)
            }
            Merge::Pivot => {
                let directions: Vec<Vec<T>> = keep.iter().map(|&entry| self.direction(entry)).collect();
                let alike = |a: &[T], b: &[T]| sum(&a.iter().zip(b).map(|(&a, &b)| a * b).collect::<Vec<T>>());
                let most = |entry: usize| {
                    let own = self.direction(entry);
                    let all = directions.iter().map(|other| alike(&own, other));
                    let best = |best: (usize, T), next: (usize, T)| if next.1 > best.1 { next } else { best };
                    all.enumerate().reduce(best).map(|(place, _)| (entry, place))
                };
                evicted.filter_map(most).collect()
            }
        }
    }

    /// The key divided by its norm; a key of zeros stays zero. → \[d_h\]
    fn direction(&self, entry: usize) -> Vec<T> {
        let key: Vec<T> = self.key(entry).collect();
        let norm = sum(&key.iter().map(|&k| k * k).collect::<Vec<T>>()).sqrt();
        key.into_iter().map(|k| if norm > T::ZERO { k / norm } else { k }).collect()
    }

    /// The kept entries, each with the entries that go into it; keys are averaged as they are cached, after rotary. An
    /// entry that takes no other is copied. grid: the type in which merged numbers are stored.
    /// Spec: E7.5, C7.5a, C7.5b, R7.5
    pub fn merged(&self, keep: &[usize], candidates: &[usize], how: Merge, grid: Grid) -> Self {
        let mut into: Vec<Vec<usize>> = vec![vec![]; keep.len()];
        self.targets(keep, candidates, how).into_iter().for_each(|(entry, place)| into[place].push(entry));
        let mut merged = self.picked(&[]);
        merged.reserve(keep.len());
        for (&entry, more) in keep.iter().zip(&into) {
            let of = |own: T, others: &mut dyn Iterator<Item = T>| match more.len() {
                0 => own,
                m => grid.round(mean(own, others, m, how)),
            };
            let mut keys: Vec<_> = more.iter().map(|&e| self.key(e)).collect();
            let key: Vec<T> =
                self.key(entry).map(|own| of(own, &mut keys.iter_mut().filter_map(Iterator::next))).collect();
            let mut values: Vec<_> = more.iter().map(|&e| self.value(e)).collect();
            let value: Vec<T> =
                self.value(entry).map(|own| of(own, &mut values.iter_mut().filter_map(Iterator::next))).collect();
            merged.push(self.rows()[entry], key.into_iter(), value.into_iter());
        }
        merged
    }
}

/// Each of these entries with the place in `keep` of the nearest of the candidates that stay; ties go to the lower.
/// Spec: E7.6
fn nearest(keep: &[usize], candidates: &[usize], entries: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let stays = |place: &usize| candidates.binary_search(&keep[*place]).is_ok();
    let places: Vec<usize> = (0..keep.len()).filter(stays).collect();
    let nearest = |entry: usize| places.iter().copied().min_by_key(|&place| keep[place].abs_diff(entry));
    entries.filter_map(|entry| Some((entry, nearest(entry)?))).collect()
}

/// The mean of an entry's number and those of the m entries that go into it; under pivot each of these is first
/// averaged with the entry's own. Spec: E7.5
fn mean<T: Real>(own: T, others: &mut dyn Iterator<Item = T>, m: usize, how: Merge) -> T {
    let half = T::of(0.5);
    let all = others.fold(own, |sum, other| match how {
        Merge::Nearest | Merge::Shifted { .. } => sum + other,
        Merge::Pivot => sum + half * (other + own),
    });
    all / T::of((m + 1) as f64)
}
