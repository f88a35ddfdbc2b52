//! The binary on bad input: exit code 2, one line that names the place, nothing left behind.

use crate::common::cli::{self, Cli, claiming_png, edit, edit_weights, fails, fails_as, toy};
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn bad_options() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("folder")).unwrap();
    std::fs::write(cli.path("text"), "not a picture").unwrap();
    let run = |options: &[&str], words: &[&str]| fails(&cli, &[&["run", "--quiet"], options].concat(), words);
    for r in ["0", "nan", "1.5", "-0.1", "0.0", "inf", "x", "", "1e-30"] {
        run(&["--retain", r], &["--retain", "0 < r <= 1"]);
        fails(&cli, &["record", "--quiet", "--retain", r, "--out", "f"], &["--retain"]);
    }
    run(&["--retain-tokens", "0"], &["at least 1"]);
    run(&["--retain-tokens", "1.5"], &["--retain-tokens", "1.5"]);
    run(&["--retain", "0.5", "--retain-tokens", "5"], &["--retain"]);
    for a in ["2", "-0.5", "nan", "x"] {
        run(&["--alpha", a, "--retain", "0.3"], &["--alpha", "0 <= A <= 1", a]);
    }
    run(&["--alpha", "0.5", "--policy", "snapkv"], &["--alpha", "elite"]);
    for t in ["0", "-1", "x", "99999999999"] {
        run(&["--threads", t], &["--threads", t]);
    }
    run(&["--policy", "snapkw"], &["--policy", "snapkw", "prefixkv"]);
    run(&["--policy", "windw=all-text"], &["windw", "window"]);
    run(&["--policy", "window=last-text:0"], &["window", "at least 1"]);
    run(&["--policy", "budget=pyramid:0.5"], &["pyramid", "0.5"]);
    run(
        &["--policy", "fastervlm", "--retain", "0.1"],
        &["prune=class", "a class token", "llava_onevision", "prune=dominant"],
    );
    run(&["--policy", "full,prune=2:0.5+class:0.1"], &["prune", "2:0.5+class:0.1", "the first cut may be class"]);
    run(&["--precision", "f8"], &["--precision", "f8", "bf16"]);
    run(&["--resampler", "nearest"], &["--resampler", "nearest", "pillow"]);
    run(&["--temperature", "-1"], &["--temperature", "-1"]);
    run(&["--temperature", "nan"], &["--temperature"]);
    run(&["--top-p", "0"], &["--top-p"]);
    run(&["--max-new-tokens", "-1"], &["--max-new-tokens"]);
    run(&["--seed", "x"], &["--seed"]);
    run(&["--sample", "40"], &["--sample", "40"]);
    run(&["--sample", "00", "--image", "x.png", "--prompt", "?"], &["--sample", "--image"]);
    run(&["--unknown"], &["--unknown", "--help"]);
    run(&["stray"], &["stray"]);
    run(&["--image", "missing.png", "--prompt", "?"], &["missing.png", "No such file"]);
    run(&["--image", "text", "--prompt", "?"], &["text", "PNG"]);
    run(&["--image", "folder", "--prompt", "?"], &["folder", "image file"]);
    run(&["--image", "text"], &["text"]);
    run(&["--out", "missing/f"], &["missing/f", "no such folder"]);
    run(&["--out", "folder"], &["folder", "regular file"]);
    run(&["--model", "missing"], &["missing", "config.json", "no such file"]);
    run(&["--model", "text"], &["text"]);
    fails(&cli, &["record", "--quiet"], &["--out"]);
    fails(&cli, &["record", "--quiet", "--out", "missing/f"], &["missing/f"]);
    fails(
        &cli,
        &["record", "--quiet", "--out", "f", "--stages", "decoder.*.keys"],
        &["--stages", "keys", "decoder.LL.key"],
    );
    fails(&cli, &["record", "--quiet", "--out", "f", "--stages", "input.*,"], &["--stages"]);
    fails(&cli, &["rune"], &["rune"]);
    fails(&cli, &["import", "sglang", "folder"], &["python -m aircache import sglang folder", "pip install ./python"]);
    fails(&cli, &["check", "--kernel", "convolution", "f"], &["convolution", "attention"]);
    fails(&cli, &["check", "--kernel", "norm", "text"], &["text", "safetensors"]);
    fails(&cli, &["check", "--kernel", "norm", "--model", "demo", "f"], &["--kernel", "--model"]);
    fails(&cli, &["check", "--kernel", "norm", "f", "g"], &["--kernel", "one file of arrays"]);
    for isa in ["sse", ""] {
        fails_as(
            &cli,
            cli.command(&["run", "--quiet"]).env("AIRCACHE_ISA", isa),
            &[isa],
            &["AIRCACHE_ISA", "portable"],
        );
    }
}

