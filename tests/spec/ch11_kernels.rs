//! Chapter 11: the causes of one kernel by itself (D11.11), each said of an output with the mistake, and not said of the same
//! output with another error as well.

use aircache::golden::{Bundle, BundleWriter, Verdict, kernel};
use aircache::kernel::{Operands, naive};
use aircache::num::{Grid, Random};
use aircache::policy::ranking;

pub(super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (random.unit() + random.unit() - 1.0) as f32 * 2.0).collect()
}

pub(super) type Arrays<'a> = Vec<(&'a str, Vec<usize>, Vec<f32>)>;

pub(super) fn judged(name: &str, about: &[(&'static str, &str)], arrays: &Arrays<'_>) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arrays.safetensors");
    let mut file = BundleWriter::create(&path).unwrap();
    arrays.iter().for_each(|(name, shape, values)| file.put_f32(name, shape, values).unwrap());
    let about = [("precision", "f32")].iter().chain(about).map(|&(key, value)| (key, value.to_string()));
    file.finish(about.collect::<Vec<_>>()).unwrap();
    kernel(name, &Bundle::open(&path).unwrap()).unwrap()
}

/// The words are said of the output `out`, the last array; not of the same output with another number as well.
pub(super) fn says(words: &str, name: &str, about: &[(&'static str, &str)], arrays: &Arrays<'_>) {
    says_but_not(0.5, words, name, about, arrays);
}

/// As `says`; the other number is this much off.
pub(super) fn says_but_not(off: f32, words: &str, name: &str, about: &[(&'static str, &str)], arrays: &Arrays<'_>) {
    let told = |arrays: &Arrays<'_>| judged(name, about, arrays).told().join("; ");
    assert!(told(arrays).contains(words), "{name}: expected {words:?}, got {:?}", told(arrays));
    let mut near = arrays.clone();
    let out = &mut near.last_mut().unwrap().2;
    out[5] = if out.iter().all(|v| v.is_finite()) { out[5] + off } else { f32::NAN };
    assert!(!judged(name, about, &near).passes() && !told(&near).contains(words), "near {words:?}: {}", told(&near));
}

#[test]
fn d11_11_norms() {
    let (n, d) = (30, 16);
    let (x, w, b) = (numbers(n * d, 3), numbers(d, 4), numbers(d, 5));
    let rms = |w: &[f32], eps| x.chunks(d).flat_map(|x| naive::rms_norm(x, w, eps, Grid::Native)).collect::<Vec<f32>>();
    let layer = |w: &[f32], b: &[f32]| x.chunks(d).flat_map(|x| naive::layer_norm(x, w, b, 1e-6)).collect::<Vec<f32>>();
    let (one, plus) = (vec![1.0; d], w.iter().map(|w| w + 1.0).collect::<Vec<f32>>());
    let arrays = |bias: bool, out: Vec<f32>| -> Arrays<'_> {
        let inputs = [("x", vec![n, d], x.clone()), ("weight", vec![d], w.clone())].into_iter();
        let bias = bias.then(|| ("bias", vec![d], b.clone()));
        inputs.chain(bias).chain([("out", vec![n, d], out)]).collect()
    };
    let about = [("eps", "1e-6")];
    says("ε is 1e-3; 1e-6 is expected", "norm", &about, &arrays(false, rms(&w, 1e-3)));
    says("1 + weight in place of the weight", "norm", &about, &arrays(false, rms(&plus, 1e-6)));
    says("the weight is left out", "norm", &about, &arrays(false, rms(&one, 1e-6)));
    says("the bias is left out", "norm", &about, &arrays(true, layer(&w, &vec![0.0; d])));
    says("an RMS norm in place of a layer norm", "norm", &about, &arrays(true, rms(&w, 1e-6)));
    says("the mean is subtracted", "norm", &about, &arrays(false, layer(&w, &vec![0.0; d])));
    // Rows of zeros behind the 16 numbers count.
    let longer = |x: &[f32]| naive::rms_norm(&[x, &[0.0; 16]].concat(), &[&w[..], &w].concat(), 1e-6, Grid::Native);
    let padded = x.chunks(d).flat_map(|x| longer(x)[..d].to_vec()).collect();
    says("the sum of squares is divided by 32 in place of 16", "norm", &about, &arrays(false, padded));
}

/// The near miss takes one other place in one row.
#[test]
fn d11_11_top_k() {
    let (rows, n, k) = (5, 40, 8);
    let x = numbers(rows * n, 9);
    let wide: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let ranks = |row: usize| ranking(&wide[row * n..][..n]);
    let judged = |out: &[usize]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.safetensors");
        let mut file = BundleWriter::create(&path).unwrap();
        file.put_f32("x", &[rows, n], &x).unwrap();
        file.put_i64("out", &[rows, k], &out.iter().map(|&i| i as i64).collect::<Vec<i64>>()).unwrap();
        file.finish([("precision", "f32")]).unwrap();
        kernel("topk", &Bundle::open(&path).unwrap()).unwrap()
    };
    let all = |rule: &dyn Fn(usize) -> Vec<usize>| (0..rows).flat_map(rule).collect::<Vec<usize>>();
    assert!(judged(&all(&|row| ranks(row)[..k].to_vec())).passes());
    let signless = |row: usize| ranking(&wide[row * n..][..n].iter().map(|v| v.abs()).collect::<Vec<f64>>());
    let quarter = |row: usize, at: usize| ranking(&wide[row * n + at..][..10]).into_iter().take(2).map(move |i| at + i);
    for (words, out) in [
        ("the smallest numbers are taken", all(&|row| ranks(row)[n - k..].to_vec())),
        ("numbers are compared without their sign", all(&|row| signless(row)[..k].to_vec())),
        ("the largest number is left out: ranks are one late", all(&|row| ranks(row)[1..=k].to_vec())),
        ("places are counted from 1", all(&|row| ranks(row)[..k].iter().map(|i| i + 1).collect())),
        ("places are counted over all rows", all(&|row| ranks(row)[..k].iter().map(|i| row * n + i).collect())),
        ("each row has the places of the row before", all(&|row| ranks((row + 4) % 5)[..k].to_vec())),
        ("each of 4 parts gives as many places: the parts are not merged", {
            all(&|row| (0..n).step_by(10).flat_map(|at| quarter(row, at)).collect())
        }),
    ] {
        let told = |out: &[usize]| judged(out).told().join("; ");
        assert!(told(&out).contains(words), "expected {words:?}, got {:?}", told(&out));
        let mut near = out.clone();
        near[2] = (0..n).rev().find(|i| !out[..k].contains(i)).unwrap();
        assert!(!judged(&near).passes() && !told(&near).contains(words), "near {words:?}: {}", told(&near));
    }
}

#[test]
fn d11_11_linear_layers() {
    let (n, d) = (20, 64);
    let (x, w, b) = (numbers(n * d, 6), numbers(d * d, 7), numbers(d, 8));
    let product = |read: Operands, turned: bool, bias: bool| -> Vec<f32> {
        let weight = |o: usize, i: usize| if turned { w[i * d + o] } else { w[o * d + i] };
        let one = |row: &[f32], o: usize| {
            let sum = |(i, x): (usize, &f32)| f64::from(read.read(*x)) * f64::from(read.read(weight(o, i)));
            row.iter().enumerate().map(sum).sum::<f64>() + if bias { f64::from(b[o]) } else { 0.0 }
        };
        x.chunks(d).flat_map(|row| (0..d).map(|o| one(row, o) as f32).collect::<Vec<f32>>()).collect()
    };
    let arrays = |out| -> Arrays<'_> {
        let inputs = [("x", vec![n, d], x.clone()), ("weight", vec![d, d], w.clone()), ("bias", vec![d], b.clone())];
        inputs.into_iter().chain([("out", vec![n, d], out)]).collect()
    };
    says("the bias is left out", "linear", &[], &arrays(product(Operands::Whole, false, false)));
    says("the weight is transposed", "linear", &[], &arrays(product(Operands::Whole, true, true)));
    let tf32 = product(Operands::Nearest, false, true);
    says("x and weight are read with 10 bits of mantissa: TF32 is on", "linear", &[], &arrays(tf32));
}

/// Attention of 2 heads over one KV head, with this mask to add; whether the largest score is subtracted.
fn attention(x: &[Vec<f32>; 3], size: (usize, usize), mask: &dyn Fn(usize, usize) -> f32, stable: bool) -> Vec<f32> {
    stored(x, size, mask, stable, Grid::Native)
}

/// As `attention`, with inputs, scores, undivided weights and output in a type.
fn stored(
    [q, k, v]: &[Vec<f32>; 3],
    (n, d): (usize, usize),
    mask: &dyn Fn(usize, usize) -> f32,
    stable: bool,
    grid: Grid,
) -> Vec<f32> {
    let row = |h: usize, i: usize| {
        let dot = |j: usize| (0..d).map(|c| grid.round(q[(h * n + i) * d + c]) * grid.round(k[j * d + c])).sum::<f32>();
        let scores: Vec<f32> = (0..n).map(|j| grid.round(dot(j) / (d as f32).sqrt()) + mask(i, j)).collect();
        let most = if stable { scores.iter().copied().fold(f32::NEG_INFINITY, f32::max) } else { 0.0 };
        let weights: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
        let total: f32 = weights.iter().sum();
        let mix = |c: usize| (0..n).map(|j| grid.round(weights[j]) * grid.round(v[j * d + c])).sum::<f32>();
        (0..d).map(|c| grid.round(mix(c) / total)).collect::<Vec<f32>>()
    };
    (0..2 * n).flat_map(|i| row(i / n, i % n)).collect()
}

#[test]
fn d11_11_attentions() {
    let (n, d) = (24, 16);
    let (plain, hidden) = ([numbers(2 * n * d, 1), numbers(n * d, 2), numbers(n * d, 3)], f32::NEG_INFINITY);
    let large = [plain[0].iter().map(|q| q * 60.0).collect(), plain[1].clone(), plain[2].clone()];
    let arrays = |x: &[Vec<f32>; 3], mask: Vec<f32>, out| -> Arrays<'_> {
        let shape = |h| vec![h, n, d];
        let [q, k, v] = x.clone();
        let mask = (!mask.is_empty()).then(|| ("mask", vec![n, n], mask));
        let inputs = [("q", shape(2), q), ("k", shape(1), k), ("v", shape(1), v)].into_iter();
        inputs.chain(mask).chain([("out", shape(2), out)]).collect()
    };
    let table = |mask: &dyn Fn(usize, usize) -> f32| (0..n * n).map(|i| mask(i / n, i % n)).collect::<Vec<f32>>();
    let far = |i: usize, j: usize| -0.1 * (i as f32 - j as f32).abs();
    let (none, causal) = (|_: usize, _: usize| 0.0, |i: usize, j: usize| if j > i { hidden } else { 0.0 });
    says(
        "the mask is left out",
        "attention",
        &[],
        &arrays(&plain, table(&far), attention(&plain, (n, d), &none, true)),
    );
    // A mask that only hides has the suspects of a causal attention.
    let window = |i: usize, j: usize| if j > i || j + 9 <= i { hidden } else { 0.0 };
    says("a causal mask", "attention", &[], &arrays(&plain, table(&window), attention(&plain, (n, d), &causal, true)));
    for (words, grid) in [("honest numbers of bf16", Grid::Bf16), ("honest numbers of f16", Grid::F16)] {
        let out = stored(&plain, (n, d), &causal, true, grid);
        says(words, "attention", &[("causal", "true")], &arrays(&plain, vec![], out));
    }
    let out = attention(&large, (n, d), &none, false);
    assert!(out.iter().any(|v| v.is_nan()) && out[5].is_finite());
    says("exp overflows f32 from 88.7 on", "attention", &[("causal", "false")], &arrays(&large, vec![], out));
    let blind = |i: usize, j: usize| if j > i || i == 7 { hidden } else { 0.0 };
    let out = attention(&plain, (n, d), &blind, true);
    assert!(out[7 * d].is_nan());
    says("rows that see no entry are not finite", "attention", &[], &arrays(&plain, table(&blind), out));
}
