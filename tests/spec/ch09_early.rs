//! Chapter 09, pruning before the decoder: who rates visual rows, which of them stay, what the decoder computes of them, and
//! how candidates are judged.

use crate::common::demo::DEMO;
use crate::common::lab::{Dump, Lab};
use crate::common::pruned::{
    Seen, exchanged, honest_candidates_pass, lab, one_state, outcome, policy, prompt, shorter, state,
};
use crate::common::toys::toys;
use aircache::generate;
use aircache::golden::Outcome;
use aircache::input::{PackedRow, Positions, Prepared};
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::{Pass, Precision, Source};
use aircache::policy::{Cut, Policy, Prune, Rater, Retain, preset, spread, votes, votes_of_rows};
use aircache::stage::Stage;
use ndarray::{Array2, ArrayD, Axis, array, aview2};

/// The raters that every tower knows.
const EVERYWHERE: [&str; 3] = ["received:0.1", "dominant:0.1", "diverse:0.1"];

fn cuts(written: &str, layers: usize, visual: usize) -> Vec<Cut> {
    written.parse::<Prune>().unwrap().cuts(layers, visual).unwrap()
}

#[test]
fn d9_10_worked_example() {
    assert_eq!(cuts("class:0.5", 6, 10), [Cut { layer: 0, by: Rater::Class, keep: 5 }]);
    let two = [Cut { layer: 0, by: Rater::Diverse, keep: 5 }, Cut { layer: 2, by: Rater::LastRow, keep: 2 }];
    assert_eq!(cuts("diverse:0.5+2:0.2", 6, 10), two);
    let at = |name: &str| preset(name).unwrap().policy.at("0.3".parse().unwrap()).prune.cuts(6, 10).unwrap()[0];
    assert_eq!(at("fastervlm"), Cut { layer: 0, by: Rater::Class, keep: 3 });
    assert_eq!(at("divprune"), Cut { layer: 0, by: Rater::Diverse, keep: 3 });
    let asked = |class: bool| Rater::Dominant.in_tower(class).map(|rate| (rate.by, rate.keys));
    assert_eq!([true, false].map(asked), [Some((Rater::Class, false)), Some((Rater::Received, false))]);
    assert_eq!(Rater::Diverse.in_tower(true), None);
    for written in ["class", "received:0.5", "dominant:0.1+25%:0.05", "diverse"] {
        assert_eq!(written.parse::<Prune>().unwrap().to_string(), written);
    }
    for written in ["2:0.5+class:0.1", "class+received", "last-row:0.5", "class:2", "0:0.5"] {
        let error = written.parse::<Prune>().unwrap_err().to_string();
        assert!(error.contains("the first cut may be class"), "{error}");
    }
}

#[test]
fn e9_30_worked_example() {
    let k = array![[[0.0], [2f64.ln()], [0.0]]];
    assert_eq!(votes(aview2(&[[1.0]]), k.view(), Grid::Native)[1..], [0.5, 0.25]);
}

#[test]
fn e9_31_worked_example() {
    let (q, k) = (array![[[0.0], [1.0]]], array![[[0.0], [2f64.ln()]]]);
    let found = votes_of_rows(q.view(), k.view(), Grid::Native);
    assert!((found[0] - 5.0 / 6.0).abs() < 1e-15 && (found[1] - 7.0 / 6.0).abs() < 1e-15, "{found:?}");
}

/// R9.30: weights, their mean and the votes of rows are stored.
#[test]
fn r9_30_votes_are_stored() {
    let k = array![[[0.0f32], [1.0], [0.5]]];
    let q = array![[[1.0f32], [0.3], [0.7]]];
    let stored = votes_of_rows(q.view(), k.view(), Grid::Bf16);
    assert!(stored.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v), "{stored:?}");
    assert_ne!(stored, votes_of_rows(q.view(), k.view(), Grid::Native));
    let mut pass = Pass::<f32>::new(Grid::Bf16);
    let of_model = DEMO.encode(&mut pass, &prompt(0), Some(Rater::Received)).votes;
    assert!(of_model.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v));
}

