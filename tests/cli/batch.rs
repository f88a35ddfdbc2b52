//! `run --batch`: a file of questions answered as `run` answers each, killed and gone on with; completions and man pages.

use crate::common::cli;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircache"));
    command.args(args);
    command
}

fn aircache(args: &[&str]) -> String {
    let done = command(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Image, question, system turn.
type Asked = (String, String, Option<String>);

/// Open questions on the bundled images.
fn questions(count: usize) -> (TempDir, PathBuf, Vec<Asked>) {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo");
    let text = std::fs::read_to_string(demo.join("questions.jsonl")).unwrap();
    let asked: Vec<_> = text
        .lines()
        .step_by(17)
        .take(count)
        .map(|line| {
            let q: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| q[key].as_str().map(String::from);
            let image = demo.join(text("image").unwrap()).display().to_string();
            (image, text("question").unwrap(), text("system"))
        })
        .collect();
    let line =
        |(image, question, system): &Asked| json!({"image": image, "question": question, "system": system}).to_string();
    let data = folder.path().join("questions.jsonl");
    std::fs::write(&data, asked.iter().map(line).collect::<Vec<_>>().join("\n\n")).unwrap();
    (folder, data, asked)
}

#[test]
fn a_file_is_answered_as_its_questions_one_by_one() {
    let (folder, data, asked) = questions(7);
    let data = data.to_str().unwrap();
    for how in
        [&["--retain", "0.2"][..], &["--policy", "snapkv", "--retain", "0.5", "--temperature", "0.8", "--seed", "4"]]
    {
        let how = [how, &["--quiet", "--max-new-tokens", "12"]].concat();
        let want: Vec<Value> = asked
            .iter()
            .enumerate()
            .map(|(i, (image, question, system))| {
                let mut args = [&["run", "--image", image, "--prompt", question][..], &how].concat();
                if let Some(system) = system {
                    args.extend(["--system", system]);
                }
                let text = aircache(&args);
                json!({"n": i + 1, "question": question, "text": text.strip_suffix('\n').unwrap()})
            })
            .collect();
        for size in ["1", "3", "8"] {
            let out = folder.path().join(format!("{size}.jsonl"));
            let args = [&["run", "--batch", data, "--batch-size", size, "--out", out.to_str().unwrap()][..], &how];
            let printed = aircache(&args.concat());
            let got: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(got, want, "{size} side by side, {how:?}");
            assert_eq!(std::fs::read_to_string(&out).unwrap(), printed);
            std::fs::remove_file(out.with_extension("journal.jsonl")).unwrap();
        }
    }
}

#[test]
fn a_killed_file_is_gone_on_with() {
    let (folder, data, _) = questions(12);
    let at = |name: &str| folder.path().join(name);
    let args = |out: &Path| {
        let args = ["run", "--batch", data.to_str().unwrap(), "--batch-size", "2", "--retain", "0.3", "--out"];
        [&args[..], &[out.to_str().unwrap()]].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let run = |out: &Path| Command::new(env!("CARGO_BIN_EXE_aircache")).args(args(out)).output().unwrap();
    let whole = run(&at("whole.jsonl"));
    assert!(whole.status.success());
    let killed = at("killed.jsonl");
    let again = || command(&args(&killed).iter().map(String::as_str).collect::<Vec<_>>());
    cli::killed_until_it_ends(again, Duration::from_millis(80));
    assert_eq!(std::fs::read(at("whole.jsonl")).unwrap(), std::fs::read(at("killed.jsonl")).unwrap());
    // All is answered: the same command prints it again and computes nothing.
    let again = run(&at("killed.jsonl"));
    assert_eq!(again.stdout, whole.stdout);
    assert!(String::from_utf8_lossy(&again.stderr).contains("0 questions"));
    // Another retention is another file's business.
    let other: Vec<String> =
        args(&at("killed.jsonl")).iter().map(|a| if a == "0.3" { "0.4".into() } else { a.clone() }).collect();
    let refused = Command::new(env!("CARGO_BIN_EXE_aircache")).args(other).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(refused.status.code() == Some(2) && told.contains("killed.journal.jsonl: cells"), "{told}");
}

fn refused(args: &[&str]) -> String {
    let Output { status, stderr, stdout } = command(args).output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(2) && told.lines().count() == 1 && stdout.is_empty(), "{args:?}: {told}");
    told
}

#[test]
fn bad_files_are_one_line_and_exit_2() {
    let (folder, data, _) = questions(2);
    let data = data.to_str().unwrap();
    let broken = folder.path().join("broken.jsonl");
    std::fs::write(&broken, "{\"image\": \"questions.jsonl\", \"question\": \"?\"}\n").unwrap();
    let told = refused(&["run", "--quiet", "--batch", broken.to_str().unwrap()]);
    assert!(told.contains("broken.jsonl: question 1"), "{told}");
    assert!(refused(&["run", "--batch", data, "--batch-size", "0"]).contains("--batch-size"));
    assert!(refused(&["run", "--batch", data, "--prompt", "?"]).contains("--prompt"));
    assert!(refused(&["run", "--batch", "nowhere.jsonl"]).contains("nowhere.jsonl"));
    assert!(refused(&["run", "--batch", data, "--out", "nowhere/out.jsonl"]).contains("no such folder"));
}

const COMMANDS: [&str; 10] =
    ["run", "record", "check", "inspect", "compress", "policies", "eval", "explain", "completions", "man"];

#[test]
fn completions_and_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = aircache(&["completions", shell]);
        assert!(COMMANDS.iter().all(|command| text.contains(command)) && text.contains("retain-tokens"), "{shell}");
    }
    assert!(refused(&["completions", "csh"]).contains("csh"));
    let page = aircache(&["man"]);
    assert!(page.starts_with(".ie") || page.contains(".TH aircache"), "{page}");
    assert!(COMMANDS.iter().all(|command| page.contains(&format!("aircache\\-{command}(1)"))), "{page}");
    let run = aircache(&["man", "run"]);
    assert!(run.contains("retain\\-tokens") && run.contains("Examples:"), "{run}");
    assert!(refused(&["man", "walk"]).contains("expected one of run, record"));
    let folder = tempfile::tempdir().unwrap();
    aircache(&["man", "--quiet", "--out", folder.path().to_str().unwrap()]);
    for command in COMMANDS {
        let page = std::fs::read_to_string(folder.path().join(format!("aircache-{command}.1"))).unwrap();
        assert_eq!(page, aircache(&["man", command]));
    }
}

/// A command without an example in its help leaves people to guess.
#[test]
fn every_help_has_an_example() {
    for command in COMMANDS {
        let help = aircache(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("aircache {command}")) || command == "policies",
            "{help}"
        );
    }
    assert!(aircache(&[]).contains("aircache run --retain 0.3"));
}
