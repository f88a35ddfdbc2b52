//! Scores of answers, by name. `NAME` is lmms-eval's rule, `NAME@vlmevalkit` is VLMEvalKit's where it differs.
//!
//! ```text
//! anls      edit distance: DocVQA, InfoVQA
//! phrases   relaxed (ChartQA), contains (OCRBench), yes or no (MME)
//! vqa       TextVQA
//! choice    MMBench
//! python    text as Python handles it
//! ```
//!
//! Source: lmms-eval and VLMEvalKit; `tests/golden/metrics` has what their functions say about thousands of answers.

mod anls;
mod choice;
mod kit;
mod phrases;
mod python;
mod vqa;

use super::Item;
use crate::error::{Error, Result};
pub use anls::{anls, anls_lmms};
pub use kit::Kit;

/// How an answer is compared with the accepted answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Exact,
    Anls,
    AnlsLmms,
    Relaxed,
    Vqa,
    Contains,
    YesNo,
    Choice,
}

/// A score of an answer, 0 … 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    rule: Rule,
    kit: Kit,
    /// Whether a group of questions counts as one, which is right if all of them are (MME's accuracy+, circular choice).
    pub is_grouped: bool,
}

/// Name, rule, whether VLMEvalKit has a rule of its own, whether groups count.
const NAMES: [(&str, Rule, bool, bool); 10] = [
    ("exact", Rule::Exact, false, false),
    ("anls", Rule::Anls, false, false),
    ("anls-lmms", Rule::AnlsLmms, false, false),
    ("relaxed", Rule::Relaxed, true, false),
    ("vqa", Rule::Vqa, true, false),
    ("contains", Rule::Contains, true, false),
    ("mme", Rule::YesNo, true, false),
    ("mme+", Rule::YesNo, true, true),
    ("choice", Rule::Choice, true, false),
    ("choice+", Rule::Choice, true, true),
];
const SUFFIX: &str = "@vlmevalkit";

impl Metric {
    /// Equal after trimming white space.
    pub const EXACT: Metric = Metric { rule: Rule::Exact, kit: Kit::LmmsEval, is_grouped: false };
    /// Edit similarity.
    pub const ANLS: Metric = Metric { rule: Rule::Anls, kit: Kit::LmmsEval, is_grouped: false };

    /// The metrics of a list, separated by commas. `mme` stands for `mme` and `mme+`.
    ///
    /// ```
    /// use aircache::eval::Metric;
    /// let names: Vec<String> = Metric::list("exact,mme@vlmevalkit")?.iter().map(Metric::name).collect();
    /// assert_eq!(names, ["exact", "mme@vlmevalkit", "mme+@vlmevalkit"]);
    /// # Ok::<(), aircache::Error>(())
    /// ```
    ///
    /// # Errors
    /// A name is unknown, or stands twice.
    pub fn list(names: &str) -> Result<Vec<Metric>> {
        let mut all: Vec<Metric> = Vec::new();
        for name in names.split(',').map(str::trim) {
            let metric = Metric::parse(name)?;
            // MME's score is the sum of both accuracies.
            for metric in [metric].into_iter().chain(metric.pairs_of_mme()) {
                if all.contains(&metric) {
                    return Err(Error::new("metric", "each metric once", format!("{} twice", metric.name())));
                }
                all.push(metric);
            }
        }
        Ok(all)
    }

    fn parse(name: &str) -> Result<Metric> {
        let (plain, kit) = match name.strip_suffix(SUFFIX) {
            Some(plain) => (plain, Kit::VlmEvalKit),
            None => (name, Kit::LmmsEval),
        };
        let found = NAMES.iter().find(|(n, _, own, _)| *n == plain && (*own || kit == Kit::LmmsEval));
        let Some(&(_, rule, _, is_grouped)) = found else {
            let known: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
            let remedy = format!("relaxed, vqa, contains, mme and choice also as NAME{SUFFIX}");
            return Err(
                Error::new("metric", format!("one of {}", known.join(", ")), format!("{name:?}")).remedy(remedy)
            );
        };
        Ok(Metric { rule, kit, is_grouped })
    }

    /// The name, as [`list`](Self::list) reads it.
    pub fn name(&self) -> String {
        let found = NAMES.iter().find(|(_, rule, _, grouped)| (*rule, *grouped) == (self.rule, self.is_grouped));
        let suffix = if self.kit == Kit::VlmEvalKit { SUFFIX } else { "" };
        format!("{}{suffix}", found.map_or("", |(name, ..)| name))
    }

    /// Of `mme`, the accuracy of whole pictures.
    pub fn pairs_of_mme(self) -> Option<Metric> {
        (self.rule == Rule::YesNo && !self.is_grouped).then_some(Metric { is_grouped: true, ..self })
    }

    /// Whether every score is 0 or 1.
    pub fn is_share(&self) -> bool {
        !matches!(self.rule, Rule::Anls | Rule::AnlsLmms | Rule::Vqa)
    }

    /// The same metric of each question by itself.
    pub fn of_questions(self) -> Metric {
        Metric { is_grouped: false, ..self }
    }

    /// The score of an answer to a question by itself, 0 … 1. Without accepted answers it is 0.
    pub fn score(&self, answer: &str, item: &Item) -> f64 {
        let any = |fits: &dyn Fn(&str) -> bool| f64::from(u8::from(item.answers.iter().any(|a| fits(a))));
        match self.rule {
            Rule::Exact => f64::from(u8::from(exact_match(answer, &item.answers))),
            Rule::Anls => anls(answer, &item.answers),
            Rule::AnlsLmms => anls_lmms(answer, &item.answers),
            Rule::Vqa => vqa::score(answer, &item.answers, self.kit),
            Rule::Relaxed => any(&|accepted| phrases::relaxed(answer, accepted, self.kit)),
            Rule::Contains => any(&|accepted| phrases::contains(answer, accepted, item.kind.as_deref(), self.kit)),
            Rule::YesNo => any(&|accepted| phrases::yes_no(answer, accepted, self.kit)),
            Rule::Choice => {
                let chosen = choice::chosen(answer, &item.options, self.kit);
                any(&|accepted| chosen.is_some_and(|c| accepted.trim().chars().eq([c])))
            }
        }
    }

    /// What a question needs for this metric and lacks.
    pub fn lacks(&self, item: &Item) -> Option<&'static str> {
        match self.rule {
            Rule::Choice if item.options.is_empty() => Some("\"options\": the texts of the choices"),
            _ => None,
        }
    }
}

/// True if the answer equals an accepted string after trimming white space. Case matters.
///
/// ```
/// assert!(aircache::eval::exact_match(" 48\n", &["48".into()]));
/// assert!(!aircache::eval::exact_match("w400", &["W400".into()]));
/// ```
pub fn exact_match(answer: &str, accepted: &[String]) -> bool {
    accepted.iter().any(|a| a.trim() == answer.trim())
}
