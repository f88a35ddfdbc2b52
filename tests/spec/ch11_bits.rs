//! Chapter 11: kernels that read fewer bits (D11.21), and errors of the size of a half type that are not those of the type
//! (D11.20).

use super::ch11_kernels::{Arrays, judged, numbers, says, says_but_not};
use aircache::num::Grid;

/// x · weightᵀ in f64, stored in f32. x [n, k], weight [outputs, k].
fn product(x: &[f64], w: &[f64], k: usize) -> Vec<f32> {
    let row = |x: &[f64]| w.chunks(k).map(|w| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() as f32).collect();
    x.chunks(k).flat_map(|x| -> Vec<f32> { row(x) }).collect()
}

/// Whole multiples of a scale: the largest number of each block is `most` of them.
fn whole(values: &[f64], size: usize, most: f64) -> Vec<f64> {
    let block = |block: &[f64]| -> Vec<f64> {
        let scale = block.iter().fold(0.0f64, |m, v| m.max(v.abs())) / most;
        block.iter().map(|v| (v / scale).round_ties_even() * scale).collect()
    };
    values.chunks(size).flat_map(block).collect()
}

/// As `whole`, from the least number of each block on.
fn shifted(values: &[f64], size: usize, most: f64) -> Vec<f64> {
    let block = |block: &[f64]| -> Vec<f64> {
        let (low, high) = block.iter().fold((0.0f64, 0.0f64), |m, v| (m.0.min(*v), m.1.max(*v)));
        let (scale, zero) = ((high - low) / most, (-low * most / (high - low)).round());
        block.iter().map(|v| (((v / scale).round() + zero).clamp(0.0, most) - zero) * scale).collect()
    };
    values.chunks(size).flat_map(block).collect()
}

#[test]
fn d11_21_linear_layers_of_one_row() {
    for (n, k, outputs) in [(1, 256, 256), (1, 512, 200), (20, 128, 64)] {
        let (x, w) = (numbers(n * k, 6), numbers(outputs * k, 7));
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (xd, wd) = (wide(&x), wide(&w));
        let half = |x: &[f64], grid: Grid| x.iter().map(|v| grid.round(*v)).collect::<Vec<f64>>();
        let says = |words: &str, x_read: &[f64], w_read: &[f64]| {
            let out = product(x_read, w_read, k);
            let inputs = [("x", vec![n, k], x.clone()), ("weight", vec![outputs, k], w.clone())].into_iter();
            let arrays: Arrays<'_> = inputs.chain([("out", vec![n, outputs], out)]).collect();
            says_but_not(50.0, words, "linear", &[], &arrays);
        };
        says("the weight is read in int8, a scale for each row", &xd, &whole(&wd, k, 127.0));
        says("the weight is read in int8, one scale for all", &xd, &whole(&wd, outputs * k, 127.0));
        says("the weight is read in int8, a scale for 32 numbers", &xd, &whole(&wd, 32, 127.0));
        says("the weight is read in int8, a scale for 64 numbers", &xd, &whole(&wd, 64, 127.0));
        says("the weight is read in int8, a scale and a zero for each row", &xd, &shifted(&wd, k, 255.0));
        says("the weight is read in int4, a scale for 32 numbers", &xd, &whole(&wd, 32, 7.0));
        says("the weight is read in int4, a scale and a zero for 128 numbers", &xd, &shifted(&wd, 128, 15.0));
        says("the weight is read in bf16", &xd, &half(&wd, Grid::Bf16));
        says("the weight is read in f16 or TF32 (10 bits of mantissa)", &xd, &half(&wd, Grid::F16));
        says("x is read in bf16", &half(&xd, Grid::Bf16), &wd);
        says("x and the weight are read in bf16", &half(&xd, Grid::Bf16), &half(&wd, Grid::Bf16));
        says("x is read in int8, a scale for each row", &whole(&xd, k, 127.0), &wd);
        says("x and the weight are read in int8, a scale for each row", &whole(&xd, k, 127.0), &whole(&wd, k, 127.0));
        says("it would pass as bf16", &xd, &shifted(&wd, 64, 1023.0));
        says("it would pass as f16", &xd, &shifted(&wd, 64, 8191.0));
    }
}

#[test]
fn d11_21_inputs_of_a_softmax() {
    let x = numbers(8 * 100, 3);
    let read = |grid: Grid| x.iter().map(|v| f64::from(grid.round(*v))).collect::<Vec<f64>>();
    let out = |grid: Grid| softmax(&read(grid), 100, &f64::exp);
    let arrays = |out| -> Arrays<'_> { vec![("x", vec![8, 100], x.clone()), ("out", vec![8, 100], out)] };
    says("the inputs are read in bf16", "softmax", &[], &arrays(out(Grid::Bf16)));
    says("the inputs are read in f16 or TF32 (10 bits of mantissa)", "softmax", &[], &arrays(out(Grid::F16)));
}

