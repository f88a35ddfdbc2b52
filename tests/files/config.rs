//! Configurations: both forms, transformers' defaults, and what is said about bad ones.

use crate::common::raw::embedded as files;
use aircache::Result;
use aircache::config::{Activation, GenerationConfig, SiglipConfig};
use aircache::family::{self, llava_onevision::LlavaOnevisionConfig};
use proptest::prelude::*;
use serde_json::{Value, json};

fn load(config: &str) -> Result<LlavaOnevisionConfig> {
    Ok(family::load(&files(&[("config.json", config)]))?.as_a::<LlavaOnevisionConfig>().unwrap().clone())
}

/// A small good configuration with one field replaced; the field is given by its JSON pointer, `remove` takes it out.
fn patched(pointer: &str, value: Value) -> Value {
    let mut config = json!({
        "model_type": "llava_onevision", "image_token_index": 40, "image_grid_pinpoints": [[8, 8], [8, 16]],
        "text_config": {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50,
            "num_hidden_layers": 3, "intermediate_size": 20},
        "vision_config": {"hidden_size": 12, "num_attention_heads": 2, "image_size": 8, "patch_size": 3,
            "num_hidden_layers": 5},
    });
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let object = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value == json!("remove") {
        true => object.remove(key),
        false => object.insert(key.into(), value),
    };
    config
}

fn with(pointer: &str, value: Value) -> LlavaOnevisionConfig {
    load(&patched(pointer, value).to_string()).unwrap()
}

#[test]
fn both_forms_say_the_same() {
    let four = json!({"model_type": "llava_onevision", "image_token_index": 7, "torch_dtype": "float16",
        "text_config": {"rope_theta": 1e6, "rope_scaling": null, "vocab_size": 8, "tie_word_embeddings": true,
            "sliding_window": 32768, "use_sliding_window": false, "max_window_layers": 24}});
    let five = json!({"model_type": "llava_onevision", "image_token_id": 7, "dtype": "float16",
        "tie_word_embeddings": true,
        "text_config": {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "vocab_size": 8,
            "layer_types": vec!["full_attention"; 32], "sliding_window": null}});
    let (four, five) = (load(&four.to_string()).unwrap(), load(&five.to_string()).unwrap());
    assert_eq!(four, five);
    assert_eq!((four.text.rope_theta, four.text.tied, four.image_token), (1e6, true, 7));
}

