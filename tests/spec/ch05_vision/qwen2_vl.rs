//! Qwen2-VL's tower and merger.

use super::*;
use aircache::config::{NormKind, PatchVitConfig};
use aircache::family::patch_model::merger;
use aircache::family::qwen2_vl::{PARTS, Qwen2VlConfig, Qwen2VlEncoder};
use aircache::files::Files;
use aircache::kernel::{Angles, Frequencies, Turn};
use aircache::vision::{PatchVit, frames, places};
use aircache::weights::Checkpoint;
use aircache::weights::names::visual as names;
use ndarray::Array2;

fn toy(case: &str) -> (Checkpoint, Qwen2VlConfig) {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen2_vl").join(case).join("model");
    let family = family::load(&Files::Folder(folder.clone())).unwrap();
    (Checkpoint::open(&Files::Folder(folder)).unwrap(), family.as_a::<Qwen2VlConfig>().unwrap().clone())
}

fn patches(n: usize, numbers: usize) -> Array2<f32> {
    let mut rng = Rng(7);
    Array2::from_shape_fn((n, numbers), |_| rng.number(1.0))
}

/// A vision configuration by hand: patches of one pixel, one head of 4, one layer.
fn by_hand_config(merge: usize) -> PatchVitConfig {
    PatchVitConfig {
        hidden: 4,
        layers: 1,
        heads: 1,
        intermediate: 4,
        patch: 1,
        temporal: 1,
        merge,
        rope_theta: 1e4,
        activation: Activation::QuickGelu,
    }
}

/// E5.7–E5.9: a layer by hand.
#[test]
fn e5_7_e5_8_e5_9_worked_examples() {
    let identity: Vec<f32> = (0..16).map(|i| f32::from(i % 5 == 0)).collect();
    let qkv: Vec<f32> = [vec![0.0; 32], identity.clone()].concat();
    let kernel = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0f32];
    let zeros = [0f32; 16];
    let all: Vec<(&str, &[usize], &[f32])> = vec![
        ("visual.patch_embed.proj.weight", &[4, 3, 1, 1, 1], &kernel),
        ("visual.blocks.0.norm1.weight", &[4], &zeros[..4]),
        ("visual.blocks.0.norm1.bias", &[4], &[1.0, 2.0, 3.0, 4.0]),
        ("visual.blocks.0.attn.qkv.weight", &[12, 4], &qkv),
        ("visual.blocks.0.attn.qkv.bias", &[12], &zeros[..12]),
        ("visual.blocks.0.attn.proj.weight", &[4, 4], &identity),
        ("visual.blocks.0.attn.proj.bias", &[4], &zeros[..4]),
        ("visual.blocks.0.norm2.weight", &[4], &zeros[..4]),
        ("visual.blocks.0.norm2.bias", &[4], &zeros[..4]),
        ("visual.blocks.0.mlp.fc1.weight", &[4, 4], &zeros),
        ("visual.blocks.0.mlp.fc1.bias", &[4], &zeros[..4]),
        ("visual.blocks.0.mlp.fc2.weight", &[4, 4], &zeros),
        ("visual.blocks.0.mlp.fc2.bias", &[4], &zeros[..4]),
    ];
    let (checkpoint, _folder) = by_hand::checkpoint(&all);
    let tower = PatchVit::load(&Names::new(&checkpoint, names), &by_hand_config(1), PARTS).unwrap();
    let (x, mut pass) = (array![[1.0f32, 0.0, 0.0], [0.0, 1.0, 0.0]], Pass::<f64>::new(Grid::Native));
    let (embedded, grid) = (tower.embedded(&pass, x.view()), [1, 1, 2]);
    let (at, lengths) = (places(grid, 1).collect::<Vec<_>>(), frames(&[grid]));
    let (y, _) = tower.features(&mut pass, embedded, &at, |_| &lengths, |_, _, _| (), None);
    assert_eq!(y, array![[2.0, 2.0, 3.0, 5.0], [1.0, 3.0, 3.0, 5.0]]);
    // E5.8: a head of 4 has one frequency, 1, for the row, and the same frequency for the column.
    let quarter = Frequencies::new(1e4, 2);
    assert_eq!(quarter.len(), 1);
    let angles = Angles::<f64>::new((1, 2), &quarter, |_, i| (0, [3, 5][i]), Turn::Exact, Grid::Native);
    assert_eq!((angles.cos[[0, 0]], angles.sin[[0, 1]]), (libm::cos(3.0), libm::sin(5.0)));
}

