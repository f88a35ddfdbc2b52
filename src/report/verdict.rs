//! A verdict as a page: one file that loads no other file and needs no script.

use super::page::{class, escape, fill};
use super::{depth, heat};
use crate::golden::{Outcome, StageVerdict, Verdict};
use std::fmt::Write;

const PAGE: &str = include_str!("verdict.html");
const STYLE: &str = include_str!("verdict.css");

/// The page of a verdict on the candidate called `candidate`: the error over depth, the worst stage as a map, and every
/// stage in words. Spec: D10.9
pub fn page(verdict: &Verdict, candidate: &str) -> String {
    let outcome = if verdict.passes() { "pass" } else { "fail" };
    let count = |of: Outcome| verdict.stages.iter().filter(|s| s.outcome == of).count();
    let how = format!(
        "{}, rulers of {}: {} stages pass, {} admissible, {} fail, {} not judged{}",
        match verdict.mode {
            "replay" => "by replay: every stage from the candidate's own inputs",
            _ => "with a golden",
        },
        verdict.precision,
        count(Outcome::Pass),
        count(Outcome::Admissible),
        count(Outcome::Fail),
        count(Outcome::NotJudged),
        match verdict.missing.len() {
            0 => String::new(),
            n => format!(", {n} missing"),
        },
    );
    let last = || verdict.lines().pop().unwrap_or_default();
    let first = if verdict.first_divergence().is_some() { verdict.told().join("; ") } else { last() };
    let mut notes: Vec<String> = verdict.notes.iter().map(|n| format!("<p>note: {}</p>", escape(n))).collect();
    if !verdict.missing.is_empty() {
        notes.push(format!("<p>missing: {}</p>", escape(&verdict.missing.join(", "))));
    }
    fill(
        PAGE,
        &[
            ("@TITLE@", escape(&format!("{outcome}: {candidate}"))),
            ("@STYLE@", STYLE.to_string()),
            ("@OUTCOME@", outcome.to_string()),
            ("@CANDIDATE@", escape(candidate)),
            ("@HOW@", escape(&how)),
            ("@FIRST@", escape(&first)),
            ("@NOTES@", notes.concat()),
            ("@PRECISION@", verdict.precision.to_string()),
            ("@DEPTH@", depth::svg(&verdict.stages)),
            ("@HEAT@", verdict.map.as_ref().map(heat::section).unwrap_or_default()),
            ("@ROWS@", verdict.stages.iter().map(row).collect::<String>()),
        ],
    )
}

fn row(s: &StageVerdict) -> String {
    let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.2e}"));
    let plain = |v: Option<f64>, digits: usize| v.map_or(String::new(), |v| format!("{v:.digits$}"));
    let mut words = escape(&s.words);
    if s.outcome == Outcome::Fail && !s.index.is_empty() {
        let index: Vec<String> = s.index.iter().map(usize::to_string).collect();
        let value = |v: Option<f64>| v.map_or("?".into(), |v| format!("{v:.6}"));
        let _ =
            write!(words, "; worst at [{}]: expected {}, got {}", index.join(", "), value(s.expected), value(s.got));
    }
    format!(
        "<tr class=\"{}\"><td class=\"v\">{}</td><td class=\"v\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{words}</td></tr>",
        class(s.outcome),
        escape(&s.stage),
        s.outcome.name(),
        s.statistic,
        number(s.error),
        number(s.ruler),
        plain(s.ratio, 2),
        plain(s.allowed, 0)
    )
}
