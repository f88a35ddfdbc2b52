//! Chapter 09, raters: which text rows rate visual rows inside prefill, what they give them, and how candidates are judged
//! whose raters differ.

use crate::common::demo::DEMO;
use crate::common::pruned::{Seen, exchanged, honest_candidates_pass, lab, one_state, outcome, policy, prompt};
use aircache::decoder::{Pruning, Sequence};
use aircache::generate;
use aircache::golden::Outcome;
use aircache::num::Grid;
use aircache::pass::{Pass, Precision};
use aircache::policy::{Cut, Policy, Prune, Rater, Retain, above_mean, preset, relevance, votes, votes_of_raters};
use aircache::{Role, Roles};
use ndarray::{Array3, Axis, array, aview2};

fn cuts(written: &str, layers: usize, visual: usize) -> Vec<(usize, Rater, usize)> {
    let cuts = written.parse::<Prune>().unwrap().cuts(layers, visual).unwrap();
    cuts.iter().map(|cut| (cut.layer, cut.by, cut.keep)).collect()
}

#[test]
fn d9_11_worked_example() {
    assert_eq!(cuts("raters@3:0.5+7:0.2", 8, 10), [(3, Rater::Text, 5), (7, Rater::LastRow, 2)]);
    assert_eq!(cuts("raters@25%:0.5", 8, 10), [(2, Rater::Text, 5)]);
    let at = policy("raters@2").at(Retain::tokens(4).unwrap()).prune.cuts(6, 10).unwrap();
    assert_eq!(at, [Cut { layer: 2, by: Rater::Text, keep: 4 }]);
    for written in ["raters@3:0.5+7:0.2", "raters@10%", "diverse:0.5+raters@2:0.2"] {
        assert_eq!(written.parse::<Prune>().unwrap().to_string(), written);
    }
    for wrong in ["raters", "raters:0.5", "raters@0:0.5", "raters@class:0.5", "raters@100%"] {
        let error = wrong.parse::<Prune>().unwrap_err().to_string();
        assert!(error.contains("raters@3:0.5"), "{error}");
    }
}

/// C9.11a: the counted text rates, by A8.1; without any there is an error.
#[test]
fn c9_11a_text_that_may_rate() {
    let roles = |text: &str| Roles(text.chars().map(|c| if c == 'V' { Role::Visual } else { Role::Text }).collect());
    let of = |policy: Policy, roles: &Roles| Pruning::<f32>::of(&[policy], 6, roles);
    let error = of(policy("raters@2:0.5"), &roles("TTVVV")).unwrap_err().to_string();
    assert!(error.contains("text after the last visual token"), "{error}");
    let anywhere = Policy { text: aircache::policy::Text::All, ..policy("raters@2:0.5") };
    assert!(of(anywhere, &roles("TTVVV")).is_ok());
    assert!(of(policy("2:0.5"), &roles("TTVVV")).is_ok(), "the last row rates");
    assert!(of(policy("raters@2:0.5"), &roles("TT")).is_ok(), "no row is dropped");
}

#[test]
fn e9_33_worked_example() {
    let x = aview2(&[[1.0], [std::f64::consts::LN_2], [0.0]]);
    let found = relevance(x, &[0], &[1, 2], Grid::Native);
    assert!((found[0] - 2.0 / 3.0).abs() < 1e-15 && (found[1] - 1.0 / 3.0).abs() < 1e-15, "{found:?}");
    assert_eq!(above_mean(&found), [0]);
    assert_eq!(above_mean(&relevance(aview2(&[[1.0], [1.0], [1.0]]), &[0], &[1, 2], Grid::Native)), [0, 1]);
}

#[test]
fn e9_34_worked_example() {
    let (q, k) = (Array3::<f64>::zeros((1, 2, 1)), Array3::zeros((1, 4, 1)));
    let found = votes_of_raters(q.view(), &[3, 4], k.view(), Grid::Native);
    assert!((found[0] - 7.0 / 24.0).abs() < 1e-15 && found[0] == found[1], "{found:?}");
    assert_eq!(found[3], 1.0 / 8.0, "the first rater does not see the last row");
    // The last row as the only rater: E9.19.
    let (q, k) = (array![[[1.0], [0.5]], [[-1.0], [0.3]]], array![[[0.0], [2f64.ln()], [0.5]]]);
    let last = q.slice(ndarray::s![.., 1.., ..]);
    assert_eq!(
        votes_of_raters(last, &[3], k.view(), Grid::Native),
        votes(q.index_axis(Axis(1), 1), k.view(), Grid::Native)
    );
}

