//! Chapter 09, merging before the decoder: which visual rows are merged, into which, what the decoder computes of the sums,
//! and how candidates are judged.

use crate::common::demo::DEMO;
use crate::common::lab::{Dump, Lab};
use crate::common::pruned::{self, Seen, honest_candidates_pass, lab, one_state, outcome, policy, prompt, shorter};
use crate::common::toys::toys;
use aircache::decoder::Sequence;
use aircache::generate;
use aircache::golden::Outcome;
use aircache::input::Prepared;
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::{Pass, Precision};
use aircache::policy::{
    Cut, NOWHERE, Prune, Rater, Retain, best, contextual, destinations, keyed, merged, preset, targets, zip,
};
use ndarray::{Array1, Array2, Axis, aview2};

const INTO: &str = "decoder.00.into";

#[test]
fn d9_12_worked_example() {
    let cuts = |written: &str| written.parse::<Prune>().unwrap().cuts(6, 64).unwrap();
    assert_eq!(cuts("zip:0.25"), [Cut { layer: 0, by: Rater::Zip, keep: 16 }]);
    assert_eq!(contextual(16, 64), 3);
    assert_eq!(preset("visionzip").unwrap().policy.at("0.5".parse().unwrap()).prune.to_string(), "zip:0.5");
    assert_eq!("zip:0.5+2:0.2".parse::<Prune>().unwrap().to_string(), "zip:0.5+2:0.2");
    let asked = |class: bool| Rater::Zip.in_tower(class).map(|rate| (rate.by, rate.keys));
    assert_eq!([true, false].map(asked), [Some((Rater::Class, true)), Some((Rater::Received, true))]);
}

/// Sixteen rows: the votes fall, and these have the key (1, 0), others (0, 1).
fn sixteen() -> (Vec<f64>, Array2<f64>) {
    let key = |(v, i): (usize, usize)| f64::from(u8::from([8, 9, 13].contains(&v) == (i == 0)));
    ((0..16).map(|v| 1.0 - v as f64 / 16.0).collect(), Array2::from_shape_fn((16, 2), key))
}

#[test]
fn e9_35_worked_example() {
    let (votes, mut metric) = sixteen();
    let into = zip(&votes, metric.view(), 10, Grid::Native);
    assert_eq!(into[..8], [NOWHERE; 8]);
    assert_eq!(into[8..], [8, 8, 12, 12, 12, 8, 12, 12]);
    metric.row_mut(11).fill(0.0);
    let into = zip(&votes, metric.view(), 10, Grid::Native);
    assert_eq!((into[11], targets(&[8, 9, 10, 12, 13, 14, 15], 2)), (NOWHERE, vec![8, 12]));
    metric.slice_mut(ndarray::s![..7, ..]).fill(0.0);
    assert_eq!(zip(&votes, metric.view(), 10, Grid::Native), [NOWHERE; 16], "fewer rows have keys than stay");
}

#[test]
fn e9_36_worked_example() {
    let rows = Array2::from_shape_fn((16, 1), |(v, _)| [1.0, 2.0, 0.0, 0.0, 0.0, 4.0][v.saturating_sub(8).min(5)]);
    let (votes, metric) = sixteen();
    let into = zip(&votes, metric.view(), 10, Grid::Native);
    assert_eq!(merged(rows.view(), &into, Grid::Native)[[0, 0]], 4.0);
    assert_eq!(merged(rows.view(), &[NOWHERE, 1], Grid::Native)[[0, 0]], 1.0, "a target alone");
}

/// R9.35: cosines are stored, and of equal ones the lower target is taken.
#[test]
fn r9_35_keys_and_cosines_are_stored() {
    let mut pass = Pass::<f32>::new(Grid::Bf16);
    let keys = DEMO.encode(&mut pass, &prompt(0), Some(Rater::Zip)).metric;
    assert!(!keys.is_empty() && keys.iter().all(|&v| half::bf16::from_f32(v).to_f32() == v));
    let metric = aview2(&[[1.0f32, 0.001], [1.0, 0.003], [1.0, 0.004], [1.0, 0.005]]);
    let of = |grid| destinations(metric, &[0, 1, 2, 3], 2, grid);
    assert_eq!((of(Grid::Native), of(Grid::Bf16)), (vec![0, 2, 2, 2], vec![0, 0, 2, 0]));
}

