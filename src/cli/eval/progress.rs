//! What is told while questions are answered: how long it will take, how far it is, and the score so far.

use crate::cli::out::{Bar, Messages, bytes};
use aircache::eval::{Item, Metric};
use std::time::{Duration, Instant};

/// A run of at least this length is forecast.
const LONG: f64 = 60.0;
/// Without a terminal, a line is printed after this time.
const EVERY: Duration = Duration::from_secs(300);

/// The progress of a run.
pub struct Progress {
    messages: Messages,
    bar: Bar,
    start: Instant,
    told: Instant,
    /// The questions to answer, and those that are answered.
    open: usize,
    done: usize,
    metric: Metric,
    /// Each cell's name and the sum of its scores.
    cells: Vec<(String, f64)>,
    is_forecast: bool,
}

impl Progress {
    /// Nothing is answered yet. cells: the names of the cells; metric: the score that is shown.
    pub fn new(messages: Messages, open: usize, cells: Vec<String>, metric: Metric) -> Progress {
        let now = Instant::now();
        let cells = cells.into_iter().map(|name| (name, 0.0)).collect();
        let bar = messages.bar("questions", open);
        Progress { messages, bar, start: now, told: now, open, done: 0, metric, cells, is_forecast: false }
    }

    /// Some questions are answered: tells how long the others will take. need: the bytes that the largest prompt needs.
    pub fn forecast(&mut self, need: u64) {
        if self.is_forecast || self.done == 0 || self.done == self.open {
            return;
        }
        self.is_forecast = true;
        let each = self.start.elapsed().as_secs_f64() / self.done as f64;
        if each * self.open as f64 >= LONG {
            let line = forecast(self.open, self.done, each, rayon::current_num_threads(), need);
            self.bar.aside(|| self.messages.say(&line));
        }
    }

    /// A question is answered.
    pub fn step(&mut self, item: &Item, answers: &[String]) {
        self.done += 1;
        for ((_, sum), answer) in self.cells.iter_mut().zip(answers) {
            *sum += self.metric.of_questions().score(answer, item);
        }
        self.bar.step();
        let shown =
            self.cells.iter().take(3).map(|(name, sum)| format!("{name} {:.1}%", 100.0 * sum / self.done as f64));
        let score = format!("{}: {}", self.metric.name(), shown.collect::<Vec<_>>().join(", "));
        self.bar.tell(&format!("questions, {score}"));
        if !self.bar.is_shown() && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let left = self.start.elapsed().as_secs_f64() / self.done as f64 * (self.open - self.done) as f64;
            self.messages.say(&format!("{} of {} questions, {} to go; {score}", self.done, self.open, span(left)));
        }
    }
}

/// The forecast in words. each: seconds a question, measured on the first `measured`.
fn forecast(open: usize, measured: usize, each: f64, threads: usize, need: u64) -> String {
    let total = each * open as f64;
    let mut line = format!(
        "{} questions, about {} on {threads} threads with {} ({:.1} s each, measured on the first {measured})",
        grouped(open),
        span(total),
        bytes(need),
        each
    );
    // So many machines that each needs about an hour.
    let machines = (total / 3600.0).round().clamp(1.0, open as f64) as usize;
    if machines > 1 {
        line += &format!("; --shard 1/{machines} takes {}", span(total / machines as f64));
    }
    line
}

/// `5,349`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

/// `31 h`, `12 min`, `40 s`.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5940.0 => format!("{:.0} min", s / 60.0),
        s if s < 36_000.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_told_in_hours_and_shards() {
        let line = forecast(5349, 4, 20.8, 16, 18_200_000_000);
        assert_eq!(
            line,
            "5,349 questions, about 31 h on 16 threads with 18.20 GB (20.8 s each, measured on the first 4); --shard 1/31 takes 60 min"
        );
        assert!(!forecast(100, 4, 1.0, 2, 1000).contains("shard"));
    }
}
