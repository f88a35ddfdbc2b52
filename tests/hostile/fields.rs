//! Fields of Qwen2-VL's and InternVL2's files, of processors and of generation, out of range or at odds with each other.

use crate::common::cli::edit;
use crate::{Case, Want, broken, toy_case};
use serde_json::{Value, json};
use std::path::Path;

const QWEN: &str = "qwen2_vl/hub-bf16";
const INTERN: &str = "internvl/quarter";

/// A field of a file of a toy, set; `want`: refused with these words, or none for a lawful run.
fn set(
    toy: &'static str,
    file: &'static str,
    key: &'static str,
    value: Value,
    want: Option<&'static [&'static str]>,
) -> Case {
    let what = format!("{}: {file}: {key} = {}", toy.split('/').next().unwrap(), shown(&value));
    toy_case(what, toy, want.map_or(Want::Runs, Want::Refused), move |m| {
        edit(&m.join(file), |c| {
            c.insert(key.into(), value.clone());
        });
    })
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn text(what: &'static str, want: Want, change: impl Fn(String) -> Vec<u8> + Sync + 'static) -> Case {
    toy_case(what, "llava/wide", want, move |m| {
        let path = m.join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    })
}

fn generation(what: &str, value: Value, want: Want) -> Case {
    toy_case(format!("generation_config.json: {what}"), "llava/wide", want, move |m| {
        std::fs::write(m.join("generation_config.json"), value.to_string()).unwrap();
    })
}

fn rope(value: Value, words: &'static [&'static str]) -> Case {
    let what = format!("InternLM2: rope_scaling = {}", shown(&value));
    toy_case(what, "internvl2/internlm2-two-images", Want::Refused(words), move |m: &Path| {
        edit(&m.join("config.json"), |c| {
            c["llm_config"].as_object_mut().unwrap().insert("rope_scaling".into(), value.clone());
        });
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let pre = "preprocessor_config.json";
    let qwen: [(&'static str, &'static str, Value, Option<&'static [&'static str]>); 19] = [
        (pre, "patch_size", json!(0), Some(&["patch_size"])),
        (pre, "patch_size", json!(-4), Some(&["patch_size"])),
        (pre, "patch_size", json!(1u64 << 40), Some(&["patch_size"])),
        (pre, "patch_size", json!(8), Some(&["patch_size"])),
        (pre, "temporal_patch_size", json!(0), Some(&["temporal_patch_size"])),
        (pre, "temporal_patch_size", json!(1 << 30), Some(&["temporal_patch_size"])),
        (pre, "merge_size", json!(0), Some(&["merge_size"])),
        (pre, "merge_size", json!(1u64 << 63), Some(&["merge_size"])),
        (pre, "max_pixels", json!(0), Some(&["max_pixels"])),
        (pre, "max_pixels", json!(-1), Some(&["max_pixels"])),
        (pre, "max_pixels", json!(1e300), Some(&["max_pixels"])),
        (pre, "size", json!({"shortest_edge": 9, "longest_edge": 3}), None),
        (pre, "size", json!([1, 2]), None),
        ("config.json", "image_token_id", json!(493), Some(&["image_token_id"])),
        ("config.json", "rope_theta", json!(1e-300), Some(&["logits"])),
        ("config.json", "rope_scaling", json!({"type": "mrope"}), Some(&["mrope_section"])),
        (
            "config.json",
            "rope_scaling",
            json!({"type": "mrope", "mrope_section": [-1, 1, 4]}),
            Some(&["mrope_section"]),
        ),
        ("config.json", "rope_scaling", json!({"type": "yarn", "factor": 4}), Some(&["rope_scaling"])),
        ("config.json", "max_window_layers", json!("x"), None),
    ];
    all.extend(qwen.map(|(file, key, value, want)| set(QWEN, file, key, value, want)));
    let intern: [(&'static str, &'static str, Value, Option<&'static [&'static str]>); 11] = [
        (pre, "min_patches", json!(7), Some(&["min_patches"])),
        (pre, "max_patches", json!(0), Some(&["max_patches"])),
        (pre, "max_patches", json!(1_000_000_000), Some(&["max_patches"])),
        (pre, "max_patches", json!([6]), Some(&["max_patches"])),
        (pre, "size", json!({"height": 1 << 30, "width": 1 << 30}), Some(&["size"])),
        (pre, "size", json!({"height": 16}), Some(&["size"])),
        (pre, "crop_to_patches", json!("no"), None),
        ("config.json", "image_seq_length", json!(0), Some(&["image_seq_length"])),
        ("config.json", "image_seq_length", json!(1u64 << 40), Some(&["image_seq_length"])),
        ("config.json", "vision_feature_layer", json!(i64::MIN), Some(&["vision_feature_layer"])),
        ("config.json", "downsample_ratio", json!(0.3), Some(&["downsample_ratio"])),
    ];
    all.extend(intern.map(|(file, key, value, want)| set(INTERN, file, key, value, want)));
    all.extend([
        rope(json!({"type": "dynamic"}), &["factor"]),
        rope(json!({"type": "dynamic", "factor": 0}), &["factor"]),
        rope(json!({"type": "dynamic", "factor": -2.0}), &["factor"]),
        rope(json!({"type": "dynamic", "factor": 1e308}), &["factor"]),
        rope(json!({"type": "dynamic", "factor": "2"}), &["factor"]),
        rope(json!({"type": ["dynamic"], "factor": 2}), &["rope_scaling"]),
        rope(json!("dynamic"), &["rope_scaling"]),
    ]);
    all.extend([
        text("config.json with a mark of byte order", Want::Refused(&["JSON"]), |t| {
            format!("\u{feff}{t}").into_bytes()
        }),
        text("config.json in UTF-16", Want::Refused(&["JSON"]), |t| {
            t.encode_utf16().flat_map(u16::to_le_bytes).collect()
        }),
        text("config.json followed by another", Want::Refused(&["JSON"]), |t| (t.clone() + &t).into_bytes()),
        text("config.json with a comment", Want::Refused(&["JSON"]), |t| format!("// sizes\n{t}").into_bytes()),
        text("config.json with each number as a float", Want::Refused(&["expected"]), |t| {
            t.replace(",\n", ".0,\n").replace("\".0", "\"").replace("].0", "]").into_bytes()
        }),
        text("a million fields that nobody reads", Want::Runs, |t| {
            let many: String = (0..1_000_000).map(|i| format!("\"x{i}\":[],")).collect();
            t.replacen('{', &format!("{{{many}"), 1).into_bytes()
        }),
        text("hidden_size twice: the last counts", Want::Runs, |t| {
            t.replacen("\"hidden_size\":", "\"hidden_size\":99999,\"hidden_size\":", 1).into_bytes()
        }),
        text("a lone half of a surrogate pair", Want::Refused(&["JSON"]), |t| {
            t.replacen('{', "{\"x\":\"\\ud800\",", 1).into_bytes()
        }),
        generation("an end of text below 0", json!({"eos_token_id": -1}), Want::Refused(&["eos_token_id"])),
        generation("an end of text beyond the vocabulary", json!({"eos_token_id": 4_000_000_000u64}), Want::Runs),
        generation(
            "an end of text of lists in lists",
            json!({"eos_token_id": [[1]]}),
            Want::Refused(&["eos_token_id"]),
        ),
        generation("top_k of 2⁶³", json!({"top_k": 1u64 << 63, "do_sample": true}), Want::Runs),
        generation("top_p of 0", json!({"top_p": 0, "do_sample": true}), Want::Runs),
        generation("a temperature of 1e-320", json!({"temperature": 1e-320, "do_sample": true}), Want::Runs),
        generation("do_sample that is a text", json!({"do_sample": "yes"}), Want::Refused(&["do_sample"])),
        generation("a list", json!([]), Want::Refused(&["generation_config.json"])),
    ]);
    all.extend([
        broken("a million pairs in image_grid_pinpoints", &["image_grid_pinpoints"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("image_grid_pinpoints".into(), json!(vec![[24, 24]; 1_000_000]));
            });
        }),
        toy_case("256 tiles of an image, asked for by both", "internvl/dynamic", Want::Runs, |m| {
            edit(
                &m.join(if m.join("preprocessor_config.json").exists() {
                    "preprocessor_config.json"
                } else {
                    "processor_config.json"
                }),
                |c| {
                    c.insert("min_patches".into(), json!(256));
                    c.insert("max_patches".into(), json!(256));
                },
            );
        }),
    ]);
    all
}
