//! Chapter 06: merge, layers, logits, steps, sampling, precisions.

mod chunks;
mod deepstack;
mod internlm2;
mod later;
mod mrope;

use crate::common::demo::{DEMO, feed, rows};
use crate::common::numbers::{Rng, bits, cases, gamma, threads};
use crate::common::twin::{self, Twin};
use crate::common::{by_hand, decoding, raw};
use aircache::cache::Cache;
use aircache::config::{Activation, DecoderConfig, Projections};
use aircache::decoder::Decoder;
use aircache::family::llava_onevision::{LlavaOnevisionConfig, names};
use aircache::generate::{self, Until};
use aircache::input::{GivenImage, Packing, Positions, Prepared};
use aircache::kernel::naive;
use aircache::num::{Grid, Real, silu};
use aircache::pass::{Pass, Precision, Tap};
use aircache::sample::{Sampler, Sampling};
use aircache::stage::Stage;
use aircache::weights::Names;
use ndarray::{Array2, Array4, ArrayD, ArrayViewD, array, s};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The placeholder of the demo model's visual rows.
const IMAGE: u32 = 489;

fn config() -> &'static DecoderConfig {
    &DEMO.decoder.config
}

fn weights() -> Names<'static> {
    Names::new(&DEMO.checkpoint, names)
}

fn entries<T: Real>(cache: &Cache<T>) -> Vec<u64> {
    cache.layers.iter().flatten().flat_map(|head| [bits(&head.keys()), bits(&head.values())].concat()).collect()
}

#[derive(Default)]
struct Stages(BTreeMap<String, ArrayD<f64>>);

impl<T: Real> Tap<T> for Stages {
    fn wants(&self, _: Stage) -> bool {
        true
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.0.insert(at.to_string(), value.mapv(Real::to_f64));
    }
}

/// E6.2–E6.7: one layer by hand.
#[test]
fn e6_2_e6_3_e6_4_e6_5_e6_6_e6_7_worked_examples() {
    let ln3 = 3f64.ln() as f32;
    let at = |part: &str| format!("language_model.model.layers.0.{part}.weight");
    let bias = |part: &str| format!("language_model.model.layers.0.self_attn.{part}.bias");
    let (zeros, identity): ([f32; 4], [f32; 4]) = ([0.0; 4], [1.0, 0.0, 0.0, 1.0]);
    let tensors: Vec<(String, &[usize], Vec<f32>)> = vec![
        ("language_model.model.embed_tokens.weight".into(), &[2, 2], identity.to_vec()),
        (at("input_layernorm"), &[2], vec![1.0; 2]),
        (at("self_attn.q_proj"), &[2, 2], zeros.to_vec()),
        (bias("q_proj"), &[2], vec![0.0; 2]),
        (at("self_attn.k_proj"), &[2, 2], zeros.to_vec()),
        (bias("k_proj"), &[2], vec![0.0; 2]),
        (at("self_attn.v_proj"), &[2, 2], identity.to_vec()),
        (bias("v_proj"), &[2], vec![0.0; 2]),
        (at("self_attn.o_proj"), &[2, 2], identity.to_vec()),
        (at("post_attention_layernorm"), &[2], vec![1.0; 2]),
        (at("mlp.gate_proj"), &[1, 2], vec![0.0, ln3 / 1.4]),
        (at("mlp.up_proj"), &[1, 2], vec![5.0, 0.0]),
        (at("mlp.down_proj"), &[2, 1], vec![0.0, 1.0]),
        ("language_model.model.norm.weight".into(), &[2], vec![1.0; 2]),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, shape, v)| (n.as_str(), *shape, v.as_slice())).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&tensors);
    let config = DecoderConfig {
        mrope: None,
        interleaved: false,
        ntk: None,
        long_rope: None,
        qk_norm: false,
        projections: Projections::Apart,
        qkv_bias: true,
        out_bias: false,
        hidden: 2,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        intermediate: 1,
        vocab: 2,
        norm_eps: 0.0,
        rope_theta: 1e4,
        max_positions: 8,
        activation: Activation::Silu,
        tied: true,
    };
    let decoder = Decoder::load(&Names::new(&checkpoint, names), &config).unwrap();
    let (mut stages, mut cache) = (Stages::default(), decoder.cache::<f64>());
    let mut pass = Pass::watched(Grid::Native, &mut stages);
    let at = Positions::Linear(vec![5]);
    let out = decoding::forward(&decoder, &mut pass, array![[1.0, 7.0]], &at, &mut [(&mut cache, 1)]);
    let logits = decoder.logits(&pass, decoder.final_norm(&pass, array![[1.0, 7.0]].view()).view());
    // The error of two norms, each C3.10a with d = 2, and of a few roundings; the weight ln 3 / 1.4 is an f32.
    let near = |x: &ArrayD<f64>, want: [f64; 2], error: f64| {
        assert!(x.iter().zip(want).all(|(x, w)| (x - w).abs() <= error * w.abs()), "{x}, not {want:?}");
    };
    let exact = gamma::<f64>(40);
    assert_eq!(stages.0["decoder.00.query"].as_slice().unwrap(), [0.0, 0.0]);
    near(&stages.0["decoder.00.value"], [0.2, 1.4], exact); // E6.2, E6.3
    assert_eq!(stages.0["decoder.00.mix"].as_slice(), stages.0["decoder.00.value"].as_slice()); // E6.4
    let (gain, f32_weight) = (0.75 * 3f64.ln(), 2f64.powi(-22));
    near(&out.into_dyn(), [1.2, 8.4 + gain], exact + f32_weight); // E6.5, E6.6
    near(&logits.into_dyn(), [0.2, 1.4], exact); // E6.7
}

