//! Results as text: tables for people, CSV and LaTeX.

use super::results::title;
use super::{CellResult, Results, Score};
use std::fmt::Write as _;

/// Policies × retentions of the cells, in their order; retentions descending.
fn axes(cells: &[CellResult]) -> (Vec<&str>, Vec<f64>) {
    let (mut policies, mut retains): (Vec<&str>, Vec<f64>) = (Vec::new(), Vec::new());
    for c in cells {
        if !policies.contains(&c.policy.as_str()) {
            policies.push(&c.policy);
        }
        if !retains.contains(&c.retain) {
            retains.push(c.retain);
        }
    }
    retains.sort_by(|a, b| b.total_cmp(a));
    (policies, retains)
}

impl Results {
    fn score(&self, policy: &str, retain: f64, metric: &str) -> Option<&Score> {
        let cell = self.cells.iter().find(|c| c.policy == policy && c.retain == retain)?;
        cell.metrics.get(metric)
    }

    /// Tables for people: one a metric, policies × retentions, in percent with half the width of the 95 % interval.
    pub fn table(&self) -> String {
        let (policies, retains) = axes(&self.cells);
        let width = policies.iter().map(|p| p.chars().count()).max().unwrap_or(0).max("policy".len());
        let mut out = String::new();
        for metric in &self.metrics {
            let _ = write!(out, "{}{:width$}", if out.is_empty() { "" } else { "\n" }, "policy");
            for r in &retains {
                let _ = write!(out, "  {:>11}", format!("{}%", percent(*r)));
            }
            for policy in &policies {
                let _ = write!(out, "\n{policy:width$}");
                for &r in &retains {
                    let text = self.score(policy, r, metric).map_or(String::new(), |s| {
                        format!("{:.1} ±{:.1}", 100.0 * s.mean, 50.0 * (s.ci95.1 - s.ci95.0))
                    });
                    let _ = write!(out, "  {text:>11}");
                }
            }
            let n = self.cells.first().map_or(0, |c| c.n);
            let name = if metric == "exact" { "exact match" } else { metric };
            let _ = write!(out, "\n{name} in %, ± half of the 95 % interval; {n} of {} questions\n", self.questions);
        }
        for (cell, (metric, sums)) in self.cells.iter().flat_map(|c| c.mme.iter().map(move |sums| (c, sums))) {
            let CellResult { policy, retain, .. } = cell;
            let (perception, cognition) = (sums.perception, sums.cognition);
            let _ = writeln!(
                out,
                "{metric}, {policy} at {}%: perception {perception:.1}, cognition {cognition:.1}, sum {:.1}",
                percent(*retain),
                perception + cognition
            );
        }
        out
    }

    /// One line for each cell, metric and kind; an empty kind is the whole.
    pub fn csv(&self) -> String {
        let mut out = String::from("policy,retain,metric,kind,n,mean,stderr,low,high\n");
        for c in &self.cells {
            for (metric, whole) in self.metrics.iter().filter_map(|m| Some((m, c.metrics.get(m)?))) {
                for (kind, s) in std::iter::once((&String::new(), whole)).chain(&whole.kinds) {
                    let (policy, kind, (low, high)) = (quoted(&c.policy), quoted(kind), s.ci95);
                    let Score { n, mean, stderr, .. } = s;
                    let _ = writeln!(out, "{policy},{},{metric},{kind},{n},{mean},{stderr},{low},{high}", c.retain);
                }
            }
        }
        out
    }

    /// One `tabular` (package booktabs) a metric: policies × retentions, in percent.
    pub fn latex(&self) -> String {
        let (policies, retains) = axes(&self.cells);
        let mut out = String::new();
        for metric in &self.metrics {
            let n = self.cells.first().map_or(0, |c| c.n);
            let heads: Vec<String> = retains.iter().map(|r| format!("{}\\%", percent(*r))).collect();
            let _ = writeln!(
                out,
                "% {}, {n} of {} questions, in percent with half of the 95 % interval\n\\begin{{tabular}}{{l{}}}\n\\toprule\npolicy & {} \\\\\n\\midrule",
                title(metric),
                self.questions,
                "r".repeat(retains.len()),
                heads.join(" & ")
            );
            for policy in &policies {
                let cell = |&r: &f64| {
                    self.score(policy, r, metric).map_or(String::new(), |s| {
                        format!("${:.1} \\pm {:.1}$", 100.0 * s.mean, 50.0 * (s.ci95.1 - s.ci95.0))
                    })
                };
                let row: Vec<String> = retains.iter().map(cell).collect();
                let _ = writeln!(out, "{} & {} \\\\", policy.replace('_', "\\_"), row.join(" & "));
            }
            out.push_str("\\bottomrule\n\\end{tabular}\n");
        }
        out
    }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    let plain = !text.contains([',', '"', '\n']);
    if plain { text.into() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// A retention in percent, without unnecessary digits.
fn percent(r: f64) -> String {
    let text = format!("{:.4}", 100.0 * r);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
