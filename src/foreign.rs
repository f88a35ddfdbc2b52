//! Other people's code, called so that its panics, its loops and its hunger become errors.
//!
//! Image decoders, tokenizers and the template engine read files that nobody vouches for: a file that makes one of them panic
//! or run away must end in a message about the file. This is the one file of the library that looks at a clock and at what
//! the system says of the process, since nothing else can stop such work; it decides only whether an error comes. A thread
//! cannot be ended from outside: one that is given up goes on until the process ends. Its time is the time on the processor,
//! so that a busy machine refuses no honest file; memory is the whole process's. Where the system tells neither (anywhere
//! but Linux), time is the clock's, and memory is not watched.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Honest work on a text is done by then.
const HONEST: Duration = Duration::from_millis(50);
/// Stack of a watched thread, of which only what is touched is taken: values may lie in one another thousands deep.
const STACK: usize = 256 << 20;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in foreign code right now: a panic hook should then keep quiet, as the panic becomes an error.
pub fn inside() -> bool {
    INSIDE.get()
}

/// What a piece of work may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most seconds on the processor.
    pub seconds: u64,
    /// The most bytes that the process may grow by.
    pub growth: u64,
}

impl Limits {
    /// For templates and tokenizers.
    pub const TEXT: Limits = Limits { seconds: 4, growth: 1 << 30 };
    /// For a text that a tokenizer divides, which a question has done several times.
    pub const ENCODING: Limits = Limits { seconds: 2, ..Limits::TEXT };
    /// For pictures, of which the largest allowed take gigabytes on the way.
    pub const PICTURE: Limits = Limits { seconds: 10, growth: 5 << 30 };
}

/// What `job` comes to, its panics turned into errors; `at` names the file in messages, `what` what it should have been.
///
/// # Errors
/// The job panics.
pub fn caught<T>(at: &str, what: &str, job: impl FnOnce() -> T) -> Result<T> {
    let before = INSIDE.replace(true);
    // Nothing that the job has changed is used after a panic: its error ends the work on the file.
    let done = catch_unwind(AssertUnwindSafe(job));
    INSIDE.set(before);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let text: String = text.unwrap_or("no message").chars().take(200).collect();
        Error::new(at, what, format!("content that its reader cannot handle ({text})"))
    })
}

/// The same on a thread of its own, given up where it takes more than `limits`.
///
/// # Errors
/// As [`caught`]; the limits; the thread cannot be started.
pub fn watched<T: Send + 'static>(
    at: &str,
    what: &str,
    limits: Limits,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, wait) = channel();
    let (told, name) = channel();
    let before = resident().unwrap_or(0);
    let start = Instant::now();
    let (file, wanted) = (at.to_owned(), what.to_owned());
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let _ = told.send(std::fs::read_link("/proc/thread-self").ok());
        let _ = done.send(caught(&file, &wanted, job)); // nobody waits once it has been given up
    });
    thread.map_err(|e| {
        let room = format!("it takes {} MB of address space: check `ulimit -v` and `ulimit -u`", STACK >> 20);
        Error::new(at, "a thread that can be started to read it", e).remedy(room)
    })?;
    let name = name.recv().ok().flatten();
    loop {
        match wait.recv_timeout(if start.elapsed() < HONEST { HONEST } else { Duration::from_millis(2) }) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => unreachable!("a caught job sends what it came to"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let worked = name.as_deref().and_then(processor_time).unwrap_or_else(|| start.elapsed());
        if worked.as_secs() >= limits.seconds || start.elapsed().as_secs() >= 6 * limits.seconds {
            let e = Error::new(at, what, format!("no end after {} s", limits.seconds));
            return Err(e.remedy("it was given up; does it have an endless loop, for ever?"));
        }
        let grown = resident().unwrap_or(0).saturating_sub(before);
        if grown > limits.growth {
            let most = format!("more than {} MB of memory in use, and no end", limits.growth / 1_000_000);
            return Err(Error::new(at, what, most).remedy("it was given up"));
        }
    }
}

/// Bytes of this process in physical memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// How long a thread has been on the processor; `name`: what `/proc/thread-self` leads to on it.
fn processor_time(name: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(name).join("stat")).ok()?;
    // Behind the program's name, which may hold anything: state, parent …; user and system time are the 12th and 13th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?))) // a hundred a second on every Linux
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Limits = Limits { seconds: 1, growth: 64 << 20 };

    /// In turn: memory is the whole process's, and what is given up goes on.
    #[test]
    fn watched_work_ends_well() {
        work_comes_back_and_panics_are_errors();
        loops_are_given_up();
        #[cfg(target_os = "linux")]
        growth_is_given_up();
    }

    fn work_comes_back_and_panics_are_errors() {
        assert_eq!(watched("f", "a file", SHORT, || 7).unwrap(), 7);
        let e = watched::<()>("f", "a file", SHORT, || panic!("at {}", 3)).unwrap_err();
        assert_eq!(e.to_string(), "f: expected a file, found content that its reader cannot handle (at 3)");
        assert!(!inside());
        assert!(caught("f", "a file", inside).unwrap());
    }

    fn loops_are_given_up() {
        let endless = || while std::hint::black_box(true) {};
        let e = watched("f", "a file", SHORT, endless).unwrap_err();
        assert!(e.to_string().contains("no end after 1 s"), "{e}");
    }

    #[cfg(target_os = "linux")]
    fn growth_is_given_up() {
        assert!(resident().expect("Linux tells") > 1 << 20);
        let grow = || {
            let mut all = Vec::new();
            for i in 0..2000u32 {
                all.push(vec![i as u8; 1 << 20]);
                std::thread::sleep(Duration::from_micros(500));
            }
            all.len()
        };
        let e = watched("f", "a file", SHORT, grow).unwrap_err();
        assert!(e.to_string().contains("more than 67 MB"), "{e}");
    }
}
