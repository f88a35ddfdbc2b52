//! Chapter 10: rulers, verdicts, replay. `tests/bug_suite.rs` has the suite of bugs.

use crate::common::lab::{self, Backend, Dump, Lab};
use aircache::golden::{Bundle, BundleWriter, Outcome, Selection, Verdict, check, replay};
use aircache::kernel::{HeadView, MatrixView};
use aircache::kernel::{Start, Stores, Turn, Visible, attention, linear, linear_in_order, push_key};
use aircache::model::Rounded;
use aircache::num::Grid;
use aircache::pass::Precision;
use aircache::pass::{Aside, Branch, Rotation, Way};
use ndarray::Array2;
use std::sync::OnceLock;

const LINE: usize = 20;

fn lab() -> &'static (Lab, Bundle) {
    static LAB: OnceLock<(Lab, Bundle)> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new(LINE);
        let golden = lab.golden();
        (lab, golden)
    })
}

fn failed(v: &Verdict) -> String {
    v.first_divergence().map_or("pass".into(), |s| format!("{}: {}", s.stage, s.words))
}

const TYPES: [Precision; 3] = [Precision::Fast, Precision::Bf16, Precision::F16];

fn ways() -> [Way; 5] {
    let way = Way::default();
    let fused = Way { fused: true, ..way };
    let in_order = Way { in_order: true, bias_apart: true, ..way };
    // The noise is not measured with the last two ways.
    [way, fused, in_order, Way { fused: true, bias_fused: true, ..in_order }, Way { in_order: true, ..fused }]
}

#[test]
fn e10_5_honest_candidates_pass_by_golden_and_by_replay() {
    let (lab, golden) = lab();
    for precision in TYPES {
        for way in ways() {
            let dump = lab.run(&lab.model, &lab.prompt, precision, &Backend { way, ..lab.backend() });
            let (by_golden, by_replay) = (lab.by_golden(golden, &dump, precision), lab.by_replay(&dump, precision));
            assert!(by_golden.passes(), "{precision:?} {way:?}: {}", failed(&by_golden));
            assert!(by_replay.passes(), "{precision:?} {way:?}: {}", failed(&by_replay));
        }
    }
}

/// The golden's own stages as a dump.
fn truth(golden: &Bundle, grid: Grid) -> Dump {
    let mut dump = Dump::default();
    for name in golden.names().filter(|n| !n.starts_with("noise.")) {
        match golden.f64(name) {
            Ok(a) if name.starts_with("policy") || name == "input.pixels" => drop(dump.numbers.insert(name.into(), a)),
            Ok(a) => drop(dump.numbers.insert(name.into(), lab::stored(grid, a))),
            Err(_) => drop(dump.integers.insert(name.into(), golden.i64(name).unwrap())),
        }
    }
    dump
}

#[test]
fn e10_2_the_golden_rounded_passes_and_one_element_8_rulers_off_fails() {
    let (lab, golden) = lab();
    for precision in TYPES {
        let dump = truth(golden, precision.grid());
        let verdict = lab.by_golden(golden, &dump, precision);
        assert!(verdict.passes(), "{precision:?}: {}", failed(&verdict));
        for stage in
            ["vision.02.out", "projector.out", "decoder.03.query", "decoder.04.mix", "decoder.05.out", "decoder.logits"]
        {
            let of = |v: &Verdict| v.stages.iter().find(|s| s.stage == stage).unwrap().clone();
            let told = of(&verdict);
            let mut off = dump.clone();
            off.numbers.get_mut(stage).unwrap()[&told.index[..]] = told.expected.unwrap() + 8.0 * told.ruler.unwrap();
            let found = of(&lab.by_golden(golden, &off, precision));
            assert_eq!(found.outcome, Outcome::Fail, "{precision:?} {stage}: {told:?} {found:?}");
            assert_eq!(found.index, told.index);
        }
    }
}

#[test]
fn d11_1_the_first_divergence_names_stage_head_and_size() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Bf16);
    let q = dump.numbers.get_mut("decoder.02.query").unwrap();
    q.index_axis_mut(ndarray::Axis(0), 5).mapv_inplace(|v| v * 1.2);
    let verdict = lab.by_golden(golden, &dump, Precision::Bf16);
    let first = verdict.first_divergence().unwrap();
    assert_eq!(first.stage, "decoder.02.query");
    assert!(
        first.words.starts_with("head 5, ") && first.words.contains("what honest bf16 would do"),
        "{}",
        first.words
    );
    let report = verdict.lines().join("\n");
    assert!(report.contains("first divergence: decoder.02.query, head 5"), "{report}");
    assert_eq!(verdict.json()["first_divergence"], "decoder.02.query");
}

#[test]
fn d10_4_stages_stand_in_causal_order() {
    let (lab, golden) = lab();
    let verdict = lab.by_golden(golden, &lab.honest(Precision::Fast), Precision::Fast);
    let names: Vec<&str> = verdict.stages.iter().map(|s| s.stage.as_str()).collect();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let flow =
        ["input.pixels", "vision.00.out", "projector.out", "decoder.embed", "decoder.00.query", "decoder.00.mix"];
    let rest =
        ["decoder.00.out", "decoder.norm", "decoder.logits", "policy.00.window", "policy.budget", "policy.00.kept"];
    let last = ["cache.00.key", "step.0000.logits", "output.ids"];
    let all = [&flow[..], &rest, &last].concat();
    assert!(all.windows(2).all(|w| at(w[0]) < at(w[1])), "{names:?}");
}

