//! Chapter 11: what a verdict says, and the forms in which dumps are read. The unit tests of `src/golden/causes` have
//! each sentence that plain numbers give, and replayed layers (E11.1, E11.2, D11.9), `ch11_causes` those of decisions, `ch11_kernels`
//! those of kernels; `tests/bug_suite.rs` counts the causes
//! that are named.

use crate::common::lab::{self, Dump, Lab};
use aircache::golden::{Bundle, BundleWriter, Outcome, Verdict, check, replay};
use aircache::pass::Precision;
use aircache::weights::Dtype;
use ndarray::{ArrayD, Axis};
use std::sync::OnceLock;

fn lab() -> &'static (Lab, Bundle) {
    static LAB: OnceLock<(Lab, Bundle)> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new(20);
        let golden = lab.golden();
        (lab, golden)
    })
}

fn told(v: &Verdict) -> String {
    v.told().join("; ")
}

/// D11.1: the table has the statistic, its unit and what is allowed; the last line counts; missing stages are one line.
#[test]
fn d11_1_the_report_has_units_and_counts() {
    let (lab, golden) = lab();
    let mut dump = lab.honest(Precision::Bf16).only(&["decoder.02.query", "decoder.norm"]);
    dump.numbers.get_mut("decoder.02.query").unwrap().index_axis_mut(Axis(0), 5).mapv_inplace(|v| v * 1.2);
    let verdict = lab.by_golden(golden, &dump, Precision::Bf16);
    let lines = verdict.lines();
    assert!(lines[0].contains("allowed  by"), "{}", lines[0]);
    assert!(
        lines.iter().any(|l| l.starts_with("decoder.02.query") && (l.contains("(σ)") || l.contains("(value)"))),
        "{lines:?}"
    );
    let missing: Vec<&String> = lines.iter().filter(|l| l.starts_with("missing: ")).collect();
    assert!(matches!(missing[..], [line] if line.contains(", and ") && line.ends_with(" more")), "{missing:?}");
    assert_eq!(lines.last().unwrap(), "fail: 2 judged, 0 of them admissible; 0 not judged; 1 failed");
    assert_eq!(lines[lines.len() - 2], "cause: head 5 is 1.1996 times the truth");
    let json = verdict.json();
    let stage = &json["stages"][0];
    assert!(stage["allowed"].is_number() && stage["unit"].is_string() && stage["cause"].is_string(), "{stage}");
    assert!(json["missing"].as_array().unwrap().len() > 100);
    assert_eq!(json["stages"][1]["cause"], serde_json::Value::Null);
}

/// D11.1: words that numbers contradict are not said.
#[test]
fn d11_1_no_trend_where_rows_fail_and_no_factor_where_little_is_explained() {
    let (lab, _) = lab();
    let mut dump = lab.honest(Precision::Bf16);
    dump.numbers.get_mut("decoder.04.out").unwrap().mapv_inplace(|v| v + 0.5);
    let told = told(&lab.by_replay(&dump, Precision::Bf16));
    assert!(!told.contains("each row is within the noise") && !told.contains("times the truth"), "{told}");
}

/// Writes a candidate with metadata of its own.
fn written(lab: &Lab, put: impl Fn(&mut BundleWriter), metadata: &[(&str, &str)]) -> Bundle {
    let path = lab.path();
    let mut writer = BundleWriter::create(&path).unwrap();
    put(&mut writer);
    writer.finish(metadata.iter().copied()).unwrap();
    Bundle::open(&path).unwrap()
}

fn numbers(writer: &mut BundleWriter, name: &str, shape: &[usize], values: &ArrayD<f64>) {
    writer.put_f32(name, shape, &values.iter().map(|&v| v as f32).collect::<Vec<_>>()).unwrap();
}

