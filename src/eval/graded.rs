//! The scores of a cell's answers, question by question, or group by group.

use super::{Item, Journal, Metric, Questions};
use std::collections::BTreeMap;

/// What a score belongs to: a question, or a group of questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Graded {
    /// The index of the question, or of the first question of the group.
    pub question: usize,
    /// The kind, if the file gives it.
    pub kind: Option<String>,
    /// 0 … 1; of a group 1 if the score of every question is 1, else 0.
    pub score: f64,
}

/// The scores by a metric under cell number `cell`, in the order of the file. A group counts when all of it is answered.
pub fn graded(journal: &Journal, questions: &Questions, metric: Metric, cell: usize) -> Vec<Graded> {
    let answered = journal.answers().iter().map(|(&q, answers)| (q, &answers[cell]));
    let scored = answered.map(|(q, answer)| {
        let item = &questions.items[q];
        (q, Graded { question: q, kind: item.kind.clone(), score: metric.score(answer, item) })
    });
    if !metric.is_grouped {
        return scored.map(|(_, graded)| graded).collect();
    }
    let mut sizes: BTreeMap<Group, usize> = BTreeMap::new();
    questions.items.iter().enumerate().for_each(|(q, item)| *sizes.entry(group(q, item)).or_default() += 1);
    let mut groups: BTreeMap<Group, (usize, Graded)> = BTreeMap::new();
    for (q, one) in scored {
        let (count, whole) =
            groups.entry(group(q, &questions.items[q])).or_insert_with(|| (0, Graded { score: 1.0, ..one.clone() }));
        *count += 1;
        whole.score = if one.score < 1.0 { 0.0 } else { whole.score };
    }
    let complete = groups.into_iter().filter(|(name, (count, _))| sizes.get(name) == Some(count));
    let mut graded: Vec<Graded> = complete.map(|(_, (_, graded))| graded).collect();
    graded.sort_by_key(|graded| graded.question);
    graded
}

/// Kind and name of a group.
type Group = (Option<String>, String);

/// The group of a question: by `group`, else by its pictures (MME asks twice about each), else the question alone.
fn group(q: usize, item: &Item) -> Group {
    let pictures = || item.files().map(|file| file.display().to_string()).collect::<Vec<_>>().join("\n");
    let name = item.group.clone().unwrap_or_else(pictures);
    (item.kind.clone(), if name.is_empty() { format!("question {q}") } else { name })
}
