//! Every command on checkpoints of every family but LLaVA-OneVision, which the other tests use.

use crate::common::cli::{Cli, answers_records_and_checks, edit, fails, toy_of};
use aircache::golden::Bundle;

const ASK: [&str; 7] = ["--model", "model", "--image", "image.png", "--prompt", "What is it?", "--quiet"];

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, &ASK[..], more].concat()
}

/// All but `inspect` and `explain`, at every precision and under every policy; visual: tokens of the case's image → the golden.
fn every_command(cli: &Cli, family: &str, visual: usize) -> Bundle {
    let b = answers_records_and_checks(cli, &ASK, family, visual);
    let question = r#"{"image": ["image.png", "image.png"], "question": "Both <image> and <image>?", "answer": "x"}"#;
    std::fs::write(cli.path("q.jsonl"), question).unwrap();
    let eval = ["eval", "--model", "model", "--data", "q.jsonl", "--policies", "full,aircache", "--retain", "0.3"];
    let cells = cli.json(&[&eval[..], &["--max-new-tokens", "3", "--json", "--quiet"]].concat());
    assert_eq!(cells["cells"].as_array().unwrap().len(), 2);
    cli.ok(&["run", "--model", "model", "--prompt", "Text only.", "--max-new-tokens", "2", "--quiet"]);
    b
}

/// InternVL2's: tiles of the case's image, rows that a tile becomes.
fn every_command_on_tiles(cli: &Cli, family: &str, tiles: usize, rows: usize) {
    let visual = tiles * rows;
    let b = every_command(cli, family, visual);
    let shape = |name: &str| b.stage(name).unwrap().shape.to_vec();
    assert_eq!((shape("input.pixels")[0], shape("vision.features")[..2].to_vec()), (tiles, vec![tiles, rows]));
    assert_eq!(shape("vision.00.out")[1], 1 + 4 * rows, "the class token is recorded");
    cli.ok(&with(&["explain", "--retain", "0.3", "--policies", "aircache"], &["--out", "page.html"]));
    let page = std::fs::read_to_string(cli.path("page.html")).unwrap();
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data: serde_json::Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let tokens = data["tokens"].as_array().unwrap();
    let coarse = tokens.iter().filter(|t| t[5] == 1).count();
    assert_eq!((tokens.len(), coarse), (visual, if tiles > 1 { rows } else { 0 }), "the tile of the whole image");
}

fn inspected(cli: &Cli, words: &[&str]) {
    let text = cli.ok(&["inspect", "model"]);
    assert!(words.iter().all(|w| text.contains(w)), "{words:?} are not all in {text}");
}

#[test]
fn every_command_works_on_qwen2_vl() {
    let cli = Cli::new();
    toy_of(&cli, "qwen2_vl/hub-bf16");
    let b = every_command(&cli, "qwen2_vl", 24);
    let shape = |name: &str| b.stage(name).unwrap().shape.to_vec();
    let n = shape("input.ids")[0];
    assert_eq!((shape("input.positions"), shape("input.grid")), (vec![3, n], vec![1, 3]));
    assert_eq!((shape("input.pixels"), shape("vision.01.out")), (vec![96, 96], vec![96, 16]));
    assert_eq!((shape("vision.features"), shape("projector.out")), (vec![96, 16], vec![24, 32]));
    let kept = shape("policy.00.kept")[0];
    assert_eq!(shape("cache.00.positions"), [3, n - 24 + kept]);
    let pixels = "multiple of 8 × 8 px, of 256 to 2048 pixels";
    inspected(&cli, &["M-RoPE", "sections of 1, 1, 2", pixels, "224 × 224: 25", "usable"]);
}

#[test]
fn every_command_works_on_the_own_form_with_qwen2() {
    let cli = Cli::new();
    toy_of(&cli, "internvl2/qwen2");
    every_command_on_tiles(&cli, "internvl_chat", 3, 4);
    let tiles = "1 to 6 tiles of 56 px, in the grid whose shape is closest; several tiles: one more of the whole image";
    inspected(&cli, &["internvl_chat", tiles, "2 × 2 tokens", "224 × 224: 20", "Hermes-2", "pillow", "usable"]);
}

#[test]
fn every_command_works_on_the_own_form_with_internlm2() {
    let cli = Cli::new();
    toy_of(&cli, "internvl2/internlm2-two-images");
    every_command_on_tiles(&cli, "internvl_chat", 3, 4);
    // The conversation template's end counts also where no file says so.
    std::fs::remove_file(cli.path("model").join("generation_config.json")).unwrap();
    inspected(&cli, &["internlm2-chat", "dynamic", "421 <|im_end|>", "usable"]);
}

#[test]
fn every_command_works_on_the_form_of_transformers() {
    let cli = Cli::new();
    toy_of(&cli, "internvl/qwen2-bf16");
    every_command_on_tiles(&cli, "internvl", 5, 4);
    inspected(&cli, &["1 to 4 tiles of 16 px", "chat_template.jinja", "torchvision", "usable"]);
}

#[test]
fn every_command_works_on_the_own_form_with_qwen3() {
    let cli = Cli::new();
    toy_of(&cli, "internvl_own/qwen3-internvl3-5");
    every_command_on_tiles(&cli, "internvl_chat", 1, 4);
    inspected(&cli, &["internvl2_5", "4 query and 2 KV heads of 16", "every head of 16 numbers", "usable"]);
}

