//! What asks for more memory or time than there is: sparse files, numbers that multiply, files that the system makes up.

use crate::common::cli::{edit, edit_weights};
use crate::common::raw::{claiming, file};
use crate::{ASK, Case, Place, Want, case, toy_case};
use aircache::golden::BundleWriter;
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

const COMPRESS: &[&str] = &["compress", "--quiet", "b", "--retain", "0.5", "--out", "f"];
const MODEL: &[&str] = &["--model", "model", "--max-new-tokens", "2"];
/// What a machine with 4 GB would say.
const FREE: &str = "of free memory, found 4.0 GB";

/// The same on a machine with 4 GB.
fn of_4_gb(case: Case) -> Case {
    case.around("AIRCACHE_MEMORY=4GB exec \"$0\" \"$@\"")
}

/// A bundle whose stages are holes in a file: dtype, shape, bytes.
fn sparse(path: &Path, metadata: Value, stages: &[(&str, &str, &[u64], u64)]) {
    let (mut head, mut end) = (json!({ "__metadata__": metadata }), 0);
    for (name, dtype, shape, bytes) in stages {
        head[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
        end += bytes;
    }
    holes(path, head.to_string().as_bytes(), end);
}

/// A safetensors file of this head and so many bytes, which are holes.
fn holes(path: &Path, head: &[u8], data: u64) {
    std::fs::write(path, claiming(head.len() as u64, head)).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(8 + head.len() as u64 + data).unwrap();
}

fn bundle(precision: &str) -> Value {
    json!({"format": "aircache-bundle", "precision": precision, "noise": "1"})
}

fn wide(p: &Place) {
    let stages: [(&str, &str, &[u64], u64); 3] = [
        ("input.roles", "U8", &[4], 4),
        ("decoder.00.query", "BF16", &[1, 4, 1 << 27], 1 << 30),
        ("decoder.00.key", "BF16", &[1, 4, 1 << 27], 1 << 30),
    ];
    sparse(&p.path("b"), bundle("bf16"), &stages);
}

/// The toy's tensors of these endings, of `wide` rows or columns; holes, as all else in the file is then.
fn widened(model: &Path, part: &str, wide: u64) {
    let weights = model.join("model.safetensors");
    let mut stages = Vec::new();
    edit_weights(&weights, |head, _| {
        for (name, info) in head.iter().filter(|(name, _)| *name != "__metadata__") {
            let mut shape: Vec<u64> = serde_json::from_value(info["shape"].clone()).unwrap();
            if name.contains(part) {
                let down = ["down_proj", "fc2.weight"].iter().any(|part| name.contains(part));
                if !name.ends_with("fc2.bias") {
                    shape[usize::from(down)] = wide;
                }
            }
            stages.push((name.clone(), info["dtype"].as_str().unwrap().to_string(), shape));
        }
    });
    let of = |(name, dtype, shape): &(String, String, Vec<u64>)| {
        let number = if dtype == "F32" { 4 } else { 2 };
        (name.clone(), dtype.clone(), shape.clone(), number * shape.iter().product::<u64>())
    };
    let stages: Vec<_> = stages.iter().map(of).collect();
    let stages: Vec<(&str, &str, &[u64], u64)> =
        stages.iter().map(|(name, dtype, shape, bytes)| (&name[..], &dtype[..], &shape[..], *bytes)).collect();
    sparse(&weights, json!({"format": "pt"}), &stages);
}

/// A language model whose MLP is 4 194 304 wide.
fn wide_mlp(p: &Place) {
    let model = p.toy("llava/wide");
    edit(&model.join("config.json"), |c| c["text_config"]["intermediate_size"] = json!(1 << 22));
    widened(&model, "mlp.gate_proj.weight", 1 << 22);
    widened(&model, "mlp.up_proj.weight", 1 << 22);
    widened(&model, "mlp.down_proj.weight", 1 << 22);
    p.write("q", json!({"question": "Why? ".repeat(200), "answer": "x"}).to_string());
}

/// The same with all tensors at odd places, where they cannot be read as they lie.
fn wide_and_odd(p: &Place) {
    wide_mlp(p);
    let weights = p.path("model/model.safetensors");
    let mut file = std::fs::File::open(&weights).unwrap();
    let mut length = [0; 8];
    file.read_exact(&mut length).unwrap();
    let mut head = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut head).unwrap();
    let data = file.metadata().unwrap().len() - 8 - head.len() as u64;
    head.resize((head.len() + 1) | 1, b' ');
    holes(&weights, &head, data);
}

