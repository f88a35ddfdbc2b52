//! Weights that lie: heads, offsets, types, indices, links.

use crate::common::cli::{edit, edit_weights};
use crate::common::raw::{bad_heads, claiming, file};
use crate::{Case, Want, broken, case, toy_case};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::Path;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const NORM: &str = "language_model.model.norm.weight";

fn weights(model: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(model.join(WEIGHTS), bytes).unwrap();
}

/// Weights in a shard that an index with this `weight_map` lists.
fn sharded(model: &Path, map: Value) {
    std::fs::rename(model.join(WEIGHTS), model.join("a.safetensors")).unwrap();
    std::fs::write(model.join(INDEX), json!({ "weight_map": map }).to_string()).unwrap();
}

fn index(what: &'static str, words: &'static [&'static str], map: Value) -> Case {
    broken(what, words, move |m| sharded(m, map.clone()))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    for (head, data, words) in bad_heads() {
        let shown: String = head.chars().take(60).collect();
        all.push(broken(format!("head `{shown}`"), words, move |m| weights(m, file(&head, data))));
    }
    all.extend([
        broken("an empty file", &[WEIGHTS, "0 bytes"], |m| weights(m, "")),
        broken("seven bytes", &[WEIGHTS, "7 bytes"], |m| weights(m, [0; 7])),
        broken("a head of 2⁶⁴ − 1 bytes", &["at most 100000000"], |m| weights(m, claiming(u64::MAX, b"{}"))),
        broken("a head of 99 999 999 bytes in a file of 10", &["99999999"], |m| {
            weights(m, claiming(99_999_999, b"{}"))
        }),
        broken("a head of 60 MB of brackets", &["header"], |m| {
            weights(m, claiming(60_000_000, &vec![b'['; 60_000_000]))
        }),
        broken("a head of 90 MB of spaces", &[WEIGHTS], |m| {
            let mut head = b"{}".to_vec();
            head.resize(90_000_000, b' ');
            weights(m, claiming(90_000_000, &head));
        }),
        broken("a head of a million tensors", &[WEIGHTS], |m| {
            let one = |i: usize| format!(r#""t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
            let head = format!("{{{}}}", (0..1_000_000).map(one).collect::<Vec<_>>().join(","));
            weights(m, file(&head, 0));
        }),
        broken("the same tensor name a hundred thousand times", &["two"], |m| {
            let one = r#""t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
            weights(m, file(&format!("{{{}}}", vec![one; 100_000].join(",")), 0));
        }),
        broken("half of the weights", &["incomplete"], |m| {
            let bytes = std::fs::read(m.join(WEIGHTS)).unwrap();
            weights(m, &bytes[..bytes.len() / 2]);
        }),
        broken("a byte too many", &["a file of"], |m| {
            let bytes = std::fs::read(m.join(WEIGHTS)).unwrap();
            weights(m, [bytes, vec![0]].concat());
        }),
        broken("a Git LFS pointer", &["git lfs pull"], |m| weights(m, "version https://git-lfs.github.com/spec/v1\n")),
        broken("a zip file", &["header"], |m| weights(m, b"PK\x03\x04 as pytorch writes it")),
        broken("a pickle instead", &["save_pretrained"], |m| {
            std::fs::rename(m.join(WEIGHTS), m.join("pytorch_model.bin")).unwrap();
        }),
        broken("a folder of that name", &["regular file"], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            std::fs::create_dir(m.join(WEIGHTS)).unwrap();
        }),
        broken("a link to itself", &[WEIGHTS], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            symlink(WEIGHTS, m.join(WEIGHTS)).unwrap();
        }),
        broken("a link to nothing", &[WEIGHTS], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            symlink("nothing", m.join(WEIGHTS)).unwrap();
        }),
        broken("a link to /dev/zero", &["regular file"], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            symlink("/dev/zero", m.join(WEIGHTS)).unwrap();
        }),
        broken("a link to /etc/passwd", &[WEIGHTS], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            symlink("/etc/passwd", m.join(WEIGHTS)).unwrap();
        }),
        broken("a pipe", &["regular file"], |m| {
            std::fs::remove_file(m.join(WEIGHTS)).unwrap();
            let made = std::process::Command::new("mkfifo").arg(m.join(WEIGHTS)).status().unwrap();
            assert!(made.success());
        }),
        toy_case("a link to the weights, as the hub's cache has", "llava/wide", Want::Runs, |m| {
            std::fs::rename(m.join(WEIGHTS), m.join("blob")).unwrap();
            symlink("blob", m.join(WEIGHTS)).unwrap();
        }),
        broken("a tensor of another shape", &[NORM, "[4, 4]"], |m| {
            edit_weights(&m.join(WEIGHTS), |head, _| head[NORM]["shape"] = json!([4, 4]));
        }),
        broken("a tensor of another type", &[NORM, "I16"], |m| {
            edit_weights(&m.join(WEIGHTS), |head, _| head[NORM]["dtype"] = json!("I16"));
        }),
        broken("a tensor under another name", &[NORM, "none"], |m| {
            edit_weights(&m.join(WEIGHTS), |head, _| {
                let norm = head.remove(NORM).unwrap();
                head.insert("\u{202e}\u{0}norm".into(), norm);
            });
        }),
        broken("NaN in a norm", &["NaN"], |m| fill(m, NORM, 0x7fc0)),
        broken("infinity in a norm", &["NaN"], |m| fill(m, NORM, 0x7f80)),
        toy_case("the largest bf16 in a norm", "llava/wide", Want::Refused(&["logits"]), |m| fill(m, NORM, 0x7f7f)),
        broken("NaN in the queries' weights of a layer", &["logits", "NaN"], |m| {
            fill(m, "language_model.model.layers.0.self_attn.q_proj.weight", 0x7fc0);
        }),
        broken("NaN in the keys' biases of a layer", &["logits", "NaN"], |m| {
            fill(m, "language_model.model.layers.0.self_attn.k_proj.bias", 0x7fc0);
        }),
        broken("NaN in the tower's queries", &["logits", "NaN"], |m| {
            fill(m, "vision_tower.encoder.layers.0.self_attn.q_proj.weight", 0x7fc0);
        }),
        broken("the largest bf16 in the queries' weights", &["logits"], |m| {
            fill(m, "language_model.model.layers.0.self_attn.q_proj.weight", 0x7f7f);
        }),
        toy_case("zeros in all of the weights", "llava/wide", Want::Runs, |m| {
            edit_weights(&m.join(WEIGHTS), |_, data| data.fill(0));
        }),
        broken("0xff in all of the weights", &["NaN"], |m| edit_weights(&m.join(WEIGHTS), |_, data| data.fill(0xff))),
        index("an index that leaves the folder", &[INDEX, "inside"], json!({"w": "../a.safetensors"})),
        index("an index with an absolute path", &[INDEX, "/etc/passwd"], json!({"w": "/etc/passwd"})),
        index("an index with a path of dots", &[INDEX], json!({"w": "..//..//etc/passwd"})),
        index("an index with a NUL in a file name", &["a"], json!({"w": "a\u{0}b"})),
        index("an index with a file name of 100 000 letters", &[], json!({ "w": "x".repeat(100_000) })),
        index("an index that lists a folder", &[INDEX], json!({"w": "."})),
        index("an index that lists a file that is not there", &["no such file"], json!({"w": "b.safetensors"})),
        index("an index that puts a tensor where it is not", &["none"], json!({"w": "a.safetensors"})),
        index("an index that lists itself as weights", &["ends in .safetensors"], json!({ "w": INDEX })),
        index("an index that lists a file of another name", &["ends in .safetensors"], json!({"w": "a"})),
        index("an index of numbers", &["weight_map.w"], json!({"w": 7})),
        index("an index of nothing", &["at least one"], json!({})),
        index("an index that is a list", &["a list"], json!([])),
        broken("an index nested 100 000 deep", &["JSON"], |m| {
            sharded(m, json!({}));
            std::fs::write(m.join(INDEX), "{\"weight_map\":".to_string() + &"[".repeat(100_000)).unwrap();
        }),
        broken("two shards with the same tensors", &["another in"], |m| {
            sharded(m, json!({ NORM: "a.safetensors", "image_newline": "b.safetensors" }));
            std::fs::copy(m.join("a.safetensors"), m.join("b.safetensors")).unwrap();
        }),
        case("a folder that is not there", &["inspect", "--quiet", "nowhere"], Want::Refused(&["config.json"]), |_| {}),
        case("a file instead of a folder", &["inspect", "--quiet", "f.txt"], Want::Refused(&["f.txt"]), |p| {
            p.write("f.txt", "")
        }),
        case("inspect: tensors with names of terminal codes", &["inspect", "--quiet", "model"], Want::Runs, |p| {
            edit_weights(&p.toy("llava/wide").join(WEIGHTS), |head, data| {
                let end = data.len();
                head.insert("\u{1b}[31mred".into(), json!({"dtype":"U8","shape":[0],"data_offsets":[end,end]}));
            });
        }),
        broken("a tied head whose embedding is of another shape", &["embed_tokens"], |m| {
            edit(&m.join("config.json"), |c| {
                c["text_config"].as_object_mut().unwrap().insert("vocab_size".into(), json!(100_000));
            });
        }),
    ]);
    all
}

/// A tensor whose every number is this bf16.
fn fill(model: &Path, name: &str, bits: u16) {
    edit_weights(&model.join(WEIGHTS), |head, data| {
        let place = |i: usize| head[name]["data_offsets"][i].as_u64().unwrap() as usize;
        data[place(0)..place(1)].as_chunks_mut::<2>().0.iter_mut().for_each(|b| *b = bits.to_le_bytes());
    });
}
