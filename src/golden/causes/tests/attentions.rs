//! The sentences of attention.

use super::*;
use crate::kernel::Operands;

/// Query heads, KV heads, rows, and numbers of a head.
const H: usize = 4;
const G: usize = 2;
const N: usize = 40;
const D: usize = 8;

/// Queries, keys and values of a layer, and its mix, which causal attention gives.
fn layer() -> ([Array3<f64>; 3], Given) {
    let of = |heads: usize, seed| Array3::from_shape_vec((heads, N, D), random(heads * N * D, seed)).unwrap();
    let [q, k, v] = [of(H, 11), of(G, 12), of(G, 13)];
    let mut mix = given(Site::Mix, 1, &[N, H * D]);
    for (site, x) in [(Site::Query, &q), (Site::Key, &k), (Site::Value, &v)] {
        mix.known.insert(Stage::layer(site, 1), x.clone().into_dyn());
    }
    mix.truth = causal(&q, &k, &v).rows(&(0..N).collect::<Vec<_>>(), false);
    ([q, k, v], mix)
}

#[test]
fn d11_7_tiles_and_pages_are_named() {
    let ([q, k, v], mix) = layer();
    let right = causal(&q, &k, &v);
    let all: Vec<usize> = (0..N).collect();
    let sees = |f: Sees<'static>| right.with(|a| a.sees = f).rows(&all, false);
    let last = "entries 32 to 39 are not read: the last tile is left out";
    mix.says(last, sees(Box::new(|i, j| j <= i && j < 32)));
    mix.says("entry 7 is not read", sees(Box::new(|i, j| j <= i && j != 7)));
    let rest = "the entries after the last multiple of 16 that a row sees are not read";
    mix.says(rest, sees(Box::new(|i, j| j < (i + 1) / 16 * 16)));
    let edited = |f: &dyn Fn(&Array3<f64>) -> Array3<f64>, sees: Sees<'static>| {
        let (k, v) = (f(&k), f(&v));
        Attend { k: &k, v: &v, ..right.with(|a| a.sees = sees) }.rows(&all, false)
    };
    let twice =
        |x: &Array3<f64>| ndarray::concatenate(Axis(1), &[x.view(), x.slice(ndarray::s![.., 16..24, ..])]).unwrap();
    mix.says(
        "entries 16 to 23 are read twice",
        edited(&twice, Box::new(|i, j| if j < 40 { j <= i } else { j - 24 <= i })),
    );
    let put = |x: &Array3<f64>, to: std::ops::Range<usize>, from: Option<usize>| {
        let mut x = x.clone();
        let other = from.map(|from| x.slice(ndarray::s![.., from..from + to.len(), ..]).to_owned());
        let mut own = x.slice_mut(ndarray::s![.., to, ..]);
        if let Some(other) = other {
            own.assign(&other)
        } else {
            own.fill(0.0)
        }
        x
    };
    let seen = || -> Sees<'static> { Box::new(|i, j| j <= i) };
    mix.says("entry 9 is read as zeros: never written", edited(&|x| put(x, 9..10, None), seen()));
    let page = "entries 16 to 23 are read from entries 0 to 7: the page of others";
    mix.says(page, edited(&|x| put(x, 16..24, Some(0)), seen()));
}

/// A causal attention of 4 heads over 2, of size 8.
fn causal<'a>(q: &'a Array3<f64>, k: &'a Array3<f64>, v: &'a Array3<f64>) -> Attend<'a> {
    Attend { sees: Box::new(|i, j| j <= i), ..Attend::new([q, k, v], 8f64.powf(-0.5)) }
}

#[test]
fn d11_21_what_attention_reads_in_fewer_bits() {
    let ([q, k, v], mix) = layer();
    let right = causal(&q, &k, &v);
    let all: Vec<usize> = (0..N).collect();
    let reads = |[q, k, v]: [&Array3<f64>; 3]| Attend { q, k, v, ..right.with(|_| {}) }.rows(&all, false);
    let in_bits = |name: &str| [&q, &k, &v].map(|x| read(x, BITS.iter().position(|bits| bits.0 == name).unwrap()));
    let [qb, kb, vb] = &in_bits("bf16");
    mix.says("queries, keys and values are read in bf16", reads([qb, kb, vb]));
    mix.says("queries are read in bf16", reads([qb, &k, &v]));
    let stored = |undivided: bool| {
        let change = |a: &mut Attend<'_>| (a.weight, a.undivided) = (|p| Grid::Bf16.round(p), undivided);
        Attend { q: qb, k: kb, v: vb, ..right.with(change) }.rows(&all, false)
    };
    mix.says("queries, keys and values are read in bf16, and weights are stored in it", stored(false));
    mix.says("queries, keys and values are read in bf16, and weights are stored in it", stored(true));
    let undivided = right.with(|a| (a.weight, a.undivided) = (|p| Grid::Bf16.round(p), true));
    mix.says("weights are stored in bf16", undivided.rows(&all, false));
    let [q8, k8, v8] = &in_bits("int8, a scale for each row");
    mix.says("keys and values are read in int8, a scale for each row of a head", reads([&q, k8, v8]));
    mix.says("queries and keys are read in int8, a scale for each row of a head", reads([q8, k8, &v]));
    mix.says("keys are read in int8, a scale for each row of a head", reads([&q, k8, &v]));
    mix.says("values are read in int8, a scale for each row of a head", reads([&q, &k, v8]));
    let [_, kf, vf] = &in_bits("fp8 (e4m3)");
    mix.says("keys and values are read in fp8 (e4m3)", reads([&q, kf, vf]));
}

