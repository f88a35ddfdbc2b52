//! Chapter 08: AirCache, equation by equation, and the properties of every method with the same structure.

use crate::common::prompts::{Prompt, budget, decide, kept, policy, prompts, retain, retentions, roles, said};
use aircache::policy::*;
use aircache::{Role, Roles};
use ndarray::{Array3, Axis, s};
use proptest::prelude::*;

/// Every preset: the properties run over this table.
fn every() -> impl Iterator<Item = (&'static str, Policy)> {
    presets().iter().map(|p| (p.name, p.policy.clone())).filter(|(_, policy)| !policy.prunes())
}

fn ln(x: f64) -> f64 {
    x.ln()
}

/// The prompt of E8.3's example: two visual tokens and two text rows, which are both elite.
fn example() -> Prompt {
    Prompt::one("VVTT", &[9.0, 9.0, 1.0, 0.0], &[0.0, ln(2.0), 0.0, ln(4.0)])
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{a} is not {b}");
}

// Definitions

#[test]
fn d8_1_rows_asked_for_are_enough() {
    let p = example();
    assert_eq!(Policy::AIRCACHE.rows(&p.roles).unwrap(), [2, 3]);
    assert_eq!(policy("last16").rows(&roles("TTVVT")).unwrap(), [4]);
    assert!(policy("h2o").rows(&p.roles).unwrap().is_empty() && policy("h2o").needs_received());
}

#[test]
fn c8_1a_misfits_are_errors_that_name_layer_and_array() {
    let roles = roles("TVT");
    let scorer = Scorer::new(&Policy::AIRCACHE, &roles).unwrap();
    let (q, k) = (Array3::<f64>::zeros((2, 1, 4)), Array3::<f64>::zeros((1, 3, 4)));
    let rows = [2];
    let good = Observed { q: q.view(), rows: &rows, k: k.view(), received: None, v: None, future: None };
    assert!(scorer.observe(5, &good).is_ok());
    let (short, narrow, three) = (Array3::zeros((1, 2, 4)), Array3::zeros((1, 3, 5)), Array3::zeros((3, 3, 4)));
    let (few, many) = ([1], [1, 2]);
    for (bad, what) in [
        (Observed { k: short.view(), ..good }, "keys"),
        (Observed { k: narrow.view(), ..good }, "queries"),
        (Observed { k: three.view(), ..good }, "queries"),
        (Observed { rows: &few, ..good }, "rows"),
        (Observed { rows: &many, ..good }, "queries"),
    ] {
        let error = scorer.observe(5, &bad).unwrap_err().to_string();
        assert!(error.contains("layer 5") && error.contains(what), "{error}");
    }
    let h2o = Scorer::new(&policy("h2o"), &roles).unwrap().observe(0, &good).unwrap_err();
    assert!(h2o.to_string().contains("received"), "{h2o}");
}

#[test]
fn d8_2_worked_example() {
    let r: Decimal = "3e-1".parse().unwrap();
    assert_eq!((r.numerator(), r.denominator()), (3, 10));
    assert_eq!(retain(".30"), retain("0.3"));
    assert_eq!(retain("1e-2"), retain("0.01"));
    assert_eq!(Retain::fraction(0.3).unwrap(), retain("0.3"));
    assert_eq!(Retain::tokens(3).unwrap().total(10, 4), 12);
    assert_eq!(Retain::tokens(30).unwrap().total(10, 4), 40);
}

