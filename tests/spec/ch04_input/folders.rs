//! Checkpoint folders as people have them, compared with transformers.

use super::*;
use aircache::files::Files;
use aircache::input::Tokenizer;
use std::path::Path;

/// Writes the files of a case beside the base's tokenizer, as `scripts/make_folders.py` does.
fn folder(at: &Path, files: &serde_json::Map<String, Value>) {
    let mut whole = json("qwen2_vl/hub-bf16/model/tokenizer.json");
    let write = |name: &str, text: String| std::fs::write(at.join(name), text).unwrap();
    for (name, content) in files.iter().filter(|(_, content)| !content.is_null()) {
        write(name, content.to_string());
    }
    if files.contains_key("vocab.json") {
        write("vocab.json", whole["model"]["vocab"].to_string());
        let merge = |m: &Value| m.as_str().map_or_else(|| format!("{} {}", text(&m[0]), text(&m[1])), String::from);
        let merges: Vec<String> = whole["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
        write("merges.txt", merges.join("\n"));
    } else {
        whole["added_tokens"].as_array_mut().unwrap().truncate(3);
        write("tokenizer.json", whole.to_string());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn d4_9_tokens_of_small_files_are_added_as_transformers_adds_them() {
    let mut wrong = vec![];
    let cases = json("folders/tokens.json");
    for case in cases.as_array().unwrap() {
        let at = tempfile::tempdir().unwrap();
        folder(at.path(), case["files"].as_object().unwrap());
        let tokenizer = Tokenizer::load(&Files::Folder(at.path().into())).unwrap();
        for one in case["texts"].as_array().unwrap() {
            let got = tokenizer.encode(text(&one["text"])).unwrap();
            let back = tokenizer.decode(&got).unwrap();
            if got != ids(&one["ids"]) || back != text(&one["decoded"]) {
                wrong.push(format!("{}: {}: {got:?} {back:?}", case["name"], one));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cases.as_array().unwrap().len(), 15);
}