/// A candidate of a replay: ids, and a stage that says how its images lie.
fn images(p: &Place, toy: &str, image: &str, name: &str, shape: [usize; 2], numbers: &[i64]) {
    let model = p.toy(toy);
    let config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let id = config[image].as_i64().unwrap();
    let mut w = BundleWriter::create(&p.path("b")).unwrap();
    w.put_i64("input.ids", &[2], &[id, 5]).unwrap();
    w.put_i64(name, &shape, numbers).unwrap();
    w.finish([("precision", "bf16")]).unwrap();
}

fn endless(name: &'static str, target: &'static str) -> Case {
    let args = [ASK, &["--model", "model"]].concat();
    let words: &'static [&'static str] = vec![name].leak();
    case(format!("{name} is a link to {target}"), &args, Want::Refused(words), move |p| {
        let file = p.toy("llava/wide").join(name);
        std::fs::remove_file(&file).unwrap();
        symlink(target, file).unwrap();
    })
}

fn config(what: &str, toy: &'static str, words: &'static [&'static str], change: fn(&mut Value)) -> Case {
    toy_case(what, toy, Want::Refused(words), move |model| {
        for name in ["config.json", "processor_config.json", "preprocessor_config.json"] {
            let path = model.join(name);
            if path.exists() {
                let mut all: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                change(&mut all);
                std::fs::write(path, all.to_string()).unwrap();
            }
        }
    })
}

fn eval(what: &str, words: &'static [&'static str], question: impl Fn() -> String + Sync + 'static) -> Case {
    let args = ["eval", "--quiet", "--data", "q", "--policies", "full", "--retain", "1"];
    case(what, &args, Want::Refused(words), move |p| p.write("q", question()))
}

