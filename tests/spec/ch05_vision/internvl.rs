//! InternVL2's tower, pixel shuffle and projector.

use super::*;
use aircache::config::{InternVitConfig, NormKind};
use aircache::family::internvl::{InternVlConfig, names, projector};
use aircache::files::Files;
use aircache::vision::{InternVit, shuffled};
use aircache::weights::Checkpoint;
use ndarray::{Array2, Array3, Axis};

fn toy(case: &str) -> (Checkpoint, InternVlConfig) {
    let files = Files::Folder(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case));
    let family = family::load(&files).unwrap();
    (Checkpoint::open(&files).unwrap(), family.as_a::<InternVlConfig>().unwrap().clone())
}

/// A tower by hand: one tile of one pixel, one head of 2, one layer.
fn by_hand_config() -> InternVitConfig {
    InternVitConfig {
        hidden: 2,
        layers: 1,
        heads: 1,
        intermediate: 1,
        image: 1,
        patch: 1,
        norm_eps: 0.0,
        norm: NormKind::Layer,
        qk_norm: None,
        qkv_bias: false,
        fused: true,
        last_norm: false,
        activation: Activation::GeluErf,
    }
}

/// E5.11–E5.13: embeddings and a layer by hand.
#[test]
fn e5_11_e5_12_e5_13_worked_examples() {
    let at = |part: &str| format!("vision_model.encoder.layers.0.{part}");
    let qkv = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    let tensors: Vec<(String, &[usize], &[f32])> = vec![
        ("vision_model.embeddings.class_embedding".into(), &[1, 1, 2], &[4.0, 0.0]),
        ("vision_model.embeddings.patch_embedding.weight".into(), &[2, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        ("vision_model.embeddings.patch_embedding.bias".into(), &[2], &[0.0, 0.0]),
        ("vision_model.embeddings.position_embedding".into(), &[1, 2, 2], &[0.0, 2.0, 0.0, 1.0]),
        (at("norm1.weight"), &[2], &[1.0, 1.0]),
        (at("norm1.bias"), &[2], &[0.0, 0.0]),
        (at("attn.qkv.weight"), &[6, 2], &qkv),
        (at("attn.proj.weight"), &[2, 2], &[1.0, 0.0, 0.0, 1.0]),
        (at("attn.proj.bias"), &[2], &[0.0, 0.0]),
        (at("ls1"), &[2], &[2.0, 3.0]),
        (at("norm2.weight"), &[2], &[1.0, 1.0]),
        (at("norm2.bias"), &[2], &[0.0, 0.0]),
        (at("mlp.fc1.weight"), &[1, 2], &[0.0, 0.0]),
        (at("mlp.fc1.bias"), &[1], &[0.0]),
        (at("mlp.fc2.weight"), &[2, 1], &[0.0, 0.0]),
        (at("mlp.fc2.bias"), &[2], &[0.0, 0.0]),
        (at("ls2"), &[2], &[1.0, 1.0]),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, shape, v)| (n.as_str(), *shape, *v)).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&tensors);
    let names = Names::new(&checkpoint, names::own);
    let pixel = Array4::from_elem((1, 3, 1, 1), 1.0);
    for used in [0, 1] {
        let tower = InternVit::load(&names, &by_hand_config(), used).unwrap();
        let x = tower.features(&mut Pass::<f64>::new(Grid::Native), pixel.view());
        assert_eq!(x, array![[[4.0, 2.0], [1.0, 3.0]]], "the mixes cancel");
    }
}