/// E6.1: text rows come from the embedding, visual rows come from the vision part; a different number of visual rows is
/// an error (C6.1b).
#[test]
fn e6_1_c6_1b_r6_1_worked_example() {
    let prompt = text_and_image(1);
    let a = Array2::from_elem((1, config().hidden), 1.0 + 2f32.powi(-8));
    let merged = |grid| DEMO.merge(&mut Pass::new(grid), &prompt, a.clone()).unwrap();
    let (x, e) = (merged(Grid::Native), DEMO.decoder.embed::<f32>(&[7, 9]));
    assert_eq!(bits(x.row(0)), bits(e.row(0)));
    assert_eq!(bits(x.row(1)), bits(a.row(0)));
    assert_eq!(bits(x.row(2)), bits(e.row(1)));
    assert!(merged(Grid::Bf16).row(1).iter().all(|&v| v == 1.0), "R6.1");
    let error = DEMO.merge(&mut Pass::new(Grid::Native), &prompt, Array2::<f32>::zeros((2, config().hidden)));
    assert!(error.unwrap_err().expected.contains("2"), "C6.1b");
}

/// A prompt of two tokens with `rows` visual rows between them; no code encodes its image.
fn text_and_image(rows: usize) -> Prepared {
    let ids = [vec![7], vec![IMAGE; rows], vec![9]].concat();
    let c = DEMO.config.as_a::<LlavaOnevisionConfig>().unwrap();
    let packing: Packing = c.anyres().packing((64, 64), true).unwrap();
    let pixels = Array4::from_elem((packing.tiles, 3, 64, 64), 0.0);
    let whole = Prepared::from_ids(&*DEMO.config, &[7, IMAGE, 9], vec![GivenImage::tiles(pixels, (64, 64))]).unwrap();
    let role = |&id: &u32| if id == IMAGE { aircache::Role::Visual } else { aircache::Role::Text };
    Prepared {
        roles: aircache::Roles(ids.iter().map(role).collect()),
        positions: Positions::Linear((0..ids.len() as i64).collect()),
        ids,
        ..whole
    }
}