/// What the user wrote is told whole, and cannot end the line or turn it around.
#[test]
fn what_is_told_of_a_value_is_all_of_it() {
    let cli = Cli::new();
    let run = |value: &str, words: &[&str]| fails(&cli, &["run", "--quiet", "--threads", value], words);
    run("a\nUsage: b\nc", &["'a Usage: b c' for '--threads"]);
    run("a\n\nFor more information, b\n\nUsage: c", &["'a For more information, b Usage: c' for '--threads"]);
    fails(&cli, &["run", "--unknown\nUsage: a"], &["--unknown Usage: a", "--help"]);
    for mark in ["\u{202e}", "\u{2066}", "\u{200f}", "\u{61c}", "\u{2028}", "\u{2029}", "\u{85}"] {
        let output = cli.run(&["run", "--quiet", "--model", &format!("a{mark}b")]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("a b") && !stderr.contains(mark), "{stderr:?}");
    }
}

/// Memory is forecast by what a limit on address space leaves, too.
#[cfg(target_os = "linux")]
#[test]
fn limits_on_address_space_count() {
    let cli = Cli::new();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aircache"), "bench", "--quiet"]);
    let args = ["--shape", "qwen2-vl-2b", "--vocab", "16", "--weights", "f32"];
    command.args(args).current_dir(cli.folder.path());
    fails_as(&cli, &mut command, &args, &["qwen2-vl-2b", "of free memory, found 2.", "AIRCACHE_MEMORY"]);
}

/// Results of a bundle folder whose model has another family or other images, in quotes, both names told.
#[test]
fn what_a_bundle_says_is_quoted() {
    let cli = Cli::new();
    toy(&cli);
    let ask = ["--model", "model", "--image", "image.png", "--prompt", "x", "--max-new-tokens", "1", "--no-noise"];
    cli.ok(&[&["record", "--quiet", "--out", "b"], &ask[..]].concat());
    edit_weights(&cli.path("b"), |head, _| head["__metadata__"]["family"] = json!(" "));
    let check = ["check", "--quiet", "--model", "model", "b"];
    fails(&cli, &check, &["metadata family: expected \"llava_onevision\", as the model's, found \" \""]);
    edit_weights(&cli.path("b"), |head, _| {
        head["__metadata__"]["family"] = json!("llava_onevision");
        let flat: i64 = head["input.pixels"]["shape"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).product();
        head["input.pixels"]["shape"] = json!([1, 1, 1, 1, flat]);
    });
    fails(&cli, &check, &["input.pixels", "of input.sizes"]);
}

#[test]
fn bad_pictures() {
    let cli = Cli::new();
    let ask =
        |words: &[&str]| fails(&cli, &["run", "--quiet", "--image", "p.png", "--prompt", "?", "--out", "f"], words);
    let put = |bytes: &[u8]| std::fs::write(cli.path("p.png"), bytes).unwrap();
    put(&claiming_png(60_000));
    ask(&["p.png", "60000 × 60000", "at most"]);
    put(&claiming_png(u32::MAX >> 1));
    ask(&["p.png"]);
    put(&claiming_png(8_000)); // small enough to be allowed, and not there
    ask(&["p.png"]);
    put(b"");
    ask(&["p.png"]);
    put(b"GIF89a");
    ask(&["p.png"]);
    let png = std::fs::read(cli::golden().join("llava/wide/image0.png")).unwrap();
    put(&png[..png.len() / 2]);
    ask(&["p.png"]);
}