#[test]
fn c8_2a_what_is_no_retention() {
    for bad in [
        "0",
        "0.0",
        "-0.1",
        "nan",
        "inf",
        "1.0000001",
        "",
        ".",
        "e",
        "1e",
        "0,3",
        "30%",
        "1e-23",
        "0x1",
        "1e99999999999999999999",
        "１",
    ] {
        assert!(bad.parse::<Retain>().is_err(), "{bad:?}");
    }
    assert!(Retain::tokens(0).is_err() && Retain::fraction(f64::NAN).is_err() && Retain::fraction(-0.5).is_err());
    // In f64, 0.15 · 10 · 1 + 0.5 and 0.07 · 50 + 0.5 fall on the wrong side of an integer, or reach the integer only
    // by luck.
    assert_eq!((retain("0.15").total(10, 1), retain("0.07").total(50, 1), retain("0.145").total(100, 1)), (2, 4, 15));
    assert_eq!("1e0".parse::<Decimal>().unwrap().to_string(), "1");
    assert_eq!("0.000000000000000001".parse::<Decimal>().unwrap().to_string(), "0.000000000000000001");
    assert_eq!("2500e-2".parse::<Decimal>().unwrap().to_string(), "25");
}

#[test]
fn d8_3_worked_example() {
    let prompt = roles("TVVTT");
    let rows = |text: &str| policy(&format!("window=all-text,text={text}")).rows(&prompt).unwrap();
    assert_eq!(rows("after"), [3, 4]);
    assert_eq!(rows("all"), [0, 3, 4]);
    assert_eq!(rows("question:1"), [3]);
    assert_eq!(policy("window=all-text,text=question").with_tail(1).rows(&prompt).unwrap(), [3]);
    assert!(policy("text=question").rows(&prompt).unwrap_err().to_string().contains("text=question:N"));
}

#[test]
fn d8_4_the_bundle_tensors_of_a_plan() {
    let p = example();
    let shapes = |written: &str| -> Vec<(String, Vec<usize>)> {
        let shape = |v: &Values| match v {
            Values::I64(a) => a.shape().to_vec(),
            Values::U8(a) => a.shape().to_vec(),
            Values::F64(a) => a.shape().to_vec(),
        };
        let plan = p.plan(&policy(written), retain("0.5")).unwrap();
        plan.tensors().iter().map(|(at, v)| (at.name(), shape(v))).collect()
    };
    let of = |shapes: [&[usize]; 6]| -> Vec<(String, Vec<usize>)> {
        let names = [
            "policy.00.window",
            "policy.00.importance",
            "policy.strength",
            "policy.skewness",
            "policy.budget",
            "policy.00.kept",
        ];
        names.iter().zip(shapes).map(|(n, s)| (n.to_string(), s.to_vec())).collect()
    };
    assert_eq!(shapes("aircache"), of([&[2], &[2], &[1], &[1], &[1], &[1]]));
    assert_eq!(shapes("aircache-kv"), of([&[1, 4], &[1, 2], &[1], &[1], &[1], &[1, 1]]));
    assert_eq!(shapes("streaming").len(), 2);
    assert_eq!(Plan::full(&p.roles, 3, 2).kept, vec![vec![vec![0, 1, 2, 3]; 2]; 3]);
    assert!(Plan::full(&p.roles, 3, 2).is_full() && Plan::full(&p.roles, 3, 2).tensors().is_empty());
    assert_eq!(Plan::full(&p.roles, 3, 2).entries(), 24);
}

// Equations

#[test]
fn e8_1_worked_example() {
    // The last query is 1. The two prompts differ only in the image's keys, and this difference changes nothing.
    for image in [0.0, 50.0] {
        let p = Prompt::<f64>::one("VTTT", &[0.0, 7.0, -7.0, 1.0], &[image, ln(4.0), 0.0, ln(3.0)]);
        let window = |alpha: &str| p.observe(&policy(&format!("window=elite:{alpha}"))).unwrap()[0].window[0].clone();
        assert_eq!(window("0.26"), [1, 3]); // 1/8 is 0.25 times 1/2
        assert_eq!(window("0.24"), [1, 2, 3]);
        assert_eq!(window("0.74"), [1, 3]); // 3/8 is 0.75 times 1/2
        assert_eq!(window("0.76"), [1]);
    }
}

