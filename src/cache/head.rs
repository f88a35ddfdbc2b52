//! One KV head of one layer: its keys in blocks, its values in rows, and for each entry its row of the sequence.

use crate::kernel::{HeadView, HeadViews, key_at, push_key};
use crate::num::{Grid, LANES, Real};
use half::{bf16, f16};
use ndarray::Array2;

/// A full head grows by this many entries (C7.1b).
const GROWTH: usize = 256;

/// The cached entries of one KV head. Spec: D7.1, D3.4, D7.4
#[derive(Debug, Clone)]
pub struct HeadCache<T> {
    head_dim: usize,
    numbers: Numbers<T>,
    /// The row of the sequence that each entry came from, ascending.
    rows: Vec<usize>,
}

/// Blocks of 16 keys, transposed, and values, [len, d_h]. Spec: D7.4
#[derive(Debug, Clone)]
enum Numbers<T> {
    Own(Entries<T>),
    Bf16(Entries<bf16>),
    F16(Entries<f16>),
}

#[derive(Debug, Clone)]
struct Entries<S> {
    keys: Vec<S>,
    values: Vec<S>,
}

impl<S: Copy + Default> Entries<S> {
    const EMPTY: Self = Entries { keys: Vec::new(), values: Vec::new() };

    /// Makes room for exactly `more` entries after `len`.
    fn reserve(&mut self, len: usize, more: usize, d: usize) {
        let keys = (len + more).next_multiple_of(LANES) * d;
        self.keys.reserve_exact(keys.saturating_sub(self.keys.len()));
        self.values.reserve_exact(more * d);
    }

    fn push(&mut self, len: usize, key: impl ExactSizeIterator<Item = S>, value: impl Iterator<Item = S>) {
        push_key(&mut self.keys, len, key);
        self.values.extend(value);
    }

    fn copy(&mut self, from: &Self, to: usize, entry: usize, d: usize) {
        let key = (0..d).map(|i| key_at(&from.keys, d, entry, i));
        self.push(to, key, from.values[entry * d..][..d].iter().copied());
    }

    fn view(&self) -> HeadView<'_, S> {
        HeadView { keys: &self.keys, values: &self.values }
    }
}

impl<T: Real> HeadCache<T> {
    /// A head without entries.
    pub fn new(head_dim: usize) -> Self {
        HeadCache { head_dim, numbers: Numbers::Own(Entries::EMPTY), rows: Vec::new() }
    }

