//! CLIP: the class token, the norm before the layers, the defaults.

use super::*;
use aircache::family::llava_clip::{LlavaConfig, names};
use aircache::files::Files;
use aircache::weights::Checkpoint;

#[test]
fn e5_16_worked_example() {
    let at = |part: &str| format!("vision_tower.vision_model.{part}");
    let tensors: [(String, &[usize], &[f32]); 5] = [
        (at("embeddings.patch_embedding.weight"), &[2, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        (at("embeddings.class_embedding"), &[2], &[4.0, 0.0]),
        (at("embeddings.position_embedding.weight"), &[2, 2], &[0.0, 2.0, 0.0, 1.0]),
        (at("pre_layrnorm.weight"), &[2], &[1.0, 1.0]),
        (at("pre_layrnorm.bias"), &[2], &[0.0, 1.0]),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, shape, v)| (n.as_str(), *shape, *v)).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&tensors);
    let config = SiglipConfig {
        hidden: 2,
        layers: 0,
        heads: 1,
        intermediate: 1,
        image: 1,
        patch: 1,
        channels: 3,
        norm_eps: 0.0,
        activation: Activation::QuickGelu,
        class: true,
    };
    let tower = Siglip::load(&Names::new(&checkpoint, names), &config, 0).unwrap();
    let ones = Array4::from_elem((1, 3, 1, 1), 1.0);
    let x = tower.features(&mut Pass::<f64>::new(Grid::Native), ones.view(), &[0]);
    assert_eq!(x.as_slice().unwrap(), [1.0, 0.0, -1.0, 2.0]);
}

/// C5.16a, R5.16: every state equals the twin's, bit for bit, on every grid.
#[test]
fn c5_16a_r5_16_the_tower_equals_its_twin() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llava_clip/next-many-tiles/model");
    let files = Files::Folder(root);
    let family = family::load(&files).unwrap();
    let config = family.as_a::<LlavaConfig>().unwrap().vision.clone();
    let checkpoint = Checkpoint::open(&files).unwrap();
    let pixels = pixels(1, config.image);
    fn check<T: Real>(names: Names<'_>, c: &SiglipConfig, pixels: &Array4<f32>, grid: Grid) {
        let tower = Siglip::load(&names, c, c.layers).unwrap();
        let wanted: Vec<usize> = (0..=c.layers).collect();
        let features = tower.features(&mut Pass::<T>::new(grid), pixels.view(), &wanted);
        let states = Twin { names, grid }.tower::<T>(c, pixels.view());
        assert_eq!(bits(&features), bits(&twin::beside(&states)), "{} on {grid:?}", T::NAME);
    }
    let names = Names::new(&checkpoint, names);
    for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
        check::<f32>(names, &config, &pixels, grid);
    }
    check::<f64>(names, &config, &pixels, Grid::Native);
}

fn read(json: &str) -> aircache::Result<LlavaConfig> {
    let files = Files::Embedded(Box::leak(Box::new([("config.json", json.to_owned().into_bytes().leak() as &[u8])])));
    Ok(family::load(&files)?.as_a::<LlavaConfig>().unwrap().clone())
}

#[test]
fn t5_7_t5_8_defaults() {
    let c = read(r#"{"model_type": "llava", "text_config": {"vocab_size": 32064}}"#).unwrap();
    let v = &c.vision;
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate, v.image, v.patch), (1024, 24, 16, 4096, 336, 14));
    assert_eq!((v.norm_eps, v.activation, v.class), (1e-5, Activation::QuickGelu, true));
    assert_eq!((c.image_token, &c.feature_layers[..], c.drop_first), (32_000, &[23][..], true));
    assert_eq!((c.text.max_positions, c.text.kv_heads, c.text.tied, c.pinpoints.is_some()), (2048, 32, false, false));
    let next = r#"{"model_type": "llava_next", "vision_config": {"image_size": 336},
        "text_config": {"model_type": "mistral", "vocab_size": 32064, "sliding_window": null}}"#;
    let c = read(next).unwrap();
    let v = &c.vision;
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate, v.patch), (768, 12, 12, 3072, 32));
    assert_eq!((c.text.kv_heads, c.text.intermediate, c.text.max_positions), (8, 14_336, 131_072));
    assert_eq!(c.pinpoints.unwrap()[3], (1008, 336));
    let refused = |json: &str, at: &str| {
        let e = read(json).unwrap_err();
        assert!(e.at.ends_with(at), "{e}");
        e.to_string()
    };
    refused(
        &next.replace("336}", r#"336}, "vision_feature_select_strategy": "full""#),
        "vision_feature_select_strategy",
    );
    refused(&next.replace(r#", "sliding_window": null"#, ""), "text_config.sliding_window");
    refused(&next.replace("336}", r#"336}, "image_grid_pinpoints": [[336, 100]]"#), "image_grid_pinpoints[0]");
    refused(
        r#"{"model_type": "llava", "vision_config": {"model_type": "siglip_vision_model"}}"#,
        "vision_config.model_type",
    );
    refused(r#"{"model_type": "llava", "image_token_index": 32000}"#, "image_token_index");
    let moe =
        refused(r#"{"model_type": "llava", "text_config": {"model_type": "qwen3_moe"}}"#, "text_config.model_type");
    assert!(moe.contains("mixture of experts"), "{moe}");
}