/// R9.33, R9.34: what a GPU's type stores.
#[test]
fn r9_33_r9_34_numbers_are_stored() {
    let is_bf16 = |all: &[f32]| all.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v);
    let x = ndarray::Array2::from_shape_fn((9, 5), |(i, j)| ((i * 7 + j * 3) % 11) as f32 / 8.0);
    let of = |grid| relevance(x.view(), &[0, 1, 2, 3], &[4, 5, 6, 7, 8], grid);
    assert!(is_bf16(&of(Grid::Bf16)) && of(Grid::Bf16) != of(Grid::Native));
    let (q, k) = (array![[[1.0f32], [0.3]], [[0.7], [-0.4]]], array![[[0.0f32], [1.0], [0.5]]]);
    let of = |grid| votes_of_raters(q.view(), &[2, 3], k.view(), grid);
    assert!(is_bf16(&of(Grid::Bf16)) && of(Grid::Bf16) != of(Grid::Native));
}

/// E9.33, E9.34 as loops over their definitions, from the stages that a prefill shows.
#[test]
fn e9_33_e9_34_equal_their_naive_twin() {
    let (model, prompt) = (&*DEMO, prompt(0));
    let c = &model.decoder.config;
    let (n, d, visual) = (prompt.ids.len(), c.head_dim, prompt.roles.visual());
    let text: Vec<usize> = (visual[visual.len() - 1] + 1..n).collect();
    let mut seen = Seen::default();
    let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
    let policies = [policy("raters@2:0.5+raters@4:0.2")];
    let sequence = generate::prefill(model, &mut pass, &prompt, &policies).unwrap();
    let softmax = |scores: Vec<f64>| {
        let e: Vec<f64> = scores.iter().map(|s| s.exp()).collect();
        let total: f64 = e.iter().sum();
        e.into_iter().map(|e| e / total).collect::<Vec<_>>()
    };
    let x: Vec<&[f64]> = seen.numbers["decoder.embed"].chunks(c.hidden).collect();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut relevance = vec![0.0; text.len()];
    for &v in &visual {
        let p = softmax(text.iter().map(|&t| product(x[v], x[t])).collect());
        relevance.iter_mut().zip(p).for_each(|(sum, p)| *sum += p / visual.len() as f64);
    }
    for (got, want) in seen.numbers["decoder.relevance"].iter().zip(&relevance) {
        assert!((got - want).abs() < 1e-12, "{got} {want}");
    }
    let mean = 1.0 / text.len() as f64;
    let raters: Vec<usize> = (0..text.len()).filter(|&t| relevance[t] > mean).map(|t| text[t]).collect();
    assert_eq!(seen.rows["decoder.raters"], raters);
    assert_eq!(sequence.pruning.raters, raters);
    assert!(raters.len() > 1 && raters.len() < text.len(), "{raters:?}");
    let mut left: Vec<usize> = (0..n).collect();
    for (layer, keep) in [(2, visual.len() / 2), (4, visual.len() / 5)] {
        let of = |what: &str| &seen.numbers[&format!("decoder.{:02}.{what}", layer - 1)];
        let (q, k, rows) = (of("query"), of("key"), left.len());
        let head = |all: &[f64], h: usize, i: usize| all[(h * rows + i) * d..][..d].to_vec();
        let mut votes = vec![0.0; rows];
        for i in (0..rows).filter(|&i| raters.contains(&left[i])) {
            for h in 0..c.heads {
                let key = |j: usize| head(k, h * c.kv_heads / c.heads, j);
                let p = softmax((0..=i).map(|j| product(&head(q, h, i), &key(j)) / (d as f64).sqrt()).collect());
                votes.iter_mut().zip(p).for_each(|(sum, p)| *sum += p / (c.heads * raters.len()) as f64);
            }
        }
        let mut order: Vec<usize> = (0..rows).filter(|&i| visual.contains(&left[i])).collect();
        let got = &seen.numbers[&format!("decoder.{layer:02}.votes")];
        assert_eq!(got.len(), order.len());
        got.iter().zip(&order).for_each(|(got, &i)| assert!((got - votes[i]).abs() < 1e-12, "layer {layer}"));
        order.sort_by(|&a, &b| votes[b].total_cmp(&votes[a]));
        let dropped: Vec<usize> = order[keep..].iter().map(|&i| left[i]).collect();
        left.retain(|row| !dropped.contains(row));
        assert_eq!(seen.rows[&format!("decoder.{layer:02}.rows")], left);
    }
    // `explain` marks the raters where they voted.
    let plan = sequence.plan(&policies[0], Retain::ALL).unwrap();
    let windows: Vec<usize> = plan.decisions.unwrap().layers.iter().map(|l| l.window[0].len()).collect();
    assert_eq!(windows, [0, 0, raters.len(), raters.len(), raters.len(), raters.len()]);
}

