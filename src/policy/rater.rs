//! Who rates visual rows before they are dropped: the last row of the prompt, other text rows, rows of the vision tower,
//! or the distances of the rows from each other. Not here: where rows are dropped.

use super::attend::PackedKeys;
use crate::num::{Grid, Real};
use ndarray::{Array1, ArrayView1, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

/// Who rates visual rows before a cut. Spec: E9.19, D9.10, D9.11
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rater {
    /// The last row of the prompt, in the layer before the cut.
    LastRow,
    /// The text rows that the image looks at most, in the layer before the cut. Spec: E9.33, E9.34
    Text,
    /// The class token of the vision tower, before the decoder. Spec: E9.30
    Class,
    /// All rows of the vision tower, before the decoder. Spec: E9.31
    Received,
    /// `Class` if the tower has a class token, else `Received`.
    Dominant,
    /// The visual rows themselves, by their distances, before the decoder. Spec: E9.32
    Diverse,
    /// As `Dominant`; other rows are merged into some of the rows that stay. Spec: D9.12
    Zip,
}

/// What a vision tower says about its rows. Spec: E9.30, E9.31, E9.35
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The rows that rate: `Class` or `Received`.
    pub by: Rater,
    /// Whether the rows' keys are asked for, too.
    pub keys: bool,
}

impl Rater {
    /// The rater before the decoder that is written like this.
    pub(super) fn before_decoder(word: &str) -> Option<Rater> {
        let all = [Rater::Class, Rater::Received, Rater::Dominant, Rater::Diverse, Rater::Zip];
        all.into_iter().find(|rater| rater.word() == word)
    }

    /// The rater's word. The last row and the raters are not written alone.
    pub fn word(self) -> &'static str {
        match self {
            Rater::LastRow => "last-row",
            Rater::Text => "raters",
            Rater::Class => "class",
            Rater::Received => "received",
            Rater::Dominant => "dominant",
            Rater::Diverse => "diverse",
            Rater::Zip => "zip",
        }
    }

    /// What the vision tower is asked for; none if no row of the tower rates. class: whether the tower has a class token.
    /// Spec: D9.10, D9.12
    pub fn in_tower(self, class: bool) -> Option<Rate> {
        let by = match self {
            Rater::Dominant | Rater::Zip if class => Rater::Class,
            Rater::Dominant | Rater::Zip | Rater::Received => Rater::Received,
            Rater::Class => Rater::Class,
            Rater::LastRow | Rater::Text | Rater::Diverse => return None,
        };
        Some(Rate { by, keys: self == Rater::Zip })
    }
}

/// What one query row gives to each row, averaged over query heads: \[n\]. q: [H, d_h]; k: [G, n, d_h], the keys that
/// the row sees. Spec: E9.19, E9.30
///
/// ```
/// use aircache::{num::Grid, policy::votes};
/// use ndarray::{array, aview2};
/// let k = array![[[0.0], [0.0]]]; // one KV head, two rows
/// assert_eq!(votes(aview2(&[[1.0], [2.0]]), k.view(), Grid::Native), [0.5, 0.5]);
/// ```
pub fn votes<T: Real>(q: ArrayView2<'_, T>, k: ArrayView3<'_, T>, grid: Grid) -> Vec<T> {
    votes_of_raters(q.insert_axis(Axis(1)), &[k.shape()[1]], k, grid)
}

/// What several query rows give to each row, averaged over query heads and then over the query rows: \[n\].
/// q: [H, rows, d_h]; seen: the number of keys that each query row sees; k: [G, n, d_h]. Spec: E9.34, R9.34
pub fn votes_of_raters<T: Real>(q: ArrayView3<'_, T>, seen: &[usize], k: ArrayView3<'_, T>, grid: Grid) -> Vec<T> {
    let (heads, n) = (q.shape()[0], k.shape()[1]);
    let group = (heads / k.shape()[0].max(1)).max(1);
    let of_head = |h: usize| -> Vec<T> {
        let keys = PackedKeys::new(k.index_axis(Axis(0), h / group), (0..n).collect(), grid);
        let of_row = |(query, &seen): (ArrayView1<'_, T>, &usize)| {
            let mut p = vec![T::ZERO; n];
            keys.attend(&query.to_vec(), seen, &mut p);
            p
        };
        q.index_axis(Axis(0), h).outer_iter().zip(seen).flat_map(of_row).collect()
    };
    let all: Vec<Vec<T>> = (0..heads).into_par_iter().map(of_head).collect();
    let of_rows = mean(all.iter().map(Vec::as_slice), n * seen.len(), grid);
    mean(of_rows.chunks(n.max(1)), n, grid)
}

/// The mean of rows of `width` numbers, added one after the other, and stored.
fn mean<'a, T: Real>(rows: impl ExactSizeIterator<Item = &'a [T]>, width: usize, grid: Grid) -> Vec<T> {
    let (mut sum, count) = (vec![T::ZERO; width], T::of(rows.len() as f64));
    rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, &p)| *sum += p));
    sum.into_iter().map(|sum| grid.round(sum / count)).collect()
}

