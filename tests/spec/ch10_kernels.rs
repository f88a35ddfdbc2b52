//! Chapter 10, one kernel by itself: honest outputs of naive twins pass in every type, and one wrong number fails.

use aircache::golden::{Bundle, BundleWriter, KERNELS, Outcome, Verdict, kernel};
use aircache::kernel::naive;
use aircache::num::{Grid, Random};
use ndarray::Array2;
use std::path::Path;

const TYPES: [(&str, Grid); 3] = [("f32", Grid::Native), ("bf16", Grid::Bf16), ("f16", Grid::F16)];

/// Normal enough numbers that the type can hold.
fn numbers(count: usize, seed: u64, grid: Grid) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| grid.round((random.unit() + random.unit() - 1.0) as f32 * 2.0)).collect()
}

/// A file of arrays, judged.
fn judged(
    name: &str,
    about: &[(&'static str, &str)],
    arrays: &[(&str, Vec<usize>, Vec<f32>)],
) -> aircache::Result<Verdict> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arrays.safetensors");
    write(&path, about, arrays);
    kernel(name, &Bundle::open(&path)?)
}

fn write(path: &Path, about: &[(&'static str, &str)], arrays: &[(&str, Vec<usize>, Vec<f32>)]) {
    let mut file = BundleWriter::create(path).unwrap();
    for (name, shape, values) in arrays {
        match *name {
            "positions" | "top" => {
                let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
                file.put_i64(if *name == "top" { "out" } else { name }, shape, &values).unwrap();
            }
            _ => file.put_f32(name, shape, values).unwrap(),
        }
    }
    file.finish(about.iter().map(|&(key, value)| (key, value.to_string()))).unwrap();
}

fn outcome(verdict: &Verdict) -> Outcome {
    verdict.stages[0].outcome
}

/// Attention by the naive twin, in f32, stored as eager programs store: [H, n, d].
fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    (heads, groups, n, d): (usize, usize, usize, usize),
    grid: Grid,
) -> Vec<f32> {
    let rows = Array2::from_shape_fn((n, heads * d), |(r, c)| q[(c / d * n + r) * d + c % d]);
    let head = |x: &[f32], g: usize| Array2::from_shape_vec((n, d), x[g * n * d..][..n * d].to_vec()).unwrap();
    let pairs: Vec<_> = (0..groups).map(|g| (head(k, g), head(v, g))).collect();
    let (mix, _) = naive::attention(rows.view(), &pairs, true, grid);
    (0..heads * n * d).map(|i| mix[[i / d % n, i / (n * d) * d + i % d]]).collect()
}

#[test]
fn e10_20_an_honest_attention_passes_and_a_wrong_head_fails() {
    let (heads, groups, n, d) = (6, 2, 24, 16);
    for (kind, grid) in TYPES {
        let [q, k, v] = [(heads, 1), (groups, 2), (groups, 3)].map(|(h, seed)| numbers(h * n * d, seed, grid));
        let about = [("precision", kind), ("causal", "true")];
        let out = attention(&q, &k, &v, (heads, groups, n, d), grid);
        let arrays = |out: Vec<f32>| {
            let shape = |h| vec![h, n, d];
            [
                ("q", shape(heads), q.clone()),
                ("k", shape(groups), k.clone()),
                ("v", shape(groups), v.clone()),
                ("out", shape(heads), out),
            ]
        };
        let verdict = judged("attention", &about, &arrays(out.clone())).unwrap();
        assert_eq!((outcome(&verdict), verdict.mode), (Outcome::Pass, "kernel"), "{kind}: {:?}", verdict.stages);
        let mut wrong = out.clone();
        wrong[2 * n * d..3 * n * d].iter_mut().for_each(|o| *o = grid.round(*o * 1.05));
        let verdict = judged("attention", &about, &arrays(wrong)).unwrap();
        let words = &verdict.stages[0].words;
        assert!(outcome(&verdict) == Outcome::Fail && words.starts_with("head 2, "), "{kind}: {words}");
    }
}

#[test]
fn e10_20_the_example() {
    let one = |name| (name, vec![1, 1, 1], vec![1.0]);
    let about = [("precision", "bf16"), ("causal", "true")];
    for (out, expected) in [(1.0, Outcome::Pass), (1.0625, Outcome::Fail)] {
        let verdict =
            judged("attention", &about, &[one("q"), one("k"), one("v"), ("out", vec![1, 1, 1], vec![out])]).unwrap();
        assert_eq!(outcome(&verdict), expected, "{out}");
    }
}

#[test]
fn e10_20_kernels_of_rows_pass_and_fail() {
    let (n, d) = (20, 16);
    for (kind, grid) in TYPES {
        let (x, w, b) = (numbers(n * d, 4, grid), numbers(d, 5, grid), numbers(d, 6, grid));
        let store = |y: Vec<f32>| y.into_iter().map(|y| grid.round(y)).collect::<Vec<f32>>();
        let by_row = |f: &dyn Fn(&[f32]) -> Vec<f32>| store(x.chunks(d).flat_map(f).collect());
        let angle = |row: usize, i: usize| (row * 2) as f64 / 10000f64.powf(2.0 * i as f64 / d as f64);
        let table = |row: usize, f: fn(f64) -> f64| (0..d / 2).map(|i| f(angle(row, i)) as f32).collect::<Vec<f32>>();
        let turned = x
            .chunks(d)
            .enumerate()
            .flat_map(|(row, x)| naive::rotate(x, &table(row, f64::cos), &table(row, f64::sin), grid));
        let rms = by_row(&|x| naive::rms_norm(x, &w, 1e-6, grid));
        let product = |x: &[f32]| -> Vec<f32> {
            (0..4).map(|o| x.iter().zip(&w).map(|(x, w)| x * w * (o + 1) as f32).sum()).collect()
        };
        let weights: Vec<f32> = (0..4).flat_map(|o| w.iter().map(move |w| w * (o + 1) as f32)).collect();
        let rows = |name| (name, vec![n, d], x.clone());
        let vector = |name, v: &Vec<f32>| (name, vec![d], v.clone());
        let cases = [
            ("norm", vec![("eps", "1e-6")], vec![rows("x"), vector("weight", &w)], rms, d),
            (
                "norm",
                vec![("eps", "1e-5")],
                vec![rows("x"), vector("weight", &w), vector("bias", &b)],
                by_row(&|x| naive::layer_norm(x, &w, &b, 1e-5)),
                d,
            ),
            ("softmax", vec![], vec![rows("x")], by_row(&naive::softmax), d),
            ("linear", vec![], vec![rows("x"), ("weight", vec![4, d], weights)], by_row(&product), 4),
            (
                "rotary",
                vec![("theta", "10000")],
                vec![rows("x"), ("positions", vec![n], (0..n).map(|r| (r * 2) as f32).collect())],
                turned.collect(),
                d,
            ),
        ];
        for (name, about, mut arrays, out, width) in cases {
            let about = [vec![("precision", kind)], about].concat();
            arrays.push(("out", vec![n, width], out.clone()));
            let verdict = judged(name, &about, &arrays).unwrap();
            assert_eq!(outcome(&verdict), Outcome::Pass, "{name} {kind}: {:?}", verdict.stages);
            let mut wrong = out;
            wrong[7 * width + 3] = grid.round(wrong[7 * width + 3] + 0.25);
            *arrays.last_mut().unwrap() = ("out", vec![n, width], wrong);
            let verdict = judged(name, &about, &arrays).unwrap();
            assert!(
                outcome(&verdict) == Outcome::Fail && verdict.stages[0].index == [7, 3],
                "{name} {kind}: {:?}",
                verdict.stages
            );
        }
    }
}

#[test]
fn e10_20_topk_is_exact() {
    let x = ("x", vec![2, 4], vec![5.0, 1.0, 3.0, 3.0, 0.0, 2.0, 2.0, 9.0]);
    for (places, expected) in [
        ([0.0, 2.0, 3.0, 1.0], Outcome::Pass),
        ([2.0, 0.0, 1.0, 3.0], Outcome::Pass),
        ([0.0, 3.0, 3.0, 1.0], Outcome::Admissible),
        ([0.0, 1.0, 3.0, 1.0], Outcome::Fail),
        ([0.0, 0.0, 3.0, 1.0], Outcome::Fail),
        ([0.0, 4.0, 3.0, 1.0], Outcome::Fail),
    ] {
        let verdict =
            judged("topk", &[("precision", "f32")], &[x.clone(), ("top", vec![2, 2], places.to_vec())]).unwrap();
        assert_eq!(outcome(&verdict), expected, "{places:?}");
    }
}

#[test]
fn e10_20_arrays_that_do_not_fit_say_so() {
    let q = |name| (name, vec![2, 3, 4], vec![0.5; 24]);
    let about = [("precision", "f32"), ("causal", "true")];
    let fails = |name: &str, about: &[(&'static str, &str)], arrays: &[(&str, Vec<usize>, Vec<f32>)]| {
        judged(name, about, arrays).unwrap_err().to_string()
    };
    assert!(fails("attention", &about, &[q("q"), q("k"), q("v")]).contains("out: expected this stage"));
    assert!(
        fails("attention", &about[..1], &[q("q"), q("k"), q("v"), q("out")]).contains("causal: expected true or false")
    );
    assert!(
        fails("attention", &about, &[q("q"), q("k"), ("v", vec![2, 2, 4], vec![0.5; 16]), q("out")])
            .contains("2 heads of 3 rows, as k")
    );
    assert!(fails("norm", &about, &[q("x"), ("weight", vec![4], vec![1.0; 4]), q("out")]).contains("metadata eps"));
    assert!(fails("none", &about, &[q("x")]).contains(&KERNELS.join(", ")));
}