#[test]
fn r9_36_sums_are_stored() {
    let rows = Array2::from_shape_fn((5, 3), |(i, j)| 0.1 + ((i * 7 + j * 3) % 11) as f32);
    let of = |grid| merged(rows.view(), &[0, 0, 0, 0, NOWHERE], grid);
    assert!(of(Grid::Bf16).iter().all(|&v| half::bf16::from_f32(v).to_f32() == v));
    assert_ne!(of(Grid::Bf16), of(Grid::Native));
}

/// E9.35 and E9.36 as loops over their definitions.
#[test]
fn e9_35_e9_36_equal_their_naive_twins() {
    let number = |v: usize, i: usize| f64::from(((v * 31 + i * 17 + v * i * 5) % 23) as u32) - 11.0;
    let metric = Array2::from_shape_fn((40, 5), |(v, i)| if v % 9 == 4 { 0.0 } else { number(v, i) });
    let votes: Vec<f64> = (0..40).map(|v| number(v, 7).abs() + v as f64 / 100.0).collect();
    let cosine = |a: usize, b: usize| {
        let dot = |a: usize, b: usize| (0..5).map(|i| metric[[a, i]] * metric[[b, i]]).sum::<f64>();
        dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
    };
    for keep in [1, 4, 10, 20, 34] {
        let count = (10.0 * keep as f64 / 64.0 + 0.5).floor() as usize;
        let mut order: Vec<usize> = (0..40).collect();
        order.sort_by(|&a, &b| votes[b].total_cmp(&votes[a]));
        let dominant = &order[..keep - count];
        let others: Vec<usize> = (0..40).filter(|v| v % 9 != 4 && !dominant.contains(v)).collect();
        let step = others.len() / count.max(1);
        let targets: Vec<usize> = (0..count).map(|i| others[i * step]).collect();
        let mut want = vec![NOWHERE; 40];
        for &v in others.iter().filter(|_| count > 0) {
            let best = targets.iter().copied().max_by(|&a, &b| cosine(v, a).total_cmp(&cosine(v, b)).then(b.cmp(&a)));
            want[v] = if targets.contains(&v) { v } else { best.unwrap() };
        }
        let into = zip(&votes, metric.view(), keep, Grid::Native);
        assert_eq!(into, want, "{keep} rows");
        let sums = merged(metric.view(), &into, Grid::Native);
        for (t, sum) in targets.iter().zip(sums.outer_iter()) {
            let all: Vec<usize> = (0..40).filter(|&v| into[v] == *t && v != *t).collect();
            for i in 0..5 {
                let mean = all.iter().map(|&v| metric[[v, i]]).sum::<f64>() / all.len().max(1) as f64;
                assert!((sum[i] - metric[[*t, i]] - mean).abs() < 1e-12);
            }
        }
    }
}

/// The bits of a prefill, and where its visual rows went.
fn state(s: &Sequence<f32>) -> ((Vec<u32>, Vec<u32>, i64), Vec<usize>) {
    (pruned::state(s), s.pruning.into.clone())
}

