//! One KV head of one layer: its keys in blocks, its values in rows, and where each entry stood.

use crate::kernel::{HeadView, key_at, push_key};
use crate::num::{LANES, Real};
use ndarray::Array2;

/// Entries that room is made for at once when a head grows (C7.1b).
const GROWTH: usize = 256;

/// The cached entries of one KV head. Spec: D7.1, D3.4
#[derive(Debug, Clone)]
pub struct HeadCache<T> {
    head_dim: usize,
    /// Blocks of 16 keys, transposed.
    keys: Vec<T>,
    /// [len, d_h].
    values: Vec<T>,
    /// The row of the sequence that each entry came from, ascending.
    rows: Vec<usize>,
}

impl<T: Real> HeadCache<T> {
    /// A head without entries.
    pub fn new(head_dim: usize) -> Self {
        HeadCache { head_dim, keys: Vec::new(), values: Vec::new(), rows: Vec::new() }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of the sequence that the entries came from, ascending.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Makes room for exactly `more` entries.
    pub fn reserve(&mut self, more: usize) {
        let entries = self.len() + more;
        self.keys.reserve_exact((entries.next_multiple_of(LANES) * self.head_dim).saturating_sub(self.keys.len()));
        self.values.reserve_exact(more * self.head_dim);
        self.rows.reserve_exact(more);
    }

    /// Appends the entry of a row; entries before it stay (C7.1a). key, value: \[d_h\].
    pub fn push(&mut self, row: usize, key: impl ExactSizeIterator<Item = T>, value: impl Iterator<Item = T>) {
        if self.rows.len() == self.rows.capacity() {
            self.reserve(GROWTH);
        }
        push_key(&mut self.keys, self.rows.len(), key);
        self.values.extend(value);
        self.rows.push(row);
    }

    /// A copy of the entries named, ascending, in memory of just their size. Spec: E7.2
    ///
    /// # Panics
    /// Where an entry is out of range.
    pub fn picked(&self, entries: &[usize]) -> Self {
        let mut picked = HeadCache::new(self.head_dim);
        picked.reserve(entries.len());
        for &e in entries {
            picked.push(self.rows[e], self.key(e), self.value(e).iter().copied());
        }
        picked
    }

    /// The key of an entry: \[d_h\].
    pub fn key(&self, entry: usize) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.head_dim).map(move |i| key_at(&self.keys, self.head_dim, entry, i))
    }

    /// The value of an entry: \[d_h\].
    pub fn value(&self, entry: usize) -> &[T] {
        &self.values[entry * self.head_dim..][..self.head_dim]
    }

    /// All keys as rows: [len, d_h].
    pub fn keys(&self) -> Array2<T> {
        Array2::from_shape_fn((self.len(), self.head_dim), |(e, i)| key_at(&self.keys, self.head_dim, e, i))
    }

    /// All values as rows: [len, d_h].
    pub fn values(&self) -> Array2<T> {
        Array2::from_shape_fn((self.len(), self.head_dim), |(e, i)| self.values[e * self.head_dim + i])
    }

    /// What the attention kernel reads.
    pub fn view(&self) -> HeadView<'_, T> {
        HeadView { keys: &self.keys, values: &self.values }
    }

    /// Bytes of the entries' keys and values. Spec: C7.1c
    pub fn bytes(&self) -> usize {
        2 * self.len() * self.head_dim * size_of::<T>()
    }
}
