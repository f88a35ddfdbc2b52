//! D6.11: prompts in chunks and in packs, compared by hash; batches that decode side by side.

use super::{DEMO, IMAGE, Stages, config, entries, sha};
use crate::common::numbers::{Rng, bits, cases};
use aircache::decoder::{AT_ONCE, Sequence, packs};
use aircache::family::llava_onevision::LlavaOnevisionConfig;
use aircache::generate::{self, Until, decode_batch, prefill_batch};
use aircache::input::{GivenImage, Prepared};
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use aircache::policy::{Policy, preset};
use aircache::sample::{Sampler, Sampling};

use ndarray::Array4;
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A prompt of `before` tokens, an image of noise, and `after` tokens.
fn prompt(before: usize, after: usize, seed: u64) -> Prepared {
    let mut rng = Rng(seed);
    let mut text = |n: usize| (0..n).map(|_| rng.below(480) as u32).collect::<Vec<_>>();
    let ids = [text(before), vec![IMAGE], text(after)].concat();
    let size = (64, 40 + 3 * after % 50);
    let c = DEMO.config.as_a::<LlavaOnevisionConfig>().unwrap();
    let tiles = c.anyres().packing(size, true).unwrap().tiles;
    let side = c.vision.image;
    let pixels = Array4::from_shape_fn((tiles, 3, side, side), |_| rng.number::<f32>(1.0));
    Prepared::from_ids(&*DEMO.config, &ids, vec![GivenImage::tiles(pixels, size)]).unwrap()
}

fn policies() -> Vec<Policy> {
    ["aircache", "snapkv", "h2o"].iter().map(|name| preset(name).unwrap().policy.clone()).collect()
}

/// A hash of the whole state after a prefill.
fn hash<T: Real>(p: &Sequence<T>) -> Vec<u8> {
    let mut all = [bits(&p.logits), entries(&p.cache), vec![p.next_position as u64]].concat();
    for layer in &p.observer.layers {
        all.extend(bits(&layer.queries));
        all.extend(bits(layer.received.as_ref().expect("h2o asks for it").iter().flatten()));
    }
    sha(&all)
}

fn hashes<T: Real>(prompts: &[Prepared], at_once: usize, grid: Grid) -> Vec<Vec<u8>> {
    let policies = policies();
    let wanted: Vec<_> = prompts.iter().map(|p| (p, policies.as_slice())).collect();
    prefill_batch::<T>(&DEMO, &mut Pass::new(grid), &wanted, at_once).unwrap().iter().map(hash).collect()
}

#[test]
fn d6_11_worked_example() {
    assert_eq!(packs(&[3, 21], 16), [vec![(0, 0..3), (1, 0..8)], vec![(1, 8..21)]]);
    assert_eq!(packs(&[8, 8], 1), [vec![(0, 0..8)], vec![(1, 0..8)]], "at least 8 rows");
    assert!(packs(&[], 16).is_empty());
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn d6_11_packs_cover_each_prompt_in_order(lengths in prop::collection::vec(1usize..60, 0..6), at_once in 8usize..70) {
        let packs = packs(&lengths, at_once);
        let mut seen = vec![0; lengths.len()];
        for pack in &packs {
            prop_assert!(!pack.is_empty() && pack.iter().map(|(_, rows)| rows.len()).sum::<usize>() <= at_once);
            prop_assert!(pack.windows(2).all(|w| w[0].0 < w[1].0), "a prompt once a pack");
            for (i, rows) in pack {
                prop_assert!(rows.start == seen[*i] && rows.start % 8 == 0 && !rows.is_empty());
                seen[*i] = rows.end;
            }
        }
        prop_assert_eq!(seen, lengths);
    }
}

/// C6.11a, C6.11b: prompts that run whole and one by one (as a recording runs them) give the same hashes as prompts
/// that are packed and cut anywhere.
#[test]
fn c6_11a_c6_11b_chunks_and_packs_change_no_bit() {
    fn check<T: Real>(grid: Grid, chunks: &[usize]) {
        let prompts = [prompt(3, 30, 1), prompt(20, 9, 2), prompt(1, 61, 3)];
        let whole = |p: &Prepared| {
            let mut nobody = Stages::default();
            hash(&generate::prefill(&DEMO, &mut Pass::<T>::watched(grid, &mut nobody), p, &policies()).unwrap())
        };
        let want: Vec<Vec<u8>> = prompts.iter().map(whole).collect();
        let alone = |p: &Prepared| hash(&generate::prefill(&DEMO, &mut Pass::<T>::new(grid), p, &policies()).unwrap());
        assert_eq!(prompts.iter().map(alone).collect::<Vec<_>>(), want);
        for &at_once in chunks {
            assert_eq!(hashes::<T>(&prompts, at_once, grid), want, "{} on {grid:?}, {at_once} rows", T::NAME);
        }
    }
    check::<f32>(Grid::Native, &[8, 24, 37, 96, 200, AT_ONCE]);
    check::<f32>(Grid::Bf16, &[40]);
    check::<f64>(Grid::Native, &[56]);
}