/// What the visual rows give to each text row, averaged over the visual rows: [text rows]. x: [n, d], merged embeddings.
/// Spec: E9.33, R9.33
///
/// ```
/// use aircache::{num::Grid, policy::relevance};
/// let x = ndarray::aview2(&[[1.0], [0.0], [0.0]]); // a visual row, two text rows
/// assert_eq!(relevance(x, &[0], &[1, 2], Grid::Native), [0.5, 0.5]);
/// ```
pub fn relevance<T: Real>(x: ArrayView2<'_, T>, visual: &[usize], text: &[usize], grid: Grid) -> Vec<T> {
    let text = PackedKeys::unscaled(x.select(Axis(0), text).view(), grid);
    let of_row = |&row: &usize| {
        let mut p = vec![T::ZERO; text.cols.len()];
        text.attend(&x.row(row).to_vec(), p.len(), &mut p);
        p
    };
    let all: Vec<Vec<T>> = visual.par_iter().map(of_row).collect();
    mean(all.iter().map(Vec::as_slice), text.cols.len(), grid)
}

/// What several query rows give to each row, summed over the query rows and averaged over query heads: \[n\].
/// q: [H, rows, d_h]; k: [G, n, d_h], the keys that every query row sees. Spec: E9.31
pub fn votes_of_rows<T: Real>(q: ArrayView3<'_, T>, k: ArrayView3<'_, T>, grid: Grid) -> Vec<T> {
    let (heads, n) = (q.shape()[0], k.shape()[1]);
    let group = (heads / k.shape()[0].max(1)).max(1);
    let of_head = |h: usize| {
        let keys = PackedKeys::new(k.index_axis(Axis(0), h / group), (0..n).collect(), grid);
        let (mut sum, mut p) = (vec![T::ZERO; n], vec![T::ZERO; n]);
        for query in q.index_axis(Axis(0), h).outer_iter() {
            keys.attend(&query.to_vec(), n, &mut p);
            sum.iter_mut().zip(&p).for_each(|(sum, &p)| *sum += p);
        }
        sum
    };
    let all: Vec<Vec<T>> = (0..heads).into_par_iter().map(of_head).collect();
    mean(all.iter().map(Vec::as_slice), n, grid)
}

/// Rows divided by their norms, for distances. Spec: E9.32
pub struct Directions<T> {
    unit: ndarray::Array2<T>,
    packed: PackedKeys<T>,
    grid: Grid,
}

impl<T: Real> Directions<T> {
    /// The directions of rows. rows: [n, d]. A row of zeros stays zero. R9.32: stored are norms, quotients, cosines and
    /// distances.
    pub fn new(rows: ArrayView2<'_, T>, grid: Grid) -> Self {
        let unit = super::unit::units(rows, grid);
        let packed = PackedKeys::unscaled(unit.view(), grid);
        Directions { unit, packed, grid }
    }

    /// 1 − the cosine between row i and each row: \[n\].
    pub fn distances(&self, i: usize) -> Vec<T> {
        let mut cosines = vec![T::ZERO; self.unit.nrows()];
        self.packed.products(&self.unit.row(i).to_vec(), &mut cosines);
        cosines.into_iter().map(|cosine| self.grid.round(T::ONE - cosine)).collect()
    }

    /// The distance of each row from the nearest other row: \[n\]; 2 if there is no other.
    pub fn nearest(&self) -> Vec<T> {
        let others = |i: usize| {
            let all = self.distances(i).into_iter().enumerate().filter(|(j, _)| *j != i);
            all.fold(T::of(2.0), |least, (_, distance)| if distance < least { distance } else { least })
        };
        (0..self.unit.nrows()).into_par_iter().map(others).collect()
    }
}

/// The distance of each row from its nearest other row, and the `keep` rows that the greedy choice takes, ascending.
/// rows: [n, d]. Spec: E9.32
///
/// ```
/// use aircache::{num::Grid, policy::spread};
/// use ndarray::aview2;
/// let rows = aview2(&[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [2.0, 0.0]]);
/// assert_eq!(spread(rows, 2, Grid::Native), (vec![0.0, 1.0, 1.0, 0.0], vec![0, 1]));
/// ```
pub fn spread<T: Real>(rows: ArrayView2<'_, T>, keep: usize, grid: Grid) -> (Vec<T>, Vec<usize>) {
    let directions = Directions::new(rows, grid);
    let nearest = directions.nearest();
    let mut far = Farthest::new(&directions, nearest.clone());
    let mut chosen: Vec<usize> = (0..keep.min(nearest.len())).filter_map(|_| far.next(|_| true)).collect();
    chosen.sort_unstable();
    (nearest, chosen)
}

/// The greedy choice of E9.32, one row at a time.
pub struct Farthest<'a, T> {
    directions: &'a Directions<T>,
    /// The distance of each row from the nearest row that was chosen; from the nearest other row before the first choice.
    pub far: Array1<T>,
    /// Whether each row was chosen.
    pub chosen: Vec<bool>,
}

impl<'a, T: Real> Farthest<'a, T> {
    /// No row is chosen. nearest: see [`Directions::nearest`].
    pub fn new(directions: &'a Directions<T>, nearest: Vec<T>) -> Self {
        let chosen = vec![false; nearest.len()];
        Farthest { directions, far: nearest.into(), chosen }
    }

    /// The farthest of the allowed rows that were not chosen yet; of equal rows, the lower one.
    pub fn farthest(&self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let open = (0..self.far.len()).filter(|&i| !self.chosen[i] && allowed(i));
        open.reduce(|best, i| if self.far[i] > self.far[best] { i } else { best })
    }

    /// Chooses the farthest of the allowed rows.
    pub fn next(&mut self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let next = self.farthest(allowed)?;
        let (first, from) = (!self.chosen.contains(&true), self.directions.distances(next));
        for (far, distance) in self.far.iter_mut().zip(from) {
            if first || distance < *far {
                *far = distance;
            }
        }
        self.chosen[next] = true;
        Some(next)
    }
}