#[test]
fn e8_2_worked_example() {
    let att = [0.5, 0.125, 0.375];
    assert_eq!(elite(&att, 0.9), [0]);
    assert_eq!(elite(&att, 0.7), [0, 2]);
    assert_eq!(elite(&att, 0.0), [0, 1, 2]);
}

#[test]
fn c8_2b_the_favourite_is_elite_and_alpha_0_is_everyone() {
    assert_eq!(elite(&[0.25, 0.5, 0.25], 1.0), [1]);
    assert_eq!(elite(&[0.25, 0.25], 1.0), [0, 1]);
    assert_eq!(elite(&[1.0, 0.0], 0.0), [0, 1]);
}

#[test]
fn e8_3_worked_example() {
    // With one voting row at a time, the importances show the row of A.
    let p = example();
    let last = p.observe(&policy("window=last-text:1,keys=all")).unwrap();
    last[0].importance.iter().for_each(|&i| close(i, 0.25));
    let first = Prompt::of(roles("VVTT"), vec![p.q[0].clone()], vec![p.k[0].clone()]);
    let both = first.observe(&policy("all-text")).unwrap();
    close(2.0 * both[0].importance[[0, 0]] - 0.25, 0.125);
    close(2.0 * both[0].importance[[0, 1]] - 0.25, 0.25);
}

#[test]
fn c8_3a_equal_keys_get_equal_votes() {
    let mut p = Prompt::<f32>::one("VVVVVTTT", &[0.3; 8], &[0.1, 0.7, 0.1, 0.7, 0.1, 0.9, -0.3, 0.2]);
    p.q[0] = p.q[0].mapv(|x| x * 3.7);
    // Other scores also depend on where a key stands, on its neighbours, or on its value.
    let by_attention = |p: &Policy| matches!(p.score, Score::Mean | Score::Sum | Score::TextWeighted);
    let by_key = |p: &Policy| matches!(p.score, Score::KeyDiff | Score::KeyNorm);
    for (name, policy) in every().filter(|(_, p)| by_attention(p) || by_key(p)) {
        let received = policy.window == Window::AllQueries || policy.budget == Budget::Full;
        if received
            || policy.mask == Mask::Causal
            || policy.window == Window::LastVisual(32)
            || policy.scope == Scope::All
        {
            continue;
        }
        let i = p.observe(&policy).unwrap()[0].importance.clone();
        assert!(i[[0, 0]] == i[[0, 2]] && i[[0, 2]] == i[[0, 4]] && i[[0, 1]] == i[[0, 3]], "{name}: {i}");
    }
}

#[test]
fn e8_4_worked_example() {
    let layers = example().observe(&Policy::AIRCACHE).unwrap();
    assert_eq!(layers[0].window, [[2, 3]]);
    close(layers[0].importance[[0, 0]], 3.0 / 16.0);
    close(layers[0].importance[[0, 1]], 0.25);
}

#[test]
fn c8_4e_nan_names_the_layer_and_the_token() {
    let mut p = example();
    p.q.push(p.q[0].clone());
    p.k.push(p.k[0].clone());
    p.v.push(p.v[0].clone());
    p.k[1][[0, 1, 0]] = f64::NAN;
    let error = p.plan(&Policy::AIRCACHE, retain("0.5")).unwrap_err().to_string();
    assert!(error.contains("layer 1") && error.contains("token 0") && error.contains("NaN"), "{error}");
    p.k[1][[0, 1, 0]] = f64::INFINITY;
    assert!(p.plan(&Policy::AIRCACHE, retain("0.5")).is_err());
    p.k[1][[0, 1, 0]] = 0.0;
    p.k[1][[0, 2, 0]] = f64::NAN; // a text key
    let error = p.plan(&Policy::AIRCACHE, retain("0.5")).unwrap_err().to_string();
    assert!(error.contains("layer 1") && error.contains("NaN"), "{error}");
}

#[test]
fn e8_5_worked_example() {
    close(example().observe(&Policy::AIRCACHE).unwrap()[0].strength, 7.0 / 16.0);
    assert_eq!(strength(&[0.1875, 0.25]), 0.4375);
}

