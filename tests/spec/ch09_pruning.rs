//! Chapter 09, pruning inside prefill: which rows are left, what later layers compute of them, and how candidates are
//! judged that drop rows.

use crate::common::demo::DEMO;
use crate::common::lab::{Dump, Lab};
use crate::common::pruned::{Seen, exchanged, honest_candidates_pass, lab, one_state, outcome, policy, prompt};
use aircache::decoder::{Made, Sequence};
use aircache::generate;
use aircache::golden::Outcome;
use aircache::input::Prepared;
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::{Pass, Precision};
use aircache::policy::{Cut, Prune, Rater, Retain, best, preset, votes};
use aircache::{Role, Roles};
use ndarray::{Array3, Axis, array, aview2};

fn prune(written: &str) -> Prune {
    written.parse().unwrap()
}

fn cuts(written: &str, layers: usize, visual: usize) -> Vec<(usize, usize)> {
    prune(written).cuts(layers, visual).unwrap().iter().map(|cut| (cut.layer, cut.keep)).collect()
}

#[test]
fn d9_9_worked_example() {
    assert_eq!(cuts("2:0.5", 6, 10), [(2, 5)]);
    assert_eq!(cuts("25%:0.5+50%:0.25+75%:0.125", 6, 10), [(1, 5), (3, 3), (4, 1)]);
    assert_eq!(cuts("25%:0.5+50%:0.25+75%:0.125", 32, 576), [(8, 288), (16, 144), (24, 72)]);
    assert_eq!(cuts("none", 6, 10), []);
    let at = |retain: Retain| policy("2").at(retain).prune.cuts(6, 10).unwrap();
    assert_eq!(at("0.3".parse().unwrap()), [Cut { layer: 2, by: Rater::LastRow, keep: 3 }]);
    assert_eq!(at(Retain::tokens(4).unwrap()), [Cut { layer: 2, by: Rater::LastRow, keep: 4 }]);
    assert_eq!(at("0.01".parse().unwrap()), [Cut { layer: 2, by: Rater::LastRow, keep: 1 }]);
    for written in ["none", "2", "2:0.5", "25%:0.5+50%", "1:0.5+75%:0.125"] {
        assert_eq!(prune(written).to_string(), written);
    }
}

#[test]
fn c9_9a_cuts_that_drop_nothing_or_do_not_fit() {
    assert_eq!(policy("2").at(Retain::ALL).prune.cuts(6, 10).unwrap(), []);
    assert_eq!(cuts("2:0.5", 6, 0), []);
    assert_eq!(cuts("50%:0.5", 1, 10), [], "a model of one layer has no layer to cut before");
    assert_eq!(cuts("25%:0.5+50%:0.25", 2, 8), [(1, 2)], "both cuts are before layer 1");
    for (written, says) in [("6:0.5", "6 layers"), ("3:0.5+2:0.2", "a layer after layer 3"), ("2", "a share")] {
        let error = prune(written).cuts(6, 10).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn e9_19_worked_example() {
    let k = array![[[0.0], [2f64.ln()], [0.0]]];
    assert_eq!(votes(aview2(&[[1.0]]), k.view(), Grid::Native), [0.25, 0.5, 0.25]);
    // Two heads of one group, the second asks with 0: the mean of 1/4 and 1/3, of 1/2 and 1/3.
    let both = votes(aview2(&[[1.0], [0.0]]), k.view(), Grid::Native);
    let third = 1.0 / 3.0;
    assert_eq!(both, [(0.25 + third) / 2.0, (0.5 + third) / 2.0, (0.25 + third) / 2.0]);
}

/// R9.19: the weights of a head and the mean are stored.
#[test]
fn r9_19_votes_are_stored() {
    let k = array![[[0.0f32], [1.0], [0.5]]];
    let stored = votes(aview2(&[[1.0f32], [0.3]]), k.view(), Grid::Bf16);
    assert!(stored.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v), "{stored:?}");
    assert_ne!(stored, votes(aview2(&[[1.0f32], [0.3]]), k.view(), Grid::Native));
}

#[test]
fn e9_20_worked_example() {
    assert_eq!(best(&[0.1, 0.3, 0.1, 0.2], 2), [1, 3]);
    assert_eq!(best(&[0.1, 0.3, 0.1, 0.2], 3), [0, 1, 3]);
    assert_eq!(best(&[0.1, 0.3], 5), [0, 1]);
}

/// The demo model's decoder as loops over its definition. Rows are not dropped: they are masked.
struct Naive<'a> {
    model: &'a Model,
    /// Whether each row is left.
    left: Vec<bool>,
    /// What the last row gave to each row in the last layer, averaged over heads.
    votes: Vec<f64>,
}