/// C6.2a with E6.2–E6.7, R6.2, R6.5, R6.6, R6.7: stream, keys, values and logits equal the twin's, bit for bit, on
/// every grid.
#[test]
fn c6_2a_e6_7_r6_2_r6_5_r6_6_r6_7_the_decoder_equals_its_twin() {
    fn check<T: Real>(grid: Grid) {
        let (c, names) = (config(), weights());
        let twin = Twin { names, grid };
        let ids: Vec<u32> = (0..19).map(|i| 3 + 23 * i).collect();
        let mut cache = DEMO.decoder.cache::<T>();
        let x = DEMO.decoder.embed::<T>(&ids);
        assert_eq!(bits(&x), bits(&twin.embed::<T>(c, &ids)), "E6.1");
        let got = feed(&mut cache, x.clone(), grid);
        let mut twins = twin::empty::<T>(c);
        let attend = |_: usize, _: usize, q: &[T], (k, v): &twin::Head<T>| naive::attend(q, k.view(), v.view(), grid).0;
        let positions: Vec<i64> = (0..19).collect();
        let want = twin.decoder(c, x, &positions, &mut twins, &attend);
        assert_eq!(bits(&got), bits(&want), "{} on {grid:?}", T::NAME);
        for (head, (k, v)) in cache.layers.iter().flatten().zip(twins.iter().flatten()) {
            assert_eq!((bits(&head.keys()), bits(&head.values())), (bits(k), bits(v)));
        }
        let pass = Pass::new(grid);
        let logits = DEMO.decoder.logits(&pass, DEMO.decoder.final_norm(&pass, got.view()).view());
        assert_eq!(bits(&logits), bits(&twin.logits(c, &want)), "E6.7");
    }
    for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
        check::<f32>(grid);
    }
    check::<f64>(Grid::Native);
}

/// C6.1a for one prompt length, cut at any places: the chunks give the same stream, keys and values as the whole
/// prompt.
fn chunks_hold<T: Real>(n: usize, cuts: &[usize], grid: Grid, seed: u64) {
    let x = rows::<T>(n, seed);
    let mut whole = DEMO.decoder.cache();
    let want = feed(&mut whole, x.clone(), grid);
    let mut cache = DEMO.decoder.cache();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % n).chain([0, n]).collect();
    ends.sort_unstable();
    ends.dedup();
    for range in ends.windows(2).map(|w| w[0]..w[1]) {
        let got = feed(&mut cache, x.slice(s![range.clone(), ..]).to_owned(), grid);
        assert_eq!(bits(&got), bits(want.slice(s![range.clone(), ..])), "rows {range:?} of {n}");
    }
    assert_eq!(entries(&cache), entries(&whole));
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn c6_1a_chunked_prefill_equals_the_whole(
        n in 1usize..70, cuts in prop::collection::vec(0usize..70, 0..4), seed: u64,
    ) {
        chunks_hold::<f32>(n, &cuts, Grid::Native, seed);
        chunks_hold::<f32>(n, &cuts, Grid::Bf16, seed);
        chunks_hold::<f64>(n, &cuts, Grid::Native, seed);
    }
}

/// C6.1a: a prefill of n rows equals a prefill of n − 1 rows and one step, also beyond the 256 entries of a chunk
/// (D3.5).
#[test]
fn c6_1a_prefill_equals_one_less_and_a_step() {
    for n in [2, 16, 17, 33, 256, 257, 300] {
        chunks_hold::<f32>(n, &[n - 1], Grid::Native, n as u64);
    }
    chunks_hold::<f64>(258, &[257], Grid::Native, 1);
    chunks_hold::<f32>(258, &[257], Grid::F16, 1);
}

/// C6.1a: a batch of two prefills and then two steps gives the same bits as one sequence after the other.
#[test]
fn c6_1a_a_batch_equals_its_members_one_by_one() {
    let prompts = [rows::<f32>(21, 1), rows::<f32>(40, 2)];
    let alone: Vec<(Cache<f32>, Array2<f32>, Array2<f32>)> = prompts
        .iter()
        .map(|x| {
            let mut cache = DEMO.decoder.cache();
            let out = feed(&mut cache, x.clone(), Grid::Native);
            let position = cache.rows as i64;
            let step =
                decoding::step(&DEMO.decoder, &mut Pass::new(Grid::Native), &[11], &[position], &mut [&mut cache]);
            (cache, out, step)
        })
        .collect();
    let (mut a, mut b) = (DEMO.decoder.cache::<f32>(), DEMO.decoder.cache::<f32>());
    let x = ndarray::concatenate(ndarray::Axis(0), &[prompts[0].view(), prompts[1].view()]).unwrap();
    let positions = Positions::Linear((0..21).chain(0..40).collect());
    let mut caches = [(&mut a, 21), (&mut b, 40)];
    let out = decoding::forward(&DEMO.decoder, &mut Pass::new(Grid::Native), x, &positions, &mut caches);
    assert_eq!(bits(out.slice(s![..21, ..])), bits(&alone[0].1));
    assert_eq!(bits(out.slice(s![21.., ..])), bits(&alone[1].1));
    let mut pass = Pass::new(Grid::Native);
    let step = decoding::step(&DEMO.decoder, &mut pass, &[11, 11], &[21, 40], &mut [&mut a, &mut b]);
    for (i, cache) in [&a, &b].into_iter().enumerate() {
        assert_eq!(bits(step.row(i)), bits(&alone[i].2));
        assert_eq!(entries(cache), entries(&alone[i].0));
    }
}

