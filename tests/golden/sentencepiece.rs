//! Text to pieces and back, equal to the Python package sentencepiece: `tests/golden/sentencepiece`.

use aircache::input::sentencepiece::Pieces;
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sentencepiece")
}

fn model(name: &str) -> Pieces {
    let file = format!("{name}.model");
    Pieces::read(&std::fs::read(folder().join(&file)).unwrap(), &file).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// E4.18–E4.21: rules, spaces, merges, scores, bytes, user-defined pieces, unknown text.
#[test]
fn every_text_is_cut_and_joined_as_the_package_does() {
    let cases: Value = serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let cases = cases.as_object().unwrap();
    assert_eq!(cases.len(), 8);
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let model = model(name);
        assert_eq!(model.len() as u64, case["pieces"].as_u64().unwrap(), "{name}");
        for pair in case["encode"].as_array().unwrap() {
            let (text, want) = (pair[0].as_str().unwrap(), ids(&pair[1]));
            let got = model.encode(text);
            if got != want {
                wrong.push(format!("{name}: {text:?} → {got:?}, not {want:?}"));
            }
        }
        for pair in case["decode"].as_array().unwrap() {
            let got = model.decode(&ids(&pair[0]));
            if got != pair[1].as_str().unwrap() {
                wrong.push(format!("{name}: {} → {got:?}, not {}", pair[0], pair[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
}

/// A truncated or changed file gives an error or another model, never a panic.
#[test]
fn broken_models_are_refused() {
    let bytes = std::fs::read(folder().join("bpe-bytes.model")).unwrap();
    for length in (0..bytes.len()).step_by(37) {
        if let Ok(cut) = Pieces::read(&bytes[..length], "cut") {
            cut.decode(&cut.encode("the red sign 你"));
        }
    }
    for message in ["", "x", "\u{0}\u{0}"] {
        let e = Pieces::read(message.as_bytes(), "t.model").unwrap_err();
        assert_eq!(e.at, "t.model");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(at in 0usize..6000, byte: u8, text in "\\PC{0,30}") {
        let mut bytes = std::fs::read(folder().join("bpe-rules.model")).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(model) = Pieces::read(&bytes, "changed") {
            model.decode(&model.encode(&text));
        }
    }

    /// D4.7: with byte fallback and without normalisation, decoding gives back the whole text.
    #[test]
    fn d4_7_bytes_lose_nothing(text in "\\PC{0,40}") {
        let model = model("bpe-no-prefix");
        prop_assume!(!text.contains('\u{2581}') && !text.starts_with(' '));
        prop_assert_eq!(model.decode(&model.encode(&text)), text);
    }
}