#[test]
fn d11_7_attentions_are_named() {
    let ([q, k, v], mut mix) = layer();
    let right = causal(&q, &k, &v);
    let all: Vec<usize> = (0..N).collect();
    let scale = |scale: f64| right.with(|a| a.scale = scale).rows(&all, false);
    mix.says("scores are scaled by 1.000000 = 1; expected 0.353553", scale(1.0));
    mix.says("= 1/d_h", scale(1.0 / 8.0));
    mix.says("of the hidden size", scale(32f64.powf(-0.5)));
    mix.says("scores are scaled by 0.300000; expected", scale(0.3));
    let sees = |f: Sees<'static>| right.with(|a| a.sees = f).rows(&all, false);
    mix.says("no mask", sees(Box::new(|_, _| true)));
    mix.says("lets a row see the next", sees(Box::new(|i, j| j <= i + 1)));
    mix.says("hides a row's own entry", sees(Box::new(|i, j| j < i || i + j == 0)));
    mix.says("the first entry is not seen", sees(Box::new(|i, j| j <= i && (j > 0 || i == 0))));
    mix.says("sees the last 16 entries alone", sees(Box::new(|i, j| j <= i && j + 16 > i)));
    let visual = |i: usize| (4..12).contains(&i);
    mix.says("rows of the image see each other", sees(Box::new(move |i, j| j <= i || visual(i) && visual(j))));
    mix.says("reads KV head h mod 2", right.with(|a| a.kv = Box::new(|h| h % 2)).rows(&all, false));
    mix.says("reads KV head 0", right.with(|a| a.kv = Box::new(|_| 0)).rows(&all, false));
    let weight = |f: fn(f64) -> f64| right.with(|a| a.weight = f).rows(&all, false);
    mix.says("weights are rounded to 1/256", weight(|p| (p * 256.0).round() / 256.0));
    mix.says("weights are stored in bf16", weight(|p| Grid::Bf16.round(p)));
    mix.says("weights are stored in fp8", weight(|p| e4m3(p * 448.0) / 448.0));
    // A weight near a tie rounds the other way in f32: the same sentence, and not that of f16.
    let other_ties = weight(|p| if p.to_bits() % 200 == 7 { 1.004 * Grid::Bf16.round(p) } else { Grid::Bf16.round(p) });
    mix.says("weights are stored in bf16", other_ties);
    mix.says("weights are stored in f16", weight(|p| Grid::F16.round(p)));
    mix.says("16 keys counts in the sum of the softmax", right.with(|a| a.padding = Some(16)).rows(&all, false));
    mix.says("weights are not divided by their sum", right.with(|a| a.divides = false).rows(&all, false));
    let short = |x: &Array3<f64>| x.mapv(|x| Operands::Nearest.read(x));
    let (qs, ks, vs) = (short(&q), short(&k), short(&v));
    let tf32 = Attend { q: &qs, k: &ks, v: &vs, ..right.with(|a| a.weight = |p| Operands::Nearest.read(p)) };
    mix.says("attention reads numbers with 10 bits of mantissa: TF32 is on", tf32.rows(&all, false));
    let other = v.select(Axis(0), &[1, 0]);
    let turned = Attend { v: &other, ..right.with(|_| {}) };
    mix.says("values are those of the KV head after the right one", turned.rows(&all, false));
    let stale = |of: [bool; 2]| right.with(|a| a.stale = Some((16, of))).rows(&all, false);
    mix.says("tiles of 16 keys: sums of earlier tiles not rescaled when a larger score comes", stale([true, true]));
    mix.says("the mix of earlier tiles not rescaled", stale([false, true]));
    mix.truth = sees(Box::new(|_, _| true));
    mix.says("a causal mask", right.rows(&all, false));
    // The last 30 queries over 40 entries.
    let late = q.slice(ndarray::s![.., 10.., ..]).to_owned();
    let of = |sees: Sees<'static>| Attend { q: &late, ..right.with(|a| a.sees = sees) }.rows(&all[..30], false);
    let mut cached = given(Site::Mix, 1, &[30, H * D]);
    cached.known.extend(mix.known.clone());
    cached.known.insert(Stage::layer(Site::Query, 1), late.clone().into_dyn());
    cached.truth = of(Box::new(|i, j| j <= i + 10));
    cached.says("the causal mask is aligned at the first entry in place of the last", of(Box::new(|i, j| j <= i)));
    // A step after an eviction of all but 10 entries, and one token before its own.
    let step = |site: Site, t: usize, x: &Array3<f64>| {
        (Stage::of_step(site, t, 1), x.index_axis(Axis(1), 30 + t).to_owned().into_dyn())
    };
    let cut = |x: &Array3<f64>| x.slice(ndarray::s![.., ..10, ..]).to_owned();
    let joined = |x: &Array3<f64>, first: &Array3<f64>| {
        let own = x.slice(ndarray::s![.., 30..32, ..]);
        ndarray::concatenate(Axis(1), &[first.view(), own]).unwrap()
    };
    let mut mix =
        Given { at: Stage::of_step(Site::StepMix, 1, 1), shape: vec![H * D], ..given(Site::Mix, 1, &[H * D]) };
    for t in [0, 1] {
        mix.known.extend([step(Site::StepQuery, t, &q), step(Site::StepKey, t, &k), step(Site::StepValue, t, &v)]);
    }
    mix.known.extend([
        (Stage::layer(Site::CacheKey, 1), cut(&k).into_dyn()),
        (Stage::layer(Site::CacheValue, 1), cut(&v).into_dyn()),
    ]);
    mix.known.extend([
        (Stage::layer(Site::Key, 1), k.clone().into_dyn()),
        (Stage::layer(Site::Value, 1), v.clone().into_dyn()),
    ]);
    let own = q.slice(ndarray::s![.., 31..32, ..]).to_owned();
    let run = |k: &Array3<f64>, v: &Array3<f64>, sees: Sees<'static>| {
        Attend { q: &own, k, v, ..right.with(|a| a.sees = sees) }.rows(&[0], false)
    };
    let (kc, vc) = (joined(&k, &cut(&k)), joined(&v, &cut(&v)));
    mix.truth = run(&kc, &vc, Box::new(|_, _| true));
    let (kw, vw) = (joined(&k, &k), joined(&v, &v));
    mix.says("reads the whole prompt", run(&kw, &vw, Box::new(|_, _| true)));
    mix.says("sees no generated token", run(&kc, &vc, Box::new(|_, j| j < 10)));
    mix.says("does not see the generated tokens before its own", run(&kc, &vc, Box::new(|_, j| j < 10 || j == 11)));
}