#[test]
fn e9_32_worked_example() {
    let rows = array![[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [2.0, 0.0]];
    let chosen: Vec<Vec<usize>> = (1..=5).map(|keep| spread(rows.view(), keep, Grid::Native).1).collect();
    assert_eq!(chosen, [vec![1], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3], vec![0, 1, 2, 3]]);
    assert_eq!(spread(rows.view(), 2, Grid::Native).0, [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(spread(aview2(&[[3.0]]), 1, Grid::Native), (vec![2.0], vec![0]));
    assert_eq!(spread(aview2(&[[0.0], [0.0]]), 1, Grid::Native), (vec![1.0, 1.0], vec![0]), "rows of zeros");
}

#[test]
fn r9_32_distances_are_stored() {
    let rows = Array2::from_shape_fn((9, 5), |(i, j)| ((i * 7 + j * 3) % 11) as f32 - 4.5);
    let (stored, exact) = (spread(rows.view(), 3, Grid::Bf16).0, spread(rows.view(), 3, Grid::Native).0);
    assert!(stored.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v), "{stored:?}");
    assert_ne!(stored, exact);
}

/// E9.32 as loops over its definition.
#[test]
fn e9_32_equals_its_naive_twin() {
    let rows = Array2::from_shape_fn((40, 7), |(i, j)| f64::from(((i * 31 + j * 17 + i * j * 5) % 23) as u32) - 11.0);
    let norm = |i: usize| (0..7).map(|t| rows[[i, t]] * rows[[i, t]]).sum::<f64>().sqrt();
    let far = |i: usize, j: usize| {
        let product: f64 = (0..7).map(|t| rows[[i, t]] * rows[[j, t]]).sum();
        1.0 - product / (norm(i) * norm(j))
    };
    let least = |j: usize, all: &mut dyn Iterator<Item = usize>| all.map(|i| far(i, j)).fold(f64::INFINITY, f64::min);
    let mut chosen: Vec<usize> = vec![];
    for keep in 1..=12 {
        let score = |j: usize| match chosen.is_empty() {
            true => least(j, &mut (0..40).filter(|&i| i != j)),
            false => least(j, &mut chosen.iter().copied()),
        };
        let open = (0..40).filter(|j| !chosen.contains(j));
        let next = open.reduce(|a, b| if score(b) > score(a) + 1e-12 { b } else { a }).unwrap();
        chosen.push(next);
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        assert_eq!(spread(rows.view(), keep, Grid::Native).1, sorted, "{keep} rows");
    }
}

fn seen(model: &Model, prompt: &Prepared, policy: Policy) -> Seen {
    let mut seen = Seen::default();
    let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
    generate::prefill(model, &mut pass, prompt, &[policy]).unwrap();
    seen
}

/// C9.10a: the decoder computes the bits of a prompt that never had the rows that were dropped.
#[test]
fn c9_10a_equals_a_shorter_prompt() {
    let clip = toys("llava_clip", 9).into_iter().filter(|toy| ["vicuna-f16", "next-thin"].contains(&toy.name.as_str()));
    let moved = toys("qwen2_vl", 1).into_iter().chain(toys("qwen3_vl", 1)).filter(|toy| !toy.prompt.images.is_empty());
    let mut cases: Vec<(String, Model, Prepared)> =
        clip.chain(moved.take(8)).map(|toy| (toy.name, toy.model, toy.prompt)).collect();
    cases.push(("demo".into(), Model::load(&aircache::demo::files()).unwrap(), prompt(0)));
    let mut compared = 0;
    for (name, model, prompt) in &cases {
        let words: &[&str] =
            if model.config.profile().tower.class { &["class:0.3", "received:0.3"] } else { &EVERYWHERE };
        for written in words {
            let mut pass = Pass::<f32>::new(Grid::Native);
            let pruned = generate::prefill(model, &mut pass, prompt, &[policy(written)]).unwrap();
            let Some(rows) = pruned.pruning.rows(0) else { continue };
            let visual = model.encode(&mut pass, prompt, None);
            let deepstack = visual.deepstack.clone();
            let x = model.merge(&mut pass, prompt, visual.rows).unwrap().select(Axis(0), rows);
            let twin = shorter(model, &mut pass, prompt, rows, x, &deepstack);
            assert!(state(&pruned) == state(&twin), "{name}, {written}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
}

#[test]
fn c9_10a_chunks_batches_and_threads_change_no_bit() {
    let model = &*DEMO;
    let (long, short) = (prompt(0), prompt(3));
    let [received, both, diverse] = [[policy("received:0.1")], [policy("dominant:0.3+2:0.1")], [policy("diverse:0.2")]];
    let all = [(&long, &received[..]), (&short, &both[..]), (&short, &diverse[..]), (&long, &[])];
    let alone = one_state(model, &all, state);
    // A cut that keeps everything is no cut.
    for written in ["received", "dominant", "diverse"] {
        let whole = [policy(written).at(Retain::ALL)];
        assert!(one_state(model, &[(&long, &whole)], state)[0] == alone[3], "{written}");
    }
}

#[test]
fn c9_10c_a_tower_without_a_class_token_refuses() {
    let mut pass = Pass::<f32>::new(Grid::Native);
    let error = generate::prefill(&DEMO, &mut pass, &prompt(0), &[policy("class:0.1")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "policy: prune=class: expected a vision tower with a class token, found the vision tower of llava_onevision, which \
         has none (use prune=dominant, which takes the attention that each row receives (E9.31))"
    );
}

/// A9.10: the rows of all tiles compete for one number; newline rows have no votes.
#[test]
fn a9_10_rows_that_compete() {
    let prompt = prompt(0);
    let seen = seen(&DEMO, &prompt, policy("received:0.5"));
    let votes = &seen.numbers["decoder.00.votes"];
    let packed: Vec<PackedRow> = prompt.images.iter().flat_map(|image| image.packing.rows.clone()).collect();
    assert_eq!(votes.len(), packed.len());
    let newlines = packed.iter().filter(|row| **row == PackedRow::Newline).count();
    assert!(newlines > 0);
    for (vote, row) in votes.iter().zip(&packed) {
        assert_eq!(*vote == 0.0, *row == PackedRow::Newline);
    }
    let rows = &seen.rows["decoder.00.rows"];
    assert_eq!(rows.len(), prompt.ids.len() - 100);
    let dropped =
        prompt.roles.visual().into_iter().zip(&packed).filter(|(at, _)| !rows.contains(at)).map(|(_, row)| row);
    assert_eq!(dropped.filter(|row| **row == PackedRow::Newline).count(), newlines.min(100));
}

/// One stage, scaled.
struct Scaled(String, Vec<f64>);

impl Source<f64> for Scaled {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<f64>> {
        let values = self.1.iter().map(|v| 1.5 * v).collect();
        (at.to_string() == self.0).then(|| ArrayD::from_shape_vec(shape.to_vec(), values).unwrap())
    }
}

/// A9.11: the votes follow from what enters the last layer that is computed, not from what leaves it.
#[test]
fn a9_11_the_last_layer_rates() {
    let (model, prompt) = (&*DEMO, prompt(0));
    let used = model.config.profile().tower.used;
    let plain = seen(model, &prompt, policy("received:0.5"));
    let with = |stage: String| {
        let (mut seen, source) = (Seen::default(), Scaled(stage.clone(), plain.numbers[&stage].clone()));
        let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen).replaying(&source);
        generate::prefill(model, &mut pass, &prompt, &[policy("received:0.5")]).unwrap();
        seen.numbers["decoder.00.votes"].clone()
    };
    let own = &plain.numbers["decoder.00.votes"];
    assert_ne!(&with(format!("vision.{:02}.out", used - 2)), own);
    assert_eq!(&with(format!("vision.{:02}.out", used - 1)), own);
}

/// A9.12: text and rows that stay are counted from 0; with M-RoPE they keep their positions.
#[test]
fn a9_12_positions() {
    assert_eq!(Positions::in_order(5).closed(&[0, 3, 4]), Positions::Linear(vec![0, 0, 0, 1, 2]));
    assert_eq!(Positions::in_order(3).closed(&[0, 1]).next(), 2);
    let moved = Positions::Mrope([vec![0, 1, 1], vec![0, 1, 2], vec![0, 1, 1]]);
    assert_eq!(moved.closed(&[0, 2]), moved);
}

/// A9.13: the dominant tokens alone.
#[test]
fn a9_13_dominant_tokens() {
    let prune = preset("visionzip-dominant").unwrap().policy.prune;
    assert_eq!((prune.rater(), prune.to_string()), (Some(Rater::Dominant), "dominant".into()));
    let (dominant, received) = (policy("dominant:0.2"), policy("received:0.2"));
    let rows = |policy| seen(&DEMO, &prompt(0), policy).rows;
    assert_eq!(rows(dominant), rows(received), "the demo model's tower has no class token");
}

/// A laboratory with a tower that has a class token.
fn clip() -> Lab {
    let toy = toys("llava_clip", 9).into_iter().find(|toy| toy.name == "next-mistral-bf16").unwrap();
    Lab { model: toy.model, processor: toy.processor, prompt: toy.prompt, ..lab("class:0.2") }
}

#[test]
fn c9_10b_honest_candidates_pass() {
    let labs = ["received:0.1", "diverse:0.1", "dominant:0.3+2:0.1"].map(lab);
    labs.iter().chain([&clip()]).for_each(honest_candidates_pass);
}

/// A swapped row, a lost row, a foreign row, a row of text and wrong votes are found, by a golden and by replay.
#[test]
fn c9_10b_wrong_rows_and_votes_are_found() {
    for lab in [lab("received:0.1"), lab("diverse:0.1"), clip()] {
        let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
        let visual = lab.prompt.roles.visual();
        let name = lab.policy.to_string();
        let mut how = lab.backend();
        let rows = ndarray::Array1::from(exchanged(&honest, &lab.prompt.roles.visual(), 0)).into_dyn();
        how.instead.integers.insert("decoder.00.rows".into(), rows);
        let wrong = lab.run(&lab.model, &lab.prompt, Precision::Fast, &how);
        assert_ne!(wrong.integers["decoder.00.rows"], honest.integers["decoder.00.rows"]);
        for verdict in [lab.by_golden(&golden, &wrong, Precision::Fast), lab.by_replay(&wrong, Precision::Fast)] {
            let first = verdict.first_divergence().unwrap_or_else(|| panic!("{name}, {}", verdict.mode));
            assert_eq!(first.stage, "decoder.00.rows", "{name}: {}", first.words);
            let failed = verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).count();
            assert_eq!(failed, 1, "{name}: later stages follow from the candidate's own rows");
        }
        let edited = |edit: &dyn Fn(&mut Vec<i64>)| {
            let mut dump = honest.clone();
            let mut rows: Vec<i64> = dump.integers["decoder.00.rows"].iter().copied().collect();
            edit(&mut rows);
            dump.integers.insert("decoder.00.rows".into(), ndarray::Array1::from(rows).into_dyn());
            dump
        };
        let first = *honest.integers["decoder.00.rows"].iter().find(|&&row| visual.contains(&(row as usize))).unwrap();
        for (dump, says) in [
            (edited(&|rows| rows.retain(|&row| row != 0)), "is text"),
            (edited(&|rows| rows.retain(|&row| row != first)), "are due"),
            (edited(&|rows| *rows.last_mut().unwrap() += 7), "no row that was left"),
        ] {
            let verdict = lab.by_golden(&golden, &dump, Precision::Fast);
            let (judged, words) = outcome(&verdict, "decoder.00.rows");
            assert!(judged == Outcome::Fail && words.contains(says), "{name}, {says}: {judged:?} {words}");
            let replayed = lab.by_replay(&dump, Precision::Fast);
            assert_eq!(outcome(&replayed, "decoder.00.rows").0, Outcome::Fail, "{name}, {says}");
        }
        let mut votes = honest.clone();
        votes.numbers.get_mut("decoder.00.votes").unwrap().iter_mut().for_each(|v| *v *= 1.01);
        let mut positions = honest.clone();
        let whole = honest.integers["decoder.00.rows"].clone();
        positions.integers.insert("cache.01.positions".into(), whole);
        for (dump, stage) in [(votes, "decoder.00.votes"), (positions, "cache.01.positions")] {
            for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
                let first = verdict.first_divergence().unwrap();
                assert_eq!(first.stage, stage, "{name}, {}", verdict.mode);
            }
        }
    }
}

/// Without its rows, a candidate is judged by the rows that its kept sets show; positions counted anew show none.
#[test]
fn c9_10a_rows_that_kept_sets_show() {
    let lab = lab("diverse:0.1");
    let golden = lab.golden();
    let honest = lab.honest(Precision::Bf16);
    let mut how = lab.backend();
    let rows = ndarray::Array1::from(exchanged(&lab.honest(Precision::Fast), &lab.prompt.roles.visual(), 0)).into_dyn();
    how.instead.integers.insert("decoder.00.rows".into(), rows);
    let wrong = lab.run(&lab.model, &lab.prompt, Precision::Bf16, &how);
    let without = |dump: &Dump, parts: &[&str]| {
        let mut dump = dump.clone();
        dump.integers.retain(|name, _| !parts.iter().any(|part| name.contains(part)));
        dump
    };
    let passes = lab.by_replay(&without(&honest, &["rows"]), Precision::Bf16);
    assert!(passes.first_divergence().is_none(), "{:?}", passes.first_divergence());
    assert_eq!(outcome(&passes, "decoder.03.out").0, Outcome::Pass);
    for verdict in [
        lab.by_replay(&without(&wrong, &["rows"]), Precision::Bf16),
        lab.by_golden(&golden, &without(&wrong, &["rows"]), Precision::Bf16),
    ] {
        let first = verdict.first_divergence().unwrap();
        assert_eq!(first.stage, "policy.00.kept", "{}", first.words);
    }
    let silent = lab.by_replay(&without(&honest, &["rows", "kept"]), Precision::Bf16);
    let (judged, words) = outcome(&silent, "cache.00.positions");
    assert!(judged == Outcome::NotJudged && words.contains("distances decide them"), "{words}");
}
