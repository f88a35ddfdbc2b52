//! An outside judge of the arithmetic: OpenBLAS' products and LAPACK's singular values. Feature `lapack`.
#![cfg(all(feature = "lapack", feature = "cli"))]

mod common;

use aircache::analyze::spectrum;
use aircache::demo;
use aircache::kernel::{HeadView, MatrixView, Visible, attention, linear, push_key};
use aircache::num::Real;
use aircache::weights::Checkpoint;
use common::cli::{Cli, fails};
use common::numbers::{Rng, gamma, unit};
use ndarray::{Array2, Axis, array};
use ndarray_linalg::SVD;

/// Our linear layer against BLAS: both are within γ_k Σ|x||w| of the truth, so within twice that of each other.
#[test]
fn products_are_those_of_blas() {
    let mut rng = Rng(11);
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 5), (9, 192, 64), (40, 700, 33), (2, 4096, 16)] {
        let x = Array2::from_shape_vec((rows, inputs), rng.row::<f32>(rows * inputs, 1.0)).unwrap();
        let w = Array2::from_shape_vec((outputs, inputs), rng.row::<f32>(outputs * inputs, 1.0)).unwrap();
        let view = || MatrixView::f32(w.as_slice().unwrap(), outputs, inputs);
        judged(&x, &w, &linear(x.view(), view(), None));
        let wide = |a: &Array2<f32>| a.mapv(f64::from);
        judged(&wide(&x), &wide(&w), &linear(wide(&x).view(), view(), None));
    }
}

fn judged<T: Real + ndarray::LinalgScalar>(x: &Array2<T>, w: &Array2<T>, ours: &Array2<T>) {
    let theirs = x.dot(&w.t());
    let size = x.mapv(|v| v.to_f64().abs()).dot(&w.mapv(|v| v.to_f64().abs()).t());
    let allowed = 2.0 * gamma::<T>(x.ncols());
    for ((a, b), size) in ours.iter().zip(&theirs).zip(&size) {
        assert!((a.to_f64() - b.to_f64()).abs() <= allowed * size, "{a} or {b} of {size}");
    }
}

/// Attention as three products: softmax(q kᵀ / √d) v, the products by BLAS.
#[test]
fn attention_is_that_of_blas() {
    let (rows, len, d) = (7, 300, 64);
    let mut rng = Rng(12);
    let mut array = |n| Array2::from_shape_vec((n, d), rng.row::<f64>(n * d, 1.0)).unwrap();
    let (q, k, v) = (array(rows), array(len), array(len));
    let mut keys = Vec::new();
    k.outer_iter().enumerate().for_each(|(i, row)| push_key(&mut keys, i, row.iter().copied()));
    let heads = [HeadView { keys: &keys, values: v.as_slice().unwrap() }];
    let ours = attention(q.as_slice().unwrap(), 1, &heads, d, Visible::All, aircache::num::Grid::Native, None);
    let mut p = q.dot(&k.t()) / (d as f64).sqrt();
    for mut row in p.outer_iter_mut() {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|s| (s - most).exp());
        let sum = row.sum();
        row /= sum;
    }
    let theirs = p.dot(&v);
    // Scores of up to s in size err by γ_d of Σ|q||k|, weights by e to that, mixes by γ_len more; values are below 1.
    let size = q.mapv(f64::abs).dot(&k.mapv(f64::abs).t()).iter().copied().fold(0.0, f64::max) / (d as f64).sqrt();
    let allowed = 2.0 * (2.0 * (gamma::<f64>(d + 3) * size).exp_m1() + gamma::<f64>(2 * len + 6) + 8.0 * unit::<f64>());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= allowed, "{a} or {b}, {allowed:e} allowed");
    }
}

/// An error of the input grows at most by the operator norm: of every matrix of the demo model's layers, rounding the input
/// to bf16 changes the output by at most ‖W‖₂ · ‖δ‖, and by a fair part of it.
#[test]
fn errors_grow_at_most_by_the_operator_norm() {
    let checkpoint = Checkpoint::open(&demo::files()).unwrap();
    let mut rng = Rng(13);
    let mut judged = 0;
    for t in checkpoint.tensors().filter(|t| t.shape.len() == 2 && t.name.contains(".layers.")) {
        let (outputs, inputs) = (t.shape[0], t.shape[1]);
        let matrix = checkpoint.matrix(&[t.name.to_string()], outputs, inputs).unwrap();
        let mut w = Array2::<f64>::zeros((outputs, inputs));
        let mut row = vec![0f32; inputs];
        for (i, mut to) in w.outer_iter_mut().enumerate() {
            matrix.view().row_into(i, &mut row);
            to.assign(&ndarray::aview1(&row).mapv(f64::from));
        }
        let (_, singular, _) = w.svd(false, false).unwrap();
        let norm = singular[0];
        let x = Array2::from_shape_vec((4, inputs), rng.row::<f64>(4 * inputs, 1.0)).unwrap();
        let rounded = x.mapv(|v| half::bf16::from_f64(v).to_f64());
        let change = linear(x.view(), matrix.view(), None) - linear(rounded.view(), matrix.view(), None);
        for (change, delta) in change.outer_iter().zip((&x - &rounded).outer_iter()) {
            let size = |a: ndarray::ArrayView1<'_, f64>| a.iter().map(|v| v * v).sum::<f64>().sqrt();
            let grown = size(change) / (norm * size(delta));
            assert!(grown <= 1.0 + 1e-9 && grown > 0.02, "{}: {grown}", t.name);
            judged += 1;
        }
    }
    assert!(judged > 100, "{judged}");
}

