//! Folders, prompts and pictures as people have them: the tables of docs/real-folders.md.

use crate::common::cli::{Cli, edit, golden, toy_of};
use serde_json::{Map, Value, json};
use std::path::Path;

const ASK: [&str; 7] = ["run", "--model", "model", "--max-new-tokens", "2", "--image", "image.png"];

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// A toy with the folder of a row laid over it.
fn laid(case: &str) -> Cli {
    let cli = Cli::new();
    toy_of(&cli, if case == "lora" { "internvl2/qwen2" } else { "qwen2_vl/hub-bf16" });
    let at = |name: &str| cli.path("model").join(name);
    let first_three = |map: &mut Map<String, Value>| map["added_tokens"].as_array_mut().unwrap().truncate(3);
    match case {
        "tokens-in-config" => edit(&at("tokenizer.json"), first_three),
        "tokens-in-added" => {
            edit(&at("tokenizer.json"), first_three);
            let mut ids = json!({});
            edit(&at("tokenizer_config.json"), |config| {
                let listed = config.remove("added_tokens_decoder").unwrap();
                for (id, token) in listed.as_object().unwrap() {
                    ids[token["content"].as_str().unwrap()] = id.parse::<u32>().unwrap().into();
                }
            });
            write(&at("added_tokens.json"), &ids);
        }
        "quantized" => edit(&at("config.json"), |config| {
            config.insert("quantization_config".into(), json!({"quant_method": "awq", "bits": 4}));
        }),
        "adapter" => write(&at("adapter_config.json"), &json!({"peft_type": "LORA", "r": 8})),
        "lora" => edit(&at("config.json"), |config| drop(config.insert("use_llm_lora".into(), 16.into()))),
        "sampling" => write(
            &at("generation_config.json"),
            &json!({"do_sample": true, "top_k": -1, "top_p": 0, "eos_token_id": 488}),
        ),
        "penalty" => write(&at("generation_config.json"), &json!({"repetition_penalty": 1.3, "eos_token_id": 488})),
        "base" => {
            let template = "{% if messages is string %}{{ messages }}{% else %}{% for content in messages %}\
                {% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}\
                {{ content['text'] }}{% endif %}{% endfor %}{% endif %}";
            write(&at("chat_template.json"), &json!({"chat_template": template}));
        }
        "byte-order-mark" => {
            let line = json!({"image": "image.png", "question": "x"});
            std::fs::write(cli.path("q.jsonl"), format!("\u{feff}{line}\n")).unwrap();
        }
        other => panic!("no folder for the row {other}"),
    }
    cli
}

#[test]
fn every_folder_of_the_page_does_what_its_row_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/real-folders.md")).unwrap();
    let table = page.split("## Folders").nth(1).unwrap().split("\n\n`inspect`").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let [case, _, does, word] = row[..] else { panic!("{row:?}") };
        let cli = laid(case);
        let output = match case {
            "byte-order-mark" => cli.run(&["run", "--model", "model", "--batch", "q.jsonl", "--max-new-tokens", "2"]),
            _ => cli.run(&[&ASK[..], &["--prompt", "What is it?"]].concat()),
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(if does.starts_with("refuses") { 2 } else { 0 }), "{case}: {said}");
        assert!(word == "runs" || said.contains(word), "{case}: {said}");
        let inspected = cli.run(&["inspect", "model"]);
        let problem = does.starts_with("refuses");
        assert_eq!(inspected.status.code(), Some(if problem { 2 } else { 0 }), "{case}");
    }
}

