//! Output: results on a stdout that can be closed at any time, messages and progress on stderr.

use aircache::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A text without characters that end a line or change its direction: controls, line separators, direction marks.
pub fn one_line(text: &str) -> String {
    let breaks = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

/// Stdout. A reader that ends early (`| head -1`) is not an error: later output is dropped.
#[derive(Debug, Default)]
pub struct Stdout {
    closed: bool,
}

impl Stdout {
    /// The process's stdout.
    pub fn new() -> Self {
        Stdout::default()
    }

    /// True if stdout no longer has a reader.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes text as it is, at once.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(e) => return Err(Error::new("stdout", "a place to write to", e)),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Writes a line; names from outside cannot break it into several lines.
    pub fn line(&mut self, line: &str) -> Result<()> {
        self.text(&format!("{}\n", one_line(line)))
    }

    /// Writes a JSON value, indented.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<()> {
        self.text(&format!("{value:#}\n"))
    }
}

/// Messages on stderr; `--quiet` turns them off. Errors are printed elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Messages {
    /// True if messages are turned off.
    pub quiet: bool,
}

/// Notes that wait for [`Messages::notes`]. No result depends on them.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Messages {
    /// Keeps a line until the options are known to be right, so that an error stands alone.
    pub fn note(&self, line: String) {
        NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Prints the kept lines.
    pub fn notes(&self) {
        let notes = std::mem::take(&mut *NOTES.lock().unwrap_or_else(PoisonError::into_inner));
        notes.iter().for_each(|note| self.say(note));
    }

    /// Prints lines, without the control characters that a model may have written.
    pub fn say(&self, lines: &str) {
        if !self.quiet {
            let lines: String = lines.lines().map(|line| one_line(line) + "\n").collect();
            let _ = std::io::stderr().lock().write_all(lines.as_bytes()); // stderr may be closed; that is not an error
        }
    }

    /// A bar for a known number of steps; shown only on a terminal, removed when dropped.
    pub fn bar(&self, what: &str, steps: usize) -> Bar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::new(steps as u64).with_message(what.to_string());
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left") {
            bar.set_style(style);
        }
        ticking(&bar, 500);
        Bar(Some(bar))
    }

    /// A spinner for a long task; shown only on a terminal, removed when dropped.
    pub fn busy(&self, what: &str) -> Busy {
        if self.quiet || !std::io::stderr().is_terminal() {
            return Busy(None);
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_string());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        ticking(&bar, 100);
        Busy(Some(bar))
    }
}

/// Redraws at intervals. If the thread cannot be started, indicatif panics, and the bar is not redrawn.
fn ticking(bar: &ProgressBar, milliseconds: u64) {
    let _ = aircache::foreign::caught("progress", "a thread", || {
        bar.enable_steady_tick(Duration::from_millis(milliseconds));
    });
}

/// A bar with the time left, or nothing without a terminal.
#[derive(Debug)]
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// Advances the bar by one step.
    pub fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    /// Sets the steps that are done and all steps, and the text beside the bar.
    pub fn set(&self, done: usize, all: usize, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            bar.set_message(one_line(what));
        }
    }

    /// Changes the text beside the bar.
    pub fn tell(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(one_line(what));
        }
    }

    /// True if there is a terminal that shows the bar.
    pub fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Hides the bar while `f` prints.
    pub fn aside<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A spinner, or nothing without a terminal.
#[derive(Debug)]
pub struct Busy(Option<ProgressBar>);

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A number of bytes for people: `1.35 MB`.
pub fn bytes(n: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| n as f64 >= *size) {
        Some((unit, size)) => format!("{:.2} {unit}", n as f64 / size),
        None => format!("{n} bytes"),
    }
}

/// A time for people: `0.031 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