/// The bits of a prefill.
fn state(s: &Sequence<f32>) -> (Vec<u32>, Vec<Vec<usize>>, Vec<usize>) {
    let made = s.pruning.made.iter().map(|made| made.rows.clone()).collect();
    (s.logits.iter().map(|v| v.to_bits()).collect(), made, s.pruning.raters.clone())
}

#[test]
fn c9_11a_chunks_batches_and_threads_change_no_bit() {
    let (long, short) = (prompt(0), prompt(3));
    let [two, mixed, both] = ["raters@1:0.5+raters@3:0.2", "raters@2:0.3+4:0.1", "dominant:0.5+raters@2:0.2"]
        .map(|written| [policy(written)]);
    one_state(&DEMO, &[(&long, &two[..]), (&short, &mixed[..]), (&long, &both[..]), (&short, &[])], state);
}

#[test]
fn c9_11b_honest_candidates_pass() {
    let policies = ["raters@1:0.5+raters@3:0.2", "raters@2:0.3+4:0.1", "dominant:0.5+raters@2:0.2"];
    policies.map(lab).iter().for_each(honest_candidates_pass);
}

/// C9.11b: other raters, other votes and other rows fail at their own stage; what follows is judged in a replay.
#[test]
fn c9_11b_wrong_raters_votes_and_rows_are_found() {
    let lab = lab("raters@2:0.2");
    let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
    let (visual, n) = (lab.prompt.roles.visual(), lab.prompt.ids.len());
    let with = |name: &str, rows: Vec<i64>| {
        let mut how = lab.backend();
        how.instead.integers.insert(name.into(), ndarray::Array1::from(rows).into_dyn());
        lab.run(&lab.model, &lab.prompt, Precision::Fast, &how)
    };
    let raters: Vec<i64> = honest.integers["decoder.raters"].iter().copied().collect();
    let others: Vec<i64> =
        (visual[visual.len() - 1] as i64 + 1..n as i64).filter(|row| !raters.contains(row)).collect();
    let wrong = with("decoder.raters", others);
    let by_golden = lab.by_golden(&golden, &wrong, Precision::Fast);
    let by_replay = lab.by_replay(&wrong, Precision::Fast);
    for verdict in [&by_golden, &by_replay] {
        let first = verdict.first_divergence().unwrap();
        assert_eq!(first.stage, "decoder.raters", "{}", first.words);
        assert!(first.words.contains("has the relevance"), "{}", first.words);
        let failed = verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).count();
        assert_eq!(failed, 1, "{}: later stages follow from the candidate's own raters", verdict.mode);
    }
    let (judged, words) = outcome(&by_golden, "decoder.02.votes");
    assert!(judged == Outcome::NotJudged && words.contains("rows that rate differ"), "{judged:?} {words}");
    assert_eq!(outcome(&by_replay, "decoder.02.votes").0, Outcome::Pass);
    let rows = with("decoder.02.rows", exchanged(&honest, &visual, 2));
    let edited = |edit: &dyn Fn(&mut crate::common::lab::Dump)| {
        let mut dump = honest.clone();
        edit(&mut dump);
        dump
    };
    let visual_rates = edited(&|dump| {
        let rows: Vec<i64> = std::iter::once(visual[0] as i64).chain(raters.iter().copied()).collect();
        dump.integers.insert("decoder.raters".into(), ndarray::Array1::from(rows).into_dyn());
    });
    let scaled = |name: &'static str| {
        edited(&move |dump| dump.numbers.get_mut(name).unwrap().iter_mut().for_each(|v| *v *= 1.01))
    };
    for (dump, stage, says) in [
        (rows, "decoder.02.rows", "swapped"),
        (visual_rates, "decoder.raters", "not counted text"),
        (scaled("decoder.02.votes"), "decoder.02.votes", ""),
        (scaled("decoder.relevance"), "decoder.relevance", ""),
    ] {
        for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
            let first = verdict.first_divergence().unwrap_or_else(|| panic!("{stage}, {}", verdict.mode));
            assert_eq!(first.stage, stage, "{}: {}", verdict.mode, first.words);
            assert!(first.words.contains(says), "{}", first.words);
        }
    }
    let none = aircache::golden::check(&lab_of_last_row(), &lab.write(&honest, Precision::Fast));
    assert!(none.is_err(), "the golden has another policy");
}