fn softmax(x: &[f64], width: usize, exp: &dyn Fn(f64) -> f64) -> Vec<f32> {
    let row = |row: &[f64]| -> Vec<f32> {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = row.iter().map(|x| exp(x - most)).collect();
        let total: f64 = e.iter().sum();
        e.iter().map(|e| (e / total) as f32).collect()
    };
    x.chunks(width).flat_map(row).collect()
}

/// 2^(whole part) times a polynomial of the rest, by Taylor or through points of the interval.
fn polynomial(order: usize, taylor: bool) -> impl Fn(f64) -> f64 {
    let points: Vec<f64> =
        (0..=order).map(|i| 0.5 * (std::f64::consts::PI * (2 * i + 1) as f64 / (2 * order + 2) as f64).cos()).collect();
    move |x| {
        let z = x * std::f64::consts::LOG2_E;
        let rest = z - z.round();
        let value = if taylor {
            let y = rest * std::f64::consts::LN_2;
            (0..=order).rev().fold(0.0, |sum, k| 1.0 + if k == order { 0.0 } else { y / (k + 1) as f64 * sum })
        } else {
            let basis = |i: usize| -> f64 {
                let others = (0..=order).filter(|&j| j != i);
                others.map(|j| (rest - points[j]) / (points[i] - points[j])).product()
            };
            (0..=order).map(|i| points[i].exp2() * basis(i)).sum()
        };
        value * z.round().exp2()
    }
}

/// The nearest of so many powers of 2 between whole exponents; or a line between two of them.
fn table(size: f64, between: bool) -> impl Fn(f64) -> f64 {
    move |x| {
        let at = x * std::f64::consts::LOG2_E * size;
        let (low, share) = (at.floor(), at - at.floor());
        let of = |at: f64| (at / size).exp2();
        if between { of(low) * (1.0 - share) + of(low + 1.0) * share } else { of(at.round()) }
    }
}

/// An exp by a short polynomial or by a table has errors of the size of a half type: no cause names a type.
#[test]
fn d11_20_an_exp_of_low_order_is_no_half_type() {
    type Exp = Box<dyn Fn(f64) -> f64>;
    let mut exps: Vec<(String, Exp)> = vec![];
    for order in 1..=4 {
        exps.push((format!("a polynomial of order {order}"), Box::new(polynomial(order, false))));
        exps.push((format!("a series of order {}", order + 1), Box::new(polynomial(order + 1, true))));
    }
    for size in [16.0, 64.0, 128.0, 256.0, 1024.0] {
        exps.push((format!("a table of {size}"), Box::new(table(size, false))));
        exps.push((format!("a table of {size} with lines"), Box::new(table(size / 16.0, true))));
    }
    let types = ["bf16", "f16", "TF32", "10 bits"];
    let silent = |name: &str, what: &str, about: &[(&'static str, &str)], arrays: &Arrays<'_>| {
        let told = judged(name, about, arrays).told().join("; ");
        let cause = told.split_once("cause: ").map_or("", |told| told.1);
        assert!(!types.iter().any(|kind| cause.contains(kind)), "{name}, exp by {what}: {told}");
    };
    for (rows, width) in [(40, 64), (1, 512), (8, 300), (200, 200)] {
        let x = numbers(rows * width, 21);
        let wide: Vec<f64> = x.iter().map(|v| f64::from(*v) * 2.0).collect();
        let x: Vec<f32> = wide.iter().map(|v| *v as f32).collect();
        for (what, exp) in &exps {
            let out = softmax(&wide, width, &**exp);
            let shape = vec![rows, width];
            silent("softmax", what, &[], &vec![("x", shape.clone(), x.clone()), ("out", shape, out)]);
        }
    }
    for (n, m, d) in [(48, 48, 32), (1, 200, 64)] {
        let [q, k, v] = [(2 * n, 1), (m, 2), (m, 3)].map(|(rows, seed)| numbers(rows * d, seed));
        for (what, exp) in &exps {
            let row = |i: usize| -> Vec<f32> {
                let score = |j: usize| (0..d).map(|c| f64::from(q[i * d + c]) * f64::from(k[j * d + c])).sum::<f64>();
                let scores: Vec<f64> = (0..m).map(|j| score(j) / (d as f64).sqrt()).collect();
                let p = softmax(&scores, m, &**exp);
                (0..d).map(|c| (0..m).map(|j| f64::from(p[j]) * f64::from(v[j * d + c])).sum::<f64>() as f32).collect()
            };
            let out = (0..2 * n).flat_map(row).collect();
            let inputs =
                [("q", vec![2, n, d], q.clone()), ("k", vec![1, m, d], k.clone()), ("v", vec![1, m, d], v.clone())];
            let arrays: Arrays<'_> = inputs.into_iter().chain([("out", vec![2, n, d], out)]).collect();
            silent("attention", what, &[("causal", "false")], &arrays);
        }
    }
}