/// C5.12a, R5.11, R5.12, R5.15: tower and projector equal their twins, bit for bit, on every grid.
#[test]
fn c5_12a_r5_11_r5_12_r5_15_tower_and_projector_equal_their_twins() {
    fn check<T: Real>(case: &str, names: fn(&str) -> Vec<String>, grid: Grid) {
        let (checkpoint, c) = toy(case);
        let names = Names::new(&checkpoint, names);
        let tower = InternVit::load(&names, &c.vision, c.feature_layer).unwrap();
        let pixels = pixels(2, c.vision.image);
        let mut pass = Pass::<T>::new(grid);
        let states = tower.features(&mut pass, pixels.view());
        let twin = Twin { names, grid };
        let read = c.feature_layer + usize::from(c.vision.last_norm);
        for tile in 0..2 {
            let of = twin.intern_vit::<T>(&c.vision, pixels.slice(s![tile..tile + 1, .., .., ..]));
            assert_eq!(bits(states.index_axis(Axis(0), tile)), bits(&of[read]), "{case}, tile {tile} on {grid:?}");
        }
        let features = shuffled(states.view(), c.merge, c.transposed);
        let features: Array2<T> = features.flatten_to_rows();
        let rows = projector(&names, &c).unwrap().forward(&pass, features.view());
        assert_eq!(bits(&rows), bits(&twin.shuffled_projector(&c, &features)), "{case} on {grid:?}");
    }
    let theirs =
        ["qwen2-bf16", "rms-qk-norm", "llama-two-images", "layer-1", "last-norm", "no-downsampling", "quarter"];
    let theirs = theirs.map(|case| (format!("internvl/{case}/model"), names::transformers as fn(&str) -> Vec<String>));
    for (case, names) in theirs.into_iter().chain([("internvl2/qwen2/model".into(), names::own as _)]) {
        for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
            check::<f32>(&case, names, grid);
        }
        check::<f64>(&case, names, Grid::Native);
    }
}

trait Rows<T> {
    fn flatten_to_rows(self) -> Array2<T>;
}

impl<T> Rows<T> for Array3<T> {
    fn flatten_to_rows(self) -> Array2<T> {
        let (tiles, rows, width) = self.dim();
        self.into_shape_with_order((tiles * rows, width)).unwrap()
    }
}

/// A call with several tiles gives the same bits as one call for each tile, also if the tiles are divided into groups.
#[test]
fn c5_11a_tiles_do_not_see_each_other() {
    let (checkpoint, c) = toy("internvl2/qwen2/model");
    let tower = InternVit::load(&Names::new(&checkpoint, names::own), &c.vision, 4).unwrap();
    let pixels = pixels(100, c.vision.image); // 17 tokens each, so a group has 88 tiles
    let run = |range: std::ops::Range<usize>| {
        tower.features(&mut Pass::<f32>::new(Grid::Native), pixels.slice(s![range, .., .., ..]))
    };
    let all = run(0..100);
    for tile in [0, 87, 88, 99] {
        assert_eq!(bits(all.slice(s![tile..tile + 1, .., ..])), bits(&run(tile..tile + 1)), "tile {tile}");
    }
}

#[test]
fn e5_14_worked_example() {
    // The class token comes first, then patches 0 … 15.
    let state = Array3::from_shape_fn((1, 17, 1), |(_, token, _)| token as f64 - 1.0);
    let rows = |transposed| shuffled(state.view(), 2, transposed).into_raw_vec_and_offset().0;
    let v2 = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15].map(f64::from);
    assert_eq!(rows(false), v2);
    assert_eq!(rows(true), [&v2[..4], &v2[8..12], &v2[4..8], &v2[12..]].concat());
}

/// Computed by hand; the first five digits do not depend on ε.
#[test]
fn e5_15_worked_example() {
    let (_, mut c) = toy("internvl2/qwen2/model");
    (c.vision.hidden, c.text.hidden) = (1, 1);
    let (checkpoint, _folder) = by_hand::checkpoint(&[
        ("mlp1.0.weight", &[4], &[1.0; 4]),
        ("mlp1.0.bias", &[4], &[0.0; 4]),
        ("mlp1.1.weight", &[1, 4], &[0.0, 1.0, 0.0, 0.0]),
        ("mlp1.1.bias", &[1], &[0.0]),
        ("mlp1.3.weight", &[1, 1], &[1.0]),
        ("mlp1.3.bias", &[1], &[0.0]),
    ]);
    let projector = projector(&Names::new(&checkpoint, names::own), &c).unwrap();
    let row = projector.forward(&Pass::<f64>::new(Grid::Native), array![[1.0, -1.0, 1.0, -1.0]].view());
    assert!((row[[0, 0]] + 0.158655).abs() < 1e-5, "{row}");
}

