//! Rows that are dropped inside prefill, against the public code of FastV, PyramidDrop, EffiVLM-Bench and SparseVLM. The answers
//! are in methods/pruning.json; scripts/make_pruning.py made them and names the commits.

use crate::common::prompts::{Prompt, policy, roles};
use aircache::num::Grid;
use aircache::policy::{Retain, above_mean, best, received, relevance, votes, votes_of_raters};
use ndarray::{Axis, s};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answers {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    policy: String,
    /// Visual rows that stay, where the policy takes their number from the retention.
    tokens: Option<usize>,
    /// Text rows before the image, visual rows, text rows after it.
    before: usize,
    visual: usize,
    after: usize,
    seed: u64,
    layers: usize,
    heads: Option<usize>,
    kv_heads: Option<usize>,
    cuts: Vec<Cut>,
    /// The label of the reading by which the number of rows differs by one.
    rounds: Option<String>,
    /// "all": every row asks (A9.9); otherwise the last row.
    voters: Option<String>,
    /// The text rows that rate; they follow from embeddings of another seed.
    raters: Option<Vec<usize>>,
    /// The label of the reading by which the code merges rows at the first cut, so that its later cuts are others.
    merges: Option<String>,
}

#[derive(Deserialize)]
struct Cut {
    layer: usize,
    /// The layer whose queries and keys rank the rows.
    ranks: usize,
    /// The visual rows that reach the layer, counted from the first.
    rows: Vec<usize>,
    positions_kept: bool,
}

#[test]
fn rows_that_are_left_are_those_of_public_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/pruning.json");
    let answers: Answers = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &answers.cases {
        let pattern = ["T".repeat(case.before), "V".repeat(case.visual), "T".repeat(case.after)].concat();
        let sizes = [case.heads.unwrap_or(answers.heads), case.kv_heads.unwrap_or(answers.kv_heads), answers.dim];
        let prompt = Prompt::seeded(case.seed, roles(&pattern), case.layers, sizes, 1.0);
        let policy = policy(&case.policy);
        let policy = case.tokens.map_or(policy.clone(), |tokens| policy.at(Retain::tokens(tokens).unwrap()));
        let ours = policy.prune.cuts(case.layers, case.visual).unwrap();
        let compared = if case.merges.as_deref() == Some("A9.15") { 1 } else { ours.len() };
        assert_eq!(compared, case.cuts.len(), "{}", case.name);
        if let Some(raters) = &case.raters {
            // E9.33: the embeddings are the queries of one head of another prompt.
            let x = Prompt::seeded(case.seed + 100, roles(&pattern), 1, [1, answers.kv_heads, answers.dim], 1.0);
            let (visual, text) = (roles(&pattern).visual(), policy.counted(&roles(&pattern)).unwrap());
            let found = relevance(x.q[0].index_axis(Axis(0), 0), &visual, &text, Grid::Native);
            let found: Vec<usize> = above_mean(&found).into_iter().map(|i| text[i]).collect();
            assert_eq!(&found, raters, "{}", case.name);
        }
        let mut left: Vec<usize> = (0..pattern.len()).collect();
        for (ours, theirs) in ours.iter().zip(&case.cuts) {
            assert_eq!(ours.layer, theirs.layer, "{}", case.name);
            match case.rounds.as_deref() {
                None => assert_eq!(ours.keep, theirs.rows.len(), "{}", case.name),
                // A9.8: public code rounds down, or a half to even; never by more than one row.
                Some(label) => assert!(label == "A9.8" && ours.keep - theirs.rows.len() <= 1, "{}", case.name),
            }
            let (q, k) = (&prompt.q[theirs.ranks], prompt.k[theirs.ranks].select(Axis(1), &left));
            let votes = match (&case.raters, case.voters.as_deref()) {
                (Some(raters), None) => {
                    let seen: Vec<usize> = raters.iter().map(|row| left.partition_point(|left| left <= row)).collect();
                    votes_of_raters(q.select(Axis(1), raters).view(), &seen, k.view(), Grid::Native) // E9.34
                }
                (None, None) => votes(q.slice(s![.., pattern.len() - 1, ..]), k.view(), Grid::Native),
                (None, Some("all")) => received(q.select(Axis(1), &left).view(), k.view()).sum_axis(Axis(0)).to_vec(),
                (_, other) => panic!("{}: {other:?}", case.name),
            };
            let visual = |row: usize| (case.before..case.before + case.visual).contains(&row);
            let visual_votes: Vec<f64> = left.iter().zip(votes).filter(|(row, _)| visual(**row)).map(|v| v.1).collect();
            let rows: Vec<usize> = left.iter().copied().filter(|&row| visual(row)).collect();
            let best = best(&visual_votes, theirs.rows.len());
            let stay: Vec<usize> = best.into_iter().map(|i| rows[i]).collect();
            assert_eq!(stay.iter().map(|row| row - case.before).collect::<Vec<_>>(), theirs.rows, "{}", case.name);
            // A9.9: PyramidDrop ranks by the layer after the cut and counts positions anew; FastV's codes do neither.
            let pyramid = case.name.starts_with("PyramidDrop");
            assert_eq!(theirs.ranks + usize::from(!pyramid), theirs.layer, "{}", case.name);
            // A9.15: the version of SparseVLM that merges rows counts positions anew, too.
            assert_eq!(theirs.positions_kept, !pyramid && case.merges.is_none(), "{}", case.name);
            left.retain(|&row| !visual(row) || stay.contains(&row));
        }
    }
    assert_eq!(answers.cases.len(), 22);
}
