//! All parts together: the toys and the demo model, compared with transformers.

use super::*;
use aircache::family;
use aircache::files::Files;
use aircache::processor::Processor;

fn processor(files: &Files) -> aircache::Result<Processor> {
    Processor::load(files, &family::load(files)?)
}

#[test]
fn d4_4_every_toy_checkpoint_prepares_as_in_transformers() {
    for case in std::fs::read_dir(golden("llava")).unwrap() {
        let case = case.unwrap().path();
        let what = case.file_name().unwrap().to_string_lossy().into_owned();
        let about: Value = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
        let processor = processor(&Files::Folder(case.join("model"))).unwrap();
        let names = about["images"].as_array().unwrap();
        let images: Vec<Image> = names.iter().map(|n| Image::open(case.join(n.as_str().unwrap())).unwrap()).collect();
        let prompt = about["prompt"].as_str().unwrap();
        let prepared = processor.prepare(&images, prompt, about["system"].as_str()).unwrap();
        assert_eq!(prepared.prompt, about["rendered"].as_str().unwrap(), "{what}");
        ids::equals(&prepared, &std::fs::read(case.join("expected.safetensors")).unwrap(), &what);
    }
}

#[test]
fn d4_4_the_demo_model_prepares_as_in_transformers() {
    let processor = processor(&aircache::demo::files()).unwrap();
    for case in json("demo/cases.json").as_array().unwrap() {
        let name = case["image"].as_str().unwrap().trim_start_matches("samples/");
        let sample = aircache::demo::sample(name).unwrap();
        let image = Image::from_bytes(sample.png, name).unwrap();
        let prompt = case["question"].as_str().unwrap();
        let prepared = processor.prepare(&[image], prompt, case["system"].as_str()).unwrap();
        assert_eq!(hash(&ids::padded(&prepared.images)), case["pixels_sha256"].as_str().unwrap(), "{name}");
        ids::equals(&prepared, &std::fs::read(golden("demo").join(case["file"].as_str().unwrap())).unwrap(), name);
    }
}

#[test]
fn d4_4_placeholders_in_the_prompt_place_the_images() {
    let processor = processor(&aircache::demo::files()).unwrap();
    let image = || Image::from_rgb(10, 10, vec![9; 300]).unwrap();
    let render = |n, prompt| processor.render(n, prompt, None).unwrap();
    assert_eq!(render(1, "Hi"), "<|im_start|>user <image>\nHi<|im_end|><|im_start|>assistant\n");
    assert_eq!(render(1, "Hi <image>!"), "<|im_start|>user \nHi <image>!<|im_end|><|im_start|>assistant\n");
    let two = processor.prepare(&[image(), image()], "<image> or <image>?", None).unwrap();
    assert_eq!(two.roles.visual().len(), 130);
    let e = processor.prepare(&[image(), image()], "only <image>", None).unwrap_err().to_string();
    assert!(e.contains("2 placeholders") && e.contains("found 1"), "{e}");
    let e = processor.prepare(&[], "<image>?", None).unwrap_err().to_string();
    assert!(e.contains("0 placeholders") && e.contains("found 1"), "{e}");
    let none = processor.prepare(&[], "Hello", Some("Be brief.")).unwrap();
    assert!(none.roles.visual().is_empty() && none.preprocess.is_empty());
    assert_eq!(two.preprocess, "torchvision");
    let long = processor.prepare(&[], &"word ".repeat(5000), None).unwrap_err().to_string();
    assert!(long.contains("4096"), "{long}");
}

#[test]
fn d4_4_extreme_images_are_prepared_or_refused() {
    let processor = processor(&aircache::demo::files()).unwrap();
    for (h, w) in [(1, 1), (1, 2000), (2000, 1), (3, 5), (1, 100_000)] {
        let image = Image::from_rgb(h, w, vec![200; h * w * 3]).unwrap();
        let prepared = processor.prepare(&[image], "?", None).unwrap();
        assert_eq!(prepared.images[0].packing.rows.len(), prepared.roles.visual().len());
    }
    let wide = || Image::from_rgb(1, 100_000, vec![200; 300_000]).unwrap();
    assert!(processor.prepare(&[wide(), wide()], "?", None).unwrap_err().to_string().contains("1 × 100000"));
}