#[test]
fn e8_6_worked_example() {
    close(skewness(&[0.0, 0.0, 3.0]), 3f64.sqrt());
    close(skewness(&[3.0, 3.0, 0.0]), -(3f64.sqrt()));
    assert_eq!(example().observe(&Policy::AIRCACHE).unwrap()[0].skewness, 0.0);
}

#[test]
fn c8_6a_equal_importances_have_none() {
    for n in 0..200 {
        assert_eq!(skewness(&vec![0.1; n]), 0.0); // 0.1 · n / n is not always 0.1
    }
}

#[test]
fn c8_6b_faint_importances_do_not_underflow() {
    let faint = [0.0, 0.0, 3e-200];
    close(skewness(&faint), 3f64.sqrt());
    let x = [0.1, 0.7, 0.2, 0.05];
    assert_eq!(skewness(&x), skewness(&x.map(|v| v * 2f64.powi(-600))));
}

#[test]
fn e8_7_worked_example() {
    let layer = |strength, skewness| LayerScores { strength, skewness, ..said(&[0.5; 8]) };
    let plan = decide("aircache", "0.5", &[layer(0.75, 3f64.sqrt()), layer(0.25, 0.0)]);
    assert_eq!(budget(&plan), [7, 1]);
}

// Choices

#[test]
fn a8_1_text_before_the_image_counts_only_if_asked() {
    // The last row gives most attention to the row before the image.
    let p = Prompt::<f64>::one("TVVT", &[0.0, 0.0, 0.0, 1.0], &[5.0, 0.0, 1.0, 0.0]);
    assert_eq!(p.observe(&policy("aircache")).unwrap()[0].window, [[3]]);
    assert_eq!(p.observe(&policy("text=all")).unwrap()[0].window, [[0]]);
    // The last row that counts is the reference row.
    let p = Prompt::<f64>::one("VTTT", &[0.0, 0.0, 1.0, -1.0], &[0.0, 0.0, 3.0, 0.0]);
    assert_eq!(p.observe(&policy("text=question:1")).unwrap()[0].window, [[2]]);
}

/// Two KV heads that attend to different text.
fn split_heads() -> Prompt {
    let q = Array3::from_elem((2, 4, 1), 1.0);
    let k = Array3::from_shape_vec((2, 4, 1), vec![2.0, 0.0, 3.0, 0.0, 0.0, 2.0, 0.0, 3.1]).unwrap();
    Prompt::of(roles("VVTT"), vec![q], vec![k])
}

#[test]
fn a8_2_heads_average_unite_or_stand_alone() {
    let p = split_heads();
    let window =
        |heads: &str| p.observe(&policy(&format!("window=elite:0.999,heads={heads}"))).unwrap()[0].window.clone();
    assert_eq!(window("mean"), [[3]]);
    assert_eq!(window("union"), [[2, 3]]);
    assert_eq!(window("kv"), [[2], [3]]);
    let plan = p.plan(&policy("heads=kv"), retain("0.5")).unwrap();
    assert_eq!(plan.kept, [[[0, 2, 3], [1, 2, 3]]]);
    assert_eq!(p.plan(&policy("heads=mean"), retain("0.5")).unwrap().kept, [[[0, 2, 3], [0, 2, 3]]]);
    let both = p.observe(&policy("heads=kv")).unwrap();
    let each = |g: usize| strength(&both[0].importance.row(g).to_vec());
    close(both[0].strength, 0.5 * (each(0) + each(1)));
}

#[test]
fn a8_3_the_mask_hides_later_rows() {
    let p = example();
    let i = p.observe(&policy("mask=causal")).unwrap()[0].importance.clone();
    close(i[[0, 0]], 0.5 * (0.25 + 0.25)); // row 2 no longer sees row 3: (1, 2, 1) / 4
    close(i[[0, 1]], 0.5 * (0.5 + 0.25));
}

