//! The results of an evaluation: one line for each cell, as JSON and as a table.

use super::{Header, Journal, Questions, anls, exact_match, mean_interval, wilson};
use crate::report::{Line, Plot};
use serde::Serialize;
use std::fmt::Write as _;

/// The results of a policy at a retention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellResult {
    /// The policy as written.
    pub policy: String,
    /// The retention.
    pub retain: f64,
    /// The number of questions that are answered.
    pub n: usize,
    /// Share of answers that equal an accepted string.
    pub exact_match: f64,
    /// Mean ANLS.
    pub anls: f64,
    /// 95 % interval of `exact_match` (Wilson).
    pub ci95: (f64, f64),
    /// 95 % interval of `anls` (normal approximation).
    pub anls_ci95: (f64, f64),
}

/// The results of an evaluation, and a description of the evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// One line for each cell, in the order of the cells.
    pub cells: Vec<CellResult>,
    /// sha-256 of the model's tensors.
    pub model: String,
    /// sha-256 of the question file.
    pub data: String,
    /// The number of questions in the file.
    pub questions: usize,
    /// The precision's name in bundles.
    pub precision: String,
    /// The resampler's name.
    pub preprocess: String,
    /// The largest number of tokens of an answer.
    pub max_new_tokens: usize,
}

impl Results {
    /// The results over the questions that are answered so far.
    pub fn of(journal: &Journal, questions: &Questions) -> Results {
        let Header { model, data, questions: count, precision, preprocess, max_new_tokens, cells, .. } =
            journal.header().clone();
        let cell = |(c, (policy, retain)): (usize, &(String, String))| {
            let graded = journal.answers().iter().map(|(&q, answers)| (&answers[c], &questions.items[q].answers));
            let hits = graded.clone().filter(|(answer, accepted)| exact_match(answer, accepted)).count();
            let scores: Vec<f64> = graded.map(|(answer, accepted)| anls(answer, accepted)).collect();
            let (anls, anls_ci95) = mean_interval(&scores);
            let n = scores.len();
            let exact_match = if n == 0 { 0.0 } else { hits as f64 / n as f64 };
            let retain = retain.parse().unwrap_or(f64::NAN);
            CellResult { policy: policy.clone(), retain, n, exact_match, anls, ci95: wilson(hits, n), anls_ci95 }
        };
        let cells = cells.iter().enumerate().map(cell).collect();
        Results { cells, model, data, questions: count, precision, preprocess, max_new_tokens }
    }

    /// The JSON form, one line for each cell; the text ends with a line feed.
    pub fn json(&self) -> String {
        let line = |c: &CellResult| serde_json::to_string(c).unwrap_or_default();
        let cells: Vec<String> = self.cells.iter().map(|c| format!("  {}", line(c))).collect();
        let Results { model, data, questions, precision, preprocess, max_new_tokens, .. } = self;
        format!(
            "{{\"cells\": [\n{}\n],\n\"model\": \"{model}\", \"data\": \"{data}\", \"questions\": {questions}, \
             \"precision\": \"{precision}\", \"preprocess\": \"{preprocess}\", \"max_new_tokens\": {max_new_tokens}}}\n",
            cells.join(",\n")
        )
    }

    /// The plot of exact match against retention: one line for each policy; the full cache is a horizontal level.
    pub fn plot(&self) -> Plot {
        let mut lines: Vec<Line> = Vec::new();
        for c in self.cells.iter().filter(|c| c.policy != "full") {
            let at = lines.iter().position(|l| l.name == c.policy).unwrap_or_else(|| {
                lines.push(Line { name: c.policy.clone(), points: vec![] });
                lines.len() - 1
            });
            lines[at].points.push((c.retain, c.exact_match, c.ci95));
        }
        lines.iter_mut().for_each(|l| l.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        let full = self.cells.iter().find(|c| c.policy == "full");
        Plot {
            title: format!("Exact match after eviction, {} questions", self.cells.first().map_or(0, |c| c.n)),
            quantity: "exact match".into(),
            level: full.map(|c| ("full cache".into(), c.exact_match)),
            lines,
        }
    }

    /// A table for people: policies × retentions, exact match in percent with half the width of its 95 % interval.
    pub fn table(&self) -> String {
        let mut policies: Vec<&str> = Vec::new();
        let mut retains: Vec<f64> = Vec::new();
        for c in &self.cells {
            if !policies.contains(&c.policy.as_str()) {
                policies.push(&c.policy);
            }
            if !retains.contains(&c.retain) {
                retains.push(c.retain);
            }
        }
        retains.sort_by(|a, b| b.total_cmp(a));
        let width = policies.iter().map(|p| p.chars().count()).max().unwrap_or(0).max("policy".len());
        let mut out = format!("{:width$}", "policy");
        for r in &retains {
            let _ = write!(out, "  {:>11}", format!("{}%", percent(*r)));
        }
        for policy in policies {
            let _ = write!(out, "\n{policy:width$}");
            for r in &retains {
                let cell = self.cells.iter().find(|c| c.policy == policy && c.retain == *r);
                let text = cell.map_or(String::new(), |c| {
                    format!("{:.1} ±{:.1}", 100.0 * c.exact_match, 50.0 * (c.ci95.1 - c.ci95.0))
                });
                let _ = write!(out, "  {text:>11}");
            }
        }
        let n = self.cells.first().map_or(0, |c| c.n);
        let _ = write!(out, "\nexact match in %, ± half of the 95 % interval; {n} of {} questions\n", self.questions);
        out
    }
}

/// A retention in percent, without unnecessary digits.
fn percent(r: f64) -> String {
    let text = format!("{:.4}", 100.0 * r);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
