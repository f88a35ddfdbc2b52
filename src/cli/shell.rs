//! How the process starts and ends: signals, the last-resort panic message, exit codes and the one error line.

use super::os;
use super::out::{Stdout, one_line};
use super::output::tidy;
use aircache::{Error, Result};
use clap::error::{ContextKind, ErrorKind};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code for bad usage, bad input and our own bugs.
const BAD: u8 = 2;
/// The exit code after SIGINT. After another signal that asks the process to end, the code is 128 plus the signal's
/// number.
#[cfg(not(unix))]
const INTERRUPTED: i32 = 130;

/// The stack size of a thread in bytes; it is the default on Linux.
pub const STACK: usize = 2 << 20;

/// Set when a signal is about to end the process, which must then report nothing else.
static ENDING: AtomicBool = AtomicBool::new(false);

/// True for the first thread that ends the process. Threads fail together, so every other thread waits until the first has
/// printed its message.
fn first_to_end() -> bool {
    let first = !ENDING.swap(true, Ordering::SeqCst);
    if !first {
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    first
}

/// The outcome of a command that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done and the verdict is pass: exit code 0.
    Pass,
    /// The verdict is fail: exit code 1.
    Fail,
}

/// Sets up the end of the process after signals and panics: message, temporary files, exit code.
pub fn prepare() {
    os::on_lost_file(|file| {
        if first_to_end() {
            tidy();
            let e = Error::new(file, "a file that does not change while it is read", "missing bytes");
            report(&e.remedy("another program has shortened it, or the disk has failed").to_string());
        }
        std::process::exit(i32::from(BAD));
    });
    os::on_exhaustion(|bytes| {
        if first_to_end() {
            tidy();
            if let Some(bytes) = bytes {
                let e = Error::new("memory", format!("{bytes} more bytes"), "less free memory");
                report(&e.remedy("use smaller files, or end other programs; check `ulimit -v`").to_string());
            }
        }
        i32::from(BAD)
    });
    std::panic::set_hook(Box::new(|info| {
        if aircache::foreign::inside() {
            return; // this panic becomes an error
        }
        if first_to_end() {
            tidy();
            let place = info.location().map_or(String::new(), |l| format!("{}:{}: ", l.file(), l.line()));
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            report(&format!("this is a bug, please report it: {place}{what}"));
        }
        std::process::exit(i32::from(BAD));
    }));
    on_signals();
}

/// Removes temporary files when a signal ends the process. Without a handler, the signals would still end it.
#[cfg(unix)]
fn on_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    // A write beyond the process's file size limit then becomes an ordinary error, like a full disk.
    let _ = signal_hook::flag::register(SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false)));
    // A closed terminal ends the process, unless the process was started with `nohup`.
    let asked = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(SIGHUP));
    let Ok(mut signals) = signal_hook::iterator::Signals::new(asked) else { return };
    // The thread has its own stack size, because RUST_MIN_STACK may ask for more memory than the machine has.
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            ENDING.store(true, Ordering::SeqCst);
            tidy();
            std::process::exit(128 + signal);
        }
    });
    if thread.is_err() {
        // Without this thread, temporary files stay on the disk; the signals still end the process.
        for signal in [SIGINT, SIGTERM] {
            let at_once = std::sync::Arc::new(AtomicBool::new(true));
            let _ = signal_hook::flag::register_conditional_default(signal, at_once);
        }
    }
}

/// True if the parent of the process ignores a signal, or if the system does not report it.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn on_signals() {
    let _ = ctrlc::set_handler(|| {
        ENDING.store(true, Ordering::SeqCst);
        tidy();
        std::process::exit(INTERRUPTED);
    });
}

/// The exit code of a finished command; an error is printed on one line.
pub fn end(done: Result<Verdict>) -> ExitCode {
    match done {
        Ok(Verdict::Pass) => ExitCode::SUCCESS,
        Ok(Verdict::Fail) => ExitCode::FAILURE,
        Err(e) => {
            while ENDING.load(Ordering::SeqCst) {
                std::thread::park(); // the signal may have caused the error; its handler ends the process
            }
            report(&e.to_string());
            ExitCode::from(BAD)
        }
    }
}

/// The end of a command line that clap refuses: help is printed as it is, and an error is printed as one line.
pub fn usage(e: &clap::Error) -> ExitCode {
    let text = e.render().to_string();
    // The cut is at the last match, because the user's own text stands before it and may contain the same words.
    let text = text.rsplit_once("\n\nFor more information").map_or(text.as_str(), |(told, _)| told);
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return end(Stdout::new().text(&format!("{}\n", text.trim_end())).map(|()| Verdict::Pass));
    }
    let usage = e.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let told = text.trim_end().strip_suffix(usage.trim_end()).unwrap_or(text);
    let told = told.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    report(&format!("{} (see `aircache COMMAND --help`)", told.strip_prefix("error: ").unwrap_or(&told)));
    ExitCode::from(BAD)
}

/// The largest number of letters of the error line, because hostile names can be megabytes long.
const MOST: usize = 1600;

/// Prints one line on stderr, for any message. A closed stderr is not an error.
fn report(message: &str) {
    let line: Vec<char> = one_line(message).chars().collect();
    let line: String = match line.len() {
        0..=MOST => line.iter().collect(),
        n => line[..MOST / 2].iter().chain(&[' ', '…', ' ']).chain(&line[n - MOST / 2..]).collect(),
    };
    let _ = std::io::stderr().lock().write_all(format!("aircache: {line}\n").as_bytes()); // written in one piece
}