/// C9.12a: the decoder computes the bits of a prompt that has the contextual rows in the places of their targets.
#[test]
fn c9_12a_equals_a_shorter_prompt() {
    let clip = toys("llava_clip", 9).into_iter().filter(|toy| ["vicuna-f16", "next-thin"].contains(&toy.name.as_str()));
    let moved = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"].map(|family| toys(family, 1));
    let moved = moved.into_iter().flat_map(|all| all.into_iter().filter(|toy| !toy.prompt.images.is_empty()).take(3));
    let mut cases: Vec<(String, Model, Prepared)> =
        clip.chain(moved).map(|toy| (toy.name, toy.model, toy.prompt)).collect();
    cases.push(("demo".into(), Model::load(&aircache::demo::files()).unwrap(), prompt(0)));
    let mut compared = 0;
    for (name, model, prompt) in &cases {
        let mut pass = Pass::<f32>::new(Grid::Native);
        let pruned = generate::prefill(model, &mut pass, prompt, &[policy("zip:0.6")]).unwrap();
        let Some(rows) = pruned.pruning.rows(0) else { continue };
        let (visual, into) = (model.encode(&mut pass, prompt, Some(Rater::Zip)), &pruned.pruning.into);
        let contextual = model.contextual(&pass, &visual, into);
        let places = prompt.roles.visual();
        let deepstack = visual.deepstack.clone();
        let mut x = model.merge(&mut pass, prompt, visual.rows).unwrap();
        let all_targets: Vec<usize> = (0..into.len()).filter(|&v| into[v] == v).collect();
        all_targets.iter().zip(contextual.outer_iter()).for_each(|(&t, row)| x.row_mut(places[t]).assign(&row));
        let x = x.select(Axis(0), rows);
        assert!(all_targets.iter().all(|&t| rows.contains(&places[t])));
        let twin = shorter(model, &mut pass, prompt, rows, x, &deepstack);
        assert!(pruned::state(&pruned) == pruned::state(&twin), "{name}");
        compared += usize::from(!all_targets.is_empty());
    }
    assert!(compared >= 6, "{compared}");
}

#[test]
fn c9_12a_chunks_batches_and_threads_change_no_bit() {
    let (long, short) = (prompt(0), prompt(3));
    let [one, both] = [[policy("zip:0.1")], [policy("zip:0.3+2:0.1")]];
    let all = [(&long, &one[..]), (&short, &both[..]), (&long, &[])];
    let alone = one_state(&DEMO, &all, state);
    assert!(alone[0].1.iter().any(|&v| v != NOWHERE));
    let whole = [policy("zip").at(Retain::ALL)];
    assert!(one_state(&DEMO, &[(&long, &whole)], state)[0] == alone[2], "a cut that keeps everything is no cut");
}

/// A9.13: contextual rows stand in the places of their targets, and dominant rows are those of `visionzip-dominant`.
#[test]
fn a9_13_places_of_contextual_rows() {
    let (lab, mut seen) = (lab("zip:0.2"), Seen::default());
    let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
    generate::prefill(&lab.model, &mut pass, &lab.prompt, std::slice::from_ref(&lab.policy)).unwrap();
    let (into, visual) = (&seen.rows[INTO], lab.prompt.roles.visual());
    let dominant = best(&seen.numbers["decoder.00.votes"], 40 - contextual(40, 200));
    let mut stay: Vec<usize> = dominant.iter().copied().chain((0..into.len()).filter(|&v| into[v] == v)).collect();
    stay.sort_unstable();
    let rows = seen.rows["decoder.00.rows"].iter().filter(|row| visual.contains(row));
    assert!(rows.copied().eq(stay.iter().map(|&v| visual[v])));
}

/// A9.17: targets are counted through all tiles of a prompt; newline rows are neither targets nor merged.
#[test]
fn a9_17_targets_of_all_tiles() {
    let mut pass = Pass::<f64>::new(Grid::Native);
    let prompt = prompt(0);
    let visual = DEMO.encode(&mut pass, &prompt, Some(Rater::Zip));
    let keyed = keyed(visual.metric.view());
    assert!(keyed.contains(&false), "newline rows have no keys");
    let into = zip(&visual.votes, visual.metric.view(), 40, Grid::Native);
    let others: Vec<usize> = (0..into.len()).filter(|&v| into[v] != NOWHERE).collect();
    let step = others.len() / 6;
    let due: Vec<usize> = (0..6).map(|i| others[i * step]).collect();
    assert_eq!((0..into.len()).filter(|&v| into[v] == v).collect::<Vec<_>>(), due);
    assert!(others.iter().all(|&v| keyed[v]));
}

/// A laboratory with a tower that has a class token.
fn clip() -> Lab {
    let toy = toys("llava_clip", 9).into_iter().find(|toy| toy.name == "next-mistral-bf16").unwrap();
    Lab { model: toy.model, processor: toy.processor, prompt: toy.prompt, ..lab("zip:0.4") }
}

