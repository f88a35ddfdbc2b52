//! Chapter 07: entries, compaction, positions after an eviction.

use crate::common::decoding;
use crate::common::demo::{DEMO, cache, feed};
use crate::common::numbers::{self, Rng, bits, cases};
use crate::common::twin::{Head, Twin};
use aircache::cache::{Cache, HeadCache, Merge};
use aircache::family::llava_onevision::names;
use aircache::kernel::{naive, scale};
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use aircache::weights::Names;
use ndarray::{Array2, array};
use proptest::prelude::*;

fn head_bits<T: Real>(head: &HeadCache<T>) -> (Vec<usize>, Vec<u64>, Vec<u64>) {
    (head.rows().to_vec(), bits(&head.keys()), bits(&head.values()))
}

#[test]
fn d7_1_worked_example() {
    let cache = cache::<f32>(&[vec![3, 1]], 2, 1);
    assert_eq!(cache.bytes(), 64);
    assert_eq!(cache.layers[0][0].rows(), [0, 1, 2]);
}

/// C7.1a, C7.1c: entries do not change when the head grows beyond its capacity.
#[test]
fn c7_1a_c7_1c_entries_stay_while_the_head_grows() {
    let mut rng = Rng(2);
    let (d, n) = (5, 700);
    let (keys, values): (Array2<f32>, Array2<f32>) = (rng.matrix(n, d, 1.0), rng.matrix(n, d, 1.0));
    let mut head = HeadCache::new(d);
    for row in 0..n {
        head.push(3 * row, keys.row(row).iter().copied(), values.row(row).iter().copied());
        assert_eq!((head.len(), head.bytes()), (row + 1, 2 * (row + 1) * d * 4));
        for at in [0, row / 2, row] {
            assert!(head.key(at).eq(keys.row(at).iter().copied()));
            assert!(head.value(at).eq(values.row(at).iter().copied()));
        }
    }
    assert_eq!((bits(&head.keys()), bits(&head.values())), (bits(&keys), bits(&values)));
    assert_eq!(head.rows(), (0..n).map(|r| 3 * r).collect::<Vec<_>>());
}

