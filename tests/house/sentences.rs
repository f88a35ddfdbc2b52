//! Sentences of causes: each that the specification lists (T11.1) is in the code, and a test makes `check` say it.

use std::path::{Path, PathBuf};

/// Tests that make `check` name a cause: each of their texts is what it has to say.
const TESTS: [&str; 5] = [
    "src/golden/causes/tests/mod.rs",
    "src/golden/causes/tests/attentions.rs",
    "src/golden/causes/tests/layers.rs",
    "tests/spec/ch11_words.rs",
    "tests/common/causes.rs", // read by ch11_words and by the suite of bugs
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The texts between quotation marks.
fn texts(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

/// Whether a text has the parts of a sentence that stand between numbers and names.
fn has(text: &str, sentence: &str) -> bool {
    sentence.split('…').map(str::trim).all(|part| text.contains(part))
}

#[test]
fn every_sentence_of_a_cause_has_a_test() {
    let spec = read("spec/11-words.md");
    let table = spec.split_once("| kind | sentences |").unwrap().1;
    let table = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let sentences: Vec<&str> = table.flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
    assert!(sentences.len() > 60, "{}", sentences.len());
    let tests: Vec<String> = TESTS.iter().map(|path| read(path)).collect();
    let folder = root().join("src/golden/causes");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let code = files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap());
    let code: String = code.chain([read("src/golden/kernel/rows.rs")]).collect();
    let untested = sentences.iter().filter(|s| !tests.iter().any(|test| texts(test).any(|text| has(text, s))));
    let untested: Vec<_> = untested.collect();
    assert!(untested.is_empty(), "no test makes `check` say: {untested:#?}");
    // A name or a number may stand inside of a sentence of the code, so that its words count.
    let words = |s: &str| s.split([' ', '…']).filter(|w| w.len() > 3).map(str::to_string).collect::<Vec<_>>();
    let unsaid: Vec<_> = sentences.iter().filter(|s| !words(s).iter().all(|word| code.contains(word))).collect();
    assert!(unsaid.is_empty(), "the code does not say: {unsaid:#?}");
}