#[test]
fn a8_4_keys_that_votes_are_normalised_over() {
    let p = Prompt::<f64>::one("TVVTT", &[0.0; 5], &[0.0; 5]);
    let one = |written: &str| p.observe(&policy(written)).unwrap()[0].importance[[0, 0]];
    close(one("window=last-text:1"), 1.0 / 3.0);
    close(one("window=last-text:1,keys=all"), 1.0 / 5.0);
    close(one("all-text,keys=causal"), 0.5 * (1.0 / 4.0 + 1.0 / 5.0));
    assert_eq!(one("all-text,keys=causal"), one("all-text,keys=all,mask=causal"));
    close(one("window=last-visual:1"), 1.0 / 2.0);
}

#[test]
fn a8_5_shares_are_relative_to_the_mean() {
    let layer = |strength| LayerScores { strength, ..said(&[0.5; 8]) };
    assert_eq!(budget(&decide("budget=strength", "0.5", &[layer(0.75), layer(0.25)])), [6, 2]);
}

#[test]
fn a8_6_negative_and_undefined_skewness() {
    let layer = |skewness| LayerScores { skewness, ..said(&[0.5; 8]) };
    assert_eq!(budget(&decide("budget=skewness", "0.5", &[layer(-1.0), layer(2.0)])), [1, 7]); // 0 and 8, then one each
    assert_eq!(budget(&decide("budget=skewness", "0.5", &[layer(-1.0), layer(0.0)])), [4, 4]);
    let dark = LayerScores { strength: 0.0, ..layer(0.0) };
    assert_eq!(budget(&decide("aircache", "0.5", &[dark.clone(), dark])), [4, 4]);
    assert_eq!((skewness(&[0.1, 0.9]), skewness(&[])), (0.0, 0.0));
}

#[test]
fn a8_7_the_sample_deviation() {
    let x = [1.0, 2.0, 4.0, 8.0f64];
    let mu = 3.75;
    let m = |k: i32| x.iter().map(|v| (v - mu).powi(k)).sum::<f64>() / 4.0;
    // Adjusted Fisher–Pearson: √(N(N−1)) / (N−2) · m₃ / m₂^1.5
    close(skewness(&x), 12f64.sqrt() / 2.0 * m(3) / m(2).powf(1.5));
}

#[test]
fn a8_8_worked_example() {
    assert_eq!(apportion(&[8.0, 1.0, 1.0], retain("0.5"), 10), [10, 3, 2]);
    assert_eq!(apportion(&[1.0, 0.0, 0.0], retain("0.5"), 10), [10, 3, 2]);
    assert_eq!(apportion(&[100.0, 10.0, 1.0], retain("0.9"), 10), [10, 10, 7]);
}

#[test]
fn a8_9_worked_example() {
    assert_eq!(apportion(&[1.0; 3], retain("0.3"), 5), [2, 2, 1]);
    assert_eq!(apportion(&[1.0, 1.0, 0.0], retain("0.1"), 10), [1, 1, 1]);
    assert_eq!(apportion(&[1.0; 3], retain("0.01"), 10), [0, 0, 0]); // fewer than one for each layer
    assert_eq!(apportion(&[1.0, 1.0, 2.0], retain("0.05"), 13), [1, 0, 1]); // 0.49, 0.49, 0.98: total 2
    // Shares that differ only by the rounding of their sums count as a tie.
    let noisy = [1.0 - f64::EPSILON, 1.0 + f64::EPSILON, 1.0];
    assert_eq!(apportion(&noisy, retain("0.3"), 5), [2, 2, 1]);
}

#[test]
fn a8_10_worked_example() {
    assert_eq!(ranking(&[0.1, 0.4, 0.1, 0.4]), [1, 3, 0, 2]);
    assert_eq!(ranking(&[0.0, -0.0, 0.0]), [0, 1, 2]);
    assert_eq!(kept(&decide("aircache", "0.5", &[said(&[0.2, 0.2, 0.2, 0.2])])), [0, 1]);
}

