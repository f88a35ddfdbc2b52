//! `eval` as its users meet it: killed and resumed, in shards, fed with bad questions.

use crate::common::cli;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// A folder with a file of `count` questions on the sample images.
fn questions(count: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo");
    let text = std::fs::read_to_string(source.join("questions.jsonl")).unwrap();
    let lines: Vec<String> = text
        .lines()
        .step_by(19)
        .take(count)
        .map(|line| {
            let mut q: serde_json::Value = serde_json::from_str(line).unwrap();
            q["image"] = source.join(q["image"].as_str().unwrap()).display().to_string().into();
            q.to_string()
        })
        .collect();
    assert_eq!(lines.len(), count);
    let data = folder.path().join("questions.jsonl");
    std::fs::write(&data, lines.join("\n")).unwrap();
    (folder, data)
}

fn command(data: &Path, out: Option<&Path>, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircache"));
    command.args(["eval", "--policies", "full,aircache,h2o,random", "--retain", "0.3,0.1", "--max-new-tokens", "16"]);
    command.arg("--data").arg(data).args(more);
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command
}

fn eval(data: &Path, out: Option<&Path>, more: &[&str]) -> Output {
    let done = command(data, out, more).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// The figures and the plot.
fn written(out: &Path) -> (Vec<u8>, Vec<u8>) {
    (std::fs::read(out).unwrap(), std::fs::read(out.with_extension("svg")).unwrap())
}

#[test]
fn a_run_killed_again_and_again_ends_like_an_undisturbed_one() {
    let (folder, data) = questions(9);
    let whole = folder.path().join("whole.json");
    eval(&data, Some(&whole), &[]);
    let out = folder.path().join("killed.json");
    let kills = cli::killed_until_it_ends(|| command(&data, Some(&out), &[]), Duration::from_millis(100));
    assert_eq!(written(&whole), written(&out), "after {kills} kills");
}

#[test]
fn a_torn_line_is_cut_off() {
    let (folder, data) = questions(3);
    let out = folder.path().join("out.json");
    eval(&data, Some(&out), &[]);
    let before = written(&out);
    let journal = folder.path().join("out.journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    for torn in [text.len() - 1, text.len() - 9, text.find('\n').unwrap() + 5, 7, 0] {
        std::fs::write(&journal, &text[..torn]).unwrap();
        eval(&data, Some(&out), &[]);
        assert_eq!(written(&out), before, "torn at {torn}");
        assert_eq!(std::fs::read_to_string(&journal).unwrap(), text, "torn at {torn}");
    }
}

#[test]
fn merged_shards_give_the_bytes_of_one_run_whatever_the_threads() {
    let (folder, data) = questions(7);
    let at = |name: &str| folder.path().join(name);
    let stdout = eval(&data, Some(&at("whole.json")), &["--json", "--threads", "1"]).stdout;
    eval(&data, Some(&at("a.json")), &["--shard", "1/2", "--threads", "2"]);
    eval(&data, Some(&at("b.json")), &["--shard", "2/2"]);
    let merge = format!("{},{}", at("b.json").display(), at("a.json").display());
    eval(&data, Some(&at("merged.json")), &["--merge", &merge]);
    assert_eq!(written(&at("whole.json")), written(&at("merged.json")));
    assert_eq!(stdout, written(&at("whole.json")).0);
    let figures: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    let cells = figures["cells"].as_array().unwrap();
    let of = |i: usize| (cells[i]["policy"].as_str().unwrap(), cells[i]["retain"].as_f64().unwrap());
    assert_eq!((cells.len(), of(0), of(1), of(6)), (7, ("full", 1.0), ("aircache", 0.3), ("random", 0.1)));
    for cell in cells {
        assert_eq!(cell["n"], 7);
        let share = cell["exact_match"].as_f64().unwrap();
        let [low, high] = [0, 1].map(|i| cell["ci95"][i].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&low) && low <= share && share <= high && high <= 1.0);
    }
    // A shard alone is part of the whole.
    let shard: serde_json::Value = serde_json::from_slice(&written(&at("a.json")).0).unwrap();
    assert_eq!(shard["cells"][0]["n"], 4);
}

#[test]
fn without_out_nothing_is_written() {
    let (folder, data) = questions(1);
    let table = eval(&data, None, &[]).stdout;
    assert!(String::from_utf8(table).unwrap().starts_with("policy "));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bad_input_is_one_line_and_exit_2() {
    let (folder, data) = questions(1);
    let out = folder.path().join("out.json");
    eval(&data, Some(&out), &[]);
    let line = std::fs::read_to_string(&data).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let other = file("other.jsonl", &format!("{line}\n{line}"));
    let bad = file("bad.jsonl", &format!("{line}\n{{\"question\": 1}}"));
    let gone = file("gone.jsonl", r#"{"image": "nowhere.png", "question": "?", "answer": "x"}"#);
    let none = file("none.jsonl", "\n\n");
    let unaccepted = file("unaccepted.jsonl", &line.replace("\"answer\":\"", "\"answer\":[],\"was\":\""));
    let picture = file("picture.jsonl", r#"{"image": "bad.jsonl", "question": "?", "answer": "x"}"#);
    let cases: [(&Path, Option<&Path>, &[&str], &str); 11] = [
        (&other, Some(&out), &[], "out.journal.jsonl: data: expected"),
        (&bad, None, &[], "bad.jsonl: line 2"),
        (&gone, None, &[], "gone.jsonl: line 1: image"),
        (&none, None, &[], "none.jsonl"),
        (&unaccepted, None, &[], "unaccepted.jsonl: line 1: answer"),
        (&picture, None, &[], "question 1"),
        (Path::new("nowhere.jsonl"), None, &[], "nowhere.jsonl"),
        (&data, None, &["--shard", "0/2"], "1 <= i <= n"),
        (&data, None, &["--merge", "nowhere.json"], "nowhere.journal.jsonl"),
        (&data, None, &["--precision", "f8"], "f8"),
        (&data, Some(Path::new("/nowhere/out.json")), &[], "/nowhere/out.json"),
    ];
    for (data, out, more, told) in cases {
        let done = command(data, out, more).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(told) && said.lines().count() == 1, "{told}: {said}");
    }
    for (option, value, told) in
        [("--policies", "airache", "airache"), ("--retain", "0.5,0", "retain"), ("--retain", "2", "retain")]
    {
        let mut bad = Command::new(env!("CARGO_BIN_EXE_aircache"));
        let done = bad.args(["eval", option, value, "--data"]).arg(&data).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(told) && said.lines().count() == 1, "{said}");
    }
}
