//! Configurations: JSON that is none, fields out of range or of another type, sizes that ask for everything.

use crate::common::cli::edit;
use crate::{Case, Want, broken, toy_case};
use serde_json::{Value, json};
use std::path::Path;

fn set(model: &Path, path: &str, value: Value) {
    edit(&model.join("config.json"), |c| {
        match path.split_once('.') {
            Some((section, key)) => c[section].as_object_mut().unwrap().insert(key.into(), value),
            None => c.insert(path.into(), value),
        };
    });
}

fn theta(value: Value) -> Value {
    json!({"rope_type": "default", "rope_theta": value})
}

/// A field of the toy's config.json set to a value, and words of the refusal.
fn field(path: &'static str, value: Value, words: &'static [&'static str]) -> Case {
    let shown: String = value.to_string().chars().take(40).collect();
    broken(format!("{path} = {shown}"), words, move |m| set(m, path, value.clone()))
}

fn text(what: &'static str, words: &'static [&'static str], text: impl AsRef<[u8]> + Sync + 'static) -> Case {
    broken(what, words, move |m| std::fs::write(m.join("config.json"), text.as_ref()).unwrap())
}

/// The toy's config.json as text, one piece of it replaced: for what `serde_json` would not write.
fn replaced(what: &'static str, from: &'static str, to: String, words: &'static [&'static str]) -> Case {
    broken(what, words, move |m| {
        let path = m.join("config.json");
        let old: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let new = old.to_string().replacen(from, &to, 1);
        assert_ne!(new, old.to_string());
        std::fs::write(path, new).unwrap();
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        text("no JSON", &["JSON"], "{"),
        text("16 MB of empty objects", &["config.json"], format!("{{\"z\":[{}0]}}", "{\"\":0},".repeat(2_300_000))),
        text("120 MB of them", &["at most"], format!("{{\"z\":[{}0]}}", "{\"\":0},".repeat(120_000_000 / 7))),
        text("an empty file", &["JSON"], ""),
        text("bytes that are no UTF-8", &["JSON"], [0xffu8, 0xfe, 0]),
        text("a list", &["a list"], "[]"),
        text("null", &["null"], "null"),
        text("nested 100 000 deep", &["JSON"], "{\"a\":".repeat(100_000)),
        text("an empty object", &["model_type"], "{}"),
        text("only a model type: all defaults", &["tokens"], "{\"model_type\":\"llava_onevision\"}"),
        text("a model type of a megabyte", &["model_type"], format!("{{\"model_type\":\"{}\"}}", "x".repeat(1 << 20))),
        text("a model type of control characters", &["model_type"], "{\"model_type\":\"\\u001b[2J\\u0000\\n\"}"),
        replaced("hidden_size twice", "\"hidden_size\":", "\"hidden_size\":99999,\"hidden_size\":".into(), &[]),
        replaced("vocab_size = 1e400", "\"vocab_size\":", "\"vocab_size\":1e400,\"x\":".into(), &["config.json"]),
        replaced("vocab_size = NaN", "\"vocab_size\":", "\"vocab_size\":NaN,\"x\":".into(), &["JSON"]),
        replaced(
            "a number of a million digits",
            "\"vocab_size\":",
            format!("\"vocab_size\":{},\"x\":", "9".repeat(1 << 20)),
            &[],
        ),
    ];
    all.retain(|c| c.what != "hidden_size twice"); // JSON readers differ; ours takes the last
    let numbers: &[(&'static str, &[Value])] = &[
        (
            "text_config.hidden_size",
            &[json!(0), json!(-16), json!(16.5), json!("16"), json!(true), json!(1u64 << 40), json!(null)],
        ),
        ("text_config.num_attention_heads", &[json!(0), json!(3), json!(1u64 << 50), json!([])]),
        ("text_config.num_key_value_heads", &[json!(0), json!(3), json!(-1)]),
        ("text_config.num_hidden_layers", &[json!(0), json!(1u64 << 32), json!(1024)]),
        ("text_config.vocab_size", &[json!(0), json!(1u64 << 40), json!(1 << 24), json!(1 << 22)]),
        ("text_config.intermediate_size", &[json!(0), json!(u64::MAX), json!(1 << 22)]),
        ("text_config.max_position_embeddings", &[json!(0), json!(20), json!(1u64 << 62)]),
        ("text_config.rms_norm_eps", &[json!(null), json!(-1), json!("1e-6"), json!(1e300)]),
        (
            "text_config.rope_parameters",
            &[theta(json!(0)), theta(json!(-1e4)), theta(json!(1e308)), theta(json!({})), json!(7)],
        ),
        ("text_config.head_dim", &[json!(0), json!(5), json!(1 << 16)]),
        ("text_config.hidden_act", &[json!("sin"), json!(7), json!(null)]),
        ("text_config", &[json!(7), json!([]), json!("{}")]),
        ("vision_config", &[json!(7), json!({"model_type": "clip_vision_model"})]),
        ("vision_config.patch_size", &[json!(0), json!(-1), json!(1 << 20)]),
        ("vision_config.image_size", &[json!(0), json!(1u64 << 33), json!(16384)]),
        ("vision_config.hidden_size", &[json!(0), json!(1 << 20)]),
        ("vision_config.num_attention_heads", &[json!(0), json!(7)]),
        ("vision_config.num_hidden_layers", &[json!(-3), json!(1024)]),
        ("vision_config.num_channels", &[json!(1), json!(1u64 << 40)]),
        ("image_token_index", &[json!(-1), json!(1u64 << 33), json!(12), json!(null)]),
        ("vision_feature_layer", &[json!(99), json!(-99), json!([]), json!([[1]]), json!("last"), json!(null)]),
        ("vision_aspect_ratio", &[json!("anyres_max_0"), json!("anyres_max_99999999999999999999"), json!(9)]),
        ("vision_feature_select_strategy", &[json!("none"), json!(null)]),
        (
            "image_grid_pinpoints",
            &[json!([]), json!([[0, 0]]), json!([[24]]), json!([[24, -24]]), json!("x"), json!([[65536, 65536]])],
        ),
    ];
    for (path, values) in numbers {
        let name = path.rsplit('.').next().unwrap();
        for value in values.iter() {
            // What is lawful by itself is refused where the weights disagree.
            let words: &'static [&'static str] = match (name, value.as_u64()) {
                ("num_hidden_layers", Some(1024)) | ("image_size", Some(16384)) => &[],
                ("vocab_size" | "intermediate_size", Some(0x40_0000)) => &["model.safetensors"],
                ("head_dim", Some(0x1_0000)) | ("hidden_size", Some(0x10_0000)) => &["expected"],
                ("max_position_embeddings", Some(20)) => &["prompt"],
                ("image_token_index", Some(12)) => &["tokenizer.json"],
                _ => Box::leak(Box::new([name])),
            };
            all.push(field(path, value.clone(), words));
        }
    }
    all.extend([
        field("image_grid_pinpoints", json!(vec![[24, 24]; 5000]), &["image_grid_pinpoints"]),
        toy_case("use_sliding_window = null", "qwen2_vl/hub-bf16", Want::Runs, |m| {
            set(m, "use_sliding_window", json!(null));
        }),
        toy_case(
            "mrope_section of too many frequencies",
            "qwen2_vl/hub-bf16",
            Want::Refused(&["mrope_section"]),
            |m| {
                set(m, "rope_scaling", json!({"type": "mrope", "mrope_section": [1, 1, 999_999]}));
            },
        ),
        toy_case("mrope_section that overflows", "qwen2_vl/hub-bf16", Want::Refused(&["mrope_section"]), |m| {
            set(m, "rope_scaling", json!({"type": "mrope", "mrope_section": [u64::MAX, u64::MAX, 2]}));
        }),
        toy_case("embed_dim × mlp_ratio of 2³⁰", "qwen2_vl/hub-bf16", Want::Refused(&[]), |m| {
            set(m, "vision_config.mlp_ratio", json!(1024));
        }),
        toy_case("spatial_merge_size = 0", "qwen2_vl/hub-bf16", Want::Refused(&["spatial_merge_size"]), |m| {
            set(m, "vision_config.spatial_merge_size", json!(0));
        }),
        toy_case("generation_config.json: eos of a million ids", "llava/wide", Want::Refused(&["eos_token_id"]), |m| {
            std::fs::write(m.join("generation_config.json"), json!({"eos_token_id": vec![1; 1_000_000]}).to_string())
                .unwrap();
        }),
        toy_case("generation_config.json: a temperature of −1", "llava/wide", Want::Runs, |m| {
            std::fs::write(m.join("generation_config.json"), json!({"temperature": -1, "do_sample": true}).to_string())
                .unwrap();
        }),
        broken("config.json of 257 MiB", &["at most"], |m| {
            let file = std::fs::File::create(m.join("config.json")).unwrap();
            file.set_len(257 << 20).unwrap();
        }),
        broken("config.json as a link out of the folder", &["JSON"], |m| {
            std::fs::remove_file(m.join("config.json")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", m.join("config.json")).unwrap();
        }),
    ]);
    all
}