/// What is wrong with a checkpoint, how to make it so, what the message has to say.
type Broken = (&'static str, fn(&Path), &'static [&'static str]);

const WEIGHTS: &str = "model.safetensors";
const NORM: &str = "language_model.model.norm.weight";

fn config(model: &Path, section: &str, key: &str, value: Value) {
    edit(&model.join("config.json"), |c| {
        let section = if section.is_empty() { c } else { c[section].as_object_mut().unwrap() };
        section.insert(key.into(), value);
    });
}

const BROKEN: &[Broken] = &[
    ("no weights", |m| std::fs::remove_file(m.join(WEIGHTS)).unwrap(), &[WEIGHTS, "neither"]),
    (
        "truncated weights",
        |m| {
            let bytes = std::fs::read(m.join(WEIGHTS)).unwrap();
            std::fs::write(m.join(WEIGHTS), &bytes[..bytes.len() / 2]).unwrap();
        },
        &[WEIGHTS, "incomplete"],
    ),
    ("empty weights", |m| std::fs::write(m.join(WEIGHTS), "").unwrap(), &[WEIGHTS]),
    (
        "a missing tensor",
        |m| {
            edit_weights(&m.join(WEIGHTS), |head, _| {
                let norm = head.remove(NORM).unwrap();
                head.insert("other".into(), norm);
            })
        },
        &[WEIGHTS, NORM, "none"],
    ),
    (
        "a wrong shape",
        |m| edit_weights(&m.join(WEIGHTS), |head, _| head[NORM]["shape"] = json!([4, 4])),
        &[WEIGHTS, NORM, "[16]", "[4, 4]"],
    ),
    (
        "a wrong dtype",
        |m| edit_weights(&m.join(WEIGHTS), |head, _| head[NORM]["dtype"] = json!("I16")),
        &[WEIGHTS, NORM, "BF16", "I16"],
    ),
    (
        "an unknown dtype",
        |m| edit_weights(&m.join(WEIGHTS), |head, _| head[NORM]["dtype"] = json!("Q4")),
        &[WEIGHTS, NORM, "Q4"],
    ),
    (
        "other sizes than the weights",
        |m| config(m, "text_config", "intermediate_size", json!(25)),
        &[WEIGHTS, "[25, 16]"],
    ),
    ("no config", |m| std::fs::remove_file(m.join("config.json")).unwrap(), &["config.json", "no such file"]),
    ("a config that is no JSON", |m| std::fs::write(m.join("config.json"), "{").unwrap(), &["config.json", "JSON"]),
    ("an unknown family", |m| config(m, "", "model_type", json!("mllama")), &["model_type", "mllama"]),
    (
        "heads that do not divide",
        |m| config(m, "text_config", "num_attention_heads", json!(3)),
        &["config.json", "num_attention_heads", "16"],
    ),
    (
        "KV heads that do not divide",
        |m| config(m, "text_config", "num_key_value_heads", json!(3)),
        &["num_key_value_heads", "divisor"],
    ),
    ("a null number", |m| config(m, "text_config", "rms_norm_eps", json!(null)), &["rms_norm_eps", "null"]),
    (
        "a prompt past its positions",
        |m| config(m, "text_config", "max_position_embeddings", json!(20)),
        &["prompt", "max_position_embeddings = 20", "35"],
    ),
    (
        "a template that loops for ever",
        |m| {
            let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
            std::fs::write(m.join("chat_template.jinja"), endless).unwrap();
        },
        &["chat_template.jinja", "for ever"],
    ),
    (
        "a template that prints for ever",
        |m| {
            let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}";
            std::fs::write(m.join("chat_template.jinja"), endless).unwrap();
        },
        &["chat_template.jinja", "bytes of output"],
    ),
    (
        "a template that prints a list without end",
        |m| std::fs::write(m.join("chat_template.jinja"), "{{ [1] * 9999999999 }}").unwrap(),
        &["chat_template.jinja", "too large"],
    ),
    (
        "a template of 25 000 tags",
        |m| std::fs::write(m.join("chat_template.jinja"), "{% if 1 %}".repeat(25_000)).unwrap(),
        &["chat_template.jinja", "recursion"],
    ),
    (
        "a template that raises",
        |m| std::fs::write(m.join("chat_template.jinja"), "{{ raise_exception('no\nway') }}").unwrap(),
        &["chat_template.jinja", "no way"],
    ),
    (
        "a template that does not compile",
        |m| std::fs::write(m.join("chat_template.jinja"), "{% for %}").unwrap(),
        &["chat_template.jinja"],
    ),
    (
        "no template",
        |m| std::fs::remove_file(m.join("chat_template.jinja")).unwrap(),
        &["chat_template.jinja", "tokenizer_config.json"],
    ),
    ("no tokenizer", |m| std::fs::remove_file(m.join("tokenizer.json")).unwrap(), &["tokenizer.json", "no such file"]),
    ("a tokenizer that is none", |m| std::fs::write(m.join("tokenizer.json"), "{}").unwrap(), &["tokenizer.json"]),
    (
        "another image token",
        |m| config(m, "", "image_token_index", json!(12)),
        &["tokenizer.json", "config.json", "12", "489"],
    ),
    (
        "other grids in the processor",
        |m| config(m, "", "image_grid_pinpoints", json!([[24, 24]])),
        &["image_grid_pinpoints", "config.json"],
    ),
    (
        "weights that are not numbers",
        |m| {
            edit_weights(&m.join(WEIGHTS), |head, data| {
                let from = head[NORM]["data_offsets"][0].as_u64().unwrap() as usize;
                data[from..from + 2].copy_from_slice(&[0xff, 0x7f]);
            })
        },
        &["logits", "NaN", "inspect"],
    ),
];

#[test]
fn bad_checkpoints() {
    for (what, break_it, words) in BROKEN {
        println!("{what}");
        let cli = Cli::new();
        break_it(&toy(&cli));
        let ask =
            ["--quiet", "--model", "model", "--image", "image.png", "--prompt", "What does it say?", "--out", "f"];
        fails(&cli, &[&["run"], &ask[..]].concat(), words);
        fails(&cli, &[&["record", "--retain", "0.3"], &ask[..]].concat(), words);

        // `inspect` tells of everything but the prompt, on stdout as well.
        let output = cli.run(&["inspect", "--quiet", "model"]);
        let code = if *what == "a prompt past its positions" { output.status.code() } else { Some(2) };
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), code, "{what}: {stderr}");
        assert!(stderr.lines().count() <= 1, "{what}: {stderr}");
    }
}