#[test]
fn c9_12b_honest_candidates_pass() {
    let labs = ["zip:0.1", "zip:0.3+2:0.1"].map(lab);
    labs.iter().chain([&clip()]).for_each(honest_candidates_pass);
}

/// A candidate with other integers of a stage, and with what follows from them.
fn with(lab: &Lab, precision: Precision, name: &str, values: &[i64]) -> Dump {
    let mut how = lab.backend();
    how.instead.integers.insert(name.into(), Array1::from(values.to_vec()).into_dyn());
    lab.run(&lab.model, &lab.prompt, precision, &how)
}

/// For each merged row: the row, and how much less like it another target is than its own.
fn others(dump: &Dump) -> Vec<(usize, usize, f64)> {
    let (into, keys) = (&dump.integers[INTO], &dump.numbers["decoder.00.metric"]);
    let key = |v: usize| keys.index_axis(Axis(0), v).iter().copied().collect::<Vec<f64>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: usize, b: usize| {
        let (a, b) = (key(a), key(b));
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    };
    let all: Vec<i64> = into.iter().copied().collect();
    let targets: Vec<usize> = (0..all.len()).filter(|&v| all[v] == v as i64).collect();
    let merged = (0..all.len()).filter(|&v| all[v] >= 0 && all[v] != v as i64);
    let gaps = merged.flat_map(|v| {
        let own = all[v] as usize;
        targets.iter().filter(move |&&t| t != own).map(move |&t| (v, t, own)).collect::<Vec<_>>()
    });
    gaps.map(|(v, t, own)| (v, t, cosine(v, own) - cosine(v, t))).collect()
}

/// C9.12b, C9.12c: another target is found at its own stage; what follows is judged in a replay, and not by a golden. A
/// target that honest noise could choose is admissible.
#[test]
fn c9_12b_c9_12c_other_destinations() {
    let lab = lab("zip:0.2");
    let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
    let into: Vec<i64> = honest.integers[INTO].iter().copied().collect();
    let all = others(&honest);
    let (v, t, _) = *all.iter().max_by(|a, b| a.2.total_cmp(&b.2)).unwrap();
    let mut wrong = into.clone();
    wrong[v] = t as i64;
    let dump = with(&lab, Precision::Fast, INTO, &wrong);
    assert_ne!(dump.numbers["decoder.00.merged"], honest.numbers["decoder.00.merged"]);
    let (by_golden, by_replay) =
        (lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast));
    for verdict in [&by_golden, &by_replay] {
        let first = verdict.first_divergence().unwrap();
        assert_eq!(first.stage, INTO, "{}: {}", verdict.mode, first.words);
        assert!(first.words.contains("is more like row"), "{}", first.words);
        assert_eq!(verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).count(), 1, "{}", verdict.mode);
    }
    for stage in ["decoder.00.merged", "decoder.00.query", "decoder.03.out", "decoder.logits"] {
        assert_eq!(outcome(&by_replay, stage).0, Outcome::Pass, "{stage}");
        let (judged, words) = outcome(&by_golden, stage);
        assert!(judged == Outcome::NotJudged && words.contains("merged differ"), "{stage}: {words}");
    }
    // A near miss: in bf16, cosines that are 0.01 apart may stand in the other order; in f32 they may not.
    let near = |precision| {
        let all = others(&lab.honest(precision));
        all.into_iter().filter(|o| o.2 > 0.0).min_by(|a, b| a.2.total_cmp(&b.2)).unwrap()
    };
    for (precision, due) in [(Precision::Bf16, Outcome::Admissible), (Precision::Fast, Outcome::Fail)] {
        let (v, t, gap) = near(precision);
        assert!(gap < 0.01 && gap > 1e-5, "{gap}");
        let mut moved: Vec<i64> = lab.honest(precision).integers[INTO].iter().copied().collect();
        moved[v] = t as i64;
        let verdict = lab.by_replay(&with(&lab, precision, INTO, &moved), precision);
        assert_eq!(outcome(&verdict, INTO).0, due, "{precision:?}: {}", outcome(&verdict, INTO).1);
    }
}