pub(super) fn cases() -> Vec<Case> {
    let replay: Vec<&str> = ["check", "--quiet", "b"].into_iter().chain(["--model", "model"]).collect();
    let check = ["check", "--quiet", "g", "b"];
    let run = [ASK, MODEL].concat();
    let long = "Why? ".repeat(200);
    let ask = [&["run", "--quiet", "--image", "image.png", "--prompt", &long], MODEL].concat();
    vec![
        of_4_gb(case("queries and keys of 2²⁹ numbers each", COMPRESS, Want::Refused(&["decoder.00.", FREE]), wide)),
        case("the same where memory is said to be 900 GB", COMPRESS, Want::Refused(&["memory: expected"]), wide)
            .around("AIRCACHE_MEMORY=900GB exec \"$0\" \"$@\""),
        of_4_gb(case("2³⁰ roles", COMPRESS, Want::Refused(&["input.roles", FREE]), |p| {
            sparse(&p.path("b"), bundle("bf16"), &[("input.roles", "U8", &[1 << 30], 1 << 30)]);
        })),
        of_4_gb(case(
            "a golden and a candidate of 2²⁹ numbers",
            &check,
            Want::Refused(&["decoder.00.mix", FREE]),
            |p| {
                for (name, precision) in [("g", "f64"), ("b", "bf16")] {
                    let mix: (&str, &str, &[u64], u64) = ("decoder.00.mix", "BF16", &[1 << 29, 1], 1 << 30);
                    sparse(&p.path(name), bundle(precision), &[mix]);
                }
            },
        )),
        case("metadata of 20 MB", &check, Want::Refused(&["metadata"]), |p| {
            for (name, precision) in [("g", "f64"), ("b", "bf16")] {
                let mut metadata = bundle(precision);
                metadata["images"] = json!(format!("[{}{{}}]", "{\"\":0},".repeat(3_000_000)));
                sparse(&p.path(name), metadata, &[("input.ids", "I64", &[1], 8)]);
            }
        }),
        case("sizes of a million images for one placeholder", &replay, Want::Refused(&["input.sizes"]), |p| {
            images(p, "llava/wide", "image_token_index", "input.sizes", [1_000_000, 2], &[1; 2_000_000]);
        }),
        of_4_gb(case("an image of 4096 × 4096 patches", &replay, Want::Refused(&["input.grid", FREE]), |p| {
            images(p, "qwen2_vl/patch-14", "image_token_id", "input.grid", [1, 3], &[1, 4096, 4096]);
        })),
        case("100 000 tokens that followed", &replay, Want::Refused(&["output.ids"]), |p| {
            p.toy("llava/wide");
            let mut w = BundleWriter::create(&p.path("b")).unwrap();
            w.put_i64("input.ids", &[1], &[5]).unwrap();
            w.put_i64("output.ids", &[100_000], &[5; 100_000]).unwrap();
            w.finish([("precision", "bf16")]).unwrap();
        }),
        of_4_gb(case("an MLP of 2²² columns", &ask, Want::Refused(&["model", FREE]), wide_mlp)),
        of_4_gb(case(
            "an MLP of 2²² columns",
            &[&["run", "--quiet", "--batch", "q"], MODEL].concat(),
            Want::Refused(&["model", FREE]),
            wide_mlp,
        )),
        of_4_gb(case(
            "an MLP of 2²² columns",
            &[&["eval", "--quiet", "--data", "q", "--policies", "full", "--retain", "1"], MODEL].concat(),
            Want::Refused(&["question 1", FREE]),
            wide_mlp,
        )),
        case(
            "weights that have to be copied",
            &run,
            Want::Refused(&["safetensors", "memory, found 200.0 MB"]),
            wide_and_odd,
        )
        .around("AIRCACHE_MEMORY=200MB exec \"$0\" \"$@\""),
        case("a tower's MLP of 2²² columns", &run, Want::Refused(&["model", "of free memory, found 1.0 GB"]), |p| {
            let model = p.toy("llava/wide");
            edit(&model.join("config.json"), |c| c["vision_config"]["intermediate_size"] = json!(1 << 22));
            widened(&model, "mlp.fc", 1 << 22);
        })
        .around("AIRCACHE_MEMORY=1GB exec \"$0\" \"$@\""),
        toy_case("two shards with 60 MB of header each", "llava/wide", Want::Refused(&["headers"]), |model| {
            let one = format!(r#"{{"w":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}{}}}"#, " ".repeat(60_000_000));
            std::fs::remove_file(model.join("model.safetensors")).unwrap();
            std::fs::write(model.join("a.safetensors"), file(&one, 0)).unwrap();
            symlink("a.safetensors", model.join("b.safetensors")).unwrap();
            let map = json!({"weight_map": {"w": "a.safetensors", "x": "b.safetensors"}});
            std::fs::write(model.join("model.safetensors.index.json"), map.to_string()).unwrap();
        }),
        endless("config.json", "/proc/kmsg"),
        endless("config.json", "/proc/self/pagemap"),
        endless("tokenizer.json", "/proc/self/pagemap"),
        case(
            "an image that is /proc/kmsg",
            &["run", "--quiet", "--prompt", "x", "--image", "/proc/kmsg"],
            Want::Refused(&["/proc/kmsg"]),
            |_| {},
        ),
        config("a vocabulary of 2²⁴", "llava/wide", &["vocab_size"], |c| {
            if let Some(text) = c.get_mut("text_config") {
                text["vocab_size"] = json!(1 << 24);
            }
        }),
        config("65 536 heads", "llava/wide", &["num_attention_heads"], |c| {
            if let Some(text) = c.get_mut("text_config") {
                text["num_attention_heads"] = json!(1 << 16);
                text["head_dim"] = json!(2);
            }
        }),
        config("an image of 200 × 200 tiles", "llava/wide", &["image_grid_pinpoints"], |c| {
            let inner = if c.get("image_processor").is_some() { &mut c["image_processor"] } else { c };
            inner["image_grid_pinpoints"] = json!([[6000, 6000]]);
        }),
        config("an image of at least 4 000 000 pixels, in patches of 4", "qwen2_vl/defaults", &["patches"], |c| {
            if c.get("min_pixels").is_some() || c.get("size").is_some() {
                c.as_object_mut().unwrap().remove("size");
                c["min_pixels"] = json!(4_000_000);
                c["max_pixels"] = json!(1u64 << 40);
            }
        }),
        eval("a question about 5000 images", &["image", "4096"], || {
            json!({"question": "x", "answer": "y", "image": vec!["q"; 5000]}).to_string()
        }),
        eval("a question of 5 MB", &["a line of at most"], || {
            json!({"question": "x".repeat(5 << 20), "answer": "y"}).to_string()
        }),
        eval("two million empty answers", &["a line of at most"], || {
            json!({"question": "x", "answer": vec![""; 2_000_000]}).to_string()
        }),
        case(
            "a question file with a hole of 70 MB",
            &["eval", "--quiet", "--data", "q", "--policies", "full"],
            Want::Refused(&["at most 67108864 bytes"]),
            |p| std::fs::File::create(p.path("q")).unwrap().set_len(70_000_000).unwrap(),
        ),
        case(
            "a video of 5000 frames",
            &["run", "--quiet", "--video", "v", "--prompt", "x"],
            Want::Refused(&["4096 images"]),
            |p| {
                p.toy("llava/wide");
                std::fs::create_dir(p.path("v")).unwrap();
                (0..5000).for_each(|i| {
                    std::fs::hard_link(p.path("image.png"), p.path(&format!("v/{i:04}.png"))).unwrap();
                });
            },
        ),
    ]
}