/// C6.11b: only the queries of the windows' rows are kept.
#[test]
fn c6_11b_queries_of_a_window_alone_are_kept() {
    let p = prompt(5, 40, 4);
    let snapkv = preset("snapkv").unwrap().policy.clone();
    let prefilled = generate::prefill(&DEMO, &mut Pass::<f32>::new(Grid::Native), &p, &[snapkv]).unwrap();
    let (c, window) = (config(), prefilled.observer.rows.len());
    assert!(window > 0 && window <= 32 && p.ids.len() > 100, "{window} of {}", p.ids.len());
    for layer in &prefilled.observer.layers {
        assert_eq!(layer.queries.dim(), (c.heads, window, c.head_dim));
        assert!(layer.received.is_none());
    }
}

/// C6.1a: evicted caches of several prompts that decode side by side give the same tokens as each prompt alone, greedy
/// or drawn; some sequences end early.
#[test]
fn c6_1a_decoding_side_by_side_is_decoding_one_by_one() {
    let prompts = [prompt(3, 30, 1), prompt(20, 9, 2), prompt(1, 61, 3), prompt(2, 17, 5)];
    let policy = &preset("aircache").unwrap().policy;
    let evicted: Vec<Sequence<f32>> = prompts
        .iter()
        .zip(["1", "0.3", "0.05", "0.6"])
        .map(|(p, r)| {
            let prefilled =
                generate::prefill(&DEMO, &mut Pass::new(Grid::Native), p, std::slice::from_ref(policy)).unwrap();
            let plan = prefilled.plan(policy, r.parse().unwrap()).unwrap();
            prefilled.with_cache(prefilled.cache.picked(&plan.kept))
        })
        .collect();
    for sampling in [Sampling::Greedy, Sampling::Draw { temperature: 1.5, top_k: 0, top_p: 1.0, seed: 3 }] {
        let mut pass = Pass::new(Grid::Native);
        let until = Until { stop: vec![], max_new_tokens: 12 };
        // The third sequence is stopped at its fifth token.
        let run = |pass: &mut Pass<'_, f32>, mut batch: Vec<Sequence<f32>>, which: &[usize], until: &Until| {
            let mut samplers: Vec<_> = which.iter().map(|_| Sampler::new(sampling).unwrap()).collect();
            let mut seen = vec![0; which.len()];
            decode_batch(&DEMO, pass, &mut batch, &mut samplers, until, |i, _| {
                seen[i] += 1;
                if which[i] == 2 && seen[i] == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap()
        };
        let together = run(&mut pass, evicted.clone(), &[0, 1, 2, 3], &until);
        for i in 0..4 {
            assert_eq!(run(&mut pass, vec![evicted[i].clone()], &[i], &until)[0], together[i], "sequence {i}");
            assert_eq!(together[i].len(), if i == 2 { 5 } else { 12 });
        }
        let stop = Until { stop: vec![together[0][3]], max_new_tokens: 12 };
        let stopped = run(&mut pass, evicted.clone(), &[0, 1, 2, 3], &stop);
        assert!(stopped.iter().zip(&together).all(|(s, t)| t.starts_with(s)) && stopped[0].len() <= 4);
        let none = Until { stop: vec![], max_new_tokens: 0 };
        assert!(run(&mut pass, evicted.clone(), &[0, 1, 2, 3], &none).iter().all(Vec::is_empty));
    }
    // Hashes of the logits after one step of all four sequences.
    let step = |batch: &mut [Sequence<f32>]| {
        let tokens = vec![9; batch.len()];
        DEMO.decoder.step(&mut Pass::new(Grid::Native), 0, &tokens, &mut batch.iter_mut().collect::<Vec<_>>());
        batch.iter().map(|sequence| sha(&bits(&sequence.logits))).collect::<Vec<_>>()
    };
    let together = step(&mut evicted.clone());
    for (i, one) in evicted.iter().enumerate() {
        assert_eq!(step(&mut [one.clone()])[0], together[i], "sequence {i}");
    }
}
