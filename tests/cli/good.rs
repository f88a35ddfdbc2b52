//! The binary on good input: what it prints, what it writes, how it ends.

use crate::common::cli::{Cli, toy};
use aircache::golden::Bundle;
use aircache::kernel::simd::Isa;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

const FAST: [&str; 2] = ["--precision", "fast"];

#[test]
fn the_first_command_answers_a_question() {
    let cli = Cli::new();
    let output = cli.run(&["run", "--retain", "0.3"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(output.stdout, b"$565.65\n");
    for words in [
        "bundled image 18.png: This is a scanned form. Give me the Fee.",
        "of them visual",
        "prefill",
        "decode",
        "tokens/s",
        "KV cache",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(cli.names().is_empty());
    let quiet = cli.run(&["run", "--retain", "0.3", "--quiet"]);
    assert!(quiet.stderr.is_empty() && quiet.stdout == output.stdout);
}

#[test]
fn without_a_command_it_says_what_to_do() {
    let cli = Cli::new();
    assert!(cli.ok(&[]).contains("aircache run --retain 0.3"));
    assert!(cli.ok(&["--version"]).starts_with("aircache "));
    for command in ["run", "record", "inspect", "compress", "policies", "eval"] {
        assert!(cli.ok(&[command, "--help"]).contains("Example"), "{command}");
    }
}

#[test]
fn json_holds_what_the_summary_says() {
    let cli = Cli::new();
    // Without a precision, `run` takes what this processor does best.
    let run = ["run", "--sample", "00", "--retain", "0.3", "--json", "--out", "r.json", "--quiet"];
    let r = cli.json(&[&run[..], &FAST].concat());
    assert_eq!((r["text"].as_str(), r["stopped"].as_str()), (Some("48"), Some("eos")));
    assert_eq!((r["prompt_tokens"].as_u64(), r["visual_tokens"].as_u64()), (Some(219), Some(200)));
    assert_eq!(r["budget"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).sum::<u64>(), 360);
    assert_eq!((r["policy"]["name"].as_str(), r["retain"].as_str()), (Some("aircache"), Some("0.3")));
    assert_eq!(r["new_tokens"].as_u64().unwrap() as usize, r["ids"].as_array().unwrap().len());
    // Bytes: the text of all layers and what is left of the images; 2 · 2 KV heads · 32 · 4 bytes an entry.
    assert_eq!(r["kv_bytes_before"].as_u64(), Some(219 * 6 * 512));
    assert_eq!(r["kv_bytes_after"].as_u64(), Some((19 * 6 + 360) * 512));
    for time in ["prefill_s", "compress_s", "decode_s", "tokens_s"] {
        assert!(r[time].as_f64().unwrap() > 0.0, "{time}");
    }
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(cli.path("r.json")).unwrap()).unwrap();
    assert_eq!(file, r);
}

#[test]
fn the_options_of_eviction_mean_what_the_contract_says() {
    let cli = Cli::new();
    let run = |options: &[&str]| cli.json(&[&["run", "--sample", "00", "--json", "--quiet"], options].concat());
    let total =
        |r: &serde_json::Value| r["budget"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).sum::<u64>();
    let full = run(&[]);
    assert_eq!((full["policy"]["name"].as_str(), total(&full)), (Some("full"), 1200));
    assert_eq!(total(&run(&["--retain-tokens", "10"])), 60);
    assert_eq!(total(&run(&["--policy", "snapkv", "--retain", "0.1"])), 120);
    let parts = run(&["--policy", "window=last-text:8,budget=uniform", "--retain", "5e-1", "--precision", "bf16"]);
    assert_eq!((parts["policy"]["name"].as_str(), parts["precision"].as_str()), (Some("custom"), Some("bf16")));
    assert_eq!(parts["budget"], serde_json::json!([100, 100, 100, 100, 100, 100]));
    assert_eq!(run(&["--retain", "0.3", "--alpha", "0.5"])["policy"]["window"], "elite:0.5");
    // All the text that counts, and no more: 13 rows of question and template less the tail.
    let question = run(&["--policy", "text=question", "--retain", "0.3"]);
    assert_eq!(question["text"].as_str(), Some("48"));
    assert_ne!(question["policy"]["text"], "question", "the template's tail is known");
}

#[test]
fn listings() {
    let cli = Cli::new();
    assert_eq!(cli.ok(&["policies"]), cli.ok(&["run", "--policy", "help"]));
    assert!(cli.ok(&["record", "--policy", "help"]).contains("snapkv"));
    let stages = cli.json(&["stages", "--json"]);
    let mix = stages.as_array().unwrap().iter().find(|s| s["stage"] == "step.TTTT.LL.mix").unwrap();
    assert_eq!((&mix["shape"], &mix["since"]), (&"[H·d_h]".into(), &"0.2".into()));
    let listed = cli.ok(&["stages"]);
    let query = listed.lines().find_map(|line| line.strip_prefix("decoder.LL.query ")).unwrap();
    assert_eq!(query.trim_start(), "[H, n, d_h]: after rotary");
    let policies = cli.json(&["policies", "--json"]);
    assert!(policies.as_array().unwrap().iter().any(|p| p["name"] == "vl-cache" && p["parts"]["window"] == "all-text"));
    let before = "drops visual rows before the decoder";
    let early =
        policies.as_array().unwrap().iter().filter(|p| p["group"] == before).map(|p| p["name"].as_str().unwrap());
    assert_eq!(early.collect::<Vec<_>>(), ["fastervlm", "visionzip", "visionzip-dominant", "divprune"]);
    let samples = cli.json(&["run", "--list-samples", "--json"]);
    assert_eq!(samples.as_array().unwrap().len(), 40);
    let questions: usize = samples.as_array().unwrap().iter().map(|s| s["questions"].as_array().unwrap().len()).sum();
    assert_eq!(questions, 250);
    cli.ok(&["run", "--save-samples", "pictures"]);
    let args = ["run", "--image", "pictures/00.png", "--prompt", "What does the top right box say?", "--quiet"];
    assert_eq!(cli.ok(&args), "48\n");
}

#[test]
fn a_recording_is_the_same_bytes_however_it_is_computed() {
    let cli = Cli::new();
    let record = |name: &str, threads: &str, isa: Option<Isa>| {
        // The smallest sample: without FMA the portable kernels are slow.
        let args = ["record", "--sample", "01", "--retain", "0.3", "--out", name, "--threads", threads];
        let mut command = cli.command(&args);
        if let Some(isa) = isa {
            command.env("AIRCACHE_ISA", isa.name());
        }
        assert!(command.output().unwrap().status.success());
        std::fs::read(cli.path(name)).unwrap()
    };
    let first = record("a", "1", None);
    assert!(first == record("b", "2", None), "two threads");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert!(first == record("c", "2", Some(isa)), "{isa:?}");
    }
    assert_eq!(cli.names(), ["a", "b", "c"]);
}

#[test]
fn a_recording_holds_the_contract() {
    let cli = Cli::new();
    let out = cli.json(&["record", "--sample", "00", "--retain", "0.3", "--out", "g", "--json", "--quiet"]);
    let b = Bundle::open(&cli.path("g")).unwrap();
    let shape = |name: &str| b.stage(name).unwrap().shape.to_vec();
    let (n, v, visual) = (219, 496, 200);
    assert_eq!(shape("input.ids"), [n]);
    assert_eq!(shape("input.roles"), [n]);
    assert_eq!(shape("input.pixels"), [1, 3, 3, 64, 64]);
    assert_eq!(shape("input.sizes"), [1, 2]);
    assert_eq!(shape("vision.03.out"), [3, 64, 192]);
    assert_eq!(shape("vision.features"), [3, 64, 192]);
    assert_eq!(shape("projector.out"), [visual, 192]);
    assert_eq!(shape("decoder.05.query"), [6, n, 32]);
    assert_eq!(shape("decoder.05.value"), [2, n, 32]);
    assert_eq!(shape("decoder.05.mix"), [n, 192]);
    assert_eq!(shape("decoder.norm"), [n, 192]);
    assert_eq!(shape("decoder.logits"), [v]);
    assert_eq!(shape("policy.00.importance"), [visual]);
    assert_eq!(shape("policy.strength"), [6]);
    let kept: Vec<usize> = (0..6).map(|l| shape(&format!("policy.{l:02}.kept"))[0]).collect();
    let budget = b.i64("policy.budget").unwrap();
    assert!(kept.iter().zip(&budget).all(|(&k, &b)| k as i64 == b) && kept.iter().sum::<usize>() == 360);
    assert_eq!(shape("cache.05.key"), [2, n - visual + kept[5], 32]);
    assert_eq!(shape("cache.05.positions"), [n - visual + kept[5]]);
    let tokens = shape("output.ids")[0];
    let steps = b.names().filter(|name| name.starts_with("step.")).count();
    let a_step = 1 + 6 * 5; // logits, and five stages a layer
    assert_eq!((steps, shape("step.0000.logits")), ((tokens - 1) * a_step, vec![v]), "the last token is not fed");
    assert_eq!([shape("step.0000.05.query"), shape("step.0000.05.key")], [[6, 32], [2, 32]]);
    let noise = b.names().filter(|name| name.starts_with("noise.")).count();
    assert_eq!(out["stages"].as_array().unwrap().len(), b.names().count() - noise);
    assert!(noise > 3 * 40 && b.metadata("noise") == Some("1"), "the ruler of every stage and type");

    for (key, value) in [("precision", "f64"), ("family", "llava_onevision"), ("retain", "0.3"), ("version", "1")] {
        assert_eq!(b.metadata(key), Some(value));
    }
    assert_eq!(b.metadata("preprocess"), Some("torchvision"));
    assert_eq!(b.metadata("model").map(str::len), Some(64));
    let policy: aircache::policy::Policy = serde_json::from_str(b.metadata("policy").unwrap()).unwrap();
    assert_eq!(policy, aircache::policy::Policy::AIRCACHE);

    // The cache holds the rows of the plan, bit for bit.
    let roles = b.i64("input.roles").unwrap();
    let visual_rows: Vec<i64> = (0..n as i64).filter(|&i| roles[i as usize] == 1).collect();
    let stays = b.i64("policy.03.kept").unwrap();
    let mut rows: Vec<i64> = (0..n as i64).filter(|&i| roles[i as usize] == 0).collect();
    rows.extend(stays.iter().map(|&t| visual_rows[t as usize]));
    rows.sort_unstable();
    assert_eq!(b.i64("cache.03.positions").unwrap().iter().copied().collect::<Vec<_>>(), rows);
    let (all, cached) = (b.f64("decoder.03.key").unwrap(), b.f64("cache.03.key").unwrap());
    for (e, &row) in rows.iter().enumerate() {
        assert!((0..2).all(|g| (0..32).all(|i| all[[g, row as usize, i]] == cached[[g, e, i]])));
    }
}

/// C9.7b: a recording has the scores of heads, and does not depend on the path of their file.
#[test]
fn a_recording_holds_the_scores_of_heads() {
    let cli = Cli::new();
    let heads = (0..12).map(|i| format!("\"{}-{}\": [{}, 1]", i / 2, i % 2, i % 5)).collect::<Vec<_>>().join(", ");
    std::fs::create_dir(cli.path("folder")).unwrap();
    let bytes = ["one.json", "folder/two.json"].map(|file| {
        std::fs::write(cli.path(file), format!("{{{heads}}}")).unwrap();
        let policy = format!("snapkv,budget=heads,split=file:0.2:{file}");
        let what = ["--stages", "input.*,policy.*", "--max-new-tokens", "1", "--out", "b"];
        cli.ok(&[&["record", "--quiet", "--sample", "00", "--retain", "0.3", "--policy", &policy], &what[..]].concat());
        let bundle = Bundle::open(&cli.path("b")).unwrap();
        assert_eq!(bundle.get("policy.budget").unwrap().shape, [6, 2]);
        assert!(bundle.metadata("policy").unwrap().contains("heads:0.2:0.5/1|1.5/2|2.5/0.5|"));
        std::fs::read(cli.path("b")).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn recordings_of_other_kinds() {
    let cli = Cli::new();
    let args = ["record", "--sample", "00", "--policy", "aircache,heads=kv", "--retain", "0.3", "--out", "kv"];
    cli.ok(&[&args[..], &["--stages", "policy.0?.*,cache.00.*", "--precision", "f16"]].concat());
    let b = Bundle::open(&cli.path("kv")).unwrap();
    let kept = b.stage("policy.00.kept").unwrap().shape.to_vec();
    assert_eq!(kept[0], 2);
    assert_eq!(b.stage("policy.00.window").unwrap().shape, [2, 219]);
    assert_eq!(b.stage("cache.00.positions").unwrap().shape, [2, 19 + kept[1]]);
    assert_eq!((&*b.stage("cache.00.key").unwrap().dtype.to_string(), b.metadata("precision")), ("F16", Some("f16")));
    assert!(b.names().all(|n| n.starts_with("policy.0") || n.starts_with("cache.00.")));

    // The toy's own golden: what transformers computed, with several images and without any.
    toy(&cli);
    let model = ["record", "--model", "model", "--max-new-tokens", "3", "--quiet", "--prompt", "Hi", "--out", "two"];
    cli.ok(&[&model[..], &["--image", "image.png", "--image", "image.png"], &FAST].concat());
    let b = Bundle::open(&cli.path("two")).unwrap();
    assert_eq!(b.stage("input.pixels").unwrap().shape, [2, 1, 3, 24, 24]);
    assert_eq!(b.stage("input.sizes").unwrap().shape, [2, 2]);
    cli.ok(&model);
    let b = Bundle::open(&cli.path("two")).unwrap();
    assert!(b.get("input.pixels").is_none() && b.get("vision.features").is_none());
    assert_eq!((b.metadata("images"), b.metadata("precision")), (Some("[]"), Some("f64")));
}

#[test]
fn compress_decides_as_the_run_did() {
    let cli = Cli::new();
    for policy in ["aircache", "snapkv", "h2o", "pyramidkv", "vl-cache", "streaming"] {
        let options = ["--policy", policy, "--retain", "0.25", "--quiet", "--out"];
        cli.ok(&[&["record", "--sample", "00", "--max-new-tokens", "1"], &options[..], &["g"]].concat());
        let told = cli.json(&[&["compress", "g", "--json"], &options[..], &["p"]].concat());
        let (g, p) = (Bundle::open(&cli.path("g")).unwrap(), Bundle::open(&cli.path("p")).unwrap());
        let decided = g.names().filter(|n| n.starts_with("policy.") && !n.ends_with(".attention"));
        assert!(p.names().eq(decided), "{policy}");
        for name in p.names().filter(|n| n.ends_with("kept") || n.ends_with("budget") || n.ends_with("window")) {
            assert_eq!(p.stage(name).unwrap().data, g.stage(name).unwrap().data, "{policy}: {name}");
        }
        assert_eq!(told["layers"].as_array().unwrap().len(), 6);
        assert_eq!((p.metadata("policy"), p.metadata("retain")), (g.metadata("policy"), Some("0.25")));
        assert!(p.metadata("model").is_none());
    }
}

#[test]
fn inspect_of_a_good_checkpoint() {
    let cli = Cli::new();
    let r = cli.json(&["inspect", "--json"]);
    assert_eq!((r["usable"].as_bool(), r["parameters"].as_u64()), (Some(true), Some(3_747_008)));
    assert_eq!((r["kv_bytes_per_token"].as_u64(), r["decoder"]["kv_heads"].as_u64()), (Some(3072), Some(2)));
    assert_eq!(r["unused_tensors"].as_array().unwrap().len(), 2);
    toy(&cli);
    let text = cli.ok(&["inspect", "model"]);
    assert!(text.ends_with("usable\n") && text.contains("chat_template.jinja") && text.contains("488"), "{text}");
}

#[test]
fn inspect_of_a_bundle() {
    let cli = Cli::new();
    cli.ok(&["record", "--stages", "input.ids,decoder.*.query", "--max-new-tokens", "1", "--out", "b.safetensors"]);
    let text = cli.ok(&["inspect", "b.safetensors"]);
    assert!(text.contains("decoder.00.query to decoder.05.query") && text.contains("precision    f64"), "{text}");
    let json = cli.json(&["inspect", "b.safetensors", "--json"]);
    assert!(json["stages"].as_array().unwrap().len() >= 7 && json["metadata"]["format"] == "aircache-bundle", "{json}");
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let cli = Cli::new();
    for args in [
        &["run", "--ignore-eos", "--max-new-tokens", "16000000"][..],
        &["run", "--list-samples"],
        &["policies", "--json"],
        &["inspect"],
        &["--help"],
    ] {
        let mut child = cli.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut some = [0; 4];
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("aircache:"), "{args:?}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing() {
    let cli = Cli::new();
    let endless = ["--ignore-eos", "--max-new-tokens", "16000000", "--sample", "00", "--out", "f"];
    for command in ["run", "record"] {
        let args = [&[command], &endless[..]].concat();
        let mut child = cli.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("bundled image"), "{line}");
        std::thread::sleep(std::time::Duration::from_millis(700));
        let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{command}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(cli.names().is_empty(), "{command}: {:?}", cli.names());
    }
}

#[test]
fn draws_repeat_with_their_seed() {
    let cli = Cli::new();
    let draw = |seed: &str| {
        let options = ["--temperature", "3", "--seed", seed, "--max-new-tokens", "12", "--ignore-eos", "--quiet"];
        cli.json(&[&["run", "--json"], &options[..]].concat())["ids"].clone()
    };
    assert_eq!(draw("5"), draw("5"));
    assert_ne!(draw("5"), draw("6"));
    let greedy = cli.json(&["run", "--json", "--quiet", "--temperature", "0"]);
    assert_eq!(greedy["ids"], cli.json(&["run", "--json", "--quiet"])["ids"]);
}

/// D9.10: pruning before the decoder shortens prefill and cache, in the bench too.
#[test]
fn bench_measures_rows_that_are_dropped_early() {
    let cli = Cli::new();
    let sizes = ["--prompt-len", "200", "--max-new-tokens", "2", "--retain", "0.1"];
    let cells = cli.json(&[&["bench", "--json", "--policies", "full,visionzip,divprune"][..], &sizes].concat());
    let cells = cells["cells"].as_array().unwrap();
    let bytes: Vec<u64> = cells.iter().map(|cell| cell["kv_bytes"].as_u64().unwrap()).collect();
    assert_eq!(
        [0, 1].map(|i| cells[i]["kind"].as_str().unwrap()),
        ["drops nothing", "drops visual rows before the decoder"]
    );
    // Of 180 visual rows 18 stay, beside 20 of text and 3 steps.
    assert_eq!((bytes.len(), bytes[1] * 203, bytes[2]), (3, bytes[0] * 41, bytes[1]), "{bytes:?}");
    let policies = "full,snapkv,look-m,fastv-prune,sparsevlm,divprune";
    let text = cli.ok(&["bench", "--policies", policies, "--prompt-len", "200", "--max-new-tokens", "1"]);
    let words: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(words[..6], ["none", "after", "merge", "inside", "inside", "before"], "{text}");
}
