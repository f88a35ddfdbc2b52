//! Sentences of causes. Each sentence of the code stands in the specification's table (T11.1) and each of the table in the
//! code; and a test makes `check` say it of a mistake, and not of a near miss.

use std::path::{Path, PathBuf};

/// Tests of sentences. They assert sentences by `says` or `told` alone, which demand the mistake and the near miss.
const TESTS: [&str; 7] = [
    "src/golden/causes/tests/mod.rs",
    "src/golden/causes/tests/attentions.rs",
    "src/golden/causes/tests/layers.rs",
    "src/golden/causes/tests/places.rs",
    "tests/spec/ch11_causes.rs",
    "tests/spec/ch11_kernels.rs",
    "tests/spec/ch11_bits.rs",
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

/// The words of a text, without the places of names and numbers.
fn words(text: &str) -> Vec<&str> {
    let plain = text
        .split('{')
        .enumerate()
        .map(|(i, part)| if i == 0 { part } else { part.split_once('}').map_or("", |p| p.1) });
    plain.flat_map(whole_words).collect()
}

fn whole_words(text: &str) -> Vec<&str> {
    let apart = |c: char| !(c.is_alphanumeric() || "./√₂_".contains(c));
    text.split(apart).filter(|w| w.len() > 3 && w.chars().any(char::is_alphabetic)).collect()
}

/// The rows of T11.1: sentences, and names that stand inside of sentences.
fn table() -> (Vec<String>, Vec<String>) {
    let spec = read("spec/11-words.md");
    let table = spec.split_once("| kind | sentences |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let (names, sentences): (Vec<&str>, _) = rows.partition(|row| row.starts_with("| names |"));
    let cells = |rows: Vec<&str>| {
        rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_string).collect::<Vec<String>>()
    };
    (cells(sentences), cells(names))
}

/// The code that causes are found by, without its comments and tests; of a kernel only what its suspects say.
fn code() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("src/golden/causes")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let causes = files.map(|path| std::fs::read_to_string(path).unwrap());
    let causes = causes.map(|source| source.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string());
    let kernels =
        ["mod", "fewer", "rows", "attention", "topk"].map(|name| read(&format!("src/golden/kernel/{name}.rs")));
    let said = |source: &String| {
        let inside = ["    fn suspects(", "    fn masked(", "    fn not_finite("].map(|start| (start, "\n    }\n"));
        let parts = inside
            .into_iter()
            .chain(["\nfn cause(", "\nfn narrow<", "\npub(super) fn suspects("].map(|start| (start, "\n}\n")));
        let parts = parts.flat_map(|(start, end)| source.split(start).skip(1).map(move |part| part.split(end)));
        parts.map(|mut part| part.next().unwrap().to_string()).collect::<Vec<String>>()
    };
    let all = causes.chain(kernels.iter().flat_map(said));
    let plain = |source: String| {
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| line.split(" // ").next().unwrap()).collect::<Vec<_>>().join("\n")
    };
    all.map(plain).collect()
}

#[test]
fn every_sentence_of_a_cause_has_a_test_and_a_near_miss() {
    let (sentences, _) = table();
    assert!(sentences.len() > 100, "{}", sentences.len());
    let tests = TESTS.map(read);
    for (path, test) in TESTS.iter().zip(&tests) {
        assert!(!test.contains(".contains(\""), "{path} asserts a sentence without a near miss: use `says`");
    }
    let untested = sentences.iter().filter(|s| !tests.iter().any(|test| texts(test).any(|text| has(text, s))));
    let untested: Vec<_> = untested.collect();
    assert!(untested.is_empty(), "no test makes `check` say: {untested:#?}");
}

#[test]
fn the_code_and_the_table_have_the_same_sentences() {
    let ((sentences, names), code) = (table(), code());
    let all = code.join("\n");
    let unsaid: Vec<_> = sentences.iter().filter(|s| !words(s).iter().all(|word| all.contains(word))).collect();
    assert!(unsaid.is_empty(), "the code does not say: {unsaid:#?}");
    let named: Vec<&str> = names.iter().flat_map(|name| words(name)).collect();
    let listed = |text: &str| {
        let own = words(text);
        let within = |sentence: &String| words(sentence).iter().all(|word| own.contains(word));
        let inside = |sentence: &String| own.iter().all(|word| words(sentence).contains(word) || named.contains(word));
        own.len() < 2 || sentences.iter().any(|s| !words(s).is_empty() && within(s) || inside(s))
    };
    let unlisted = code.iter().flat_map(|source| texts(source)).filter(|text| text.contains(' ') && !listed(text));
    let unlisted: Vec<_> = unlisted.collect();
    assert!(unlisted.is_empty(), "T11.1 does not list: {unlisted:#?}");
}