#[test]
fn a8_11_images_are_one_pool() {
    let p = Prompt::<f64>::one("TVVTVVT", &[1.0; 7], &[0.0, 1.0, 2.0, 9.0, 3.0, 0.0, 0.0]);
    assert_eq!(p.plan(&Policy::AIRCACHE, retain("0.5")).unwrap().kept, [[[0, 2, 3, 4, 6]]]);
    assert_eq!(Policy::AIRCACHE.rows(&p.roles).unwrap(), [6]);
}

#[test]
fn a8_12_roles_decide_what_is_visual() {
    let p = Prompt::<f64>::one("TVVVT", &[1.0; 5], &[0.0; 5]);
    let newline_as_text = Prompt { roles: roles("TVVTT"), ..p.clone() };
    assert_eq!(p.plan(&Policy::AIRCACHE, retain("0.1")).unwrap().kept, [[[0, 4]]]);
    assert_eq!(newline_as_text.plan(&Policy::AIRCACHE, retain("0.1")).unwrap().kept, [[[0, 3, 4]]]);
}

#[test]
fn a8_13_nothing_to_do() {
    for (name, policy) in every() {
        let text = Prompt::<f64>::one("TTT", &[1.0; 3], &[0.0; 3]);
        let plan = text.plan(&policy, retain("0.1")).unwrap();
        assert!(plan.is_full() && budget(&plan) == [0], "{name}");
        let one = Prompt::<f64>::one("TVT", &[1.0; 3], &[0.0; 3]);
        let keeps = one.plan(&policy, retain("0.5")).unwrap().is_full();
        assert!(keeps || policy.scope == Scope::All, "{name}");
        let blind = Prompt::<f64>::one("TV", &[1.0; 2], &[0.0; 2]).plan(&policy, retain("1"));
        let judged_by_text = matches!(policy.window, Window::Elite { .. } | Window::AllText | Window::LastText(_));
        assert_eq!(blind.is_err(), judged_by_text && policy.text == Text::After, "{name}");
        if let Err(error) = blind {
            assert!(error.to_string().contains("after the last visual token"), "{error}");
        }
    }
}

// Properties

/// (1)–(4) for one layer, `heads=mean`, as loops over the definitions; returns the window and the importances.
fn naive(p: &Prompt, layer: usize, alpha: f64) -> (Vec<usize>, Vec<f64>) {
    let (q, k) = (&p.q[layer], &p.k[layer]);
    let (heads, kv_heads) = (q.shape()[0], k.shape()[0]);
    let last = *p.roles.visual().last().unwrap();
    let text: Vec<usize> = p.roles.text().into_iter().filter(|&r| r > last).collect();
    let row = |h: usize, i: usize, keys: &[usize]| -> Vec<f64> {
        let key = |j: usize| k.slice(s![h * kv_heads / heads, j, ..]).to_owned();
        let e = |j: usize| (q.slice(s![h, i, ..]).dot(&key(j)) / (k.shape()[2] as f64).sqrt()).exp();
        let total: f64 = keys.iter().map(|&j| e(j)).sum();
        keys.iter().map(|&j| e(j) / total).collect()
    };
    let mean = |i: usize, keys: &[usize]| -> Vec<f64> {
        let rows: Vec<Vec<f64>> = (0..heads).map(|h| row(h, i, keys)).collect();
        (0..keys.len()).map(|j| rows.iter().map(|r| r[j]).sum::<f64>() / heads as f64).collect()
    };
    let att = mean(text[text.len() - 1], &text);
    let max = att.iter().copied().fold(0.0, f64::max);
    let window: Vec<usize> = (0..text.len()).filter(|&j| att[j] >= alpha * max).map(|j| text[j]).collect();
    let keys = [p.roles.visual(), window.clone()].concat();
    let votes: Vec<Vec<f64>> = window.iter().map(|&i| mean(i, &keys)).collect();
    let n_v = p.roles.visual().len();
    let importance = (0..n_v).map(|v| votes.iter().map(|a| a[v]).sum::<f64>() / window.len() as f64).collect();
    (window, importance)
}