#[test]
fn a_base_checkpoint_takes_a_prompt_as_it_is() {
    let cli = laid("base");
    let raw = ["--raw-prompt", "--prompt", "<|vision_start|><|image_pad|><|vision_end|>A picture of"];
    cli.ok(&[&ASK[..], &raw].concat());
    cli.ok(&["run", "--model", "model", "--max-new-tokens", "2", "--raw-prompt", "--prompt", "Once upon a time"]);
    let output = cli.run(&[&ASK[..], &["--raw-prompt", "--prompt", "<image> A picture of"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("write <|image_pad|> where an image stands"), "{said}");
}

#[test]
fn turned_and_transparent_pictures_are_told_and_chosen() {
    let cli = Cli::new();
    let model = golden().join("llava/hub4-gqa-tied-bf16/model");
    let picture = |name: &str| {
        let bytes = std::fs::read(golden().join("pictures/files.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec();
        let path = cli.path(&name.replace('/', "-"));
        std::fs::write(&path, file).unwrap();
        path.display().to_string()
    };
    let sizes = |image: &str, more: &[&str]| {
        let bundle = cli.path("b.safetensors").display().to_string();
        let model = model.display().to_string();
        let ask = ["record", "--model", &model, "--image", image, "--prompt", "x", "--stages", "input.sizes"];
        let output = cli.run(&[&ask[..], &["--max-new-tokens", "1", "--out", &bundle], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        let read = aircache::golden::Bundle::open(Path::new(&bundle)).unwrap();
        let size = read.i64("input.sizes").unwrap().into_raw_vec_and_offset().0;
        (size, read.metadata("preprocess").unwrap().to_string(), said)
    };
    let turned = picture("turned/6.jpg");
    let (size, preprocess, said) = sizes(&turned, &[]);
    assert_eq!((size, preprocess.as_str()), (vec![7, 5], "torchvision; orientation exif"));
    assert!(said.contains("stored turned") && said.contains("--orientation ignore"), "{said}");
    let (size, preprocess, said) = sizes(&turned, &["--orientation", "ignore"]);
    assert_eq!((size, preprocess.as_str()), (vec![5, 7], "torchvision; orientation ignore"));
    assert!(!said.contains("stored turned"), "{said}");
    let clear = picture("alpha/rgba.png");
    let (_, preprocess, said) = sizes(&clear, &[]);
    assert!(said.contains("transparent") && preprocess == "torchvision", "{said}");
    let (_, preprocess, said) = sizes(&clear, &["--background", "white"]);
    assert!(!said.contains("transparent") && preprocess == "torchvision; background #ffffff", "{said}");
}

#[test]
fn greedy_settings_that_surprise_are_told() {
    let cli = laid("penalty");
    write(
        &cli.path("model").join("generation_config.json"),
        &json!({"do_sample": true, "top_k": 1, "eos_token_id": 488}),
    );
    let output = cli.run(&[&ASK[..], &["--prompt", "x", "--temperature", "1.5"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(0) && said.contains("top_k = 1") && said.contains("--top-k 0"), "{said}");
    write(&cli.path("model").join("generation_config.json"), &json!({"do_sample": true, "top_k": -1}));
    let output = cli.run(&[&ASK[..], &["--prompt", "x", "--temperature", "1.5"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("top_k") && said.contains("--top-k"), "{said}");
}

#[test]
fn a_question_whose_image_stands_last_has_no_rows_of_its_own_behind_it() {
    let cli = laid("penalty");
    let policy = ["--policy", "window=all-text,text=question", "--retain", "0.5"];
    let output = cli.run(&[&ASK[..], &["--prompt", "What is this? <image>"], &policy[..]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("put the question after the image"), "{said}");
    // The tail has as many rows behind any question.
    let rows = |question: &str, text: &str| {
        let out = cli.path("b.safetensors").display().to_string();
        let policy = format!("window=all-text,text={text}");
        let ask = ["record", "--model", "model", "--image", "image.png", "--max-new-tokens", "1", "--prompt", question];
        cli.ok(&[&ask[..], &["--policy", &policy, "--retain", "0.5", "--stages", "policy.00.window", "--out", &out]]
            .concat());
        aircache::golden::Bundle::open(Path::new(&out)).unwrap().i64("policy.00.window").unwrap().len()
    };
    let tail = |question: &str| rows(question, "after") - rows(question, "question");
    let usual = tail("What is it?");
    assert!(usual > 3);
    for question in ["assistant", "a", "im_end", "user"] {
        assert_eq!(tail(question), usual, "{question}");
    }
}