#[test]
fn every_command_works_on_the_own_form_with_phi3() {
    let cli = Cli::new();
    toy_of(&cli, "internvl2/phi3");
    every_command_on_tiles(&cli, "internvl_chat", 4, 4);
    inspected(&cli, &["phi3-chat", "long rope: long factors after 4096 rows; cosines and sines times 1.19", "usable"]);
}

#[test]
fn every_command_works_on_qwen2_5_vl() {
    let cli = Cli::new();
    toy_of(&cli, "qwen2_5_vl/hub-bf16");
    every_command(&cli, "qwen2_5_vl", 35);
    inspected(&cli, &["M-RoPE", "windows of 2 × 2 tokens but in layers 1", "usable"]);
}

#[test]
fn every_command_works_on_qwen3_vl() {
    let cli = Cli::new();
    toy_of(&cli, "qwen3_vl/hub-bf16");
    let b = every_command(&cli, "qwen3_vl", 35);
    let shape = |name: &str| b.stage(name).unwrap().shape.to_vec();
    assert_eq!((shape("projector.out"), shape("projector.01.deepstack")), (vec![35, 32], vec![35, 32]));
    assert!(b.get("projector.02.deepstack").is_none());
    cli.ok(&with(&["explain", "--retain", "0.3", "--policies", "aircache"], &["--out", "page.html"]));
    inspected(
        &cli,
        &["interleaved", "7 × 7 learned positions, DeepStack of layers 0, 1", "every head of 12", "usable"],
    );
}

#[test]
fn every_command_works_on_llava_1_5_and_llava_next() {
    for (case, family, visual, words) in [
        ("llava_clip/vicuna-f16", "llava", 16, "the square in the middle of an image is seen"),
        ("llava_clip/next-mistral-bf16", "llava_next", 70, "a newline after each row of them; no shrinking"),
    ] {
        let cli = Cli::new();
        toy_of(&cli, case);
        every_command(&cli, family, visual);
        cli.ok(&with(&["explain", "--retain", "0.3", "--policies", "aircache"], &["--out", "page.html"]));
        inspected(&cli, &["CLIP, tiles of 16 px", words, "usable"]);
    }
}

/// What is not there or not supported is said, with the file and the field.
#[test]
fn every_step_of_a_model_without_a_longest_prompt_is_judged() {
    let cli = Cli::new();
    toy_of(&cli, "internvl/qwen3-bf16"); // dynamic NTK: no length is too long
    let few = ["--max-new-tokens", "3", "--ignore-eos", "--precision", "f32", "--out", "candidate.safetensors"];
    cli.ok(&with(&["record"], &few));
    let verdict = cli.json(&with(&["check", "candidate.safetensors"], &["--json"]));
    let stages = verdict["stages"].as_array().unwrap();
    assert!(stages.iter().any(|s| s["stage"] == "step.0001.logits"));
    assert!(stages.iter().all(|s| s["verdict"] != "not judged"), "{verdict:#}");
}

#[test]
fn what_is_not_supported_is_named() {
    let cli = Cli::new();
    let model = toy_of(&cli, "internvl2/qwen2");
    let config = model.join("config.json");
    edit(&config, |c| c["template"] = "vicuna_v1.1".into());
    fails(&cli, &with(&["run"], &[]), &["config.json: template", "Hermes-2", "vicuna_v1.1"]);
    for (found, words) in [("internlm3", "InternLM3"), ("qwen3_moe", "mixture of experts"), ("gpt_oss", "GPT-OSS")] {
        edit(&config, |c| c["llm_config"]["model_type"] = found.into());
        fails(&cli, &with(&["run"], &[]), &["llm_config.model_type", words]);
    }
    edit(&config, |c| drop(c.insert("flash_relative_threshold".into(), 0.5.into())));
    fails(&cli, &with(&["run"], &[]), &["config.json: flash_relative_threshold", "Flash"]);
    edit(&config, |c| drop(c.remove("flash_relative_threshold")));
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(model.join(file)).unwrap();
    }
    edit(&config, |c| c["llm_config"]["model_type"] = "qwen2".into());
    fails(&cli, &with(&["run"], &[]), &["added_tokens.json", "<IMG_CONTEXT>"]);
}

/// The names of weights and their files as the hub's 1B has them: `vocab.json` and `merges.txt` instead of a `tokenizer.json`.
#[test]
fn vocab_and_merges_stand_for_a_tokenizer_json() {
    let cli = Cli::new();
    let model = toy_of(&cli, "internvl2/qwen2");
    let run = || cli.json(&with(&["record", "--stages", "input.ids", "--json"], &["--out", "ids"]));
    let ids = || {
        run();
        Bundle::open(&cli.path("ids")).unwrap().i64("input.ids").unwrap()
    };
    let before = ids();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(model.join("tokenizer.json")).unwrap()).unwrap();
    std::fs::write(model.join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap().to_string() + "\n");
    std::fs::write(model.join("merges.txt"), "#version: 0.2\n".to_string() + &merges.collect::<String>()).unwrap();
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    edit(&model.join("tokenizer_config.json"), |c| c["tokenizer_class"] = "Qwen2Tokenizer".into());
    assert_eq!(ids(), before);
    edit(&model.join("tokenizer_config.json"), |c| c["tokenizer_class"] = "GPT2Tokenizer".into());
    fails(&cli, &with(&["run"], &[]), &["tokenizer_class", "Qwen2Tokenizer"]);
}
