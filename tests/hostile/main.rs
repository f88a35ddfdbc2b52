//! Inputs made to break the binary: each ends within 20 s and 8 GB of address space, in exit code 2 with one line or in a
//! lawful run, and leaves no file. What was tried and what came back is `docs/hostile.md`, which this test writes
//! (`AIRCACHE_WRITE_DOCS=1`) and otherwise compares.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "../common/mod.rs"]
mod common;

mod bundles;
mod codecs;
mod configs;
mod fields;
mod hunger;
mod lies;
mod pictures;
mod pieces;
mod places;
mod questions;
mod texts;
mod weights;

use common::cli::{Cli, toy_of};
use common::numbers::threads;
use rayon::prelude::*;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Seconds that an input may take on the processor, all threads together; by the clock three times as long, for busy machines.
const SECONDS: u64 = 20;
/// Kilobytes of address space that it may ask for.
const SPACE: &str = "8000000";

/// What must come back.
enum Want {
    /// Exit code 2 and a line with these words.
    Refused(&'static [&'static str]),
    /// Exit code 0: odd, and lawful.
    Runs,
    /// Exit code 0 or 1: a verdict.
    Judged,
}

/// One input: what it is, how it is made in an empty folder, the command that reads it.
struct Case {
    what: String,
    make: Box<dyn Fn(&Place) + Sync>,
    args: Vec<String>,
    /// The line of shell that runs the binary, `"$0" "$@"`: surroundings that are odd as well.
    around: String,
    want: Want,
}

impl Case {
    /// The same, run by another line of shell.
    fn around(self, line: &str) -> Case {
        Case { around: line.into(), ..self }
    }
}

/// The folder of a case.
struct Place {
    cli: Cli,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.cli.path(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// A toy checkpoint in `model`, its image in `image.png`.
    fn toy(&self, family: &str) -> PathBuf {
        toy_of(&self.cli, family)
    }
}

const ASK: &[&str] = &["run", "--quiet", "--image", "image.png", "--prompt", "What does it say?", "--out", "f"];

/// A case of any command.
fn case(what: impl Into<String>, args: &[&str], want: Want, make: impl Fn(&Place) + Sync + 'static) -> Case {
    let args = args.iter().map(|a| a.to_string()).collect();
    Case { what: what.into(), make: Box::new(make), args, around: "exec \"$0\" \"$@\"".into(), want }
}

/// A case of `run` on a toy checkpoint that is broken first.
fn broken(what: impl Into<String>, words: &'static [&'static str], break_it: impl Fn(&Path) + Sync + 'static) -> Case {
    toy_case(what, "llava/wide", Want::Refused(words), break_it)
}

fn toy_case(what: impl Into<String>, toy: &'static str, want: Want, change: impl Fn(&Path) + Sync + 'static) -> Case {
    let args: Vec<&str> = ASK.iter().copied().chain(["--model", "model", "--max-new-tokens", "4"]).collect();
    case(what, &args, want, move |place| change(&place.toy(toy)))
}

/// What came back.
struct Outcome {
    code: Option<i32>,
    stderr: String,
    peak: u64,
    time: Duration,
}

fn run(place: &Place, case: &Case) -> Outcome {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("ulimit -v {SPACE}; {}", case.around), env!("CARGO_BIN_EXE_aircache")]);
    command.args(&case.args).current_dir(place.cli.folder.path()).env_remove("AIRCACHE_ISA");
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let (mut peak, mut time) = (0, Duration::ZERO);
    let status = loop {
        peak = peak.max(most_memory(&child));
        time = time.max(processor_time(&child));
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if time.as_secs() >= SECONDS || start.elapsed().as_secs() >= 3 * SECONDS {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 100 { 2 } else { 20 }));
    };
    let _ = out.join().unwrap();
    let stderr = err.join().unwrap();
    Outcome { code: status.and_then(|s| s.code()), stderr, peak, time }
}

