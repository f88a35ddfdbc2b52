//! Dependencies: each has its line in `docs/dependencies.md`, a licence that is allowed there, and a Rust version that is no
//! newer than ours; `unsafe` stands in five files and says why.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn metadata() -> Value {
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = std::process::Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ours(metadata: &Value) -> &Value {
    metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "aircache").unwrap()
}

#[test]
fn every_dependency_has_its_line() {
    let metadata = metadata();
    let used: BTreeSet<String> = ours(&metadata)["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["name"].as_str().unwrap().to_string())
        .collect();
    let page = read("docs/dependencies.md");
    let mut told = BTreeSet::new();
    for line in page.lines().filter_map(|l| l.strip_prefix("- `")) {
        // The names stand before the verb: `a`, `b` and, in brackets, where.
        let names = line.split([' ']).map_while(|w| {
            let name = w.trim_matches([',', '`']);
            (w.ends_with('`') || w.ends_with("`,") || w.starts_with('(') || w.ends_with("),")).then_some(name)
        });
        told.extend(names.filter(|n| !n.starts_with('(')).map(str::to_string));
    }
    assert_eq!(used, told, "Cargo.toml and docs/dependencies.md");
}

/// Whether an SPDX expression can be met with what is allowed. A slash is what older crates write for `OR`.
fn allowed(expression: &str, all: &[&str]) -> bool {
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    let one = |text: &str| text.split(" OR ").any(|l| all.contains(&l.trim_matches(['(', ')', ' '])));
    expression.split(" AND ").all(one)
}

#[test]
fn licences_are_among_those_allowed() {
    let deny = read("deny.toml");
    let list = deny.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    let all: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let page = read("docs/dependencies.md");
    for licence in &all {
        assert!(page.contains(licence.split(' ').next().unwrap()), "{licence} is not on the page");
    }
    assert!(allowed("(MIT OR X) AND Zlib", &all) && !allowed("GPL-3.0", &all) && !allowed("MIT AND GPL-3.0", &all));
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for p in packages {
        let licence = p["license"].as_str().unwrap_or("none");
        assert!(allowed(licence, &all), "{} is under {licence}", p["name"]);
        let source = p["source"].as_str();
        let ours = p["name"] == "aircache" && source.is_none();
        let crates = source == Some("registry+https://github.com/rust-lang/crates.io-index");
        assert!(ours || crates, "{} comes from {source:?}", p["name"]);
    }
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let version = |v: &Value| -> Option<Vec<u32>> {
        let numbers: Vec<u32> = v.as_str()?.split('.').map(|n| n.parse().unwrap()).collect();
        Some([numbers, vec![0; 3]].concat()[..3].to_vec())
    };
    let metadata = metadata();
    let least = version(&ours(&metadata)["rust_version"]).expect("Cargo.toml says a rust-version");
    for p in metadata["packages"].as_array().unwrap() {
        let needs = version(&p["rust_version"]);
        assert!(needs.as_ref().is_none_or(|v| *v <= least), "{} needs {needs:?}, we say {least:?}", p["name"]);
    }
}

/// Every source file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

#[test]
fn unsafe_stands_in_five_files_and_says_why() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"deny\""));
    let mut found = BTreeSet::new();
    for path in sources(&root().join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            let opens = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            if !opens && !code.contains("allow(unsafe_code)") {
                continue;
            }
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_string();
            // A block says why it is sound, in the lines before it or, for many alike, above the first.
            if code.contains("unsafe {") {
                let near = lines[i.saturating_sub(12)..=i].iter().any(|l| l.contains("SAFETY"));
                assert!(near, "{name}:{}: no SAFETY line above", i + 1);
            }
            found.insert(name);
        }
    }
    let five =
        ["src/cli/os.rs", "src/kernel/simd.rs", "src/kernel/team.rs", "src/kernel/tiles/amx.rs", "src/weights/mmap.rs"];
    assert_eq!(found, five.map(String::from).into());
}