fn lab_of_last_row() -> aircache::golden::Bundle {
    lab("2:0.2").golden()
}

/// C9.11b: where a candidate does not record its raters, they follow from what it recorded, or from the truth.
#[test]
fn c9_11b_raters_that_are_not_recorded() {
    let lab = lab("raters@2:0.2");
    let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
    for parts in [&["raters"][..], &["raters", "relevance"], &["raters", "relevance", "embed"]] {
        let mut dump = honest.clone();
        dump.integers.retain(|name, _| !parts.iter().any(|part| name.contains(part)));
        dump.numbers.retain(|name, _| !parts.iter().any(|part| name.contains(part)));
        for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
            assert!(
                verdict.first_divergence().is_none(),
                "{parts:?}, {}: {:?}",
                verdict.mode,
                verdict.first_divergence()
            );
            assert_eq!(outcome(&verdict, "decoder.02.votes").0, Outcome::Pass, "{parts:?}, {}", verdict.mode);
        }
    }
}

/// A9.14: text before the image does not rate; rows of equal relevance all rate.
#[test]
fn a9_14_the_text_that_rates() {
    let prompt = prompt(0);
    let last = *prompt.roles.visual().last().unwrap();
    let mut pass = Pass::<f32>::new(Grid::Native);
    let sequence = generate::prefill(&DEMO, &mut pass, &prompt, &[policy("raters@2:0.2")]).unwrap();
    assert!(prompt.roles.0[0] == Role::Text && sequence.pruning.raters.iter().all(|&row| row > last));
    assert_eq!(above_mean(&[0.25; 4]), [0, 1, 2, 3]);
}

/// A9.15: rows that stay keep their positions.
#[test]
fn a9_15_positions_stay() {
    let prompt = prompt(0);
    let mut pass = Pass::<f32>::new(Grid::Native);
    let sequence = generate::prefill(&DEMO, &mut pass, &prompt, &[policy("raters@2:0.2")]).unwrap();
    assert_eq!(sequence.next_position, prompt.positions.next());
    assert_eq!(sequence.cache.layers[5][0].rows(), sequence.pruning.rows(2).unwrap());
}

/// A9.16: the tables of its code, of 32 layers and 576 visual rows.
#[test]
fn a9_16_tables() {
    let of = |prune: Prune| {
        let cuts = prune.cuts(32, 576).unwrap();
        assert!(cuts.iter().map(|cut| (cut.layer, cut.by)).eq([3, 7, 16].map(|layer| (layer, Rater::Text))));
        [cuts[0].keep, cuts[1].keep, cuts[2].keep]
    };
    assert_eq!(of(preset("sparsevlm").unwrap().policy.prune), [300, 200, 110]);
    for ([a, b, c], rows) in [
        (["0.526", "0.191", "0.062"], [303, 110, 36]),
        (["0.413", "0.083", "0.045"], [238, 48, 26]),
        (["0.115", "0.052", "0.030"], [66, 30, 17]),
        (["0.521", "0.347", "0.205"], [300, 200, 118]),
    ] {
        assert_eq!(of(format!("raters@10%:{a}+raters@22%:{b}+raters@50%:{c}").parse().unwrap()), rows);
    }
    assert_eq!(cuts("raters@10%:0.5+raters@22%:0.3+raters@50%:0.2", 6, 10), [(1, Rater::Text, 3), (3, Rater::Text, 2)]);
}
