//! InternLM2: grouped projections, and angles that are scaled beyond the trained length.

use super::*;
use crate::common::decoding;
use aircache::family::{self, internvl::names};
use aircache::files::Files;
use aircache::kernel::Turn;
use aircache::weights::Checkpoint;

struct Toy {
    checkpoint: Checkpoint,
    config: DecoderConfig,
    names: fn(&str) -> Vec<String>,
}

impl Toy {
    /// The decoder of a toy, in InternLM2's form or in transformers' form.
    fn load(case: &str, names: fn(&str) -> Vec<String>) -> Toy {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let files = Files::Folder(root.join(case).join("model"));
        let config = family::load(&files).unwrap().text().clone();
        Toy { checkpoint: Checkpoint::open(&files).unwrap(), config, names }
    }

    fn all() -> [Toy; 3] {
        [
            Toy::load("internvl2/internlm2-two-images", names::own_internlm2),
            Toy::load("internvl/dynamic", names::transformers),
            Toy::load("internvl/dynamic-grows", names::transformers),
        ]
    }

    fn names(&self) -> Names<'_> {
        Names::new(&self.checkpoint, self.names)
    }
}

/// The positions of the query, key and value heads in the fused matrix.
#[test]
fn e6_13_worked_example() {
    let identity: Vec<f32> = (0..256).map(|i| f32::from(i % 17 == 0)).collect();
    let norm: Vec<f32> = (0..16).map(|i| i as f32).collect();
    let (zeros, ones) = (vec![0.0; 128], vec![1.0; 16]);
    let at = |part: &str| format!("language_model.model.layers.0.{part}.weight");
    let tensors: Vec<(String, &[usize], &[f32])> = vec![
        ("language_model.model.tok_embeddings.weight".into(), &[2, 16], &zeros[..32]),
        ("language_model.output.weight".into(), &[2, 16], &zeros[..32]),
        (at("attention_norm"), &[16], &norm),
        (at("attention.wqkv"), &[16, 16], &identity),
        (at("attention.wo"), &[16, 8], &zeros),
        (at("ffn_norm"), &[16], &ones),
        (at("feed_forward.w1"), &[1, 16], &zeros[..16]),
        (at("feed_forward.w3"), &[1, 16], &zeros[..16]),
        (at("feed_forward.w2"), &[16, 1], &zeros[..16]),
        ("language_model.model.norm.weight".into(), &[16], &ones),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, shape, v)| (n.as_str(), *shape, *v)).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&tensors);
    let config = DecoderConfig {
        hidden: 16,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 2,
        intermediate: 1,
        vocab: 2,
        norm_eps: 0.0,
        projections: Projections::Grouped,
        qkv_bias: false,
        tied: false,
        ..config().clone()
    };
    let decoder = Decoder::load(&Names::new(&checkpoint, names::own_internlm2), &config).unwrap();
    let (mut stages, mut cache) = (Stages::default(), decoder.cache::<f64>());
    let x = Array2::from_elem((1, 16), 1.0);
    let mut pass = Pass::watched(Grid::Native, &mut stages);
    decoding::forward(&decoder, &mut pass, x, &Positions::Linear(vec![0]), &mut [(&mut cache, 1)]);
    // Head i of y contains 2·i and 2·i + 1.
    let heads = |stage: &str| stages.0[stage].iter().step_by(2).map(|v| *v as usize / 2).collect::<Vec<_>>();
    assert_eq!(heads("decoder.00.query"), [0, 1, 4, 5]);
    assert_eq!((heads("decoder.00.key"), heads("decoder.00.value")), (vec![2, 6], vec![3, 7]));
}

/// Also A6.12: θ' is rounded to f32 once.
#[test]
fn e6_12_a6_12_worked_example() {
    let c = DecoderConfig { head_dim: 4, rope_theta: 1e4, max_positions: 8, ntk: Some(2.0), ..config().clone() };
    let second = |length: usize| twin::frequencies(&c, length).angle(Turn::Rounded, 1, 1);
    assert_eq!((second(12), second(8)), (f64::from(0.005f32), f64::from(0.01f32)));
}

