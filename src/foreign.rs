//! Runs other people's code so that its panics, endless loops and excessive memory use become errors.
//!
//! Image decoders, tokenizers and the template engine read untrusted files. A file that makes this code panic or run
//! away must end in a message about the file. This is the only file of the library that reads a clock and the system's
//! data about the process, because nothing else can stop such work. The clock and the data decide only whether an error
//! is reported. A thread cannot be ended from outside: an abandoned thread runs until the process ends. Time limits
//! count processor time, so that a busy machine refuses no valid file. Memory limits count the whole process. Systems
//! other than Linux report neither: there, time is wall-clock time, and memory is not watched.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Work on a valid text ends within this time.
const HONEST: Duration = Duration::from_millis(50);
/// Stack of a watched thread: values may be nested thousands of levels deep. Only touched pages use memory.
const STACK: usize = 256 << 20;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs foreign code now. A panic hook should then print nothing, because the panic becomes an
/// error.
pub fn inside() -> bool {
    INSIDE.get()
}

/// The limits of a piece of work.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most seconds of processor time.
    pub seconds: u64,
    /// The largest growth of the process, in bytes.
    pub growth: u64,
}

impl Limits {
    /// For templates and tokenizers.
    pub const TEXT: Limits = Limits { seconds: 4, growth: 1 << 30 };
    /// For a text of `bytes` bytes that a tokenizer encodes: 2 s, and a second more for each half of a megabyte, which
    /// slow processors need. One question needs this several times.
    pub fn encoding(bytes: usize) -> Limits {
        Limits { seconds: 2 + (bytes >> 19) as u64, ..Limits::TEXT }
    }

    /// For images. The largest allowed images take gigabytes during decoding.
    pub const PICTURE: Limits = Limits { seconds: 10, growth: 5 << 30 };
}

/// The result of `job`; a panic becomes an error. `at` names the file in messages, `what` is the expected content.
///
/// # Errors
/// The job panics.
pub fn caught<T>(at: &str, what: &str, job: impl FnOnce() -> T) -> Result<T> {
    let before = INSIDE.replace(true);
    // After a panic, no value that the job changed is used: the error ends the work on the file.
    let done = catch_unwind(AssertUnwindSafe(job));
    INSIDE.set(before);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let text: String = text.unwrap_or("no message").chars().take(200).collect();
        Error::new(at, what, format!("content that its reader cannot handle ({text})"))
    })
}

/// As [`caught`], on a separate thread, which is abandoned if it takes more than `limits`.
///
/// # Errors
/// As [`caught`]; the job exceeds the limits; the thread cannot be started.
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
        let _ = done.send(caught(&file, &wanted, job)); // nobody receives this after the job was abandoned
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

/// The processor time of a thread; `name` is the target of `/proc/thread-self` on that thread.
fn processor_time(name: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(name).join("stat")).ok()?;
    // The program's name may contain anything. After the name: state, parent …; fields 12 and 13 are user and system
    // time.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?))) // 100 ticks per second on every Linux
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Limits = Limits { seconds: 1, growth: 64 << 20 };

    /// The cases run one after another: memory counts the whole process, and abandoned work continues.
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