#[test]
fn d4_4_missing_and_broken_files_are_named() {
    let fail = |changes: &[(&str, &str)]| {
        let (_dir, files) = settings::folder(changes);
        processor(&files).unwrap_err().to_string()
    };
    let e = fail(&[("tokenizer.json", "")]);
    assert!(e.contains("tokenizer.json") && e.contains("save_pretrained"), "{e}");
    assert!(fail(&[("tokenizer.json", "{")]).contains("tokenizer.json"));
    assert!(fail(&[("chat_template.jinja", "{% if %}")]).contains("chat_template.jinja"));
    let e = fail(&[("chat_template.jinja", ""), ("tokenizer_config.json", "{}")]);
    assert!(e.contains("chat template"), "{e}");
    let e = fail(&[("tokenizer_config.json", r#"{"image_token": "<picture>"}"#)]);
    assert!(e.contains("<picture>") && e.contains("489"), "{e}");
}

#[test]
fn a4_3_a_template_beside_the_tokenizer_is_taken() {
    let (_dir, files) = settings::folder(&[
        ("chat_template.jinja", ""),
        ("tokenizer_config.json", r#"{"chat_template": "{{ messages[0].content[0].text }}"}"#),
    ]);
    assert_eq!(processor(&files).unwrap().render(0, "x", None).unwrap(), "x");
}

#[test]
fn a4_4_a_placeholder_without_an_image_is_an_error() {
    let error = processor(&aircache::demo::files()).unwrap().prepare(&[], "<image>?", None).unwrap_err();
    assert!(error.to_string().contains("0 placeholders <image>"), "{error}");
}

#[test]
fn t4_5_templates_are_found_in_every_place() {
    let found = |changes: &[(&str, &str)]| {
        let (_dir, files) = settings::folder(changes);
        processor(&files).unwrap().render(0, "x", None).unwrap()
    };
    let json = ("chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(found(&[json]), "json");
    assert_eq!(found(&[("chat_template.jinja", "jinja")]), "jinja");
    let listed = r#"{"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "listed"}]}"#;
    assert_eq!(found(&[("chat_template.jinja", ""), ("tokenizer_config.json", listed)]), "listed");
}

#[test]
fn e4_11_streaming_never_cuts_a_character() {
    let processor = processor(&aircache::demo::files()).unwrap();
    let tokenizer = processor.tokenizer();
    let ids = tokenizer.encode("Grüße, 你好 🙂!").unwrap();
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
    pieces.extend(stream.finish());
    assert!(pieces.iter().all(|p| !p.contains('\u{FFFD}')), "{pieces:?}");
    assert_eq!(pieces.concat(), "Grüße, 你好 🙂!");
}

/// Bytes that cannot begin a character are output and not held back; otherwise a model that repeats such a byte would
/// give no output.
#[test]
fn e4_11_bytes_of_no_character_are_said() {
    let processor = processor(&aircache::demo::files()).unwrap();
    let tokenizer = processor.tokenizer();
    let bytes = tokenizer.encode("🙂").unwrap();
    let last = *bytes.last().unwrap();
    assert_eq!(tokenizer.decode(&[last; 2]).unwrap(), "\u{FFFD}\u{FFFD}");
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<Option<String>> = (0..5).map(|_| stream.push(last)).collect();
    pieces.push(stream.finish());
    let said = |n: usize| (n > 0).then(|| "\u{FFFD}".repeat(n));
    assert_eq!(pieces, [0, 0, 0, 1, 1, 3].map(said));
}

proptest! {
    #[test]
    fn e4_11_pieces_concatenate_to_the_whole(ids in prop::collection::vec(0u32..500, 0..40)) {
        let processor = processor(&aircache::demo::files()).unwrap();
        let tokenizer = processor.tokenizer();
        let mut stream = tokenizer.stream();
        let mut said: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        said.extend(stream.finish());
        prop_assert_eq!(said, tokenizer.decode(&ids).unwrap());
    }

    #[test]
    fn d4_3_text_survives_the_round_trip(text in "[ -~é你]{0,40}") {
        let processor = processor(&aircache::demo::files()).unwrap();
        let tokenizer = processor.tokenizer();
        let text = text.replace("<", "");
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
    }
}

#[test]
fn d4_3_broken_tokenizers_never_panic() {
    let Files::Embedded(files) = aircache::demo::files() else { panic!() };
    let json = files.iter().find(|(name, _)| *name == "tokenizer.json").unwrap().1;
    // The file is cut, or one byte is replaced: at places in every structure before the vocabulary, and at a sample of
    // later places.
    for at in (0..2600).step_by(13).chain((2600..json.len()).step_by(997)) {
        for broken in [json[..at].to_vec(), [&json[..at], b"0", &json[at + 1..]].concat()] {
            if let Ok(tokenizer) = aircache::input::Tokenizer::from_bytes(&broken, "t".into(), vec![]) {
                let _ = tokenizer.encode("<|im_start|>user <image>").map(|ids| tokenizer.decode(&ids));
            }
        }
    }
}