/// The importances of `p`, scaled by 2^k.
fn scaled(layers: &[LayerScores], k: i32) -> Vec<LayerScores> {
    let scale = |l: &LayerScores| {
        let importance = l.importance.mapv(|i| i * 2f64.powi(k));
        LayerScores { importance, strength: l.strength * 2f64.powi(k), ..l.clone() }
    };
    layers.iter().map(scale).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn e8_4_equals_its_naive_twin(p in prompts(), alpha in 0.0..1.0f64) {
        let layers = p.observe(&Policy::AIRCACHE.with_alpha(alpha).unwrap()).unwrap();
        for (l, layer) in layers.iter().enumerate() {
            let (window, importance) = naive(&p, l, alpha);
            prop_assert_eq!(&layer.window[0], &window);
            layer.importance.iter().zip(&importance).for_each(|(&a, &b)| close(a, b));
        }
    }

    #[test]
    fn c8_1b_more_queries_change_nothing(p in prompts(), r in retentions()) {
        for (name, policy) in every() {
            let all: Vec<usize> = (0..p.roles.len()).collect();
            let futures: Vec<_> = (0..p.q.len()).map(|l| p.future(l)).collect();
            let seen: Vec<_> = p.q.iter().zip(&p.k).zip(&p.v).zip(&futures)
                .map(|(((q, k), v), future)| {
                    let (v, future) = (Some(v.view()), Some(future));
                    Observed { q: q.view(), rows: &all, k: k.view(), received: None, v, future }
                })
                .collect();
            prop_assert_eq!(compress(&policy, r, &seen, &p.roles).unwrap(), p.plan(&policy, r).unwrap(), "{}", name);
        }
    }

    #[test]
    fn c8_4a_c8_4b_kept_sets_ascend_hold_the_text_and_fill_the_budget(p in prompts(), r in retentions()) {
        for (name, policy) in every() {
            let plan = p.plan(&policy, r).unwrap();
            let decisions = plan.decisions.as_ref().unwrap();
            for (l, heads) in plan.kept.iter().enumerate() {
                prop_assert_eq!(heads.len(), p.k[l].shape()[0]);
                for rows in heads {
                    prop_assert!(rows.windows(2).all(|w| w[0] < w[1]), "{name}: {rows:?}");
                    prop_assert!(rows.iter().all(|&r| r < p.roles.len()));
                    let evicted_text = p.roles.text().iter().any(|t| !rows.contains(t));
                    prop_assert!(!evicted_text || policy.scope == Scope::All, "{name}");
                    let text = if policy.scope == Scope::All { 0 } else { p.roles.text().len() };
                    prop_assert!(policy.split != Split::Even || rows.len() == decisions.budget[l] + text, "{name}");
                }
                let kept = &decisions.kept[l];
                prop_assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), decisions.budget[l] * kept.len(), "{}", name);
            }
        }
    }

    #[test]
    fn c8_4c_retention_1_keeps_everything(p in prompts()) {
        for (name, policy) in every() {
            prop_assert!(p.plan(&policy, Retain::ALL).unwrap().is_full(), "{}", name);
            prop_assert!(p.plan(&policy, Retain::tokens(p.roles.len()).unwrap()).unwrap().is_full(), "{}", name);
        }
    }

    #[test]
    fn c8_4d_groups_and_threads_change_nothing(p in prompts(), r in retentions(), by in 1..3usize) {
        let turn = |a: &Array3<f64>, by: usize| {
            let heads = a.shape()[0];
            a.select(Axis(0), &(0..heads).map(|h| (h + by) % heads).collect::<Vec<_>>())
        };
        let kv_heads = p.k[0].shape()[0];
        let group = p.q[0].shape()[0] / kv_heads;
        let by = by % kv_heads;
        let turned = Prompt {
            roles: p.roles.clone(),
            q: p.q.iter().map(|q| turn(q, by * group)).collect(),
            k: p.k.iter().map(|k| turn(k, by)).collect(),
            v: p.v.iter().map(|v| turn(v, by)).collect(),
        };
        let threads = |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        for (name, policy) in every() {
            let plan = p.plan(&policy, r).unwrap();
            if policy.heads == Heads::Mean {
                prop_assert_eq!(&turned.plan(&policy, r).unwrap().kept, &plan.kept, "{}", name);
            }
            for n in [1, 3] {
                let other = threads(n).install(|| p.plan(&policy, r).unwrap());
                prop_assert_eq!(&other, &plan, "{}: {} threads", name, n);
            }
        }
    }

    #[test]
    fn c8_7a_c8_7b_budgets_sum_exactly_and_respect_the_cap(p in prompts(), r in retentions()) {
        for (name, policy) in every().filter(|(name, _)| *name != "full") {
            let plan = p.plan(&policy, r).unwrap();
            let n_c = if policy.scope == Scope::All { p.roles.len() } else { p.roles.visual().len() };
            let b = budget(&plan);
            prop_assert_eq!(b.iter().sum::<usize>(), r.total(n_c, p.q.len()), "{}", name);
            prop_assert!(b.iter().all(|&b| b <= n_c), "{}: {:?}", name, b);
        }
    }

    #[test]
    fn c8_7c_scaling_importances_by_a_power_of_two_changes_nothing(p in prompts(), r in retentions(), k in -500..100i32) {
        for (name, policy) in every() {
            let scorer = Scorer::new(&policy, &p.roles).unwrap();
            let layers = p.observe(&policy).unwrap();
            prop_assert_eq!(scorer.decide(r, &scaled(&layers, k)).kept, scorer.decide(r, &layers).kept, "{}", name);
        }
    }

    #[test]
    fn a8_9_any_shares_give_whole_budgets(
        shares in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64, 1e-300..1e-290f64, 0.0..1e300f64], 1..40),
        r in retentions(),
        n in 1..5000usize,
    ) {
        let budget = apportion(&shares, r, n);
        let total = r.total(n, shares.len());
        prop_assert_eq!(budget.iter().sum::<usize>(), total);
        prop_assert!(budget.iter().all(|&b| b <= n));
        prop_assert!(total < shares.len() || budget.iter().all(|&b| b > 0));
        // A layer with a larger share has no smaller budget, except for the single token that remainders give.
        for (a, x) in shares.iter().enumerate() {
            for (b, y) in shares.iter().enumerate() {
                prop_assert!(x < y || budget[a] + 1 >= budget[b], "{:?} {:?}", shares, budget);
            }
        }
    }

    #[test]
    fn a8_13_equal_importances_keep_the_first(n in 1..20usize, layers in 1..5usize, r in retentions()) {
        let scores = vec![said(&vec![0.1; n]); layers];
        let roles = Roles([vec![Role::Visual; n], vec![Role::Text]].concat());
        let plan = Scorer::new(&Policy::AIRCACHE, &roles).unwrap().decide(r, &scores);
        for (l, b) in budget(&plan).into_iter().enumerate() {
            prop_assert_eq!(&plan.decisions.as_ref().unwrap().kept[l][0], &(0..b).collect::<Vec<_>>());
        }
    }

    #[test]
    fn c8_2a_decimals_read_back(digits in 0..1_000_000_000_000u64, places in 0..22u32) {
        let d = Decimal::new(digits, places);
        prop_assert_eq!(d.to_string().parse::<Decimal>().unwrap(), d);
        prop_assert_eq!(format!("{}e-{}", digits, places).parse::<Decimal>().unwrap(), d);
    }

    #[test]
    fn c8_2a_no_text_panics(text in "[0-9eE.+-]{0,24}") {
        let _ = text.parse::<Retain>();
    }
}