#[test]
fn inspect_names_every_problem() {
    let cli = Cli::new();
    let model = toy(&cli);
    edit_weights(&model.join(WEIGHTS), |head, _| {
        head[NORM]["shape"] = json!([2, 8]);
        head["image_newline"]["dtype"] = json!("I16");
        let gone = head.remove("multi_modal_projector.linear_2.bias").unwrap();
        head.insert("stray".into(), gone);
    });
    std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
    std::fs::write(model.join("tokenizer.json"), "{").unwrap();
    let found = |words: &[&str]| {
        let output = cli.run(&["inspect", "model", "--json"]);
        assert_eq!(output.status.code(), Some(2));
        let r: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(r["usable"], json!(false));
        let problems: Vec<&str> = r["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        for word in words {
            assert!(problems.iter().any(|p| p.contains(word)), "{word}: {problems:#?}");
        }
        assert_eq!(problems.len(), words.len(), "{problems:#?}");
        r
    };
    let r = found(&[NORM, "image_newline", "linear_2.bias", "chat_template.jinja", "tokenizer.json"]);
    assert!(r["unused_tensors"].as_array().unwrap().contains(&json!("stray")));

    config(&model, "text_config", "hidden_size", json!("wide"));
    config(&model, "vision_config", "patch_size", json!(0));
    config(&model, "", "vision_aspect_ratio", json!("square"));
    found(&["hidden_size", "patch_size", "vision_aspect_ratio", "chat_template.jinja", "tokenizer.json"]);
}