#[test]
fn e7_4_worked_example() {
    // Two directions; what stays spans the first. Of the evicted rows (0, 2) and (1, 1) one lies outside, one half inside.
    let rows = array![[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]];
    let s = spectrum(rows.view(), &[0]).unwrap();
    assert_eq!((s.kept, s.rank), (1, 1));
    assert!((s.span - 1.0 / 6.0).abs() < 1e-15 && (s.lead - 1.0 / 6.0).abs() < 1e-15, "{s:?}");
    assert!((s.singular.iter().map(|s| s * s).sum::<f64>() - 7.0).abs() < 1e-12);
}

#[test]
fn e7_4_spans_have_their_bounds() {
    let mut rng = Rng(14);
    let rows = Array2::from_shape_vec((30, 6), rng.row::<f64>(180, 1.0)).unwrap();
    let all: Vec<usize> = (0..30).collect();
    assert_eq!(spectrum(rows.view(), &all).unwrap().span, 1.0); // nothing evicted
    assert_eq!(spectrum(rows.view(), &[]).unwrap().span, 0.0); // nothing kept
    let mut before = 0.0;
    for n in 1..7 {
        let s = spectrum(rows.view(), &all[..n]).unwrap();
        assert!(s.rank == n && s.span >= s.lead - 1e-12 && (0.0..=1.0 + 1e-12).contains(&s.span), "{s:?}");
        // The projection by least squares says the same: evicted rows less their best approximation.
        before = f64::max(before, s.span);
    }
    assert!((before - 1.0).abs() < 1e-12, "six rows span all six directions");
    // A kept row twice adds nothing.
    let twice = ndarray::concatenate![Axis(0), rows.slice(ndarray::s![..2, ..]), rows];
    assert_eq!(spectrum(twice.view(), &[0, 1, 2, 3]).unwrap().rank, 2);
    assert!(spectrum(array![[f64::NAN]].view(), &[0]).is_err());
    assert!(spectrum(array![[1.0]].view(), &[1]).is_err());
}

#[test]
fn analyze_reads_a_recording() {
    let cli = Cli::new();
    cli.ok(&["record", "--quiet", "--no-noise", "--retain", "0.05", "--max-new-tokens", "1", "--out", "g"]);
    let own = cli.json(&["analyze", "g", "--json"]);
    let layers = own["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 6);
    for layer in layers {
        assert!(layer["lost"].as_f64().is_some_and(|lost| 0.0 < lost && lost < 1.0), "{}", layer["lost"]);
        for side in ["keys", "values"] {
            for head in layer[side].as_array().unwrap() {
                let (span, lead) = (head["span"].as_f64().unwrap(), head["lead"].as_f64().unwrap());
                assert!(0.0 < lead && lead <= span + 1e-12 && span <= 1.0 + 1e-12, "{head}");
                assert_eq!(head["singular"].as_array().unwrap().len(), 32);
            }
        }
    }
    assert_eq!(cli.json(&["analyze", "g", "--policy", "aircache", "--retain", "0.05", "--json"]), own);
    let other = cli.json(&["analyze", "g", "--policy", "streaming", "--retain", "0.05", "--json"]);
    assert_ne!(other, own);
    assert_eq!(cli.ok(&["analyze", "g"]).lines().count(), 7);
    fails(&cli, &["analyze", "missing"], &["missing"]);
    cli.ok(&["record", "--quiet", "--no-noise", "--stages", "input.*,decoder.*.key", "--out", "h"]);
    fails(&cli, &["analyze", "h"], &["h: decoder.00.value"]);
}

/// What the last row gives to rows that go, by hand: one head of size 1, scores 0, ln 2, ln 1 = 0, 0.
#[test]
fn e7_4_lost_attention() {
    let cli = Cli::new();
    let mut w = aircache::golden::BundleWriter::create(&cli.path("b")).unwrap();
    w.put_u8("input.roles", &[4], &[0, 1, 1, 0]).unwrap();
    w.put_f64("decoder.00.query", &[1, 4, 1], &[0.0, 0.0, 0.0, 1.0]).unwrap();
    w.put_f64("decoder.00.key", &[1, 4, 1], &[0.0, 2f64.ln(), 0.0, 0.0]).unwrap();
    w.put_f64("decoder.00.value", &[1, 4, 1], &[1.0; 4]).unwrap();
    w.put_i64("policy.00.kept", &[1], &[1]).unwrap();
    w.finish([("precision", "f64")]).unwrap();
    // Candidate 0 goes, of weight 2 among 1, 2, 1, 1.
    let lost = cli.json(&["analyze", "b", "--json"])["layers"][0]["lost"].as_f64().unwrap();
    assert!((lost - 0.4).abs() < 1e-15, "{lost}");
}

/// The chapter on `analyze` shows what it prints: the book's own test has no LAPACK.
#[test]
fn the_chapter_prints_what_it_shows() {
    let page = include_str!("../docs/analyze.md");
    let cli = Cli::new();
    let mut shown = 0;
    for block in page.split("```console\n").skip(1) {
        let body = block.split("```").next().unwrap();
        for run in body.split("$ aircache ").skip(1) {
            let (command, expected) = run.split_once('\n').unwrap();
            let args: Vec<&str> = command.split(' ').collect();
            assert_eq!(cli.ok(&args), expected, "{command}");
            shown += 1;
        }
    }
    assert!(shown >= 3, "{shown} commands");
}