/// C6.13a, E6.12, C6.12a: stream, keys and values equal the twin's, up to the trained length and beyond it. A step
/// beyond the trained length has its own frequencies, and cached keys do not change.
#[test]
fn c6_13a_c6_12a_the_decoder_equals_its_twin() {
    fn check<T: Real>(toy: &Toy, trained: usize, grid: Grid) {
        let (c, n) = (&DecoderConfig { max_positions: trained, ..toy.config.clone() }, 23);
        let decoder = Decoder::load(&toy.names(), c).unwrap();
        let mut rng = Rng(3);
        let ids: Vec<u32> = (0..n + 2).map(|_| rng.below(400) as u32).collect();
        let twin = Twin { names: toy.names(), grid };
        let (mut cache, mut heads) = (decoder.cache::<T>(), twin::empty::<T>(c));
        let attend = |_: usize, _: usize, q: &[T], (k, v): &twin::Head<T>| naive::attend(q, k.view(), v.view(), grid).0;
        for rows in [0..n, n..n + 1, n + 1..n + 2] {
            let positions: Vec<i64> = (rows.start as i64..rows.end as i64).collect();
            let x: Array2<T> = decoder.embed(&ids[rows.clone()]);
            let at = Positions::Linear(positions.clone());
            let mut caches = [(&mut cache, rows.len())];
            let got = decoding::forward(&decoder, &mut Pass::new(grid), x.clone(), &at, &mut caches);
            let want = twin.decoder(c, x, &positions, &mut heads, &attend);
            assert_eq!(bits(&got), bits(&want), "rows {rows:?}, trained {trained}, {grid:?}");
        }
    }
    for toy in Toy::all() {
        assert_eq!(toy.config.projections == Projections::Grouped, toy.config.vocab == 431);
        for trained in [12, 23, 24, 40] {
            for grid in [Grid::Native, Grid::Bf16] {
                check::<f32>(&toy, trained, grid);
            }
            check::<f64>(&toy, trained, Grid::Native);
        }
    }
}

/// C6.12b: sequences of different lengths side by side give the same bits as each sequence alone.
#[test]
fn c6_12b_a_batch_has_frequencies_for_each() {
    let toy = &Toy::all()[1];
    let decoder = Decoder::load(&toy.names(), &toy.config).unwrap();
    let lengths = [5, 30, 17];
    let caches: Vec<Cache<f32>> = lengths
        .iter()
        .map(|&rows| {
            let mut cache = decoder.cache();
            let (x, at) = (decoder.embed(&vec![7; rows]), Positions::in_order(rows));
            decoding::forward(&decoder, &mut Pass::new(Grid::Native), x, &at, &mut [(&mut cache, rows)]);
            cache
        })
        .collect();
    let step = |caches: &mut [Cache<f32>], at: &[i64]| {
        let mut all: Vec<&mut Cache<f32>> = caches.iter_mut().collect();
        decoding::step(&decoder, &mut Pass::new(Grid::Native), &vec![9; at.len()], at, &mut all)
    };
    let at = lengths.map(|n| n as i64);
    let together = step(&mut caches.clone(), &at);
    for (i, cache) in caches.iter().enumerate() {
        let alone = step(&mut [cache.clone()], &at[i..=i]);
        assert_eq!(bits(alone.row(0)), bits(together.row(i)), "sequence {i}");
    }
}

/// C6.12a with D6.11: the angles of a prompt beyond the trained length depend on its whole length, for any division
/// into chunks.
#[test]
fn c6_12a_chunks_of_a_long_prompt_know_its_length() {
    let toy = &Toy::all()[1];
    let decoder = Decoder::load(&toy.names(), &toy.config).unwrap();
    let ids: Vec<u32> = (0..37).map(|i| 7 * i % 400).collect();
    let run = |at_once: usize| {
        let mut sequence = aircache::decoder::Sequence::<f32>::new(decoder.cache());
        let prompt = (decoder.embed(&ids), &Positions::in_order(ids.len()));
        let mut pass = Pass::new(Grid::Native);
        decoder.prefill(&mut pass, &[prompt], std::slice::from_mut(&mut sequence), at_once);
        (bits(&sequence.logits), entries(&sequence.cache))
    };
    assert!(ids.len() > toy.config.max_positions);
    assert!(run(8) == run(1024) && run(16) == run(1024));
}