fn drain(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Bytes that the child has had in memory at most.
fn most_memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// How long the child's threads have been on the processor, in hundredths of a second.
fn processor_time(child: &Child) -> Duration {
    let ticks = |stat: String| {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok();
    Duration::from_millis(10 * stat.and_then(ticks).unwrap_or(0))
}

/// Every path below a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// What a case came to, as a line of the table; what is wrong with it, if anything is.
fn judge(case: &Case) -> (String, Option<String>, Outcome) {
    let place = Place { cli: Cli::new() };
    (case.make)(&place);
    let before = tree(place.cli.folder.path());
    let outcome = run(&place, case);
    let after = tree(place.cli.folder.path());
    let stderr = outcome.stderr.trim_end();
    let written: Vec<_> = after.iter().filter(|p| !before.contains(p)).collect();
    let wrong = match (&case.want, outcome.code) {
        (_, None) => Some("ended by a signal, or not at all".into()),
        (Want::Refused(words), Some(2)) => {
            let missing = words.iter().find(|w| !stderr.contains(**w));
            if !stderr.starts_with("aircache: ") || stderr.lines().count() != 1 || stderr.len() > 3000 {
                Some("not one line of less than 3000 bytes".to_string())
            } else if stderr.contains("this is a bug") {
                Some("a panic".to_string())
            } else if !written.is_empty() || after.len() != before.len() {
                Some(format!("left {written:?}"))
            } else {
                missing.map(|w| format!("{w:?} is not in it"))
            }
        }
        (Want::Runs, Some(0)) => {
            written.iter().any(|p| p.extension().is_some_and(|e| e == "tmp")).then(|| "left a file".into())
        }
        (Want::Judged, Some(0 | 1)) => (after.len() != before.len()).then(|| format!("left {written:?}")),
        (_, Some(code)) => Some(format!("exit code {code}")),
    };
    let said = match case.want {
        Want::Runs => "runs".to_string(),
        Want::Judged => ["judged: pass", "judged: fail"][usize::from(outcome.code == Some(1))].to_string(),
        // Which of both limits comes first depends on the machine.
        Want::Refused(_) if stderr.contains("it was given up") || stderr.contains("found less free memory") => {
            "an error: given up, as it takes too long or too much memory".to_string()
        }
        Want::Refused(_) => shortened(stderr.trim_start_matches("aircache: ")),
    };
    let line = [&case.args[0], &case.what, &said].map(|cell| cell.replace('\t', " ")).join("\t");
    (line, wrong, outcome)
}

/// A message without what differs from run to run and without its middle.
fn shortened(message: &str) -> String {
    let digits = |w: &str| w.len() > 8 && w.bytes().all(|b| b.is_ascii_digit());
    let words: Vec<&str> = message.split(' ').map(|w| if digits(w) { "N" } else { w }).collect();
    let text: Vec<char> = words.join(" ").chars().collect();
    match text.len() > 220 {
        true => text[..150].iter().chain(['…'].iter()).chain(&text[text.len() - 60..]).collect(),
        false => text.iter().collect(),
    }
}

#[test]
fn every_hostile_input_ends_well() {
    let kinds = [
        ("Weights", weights::cases()),
        ("Configurations", configs::cases()),
        ("Configurations of other families, and of generation", fields::cases()),
        ("Templates, tokenizers, processors", texts::cases()),
        ("InternVL2's tokenizer and configuration", pieces::cases()),
        ("Pictures", pictures::cases()),
        ("Pictures, by the insides of their formats", codecs::cases()),
        ("Prompts, options, question files", questions::cases()),
        ("Bundles", bundles::cases()),
        ("Bundles whose stages lie", lies::cases()),
        ("Places, streams and surroundings", places::cases()),
        ("More than there is", hunger::cases()),
    ];
    let only = std::env::var("HOSTILE").ok();
    let (mut answers, mut bad, mut all) = (String::from("kind\tcommand\tinput\tanswer\n"), Vec::new(), 0);
    let (mut peak, mut slowest, mut wrong_rows) = (0, Duration::ZERO, Vec::new());
    for (kind, cases) in kinds {
        let row = format!("| {kind} | {} |", cases.len());
        wrong_rows.extend((!include_str!("../../docs/hostile.md").contains(&row)).then_some(row));
        let cases: Vec<_> =
            cases.iter().filter(|c| only.as_ref().is_none_or(|o| c.what.contains(o.as_str()))).collect();
        // Two at a time: most inputs keep one core busy, and some ask for much memory.
        let judged: Vec<_> = threads(2, || cases.par_iter().with_max_len(1).map(|case| judge(case)).collect());
        for (case, (line, wrong, outcome)) in cases.iter().zip(judged) {
            answers += &format!("{kind}\t{line}\n");
            all += 1;
            peak = peak.max(outcome.peak);
            slowest = slowest.max(outcome.time);
            if outcome.time.as_secs() >= 3 || outcome.peak > 1 << 30 {
                println!("{}: {:?}, {} MB", case.what, outcome.time, outcome.peak >> 20);
            }
            if let Some(wrong) = wrong {
                println!("BAD {kind}: {}: {wrong}: code {:?}: {}", case.what, outcome.code, outcome.stderr);
                bad.push(format!("{kind}: {}: {wrong}: code {:?}: {}", case.what, outcome.code, outcome.stderr));
            }
        }
    }
    println!("{all} inputs, the slowest {slowest:?}, the largest {} MB", peak >> 20);
    assert!(bad.is_empty(), "{} of {all}:\n{}", bad.len(), bad.join("\n"));
    if only.is_none() {
        compare(&answers);
        let pages = [include_str!("../../docs/fuzzing.md"), include_str!("../../docs/hostile.md")];
        assert!(pages[0].contains(&format!("| {all} | [by kind]")), "docs/fuzzing.md counts {all}");
        assert!(pages[1].contains(&format!("gives {all} such inputs")), "docs/hostile.md counts {all}");
        assert!(wrong_rows.is_empty(), "docs/hostile.md lacks {wrong_rows:?}");
    }
}

/// Compares the answers with the committed ones.
fn compare(answers: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/answers.tsv");
    if std::env::var_os("AIRCACHE_WRITE_ANSWERS").is_some() {
        std::fs::write(&path, answers).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let differ: Vec<_> = committed.lines().zip(answers.lines()).filter(|(a, b)| a != b).collect();
    for (was, is) in &differ {
        println!("- {was}\n+ {is}");
    }
    assert!(committed == answers, "{} answers changed (AIRCACHE_WRITE_ANSWERS=1 writes them)", differ.len());
}
