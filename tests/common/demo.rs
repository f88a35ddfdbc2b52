//! The demo model's decoder, prompts of numbers for it, and its cache.

use super::decoding;
use super::numbers::Rng;
use aircache::cache::Cache;
use aircache::input::Positions;
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use ndarray::Array2;
use std::sync::LazyLock;

pub static DEMO: LazyLock<Model> = LazyLock::new(|| Model::load(&aircache::demo::files()).unwrap());

/// Rows that look like prompt rows: embeddings plus small random numbers, as in visual rows.
pub fn rows<T: Real>(n: usize, seed: u64) -> Array2<T> {
    let mut rng = Rng(seed);
    let ids: Vec<u32> = (0..n).map(|_| rng.below(480) as u32).collect();
    DEMO.decoder.embed::<T>(&ids).mapv(|v| v + rng.number::<T>(0.0625))
}

/// Appends rows to a cache at the next positions; returns the stream after the last layer.
pub fn feed<T: Real>(cache: &mut Cache<T>, x: Array2<T>, grid: Grid) -> Array2<T> {
    let (first, rows) = (cache.rows as i64, x.nrows());
    let positions = Positions::Linear((first..first + rows as i64).collect());
    decoding::forward(&DEMO.decoder, &mut Pass::new(grid), x, &positions, &mut [(cache, rows)])
}

/// A cache of heads with these lengths: [L][G]; every entry has a different number.
pub fn cache<T: Real>(lens: &[Vec<usize>], d: usize, seed: u64) -> Cache<T> {
    let mut rng = Rng(seed);
    let rows = lens.iter().flatten().copied().max().unwrap_or(0);
    let mut cache = Cache::new(lens.len(), lens[0].len(), d);
    for (head, &len) in cache.layers.iter_mut().flatten().zip(lens.iter().flatten()) {
        for row in 0..len {
            head.push(row, rng.row(d, 1.0).into_iter(), rng.row(d, 1.0).into_iter());
        }
    }
    cache.rows = rows;
    cache
}