/// C6.1a: one, two and three threads give the same hash. C1.3a: a watched pass gives the bits of an unwatched pass.
#[test]
fn c6_1a_c1_3a_threads_and_taps_change_no_bit() {
    let run = || {
        let mut cache = DEMO.decoder.cache::<f32>();
        let out = feed(&mut cache, rows(67, 3), Grid::Native);
        (sha(&bits(&out)), sha(&entries(&cache)))
    };
    let want = run();
    for n in 1..=3 {
        assert_eq!(threads(n, run), want, "{n} threads");
    }
    let prompt = Prepared::from_ids(&*DEMO.config, &(20..60).collect::<Vec<u32>>(), vec![]).unwrap();
    let mut stages = Stages::default();
    let seen = generate::prefill(&DEMO, &mut Pass::<f32>::watched(Grid::Native, &mut stages), &prompt, &[]).unwrap();
    let unseen = generate::prefill(&DEMO, &mut Pass::<f32>::new(Grid::Native), &prompt, &[]).unwrap();
    assert!(stages.0.contains_key("decoder.03.mix"));
    assert_eq!((bits(&seen.logits), entries(&seen.cache)), (bits(&unseen.logits), entries(&unseen.cache)));
    // C6.7a: a watched pass computes the final norm of all rows; an unwatched pass computes it for the last row only.
    assert_eq!(stages.0["decoder.norm"].shape(), [40, config().hidden]);
}

fn sha(bits: &[u64]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(bits.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<u8>>()).to_vec()
}

/// C6.4b: in every layer, the mix of the first row equals its own value, bit for bit. The test `c6_1a_c1_3a_…` covers
/// C6.7a.
#[test]
fn c6_4b_a_row_that_sees_one_entry_mixes_to_its_value() {
    let prompt = Prepared::from_ids(&*DEMO.config, &[20, 30, 40], vec![]).unwrap();
    let mut stages = Stages::default();
    generate::prefill(&DEMO, &mut Pass::<f32>::watched(Grid::Native, &mut stages), &prompt, &[]).unwrap();
    let (c, group) = (config(), config().heads / config().kv_heads);
    for layer in 0..c.layers {
        let (mix, value) =
            (&stages.0[&format!("decoder.{layer:02}.mix")], &stages.0[&format!("decoder.{layer:02}.value")]);
        for h in 0..c.heads {
            for i in 0..c.head_dim {
                assert_eq!(mix[[0, h * c.head_dim + i]], value[[h / group, 0, i]], "layer {layer}, head {h}");
            }
        }
    }
}

/// C6.3a: in the first layer, the key and the value of a row depend only on the row and its position.
#[test]
fn c6_3a_a_key_depends_on_its_position_alone() {
    let x = rows::<f32>(6, 4);
    let (mut all, mut one) = (DEMO.decoder.cache(), DEMO.decoder.cache());
    feed(&mut all, x.clone(), Grid::Native);
    let row = x.slice(s![4..5, ..]).to_owned();
    let at = Positions::Linear(vec![4]);
    decoding::forward(&DEMO.decoder, &mut Pass::new(Grid::Native), row, &at, &mut [(&mut one, 1)]);
    for (all, one) in all.layers[0].iter().zip(&one.layers[0]) {
        assert!(all.key(4).eq(one.key(0)) && all.value(4).eq(one.value(0)));
    }
}

