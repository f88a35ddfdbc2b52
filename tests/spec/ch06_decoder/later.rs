//! Qwen3 and Phi-3: norms of queries and keys, long rope, stacked projections.

use super::*;
use crate::common::decoding;
use aircache::config::LongRope;
use aircache::family::{self, internvl::names};
use aircache::files::Files;
use aircache::kernel::{Angles, Frequencies, Turn};
use aircache::weights::Checkpoint;

fn toy(case: &str) -> (Checkpoint, DecoderConfig) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/internvl_own");
    let files = Files::Folder(root.join(case).join("model"));
    let config = family::load(&files).unwrap().text().clone();
    (Checkpoint::open(&files).unwrap(), config)
}

/// A layer's queries, keys and values for the row x = (1, 1, …), from weights by hand.
fn heads(config: &DecoderConfig, own: &[(&str, &[usize], Vec<f32>)]) -> [Vec<f64>; 3] {
    let (d, q) = (config.hidden, config.heads * config.head_dim);
    let at = |part: &str| format!("language_model.model.layers.0.{part}.weight");
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = vec![
        ("language_model.model.embed_tokens.weight".into(), vec![2, d], vec![0.0; 2 * d]),
        ("language_model.lm_head.weight".into(), vec![2, d], vec![0.0; 2 * d]),
        (at("self_attn.o_proj"), vec![d, q], vec![0.0; d * q]),
        (at("mlp.down_proj"), vec![d, 1], vec![0.0; d]),
        (at("input_layernorm"), vec![d], (0..d).map(|i| i as f32).collect()),
        (at("post_attention_layernorm"), vec![d], vec![1.0; d]),
        ("language_model.model.norm.weight".into(), vec![d], vec![1.0; d]),
    ];
    tensors.extend(own.iter().map(|(name, shape, v)| (at(name), shape.to_vec(), v.clone())));
    let tensors: Vec<_> = tensors.iter().map(|(n, shape, v)| (n.as_str(), &shape[..], &v[..])).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&tensors);
    let decoder = Decoder::load(&Names::new(&checkpoint, names::own), config).unwrap();
    let (mut stages, mut cache) = (Stages::default(), decoder.cache::<f64>());
    let mut pass = Pass::watched(Grid::Native, &mut stages);
    let x = Array2::from_elem((1, d), 1.0);
    decoding::forward(&decoder, &mut pass, x, &Positions::Linear(vec![0]), &mut [(&mut cache, 1)]);
    ["query", "key", "value"].map(|part| stages.0[&format!("decoder.00.{part}")].iter().copied().collect())
}

fn small() -> DecoderConfig {
    let c = config().clone();
    DecoderConfig { layers: 1, intermediate: 1, vocab: 2, norm_eps: 0.0, qkv_bias: false, tied: false, ..c }
}

/// The head (1, 7) of the queries and of the keys, at position 0, where nothing turns. The values are not normed.
#[test]
fn e6_14_worked_example() {
    let c = DecoderConfig { hidden: 2, heads: 1, kv_heads: 1, head_dim: 2, qk_norm: true, ..small() };
    let w = || vec![0.0, 1.0, 0.0, 7.0]; // h = (0, 1)
    let mlp = || vec![0.0; 2];
    let [q, k, v] = heads(
        &c,
        &[
            ("self_attn.q_proj", &[2, 2], w()),
            ("self_attn.k_proj", &[2, 2], w()),
            ("self_attn.v_proj", &[2, 2], w()),
            ("self_attn.q_norm", &[2], vec![1.0, 2.0]),
            ("self_attn.k_norm", &[2], vec![1.0, 2.0]),
            ("mlp.gate_proj", &[1, 2], mlp()),
            ("mlp.up_proj", &[1, 2], mlp()),
        ],
    );
    let near = |x: &[f64]| x.iter().zip([0.2, 2.8]).all(|(x, want)| (x - want).abs() <= gamma::<f64>(20) * want);
    assert!(near(&q) && near(&k), "{q:?}, {k:?}");
    assert_eq!(v, [1.0, 7.0]);
}