#[test]
fn d11_12_layouts_that_lose_nothing_pass_with_a_note() {
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Fast);
    let f32 = &[("precision", "f32")][..];
    let (q, logits) = (&dump.numbers["decoder.01.query"], &dump.numbers["decoder.logits"]);
    let batch = written(lab, |w| numbers(w, "decoder.01.query", &[&[1], q.shape()].concat(), q), f32);
    let verdict = check(golden, &batch).unwrap();
    assert!(
        verdict.passes() && verdict.notes[0].contains("a batch of 1 is one sequence"),
        "{}",
        verdict.lines().join("\n")
    );
    let padded = |extra: usize| {
        let mut all: Vec<f32> = logits.iter().map(|&v| v as f32).collect();
        all.resize(logits.len() + extra, f32::NAN);
        written(lab, |w| w.put_f32("decoder.logits", &[all.len()], &all).unwrap(), f32)
    };
    let verdict = check(golden, &padded(64)).unwrap();
    assert!(
        verdict.passes() && verdict.notes[0].contains("the 64 beyond the vocabulary"),
        "{}",
        verdict.lines().join("\n")
    );
    // Entries in the order of slots, with their positions.
    let mut slots = dump.clone();
    let reversed = |a: &ArrayD<f64>, axis: usize| {
        let mut a = a.clone();
        a.invert_axis(Axis(axis));
        a.as_standard_layout().into_owned()
    };
    for site in ["key", "value"] {
        let name = format!("cache.01.{site}");
        let other = reversed(&dump.numbers[&name], 1);
        slots.numbers.insert(name, other);
    }
    slots.integers.get_mut("cache.01.positions").unwrap().invert_axis(Axis(0));
    for verdict in [lab.by_golden(golden, &slots, Precision::Fast), lab.by_replay(&slots, Precision::Fast)] {
        assert!(verdict.passes(), "{}", verdict.lines().join("\n"));
        assert!(verdict.notes.iter().any(|n| n.contains("in the order of their positions")), "{:?}", verdict.notes);
    }
    // Positions in order beside entries in another order are wrong.
    slots.integers.insert("cache.01.positions".into(), dump.integers["cache.01.positions"].clone());
    assert!(!lab.by_golden(golden, &slots, Precision::Fast).passes());
}

#[test]
fn d11_12_layouts_that_do_not_fit_are_named() {
    let (lab, golden) = lab();
    let dump = lab.honest(Precision::Fast);
    let says = |name: &str, shape: Vec<usize>, words: &str| {
        let values = ArrayD::from_shape_vec(vec![shape.iter().product()], vec![0.25; shape.iter().product()]).unwrap();
        let candidate = written(lab, |w| numbers(w, name, &shape, &values), &[("precision", "f32")]);
        let verdict = check(golden, &candidate).unwrap();
        let first = verdict.first_divergence().unwrap();
        assert!(first.words.contains(words), "{name} {shape:?}: {}", first.words);
    };
    let [h, n, d] = dump.numbers["decoder.01.query"].shape().try_into().unwrap();
    let vocab = dump.numbers["decoder.logits"].len();
    says("decoder.01.query", vec![n, h, d], "[n, heads, d_h]");
    says("decoder.01.query", vec![n, h * d], "side by side");
    says("decoder.01.mix", vec![h, n, d], "the heads lie apart");
    says("decoder.01.query", vec![3, h, n, d], "a batch of 3");
    says("decoder.01.query", vec![h / 2, n, d], "1/2 of it: one rank");
    says("decoder.01.key", vec![h, n, d], "repeated for their query heads");
    let [g, len, _] = dump.numbers["cache.01.key"].shape().try_into().unwrap();
    says("cache.01.key", vec![len.div_ceil(16), 16, g, d], "blocks of a paged cache");
    says("cache.01.key", vec![len, g, d], "[n, heads, d_h]");
    says("decoder.logits", vec![n, vocab], "give those of the prompt's last row");
    says("decoder.01.out", vec![h * d, n], "is it transposed?");
    // Rows of padding at the start.
    let own = &dump.numbers["decoder.norm"];
    let left = |pad: f32| {
        let mut all = vec![pad; 9 * h * d];
        all.extend(own.iter().map(|&v| v as f32));
        written(lab, |w| w.put_f32("decoder.norm", &[n + 9, h * d], &all).unwrap(), &[("precision", "f32")])
    };
    for pad in [0.0, f32::NAN] {
        let verdict = check(golden, &left(pad)).unwrap();
        assert!(
            verdict.first_divergence().unwrap().words.contains("9 rows of padding at the start"),
            "{}",
            told(&verdict)
        );
    }
}

/// Keys and values of a cache as int8, a scale for each row of a head.
fn int8(lab: &Lab, dump: &Dump, wrong: f64, scaled: f64) -> Bundle {
    let (policy, retain) = (serde_json::json!(lab.policy).to_string(), lab.retain.to_string());
    let put = |w: &mut BundleWriter| {
        for (name, a) in &dump.numbers {
            if name != "cache.00.key" {
                numbers(w, name, a.shape(), a);
                continue;
            }
            let row = a.shape()[2];
            let values: Vec<f64> = a.iter().copied().collect();
            let scales: Vec<f32> = values
                .chunks(row)
                .map(|r| (r.iter().fold(0.0f64, |m, v| m.max(v.abs())) / 127.0 * scaled) as f32)
                .collect();
            let code = |(i, v): (usize, &f64)| (v / f64::from(scales[i / row])).round().clamp(-127.0, 127.0) as i8;
            let mut codes: Vec<i8> = values.iter().enumerate().map(code).collect();
            codes[5] = (f64::from(codes[5]) + wrong) as i8;
            w.put(name, Dtype::I8, a.shape(), &codes.iter().map(|c| *c as u8).collect::<Vec<u8>>()).unwrap();
            w.put_f32(&format!("{name}.scale"), &[a.shape()[0], a.shape()[1]], &scales).unwrap();
        }
        for (name, a) in dump.integers.iter() {
            w.put_i64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()).unwrap();
        }
    };
    let kinds = r#"{"cache": "int8", "*": "f32"}"#;
    written(lab, put, &[("precision", kinds), ("policy", &policy), ("retain", &retain)])
}