/// C9.12b: targets, rows without keys, rows that stay and sums that are not right are found, by a golden and by replay.
#[test]
fn c9_12b_wrong_targets_rows_and_sums_are_found() {
    for lab in [lab("zip:0.2"), clip()] {
        let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
        let visual = lab.prompt.roles.visual();
        let into: Vec<i64> = honest.integers[INTO].iter().copied().collect();
        let target = into.iter().enumerate().find(|(v, to)| **to == *v as i64).unwrap().0;
        let merged = (0..into.len()).find(|&v| into[v] == target as i64 && v != target).unwrap();
        let edited = |edit: &dyn Fn(&mut Vec<i64>)| {
            let (mut dump, mut into) = (honest.clone(), into.clone());
            edit(&mut into);
            dump.integers.insert(INTO.into(), Array1::from(into).into_dyn());
            dump
        };
        let swapped = edited(&|into: &mut Vec<i64>| {
            into.iter_mut().filter(|to| **to == target as i64).for_each(|to| *to = merged as i64);
        });
        let keys = honest.numbers["decoder.00.metric"].view().into_dimensionality().unwrap().to_owned();
        let keyless = keyed(keys.view()).iter().position(|keyed| !keyed).unwrap();
        let cases = [
            (swapped, "is a target"),
            (edited(&|into| into[merged] = -1), "are due"),
            (edited(&|into| into[keyless] = target as i64), "has no key"),
            (edited(&|into| into[merged] = if merged == 0 { 1 } else { merged as i64 - 1 }), ""),
        ];
        for (dump, says) in cases {
            for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
                let (judged, words) = outcome(&verdict, INTO);
                assert!(judged == Outcome::Fail && words.contains(says), "{says}: {judged:?} {words}");
            }
        }
        // The rows that stay are not those that were not merged.
        let mut rows: Vec<i64> = honest.integers["decoder.00.rows"].iter().copied().collect();
        let place = rows.iter().position(|&row| row == visual[target] as i64).unwrap();
        rows[place] = visual[merged] as i64;
        rows.sort_unstable();
        let dump = with(&lab, Precision::Fast, "decoder.00.rows", &rows);
        let mut sums = honest.clone();
        sums.numbers.get_mut("decoder.00.merged").unwrap().iter_mut().for_each(|v| *v *= 1.01);
        let mut metric = honest.clone();
        metric.numbers.get_mut("decoder.00.metric").unwrap().iter_mut().for_each(|v| *v *= 1.01);
        let wrong = [(dump, "decoder.00.rows"), (sums, "decoder.00.merged"), (metric, "decoder.00.metric")];
        for (dump, stage) in wrong {
            for verdict in [lab.by_golden(&golden, &dump, Precision::Fast), lab.by_replay(&dump, Precision::Fast)] {
                let first = verdict.first_divergence().unwrap_or_else(|| panic!("{stage}, {}", verdict.mode));
                assert_eq!(first.stage, stage, "{}: {}", verdict.mode, first.words);
            }
        }
    }
}

/// C9.12c: a bundle that does not say which rows are merged is not judged where this matters.
#[test]
fn c9_12c_without_destinations() {
    let lab = lab("zip:0.1");
    let (golden, mut dump) = (lab.golden(), lab.honest(Precision::Bf16));
    dump.integers.remove(INTO);
    let (by_golden, by_replay) =
        (lab.by_golden(&golden, &dump, Precision::Bf16), lab.by_replay(&dump, Precision::Bf16));
    for verdict in [&by_golden, &by_replay] {
        assert!(verdict.first_divergence().is_none(), "{:?}", verdict.first_divergence());
        for stage in ["decoder.00.merged", "decoder.00.query"] {
            assert_eq!(outcome(verdict, stage).0, Outcome::NotJudged, "{stage}, {}", verdict.mode);
        }
    }
    assert_eq!(outcome(&by_replay, "decoder.01.query").0, Outcome::Pass);
    let mut dump = lab.honest(Precision::Bf16);
    dump.numbers.remove("decoder.00.metric");
    assert!(lab.by_replay(&dump, Precision::Bf16).first_divergence().is_none());
}