/// T5.5, T5.6, T6.2: the meaning of fields and the defaults of missing fields, in both forms.
#[test]
fn t5_5_t5_6_defaults_of_both_forms() {
    let (_, own) = toy("internvl2/internlm2-two-images/model");
    assert_eq!((own.merge, own.feature_layer, own.transposed, own.tiles), (2, 4, false, Some((1, 6))));
    assert_eq!((own.image_token, own.vision.fused, own.text.ntk), (424, true, Some(2.0)));
    assert!(!own.text.qkv_bias && !own.text.out_bias && !own.text.tied && own.thumbnail);
    let read = |config: serde_json::Value| {
        let leak = |s: String| -> &'static [u8] { Box::leak(s.into_bytes().into_boxed_slice()) };
        let list =
            [("config.json", leak(config.to_string())), ("added_tokens.json", leak("{\"<IMG_CONTEXT>\": 7}".into()))];
        let family = family::load(&Files::Embedded(Box::leak(Box::new(list))))?;
        Ok::<_, aircache::Error>(family.as_a::<InternVlConfig>().unwrap().clone())
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let own = read(json(r#"{"model_type": "internvl_chat", "llm_config": {"model_type": "internlm2"}}"#)).unwrap();
    let (v, t) = (&own.vision, &own.text);
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate, v.image, v.patch), (3200, 48, 25, 12800, 224, 14));
    assert_eq!((v.norm, v.qk_norm, v.qkv_bias, v.last_norm), (NormKind::Rms, Some(1e-6), false, false));
    assert_eq!((own.transposed, own.tiles, own.thumbnail, own.feature_layer), (true, None, false, 48));
    assert_eq!((t.kv_heads, t.vocab, t.max_positions, t.qkv_bias, t.out_bias), (32, 103_168, 2048, true, true));
    let theirs = read(json(r#"{"model_type": "internvl"}"#)).unwrap();
    let (v, t) = (&theirs.vision, &theirs.text);
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate, v.image, v.patch), (1024, 24, 16, 4096, 448, 14));
    assert_eq!((v.norm, v.qk_norm, v.qkv_bias), (NormKind::Layer, None, false));
    assert_eq!((theirs.image_token, theirs.tiles, theirs.thumbnail, t.tied), (151_667, Some((1, 12)), true, true));
    let refused = |config: &str, at: &str| {
        let e = read(json(config)).unwrap_err();
        assert!(e.at.ends_with(at), "{e}");
        e.to_string()
    };
    let chat = |field: &str| format!(r#"{{"model_type": "internvl_chat", {field}}}"#);
    for (found, words) in [("internlm3", "InternLM3"), ("qwen3_moe", "mixture of experts"), ("gpt_oss", "GPT-OSS")] {
        let config = chat(&format!(r#""llm_config": {{"model_type": "{found}"}}"#));
        assert!(refused(&config, "llm_config.model_type").contains(words), "{found}");
    }
    assert!(refused(&chat(r#""flash_mode": true"#), "flash_mode").contains("Flash"));
    let phi3 = |rope: &str| {
        chat(&format!(
            r#""llm_config": {{"model_type": "phi3", "num_attention_heads": 32, "hidden_size": 128, {rope}}}"#
        ))
    };
    let long = r#""rope_scaling": {"type": "su", "short_factor": [1, 2], "long_factor": [1]}"#;
    assert!(refused(&phi3(long), "llm_config.rope_scaling.long_factor").contains("a list of 1"));
    refused(&phi3(r#""rope_scaling": {"type": "su", "long_factor": [1, 2]}"#), "llm_config.rope_scaling.short_factor");
    refused(&phi3(r#""rope_scaling": {"type": "yarn"}"#), "llm_config.rope_scaling.type");
    assert!(refused(&phi3(r#""sliding_window": 2047"#), "llm_config.sliding_window").contains("4096"));
    let linear = r#""llm_config": {"model_type": "internlm2", "rope_scaling": {"type": "linear", "factor": 2.0}}"#;
    assert!(refused(&chat(linear), "llm_config.rope_scaling.type").contains("dynamic"));
    refused(&chat(r#""llm_config": {"rope_scaling": {"type": "dynamic"}}"#), "llm_config.rope_scaling.factor");
    assert!(refused(&chat(r#""rope_pos_id_version": "v2pe_fix""#), "rope_pos_id_version").contains("V2PE"));
    refused(&chat(r#""force_image_size": 448"#), "force_image_size");
    refused(&chat(r#""use_llm_lora": 16"#), "use_llm_lora");
    refused(&chat(r#""ps_version": "v3""#), "ps_version");
    refused(&chat(r#""downsample_ratio": 0.3"#), "downsample_ratio");
    refused(&chat(r#""pad2square": true"#), "pad2square");
    refused(&chat(r#""select_layer": -50"#), "select_layer");
    refused(r#"{"model_type": "internvl", "image_seq_length": 255}"#, "image_seq_length");
    refused(
        r#"{"model_type": "internvl", "vision_feature_select_strategy": "full"}"#,
        "vision_feature_select_strategy",
    );
}