#[test]
fn d10_9_the_page_draws_the_worst_stage_and_loads_nothing() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Bf16);
    let q = dump.numbers.get_mut("decoder.02.query").unwrap();
    let (heads, rows) = (q.shape()[0], q.shape()[1]);
    q.slice_mut(ndarray::s![3, 100..140, ..]).mapv_inplace(|v| v * 1.2);
    let verdict = lab.by_golden(golden, &dump, Precision::Bf16);
    let map = verdict.map.as_ref().unwrap();
    assert_eq!((map.stage.as_str(), map.panels.len(), map.sides[1]), ("decoder.02.query", heads, rows));
    for (head, panel) in map.panels.iter().enumerate() {
        for (i, line) in panel.chunks(map.cells[1]).enumerate() {
            let first = i * rows / map.cells[0]; // the first of the rows in this cell
            let wrong = line.iter().any(|v| *v > map.allowed);
            assert_eq!(wrong, head == 3 && (99..140).contains(&first), "head {head}, row {first}");
        }
    }
    let page = aircache::report::verdict_page(&verdict, "<candidate>");
    assert!(page.contains("&lt;candidate&gt;") && page.contains(&verdict.told()[0].replace('"', "&quot;")));
    for stage in &verdict.stages {
        assert!(page.contains(&format!("<td class=\"v\">{}</td>", stage.stage)), "{} has a row", stage.stage);
    }
    assert_eq!(page.matches("<circle").count(), verdict.stages.iter().filter(|s| s.whole.is_some()).count());
    assert!(["http", "src=", "url(", "@import", "<script"].iter().all(|outside| !page.contains(outside)));
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn d10_10_sampled_rows_are_judged_and_equal_hashes_pass() {
    let (lab, golden) = lab();
    let sampled = lab.golden_of(Selection::default().with_rows(40).unwrap());
    let bytes = |b: &Bundle| b.names().map(|n| b.get(n).unwrap().data.len()).sum::<usize>();
    assert!(bytes(&sampled) * 4 < bytes(golden), "{} of {}", bytes(&sampled), bytes(golden));
    let of = |v: &Verdict, stage: &str| v.stages.iter().find(|s| s.stage == stage).unwrap().clone();

    let exact = lab.by_golden(&sampled, &truth(golden, Grid::Bf16), Precision::Bf16);
    assert!(exact.passes(), "{}", failed(&exact));
    assert!(of(&exact, "decoder.03.query").words.contains("every bit"));
    let honest = lab.by_golden(&sampled, &lab.honest(Precision::Bf16), Precision::Bf16);
    assert!(honest.passes(), "{}", failed(&honest));
    assert_eq!(of(&honest, "decoder.03.query").words, format!("40 of {} rows judged", lab.prompt.ids.len()));

    // A wrong row is found if the sample contains it; the reported index is the index in the whole stage.
    let rows: Vec<usize> = sampled.i64("rows.decoder.03.query").unwrap().iter().map(|&r| r as usize).collect();
    let mut dump = lab.honest(Precision::Bf16);
    let q = dump.numbers.get_mut("decoder.03.query").unwrap();
    q[[2, rows[17], 5]] += 30.0;
    let verdict = of(&lab.by_golden(&sampled, &dump, Precision::Bf16), "decoder.03.query");
    assert_eq!((verdict.outcome, &verdict.index[..]), (Outcome::Fail, &[2, rows[17], 5][..]));
    let mut dump = lab.honest(Precision::Bf16);
    let v = dump.numbers.get_mut("vision.01.out").unwrap();
    let tokens = v.shape()[1];
    let row = sampled.i64("rows.vision.01.out").unwrap()[[20]] as usize;
    v[[row / tokens, row % tokens, 7]] = f64::NAN;
    let verdict = of(&lab.by_golden(&sampled, &dump, Precision::Bf16), "vision.01.out");
    assert_eq!(verdict.outcome, Outcome::Fail);
    // A damaged sample gives no judgement and no crash.
    let (_f, bad) = small(&[("precision", "f64"), ("noise", "1")], |w| {
        w.put_f64("decoder.norm", &[2, 3], &[0.0; 6]).unwrap();
        w.put_i64("rows.decoder.norm", &[2], &[4, 900]).unwrap();
        w.put_i64("shape.decoder.norm", &[2], &[7, 3]).unwrap();
    });
    let candidate = lab.write(&lab.honest(Precision::Bf16).only(&["decoder.norm"]), Precision::Bf16);
    let e = check(&bad, &candidate).unwrap_err().to_string();
    assert!(e.contains("none of them judged; decoder.norm: the golden's sample is damaged"), "{e}");
}

fn small(metadata: &[(&str, &str)], put: impl Fn(&mut BundleWriter)) -> (tempfile::TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    let mut writer = BundleWriter::create(&path).unwrap();
    put(&mut writer);
    writer.finish(metadata.iter().copied()).unwrap();
    (folder, Bundle::open(&path).unwrap())
}

#[test]
fn c10_1a_an_empty_bundle_and_a_golden_without_noise_are_errors() {
    let (lab, golden) = lab();
    let (_f, empty) = small(&[("precision", "bf16")], |_| {});
    assert!(check(golden, &empty).unwrap_err().to_string().contains("at least one stage"));
    assert!(replay(&lab.model, None, &empty, lab::scratch()).unwrap_err().to_string().contains("at least one stage"));
    let (_g, bare) = small(&[("precision", "f64")], |w| w.put_i64("input.ids", &[1], &[1]).unwrap());
    assert!(check(&bare, golden).unwrap_err().to_string().contains("noise"));
}

#[test]
fn c10_1b_a_candidate_has_to_say_its_type() {
    let (_, golden) = lab();
    for metadata in [&[][..], &[("precision", "fp8")]] {
        let (_f, candidate) = small(metadata, |w| w.put_i64("input.ids", &[1], &[1]).unwrap());
        assert!(check(golden, &candidate).unwrap_err().to_string().contains("precision"));
    }
}