/// Values from transformers 5.17: `LlavaOnevisionConfig(image_token_index=0)`.
#[test]
fn missing_numbers_take_the_defaults_of_transformers() {
    let c = load(r#"{"model_type": "llava_onevision", "image_token_index": 0}"#).unwrap();
    let t = &c.text;
    assert_eq!((t.hidden, t.layers, t.heads, t.kv_heads, t.head_dim), (4096, 32, 32, 32, 128));
    assert_eq!((t.intermediate, t.vocab, t.max_positions, t.tied), (22016, 151_936, 32_768, false));
    assert_eq!((t.norm_eps, t.rope_theta, t.activation), (1e-6, 1e4, Activation::Silu));
    let v = &c.vision;
    assert_eq!((v.hidden, v.layers, v.heads, v.intermediate, v.image, v.patch), (1152, 26, 16, 4304, 384, 14));
    assert_eq!((v.side(), v.activation, v.norm_eps), (27, Activation::GeluTanh, 1e-6));
    assert_eq!((c.pinpoints.len(), c.pinpoints[1], c.pinpoints[35]), (36, (384, 768), (2304, 2304)));
    assert_eq!((c.max_tiles, c.feature_layers.as_slice(), c.drop_first), (9, [26].as_slice(), false));
    assert_eq!((c.projector_activation, c.projector_bias), (Activation::GeluErf, true));
    let some = patched("/vision_config", json!({"num_hidden_layers": 2}));
    let some = load(&some.to_string().replace("[8,8],[8,16]", "[224,448]")).unwrap().vision;
    let expected = SiglipConfig { layers: 2, ..c.vision.clone() };
    let expected = SiglipConfig { hidden: 768, intermediate: 3072, heads: 12, image: 224, patch: 16, ..expected };
    assert_eq!(some, expected);
    assert_eq!(load(r#"{"model_type": "llava_onevision"}"#).unwrap().image_token, 151_646);
}

#[test]
fn fields_mean_what_they_mean_in_transformers() {
    assert_eq!(with("/text_config/num_key_value_heads", json!(null)).text.kv_heads, 4);
    assert_eq!(with("/text_config/head_dim", json!(10)).text.head_dim, 10);
    assert_eq!(with("/image_token_id", json!(41)).image_token, 41);
    assert_eq!(with("/vision_feature_layer", json!(-2)).feature_layers, [4]);
    assert_eq!(with("/vision_feature_layer", json!(0)).feature_layers, [0]);
    assert_eq!(with("/vision_feature_layer", json!([-6, 5, 1, 1])).feature_layers, [0, 5, 1, 1]);
    assert_eq!(with("/vision_aspect_ratio", json!("anyres_max_4")).max_tiles, 4);
    assert!(with("/vision_feature_select_strategy", json!("default")).drop_first);
    assert!(with("/tie_word_embeddings", json!(true)).text.tied);
    assert!(with("/text_config/tie_word_embeddings", json!(true)).text.tied);
    assert_eq!(with("/text_config/rope_theta", json!(50)).text.rope_theta, 50.0);
    assert_eq!(with("/text_config/rope_parameters", json!(null)).text.rope_theta, 1e4);
    assert_eq!(with("/text_config/rope_scaling", json!({"rope_theta": 3.0})).text.rope_theta, 3.0);
    assert_eq!(with("/vision_config/patch_size", json!(5)).vision.side(), 1);
    assert_eq!(with("/text_config/hidden_act", json!("gelu_new")).text.activation, Activation::GeluTanh);
    assert_eq!(with("/projector_hidden_act", json!("quick_gelu")).projector_activation, Activation::QuickGelu);
    let windows = json!({"use_sliding_window": true, "max_window_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 4, "hidden_size": 24, "vocab_size": 50, "num_hidden_layers": 3});
    assert_eq!(with("/text_config", windows).text.layers, 3);
}

#[test]
fn bad_fields_are_named() {
    let bad = json!([null, "4", 4.0, 4.5, -1, 0, true, [], {}, 1e300, u64::MAX]);
    for pointer in [
        "/text_config/hidden_size",
        "/text_config/num_attention_heads",
        "/text_config/num_hidden_layers",
        "/text_config/intermediate_size",
        "/text_config/vocab_size",
        "/text_config/max_position_embeddings",
        "/text_config/head_dim",
        "/vision_config/hidden_size",
        "/vision_config/num_attention_heads",
        "/vision_config/num_hidden_layers",
        "/vision_config/intermediate_size",
        "/vision_config/image_size",
        "/vision_config/patch_size",
        "/vision_config/num_channels",
    ] {
        for value in bad.as_array().unwrap() {
            refused(pointer, value.clone());
        }
    }
    for value in [json!(null), json!("1e-6"), json!(-1e-6), json!(true), json!([])] {
        refused("/text_config/rms_norm_eps", value.clone());
        refused("/vision_config/layer_norm_eps", value.clone());
        refused("/text_config/rope_theta", value);
    }
    for (pointer, value) in [
        ("/model_type", json!("bert")),
        ("/model_type", json!(null)),
        ("/model_type", json!("remove")),
        ("/text_config", json!(7)),
        ("/text_config", json!([])),
        ("/text_config/model_type", json!("llama")),
        ("/text_config/num_attention_heads", json!(5)),
        ("/text_config/num_attention_heads", json!(8)), // a head of 3
        ("/text_config/num_key_value_heads", json!(3)),
        ("/text_config/num_key_value_heads", json!(8)),
        ("/text_config/num_key_value_heads", json!("remove")), // 32 by default
        ("/text_config/head_dim", json!(7)),
        ("/text_config/rope_theta", json!(0)),
        ("/text_config/rope_scaling", json!("linear")),
        ("/text_config/tie_word_embeddings", json!(null)),
        ("/text_config/tie_word_embeddings", json!(1)),
        ("/text_config/hidden_act", json!("mish")),
        ("/text_config/hidden_act", json!(null)),
        ("/text_config/layer_types", json!(["full_attention"])),
        ("/text_config/layer_types", json!("full_attention")),
        ("/vision_config/model_type", json!("clip_vision_model")),
        ("/vision_config/num_attention_heads", json!(5)),
        ("/vision_config/image_size", json!([8, 8])),
        ("/vision_config/patch_size", json!(9)),
        ("/vision_config/num_channels", json!(1)),
        ("/image_token_index", json!(50)),
        ("/image_token_index", json!(-1)),
        ("/image_token_index", json!(null)),
        ("/image_token_id", json!(1u64 << 32)),
        ("/image_grid_pinpoints", json!([])),
        ("/image_grid_pinpoints", json!({})),
        ("/vision_feature_layer", json!(null)),
        ("/vision_feature_layer", json!(6)),
        ("/vision_feature_layer", json!(-7)),
        ("/vision_feature_layer", json!([])),
        ("/vision_feature_layer", json!(1.0)),
        ("/vision_feature_select_strategy", json!("cls")),
        ("/vision_aspect_ratio", json!("anyres")),
        ("/vision_aspect_ratio", json!("anyres_max_0")),
        ("/vision_aspect_ratio", json!("anyres_max_-1")),
        ("/vision_aspect_ratio", json!("anyres_max_99999999999999999999")),
        ("/vision_aspect_ratio", json!("square")),
        ("/vision_aspect_ratio", json!(null)),
        ("/projector_hidden_act", json!(7)),
        ("/multimodal_projector_bias", json!(null)),
    ] {
        refused(pointer, value);
    }
    let inner = |pointer: &str, value: Value, place: &str| {
        let e = load(&patched(pointer, value).to_string()).unwrap_err().to_string();
        assert!(e.contains(place), "{place:?} is not in: {e}");
    };
    inner("/text_config/rope_parameters", json!({"rope_type": "yarn"}), "text_config.rope_parameters.rope_type");
    inner("/text_config/rope_scaling", json!({"type": "mrope"}), "text_config.rope_scaling.type");
    inner("/text_config/rope_scaling", json!({"type": null}), "text_config.rope_scaling.type");
    inner("/text_config/rope_parameters", json!({"rope_theta": null}), "text_config.rope_parameters.rope_theta");
    inner("/text_config/rope_parameters", json!({"full_attention": {}}), "text_config.rope_parameters");
    inner(
        "/text_config/layer_types",
        json!(["full_attention", "sliding_attention", "full_attention"]),
        "layer_types[1]",
    );
    inner("/text_config/layer_types", json!(["full_attention", 3, "full_attention"]), "layer_types[1]");
    inner("/image_grid_pinpoints", json!([[8, 8], [8, 9]]), "image_grid_pinpoints[1]");
    inner("/image_grid_pinpoints", json!([[8, 8], [8]]), "image_grid_pinpoints[1]");
    inner("/image_grid_pinpoints", json!([[8, -8]]), "image_grid_pinpoints[0][1]");
    inner("/vision_feature_layer", json!([0, "1"]), "vision_feature_layer[1]");
    let windows = patched("/text_config/use_sliding_window", json!(true)).to_string();
    let windows = windows.replace("\"use_sliding_window\"", "\"max_window_layers\":2,\"use_sliding_window\"");
    assert!(load(&windows).unwrap_err().at.ends_with("text_config.use_sliding_window"));
}

/// The error names the file and the field, in one short line.
#[track_caller]
fn refused(pointer: &str, value: Value) {
    let field = pointer[1..].replace('/', ".");
    match load(&patched(pointer, value.clone()).to_string()) {
        Ok(_) => panic!("{field} = {value} was accepted"),
        Err(e) => {
            assert!(e.at.starts_with("demo model: config.json: "), "{e}");
            let text = e.to_string();
            // A size at odds with another may be reported at the other.
            assert!(text.contains(field.rsplit('.').next().unwrap()), "{field} = {value}: {text}");
            assert!(text.len() < 400 && !text.contains('\n'), "{text}");
        }
    }
}

#[test]
fn files_that_are_no_json_objects_are_refused() {
    let deep = "[".repeat(1_000_000);
    for text in ["", "[]", "7", "{", "{\"a\":NaN}", "{\"a\":1e999}", "\u{feff}{}", &deep, &format!("{{\"a\":{deep}")] {
        let e = load(text).unwrap_err();
        assert_eq!(e.at, "demo model: config.json", "{e}");
        let e = GenerationConfig::load(&files(&[("generation_config.json", text)])).unwrap_err();
        assert_eq!(e.at, "demo model: generation_config.json", "{e}");
    }
    let e = family::load(&files(&[])).unwrap_err();
    assert!(e.to_string().contains("no such file"), "{e}");
    let e = load(r#"{"model_type": "idefics3"}"#).unwrap_err().to_string();
    assert!(e.contains("llava_onevision") && e.contains("idefics3"), "{e}");
}

/// Any JSON value at all.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|v| json!(v)),
        any::<i64>().prop_map(|v| json!(v)),
        (-9..99i64).prop_map(|v| json!(v)),
        any::<f64>().prop_map(|v| json!(v)),
        ".{0,9}".prop_map(|v| json!(v)),
        Just(json!("default")),
        Just(json!("full_attention")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("rope_type|type|rope_theta|hidden_size|x", inner), 0..4)
                .prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    /// Any value in any field: an error or a configuration whose numbers keep their promises, no panic.
    #[test]
    fn any_value_in_any_field_is_survived(
        fields in proptest::collection::vec((proptest::sample::select(FIELDS), value()), 1..4),
    ) {
        let mut config = patched("/x", json!(0));
        for (pointer, value) in fields {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let Some(Value::Object(object)) = config.pointer_mut(parent) else { continue };
            object.insert(key.into(), value);
        }
        if let Ok(c) = load(&config.to_string()) {
            prop_assert!(c.text.heads % c.text.kv_heads == 0 && c.text.head_dim % 2 == 0);
            prop_assert!(c.vision.hidden % c.vision.heads == 0 && c.vision.side() > 0);
            prop_assert!((c.image_token as usize) < c.text.vocab && c.text.rope_theta > 0.0);
            prop_assert!(c.feature_layers.iter().all(|&k| k <= c.vision.layers) && !c.feature_layers.is_empty());
            prop_assert!(c.pinpoints.iter().all(|&(h, w)| h % c.vision.image == 0 && w % c.vision.image == 0));
        }
        let _ = GenerationConfig::load(&files(&[("generation_config.json", &config["text_config"].to_string())]));
    }
}

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "/model_type", "/text_config", "/vision_config", "/image_token_index", "/image_token_id", "/tie_word_embeddings",
    "/image_grid_pinpoints", "/vision_feature_layer", "/vision_aspect_ratio", "/vision_feature_select_strategy",
    "/projector_hidden_act", "/multimodal_projector_bias", "/text_config/hidden_size", "/text_config/head_dim",
    "/text_config/num_attention_heads", "/text_config/num_key_value_heads", "/text_config/num_hidden_layers",
    "/text_config/vocab_size", "/text_config/rope_theta", "/text_config/rope_parameters", "/text_config/rope_scaling",
    "/text_config/layer_types", "/text_config/use_sliding_window", "/text_config/max_window_layers",
    "/text_config/sliding_window", "/text_config/hidden_act", "/text_config/rms_norm_eps",
    "/text_config/eos_token_id", "/text_config/temperature", "/text_config/top_k", "/vision_config/hidden_size",
    "/vision_config/image_size", "/vision_config/patch_size", "/vision_config/num_attention_heads",
    "/vision_config/num_channels",
];
