//! What goes wrong around the binary: disks that are full, signals at any moment, files that are cut short while mapped,
//! too little memory. Each ends with the exit code of the contract and leaves no partial file.

use crate::common::cli::{Cli, fails, fails_as, toy};
use aircache::golden::Bundle;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RECORD: [&str; 6] = ["record", "--quiet", "--retain", "0.3", "--out", "f"];

/// The binary, started by a shell that first does something to itself.
fn after(cli: &Cli, first: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_aircache")]);
    command.args(args).current_dir(cli.folder.path()).stdin(Stdio::null());
    command
}

#[test]
fn a_full_disk_leaves_nothing() {
    let cli = Cli::new();
    // Files may have 64 blocks: what is written past that fails as on a full disk, with and without the signal's default.
    for first in ["ulimit -f 64; trap '' XFSZ", "ulimit -f 64"] {
        fails_as(&cli, &mut after(&cli, first, &RECORD), &RECORD, &["f: expected", "written"]);
        let save = ["run", "--save-samples", "folder"];
        let output = after(&cli, "ulimit -f 1", &save).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!cli.path("folder").exists(), "the folder was made for what could not be written");
    }
    let run = ["run", "--quiet", "--max-new-tokens", "4"];
    for args in [&run[..], &["policies"], &["inspect", "--quiet"], &["run", "--list-samples"]] {
        let mut command = cli.command(args);
        command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        fails_as(&cli, &mut command, args, &["stdout", "No space left"]);
    }
}

#[test]
fn folders_that_take_no_files() {
    let cli = Cli::new();
    for folder in ["/sys", "/proc", "/sys/kernel"] {
        let out = format!("{folder}/aircache-test");
        fails(&cli, &["record", "--quiet", "--retain", "0.3", "--out", &out], &[&out]);
        fails(&cli, &["run", "--quiet", "--max-new-tokens", "1", "--save-samples", &out], &[&out]);
    }
}

/// Whatever is at `f` is a whole bundle; nothing else is there, but for a temporary file where `leftover` says so.
fn whole_or_nothing(cli: &Cli, leftover: bool, when: &str) {
    for name in cli.names() {
        if leftover && name.starts_with(".f.") && name.ends_with(".tmp") {
            std::fs::remove_file(cli.path(&name)).unwrap();
            continue;
        }
        assert_eq!(name, "f", "{when}");
        let whole = Bundle::open(&cli.path("f")).unwrap();
        assert!(whole.get("output.ids").is_some(), "{when}");
        std::fs::remove_file(cli.path("f")).unwrap();
    }
}

/// Milliseconds after which a recording of the demo model is interrupted: from before its first line to after its end.
fn moments() -> impl Iterator<Item = u64> {
    let mut at = 1u64;
    std::iter::from_fn(move || {
        at = at * 3 / 2 + 1;
        (at < 3000).then_some(at)
    })
}

#[test]
fn signals_at_any_moment_leave_no_partial_file() {
    let cli = Cli::new();
    for (name, code) in [("INT", Some(130)), ("TERM", Some(143)), ("HUP", Some(129)), ("KILL", None)] {
        for ms in moments() {
            let mut child = cli.command(&RECORD).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(ms));
            let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).stderr(Stdio::null()).status();
            assert!(sent.unwrap().success() || child.try_wait().unwrap().is_some());
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let when = format!("{name} after {ms} ms: {stderr}");
            // Before the handler stands, the signal itself ends the process.
            let early = output.status.code().is_none() && ms < 100;
            assert!(
                output.status.code() == code || output.status.code() == Some(0) || early,
                "{when}: {:?}",
                output.status
            );
            assert_eq!(stderr, "", "{when}");
            whole_or_nothing(&cli, name == "KILL", &when);
            if output.status.code() == Some(0) {
                break; // it was done before the signal came, and would be ever after
            }
        }
    }
}

/// What is begun to outlive its terminal, as by `nohup`, does.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let cli = Cli::new();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aircache")]).args(RECORD);
    let mut child = command.current_dir(cli.folder.path()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    Command::new("kill").args(["-s", "HUP", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A run that writes for ever, of which the first word has been read.
fn endless(cli: &Cli) -> std::process::Child {
    let args = ["run", "--quiet", "--model", "model", "--image", "image.png", "--prompt", "?", "--ignore-eos"];
    let mut child = cli.command(&[&args[..], &["--max-new-tokens", "1000000"]].concat());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    child
}

#[test]
fn weights_that_are_cut_short_while_mapped_are_an_error() {
    let cli = Cli::new();
    let weights = toy(&cli).join("model.safetensors");
    let child = endless(&cli);
    std::fs::File::options().write(true).open(&weights).unwrap().set_len(0).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("model.safetensors: expected a file that does not change") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn weights_that_vanish_while_mapped_are_still_there() {
    let cli = Cli::new();
    let weights = toy(&cli).join("model.safetensors");
    let mut child = endless(&cli);
    std::fs::remove_file(weights).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn too_little_memory_is_forecast() {
    let cli = Cli::new();
    toy(&cli);
    let ask = ["--quiet", "--model", "model", "--image", "image.png", "--prompt", "?", "--out", "f"];
    for command in ["run", "record"] {
        let args = [&[command][..], &ask].concat();
        let small = |memory: &str, words: &[&str]| {
            fails_as(&cli, cli.command(&args).env("AIRCACHE_MEMORY", memory), &args, words);
        };
        small("20000", &["model: expected", "of free memory, found 0.0 MB", "AIRCACHE_MEMORY=1GB"]);
        small("much", &["AIRCACHE_MEMORY", "12GB", "much"]);
    }
    let output = cli.command(&["run", "--quiet", "--max-new-tokens", "1"]).env("AIRCACHE_MEMORY", "1GB").output();
    assert_eq!(output.unwrap().status.code(), Some(0));
}

#[test]
fn a_reader_that_leaves_ends_a_run_quietly() {
    let cli = Cli::new();
    toy(&cli);
    let start = Instant::now();
    let mut child = endless(&cli);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    assert!(start.elapsed() < Duration::from_secs(20));
}
