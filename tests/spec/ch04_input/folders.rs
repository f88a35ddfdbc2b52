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

/// D4.12, D4.13, D4.14: raw prompts, conversations and limits.
#[test]
fn d4_13_d4_14_d4_12_prompts_and_turns_have_the_ids_of_transformers() {
    use aircache::family;
    use aircache::input::messages::Messages;
    use aircache::input::{Limits, Prepared};
    use aircache::processor::Processor;
    let cases = json("folders/asked.json");
    for case in cases.as_array().unwrap() {
        let files = Files::Folder(golden(text(&case["model"])).join("model"));
        let mut processor = Processor::load(&files, &family::load(&files).unwrap()).unwrap();
        if let Some(limits) = case["limits"].as_object() {
            let of = |key: &str| limits.get(key).and_then(Value::as_u64).map(|n| n as usize);
            let [min_pixels, max_pixels, max_tiles] = ["min_pixels", "max_pixels", "max_tiles"].map(of);
            processor = processor.with_limits(Limits { min_pixels, max_pixels, max_tiles }).unwrap();
        }
        let paths: Vec<_> = case["images"].as_array().unwrap().iter().map(|file| golden(text(file))).collect();
        let prepared: Prepared = match case["raw"].as_str() {
            Some(raw) => processor.prepare_raw(&Image::all(&paths).unwrap(), raw).unwrap(),
            None => {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), case["messages"].to_string()).unwrap();
                let messages = Messages::read(file.path()).unwrap();
                processor.prepare_turns(&messages.images(&paths).unwrap(), &messages.turns()).unwrap()
            }
        };
        assert_eq!(prepared.prompt, text(&case["rendered"]));
        assert_eq!(prepared.ids, ids(&case["ids"]), "{}", case["rendered"]);
        assert_eq!(
            prepared.preprocess.contains("pixels") || prepared.preprocess.contains("tiles"),
            case["limits"].is_object()
        );
    }
    assert_eq!(cases.as_array().unwrap().len(), 13);
}

/// D4.14: the forms of transformers and of OpenAI's clients, and messages about others.
#[test]
fn d4_14_pictures_stand_beside_the_file_or_in_it() {
    use aircache::input::messages::Messages;
    use base64::{Engine, prelude::BASE64_STANDARD};
    let folder = tempfile::tempdir().unwrap();
    let png = std::fs::read(golden("qwen2_vl/hub-bf16/image0.png")).unwrap();
    std::fs::write(folder.path().join("a.png"), &png).unwrap();
    let data = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&png));
    let read = |content: Value| {
        let path = folder.path().join("m.json");
        let list = serde_json::json!({"messages": [{"role": "user", "content": content}]});
        std::fs::write(&path, format!("\u{feff}{list}")).unwrap();
        Messages::read(&path).map_err(|e| e.to_string())
    };
    for part in [
        serde_json::json!({"type": "image", "path": "a.png"}),
        serde_json::json!({"type": "image", "image": "a.png"}),
        serde_json::json!({"type": "image", "base64": BASE64_STANDARD.encode(&png)}),
        serde_json::json!({"type": "image_url", "image_url": {"url": data}}),
        serde_json::json!({"type": "image_url", "image_url": {"url": "a.png"}}),
    ] {
        let messages = read(serde_json::json!([{"type": "text", "text": "What? "}, part])).unwrap();
        assert_eq!(messages.images(&[]).unwrap()[0].size(), Image::from_bytes(&png, "a").unwrap().size());
        assert_eq!(messages.question(), "What? <image>");
    }
    assert!(read(serde_json::json!("Hello")).unwrap().images(&[]).unwrap().is_empty());
    let open = read(serde_json::json!([{"type": "image"}])).unwrap();
    assert!(open.images(&[]).unwrap_err().to_string().contains("1 pictures of the caller"));
    for (content, word) in [
        (serde_json::json!([{"type": "image", "url": "https://x.org/a.png"}]), "download the picture first"),
        (serde_json::json!([{"type": "audio"}]), "message 1: part 1: type"),
        (serde_json::json!(3), "message 1: content"),
    ] {
        assert!(read(content.clone()).unwrap_err().contains(word), "{content}");
    }
}
