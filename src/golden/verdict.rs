//! Verdicts: the result for one stage, and for a candidate as a whole.

use crate::stage::Stage;
use serde_json::{Value, json};

/// The outcome of judging one stage. Spec: T10.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As near to the truth as an honest computation.
    Pass,
    /// A decision that differs from the truth's, within the margin of honest noise.
    Admissible,
    /// Farther from the truth than any honest computation.
    Fail,
    /// There is nothing to judge the stage by; the words give the reason.
    NotJudged,
}

impl Outcome {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Admissible => "admissible",
            Outcome::Fail => "fail",
            Outcome::NotJudged => "not judged",
        }
    }
}

/// The verdict on one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageVerdict {
    /// Its name.
    pub stage: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The size of the error, by the statistic that decided.
    pub error: Option<f64>,
    /// The error of an honest computation.
    pub ruler: Option<f64>,
    /// error / ruler.
    pub ratio: Option<f64>,
    /// The largest ratio that passes. Spec: T10.3
    pub allowed: Option<f64>,
    /// Which statistic decided: element, row, column, head, whole, gain, trend, drift, margin.
    pub statistic: &'static str,
    /// The worst element.
    pub index: Vec<usize>,
    /// The truth's value there.
    pub expected: Option<f64>,
    /// The candidate's value there.
    pub got: Option<f64>,
    /// Where the error is and what it looks like, in words.
    pub words: String,
    /// What the candidate computed instead, in words; empty if that is not known. Spec: D11.2
    pub cause: String,
    /// The stage as a whole, for a picture; none if it is no stage of numbers.
    pub whole: Option<Whole>,
}

/// The largest |e| / ruler in each part of a stage. Spec: D10.9
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The stage.
    pub stage: String,
    /// Panels (heads, or 1), rows and numbers per row; a stage of one row is cut into lines of equal length.
    pub sides: [usize; 3],
    /// Cells of a panel: down, across.
    pub cells: [usize; 2],
    /// [panel][down · across]: element error in rulers; NaN if a number is NaN.
    pub panels: Vec<Vec<f64>>,
    /// The allowed error of an element, in rulers. Spec: T10.3
    pub allowed: f64,
    /// Whether the stage is one row, cut into lines.
    pub folded: bool,
}

/// The size of a whole stage of numbers and of its errors, each a root mean square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole {
    /// The size of the error.
    pub error: f64,
    /// The error of an honest computation.
    pub ruler: f64,
    /// The size of the truth.
    pub size: f64,
}

impl StageVerdict {
    /// A verdict without numbers.
    pub(super) fn plain(stage: &str, outcome: Outcome, words: impl Into<String>) -> StageVerdict {
        StageVerdict {
            stage: stage.into(),
            outcome,
            error: None,
            ruler: None,
            ratio: None,
            allowed: None,
            whole: None,
            statistic: "",
            index: vec![],
            expected: None,
            got: None,
            words: words.into(),
            cause: String::new(),
        }
    }

    /// The unit in which the statistic that decided measures an error: the stage's own numbers, their usual error in a
    /// column (σ of D10.2), a share of the truth, a direction's coefficient, or a score. Spec: D11.1
    pub fn unit(&self) -> &'static str {
        match self.statistic {
            "" => "",
            "row" | "head" | "trend" => "σ",
            "gain" => "share",
            "drift" => "along",
            "margin" => "score",
            _ => "value",
        }
    }

    /// The same verdict, with the element that shows the error.
    pub(super) fn at(mut self, index: Vec<usize>, expected: f64, got: f64) -> StageVerdict {
        (self.index, self.expected, self.got) = (index, Some(expected), Some(got));
        self
    }

    /// The same verdict, with an error, its ruler, and how many rulers are allowed.
    pub(super) fn by(mut self, statistic: &'static str, error: f64, ruler: f64, allowed: f64) -> StageVerdict {
        let ratio = if error == 0.0 { 0.0 } else { error / ruler };
        self.allowed = Some(allowed);
        (self.statistic, self.error, self.ruler, self.ratio) = (statistic, Some(error), Some(ruler), Some(ratio));
        self
    }
}

/// Missing stages that a report names one by one.
const MISSING: usize = 6;

/// The verdict on a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `golden` or `replay`.
    pub mode: &'static str,
    /// The candidate's type.
    pub precision: &'static str,
    /// Its stages in causal order.
    pub stages: Vec<StageVerdict>,
    /// Stages that the golden has but the candidate does not have.
    pub missing: Vec<String>,
    /// Tensors of the candidate that are no stages, each with the stage that was probably meant.
    pub unknown: Vec<(String, Option<String>)>,
    /// Whether a stage that is not judged counts as a failure.
    pub strict: bool,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// The worst stage of numbers, drawn as a map: the first failed stage, or else the stage nearest to failing.
    pub map: Option<Map>,
}

impl Verdict {
    /// Whether nothing failed. A strict verdict also requires that every stage was judged and that every tensor of the
    /// candidate is a stage. Spec: C10.5b
    pub fn passes(&self) -> bool {
        let whole = || self.count(Outcome::NotJudged) == 0 && self.unknown.is_empty();
        self.first_divergence().is_none() && (!self.strict || whole())
    }