#[test]
fn c10_1c_another_model_prompt_or_policy_is_refused() {
    let (lab, golden) = lab();
    for (key, value) in [("model", "0"), ("prompt", "another"), ("images", "[]")] {
        let (_f, candidate) =
            small(&[("precision", "f32"), (key, value)], |w| w.put_i64("input.ids", &[1], &[1]).unwrap());
        let e = check(golden, &candidate).unwrap_err().to_string();
        assert!(e.contains(&format!("metadata {key}")), "{e}");
        if key == "model" {
            assert!(
                replay(&lab.model, None, &candidate, lab::scratch())
                    .unwrap_err()
                    .to_string()
                    .contains("metadata model")
            );
        }
    }
    let policy = serde_json::json!(lab.policy).to_string();
    let (_f, candidate) = small(&[("precision", "f32"), ("policy", &policy), ("retain", "0.5")], |w| {
        w.put_i64("input.ids", &[1], &[1]).unwrap()
    });
    assert!(check(golden, &candidate).unwrap_err().to_string().contains("policy"));
}

#[test]
fn c10_1b_torch_names_its_types_otherwise() {
    let (lab, golden) = lab();
    let (_f, candidate) = small(&[("precision", "bfloat16")], |w| {
        let ids: Vec<i64> = lab.prompt.ids.iter().map(|&id| i64::from(id)).collect();
        w.put_i64("input.ids", &[ids.len()], &ids).unwrap()
    });
    assert_eq!(check(golden, &candidate).unwrap().precision, "bf16");
}

#[test]
fn c10_1d_a_policy_needs_a_retention_and_may_be_a_bare_name() {
    let (lab, golden) = lab();
    let ids: Vec<i64> = lab.prompt.ids.iter().map(|&id| i64::from(id)).collect();
    let of = |metadata: &[(&str, &str)]| small(metadata, |w| w.put_i64("input.ids", &[ids.len()], &ids).unwrap());
    let (_f, candidate) = of(&[("precision", "bf16"), ("policy", "aircache")]);
    for e in [check(golden, &candidate).unwrap_err(), replay(&lab.model, None, &candidate, lab::scratch()).unwrap_err()]
    {
        assert!(e.to_string().contains("metadata retain"), "{e}");
    }
    let (_f, candidate) = of(&[("precision", "bf16"), ("retain", "0.1")]);
    assert!(check(golden, &candidate).unwrap().passes(), "a retention alone names no eviction");
    let retain = golden.metadata("retain").unwrap();
    let (_f, candidate) = of(&[("precision", "bf16"), ("policy", "aircache"), ("retain", retain)]);
    assert!(check(golden, &candidate).unwrap().passes());
}

#[test]
fn c10_5b_where_nothing_is_judged_there_is_no_verdict() {
    let (lab, golden) = lab();
    let whole = lab.honest(Precision::Fast);
    // A bundle with one stage, without the stages from which it is computed.
    let mut alone = whole.only(&["decoder.03.out"]);
    alone.integers.insert("input.ids".into(), whole.integers["input.ids"].clone());
    let e = replay(&lab.model, None, &lab.write(&alone, Precision::Fast), lab::scratch()).unwrap_err().to_string();
    assert!(e.contains("at least one stage that can be judged") && e.contains("2 stages, none of them judged"), "{e}");
    // A stage that is judged, a stage that the golden lacks, and a name that is no stage.
    let mut two = whole.only(&["decoder.03.out"]);
    let value = two.numbers["decoder.03.out"].clone();
    two.numbers.insert("decoder.17.out".into(), value.clone());
    two.numbers.insert("decoder.3.mixes".into(), value);
    let verdict = lab.by_golden(golden, &two, Precision::Fast);
    assert!(verdict.passes());
    let lines = verdict.lines().join("\n");
    assert!(lines.contains("decoder.3.mixes (did you mean decoder.03.mix?)"), "{lines}");
    assert!(lines.ends_with("(1 judged, 0 of them admissible; 1 not judged; 0 failed)"), "{lines}");
    let strict = Verdict { strict: true, ..verdict };
    assert!(
        !strict.passes() && strict.lines().last().unwrap().starts_with("fail, since the verdict is strict: 1 judged")
    );
    assert_eq!(strict.json()["verdict"], "fail");
    let complete = Verdict { strict: true, ..lab.by_golden(golden, &whole, Precision::Fast) };
    assert!(complete.passes(), "{}", complete.lines().join("\n"));
}

#[test]
fn c10_4b_a_value_in_another_layout_fails_at_its_own_stage() {
    let (lab, _) = lab();
    let whole = lab.honest(Precision::Fast);
    let mut other = whole.clone();
    let query = whole.numbers["decoder.03.query"].clone();
    let turned = query.permuted_axes(vec![1, 0, 2]).as_standard_layout().into_owned();
    other.numbers.insert("decoder.03.query".into(), turned);
    let verdict = lab.by_replay(&other, Precision::Fast);
    let failures: Vec<&str> =
        verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).map(|s| s.stage.as_str()).collect();
    assert_eq!(failures, ["decoder.03.query"]);
    assert!(failed(&verdict).contains("the first two axes are exchanged"), "{}", failed(&verdict));
    // The same without any recorded earlier stage: the model gives the shape that the stage must have.
    let mut few = other.only(&["decoder.03.query", "decoder.03.key", "decoder.03.value", "decoder.03.mix"]);
    few.integers.insert("input.ids".into(), whole.integers["input.ids"].clone());
    let verdict = replay(&lab.model, None, &lab.write(&few, Precision::Fast), lab::scratch()).unwrap();
    assert!(failed(&verdict).starts_with("decoder.03.query: shape"), "{}", failed(&verdict));
    // A layer that the model lacks.
    let mut beyond = whole.clone();
    beyond.numbers.insert("decoder.17.out".into(), whole.numbers["decoder.03.out"].clone());
    let verdict = lab.by_replay(&beyond, Precision::Fast);
    assert!(failed(&verdict).contains("layer 17: the model computes 6 decoder layers"), "{}", failed(&verdict));
}