#[test]
fn bad_bundles_to_compress() {
    use aircache::golden::BundleWriter;
    let cli = Cli::new();
    let make = |roles: &[u8], stages: &[(&str, &[usize])]| {
        let mut w = BundleWriter::create(&cli.path("b")).unwrap();
        w.put_u8("input.roles", &[roles.len()], roles).unwrap();
        for (name, shape) in stages {
            w.put_f32(name, shape, &vec![0.5; shape.iter().product()]).unwrap();
        }
        w.finish([("precision", "f32")]).unwrap();
    };
    let bad = |words: &[&str]| fails(&cli, &["compress", "b", "--retain", "0.5", "--out", "f", "--quiet"], words);
    let (q, k) = ("decoder.00.query", "decoder.00.key");
    let roles = [0, 1, 1, 0];
    make(&roles, &[]);
    bad(&["b: decoder.00.query", "none"]);
    make(&roles, &[(q, &[2, 4, 2])]);
    bad(&["b: decoder.00.key", "none"]);
    make(&roles, &[(q, &[2, 4, 2]), (k, &[1, 4, 2]), ("decoder.02.key", &[1, 4, 2])]);
    bad(&["b: decoder.01.query", "layer 2", "gaps"]);
    make(&roles, &[(q, &[2, 1, 2]), (k, &[1, 4, 2])]);
    bad(&[q, "[2, 1, 2]", "all rows"]);
    make(&roles, &[(q, &[2, 4, 2]), (k, &[1, 5, 2])]);
    bad(&[k, "n = 4"]);
    make(&roles, &[(q, &[3, 4, 2]), (k, &[2, 4, 2])]);
    bad(&["b: layer 0", "multiple of 2"]);
    make(&roles, &[(q, &[2, 4, 4]), (k, &[1, 4, 2])]);
    bad(&["b: layer 0", "head size"]);
    make(&roles, &[(q, &[8, 2]), (k, &[1, 4, 2])]);
    bad(&[q, "[H, n, d_h]"]);
    make(&[0, 2, 1, 0], &[(q, &[2, 4, 2]), (k, &[1, 4, 2])]);
    bad(&["input.roles[1]", "0 (text) or 1"]);
    make(&[0, 1, 1, 1], &[(q, &[2, 4, 2]), (k, &[1, 4, 2])]);
    bad(&["text after the last visual token"]);
    fails(&cli, &["compress", "missing", "--retain", "0.5"], &["missing"]);
    fails(&cli, &["compress"], &["BUNDLE"]);
    std::fs::write(cli.path("junk"), "junk").unwrap();
    fails(&cli, &["compress", "junk", "--retain", "0.5"], &["junk"]);
    let toy_weights = cli::golden().join("llava/wide/model/model.safetensors");
    fails(&cli, &["compress", toy_weights.to_str().unwrap(), "--retain", "0.5"], &["metadata format"]);
}

/// What a candidate calls its stages stands in a line of the report, and forges none.
#[test]
fn names_from_elsewhere_write_no_lines() {
    let cli = Cli::new();
    cli.ok(&["record", "--quiet", "--max-new-tokens", "1", "--stages", "input.ids", "--out", "g"]);
    std::fs::copy(cli.path("g"), cli.path("b")).unwrap();
    edit_weights(&cli.path("b"), |head, _| {
        let nothing = serde_json::json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
        head.insert("\u{1b}[2Jx\nfirst divergence: none".into(), nothing.clone());
        (0..100).for_each(|i| drop(head.insert(format!("{i}{}", "y".repeat(1000)), nothing.clone())));
    });
    let report = cli.ok(&["check", "--quiet", "g", "b"]);
    assert!(!report.contains('\u{1b}') && report.len() < 4000, "{report}");
    assert!(report.contains("93 more") && report.lines().all(|line| !line.starts_with("first divergence")), "{report}");
}