/// The rows of the stacked matrix: row i gives i.
#[test]
fn e6_16_worked_example() {
    let c =
        DecoderConfig { hidden: 2, heads: 2, kv_heads: 1, head_dim: 2, projections: Projections::Stacked, ..small() };
    let all = (0..8).flat_map(|i| [0.0, i as f32]).collect();
    let parts = [("self_attn.qkv_proj", &[8, 2][..], all), ("mlp.gate_up_proj", &[2, 2], vec![0.0; 4])];
    assert_eq!(heads(&c, &parts), [vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0], vec![6.0, 7.0]]);
}

/// Also A6.15: the length alone decides.
#[test]
fn e6_15_r6_15_a6_15_worked_example() {
    let rope = r#""rope_scaling": {"type": "su", "short_factor": [1, 2], "long_factor": [4, 5]}"#;
    let text = format!(
        r#"{{"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 2, "rope_theta": 10000, {rope},
            "max_position_embeddings": 64, "original_max_position_embeddings": 8}}"#
    );
    let whole = format!(r#"{{"model_type": "internvl_chat", "llm_config": {text}}}"#);
    let tokens = r#"{"<IMG_CONTEXT>": 3}"#;
    let files = [("config.json", whole.as_bytes()), ("added_tokens.json", tokens.as_bytes())];
    let files = Files::Embedded(Box::leak(files.map(|(n, b)| (n, &*b.to_vec().leak())).into()));
    let c = family::load(&files).unwrap().text().clone();
    let long = c.long_rope.clone().unwrap();
    assert_eq!((long.trained, long.scale), (8, 2f64.sqrt()));
    let pairs = |length| [0, 1].map(|i| twin::frequencies(&c, length).angle(Turn::Rounded, 1, i) as f32);
    assert_eq!((pairs(8), pairs(9)), ([1.0, 0.005], [0.25, 0.002]));
    let exact = |i| twin::frequencies(&c, 9).angle(Turn::Exact, 1, i);
    assert!((exact(0) - 0.25).abs() < 1e-16 && (exact(1) - 0.002).abs() < 1e-16);
    let at = |_, i| (i, 4);
    let angles = Angles::<f64>::new((1, 1), &Frequencies::new(1e4, 4), at, Turn::Exact, Grid::Native);
    let angles = angles.scaled(long.scale, Grid::Native);
    assert_eq!((angles.cos[[0, 0]], angles.sin[[0, 0]]), (4f64.cos() * long.scale, 4f64.sin() * long.scale));
}

/// C6.16a, C6.15a, E6.14: stream, keys and values equal the twin's, up to the trained length, across it and beyond it.
#[test]
fn c6_16a_c6_15a_r6_14_the_decoder_equals_its_twin() {
    fn check<T: Real>(case: &str, trained: usize, grid: Grid) {
        let (checkpoint, mut c) = toy(case);
        if let Some(long) = &mut c.long_rope {
            *long = LongRope { trained, ..long.clone() };
        }
        let names = Names::new(&checkpoint, names::own);
        let decoder = Decoder::load(&names, &c).unwrap();
        let mut rng = Rng(5);
        let ids: Vec<u32> = (0..25).map(|_| rng.below(400) as u32).collect();
        let (mut cache, mut heads) = (decoder.cache::<T>(), twin::empty::<T>(&c));
        let attend = |_: usize, _: usize, q: &[T], (k, v): &twin::Head<T>| naive::attend(q, k.view(), v.view(), grid).0;
        for rows in [0..23, 23..24, 24..25] {
            let positions: Vec<i64> = (rows.start as i64..rows.end as i64).collect();
            let x: Array2<T> = decoder.embed(&ids[rows.clone()]);
            let at = Positions::Linear(positions.clone());
            let got =
                decoding::forward(&decoder, &mut Pass::new(grid), x.clone(), &at, &mut [(&mut cache, rows.len())]);
            let want = Twin { names, grid }.decoder(&c, x, &positions, &mut heads, &attend);
            assert_eq!(bits(&got), bits(&want), "{case}, rows {rows:?}, trained {trained}, {grid:?}");
        }
    }
    for (case, trained) in
        [("qwen3-internvl3-5", 0), ("phi3-long", 12), ("phi3-long", 23), ("phi3-long", 40), ("phi3-plain", 0)]
    {
        for grid in [Grid::Native, Grid::Bf16] {
            check::<f32>(case, trained, grid);
        }
        check::<f64>(case, trained, Grid::Native);
    }
}