#[test]
fn d10_7_pixels_and_positions_are_the_candidates_own() {
    let (lab, _) = lab();
    let whole = lab.honest(Precision::Fast);
    let failures = |verdict: &Verdict| -> Vec<String> {
        verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).map(|s| s.stage.clone()).collect()
    };
    // A backend that reads wrong pixels and computes correctly from them.
    let mut prompt = lab.prompt.clone();
    prompt.images[0].pixels.mapv_inplace(|v| 0.5 * v);
    let darker = lab.run(&lab.model, &prompt, Precision::Fast, &lab.backend());
    let verdict = replay(&lab.model, Some(&lab.prompt), &lab.write(&darker, Precision::Fast), lab::scratch()).unwrap();
    assert_eq!(failures(&verdict), ["input.pixels"]);
    // A backend whose positions begin at 3, as after padding on the left.
    let mut prompt = lab.prompt.clone();
    let aircache::input::Positions::Linear(rows) = &mut prompt.positions else { unreachable!() };
    rows.iter_mut().for_each(|row| *row += 3);
    let shifted = lab.run(&lab.model, &prompt, Precision::Fast, &lab.backend());
    let verdict = replay(&lab.model, Some(&lab.prompt), &lab.write(&shifted, Precision::Fast), lab::scratch()).unwrap();
    assert_eq!(failures(&verdict), ["input.positions"]);
    assert!(
        replay(&lab.model, Some(&lab.prompt), &lab.write(&whole, Precision::Fast), lab::scratch()).unwrap().passes()
    );
}

#[test]
fn e10_6_tokens_without_logits_are_held_against_those_of_a_replay() {
    let (lab, _) = lab();
    let whole = lab.honest(Precision::Bf16);
    let mut bare = whole.clone();
    bare.numbers.retain(|name, _| !name.ends_with("logits") && !name.starts_with("step"));
    let verdict = lab.by_replay(&bare, Precision::Bf16);
    assert!(verdict.passes(), "{}", failed(&verdict));
    for (t, wrong) in [(0, 7), (2, 11), (1, -1), (3, 1 << 20)] {
        let mut garbage = bare.clone();
        garbage.integers.get_mut("output.ids").unwrap()[[t]] = wrong;
        let verdict = lab.by_replay(&garbage, Precision::Bf16);
        assert!(failed(&verdict).starts_with(&format!("output.ids: token {t} is ")), "{t}: {}", failed(&verdict));
    }
}

#[test]
fn c10_4a_shapes_and_types_are_explained() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Fast);
    let q = dump.numbers["decoder.01.query"].clone().permuted_axes(vec![1, 0, 2]);
    dump.numbers.insert("decoder.01.query".into(), q.as_standard_layout().to_owned());
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    assert!(
        failed(&verdict).contains("decoder.01.query: shape") && failed(&verdict).contains("axes are exchanged"),
        "{}",
        failed(&verdict)
    );
    let mut dump = lab.honest(Precision::Fast);
    let mix = dump.numbers.remove("decoder.01.mix").unwrap();
    dump.integers.insert("decoder.01.mix".into(), mix.mapv(|v| v as i64));
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    assert!(failed(&verdict).contains("stored as I64"), "{}", failed(&verdict));
}

#[test]
fn c10_3a_cache_entries_are_copies_and_say_of_what() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Bf16);
    let k = dump.numbers.get_mut("cache.02.key").unwrap();
    let source = k.clone();
    k.index_axis_mut(ndarray::Axis(1), 3).assign(&source.index_axis(ndarray::Axis(1), 4));
    for verdict in [lab.by_golden(golden, &dump, Precision::Bf16), lab.by_replay(&dump, Precision::Bf16)] {
        let first = failed(&verdict);
        assert!(first.starts_with("cache.02.key: head 0, entry 3 is no copy of row"), "{first}");
        assert!(first.contains("but of row"), "{first}");
    }
}

#[test]
fn c10_5a_steps_after_another_token_are_not_judged_by_the_golden() {
    let (lab, golden) = lab();
    let mut dump = truth(golden, Grid::Native);
    let ids = dump.integers.get_mut("output.ids").unwrap();
    ids[[1]] = (ids[[1]] + 1) % 400;
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    let of = |name: &str| verdict.stages.iter().find(|s| s.stage == name).unwrap().outcome;
    assert_eq!(of("step.0000.logits"), Outcome::Pass);
    assert_eq!(of("step.0001.logits"), Outcome::NotJudged);
    assert_eq!(of("output.ids"), Outcome::Fail);
}

#[test]
fn e10_6_a_swap_within_the_margin_is_admissible_and_says_so() {
    let (lab, golden) = lab();
    let mut dump = truth(golden, Grid::Native);
    // The last kept candidate and the first evicted candidate are exchanged, after their importances are made almost
    // equal.
    let importance = dump.numbers.get_mut("policy.03.importance").unwrap();
    let order = aircache::policy::ranking(importance.as_slice().unwrap());
    let b = dump.integers["policy.budget"][[3]] as usize;
    let (last, next) = (order[b - 1], order[b]);
    let tie = importance[[last]];
    importance[[next]] = tie * (1.0 - 1e-9);
    let kept = dump.integers.get_mut("policy.03.kept").unwrap();
    let swapped: Vec<i64> = kept.iter().map(|&k| if k == last as i64 { next as i64 } else { k }).collect();
    let mut swapped = swapped;
    swapped.sort_unstable();
    *kept = ndarray::Array1::from(swapped).into_dyn();
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    let of = verdict.stages.iter().find(|s| s.stage == "policy.03.kept").unwrap();
    assert_eq!(of.outcome, Outcome::Admissible, "{of:?}");
    assert!(of.words.contains("swapped: gap"), "{}", of.words);
}