/// E6.8: the first generated token has the position after the prompt; C6.8b: T tokens need T − 1 steps.
#[test]
fn e6_8_c6_8b_worked_example() {
    let prompt = Prepared::from_ids(&*DEMO.config, &[20, 30, 40, 50, 60], vec![]).unwrap();
    let mut stages = Stages::default();
    let mut pass = Pass::<f32>::watched(Grid::Native, &mut stages);
    let mut prefilled = generate::prefill(&DEMO, &mut pass, &prompt, &[]).unwrap();
    assert_eq!((prefilled.next_position, prefilled.cache.rows), (5, 5));
    let before = prefilled.clone();
    let until = Until { stop: vec![], max_new_tokens: 4 };
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let tokens =
        generate::decode(&DEMO, &mut pass, &mut prefilled, &mut greedy, &until, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((tokens.len(), prefilled.cache.rows), (4, 8));
    let steps: Vec<&String> = stages.0.keys().filter(|k| k.starts_with("step.") && k.ends_with("logits")).collect();
    assert_eq!(steps, ["step.0000.logits", "step.0001.logits", "step.0002.logits"]);
    // Step 0 decodes the first token at position 5.
    let mut cache = before.cache;
    let logits =
        decoding::step(&DEMO.decoder, &mut Pass::<f32>::new(Grid::Native), &tokens[..1], &[5], &mut [&mut cache]);
    assert!(logits.iter().zip(&stages.0["step.0000.logits"]).all(|(&a, &b)| a as f64 == b));
}

fn draw(logits: &[f64], top_k: usize, top_p: f64, seed: u64) -> Sampler {
    let mut sampler = Sampler::new(Sampling::Draw { temperature: 1.0, top_k, top_p, seed }).unwrap();
    sampler.next(logits).unwrap();
    sampler
}

#[test]
fn e6_9_worked_example() {
    let logits = [0.0, 3f64.ln(), f64::NEG_INFINITY, 0.0];
    assert_eq!(Sampler::new(Sampling::Greedy).unwrap().next(&logits).unwrap(), 1);
    // The weights are 1, 3, 0, 1, with sum 5: token 1 alone reaches the probability 0.5.
    let mut sampler = draw(&logits, 0, 0.5, 1);
    assert!((0..1000).all(|_| sampler.next(&logits).unwrap() == 1));
    let mut sampler = draw(&logits, 2, 1.0, 1);
    let mut counts = [0f64; 4];
    (0..10_000).for_each(|_| counts[sampler.next(&logits).unwrap() as usize] += 1.0);
    // Five standard deviations of a binomial with p = 3/4.
    let five = 5.0 * (10_000.0 * 0.75 * 0.25f64).sqrt();
    assert!((counts[1] - 7500.0).abs() <= five && counts[0] + counts[1] == 10_000.0, "{counts:?}");
}

/// C6.9a, A6.9: of several equal logits, the logit with the lowest id wins.
#[test]
fn c6_9a_a6_9_ties_go_to_the_lowest_id() {
    assert_eq!(Sampler::new(Sampling::Greedy).unwrap().next(&[1f32, 2.0, 2.0, 2.0]).unwrap(), 1);
    let mut sampler = Sampler::new(Sampling::Draw { temperature: 1.0, top_k: 1, top_p: 1.0, seed: 9 }).unwrap();
    assert!((0..100).all(|_| sampler.next(&[1f32, 2.0, 2.0]).unwrap() == 1));
}

#[test]
fn c6_9b_what_is_no_number_is_an_error() {
    let next = |logits: &[f32]| Sampler::new(Sampling::Greedy).unwrap().next(logits);
    assert!(next(&[0.0, f32::NAN]).unwrap_err().at.contains("token 1"));
    assert!(next(&[f32::INFINITY, 0.0]).unwrap_err().at.contains("token 0"));
    assert!(next(&[f32::NEG_INFINITY; 3]).is_err() && next(&[]).is_err());
    assert_eq!(next(&[f32::NEG_INFINITY, -5.0]).unwrap(), 1);
}

/// C6.9c: the test contains the sequence, so it fails on another machine or version with different draws.
#[test]
fn c6_9c_a_seed_draws_the_same_tokens_everywhere() {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 37) % 50) as f32 / 10.0).collect();
    let mut sampler = Sampler::new(Sampling::Draw { temperature: 0.9, top_k: 40, top_p: 0.95, seed: 42 }).unwrap();
    let drawn: Vec<u32> = (0..8).map(|_| sampler.next(&logits).unwrap()).collect();
    let mut again = Sampler::new(Sampling::Draw { temperature: 0.9, top_k: 40, top_p: 0.95, seed: 42 }).unwrap();
    let wide: Vec<f64> = logits.iter().map(|&v| v as f64).collect();
    assert_eq!((0..8).map(|_| again.next(&wide).unwrap()).collect::<Vec<_>>(), drawn);
    assert_eq!(drawn, DRAWN);
}