/// E11.3: the quantiser is judged by the best rounding, and what follows from the cache by the numbers that it stands for.
#[test]
fn e11_3_a_quantised_cache_is_judged_twice() {
    let (lab, _) = lab();
    let mut dump = lab.honest(Precision::Fast);
    dump.numbers.retain(|name, _| !name.starts_with("step"));
    dump.integers.remove("output.ids");
    let judged = |wrong, scaled| {
        replay(&lab.model, Some(&lab.prompt), &int8(lab, &dump, wrong, scaled), lab::scratch()).unwrap()
    };
    let of = |v: &Verdict| v.stages.iter().find(|s| s.stage == "cache.00.key").unwrap().clone();
    let good = judged(0.0, 1.0);
    assert!(good.passes() && of(&good).words.contains("int8, rounded as well"), "{}", good.lines().join("\n"));
    let bad = judged(2.0, 1.0);
    assert_eq!(of(&bad).outcome, Outcome::Fail, "{}", told(&bad));
    let cut = of(&judged(0.0, 0.5));
    assert!(cut.outcome == Outcome::Fail && cut.words.contains("beyond the largest number"), "{}", cut.words);
}

/// D11.13: a type for each part.
#[test]
fn d11_13_parts_have_types_of_their_own() {
    let (lab, golden) = lab();
    let (wide, half) = (lab.honest(Precision::Fast), lab.honest(Precision::Bf16));
    let (policy, retain) = (serde_json::json!(lab.policy).to_string(), lab.retain.to_string());
    let of = |precision: &str, mix: &ArrayD<f64>| {
        let put = |w: &mut BundleWriter| {
            numbers(w, "vision.01.out", wide.numbers["vision.01.out"].shape(), &wide.numbers["vision.01.out"]);
            numbers(w, "decoder.00.mix", mix.shape(), mix);
        };
        check(golden, &written(lab, put, &[("precision", precision), ("policy", &policy), ("retain", &retain)]))
    };
    let mix = &half.numbers["decoder.00.mix"];
    assert!(of(r#"{"decoder": "bf16", "*": "f32"}"#, mix).unwrap().passes());
    assert!(!of("f32", mix).unwrap().passes(), "bf16 in the decoder is no f32");
    let mut off = half.numbers["vision.01.out"].clone();
    off.mapv_inplace(|v| v * 1.01);
    for (word, says) in
        [(r#"{"decoder": "bf16"}"#, "no *"), (r#"{"*": "fp4"}"#, "fp4"), ("{", "a type, or types by part")]
    {
        let e = of(word, mix).unwrap_err().to_string();
        assert!(e.contains("metadata precision") && e.contains(says), "{e}");
    }
}

/// D11.13, E10.10: the type of the stage decides whether a drift is judged, and by which noise, not the type of all others.
#[test]
fn d11_13_a_drift_is_judged_in_the_type_of_its_stage() {
    let (lab, _) = lab();
    let tanh = "\"projector_hidden_act\": \"gelu_pytorch_tanh\"";
    let model = lab::altered(&[("\"projector_hidden_act\": \"gelu\"", tanh)], "", |_, _| {});
    let run = |model, kind| lab.run(model, &lab.prompt, kind, &lab.backend());
    let judged = |dump: &Dump, precision: &str| {
        let put = |w: &mut BundleWriter| {
            for name in ["vision.features", "projector.out"] {
                numbers(w, name, dump.numbers[name].shape(), &dump.numbers[name]);
            }
        };
        let of = written(lab, put, &[("precision", precision)]);
        let verdict = replay(&lab.model, Some(&lab.prompt), &of, lab::scratch()).unwrap();
        verdict.first_divergence().map(|first| (first.stage.clone(), first.statistic))
    };
    let (bug, honest) = (run(&model, Precision::Bf16), lab.honest(Precision::Bf16));
    let drift = Some(("projector.out".to_string(), "drift"));
    let parts = |rest: &str| format!(r#"{{"vision": "bf16", "projector": "bf16", "*": "{rest}"}}"#);
    for parts in ["bf16".to_string(), parts("f32"), parts("f16")] {
        let parts = &parts[..];
        assert_eq!(judged(&bug, parts), drift, "{parts}");
        assert_eq!(judged(&honest, parts), None, "{parts}");
    }
}