#[test]
fn d10_7_replay_neither_hides_nor_excuses_a_second_bug() {
    let (lab, _) = lab();
    // Layer 1 reads garbage keys; in addition, layer 4 has a wrong mix.
    let mut honest = lab.honest(Precision::Bf16);
    honest.numbers.get_mut("decoder.01.key").unwrap().mapv_inplace(|v| -v);
    let how = Backend { instead: honest.only(&["decoder.01.key"]), ..lab.backend() };
    let mut dump = lab.run(&lab.model, &lab.prompt, Precision::Bf16, &how);
    dump.numbers.insert("decoder.01.key".into(), honest.numbers["decoder.01.key"].clone());
    dump.numbers.get_mut("decoder.04.mix").unwrap().mapv_inplace(|v| v * 1.25);
    let verdict = lab.by_replay(&dump, Precision::Bf16);
    let bad: Vec<&str> =
        verdict.stages.iter().filter(|s| s.outcome == Outcome::Fail).map(|s| s.stage.as_str()).collect();
    assert_eq!(bad, ["decoder.01.key", "decoder.04.mix", "decoder.04.out"]);
}

#[test]
fn d10_7_a_few_stages_are_enough_for_a_replay() {
    let (lab, _) = lab();
    let whole = lab.honest(Precision::Bf16);
    let mut few = whole.only(&["decoder.01.out", "decoder.02.query", "decoder.02.out", "decoder.03.key"]);
    few.integers.insert("input.ids".into(), whole.integers["input.ids"].clone());
    let verdict = replay(&lab.model, None, &lab.write(&few, Precision::Bf16), lab::scratch()).unwrap();
    let of = |name: &str| verdict.stages.iter().find(|s| s.stage == name).unwrap().outcome;
    assert!(verdict.passes(), "{}", failed(&verdict));
    assert_eq!(of("decoder.01.out"), Outcome::NotJudged);
    assert_eq!([of("decoder.02.query"), of("decoder.02.out"), of("decoder.03.key")], [Outcome::Pass; 3]);
}

#[test]
fn c10_7a_without_a_policy_decisions_are_not_judged_and_what_follows_from_them_is() {
    let (lab, _) = lab();
    let honest = lab.honest(Precision::Bf16);
    let of = |v: &Verdict, part: &str| -> Vec<(Outcome, String)> {
        let of = v.stages.iter().filter(|s| s.stage.starts_with(part));
        of.map(|s| (s.outcome, s.words.clone())).collect()
    };
    // The metadata contains no policy: the cache shows the rows that it holds.
    let replayed =
        |dump: &Dump| replay(&lab.model, None, &lab.write_as(dump, Precision::Bf16, false), lab::scratch()).unwrap();
    let verdict = replayed(&honest);
    let told = of(&verdict, "policy.");
    assert!(told.len() > 20 && told.iter().all(|(o, w)| *o == Outcome::NotJudged && w.contains("policy and retain")));
    assert!(verdict.passes(), "{}", failed(&verdict));
    let told = [of(&verdict, "cache."), of(&verdict, "step.")].concat();
    assert!(told.len() > 40 && told.iter().all(|(o, _)| *o == Outcome::Pass), "{told:?}");
    // The policy's stages are missing too, so the cache counts as full.
    let mut bare = honest.clone();
    bare.numbers.retain(|name, _| !name.starts_with("policy") && !name.starts_with("cache"));
    bare.integers.retain(|name, _| !name.starts_with("policy") && !name.starts_with("cache"));
    let verdict = replayed(&bare);
    assert!(verdict.notes.iter().any(|n| n.contains("full cache")), "{:?}", verdict.notes);
    assert!(failed(&verdict).starts_with("step.0000.0"), "its cache was not full: {}", failed(&verdict));
    // A policy that fails on the candidate's numbers.
    let mut bad = honest.clone();
    bad.numbers.get_mut("decoder.01.key").unwrap()[[0, 3, 1]] = f64::NAN;
    let verdict = lab.by_replay(&bad, Precision::Bf16);
    assert!(failed(&verdict).starts_with("decoder.01.key"));
    let told = of(&verdict, "policy.");
    assert!(told.iter().all(|(o, w)| *o == Outcome::NotJudged && w.contains("the policy fails on")), "{told:?}");
}

#[test]
fn d10_1_the_ways_differ_and_are_both_right() {
    let x = Array2::from_shape_fn((3, 70), |(i, k)| ((i * 71 + k * 37) % 19) as f64 / 7.0 - 1.3);
    let w: Vec<f32> = (0..20 * 70).map(|i| ((i * 53) % 23) as f32 / 9.0 - 1.2).collect();
    let b: Vec<f32> = (0..20).map(|i| i as f32).collect();
    let view = MatrixView::f32(&w, 20, 70);
    let a = linear(x.view(), view, Some(&b));
    let [c, d] = [Start::First, Start::Last].map(|from| linear_in_order(x.view(), view, Some(&b), from));
    for (a, c) in [(&a, &c), (&a, &d), (&c, &d)] {
        assert!(a.iter().zip(c).all(|(a, c)| (a - c).abs() < 1e-12) && a != c);
    }
}

#[test]
fn d10_1_a_chain_of_entries_is_off_by_what_equal_terms_add_up_to() {
    // 4096 equal entries: every product is 0.1/4096, and a chain rounds each sum of a binade in the same direction.
    let n = 4096;
    let (keys, values) = (vec![0f32; n], vec![0.1f32; n]);
    let head = HeadView { keys: &keys, values: &values };
    let of = |chain| attention(&[1f32], 1, &[head], 1, Visible::All, Stores { chain, ..Stores::default() }, None)[0];
    let expected = (0..n).fold(0f32, |sum, _| (1.0 / n as f32).mul_add(0.1, sum));
    assert_eq!(of(true), expected);
    assert!(
        (of(true) - 0.1).abs() > 10.0 * (of(false) - 0.1).abs().max(f32::EPSILON / 16.0),
        "{} {}",
        of(true),
        of(false)
    );
}

