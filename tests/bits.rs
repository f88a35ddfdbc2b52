//! One hash, whatever computes it: any number of threads, any instruction set, alone or in a batch, a prefill in chunks of any
//! size or row by row. One test, because the set is chosen for the whole process.

mod common;

use aircache::decoder::Sequence;
use aircache::demo;
use aircache::input::Positions;
use aircache::kernel::simd::Isa;
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Way};
use common::numbers::{bits, threads};
use rayon::prelude::*;

/// Prompts of lengths that fill no block, and what is fed after them.
const LENGTHS: [usize; 3] = [41, 7, 290];
const STEPS: usize = 3;

fn ids(model: &Model, n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 31 + 7 * i + 11 * n) % model.config.text().vocab) as u32).collect()
}

/// FNV-1a, number by number.
fn add(hash: &mut u64, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|n| *hash = (*hash ^ n).wrapping_mul(0x100_0000_01b3));
}

/// Keys, values and logits of all prompts and of the steps after them.
fn hash<T: Real>(model: &Model, grid: Grid, at_once: usize, batched: bool) -> u64 {
    let (decoder, mut pass) = (&model.decoder, Pass::<T>::new(grid));
    let positions = LENGTHS.map(Positions::in_order);
    let prompt = |(&n, at)| (pass.store(decoder.embed(&ids(model, n))), at);
    let prompts: Vec<_> = LENGTHS.iter().zip(&positions).map(prompt).collect();
    let mut sequences: Vec<Sequence<T>> = LENGTHS.iter().map(|_| Sequence::new(decoder.cache())).collect();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let groups = if batched { LENGTHS.len() } else { 1 };
    for (prompts, sequences) in prompts.chunks(groups).zip(sequences.chunks_mut(groups)) {
        decoder.prefill(&mut pass, prompts, sequences, at_once);
        sequences.iter().for_each(|sequence| add(&mut hash, bits(&sequence.logits)));
    }
    for step in 0..STEPS {
        for (group, sequences) in sequences.chunks_mut(groups).enumerate() {
            let lengths = &LENGTHS[group * groups..][..sequences.len()];
            let tokens: Vec<u32> = lengths.iter().map(|&n| ids(model, n + step + 1)[n + step]).collect();
            decoder.step(&mut pass, step, &tokens, &mut sequences.iter_mut().collect::<Vec<_>>());
            sequences.iter().for_each(|sequence| add(&mut hash, bits(&sequence.logits)));
        }
    }
    for head in sequences.iter().flat_map(|s| &s.cache.layers).flatten() {
        add(&mut hash, bits(&head.keys()));
        add(&mut hash, bits(&head.values()));
    }
    hash
}

/// The prompts row by row: every row a step.
fn row_by_row<T: Real>(model: &Model, mut pass: Pass<'_, T>) -> Vec<u64> {
    let decoder = &model.decoder;
    let mut found = Vec::new();
    for n in LENGTHS {
        let mut sequence = Sequence::new(decoder.cache());
        for (i, &id) in ids(model, n).iter().enumerate() {
            decoder.step(&mut pass, i, &[id], &mut [&mut sequence]);
        }
        found.extend(bits(&sequence.logits));
        sequence.cache.layers.iter().flatten().for_each(|head| found.extend(bits(&head.keys())));
    }
    found
}

/// The same as one prefill.
fn at_once<T: Real>(model: &Model, mut pass: Pass<'_, T>) -> Vec<u64> {
    let decoder = &model.decoder;
    let mut found = Vec::new();
    for n in LENGTHS {
        let mut sequence = Sequence::new(decoder.cache());
        let prompt = (pass.store(decoder.embed(&ids(model, n))), &Positions::in_order(n));
        decoder.prefill(&mut pass, &[prompt], std::slice::from_mut(&mut sequence), usize::MAX);
        found.extend(bits(&sequence.logits));
        sequence.cache.layers.iter().flatten().for_each(|head| found.extend(bits(&head.keys())));
    }
    found
}

#[test]
fn c3_1a_c3_1b_c6_1a_one_hash_whatever_computes_it() {
    let model = Model::load(&demo::files()).unwrap();
    let alone = [hash::<f32>(&model, Grid::Native, 1024, false), hash::<f32>(&model, Grid::Bf16, 1024, false)];
    let together = [hash::<f32>(&model, Grid::Native, 1024, true), hash::<f32>(&model, Grid::Bf16, 1024, true)];
    let truth = hash::<f64>(&model, Grid::Native, 1024, true);
    // The same numbers, fed to the hash in another order: prompt by prompt, or step by step.
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        isa.force().unwrap();
        for n in [1, 2, 3, 7] {
            let in_chunks = |chunk: usize| {
                let what = format!("{}, {n} threads, chunks of {chunk}", isa.name());
                let of = |grid, batched| threads(n, || hash::<f32>(&model, grid, chunk, batched));
                assert_eq!([of(Grid::Native, true), of(Grid::Bf16, true)], together, "{what}");
                if (n, chunk) != (1, 1024) && isa == Isa::Portable {
                    return; // slow where there is no fma instruction
                }
                assert_eq!([of(Grid::Native, false), of(Grid::Bf16, false)], alone, "{what}, alone");
                assert_eq!(threads(n, || hash::<f64>(&model, Grid::Native, chunk, true)), truth, "{what}, f64");
            };
            let chunks = [8, 56, 1024];
            match n {
                1 => chunks.into_par_iter().for_each(in_chunks), // one thread each: side by side
                _ => chunks.into_iter().for_each(in_chunks),
            }
        }
    }
    let tiles = Way { tiles: true, ..Way::default() };
    for (grid, way) in [(Grid::Native, Way::default()), (Grid::Bf16, Way::default()), (Grid::Bf16, tiles)] {
        let pass = || Pass::<f32>::new(grid).by(way);
        let (rows, whole) = (row_by_row(&model, pass()), at_once(&model, pass()));
        assert!(rows == whole, "C6.1a: row i of a prefill is the step of row i, {grid:?}, tiles: {}", way.tiles);
        assert!(threads(1, || at_once(&model, pass())) == whole, "C3.1b, C3.16a: {grid:?}, tiles: {}", way.tiles);
    }
    let pass = || Pass::<f64>::new(Grid::Native);
    assert!(row_by_row(&model, pass()) == at_once(&model, pass()), "C6.1a in f64");
}
