//! The results of an evaluation: one line for each cell, as JSON and as a plot.

use super::{Header, Journal, Metric, MmeSums, Questions, Score, graded};
use crate::report::{Line, Plot};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// Every metric that was asked for, by its name.
    pub metrics: BTreeMap<String, Score>,
    /// MME's sums, by the name of their metric.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mme: BTreeMap<String, MmeSums>,
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
    /// How the questions were asked, if a recipe changed them.
    pub recipe: Option<Value>,
    /// The names of the metrics, in the order asked for; tables and plot show the first one first.
    pub metrics: Vec<String>,
}

impl Results {
    /// The results over the questions that are answered so far.
    pub fn of(journal: &Journal, questions: &Questions, metrics: &[Metric]) -> Results {
        let Header { model, data, questions: count, precision, preprocess, max_new_tokens, recipe, cells, .. } =
            journal.header().clone();
        let score = |metric: Metric, c: usize| Score::of(metric, &graded(journal, questions, metric, c));
        let cell = |(c, (policy, retain)): (usize, &(String, String))| {
            let (exact, anls) = (score(Metric::EXACT, c), score(Metric::ANLS, c));
            let all: BTreeMap<String, Score> = metrics.iter().map(|m| (m.name(), score(*m, c))).collect();
            let sums = |metric: &Metric| {
                let pictures = metric.pairs_of_mme()?;
                Some((metric.name(), MmeSums::of(&score(*metric, c), &score(pictures, c))))
            };
            CellResult {
                policy: policy.clone(),
                retain: retain.parse().unwrap_or(f64::NAN),
                n: exact.n,
                exact_match: exact.mean,
                anls: anls.mean,
                ci95: exact.ci95,
                anls_ci95: anls.ci95,
                metrics: all,
                mme: metrics.iter().filter_map(sums).collect(),
            }
        };
        let cells = cells.iter().enumerate().map(cell).collect();
        let metrics = metrics.iter().map(Metric::name).collect();
        Results { cells, model, data, questions: count, precision, preprocess, max_new_tokens, recipe, metrics }
    }

    /// The JSON form, one line for each cell; the text ends with a line feed.
    pub fn json(&self) -> String {
        let line = |c: &CellResult| serde_json::to_string(c).unwrap_or_default();
        let cells: Vec<String> = self.cells.iter().map(|c| format!("  {}", line(c))).collect();
        let Results { model, data, questions, precision, preprocess, max_new_tokens, .. } = self;
        let recipe = self.recipe.as_ref().map_or(String::new(), |recipe| format!(", \n\"recipe\": {recipe}"));
        format!(
            "{{\"cells\": [\n{}\n],\n\"model\": \"{model}\", \"data\": \"{data}\", \"questions\": {questions}, \
             \"precision\": \"{precision}\", \"preprocess\": \"{preprocess}\", \"max_new_tokens\": {max_new_tokens}{recipe}}}\n",
            cells.join(",\n")
        )
    }

    /// The plot of the first metric against retention, with intervals: one line for each policy; the full cache is a
    /// horizontal level.
    pub fn plot(&self) -> Plot {
        let metric = self.metrics.first().map_or("exact", String::as_str);
        let quantity = title(metric);
        let score = |c: &CellResult| c.metrics.get(metric).map_or((0.0, (0.0, 1.0)), |score| (score.mean, score.ci95));
        let mut lines: Vec<Line> = Vec::new();
        for c in self.cells.iter().filter(|c| c.policy != "full") {
            let at = lines.iter().position(|l| l.name == c.policy).unwrap_or_else(|| {
                lines.push(Line { name: c.policy.clone(), points: vec![] });
                lines.len() - 1
            });
            let (mean, ci95) = score(c);
            lines[at].points.push((c.retain, mean, ci95));
        }
        lines.iter_mut().for_each(|l| l.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        let full = self.cells.iter().find(|c| c.policy == "full");
        Plot {
            title: format!("{quantity} after eviction, {} questions", self.cells.first().map_or(0, |c| c.n)),
            level: full.map(|c| ("full cache".into(), score(c).0)),
            quantity: quantity.to_lowercase(),
            lines,
        }
    }
}

/// The metric's name in titles.
pub(super) fn title(metric: &str) -> String {
    match metric {
        "exact" => "Exact match".into(),
        "anls" => "ANLS".into(),
        name => name.into(),
    }
}