#[test]
fn r10_3_fused_attention_stores_unnormalised_weights() {
    // Two keys with scores 0 and ln 3 (scale 1): either the weights 1/3 and 1 are stored, or the weights 1/4 and 3/4.
    let (q, values) = ([1.0f32], [1.0f32, 0.0]);
    let mut keys = vec![];
    [0.0f32, 3f32.ln()].iter().enumerate().for_each(|(i, &k)| push_key(&mut keys, i, [k].into_iter()));
    let head = HeadView { keys: &keys, values: &values };
    let of = |fused| attention(&q, 1, &[head], 1, Visible::All, Stores { fused, ..Stores::from(Grid::Bf16) }, None)[0];
    let store = |x: f32| Grid::Bf16.round(x);
    let stored = store(3f32.ln()).exp(); // eager: the score is stored, then the normalised weight
    assert_eq!(of(false), store(1.0 / (1.0 + stored)));
    let third = store(1.0 / 3.0); // fused: the unnormalised weight is stored; the score and the sum are not
    assert_eq!(of(true), store(third / (4.0 / 3.0)));
    assert_ne!(of(false), of(true));
}

#[test]
fn r10_2_a_convolution_is_stored_before_its_bias() {
    // The tower's first layer must read embeddings that were rounded twice: a bias of half a step makes the difference.
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Bf16);
    assert!(lab.by_golden(golden, &dump, Precision::Bf16).passes());
}

#[test]
fn r10_4_weights_are_read_in_the_type_of_the_run() {
    let wide = lab::altered(&[], "model.norm.weight", |w, _| w.iter_mut().for_each(|w| *w *= 1.0));
    assert!(matches!(wide.rounded(Grid::Bf16).unwrap(), Rounded::Same(_)), "bf16 weights are in the type");
    let f16 = wide.rounded(Grid::F16).unwrap();
    assert_ne!(f16.checkpoint.digest(), wide.checkpoint.digest(), "some weights lie below what f16 can hold");
}

/// The noise of a stage in the golden, as numbers.
fn noise(golden: &Bundle, stage: &str) -> Vec<f64> {
    golden.f64(&format!("noise.bf16.{stage}")).unwrap().iter().copied().collect()
}

#[test]
fn d10_3_noise_has_its_layout_and_is_small() {
    let (_, golden) = lab();
    let shape = golden.get("decoder.02.query").unwrap().shape.to_vec();
    let (heads, n, d) = (shape[0], shape[1], shape[2]);
    assert_eq!(noise(golden, "decoder.02.query").len(), 3 + 2 * heads * d + 2 * heads * n);
    assert_eq!(noise(golden, "decoder.logits").len(), 3 + 2 + 2);
    let bytes = |noise: bool| -> usize {
        let wanted = golden.names().filter(|name| name.starts_with("noise.") == noise);
        wanted.map(|name| golden.get(name).unwrap().data.len()).sum()
    };
    assert!(bytes(true) * 10 < bytes(false), "{} of {}", bytes(true), bytes(false));
}

#[test]
fn e10_1_noise_is_the_largest_over_the_ways() {
    let (lab, golden) = lab();
    let truth = golden.f64("decoder.03.out").unwrap();
    let (way, once) = (Way::default(), Rotation::Once);
    let stored = Way { bias_fused: true, rotation: once, gate_once: true, epilogue: true, ..way };
    let exact = Way { fused: true, turn: Some(Turn::Exact), ..way };
    let engine = Way { norm_once: true, turn: Some(Turn::Exact), fused: true, ..stored };
    let all = [
        way,
        Way { norm_once: true, ..way },
        Way { norm_once: true, rotation: Rotation::Tables, ..exact },
        Way { in_order: true, bias_apart: true, scaled: true, turn: Some(Turn::Chain), ..way },
        stored,
        Way { wide: true, ..engine },
        engine,
    ];
    let whole = all.map(|way| {
        let dump = lab.run(&lab.model, &lab.prompt, Precision::Bf16, &Backend { way, ..lab.backend() });
        (&dump.numbers["decoder.03.out"] - &truth).mapv(|e| e * e).mean().unwrap().sqrt()
    });
    let largest = whole.into_iter().fold(0.0, f64::max);
    assert!((noise(golden, "decoder.03.out")[0] / largest - 1.0).abs() < 1e-5);
}

#[test]
fn d10_2_columns_and_units() {
    let (_, golden) = lab();
    let n = noise(golden, "decoder.03.out");
    let width = golden.get("decoder.03.out").unwrap().shape[1];
    let (units, columns) = (&n[3..3 + width], &n[3 + width..3 + 2 * width]);
    let whole = n[0];
    assert!(units.iter().zip(columns).all(|(u, c)| *u <= c.max(whole / 10.0) && *u >= 0.9 * whole / 20.0 * 0.5));
    let mean = (columns.iter().map(|c| c * c).sum::<f64>() / width as f64).sqrt();
    assert!(mean >= whole * 0.999, "columns make up the whole");
}

/// The verdict on one stage of a candidate: the candidate is the rounded golden, with one stage changed by `change`.
fn changed(
    precision: Precision,
    stage: &str,
    change: impl Fn(&mut ndarray::ArrayD<f64>),
) -> aircache::golden::StageVerdict {
    let (lab, golden) = lab();
    let mut dump = truth(golden, precision.grid());
    change(dump.numbers.get_mut(stage).unwrap());
    let verdict = lab.by_golden(golden, &dump, precision);
    verdict.stages.iter().find(|s| s.stage == stage).unwrap().clone()
}