#[test]
fn e7_2_worked_example() {
    let mut cache = cache::<f64>(&[vec![4]], 3, 3);
    let full = cache.clone();
    cache.compact(&[vec![vec![0, 3]]]);
    let (head, all) = (&cache.layers[0][0], &full.layers[0][0]);
    assert_eq!((head.rows(), cache.rows), ([0, 3].as_slice(), 4));
    for (new, old) in [(0, 0), (1, 3)] {
        assert!(head.key(new).eq(all.key(old)) && head.value(new).eq(all.value(old)));
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// C7.2a, C7.2e.
    #[test]
    fn c7_2a_c7_2e_kept_entries_are_copied_bit_for_bit(
        lens in prop::collection::vec(prop::collection::vec(0usize..60, 2), 1..4), d in 1usize..20, seed: u64,
    ) {
        let full = cache::<f32>(&lens, d, seed);
        let mut rng = Rng(seed ^ 1);
        let keep: Vec<Vec<Vec<usize>>> =
            lens.iter().map(|l| l.iter().map(|&n| (0..n).filter(|_| rng.below(3) == 0).collect()).collect()).collect();
        let (before, picked, mut compact) = (full.clone(), full.picked(&keep), full.clone());
        compact.compact(&keep);
        prop_assert_eq!(compact.rows, full.rows);
        for (l, g) in (0..lens.len()).flat_map(|l| [(l, 0), (l, 1)]) {
            let (head, all, kept) = (&compact.layers[l][g], &full.layers[l][g], &keep[l][g]);
            prop_assert_eq!(head.rows(), kept.as_slice());
            for (new, &old) in kept.iter().enumerate() {
                prop_assert!(bits(&head.key(new).collect::<Vec<_>>()) == bits(&all.key(old).collect::<Vec<_>>()));
                prop_assert!(bits(&head.value(new).collect::<Vec<_>>()) == bits(&all.value(old).collect::<Vec<_>>()));
            }
            prop_assert!(head_bits(&picked.layers[l][g]) == head_bits(head), "C7.2e");
            prop_assert!(head_bits(&before.layers[l][g]) == head_bits(all), "C7.2e");
        }
        prop_assert_eq!(compact.bytes(), keep.iter().flatten().map(|k| 2 * k.len() * d * 4).sum::<usize>());
    }
}

#[test]
#[should_panic(expected = "C7.2b")]
fn c7_2b_a_kept_set_for_every_head() {
    cache::<f32>(&[vec![2, 2]], 1, 1).compact(&[vec![vec![0]]]);
}

#[test]
#[should_panic]
fn c7_2b_entries_that_are_there() {
    cache::<f32>(&[vec![2]], 1, 1).compact(&[vec![vec![2]]]);
}

/// A cache after the prefill of `n` rows of random embeddings.
fn prefilled<T: Real>(n: usize, seed: u64) -> Cache<T> {
    let mut rng = Rng(seed);
    let ids: Vec<u32> = (0..n).map(|_| rng.below(480) as u32).collect();
    let mut cache = DEMO.decoder.cache();
    feed(&mut cache, DEMO.decoder.embed::<T>(&ids), Grid::Native);
    cache
}

fn steps<T: Real>(cache: &mut Cache<T>, tokens: &[u32], first: i64) -> Vec<Array2<T>> {
    let step = |(t, &token): (usize, &u32)| {
        decoding::step(&DEMO.decoder, &mut Pass::new(Grid::Native), &[token], &[first + t as i64], &mut [cache])
    };
    tokens.iter().enumerate().map(step).collect()
}

/// C7.2d: retention 1 changes no bit.
#[test]
fn c7_2d_keeping_everything_changes_no_bit() {
    let mut full = prefilled::<f32>(90, 1);
    let mut kept = full.clone();
    let all: Vec<Vec<Vec<usize>>> =
        full.layers.iter().map(|heads| heads.iter().map(|h| (0..h.len()).collect()).collect()).collect();
    kept.compact(&all);
    let tokens = [7, 300, 12, 55];
    let (want, got) = (steps(&mut full, &tokens, 90), steps(&mut kept, &tokens, 90));
    assert_eq!(bits(got.iter().flatten()), bits(want.iter().flatten()));
    for (a, b) in full.layers.iter().flatten().zip(kept.layers.iter().flatten()) {
        assert_eq!(head_bits(a), head_bits(b));
    }
}

/// Ragged kept sets: a different set for every layer and KV head; each set contains the last row.
fn ragged(layers: usize, heads: usize, n: usize) -> Vec<Vec<Vec<usize>>> {
    let mut rng = Rng(8);
    let mut one = |l: usize, g: usize| (0..n).filter(|&i| i + 1 == n || rng.below(2 + l + g) == 0).collect();
    (0..layers).map(|l| (0..heads).map(|g| one(l, g)).collect()).collect()
}

/// Decodes with a mask on the evicted entries: the naive twin of the decoder over the full cache, with a score of −∞
/// for evicted entries. Returns the logits of every step, in f64.
fn masked(full: &Cache<f64>, keep: &[Vec<Vec<usize>>], tokens: &[u32], first: i64) -> Vec<Array2<f64>> {
    let c = &DEMO.decoder.config;
    let twin = Twin { names: Names::new(&DEMO.checkpoint, names), grid: Grid::Native };
    let mut cache: Vec<Vec<Head<f64>>> =
        full.layers.iter().map(|heads| heads.iter().map(|h| (h.keys(), h.values())).collect()).collect();
    let n = full.rows;
    let attend = |layer: usize, g: usize, q: &[f64], (keys, values): &Head<f64>| -> Vec<f64> {
        let score = |entry: usize| match entry >= n || keep[layer][g].binary_search(&entry).is_ok() {
            true => naive::score(q, keys.row(entry).to_slice().unwrap()) * scale::<f64>(q.len()),
            false => f64::NEG_INFINITY,
        };
        let p = naive::softmax(&(0..keys.nrows()).map(score).collect::<Vec<_>>());
        values.columns().into_iter().map(|v| p.iter().zip(v).map(|(p, v)| p * v).sum()).collect()
    };
    let step = |(t, &token): (usize, &u32)| {
        let x = twin.embed::<f64>(c, &[token]);
        twin.logits(c, &twin.decoder(c, x, &[first + t as i64], &mut cache, &attend))
    };
    tokens.iter().enumerate().map(step).collect()
}

/// C7.3a, D7.3, C6.8a. The ruler: f32 and f64 run the same code, so to first order an error is proportional to u. The
/// rounding error of these logits in f64 is 2⁻²⁹ times their rounding error in f32. The order of sums may change this
/// by a small factor; the test allows a factor of 8.
#[test]
fn c7_3a_c6_8a_decoding_from_a_compacted_cache_is_decoding_with_the_evicted_masked_out() {
    let (n, tokens) = (300, [7, 300, 12, 55, 411]);
    let full = prefilled::<f64>(n, 2);
    let keep = ragged(full.layers.len(), full.layers[0].len(), n);
    let want = masked(&full, &keep, &tokens, n as i64);
    let mut compact = full.picked(&keep);
    assert!(compact.bytes() * 2 < full.bytes());
    let got = steps(&mut compact, &tokens, n as i64);
    assert_eq!(compact.rows, n + 5);
    for head in compact.layers.iter().flatten() {
        assert_eq!(head.rows()[head.len() - 5..], [300, 301, 302, 303, 304], "D7.3");
    }
    let fast = steps(&mut prefilled::<f32>(n, 2).picked(&keep), &tokens, n as i64);
    let largest = |off: &dyn Fn(usize) -> f64| (0..tokens.len()).map(off).fold(0.0, f64::max);
    let between = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().fold(0f64, |m, v| m.max(v.abs()));
    let ruler = 2f64.powi(-29) * largest(&|t| between(&numbers::widen(&fast[t]), &got[t]));
    let off = largest(&|t| between(&got[t], &want[t]));
    let evicting = largest(&|t| between(&steps(&mut full.clone(), &tokens, n as i64)[t], &got[t]));
    println!("logits: {off:.1e} from the masked twin, ruler {ruler:.1e}; evicting moved them by {evicting:.1e}");
    assert!(off <= 8.0 * ruler, "{off:e} over 8 · {ruler:e}");
    assert!(evicting > 1e6 * off, "the eviction shows");
}

/// D7.3: n = 4, keep (0, 3): the next token has position 4, for any eviction.
#[test]
fn d7_3_worked_example() {
    let full = prefilled::<f32>(4, 3);
    let keep = vec![vec![vec![0, 3]; full.layers[0].len()]; full.layers.len()];
    let mut compact = full.picked(&keep);
    steps(&mut compact, &[9], 4);
    assert!(compact.layers.iter().flatten().all(|h| h.rows() == [0, 3, 4]));
    // The key of a token at position 4 in the first layer does not depend on the eviction.
    let mut all = full.clone();
    steps(&mut all, &[9], 4);
    assert!(compact.layers[0].iter().zip(&all.layers[0]).all(|(a, b)| a.key(2).eq(b.key(4))));
}

/// D7.4, C7.4a, R7.4: entries are rounded once when they enter the cache; attention gives the same bits as with rounded
/// numbers in f32.
#[test]
fn d7_4_c7_4a_r7_4_entries_in_half_types() {
    [Grid::Bf16, Grid::F16].into_iter().for_each(entries_in);
}

fn entries_in(grid: Grid) {
    use aircache::kernel::{Stores, Visible, attention_over};
    let (d, len) = (24, 300);
    let mut rng = Rng(9);
    let (mut narrow, mut wide) = (Cache::<f32>::stored(1, 2, d, grid), Cache::<f32>::new(1, 2, d));
    for (row, g) in (0..len).flat_map(|row| [(row, 0), (row, 1)]) {
        let (key, value) = (rng.row::<f32>(d, 2.0), rng.row::<f32>(d, 2.0));
        let rounded = |x: &[f32]| x.iter().map(|&v| grid.round(v)).collect::<Vec<_>>();
        wide.layers[0][g].push(row, rounded(&key).into_iter(), rounded(&value).into_iter());
        narrow.layers[0][g].push(row, key.into_iter(), value.into_iter());
    }
    assert_eq!(
        (narrow.layers[0][0].keys(), narrow.layers[0][1].values()),
        (wide.layers[0][0].keys(), wide.layers[0][1].values())
    );
    assert_eq!(2 * narrow.bytes(), wide.bytes());
    for rows in [1, 20] {
        let q = rng.row::<f32>(rows * 6 * d, 2.0);
        let of = |cache: &Cache<f32>| {
            let mut mix = vec![f32::NAN; q.len()];
            attention_over(&q, 6, &cache.heads(0), d, Visible::Causal, Stores::default(), None, &mut mix);
            mix
        };
        assert_eq!(of(&narrow), of(&wide), "C7.4a: {rows} rows");
    }
    let kept = vec![vec![vec![0, 7, 299], vec![3]]];
    narrow.compact(&kept);
    wide.compact(&kept);
    assert_eq!((narrow.layers[0][0].keys(), narrow.bytes() * 2), (wide.layers[0][0].keys(), wide.bytes()));
    assert!(std::panic::catch_unwind(|| Cache::<f64>::stored(1, 1, 1, grid)).is_err());
    let mut one = Cache::<f32>::stored(1, 1, 1, grid);
    one.layers[0][0].push(0, [1.0 + 2f32.powi(-12)].into_iter(), [1.0].into_iter());
    assert_eq!(one.layers[0][0].keys()[[0, 0]], 1.0);
}

/// E7.5, E7.6, C7.5a, C7.5b, R7.5: a head of size 1 whose keys are 9 of row 0, then 2, 4, 6, 8 and 5.
#[test]
fn e7_5_e7_6_worked_examples() {
    let mut head = HeadCache::new(1);
    for (row, key) in [9.0, 2.0, 4.0, 6.0, 8.0, 5.0f64].into_iter().enumerate() {
        head.push(row, [key].into_iter(), [-key].into_iter());
    }
    let candidates = [1, 2, 3, 4, 5];
    assert_eq!(head.targets(&[0, 1, 4], &candidates, Merge::Nearest), [(2, 1), (3, 2), (5, 2)]);
    assert!(head.targets(&[0], &candidates, Merge::Nearest).is_empty(), "no candidate stays");
    let merged = head.merged(&[0, 1, 4], &candidates, Merge::Nearest, Grid::Native);
    assert_eq!(merged.keys(), array![[9.0], [3.0], [19.0 / 3.0]]);
    assert_eq!(merged.values(), array![[-9.0], [-3.0], [-19.0 / 3.0]]);
    assert_eq!(merged.rows(), [0, 1, 4]);
    // E9.21: rows 2 and 3 are merged in place of 3 and 4, both into 2; without candidates between, nothing is merged.
    let slips = |first, last| Merge::Shifted { first, last };
    assert_eq!(head.targets(&[0, 1, 2, 5], &candidates, slips(1, 0)), [(2, 2), (3, 2)]);
    assert_eq!(head.targets(&[0, 1, 2, 5], &candidates, slips(1, 1)), [(2, 2), (3, 2)]);
    assert!(head.targets(&[0, 1, 5], &candidates, slips(4, 3)).is_empty());
    assert!(head.targets(&[0, 1, 5], &candidates, slips(9, 0)).is_empty());
    assert_eq!(
        head.merged(&[0, 1, 2, 5], &candidates, slips(1, 0), Grid::Native).keys().column(0).to_vec(),
        [9.0, 2.0, (4.0 + 4.0 + 6.0) / 3.0, 5.0]
    );
    // Pivot: all keys of one sign are alike, and the first kept entry gets all; (2 + 3 + 4) / 3 as in the example.
    let mut head = HeadCache::new(2);
    for (row, key) in [[0.0, 7.0], [2.0, 0.0], [4.0, 0.0], [6.0, 0.0]].into_iter().enumerate() {
        head.push(row, key.into_iter(), key.into_iter());
    }
    assert_eq!(head.targets(&[0, 1], &[1, 2, 3], Merge::Pivot), [(2, 1), (3, 1)]);
    let merged = head.merged(&[0, 1], &[1, 2, 3], Merge::Pivot, Grid::Native);
    assert_eq!(merged.keys(), array![[0.0, 7.0], [3.0, 0.0]]);
    // A store rounds once, and copies stay as they are: the mean of 1 and 1 + 2⁻⁷ is no bf16.
    let mut head = HeadCache::new(1);
    let keys = [1.0 + 2f64.powi(-20), 1.0, 1.0 + 2f64.powi(-7)];
    (0..3).for_each(|row| head.push(row, [keys[row]].into_iter(), [0.0].into_iter()));
    let stored = head.merged(&[0, 1], &[1, 2], Merge::Nearest, Grid::Bf16);
    assert_eq!(stored.keys(), array![[keys[0]], [1.0]]);
}