/// C5.8a, R5.7, R5.8, E5.10, R5.10: tower and merger equal their twins, bit for bit, on every grid.
#[test]
fn c5_8a_r5_7_r5_8_r5_10_tower_and_merger_equal_their_twins() {
    fn check<T: Real>(case: &str, grid: Grid) {
        let (checkpoint, c) = toy(case);
        let names = Names::new(&checkpoint, names);
        let encoder = Qwen2VlEncoder::load(&names, &c.vision, c.text.hidden).unwrap();
        let m = c.vision.merge;
        let grids = [[1, 2 * m, 3 * m], [2, m, 2 * m]];
        let patches = patches(10 * m * m, c.vision.numbers());
        let mut pass = Pass::<T>::new(grid);
        let [features, rows] = encoder.rows(&mut pass, patches.view(), &grids, None);
        let twin = Twin { names, grid };
        let want = twin.qwen2_vl::<T>(&c.vision, patches.view(), &grids);
        assert_eq!(bits(&features), bits(want.last().unwrap()), "{case}, {} on {grid:?}", T::NAME);
        assert_eq!(bits(&rows), bits(&twin.merger(&c.vision, &features, c.text.hidden)), "{case}, {grid:?}");
    }
    for case in ["hub-bf16", "merge-3-frames-1", "merge-1", "untied-f16-sharded", "eps-and-theta"] {
        for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
            check::<f32>(case, grid);
        }
        check::<f64>(case, Grid::Native);
    }
}

/// C5.7a, C5.9a: several images in one call give the same bits as one call for each image; the same holds for frames.
#[test]
fn c5_7a_c5_9a_images_and_frames_do_not_see_each_other() {
    let (checkpoint, c) = toy("hub-bf16");
    let encoder = Qwen2VlEncoder::load(&Names::new(&checkpoint, names), &c.vision, c.text.hidden).unwrap();
    let patches = patches(8 + 2 * 16, c.vision.numbers());
    let run = |rows: std::ops::Range<usize>, grids: &[[usize; 3]]| {
        let [features, _] = encoder.rows(&mut Pass::<f32>::new(Grid::Native), patches.slice(s![rows, ..]), grids, None);
        features
    };
    let all = run(0..40, &[[1, 2, 4], [2, 4, 4]]);
    assert_eq!(bits(all.slice(s![..8, ..])), bits(&run(0..8, &[[1, 2, 4]])));
    assert_eq!(bits(all.slice(s![8..24, ..])), bits(&run(8..24, &[[1, 4, 4]])), "the first frame");
    assert_eq!(bits(all.slice(s![24.., ..])), bits(&run(24..40, &[[1, 4, 4]])), "the second");
}

/// E5.10 by hand; the first six digits do not depend on the norms' ε.
#[test]
fn e5_10_worked_example() {
    let identity: Vec<f32> = (0..256).map(|i| f32::from(i % 17 == 0)).collect();
    let mut pick = [0f32; 16];
    pick[4] = 1.0;
    let all: Vec<(&str, &[usize], &[f32])> = vec![
        ("model.visual.merger.ln_q.weight", &[4], &[1.0; 4]),
        ("model.visual.merger.ln_q.bias", &[4], &[0.0; 4]),
        ("model.visual.merger.mlp.0.weight", &[16, 16], &identity),
        ("model.visual.merger.mlp.0.bias", &[16], &[0.0; 16]),
        ("model.visual.merger.mlp.2.weight", &[1, 16], &pick),
        ("model.visual.merger.mlp.2.bias", &[1], &[0.0]),
    ];
    let (checkpoint, _folder) = by_hand::checkpoint(&all);
    let merger = merger(&Names::new(&checkpoint, names), &by_hand_config(2), NormKind::Layer, 1).unwrap();
    let features = Array2::from_shape_fn((4, 4), |(i, j)| [1.0, -1.0, 1.0, 1.0][i] * [1.0, -1.0][j % 2]);
    let rows = merger.forward(&Pass::<f64>::new(Grid::Native), features.view());
    assert_eq!(rows.dim(), (1, 1));
    // ε = 1e-6 reduces the norm by half of 1e-6, and the slope of GELU at −1 is −0.083.
    assert!((rows[[0, 0]] - aircache::num::gelu_erf(-1.0f64)).abs() < 1e-6, "{rows}");
    assert!(rows[[0, 0]].to_string().starts_with("-0.158655"), "{rows}");
}

fn load(config: &str) -> aircache::Result<Qwen2VlConfig> {
    let family = family::load(&raw::embedded(&[("config.json", config)]))?;
    Ok(family.as_a::<Qwen2VlConfig>().unwrap().clone())
}