#[test]
fn e10_3_a_quiet_row_is_not_measured_with_its_own_draws_alone() {
    // Twice the usual error in one row is no failure, for any draws of this row; forty times the usual error is a
    // failure.
    let (_, golden) = lab();
    let whole = noise(golden, "decoder.03.out")[0];
    for (times, outcome) in [(1.0, Outcome::Pass), (200.0, Outcome::Fail)] {
        let found = changed(Precision::Bf16, "decoder.03.out", |x| {
            x.index_axis_mut(ndarray::Axis(0), 100).iter_mut().step_by(2).for_each(|v| *v += 0.5 * times * whole)
        });
        assert_eq!(found.outcome, outcome, "{times}: {found:?}");
    }
}

#[test]
fn e10_4_a_common_factor_is_a_finding_in_a_replay() {
    let (lab, _) = lab();
    let mut dump = lab.honest(Precision::Bf16);
    dump.numbers.get_mut("decoder.02.value").unwrap().mapv_inplace(|v| v * 1.01);
    let verdict = lab.by_replay(&dump, Precision::Bf16);
    let first = verdict.first_divergence().unwrap();
    assert_eq!(first.stage, "decoder.02.value");
    assert!(first.cause.starts_with("everything is 1.0"), "{}", first.cause);
}

#[test]
fn e10_5_nan_and_infinity_fail_with_their_place() {
    for bad in [f64::NAN, f64::INFINITY] {
        let found = changed(Precision::F16, "decoder.04.mix", |x| x[[30, 7]] = bad);
        assert_eq!((found.outcome, found.index.clone()), (Outcome::Fail, vec![30, 7]), "{found:?}");
        assert!(found.words.contains("NaN or infinite"));
    }
}

#[test]
fn e10_7_pixels_of_another_rounding_pass_and_of_another_scale_fail() {
    let off = |by: f64| {
        changed(Precision::Bf16, "input.pixels", move |x| x.mapv_inplace(|v| f64::from((v * (1.0 + by)) as f32)))
    };
    assert_eq!(off(1e-7).outcome, Outcome::Pass);
    assert_eq!(off(1.0 / 256.0).outcome, Outcome::Fail);
}

#[test]
fn e10_8_skewness_of_another_formula_fails_and_of_f32_passes() {
    let (_, golden) = lab();
    let n = golden.get("policy.00.importance").unwrap().shape[0] as f64;
    let off = |by: f64| changed(Precision::Fast, "policy.skewness", move |x| x.mapv_inplace(|v| v * by)).outcome;
    assert_eq!(off(1.0 + 1e-6), Outcome::Pass);
    assert_eq!(off((n - 2.0) / (n * (n - 1.0)).sqrt()), Outcome::Fail);
}

#[test]
fn a10_2_numbers_kept_wider_than_the_type_are_judged_as_wider() {
    // An error of 1 % in a bf16 candidate whose statistics are not bf16 numbers.
    let off = changed(Precision::Bf16, "policy.skewness", |x| x.mapv_inplace(|v| v * 0.99));
    assert_eq!(off.outcome, Outcome::Fail, "{off:?}");
}

#[test]
fn a10_1_a_candidate_in_f64_has_the_rulers_of_f32() {
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Fast);
    let verdict = check(golden, &lab.write(&dump, Precision::Truth)).unwrap();
    assert!(verdict.passes(), "{}", failed(&verdict));
    assert_eq!(verdict.precision, "f32");
}

#[test]
fn t10_1_each_type_has_its_own_ruler() {
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Bf16);
    let mut as_f16 = dump.clone();
    as_f16.numbers.retain(|name, _| name.starts_with("decoder"));
    let verdict = lab.by_golden(golden, &as_f16, Precision::F16);
    assert!(!verdict.passes(), "noise of bf16 is no noise of f16");
}

#[test]
fn t10_2_a_stage_the_golden_does_not_hold_is_not_judged() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Fast).only(&["decoder.03.out"]);
    let value = dump.numbers["decoder.03.out"].clone();
    dump.numbers.insert("decoder.17.out".into(), value);
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    assert!(verdict.passes());
    assert_eq!(verdict.stages[1].outcome, Outcome::NotJudged);
    assert!(verdict.missing.contains(&"decoder.02.out".to_string()));
}

#[test]
fn d10_5_decisions_are_exact_where_nothing_is_compared() {
    let (lab, golden) = lab();
    let mut dump = truth(golden, Grid::Native);
    dump.integers.get_mut("input.ids").unwrap()[[4]] += 1;
    let verdict = lab.by_golden(golden, &dump, Precision::Fast);
    let first = verdict.first_divergence().unwrap();
    assert_eq!((first.stage.as_str(), &first.index[..]), ("input.ids", &[4][..]));
}

#[test]
fn r10_5_a_policy_computed_in_the_type_is_honest() {
    use aircache::policy::Scorer;
    let (lab, _) = lab();
    let mut dump = Dump::default();
    let prefilled = {
        let mut pass = aircache::pass::Pass::<f32>::watched(Grid::Bf16, &mut dump);
        aircache::generate::prefill(&lab.model, &mut pass, &lab.prompt, std::slice::from_ref(&lab.policy)).unwrap()
    };
    let scorer = Scorer::new(&lab.policy, &lab.prompt.roles).unwrap().storing(Grid::Bf16);
    let scores = prefilled.scores(&scorer).unwrap();
    scorer.decide(lab.retain, &scores).tensors().iter().for_each(|(at, v)| dump.values(&at.name(), v));
    dump.integers.insert("input.ids".into(), lab.honest(Precision::Bf16).integers["input.ids"].clone());
    let verdict = lab.by_replay(&dump, Precision::Bf16);
    assert!(verdict.passes(), "{}", failed(&verdict));
}

#[test]
fn e10_9_a_replay_judges_a_stage_without_the_noise_before_it() {
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Bf16);
    let ruler = |v: &Verdict| v.stages.iter().find(|s| s.stage == "decoder.embed").unwrap().ruler.unwrap();
    let (by_golden, by_replay) = (lab.by_golden(golden, &dump, Precision::Bf16), lab.by_replay(&dump, Precision::Bf16));
    assert!(ruler(&by_replay) < 0.5 * ruler(&by_golden));
}