impl Naive<'_> {
    fn weights(&self, name: &str) -> Vec<f64> {
        let ends = |n: &str| n.contains("language_model") && n.ends_with(name);
        let tensor = self.model.checkpoint.tensors().find(|t| ends(t.name)).unwrap_or_else(|| panic!("{name}"));
        tensor.data.chunks(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect()
    }

    fn linear(&self, x: &[Vec<f64>], name: &str, bias: bool) -> Vec<Vec<f64>> {
        let w = self.weights(&format!("{name}.weight"));
        let inputs = x[0].len();
        let b = if bias { self.weights(&format!("{name}.bias")) } else { vec![0.0; w.len() / inputs] };
        let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        x.iter().map(|x| w.chunks(inputs).zip(&b).map(|(w, b)| dot(w, x) + b).collect()).collect()
    }

    fn norm(&self, x: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let w = self.weights(name);
        let eps = self.model.decoder.config.norm_eps;
        let scale = |x: &[f64]| 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt();
        x.iter().map(|x| x.iter().zip(&w).map(|(v, w)| v * scale(x) * w).collect()).collect()
    }

    /// x: [n][heads · d_h], row i at position i.
    fn rotated(&self, mut x: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let (frequencies, d) = (self.model.decoder.frequencies(x.len() as i64), self.model.decoder.config.head_dim);
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_mut(d) {
                for (i, (frequency, _)) in frequencies.iter().enumerate() {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (a, b) = (head[i], head[i + d / 2]);
                    (head[i], head[i + d / 2]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        x
    }

    fn layer(&mut self, l: usize, x: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let c = &self.model.decoder.config;
        let (d, n, group) = (c.head_dim, x.len(), c.heads / c.kv_heads);
        let at = |part: &str| format!("layers.{l}.{part}");
        let h = self.norm(&x, &at("input_layernorm.weight"));
        let [q, k, v] = ["q", "k", "v"].map(|p| self.linear(&h, &at(&format!("self_attn.{p}_proj")), c.qkv_bias));
        let (q, k) = (self.rotated(q), self.rotated(k));
        let mut mix = vec![vec![0.0; c.heads * d]; n];
        self.votes = vec![0.0; n];
        for i in (0..n).filter(|&i| self.left[i]) {
            for h in 0..c.heads {
                let g = h / group;
                let dot = |j: usize| (0..d).map(|t| q[i][h * d + t] * k[j][g * d + t]).sum::<f64>();
                let seen = |j: usize| if self.left[j] { (dot(j) / (d as f64).sqrt()).exp() } else { 0.0 };
                let e: Vec<f64> = (0..=i).map(seen).collect();
                let total: f64 = e.iter().sum();
                for (j, e) in e.iter().enumerate() {
                    (0..d).for_each(|t| mix[i][h * d + t] += e / total * v[j][g * d + t]);
                    if i + 1 == n {
                        self.votes[j] += e / total / c.heads as f64;
                    }
                }
            }
        }
        let plus = |a: &[Vec<f64>], b: &[Vec<f64>]| -> Vec<Vec<f64>> {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        let x = plus(&x, &self.linear(&mix, &at("self_attn.o_proj"), false));
        let h = self.norm(&x, &at("post_attention_layernorm.weight"));
        let (gate, up) = (self.linear(&h, &at("mlp.gate_proj"), false), self.linear(&h, &at("mlp.up_proj"), false));
        let silu = |(g, u): (&f64, &f64)| g / (1.0 + (-g).exp()) * u;
        let h: Vec<Vec<f64>> = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(silu).collect()).collect();
        plus(&x, &self.linear(&h, &at("mlp.down_proj"), false))
    }
}

/// C9.9b: what is left, and every number of it, equals a decoder that drops nothing and masks rows instead.
#[test]
fn c9_9b_equals_its_naive_twin() {
    let model = &*DEMO;
    let prompt = prompt(0);
    let (n, visual) = (prompt.ids.len(), prompt.roles.visual());
    for policy in [policy("2:0.1"), preset("pyramiddrop").unwrap().policy.clone()] {
        let mut seen = Seen::default();
        let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
        let sequence = generate::prefill(model, &mut pass, &prompt, std::slice::from_ref(&policy)).unwrap();
        let cuts = policy.prune.cuts(6, visual.len()).unwrap();
        let d = model.decoder.config.hidden;
        let mut x: Vec<Vec<f64>> = seen.numbers["decoder.embed"].chunks(d).map(<[f64]>::to_vec).collect();
        let mut twin = Naive { model, left: vec![true; n], votes: vec![] };
        for l in 0..6 {
            if let Some(cut) = cuts.iter().find(|cut| cut.layer == l) {
                let mut order: Vec<usize> = visual.iter().copied().filter(|&row| twin.left[row]).collect();
                let got = &seen.numbers[&format!("decoder.{l:02}.votes")];
                assert_eq!(got.len(), order.len());
                for (got, &row) in got.iter().zip(&order) {
                    assert!((got - twin.votes[row]).abs() < 1e-12, "layer {l}, row {row}");
                }
                order.sort_by(|&a, &b| twin.votes[b].total_cmp(&twin.votes[a]));
                order[cut.keep..].iter().for_each(|&row| twin.left[row] = false);
                let rows: Vec<usize> = (0..n).filter(|&row| twin.left[row]).collect();
                assert_eq!(seen.rows[&format!("decoder.{l:02}.rows")], rows);
            }
            x = twin.layer(l, x);
            let left: Vec<usize> = (0..n).filter(|&row| twin.left[row]).collect();
            let got = &seen.numbers[&format!("decoder.{l:02}.out")];
            assert_eq!(got.len(), left.len() * d);
            let largest = got.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            for (got, &row) in got.chunks(d).zip(&left) {
                let off = got.iter().zip(&x[row]).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
                assert!(off <= 1e-9 * largest, "layer {l}, row {row}: off by {off}");
            }
            for head in &sequence.cache.layers[l] {
                assert_eq!(head.rows(), left, "layer {l}");
            }
        }
        let plan = sequence.plan(&policy, Retain::ALL).unwrap();
        let kept: Vec<usize> = plan.decisions.as_ref().unwrap().kept.iter().map(|sets| sets[0].len()).collect();
        assert_eq!(plan.decisions.unwrap().budget, kept);
        assert_eq!(plan.kept[5][0], sequence.cache.layers[5][0].rows());
    }
}

/// The bits of a prefill.
#[derive(PartialEq)]
struct State {
    logits: Vec<u32>,
    entries: Vec<u32>,
    rows: Vec<Vec<usize>>,
    made: Vec<Made>,
    length: usize,
}

fn state(s: &Sequence<f32>) -> State {
    let heads = || s.cache.layers.iter().flatten();
    let bits = |v: &f32| v.to_bits();
    State {
        logits: s.logits.iter().map(bits).collect(),
        entries: heads().flat_map(|h| h.keys().iter().chain(&h.values()).map(bits).collect::<Vec<_>>()).collect(),
        rows: heads().map(|h| h.rows().to_vec()).collect(),
        made: s.pruning.made.clone(),
        length: s.cache.rows,
    }
}

#[test]
fn c9_9b_chunks_batches_and_threads_change_no_bit() {
    let model = &*DEMO;
    let (long, short) = (prompt(0), prompt(3));
    let (dropping, staged, whole) =
        ([policy("2:0.1")], [policy("1:0.5+3:0.2")], [preset("full").unwrap().policy.clone()]);
    let alone = one_state(model, &[(&long, &dropping), (&short, &whole), (&short, &staged)], state);
    let error = generate::prefill(model, &mut Pass::<f32>::new(Grid::Native), &long, &[dropping, whole].concat());
    assert!(error.unwrap_err().to_string().contains("a prefill of its own"));
    // A cut that keeps everything is no cut.
    let all = one_state(model, &[(&short, &[policy("2").at(Retain::ALL)])], state);
    assert!(all[0] == alone[1]);
}

/// Nothing of a step reads rows that were dropped, and generated tokens keep their positions.
#[test]
fn c9_9b_text_alone_is_left_where_no_row_is_visual() {
    let model = &*DEMO;
    let text = Prepared::from_ids(&*model.config, &[5, 6, 7, 8], vec![]).unwrap();
    assert_eq!(text.roles, Roles(vec![Role::Text; 4]));
    let mut pass = Pass::<f32>::new(Grid::Native);
    let dropped = generate::prefill(model, &mut pass, &text, &[policy("2:0.1")]).unwrap();
    let whole = generate::prefill(model, &mut pass, &text, &[]).unwrap();
    assert!(state(&dropped) == state(&whole));
}

/// C9.9c, C9.9d: honest candidates pass in every type, by a golden and by replay.
#[test]
fn c9_9d_honest_candidates_pass() {
    ["2:0.1", "25%:0.5+50%:0.25+75%:0.125"].map(lab).iter().for_each(honest_candidates_pass);
}

/// C9.9c, C9.9d: wrong rows fail at their own stage, and what follows from them is judged in a replay only.
#[test]
fn c9_9c_c9_9d_wrong_rows_are_found() {
    let lab = lab("2:0.1");
    let golden = lab.golden();
    let visual = lab.prompt.roles.visual();
    let honest = lab.honest(Precision::Fast);
    let rows = |rows: Vec<i64>| {
        // A backend that goes on with these rows.
        let mut how = lab.backend();
        how.instead.integers.insert("decoder.02.rows".into(), ndarray::Array1::from(rows).into_dyn());
        lab.run(&lab.model, &lab.prompt, Precision::Fast, &how)
    };
    let wrong = rows(exchanged(&honest, &visual, 2));
    assert_ne!(wrong.integers["decoder.02.rows"], honest.integers["decoder.02.rows"]);
    for verdict in [lab.by_golden(&golden, &wrong, Precision::Fast), lab.by_replay(&wrong, Precision::Fast)] {
        let first = verdict.first_divergence().unwrap();
        assert_eq!(first.stage, "decoder.02.rows", "{}", first.words);
        assert!(first.words.contains("1 of") && first.words.contains("swapped"), "{}", first.words);
        let failed = verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).count();
        assert_eq!(failed, 1, "later stages follow from the candidate's own rows");
    }
    let (judged, words) = {
        let verdict = lab.by_golden(&golden, &wrong, Precision::Fast);
        let (outcome, words) = outcome(&verdict, "decoder.03.out");
        (outcome, words.to_string())
    };
    assert!(judged == Outcome::NotJudged && words.contains("differ from the golden's"), "{words}");
    assert_eq!(outcome(&lab.by_replay(&wrong, Precision::Fast), "decoder.03.out").0, Outcome::Pass);

    // Another number of rows, rows that are no text any more, rows that nobody has.
    let edited = |edit: &dyn Fn(&mut Vec<i64>)| {
        let mut dump = honest.clone();
        let mut rows: Vec<i64> = dump.integers["decoder.02.rows"].iter().copied().collect();
        edit(&mut rows);
        dump.integers.insert("decoder.02.rows".into(), ndarray::Array1::from(rows).into_dyn());
        dump
    };
    let first_visual = visual[0] as i64;
    for (dump, says) in [
        (edited(&|rows| rows.retain(|&row| row != 0)), "is text"),
        (edited(&|rows| rows.retain(|&row| row < first_visual || !visual.contains(&(row as usize)))), "are due"),
        (edited(&|rows| *rows.last_mut().unwrap() += 7), "no row that was left"),
        (edited(&|rows| rows.swap(0, 1)), "integers"),
    ] {
        let verdict = lab.by_golden(&golden, &dump, Precision::Fast);
        let (outcome, words) = outcome(&verdict, "decoder.02.rows");
        assert!(outcome == Outcome::Fail && words.contains(says), "{says}: {outcome:?} {words}");
        assert!(lab.by_replay(&dump, Precision::Fast).first_divergence().is_some(), "{says}");
    }
}

/// C9.9c: without its rows, a candidate is judged by the rows that its kept sets or its positions show.
#[test]
fn c9_9c_rows_that_later_stages_show() {
    let lab = lab("2:0.1");
    let golden = lab.golden();
    let visual = lab.prompt.roles.visual();
    let honest = lab.honest(Precision::Bf16);
    let mut how = lab.backend();
    let rows = ndarray::Array1::from(exchanged(&honest, &visual, 2)).into_dyn();
    how.instead.integers.insert("decoder.02.rows".into(), rows);
    let wrong = lab.run(&lab.model, &lab.prompt, Precision::Bf16, &how);
    let without = |dump: &Dump, parts: &[&str]| {
        let mut dump = dump.clone();
        dump.integers.retain(|name, _| !parts.iter().any(|part| name.contains(part)));
        dump
    };
    for (parts, at) in [(&["rows"][..], "policy.02.kept"), (&["rows", "kept"], "cache.02.positions")] {
        let passes = lab.by_replay(&without(&honest, parts), Precision::Bf16);
        assert!(passes.first_divergence().is_none(), "{:?}", passes.first_divergence());
        assert_eq!(outcome(&passes, "decoder.03.out").0, Outcome::Pass);
        for verdict in [
            lab.by_replay(&without(&wrong, parts), Precision::Bf16),
            lab.by_golden(&golden, &without(&wrong, parts), Precision::Bf16),
        ] {
            let first = verdict.first_divergence().unwrap();
            assert_eq!(first.stage, at, "{}", first.words);
        }
    }
    // Nothing shows the rows: later stages are judged only if no honest noise could change them.
    let silent = without(&honest, &["rows", "kept", "positions", "budget"]);
    let verdict = lab.by_replay(&silent, Precision::Bf16);
    assert!(verdict.first_divergence().is_none(), "{:?}", verdict.first_divergence());
}

/// C9.9d: an error in the votes, in the layer before the cut or in the layers after it is found where it is.
#[test]
fn c9_9d_errors_are_found_at_their_stage() {
    let lab = lab("2:0.1");
    let golden = lab.golden();
    let honest = lab.honest(Precision::Fast);
    let changed = |stage: &str, edit: &dyn Fn(&mut f64)| {
        let mut dump = honest.clone();
        dump.numbers.get_mut(stage).unwrap().iter_mut().for_each(edit);
        dump
    };
    for (dump, stage) in [
        (changed("decoder.02.votes", &|v| *v *= 1.01), "decoder.02.votes"),
        (changed("decoder.02.mix", &|v| *v *= 1.01), "decoder.02.mix"),
        (changed("cache.03.key", &|v| *v += 1e-3), "cache.03.key"),
    ] {
        for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
            assert_eq!(verdict.first_divergence().unwrap().stage, stage, "{}", verdict.mode);
        }
    }
    // A backend that drops no row: its kept sets show its rows.
    let whole = Lab { policy: preset("full").unwrap().policy.clone(), ..Lab::new(0) }.honest(Precision::Fast);
    let verdict = lab.by_replay(&whole, Precision::Fast);
    let first = verdict.first_divergence().unwrap();
    assert!(
        first.stage == "policy.budget" && first.words == "layer 2 has 200 of 20",
        "{} {}",
        first.stage,
        first.words
    );
}

/// A9.8: the retention is the share of the visual rows that stay, not that of all entries.
#[test]
fn a9_8_retention_of_fastv() {
    let cuts = preset("fastv-prune").unwrap().policy.at("0.1".parse().unwrap()).prune.cuts(28, 1000).unwrap();
    assert_eq!(cuts, [Cut { layer: 2, by: Rater::LastRow, keep: 100 }]);
    let entries = 2 * 1000 + 26 * cuts[0].keep;
    assert_eq!((1000.0 * entries as f64 / 28_000.0).round(), 164.0);
}

/// A9.9: the queries and keys that rank are those of the layer before the cut, for both presets.
#[test]
fn a9_9_the_layer_before_ranks() {
    let (model, prompt) = (&*DEMO, prompt(0));
    for (policy, layer) in [(policy("2:0.1"), 2), (preset("pyramiddrop").unwrap().policy.clone(), 1)] {
        let mut seen = Seen::default();
        let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
        generate::prefill(model, &mut pass, &prompt, &[policy]).unwrap();
        let of = |site: &str, heads: usize| {
            let all = &seen.numbers[&format!("decoder.{:02}.{site}", layer - 1)];
            Array3::from_shape_vec((heads, prompt.ids.len(), 32), all.clone()).unwrap()
        };
        let (q, k) = (of("query", 6), of("key", 2));
        let all = votes(q.index_axis(Axis(1), prompt.ids.len() - 1), k.view(), Grid::Native);
        let own: Vec<f64> = prompt.roles.visual().into_iter().map(|row| all[row]).collect();
        assert_eq!(seen.numbers[&format!("decoder.{layer:02}.votes")], own);
    }
}