#[test]
fn d11_7_scores_are_named() {
    let ([q, k, v], mix) = layer();
    let right = causal(&q, &k, &v);
    let all: Vec<usize> = (0..N).collect();
    let cap = |cap: f64| right.with(|a| a.cap = Some(cap)).rows(&all, false);
    mix.says("scores s are capped: 5·tanh(s / 5)", cap(5.0));
    mix.says("scores s are capped: 2.7000·tanh", cap(2.7));
    let sees = |f: Sees<'static>| right.with(|a| a.sees = f).rows(&all, false);
    let tile = "a row sees the later entries of its tile of 16";
    mix.says(tile, sees(Box::new(|i, j| j < 40 && j / 16 <= i / 16)));
    let zero = |x: &Array3<f64>| ndarray::concatenate(Axis(1), &[x.view(), Array3::zeros((G, 1, D)).view()]).unwrap();
    let (k1, v1) = (zero(&k), zero(&v));
    let more = right.with(|a| a.sees = Box::new(|i, j| j <= i || j == N));
    let sink = Attend { k: &k1, v: &v1, ..more }.rows(&all, false);
    mix.says("one more entry of score 0 counts in the sum of the softmax", sink);
    let other = |rule: fn(usize) -> usize, keys: bool, values: bool| {
        let from: Vec<usize> = (0..N).map(rule).collect();
        let (ks, vs) = (k.select(Axis(1), &from), v.select(Axis(1), &from));
        let (k, v) = (if keys { &ks } else { &k }, if values { &vs } else { &v });
        Attend { k, v, ..right.with(|_| {}) }.rows(&all, false)
    };
    let late = "values of every entry are those of the entry before: one entry late";
    mix.says(late, other(|j| j.saturating_sub(1), false, true));
    mix.says(
        "keys of every entry are those of the entry after: one entry early",
        other(|j| (j + 1).min(N - 1), true, false),
    );
    let two = "keys and values of every entry are those of the neighbour: two and two are exchanged";
    mix.says(two, other(|j| j ^ 1, true, true));
    mix.says("values of every entry are those of the other end: in reverse order", other(|j| N - 1 - j, false, true));
}