    /// How many stages have an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.stages.iter().filter(|s| s.outcome == outcome).count()
    }

    /// How many stages were judged, and how: `57 judged, 2 of them admissible; 3 not judged; 0 failed`.
    fn counts(&self) -> String {
        let [admissible, unjudged, failed] =
            [Outcome::Admissible, Outcome::NotJudged, Outcome::Fail].map(|outcome| self.count(outcome));
        let judged = self.stages.len() - unjudged;
        format!("{judged} judged, {admissible} of them admissible; {unjudged} not judged; {failed} failed")
    }

    /// The first stage in causal order that failed. Spec: D10.4
    pub fn first_divergence(&self) -> Option<&StageVerdict> {
        let failed = self.stages.iter().filter(|s| s.outcome == Outcome::Fail);
        failed.min_by_key(|s| Stage::parse(&s.stage))
    }

    /// The verdict as JSON, in the form that the contract defines.
    pub fn json(&self) -> Value {
        let number =
            |v: Option<f64>| v.map_or(Value::Null, |v| if v.is_finite() { json!(v) } else { json!(v.to_string()) });
        let stage = |s: &StageVerdict| {
            json!({
                "stage": s.stage,
                "verdict": s.outcome.name(),
                "error": number(s.error),
                "ruler": number(s.ruler),
                "ratio": number(s.ratio),
                "allowed": number(s.allowed),
                "whole": s.whole.map(|w| json!({"error": number(Some(w.error)), "ruler": number(Some(w.ruler)), "size": number(Some(w.size))})),
                "statistic": s.statistic,
                "unit": s.unit(),
                "index": s.index,
                "expected": number(s.expected),
                "got": number(s.got),
                "words": s.words,
                "cause": (!s.cause.is_empty()).then_some(&s.cause),
            })
        };
        json!({
            "verdict": if self.passes() { "pass" } else { "fail" },
            "first_divergence": self.first_divergence().map(|s| &s.stage),
            "mode": self.mode,
            "precision": self.precision,
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
            "judged": self.stages.len() - self.count(Outcome::NotJudged),
            "admissible": self.count(Outcome::Admissible),
            "not_judged": self.count(Outcome::NotJudged),
            "failed": self.count(Outcome::Fail),
            "missing": self.missing,
            "unknown": self.unknown.iter().map(|(name, meant)| json!({"name": name, "meant": meant})).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// The report: one line for each stage, notes, the first divergence in words and its cause, and the counts. Spec: D11.1
    pub fn lines(&self) -> Vec<String> {
        let short = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.2e}"));
        let mut lines = vec![format!(
            "{:22} {:10} {:>9} {:>9} {:>8} {:>7}  {:12}",
            "stage", "verdict", "error", "ruler", "ratio", "allowed", "by"
        )];
        for s in &self.stages {
            let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.2}"));
            let (ratio, allowed) = (number(s.ratio), number(s.allowed));
            let (error, ruler) = (short(s.error), short(s.ruler));
            let by = if s.statistic.is_empty() { String::new() } else { format!("{} ({})", s.statistic, s.unit()) };
            let line = format!(
                "{:22} {:10} {error:>9} {ruler:>9} {ratio:>8} {allowed:>7}  {by:12}  {}",
                s.stage,
                s.outcome.name(),
                s.words
            );
            lines.push(line.trim_end().into());
        }
        lines.extend(self.missing());
        let meant = |(name, meant): &(String, Option<String>)| match meant {
            Some(meant) => format!("{name} (did you mean {meant}?)"),
            None => name.clone(),
        };
        if !self.unknown.is_empty() {
            let mut few: Vec<String> = self.unknown.iter().take(8).map(meant).collect();
            few.extend((self.unknown.len() > few.len()).then(|| format!("{} more", self.unknown.len() - few.len())));
            lines.push(format!("note: no stages, and not judged: {}", few.join(", ")));
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.told());
        lines.push(match self.first_divergence() {
            None if !self.passes() => {
                let unknown = self.unknown.len();
                format!("fail, since the verdict is strict: {}; {unknown} tensors are no stages", self.counts())
            }
            None => format!(
                "pass: the error of every judged stage is that of an honest {} computation ({})",
                self.precision,
                self.counts()
            ),
            Some(_) => format!("fail: {}", self.counts()),
        });
        lines
    }

    /// Stages that the golden has and the candidate lacks, in one line.
    fn missing(&self) -> Option<String> {
        let few = self.missing.iter().take(MISSING).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = self.missing.len().saturating_sub(MISSING);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        (!self.missing.is_empty()).then(|| format!("missing: {few}{more}"))
    }

    /// The first divergence, and its cause if that is known.
    pub fn told(&self) -> Vec<String> {
        let Some(s) = self.first_divergence() else { return vec![] };
        let index: Vec<String> = s.index.iter().map(usize::to_string).collect();
        let value = |v: Option<f64>| v.map_or("?".into(), |v| format!("{v:.6}"));
        let place = match s.index.is_empty() {
            true => String::new(),
            false => {
                format!("; worst at [{}]: expected {}, got {}", index.join(", "), value(s.expected), value(s.got))
            }
        };
        let mut lines = vec![format!("first divergence: {}, {}{place}", s.stage, s.words)];
        lines.extend((!s.cause.is_empty()).then(|| format!("cause: {}", s.cause)));
        lines
    }
}