/// C10.7a: the bundle's cache shows rows that the prompt does not have.
#[test]
fn a_bundle_of_a_longer_prompt_fails() {
    let cli = Cli::new();
    cli.ok(&["record", "--quiet", "--max-new-tokens", "2", "--out", "b"]);
    let output = cli.run(&["check", "--quiet", "--model", "demo", "--sample", "00", "b"]);
    assert_eq!((output.status.code(), &*output.stderr), (Some(1), &b""[..]));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("first divergence: input."), "{report}");
}

/// E9.22: files of head scores that cannot be read, and scores of another model.
#[test]
fn files_of_head_scores_that_do_not_fit() {
    let cli = Cli::new();
    let run = |file: &str| ["run", "--quiet", "--retain", "0.1", "--policy", file].map(String::from);
    let fails = |file: &str, words: &[&str]| fails(&cli, &run(file).each_ref().map(String::as_str), words);
    fails("snapkv,split=file:nowhere.json", &["--policy", "nowhere.json", "a JSON of head scores"]);
    std::fs::write(cli.path("text.json"), "no json").unwrap();
    fails("snapkv,split=file:text.json", &["--policy", "text.json", "LAYER-HEAD"]);
    std::fs::write(cli.path("hole.json"), r#"{"0-0": [1], "0-2": [1]}"#).unwrap();
    fails("snapkv,split=file:0.5:hole.json", &["hole.json", "the head \"0-1\"", "found \"0-2\""]);
    std::fs::write(cli.path("small.json"), r#"{"0-0": [1], "0-1": [1]}"#).unwrap();
    fails("snapkv,split=file:small.json", &["scores of 6 layers, as the model has", "found 1"]);
    fails("snapkv,split=file:7:small.json", &["--policy: split=heads", "at most 1"]);
    fails("aircache,split=file:small.json", &["heads=kv"]);
    std::fs::write(cli.path("d"), r#"{"question": "x", "answer": "y"}"#).unwrap();
    let eval = ["eval", "--quiet", "--data", "d", "--policies", "full;snapkv,split=file:hole.json;h2o"];
    crate::common::cli::fails(&cli, &eval, &["--policies", "hole.json"]);
}

/// A journal is begun before the first answer, and is gone where there comes none.
#[test]
fn a_journal_without_answers_is_not_kept() {
    let cli = Cli::new();
    std::fs::write(cli.path("q"), r#"{"question": "x", "answer": "y"}"#).unwrap();
    let eval = ["eval", "--quiet", "--data", "q", "--policies", "full", "--out", "r.json"];
    fails(&cli, &[&eval[..], &["--merge", "none.json"]].concat(), &["none.journal.jsonl"]);
    std::fs::write(cli.path("p.png"), "no picture").unwrap();
    std::fs::write(cli.path("q"), r#"{"question": "x", "answer": "y", "image": "p.png"}"#).unwrap();
    fails(&cli, &eval, &["question 1", "p.png"]);
    fails(&cli, &["run", "--quiet", "--batch", "q", "--out", "r.jsonl"], &["question 1", "p.png"]);
}

/// What else there is to say waits until no option is wrong.
#[test]
fn an_error_stands_alone() {
    let cli = Cli::new();
    fails(&cli, &["run", "--temperature", "nan"], &["--temperature"]);
    fails(&cli, &["run", "--policy", "aircache", "--prompt", "x", "--model", "nowhere"], &["nowhere"]);
    fails(&cli, &["record", "--temperature", "nan", "--out", "f"], &["--temperature"]);
    fails(&cli, &["explain", "--format", "png", "--which", "99", "--out", "f"], &["--which"]);
}