/// Heads of 32 numbers, which are enough for a part of them.
#[test]
fn d11_7_parts_and_heads_are_named() {
    let (h, g, n, d) = (6, 3, 40, 32);
    let of = |heads: usize, seed| Array3::from_shape_vec((heads, n, d), random(heads * n * d, seed)).unwrap();
    let [q, k, v] = [of(h, 21), of(g, 22), of(g, 23)];
    let right = Attend { scale: 0.1, kv: Box::new(|head| head / 2), ..causal(&q, &k, &v) };
    let mut mix = given(Site::Mix, 1, &[n, h * d]);
    for (site, x) in [(Site::Query, &q), (Site::Key, &k), (Site::Value, &v)] {
        mix.known.insert(Stage::layer(site, 1), x.clone().into_dyn());
    }
    let all: Vec<usize> = (0..n).collect();
    let scaled = right.with(|a| a.scale = 32f64.powf(-0.5));
    mix.truth = scaled.rows(&all, false);
    let [qs, ks] = [&q, &k].map(|x| x.slice(ndarray::s![.., .., ..16]).to_owned());
    let short = Attend { q: &qs, k: &ks, ..scaled.with(|_| {}) }.rows(&all, false);
    mix.says("scores are formed from the first 16 of 32 numbers of a head", short);
    let kv = |f: fn(usize) -> usize| scaled.with(|a| a.kv = Box::new(f)).rows(&all, false);
    mix.says("KV heads are read in reverse order", kv(|head| 2 - head / 2));
    mix.says("query heads read other KV heads: head 1 reads 2, head 4 reads 0", kv(|head| [0, 2, 1, 1, 0, 2][head]));
}

#[test]
fn d11_7_slots_and_addresses_are_named() {
    let ([q, k, v], mix) = layer();
    let right = causal(&q, &k, &v);
    let all: Vec<usize> = (0..N).collect();
    let run = |k: &Array3<f64>, v: &Array3<f64>| Attend { k, v, ..right.with(|_| {}) }.rows(&all, false);
    let set = |x: &Array3<f64>, from: Option<usize>| {
        let own = from.map(|from| x.slice(ndarray::s![.., from, ..]).to_owned());
        let mut other = x.clone();
        let strange = ndarray::Array2::from_shape_vec((G, D), random(G * D, 41)).unwrap();
        other.slice_mut(ndarray::s![.., 9, ..]).assign(&own.unwrap_or(strange));
        other
    };
    mix.says("entry 9 is read with the key of entry 4: its slot is stale, or of others", run(&set(&k, Some(4)), &v));
    mix.says("entry 9 is read with the value of entry 4: its slot is stale, or of others", run(&k, &set(&v, Some(4))));
    mix.says("entry 9 is read with another key than its own", run(&set(&k, None), &v));
    mix.says("entry 9 is read with another value than its own", run(&k, &set(&v, None)));
    let both = "entry 9 is read with another key and value than its own: its slot was never written, or is of others";
    mix.says(both, run(&set(&k, None), &set(&v, None)));
    mix.says("entry 9 is read from entry 4: the page of others", run(&set(&k, Some(4)), &set(&v, Some(4))));
    let sees = right.with(|a| a.sees = Box::new(|i, j| j <= i && j < 21)).rows(&all, false);
    mix.says("the entries from 21 on are not read", sees);
    // One KV head after the other in memory, and entry by entry.
    for heads_apart in [true, false] {
        let off = |x: &Array3<f64>| {
            let order = if heads_apart { [0, 1, 2] } else { [1, 0, 2] };
            let flat: Vec<f64> = x.view().permuted_axes(order).iter().copied().collect();
            let mut other = x.clone();
            for ((g, j, c), v) in other.indexed_iter_mut().filter(|((_, j, _), _)| (16..32).contains(j)) {
                *v = flat[if heads_apart { (g * N + j) * D + c } else { (j * G + g) * D + c } - 4];
            }
            other
        };
        let words = "entries 16 to 31 are read from 4 numbers before their address: it is not aligned";
        mix.says(words, run(&off(&k), &off(&v)));
    }
}
