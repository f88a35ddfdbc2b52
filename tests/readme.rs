//! The README's commands do what it says: each is run as it stands there, but for those with a placeholder.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::Command;

/// The lines of the README's blocks of a language, joined where they end in a backslash.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = text.split("```").skip(1).step_by(2);
    let mut found = Vec::new();
    for block in &mut blocks {
        if let Some(body) = block.strip_prefix(&format!("{language}\n")) {
            found.push(body.replace("\\\n", " "));
        }
    }
    found
}

/// Runs a command line of the README in `folder`; gives its stdout.
fn run(line: &str, folder: &Path) -> String {
    let line = line.split(" #").next().unwrap().replace("cargo run --release -- ", "aircache ");
    let words = line.strip_prefix("aircache ").unwrap_or_else(|| panic!("{line}"));
    let words = words.split(' ').map(|w| w.trim_matches('\'')).filter(|w| !w.is_empty());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = words.map(|w| if w.starts_with("src/") { repository.join(w).display().to_string() } else { w.into() });
    let done = Command::new(env!("CARGO_BIN_EXE_aircache")).args(words).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn every_command_of_the_readme_runs() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for block in blocks(&text, "console") {
        let (command, output) = block.split_once('\n').unwrap();
        let command = command.strip_prefix("$ ").unwrap();
        if command.starts_with("cargo run") {
            assert_eq!(run(command, folder.path()), output, "{command}");
            ran += 1;
        }
    }
    for block in blocks(&text, "sh") {
        for line in block.lines().filter(|l| !["DIR", "FILE", "eval"].iter().any(|p| l.contains(p))) {
            // The one command whose input is the reader's own: a golden with queries and keys is such a file.
            let line = line.replace("yours.safetensors", "attention.safetensors");
            run(&line, folder.path());
            ran += 1;
        }
    }
    assert!(ran >= 7, "the README's commands were found");
}