/// Computed by a Python script with the same formulas (SplitMix64, `math.exp`), not by this crate.
const DRAWN: [u32; 8] = [47, 4, 31, 8, 27, 32, 31, 1];

/// T6.1: names, grids, and a visible effect of each emulated type on the logits.
#[test]
fn t6_1_precisions() {
    let all = [Precision::Truth, Precision::Fast, Precision::Bf16, Precision::F16];
    assert_eq!(all.map(Precision::bundle_name), ["f64", "f32", "bf16", "f16"]);
    assert_eq!(all.map(Precision::grid), [Grid::Native, Grid::Native, Grid::Bf16, Grid::F16]);
    let prompt = Prepared::from_ids(&*DEMO.config, &(20..60).collect::<Vec<u32>>(), vec![]).unwrap();
    let run = |grid| generate::prefill(&DEMO, &mut Pass::<f32>::new(grid), &prompt, &[]).unwrap().logits;
    let truth = generate::prefill(&DEMO, &mut Pass::<f64>::new(Grid::Native), &prompt, &[]).unwrap().logits;
    let largest = truth.iter().fold(0f64, |m, v| m.max(v.abs()));
    let off = |grid| run(grid).iter().zip(&truth).fold(0f64, |m, (&a, &b)| m.max((a as f64 - b).abs())) / largest;
    let (fast, f16, bf16) = (off(Grid::Native), off(Grid::F16), off(Grid::Bf16));
    println!("logits off by {fast:.1e} (fast), {f16:.1e} (f16), {bf16:.1e} (bf16) of the largest");
    assert!(fast < f16 && f16 < bf16 && bf16 < 0.1);
    assert!(run(Grid::Bf16).iter().all(|&v| Grid::Bf16.round(v) == v));
}

/// A6.1: weights are used as they are stored: an f32 weight without an exact bf16 value is not rounded.
#[test]
fn a6_1_weights_are_not_rounded() {
    use aircache::{layer::Linear, weights::Matrix};
    let layer = Linear { weight: Matrix::of_f32(&[1.0 + 2f32.powi(-8)], 1, 1), bias: None, stored: Default::default() };
    let y = layer.forward(&Pass::<f32>::new(Grid::Bf16), array![[3.0]].view());
    assert_eq!(y[[0, 0]], Grid::Bf16.round(3.0 + 3.0 * 2f32.powi(-8)));
    assert_ne!(y[[0, 0]], 3.0);
}

/// T6.2: the defaults of missing fields.
#[test]
fn t6_2_defaults() {
    let files = raw::embedded(&[("config.json", r#"{"model_type": "llava_onevision"}"#)]);
    let family = aircache::family::load(&files).unwrap();
    let c = family.text();
    assert_eq!((c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim), (4096, 32, 32, 32, 128));
    assert_eq!((c.intermediate, c.vocab, c.max_positions), (22016, 151_936, 32768));
    assert_eq!((c.norm_eps, c.rope_theta, c.activation, c.tied), (1e-6, 1e4, Activation::Silu, false));
}

/// The activation of R6.6 is E3.6: the gated MLP by hand.
#[test]
fn r6_6_the_gate_is_stored_before_the_product() {
    use aircache::{layer::GatedMlp, layer::Linear, weights::Matrix};
    let one = || Linear { weight: Matrix::of_f32(&[1.0], 1, 1), bias: None, stored: Default::default() };
    let mlp = GatedMlp { gate: one(), up: one(), down: one(), activation: Activation::Silu };
    let r = |x: f32| Grid::Bf16.round(x);
    let y = mlp.forward(&Pass::<f32>::new(Grid::Bf16), array![[1.2890625]])[[0, 0]];
    assert_eq!(y, r(r(silu(1.2890625)) * 1.2890625));
}
