//! The memory layout of a cache's entries, for the kernel that reads them. Spec: D3.4

use crate::num::LANES;
use half::{bf16, f16};

/// The cached keys and values of one KV head, in the kernel's layout; S: the type that the cache stores. Spec: D3.4
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a, S> {
    /// Keys in blocks of 16 entries, transposed: [⌈len/16⌉, d_h, 16], the last block padded.
    pub keys: &'a [S],
    /// Values: [len, d_h].
    pub values: &'a [S],
}

/// The cached KV heads of a layer, by the type that the cache stores. Spec: D7.4
#[derive(Debug, Clone)]
pub enum HeadViews<'a, T> {
    /// Numbers of the container.
    Own(Vec<HeadView<'a, T>>),
    /// bf16.
    Bf16(Vec<HeadView<'a, bf16>>),
    /// f16.
    F16(Vec<HeadView<'a, f16>>),
}

impl<T> HeadViews<'_, T> {
    /// Number of heads.
    pub fn len(&self) -> usize {
        match self {
            HeadViews::Own(heads) => heads.len(),
            HeadViews::Bf16(heads) => heads.len(),
            HeadViews::F16(heads) => heads.len(),
        }
    }

    /// Whether there are no heads.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Appends a key to blocked keys that already hold `len` keys. key: \[d_h\]. Spec: D3.4
pub fn push_key<T: Copy + Default>(keys: &mut Vec<T>, len: usize, key: impl ExactSizeIterator<Item = T>) {
    let (d, lane) = (key.len(), len % LANES);
    if lane == 0 {
        keys.resize(keys.len() + d * LANES, T::default());
    }
    let block = keys.len() - d * LANES;
    key.enumerate().for_each(|(i, v)| keys[block + i * LANES + lane] = v);
}

/// Element `i` of entry `entry` of blocked keys with `d` elements each. Spec: D3.4
#[inline(always)]
pub fn key_at<T: Copy>(keys: &[T], d: usize, entry: usize, i: usize) -> T {
    keys[(entry / LANES * d + i) * LANES + entry % LANES]
}