    /// A head that stores its entries in a type: every number is rounded as it is added. Spec: D7.4, R7.4
    pub fn stored(head_dim: usize, grid: Grid) -> Self {
        let numbers = match grid {
            Grid::Native => Numbers::Own(Entries::EMPTY),
            Grid::Bf16 => Numbers::Bf16(Entries::EMPTY),
            Grid::F16 => Numbers::F16(Entries::EMPTY),
        };
        HeadCache { numbers, ..Self::new(head_dim) }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the head has no entries.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of the sequence that the entries came from, ascending.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Makes room for exactly `more` entries.
    pub fn reserve(&mut self, more: usize) {
        match &mut self.numbers {
            Numbers::Own(entries) => entries.reserve(self.rows.len(), more, self.head_dim),
            Numbers::Bf16(entries) => entries.reserve(self.rows.len(), more, self.head_dim),
            Numbers::F16(entries) => entries.reserve(self.rows.len(), more, self.head_dim),
        }
        self.rows.reserve_exact(more);
    }

    /// Appends the entry of a row; entries before it stay (C7.1a). key, value: \[d_h\].
    pub fn push(&mut self, row: usize, key: impl ExactSizeIterator<Item = T>, value: impl Iterator<Item = T>) {
        if self.rows.len() == self.rows.capacity() {
            self.reserve(GROWTH);
        }
        match &mut self.numbers {
            // R7.4
            Numbers::Own(entries) => entries.push(self.rows.len(), key, value),
            Numbers::Bf16(entries) => {
                let narrow = |v: T| bf16::from_f32(v.to_f32());
                entries.push(self.rows.len(), key.map(narrow), value.map(narrow));
            }
            Numbers::F16(entries) => {
                let narrow = |v: T| f16::from_f32(v.to_f32());
                entries.push(self.rows.len(), key.map(narrow), value.map(narrow));
            }
        }
        self.rows.push(row);
    }

    /// A copy of some entries, ascending, in memory of exactly their size. Spec: E7.2
    ///
    /// # Panics
    /// An entry is out of range.
    pub fn picked(&self, entries: &[usize]) -> Self {
        let mut picked = HeadCache::stored(self.head_dim, self.stores());
        picked.reserve(entries.len());
        for (to, &e) in entries.iter().enumerate() {
            match (&mut picked.numbers, &self.numbers) {
                (Numbers::Own(picked), Numbers::Own(all)) => picked.copy(all, to, e, self.head_dim),
                (Numbers::Bf16(picked), Numbers::Bf16(all)) => picked.copy(all, to, e, self.head_dim),
                (Numbers::F16(picked), Numbers::F16(all)) => picked.copy(all, to, e, self.head_dim),
                _ => unreachable!("D7.4: both keep the same"),
            }
            picked.rows.push(self.rows[e]);
        }
        picked
    }

    /// The key of an entry: \[d_h\].
    pub fn key(&self, entry: usize) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.head_dim).map(move |i| match &self.numbers {
            Numbers::Own(entries) => key_at(&entries.keys, self.head_dim, entry, i),
            Numbers::Bf16(entries) => T::of_f32(key_at(&entries.keys, self.head_dim, entry, i).to_f32()),
            Numbers::F16(entries) => T::of_f32(key_at(&entries.keys, self.head_dim, entry, i).to_f32()),
        })
    }

    /// The value of an entry: \[d_h\].
    pub fn value(&self, entry: usize) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.head_dim).map(move |i| match &self.numbers {
            Numbers::Own(entries) => entries.values[entry * self.head_dim + i],
            Numbers::Bf16(entries) => T::of_f32(entries.values[entry * self.head_dim + i].to_f32()),
            Numbers::F16(entries) => T::of_f32(entries.values[entry * self.head_dim + i].to_f32()),
        })
    }

    /// All keys as rows: [len, d_h].
    pub fn keys(&self) -> Array2<T> {
        self.array((0..self.len()).flat_map(|e| self.key(e)))
    }

    /// All values as rows: [len, d_h].
    pub fn values(&self) -> Array2<T> {
        self.array((0..self.len()).flat_map(|e| self.value(e)))
    }

    fn array(&self, numbers: impl Iterator<Item = T>) -> Array2<T> {
        let shape = (self.len(), self.head_dim);
        Array2::from_shape_vec(shape, numbers.collect()).unwrap_or_else(|_| unreachable!("D7.1: d_h numbers an entry"))
    }

    /// The type that the head stores; `Native` is the container. Spec: D7.4
    pub fn stores(&self) -> Grid {
        match self.numbers {
            Numbers::Own(_) => Grid::Native,
            Numbers::Bf16(_) => Grid::Bf16,
            Numbers::F16(_) => Grid::F16,
        }
    }

    /// Adds the entries, in the layout of the attention kernel, to the views of a layer.
    pub(super) fn view<'a>(&'a self, heads: &mut HeadViews<'a, T>) {
        match (&self.numbers, heads) {
            (Numbers::Own(entries), HeadViews::Own(heads)) => heads.push(entries.view()),
            (Numbers::Bf16(entries), HeadViews::Bf16(heads)) => heads.push(entries.view()),
            (Numbers::F16(entries), HeadViews::F16(heads)) => heads.push(entries.view()),
            _ => unreachable!("D7.4: all heads of a cache store one type"),
        }
    }

    /// Bytes of the entries' keys and values. Spec: C7.1c
    pub fn bytes(&self) -> usize {
        let number = match self.numbers {
            Numbers::Own(_) => size_of::<T>(),
            Numbers::Bf16(_) | Numbers::F16(_) => size_of::<bf16>(),
        };
        2 * self.len() * self.head_dim * number
    }
}