/// T5.3, T5.4: the defaults of missing fields (values of transformers 5.17), in both forms.
#[test]
fn t5_3_t5_4_defaults() {
    let c =
        load(r#"{"model_type": "qwen2_vl", "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}"#)
            .unwrap();
    let v = &c.vision;
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate), (1280, 32, 16, 5120));
    assert_eq!((v.patch, v.temporal, v.merge, v.rope_theta, v.activation), (14, 2, 2, 1e4, Activation::QuickGelu));
    assert_eq!((c.image_token, c.text.tied, c.vision.numbers()), (151_655, false, 1176));
    let t = &c.text;
    assert_eq!((t.layers, t.intermediate, t.vocab, t.max_positions), (80, 29568, 152_064, 32_768));
    assert_eq!((t.norm_eps, t.rope_theta, t.mrope.as_deref()), (1e-5, 1e6, Some(&[16, 24, 24][..])));
    let five = r#"{"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl_text", "hidden_size": 3584,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": true}}"#;
    let nested = load(five).unwrap();
    assert_eq!((nested.text.tied, &nested.vision), (true, &c.vision));
    assert_eq!(aircache::config::DecoderConfig { tied: false, ..nested.text }, c.text);
}

/// An impossible configuration is refused, and the error names the field.
#[test]
fn t5_3_t5_4_bad_fields_are_named() {
    let edited = |pointer: &str, value: serde_json::Value| {
        let mut config = serde_json::json!({"model_type": "qwen2_vl", "hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}, "vocab_size": 100, "image_token_id": 7,
            "vision_config": {"hidden_size": 128, "embed_dim": 32, "num_heads": 2}});
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        load(&config.to_string())
    };
    use serde_json::json;
    assert!(edited("/vocab_size", json!(100)).is_ok());
    for (pointer, value, words) in [
        ("/vision_config/hidden_size", json!(64), "128"),
        ("/vision_config/num_heads", json!(3), "multiple of 4"),
        ("/vision_config/num_attention_heads", json!(16), "multiple of 4"),
        ("/vision_config/in_channels", json!(1), "3"),
        ("/vision_config/spatial_merge_size", json!(0), "1"),
        ("/vision_config/model_type", json!("siglip_vision_model"), "qwen2_vl_vision"),
        ("/image_token_id", json!(100), "vocab_size 100"),
        ("/rope_scaling/mrope_section", json!([8, 12, 13]), "32"),
        ("/rope_scaling/mrope_section", json!("all"), "a list"),
        ("/rope_scaling/type", json!("yarn"), "scaled"),
        ("/head_dim", json!(32), "64"),
    ] {
        let key = pointer.rsplit_once('/').unwrap().1;
        let e = edited(pointer, value.clone()).unwrap_err().to_string();
        assert!(e.contains(key) && e.contains(words), "{pointer} = {value}: {e}");
    }
}

/// The configurations of the public 2B, 7B and 72B checkpoints: in the flat form of the hub, and in the form that
/// transformers 5 saves.
#[test]
fn t5_4_public_layouts_are_read() {
    for (hidden, layers, heads, kv, mlp, vocab, tied) in [
        (1536, 28, 12, 2, 8960, 151_936, true),
        (3584, 28, 28, 4, 18_944, 152_064, false),
        (8192, 80, 64, 8, 29_568, 152_064, false),
    ] {
        let text = serde_json::json!({
            "attention_dropout": 0.0, "bos_token_id": 151_643, "eos_token_id": 151_645, "vision_start_token_id": 151_652,
            "vision_end_token_id": 151_653, "vision_token_id": 151_654, "hidden_act": "silu", "hidden_size": hidden,
            "initializer_range": 0.02, "intermediate_size": mlp, "max_position_embeddings": 32_768, "max_window_layers": layers,
            "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv, "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0, "sliding_window": 32_768, "torch_dtype": "bfloat16", "use_cache": true,
            "use_sliding_window": false, "vocab_size": vocab, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        });
        let mut flat = text.clone();
        flat["model_type"] = "qwen2_vl".into();
        flat["image_token_id"] = 151_655.into();
        flat["tie_word_embeddings"] = tied.into();
        flat["vision_config"] = serde_json::json!({"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
            "hidden_size": hidden, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2});
        let c = load(&flat.to_string()).unwrap();
        let t = &c.text;
        assert_eq!((t.hidden, t.layers, t.heads, t.kv_heads, t.head_dim), (hidden, layers, heads, kv, 128));
        assert_eq!((t.intermediate, t.vocab, t.tied, t.norm_eps, t.rope_theta), (mlp, vocab, tied, 1e-6, 1e6));
        assert_eq!(t.axes().iter().filter(|&&axis| axis == 1).count(), 24);
        let mut inner = text;
        inner["model_type"] = "qwen2_vl_text".into();
        inner["rope_parameters"] =
            serde_json::json!({"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]});
        inner.as_object_mut().unwrap().retain(|key, _| !["rope_scaling", "rope_theta"].contains(&key.as_str()));
        let nested = serde_json::json!({"model_type": "qwen2_vl", "text_config": inner, "vision_config": flat["vision_config"],
            "tie_word_embeddings": tied});
        assert_eq!(load(&nested.to_string()).unwrap(), c);
    }
}
