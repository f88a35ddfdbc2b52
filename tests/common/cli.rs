//! Runs the binary in a test, and makes checkpoints that are broken on purpose.

use aircache::golden::Bundle;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The binary, run in its own empty folder.
pub struct Cli {
    pub folder: tempfile::TempDir,
}

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

impl Cli {
    pub fn new() -> Self {
        Cli { folder: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aircache"));
        command.current_dir(self.folder.path()).args(args).env_remove("AIRCACHE_ISA").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; returns its stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// The names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.folder.path()).unwrap();
        let mut all: Vec<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs a command that must fail: exit code 2, one line on stderr that contains `words`, an empty stdout and no new
/// file.
#[track_caller]
pub fn fails(cli: &Cli, args: &[&str], words: &[&str]) {
    fails_as(cli, &mut cli.command(args), args, words);
}

#[track_caller]
pub fn fails_as(cli: &Cli, command: &mut Command, args: &[&str], words: &[&str]) {
    let before = cli.names();
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.starts_with("aircache: ") && stderr.ends_with('\n'), "{args:?}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.len() < 3000, "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: {word:?} is not in {stderr}");
    }
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(cli.names(), before, "{args:?} left a file");
}

/// Runs a command again and again until it ends by itself. Each run gets a little more time and is killed at the end of
/// that time, so the kills fall anywhere between start and end. Returns the number of kills.
pub fn killed_until_it_ends(mut command: impl FnMut() -> Command, step: Duration) -> u32 {
    for kills in 0.. {
        let mut child = command().spawn().unwrap();
        std::thread::sleep(step * (kills + 1));
        if child.try_wait().unwrap().is_some() {
            assert!(kills > 0, "the run was never caught alive");
            return kills;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    unreachable!("it never ended")
}

/// A copy of a toy checkpoint at `model` in the folder, and its image at `image.png`.
pub fn toy(cli: &Cli) -> PathBuf {
    toy_of(cli, "llava/wide")
}

/// As [`toy`], for any case: `qwen2_vl/hub-bf16`.
pub fn toy_of(cli: &Cli, case: &str) -> PathBuf {
    let (from, to) = (golden().join(case), cli.path("model"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from.join("model")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    std::fs::copy(from.join("image0.png"), cli.path("image.png")).unwrap();
    to
}

/// Changes a JSON file.
pub fn edit(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(json.as_object_mut().unwrap());
    std::fs::write(path, json.to_string()).unwrap();
}

/// Changes the header and the data of a safetensors file.
pub fn edit_weights(path: &Path, change: impl FnOnce(&mut Map<String, Value>, &mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut head: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes.split_off(8 + length);
    change(head.as_object_mut().unwrap(), &mut data);
    let head = head.to_string();
    let mut out = (head.len() as u64).to_le_bytes().to_vec();
    out.extend(head.bytes());
    out.extend(data);
    std::fs::write(path, out).unwrap();
}

/// A PNG file of a hundred bytes whose header claims `side` × `side` pixels.
pub fn claiming_png(side: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        png.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        png.extend(&body);
        png.extend(crc(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0, 0, 0, 1, 0, 1]);
    chunk(b"IEND", &[]);
    png
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}

/// Runs `run` at every precision and under every policy, then `record`, `check` in three ways, and `compress`. `ask`
/// has the options of the input; visual: the number of rows that are not text. Returns the golden.
pub fn answers_records_and_checks(cli: &Cli, ask: &[&str], family: &str, visual: usize) -> Bundle {
    let with = |command: &[&str], more: &[&str]| cli.ok(&[command, ask, more].concat());
    let short = ["--max-new-tokens", "4", "--ignore-eos"];
    for precision in ["truth", "fast", "bf16", "f16"] {
        let run = ["run", "--json", "--precision", precision, "--retain", "0.5"];
        let r = cli.json(&[&run[..], ask, &short].concat());
        let got = (r["family"].as_str(), r["visual_tokens"].as_u64(), r["new_tokens"].as_u64());
        assert_eq!(got, (Some(family), Some(visual as u64), Some(4)), "{precision}");
    }
    for preset in aircache::policy::presets() {
        // A toy may have two layers, and no class token.
        let name = match preset.policy.prune.rater() {
            Some(aircache::policy::Rater::Class) => "full,prune=received",
            None if preset.policy.prunes() => "full,prune=50%",
            _ => preset.name,
        };
        with(&["run", "--policy", name, "--retain", "0.5"], &short);
    }
    let record = ["--max-new-tokens", "3", "--retain", "0.3", "--out"];
    with(&["record"], &[&record[..], &["golden"]].concat());
    with(&["record", "--precision", "bf16"], &[&record[..], &["candidate"]].concat());
    let b = Bundle::open(&cli.path("golden")).unwrap();
    let shape = |name: &str| b.stage(name).unwrap().shape.to_vec();
    assert_eq!((shape("input.sizes"), shape("projector.out")[0]), (vec![1, 2], visual));
    cli.ok(&["check", "golden", "candidate"]);
    cli.ok(&["check", "--model", "model", "candidate"]);
    with(&["check"], &["candidate"]);
    for policy in ["full,prune=50%", "sparsevlm", "visionzip", "divprune"] {
        let prunes = ["--max-new-tokens", "3", "--policy", policy, "--retain", "0.5", "--out"];
        with(&["record"], &[&prunes[..], &["pruned"]].concat());
        with(&["record", "--precision", "bf16"], &[&prunes[..], &["candidate"]].concat());
        cli.ok(&["check", "pruned", "candidate"]);
        cli.ok(&["check", "--model", "model", "candidate"]);
        with(&["check"], &["candidate"]);
    }
    cli.ok(&["compress", "golden", "--policy", "aircache", "--retain", "0.3", "--quiet", "--out", "plan"]);
    let plan = Bundle::open(&cli.path("plan")).unwrap();
    assert_eq!(plan.stage("policy.00.kept").unwrap().data, b.stage("policy.00.kept").unwrap().data);
    b
}