#[test]
fn damaged_bundles_never_crash_it() {
    let (lab, golden) = lab();
    let bytes = std::fs::read(lab.write(&lab.honest(Precision::Bf16), Precision::Bf16).label()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut state = 7u64;
    for _ in 0..40 {
        let mut damaged = bytes.clone();
        for _ in 0..6 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at =
                if state >> 63 == 0 { (state >> 20) as usize % head } else { (state >> 20) as usize % bytes.len() };
            damaged[at] = (state >> 8) as u8;
        }
        std::fs::write(&path, &damaged).unwrap();
        if let Ok(candidate) = Bundle::open(&path) {
            let _ = check(golden, &candidate);
            let _ = replay(&lab.model, None, &candidate, lab::scratch());
        }
    }
}

#[test]
fn r10_6_a_bias_may_be_added_to_a_stored_product() {
    let (lab, _) = lab();
    let dump = |bias_apart| {
        let way = Way { bias_apart, ..Way::default() };
        lab.run(&lab.model, &lab.prompt, Precision::Bf16, &Backend { way, ..lab.backend() })
    };
    let (together, apart) = (dump(false), dump(true));
    assert_ne!(together.numbers["projector.out"], apart.numbers["projector.out"]);
    let verdict = lab.by_replay(&apart, Precision::Bf16);
    assert!(verdict.passes(), "{}", failed(&verdict));
}

/// R10.8 to R10.13: each place where honest programs store otherwise changes bits, and passes alone and with the others.
#[test]
fn r10_8_r10_9_r10_10_r10_11_r10_12_r10_13_other_stores_are_honest() {
    let (lab, _) = lab();
    let way = Way::default();
    let each = [
        ("decoder.00.query", Way { norm_once: true, ..way }),
        ("decoder.00.key", Way { rotation: Rotation::Once, ..way }),
        ("decoder.00.key", Way { rotation: Rotation::Tables, ..way }),
        ("decoder.00.out", Way { gate_once: true, ..way }),
        ("decoder.00.mix", Way { scaled: true, ..way }),
        ("decoder.01.out", Way { wide: true, ..way }),
        ("decoder.00.out", Way { epilogue: true, ..way }),
    ];
    for (precision, ways) in [(Precision::Bf16, &each[..]), (Precision::F16, &each[4..5])] {
        let dump = |way| lab.run(&lab.model, &lab.prompt, precision, &Backend { way, ..lab.backend() });
        let canonical = dump(way);
        for &(stage, way) in ways {
            let other = dump(way);
            assert_ne!(canonical.numbers[stage], other.numbers[stage], "{way:?}");
            let verdict = lab.by_replay(&other, precision);
            assert!(verdict.passes(), "{precision:?} {way:?}: {}", failed(&verdict));
        }
    }
}

#[test]
fn r10_7_products_of_three_of_tf32_are_near_and_not_the_same() {
    let wave = |n: usize, k: usize| (0..n).map(|i| ((i * k) % 31) as f32 / 7.3 - 2.0).collect::<Vec<f32>>();
    let (q, values) = (wave(3 * 8, 17), wave(5 * 8, 13));
    let mut keys = vec![];
    wave(5 * 8, 11).chunks(8).enumerate().for_each(|(i, key)| push_key(&mut keys, i, key.iter().copied()));
    let head = HeadView { keys: &keys, values: &values };
    let of = |split| {
        let stores = Stores { split, ..Stores::from(Grid::Native) };
        attention(&q, 1, &[head], 8, Visible::All, stores, None)
    };
    let (plain, split) = (of(false), of(true));
    // Scores up to 50 have an error of 50 · 2⁻²², the weights have the same relative error, and the mix has a few times
    // this error.
    assert!(plain.iter().zip(&split).all(|(a, b)| (a - b).abs() < 1e-4), "{plain:?} {split:?}");
    assert_ne!(plain, split);
    assert_eq!(aircache::kernel::tf32(1.0 + 3.0 / 2048.0), 1.0 + 1.0 / 512.0, "ties away from zero");
}

#[test]
fn d10_8_a_direction_is_a_run_off_on_purpose() {
    let of = |aside| aircache::pass::Pass::<f64>::new(Grid::Native).by(Way { aside, ..Way::default() });
    let x = ndarray::array![[3.0, 4.0], [1.0, 1.0]];
    let norm = |aside, eps| of(aside).norm(x.view(), &[1.0, 1.0], None, eps);
    let exact = |eps| aircache::kernel::rms_norm(x.view(), &[1.0, 1.0], eps, [Grid::Native; 2]);
    assert_eq!(norm(None, 1e-6), exact(1e-6));
    // The smallest mean square is 1.
    assert_eq!(norm(Some(Aside::Epsilon), 0.0), exact(Aside::SHARE));
    let mlp = of(Some(Aside::Branch(Branch::Mlp)));
    assert_eq!(mlp.branch(Branch::Mlp, x.clone())[[0, 1]], 4.0 * (1.0 + Aside::SHARE));
    assert_eq!(mlp.branch(Branch::Attention, x.clone()), x);
}

#[test]
fn e10_10_a_drift_below_the_noise_of_every_number_is_found() {
    let (lab, _) = lab();
    let tanh = "\"projector_hidden_act\": \"gelu\"";
    let model = lab::altered(&[(tanh, "\"projector_hidden_act\": \"gelu_pytorch_tanh\"")], "", |_, _| {});
    let dump = lab.run(&model, &lab.prompt, Precision::Bf16, &lab.backend());
    let verdict = lab.by_replay(&dump, Precision::Bf16);
    let first = verdict.first_divergence().unwrap();
    assert_eq!((first.stage.as_str(), first.statistic), ("projector.out", "drift"));
    assert!(
        first.words.contains("the errors are correlated with a change of the activation near -3"),
        "{}",
        first.words
    );
}
