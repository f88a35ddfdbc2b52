//! The mean of a metric with its error and interval, whole and by kind.

use super::stats::{mean_interval, stderr, wilson};
use super::{Graded, Metric};
use serde::Serialize;
use std::collections::BTreeMap;

/// A metric over the answers of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The number of questions, or of groups.
    pub n: usize,
    /// The mean, 0 … 1.
    pub mean: f64,
    /// The standard error of the mean: the sample's standard deviation / √n.
    pub stderr: f64,
    /// The 95 % interval: Wilson's of a share, by the normal approximation of any other score.
    pub ci95: (f64, f64),
    /// The same by kind, if the questions have kinds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, Score>,
}

impl Score {
    /// The score of all graded answers.
    pub fn of(metric: Metric, graded: &[Graded]) -> Score {
        let mut by_kind: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for one in graded {
            if let Some(kind) = &one.kind {
                by_kind.entry(kind.clone()).or_default().push(one.score);
            }
        }
        let scores: Vec<f64> = graded.iter().map(|g| g.score).collect();
        let kinds = by_kind.into_iter().map(|(kind, scores)| (kind, Score::alone(metric, &scores)));
        Score { kinds: kinds.collect(), ..Score::alone(metric, &scores) }
    }

    fn alone(metric: Metric, scores: &[f64]) -> Score {
        let (mean, interval) = mean_interval(scores);
        let hits = scores.iter().filter(|s| **s == 1.0).count();
        let ci95 = if metric.is_share() { wilson(hits, scores.len()) } else { interval };
        Score { n: scores.len(), mean, stderr: stderr(scores), ci95, kinds: BTreeMap::new() }
    }
}

/// MME's two sums: over the kinds of each part, 100 times the accuracy of questions plus that of pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MmeSums {
    /// At most 2000, of ten kinds.
    pub perception: f64,
    /// At most 800, of four kinds.
    pub cognition: f64,
}

const COGNITION: [&str; 4] = ["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"];

impl MmeSums {
    /// The sums of `mme` and `mme+`.
    pub fn of(questions: &Score, pictures: &Score) -> MmeSums {
        let mut sums = MmeSums { perception: 0.0, cognition: 0.0 };
        for (kind, score) in &questions.kinds {
            let whole = pictures.kinds.get(kind).map_or(0.0, |score| score.mean);
            let sum = if COGNITION.contains(&kind.as_str()) { &mut sums.cognition } else { &mut sums.perception };
            *sum += 100.0 * (score.mean + whole);
        }
        sums
    }
}
