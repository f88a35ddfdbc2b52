//! Every sentence of T11.1 that plain numbers give: said of a candidate with the mistake, and not said where the same
//! candidate has another error as well.

use super::attend::{Attend, Sees};
use super::facts::{Again, Change, Edit, Facts, Rotation, Tensor};
use super::formats::{e4m3, q8};
use super::named;
use crate::config::Activation;
use crate::golden::kinds::numbers::Numbers;
use crate::golden::measure::{Errors, Layout};
use crate::num::{Grid, Random};
use crate::pass::{Branch, Precision};
use crate::roles::Role;
use crate::stage::{Site, Stage};
use ndarray::{Array3, ArrayD, Axis};
use std::collections::BTreeMap;

/// What a cause is found from.
struct Given {
    at: Stage,
    shape: Vec<usize>,
    truth: Vec<f64>,
    known: BTreeMap<Stage, ArrayD<f64>>,
    rotation: Option<Rotation>,
    again: Option<Fake>,
    precision: Precision,
}

/// A layer that answers one change.
struct Fake {
    change: Change,
    value: Vec<f64>,
    truth: Vec<f64>,
    tensors: Vec<Tensor>,
}

impl Again for Fake {
    fn again(&self, _: Stage, change: &Change) -> Option<Vec<f64>> {
        Some(if *change == self.change { self.value.clone() } else { self.truth.clone() })
    }
    fn tensors(&self, _: Stage) -> Vec<Tensor> {
        self.tensors.clone()
    }
    fn epsilon(&self, _: Stage) -> Option<f64> {
        Some(1e-6)
    }
}

fn random(count: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| f64::from((random.unit() + random.unit() + random.unit()) as f32) * 2.0 - 3.0).collect()
}

fn given(site: Site, layer: usize, shape: &[usize]) -> Given {
    Given {
        at: Stage::layer(site, layer),
        shape: shape.to_vec(),
        truth: random(shape.iter().product(), 7),
        known: BTreeMap::new(),
        rotation: None,
        again: None,
        precision: Precision::Fast,
    }
}

impl Given {
    fn said(&self, got: &[f64]) -> String {
        let name = self.at.name();
        let layout = Layout::of(&name, &self.shape);
        let off: Vec<f64> =
            self.truth.iter().zip(random(self.truth.len(), 3)).map(|(t, r)| t * (1.0 + 1e-7 * r) + 2e-8 * r).collect();
        let noise = Errors::of(layout, &self.truth, &off, None);
        let known = |stage: Stage| self.known.get(&stage).cloned();
        let query = self.known.get(&Stage::layer(Site::Query, self.at.layer));
        let numbers = Numbers {
            name: &name,
            shape: &self.shape,
            truth: &self.truth,
            got,
            noise: Some(noise),
            rotated: self.rotation.is_some(),
            precision: self.precision,
            heads: query.map_or(1, |q| q.shape()[0]),
            independent: true,
            drift: None,
        };
        let facts = Facts {
            at: self.at,
            numbers: &numbers,
            slack: self.rotation.as_ref().map(|r| vec![1e-9; r.positions.len()]),
            rotation: self
                .rotation
                .as_ref()
                .map(|r| Rotation { frequencies: r.frequencies.clone(), positions: r.positions.clone() }),
            known: &known,
            alike: self.known.keys().copied().filter(|at| self.known[at].shape() == self.shape).collect(),
            roles: Some(
                (0..self.shape[0]).map(|i| if (4..12).contains(&i) { Role::Visual } else { Role::Text }).collect(),
            ),
            again: self.again.as_ref().map(|again| again as &dyn Again),
            halves: vec![],
            drift: None,
        };
        named(&facts, |_| {}).unwrap_or_default()
    }

    /// The sentence is said of this candidate, and not of the same with another error.
    fn says(&self, words: &str, got: Vec<f64>) {
        let got: Vec<f64> = got.into_iter().map(|v| f64::from(v as f32)).collect();
        let told = self.said(&got);
        assert!(told.contains(words), "{}: expected {words:?}, got {told:?}", self.at);
        let size = |x: &[f64]| (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt();
        let off = size(&got.iter().zip(&self.truth).map(|(a, b)| a - b).collect::<Vec<f64>>());
        let other = random(got.len(), 99).into_iter().zip(&got).map(|(r, v)| v + off * r).collect::<Vec<f64>>();
        let told = self.said(&other);
        assert!(!told.contains(words), "{}: near {words:?}, {told:?}", self.at);
    }
}

#[test]
fn d11_3_factors_are_named() {
    let out = given(Site::Out, 0, &[24, 16]);
    out.says("everything is 1.03", out.truth.iter().map(|t| t * 1.03).collect());
    out.says(
        "every row has a factor of its own",
        out.truth.iter().enumerate().map(|(i, t)| t * (1.0 + (i / 16) as f64)).collect(),
    );
    out.says(
        "another weight of a norm",
        out.truth.iter().enumerate().map(|(i, t)| t * (1.0 + (i % 16) as f64)).collect(),
    );
    let mut norm = given(Site::Norm, 0, &[24, 16]);
    let rows: Vec<f64> = norm
        .truth
        .chunks(16)
        .flat_map(|row| {
            let size = (row.iter().map(|v| v * v).sum::<f64>() / 16.0).sqrt();
            row.iter().map(move |v| v / size).collect::<Vec<f64>>()
        })
        .collect();
    norm.truth = rows.iter().enumerate().map(|(i, v)| v * (0.5 + (i % 16) as f64)).collect();
    norm.says("the norm's weight is left out", rows);
    let key = given(Site::Key, 0, &[3, 24, 16]);
    key.says(
        "head 2 is 1.0200",
        key.truth.iter().enumerate().map(|(i, t)| if i >= 2 * 24 * 16 { t * 1.02 } else { *t }).collect(),
    );
    let query = given(Site::Query, 0, &[3, 24, 16]);
    query.says("queries are scaled by 1/√d_h", query.truth.iter().map(|t| t / 4.0).collect());
    let mut importance = given(Site::Importance, 0, &[40]);
    importance.truth.iter_mut().for_each(|t| *t = t.abs());
    importance.known.insert(Stage::layer(Site::Query, 0), ArrayD::zeros(vec![6, 24, 16]));
    importance.says("one of 6 heads is left out", importance.truth.iter().map(|t| t * 5.0 / 6.0).collect());
}

#[test]
fn d11_4_places_are_named() {
    let out = given(Site::Out, 0, &[24, 16]);
    let rows = |from: &dyn Fn(usize) -> usize| -> Vec<f64> {
        (0..24).flat_map(|i| out.truth[from(i) * 16..from(i) * 16 + 16].to_vec()).collect()
    };
    let mut zeros = out.truth.clone();
    zeros[5 * 16..6 * 16].fill(0.0);
    out.says("row 5 is all zeros: never written", zeros);
    out.says("one row late", rows(&|i| i.max(1) - 1));
    out.says("one row early", rows(&|i| (i + 1).min(23)));
    out.says("each the row 3 places before", rows(&|i| if i < 9 { i } else { i - 3 }));
    let key = given(Site::Key, 0, &[3, 24, 16]);
    let heads =
        |of: [usize; 3]| -> Vec<f64> { of.iter().flat_map(|h| key.truth[h * 384..(h + 1) * 384].to_vec()).collect() };
    key.says("heads 0 and 1 are exchanged", heads([1, 0, 2]));
    key.says("heads stand in another order: 0 holds 1, 1 holds 2, 2 holds 0", heads([1, 2, 0]));
    let pixels = given(Site::Pixels, 0, &[1, 2, 3, 8, 8]);
    let bgr = (0..384).map(|i| pixels.truth[i / 192 * 192 + (2 - i / 64 % 3) * 64 + i % 64]).collect();
    pixels.says("blue, green, red", bgr);
    let mut features = given(Site::Features, 0, &[2, 12, 8]);
    let other = Stage::layer(Site::VisionOut, 2);
    let values = random(192, 50).into_iter().map(|v| f64::from(v as f32)).collect::<Vec<f64>>();
    features.known.insert(other, ArrayD::from_shape_vec(vec![2, 12, 8], values.clone()).unwrap());
    features.says("these are the numbers of vision.02.out", values);
}

#[test]
fn d11_5_sums_are_named() {
    let value = given(Site::Value, 0, &[2, 24, 16]);
    let v = random(32, 5);
    value.says(
        "every row is off by the same numbers",
        value.truth.iter().enumerate().map(|(i, t)| t + v[i / 384 * 16 + i % 16]).collect(),
    );
    let mut out = given(Site::Out, 3, &[24, 16]);
    let before = random(384, 6);
    out.known.insert(Stage::layer(Site::Out, 2), ArrayD::from_shape_vec(vec![24, 16], before.clone()).unwrap());
    let with = |sign: f64| out.truth.iter().zip(&before).map(|(t, x)| t + sign * x).collect();
    out.says("decoder.02.out is missing: a residual is left out", with(-1.0));
    out.says("decoder.02.out is added once too often", with(1.0));
    let key = rotated(|row| [row as i64; 8]);
    let mut v: Vec<f64> = (0..2 * 40 * 16).map(|i| v[i / 640 * 16 + i % 16]).collect();
    key.rotation.as_ref().unwrap().turn(Layout::of("decoder.00.key", &key.shape), &mut v, 1.0);
    key.says("before the rotation every row is off", key.truth.iter().zip(v).map(|(t, v)| t + v).collect());
}

/// Keys of 2 heads, 40 rows, 8 pairs, rotated by these positions of each pair.
fn rotated(positions: impl Fn(usize) -> [i64; 8]) -> Given {
    let frequencies = (0..8).map(|i| 1e4f64.powf(-f64::from(i) / 8.0)).collect();
    let rotation = Rotation { frequencies, positions: (0..40).flat_map(positions).collect() };
    Given { rotation: Some(rotation), ..given(Site::Key, 0, &[2, 40, 16]) }
}

#[test]
fn d11_6_rotations_are_named() {
    let key = rotated(|row| [row as i64 + 280; 8]);
    let rotation = key.rotation.as_ref().unwrap();
    let layout = Layout::of("decoder.00.key", &key.shape);
    let turned = |angle: &dyn Fn(usize, usize) -> f64| {
        let mut x = key.truth.clone();
        rotation.turn_by(layout, &mut x, |row, pair| angle(row, pair) - rotation.angle(row, pair));
        x
    };
    let by = |f: &dyn Fn(f64) -> f64| turned(&|row, pair| f((row + 280) as f64) * rotation.frequencies[pair]);
    key.says("every position is one too large", by(&|p| p + 1.0));
    key.says("every position is two too small", by(&|p| p - 2.0));
    key.says("pairs are not rotated", by(&|_| 0.0));
    key.says("pairs are rotated twice", by(&|p| 2.0 * p));
    key.says("rotated in the other direction", by(&|p| -p));
    key.says("positions are rounded to bf16", by(&|p| Grid::Bf16.round(p)));
    key.says("angles are rounded to f16", turned(&|row, pair| Grid::F16.round(rotation.angle(row, pair))));
    key.says(
        "angles are formed in bf16",
        turned(&|row, pair| {
            Grid::Bf16.round(Grid::Bf16.round((row + 280) as f64) * Grid::Bf16.round(rotation.frequencies[pair]))
        }),
    );
    key.says(
        "the rotary base is 1000000; the model's is 10000",
        turned(&|row, pair| (row + 280) as f64 * 1e6f64.powf(-(pair as f64) / 8.0)),
    );
    key.says("positions are 1.2500 times as large", by(&|p| 1.25 * p));
    key.says("each pair is only turned", turned(&|row, pair| ((row * 7 + pair * 3) % 11) as f64));
    let mut plain = key.truth.clone();
    rotation.turn(layout, &mut plain, -1.0);
    for (i, row) in plain.chunks_exact_mut(16).enumerate() {
        for pair in 0..8 {
            let (sin, cos) = rotation.angle(i % 40, pair).sin_cos();
            let (a, b) = (row[2 * pair], row[2 * pair + 1]);
            (row[2 * pair], row[2 * pair + 1]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    key.says("pairs are neighbours", plain);
    let woven = |i: usize| key.truth[i / 16 * 16 + i % 2 * 8 + i % 16 / 2];
    key.says("halves of every head are woven", (0..key.truth.len()).map(woven).collect());
    // M-RoPE: height and width of an image of 5 columns.
    let image = rotated(|row| std::array::from_fn(|pair| if pair < 4 { (row / 5) as i64 } else { (row % 5) as i64 }));
    let rotation = image.rotation.as_ref().unwrap();
    let mut x = image.truth.clone();
    rotation.turn_by(layout, &mut x, |row, pair| row as f64 * rotation.frequencies[pair] - rotation.angle(row, pair));
    image.says("M-RoPE is left out", x);
    let mut step = given(Site::StepQuery, 0, &[4, 16]);
    step.rotation =
        Some(Rotation { frequencies: key.rotation.as_ref().unwrap().frequencies.clone(), positions: vec![300; 8] });
    let mut x = step.truth.clone();
    let rotation = step.rotation.as_ref().unwrap();
    rotation.turn_by(Layout::of(&step.at.name(), &step.shape), &mut x, |_, pair| -153.0 * rotation.frequencies[pair]);
    step.says("the token stands at position 147; its own is 300", x);
}

#[test]
fn d11_7_attentions_are_named() {
    let (h, g, n, d) = (4, 2, 40, 8);
    let of = |heads: usize, seed| Array3::from_shape_vec((heads, n, d), random(heads * n * d, seed)).unwrap();
    let (q, k, v) = (of(h, 11), of(g, 12), of(g, 13));
    let right = Attend {
        q: &q,
        k: &k,
        v: &v,
        scale: 8f64.powf(-0.5),
        sees: Box::new(|i, j| j <= i),
        kv: Box::new(|head| head / 2),
        weight: |p| p,
        padding: None,
        divides: true,
    };
    let all: Vec<usize> = (0..n).collect();
    let mut mix = given(Site::Mix, 1, &[n, h * d]);
    for (site, x) in [(Site::Query, &q), (Site::Key, &k), (Site::Value, &v)] {
        mix.known.insert(Stage::layer(site, 1), x.clone().into_dyn());
    }
    mix.truth = right.rows(&all, false);
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
    mix.says("16 keys counts in the sum of the softmax", right.with(|a| a.padding = Some(16)).rows(&all, false));
    mix.says("weights are not divided by their sum", right.with(|a| a.divides = false).rows(&all, false));
    let (k8, v8) = (q8(&k, 8), q8(&v, 8));
    mix.says("keys and values are read in int8", Attend { k: &k8, v: &v8, ..right.with(|_| {}) }.rows(&all, false));
    let (k8, v8) = (k.mapv(e4m3), v.mapv(e4m3));
    mix.says("keys and values are read in fp8", Attend { k: &k8, v: &v8, ..right.with(|_| {}) }.rows(&all, false));
    mix.truth = sees(Box::new(|_, _| true));
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
        Given { at: Stage::of_step(Site::StepMix, 1, 1), shape: vec![h * d], ..given(Site::Mix, 1, &[h * d]) };
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
fn d11_8_types_are_named() {
    let key = given(Site::Key, 0, &[2, 24, 64]);
    let blocks = |size: usize, most: f64| -> Vec<f64> {
        key.truth
            .chunks(size)
            .flat_map(|block| {
                let scale = block.iter().fold(0.0f64, |m, v| m.max(v.abs())) / most;
                block.iter().map(move |v| (v / scale).round() * scale).collect::<Vec<f64>>()
            })
            .collect()
    };
    key.says("one of int8, a scale for each row of a head", blocks(64, 127.0));
    key.says("one of int8, a scale for 32 numbers", blocks(32, 127.0));
    key.says("one of int4, a scale for 32 numbers", blocks(32, 7.0));
    key.says("one of fp8 (e4m3)", key.truth.iter().map(|v| e4m3(*v)).collect());
    let out = given(Site::Out, 0, &[24, 16]);
    out.says("stored in bf16", out.truth.iter().map(|v| Grid::Bf16.round(*v)).collect());
    let narrow: Vec<f64> = out.truth.iter().zip(random(384, 4)).map(|(t, r)| t + 1e-4 * r).collect();
    for (all, words) in
        [(true, "linear layers read numbers with 10 bits"), (false, "convolutions read numbers with 10 bits")]
    {
        layer(Site::VisionOut, Change::Narrow { all }, &[], words, narrow.clone());
    }
    let other: Vec<f64> = out.truth.iter().zip(random(384, 4)).map(|(t, r)| Grid::Bf16.round(t + 0.02 * r)).collect();
    layer(Site::Out, Change::Stored(Grid::Bf16), &[], "computed in bf16", other);
}

/// A layer that gives these numbers with one change.
fn layer(site: Site, change: Change, tensors: &[(&str, &[usize])], words: &str, value: Vec<f64>) {
    let plain = given(site, 0, &[24, 16]);
    let tensors =
        tensors.iter().map(|(name, shape)| Tensor { name: name.to_string(), shape: shape.to_vec() }).collect();
    let fake = Fake { change, value: value.clone(), truth: plain.truth.clone(), tensors };
    Given { again: Some(fake), ..plain }.says(words, value);
}

#[test]
fn d11_9_layers_are_named() {
    let value = || {
        given(Site::Out, 0, &[24, 16]).truth.iter().zip(random(384, 21)).map(|(t, r)| t + 0.1 * r).collect::<Vec<f64>>()
    };
    layer(Site::Out, Change::Function(Activation::Relu), &[], "the activation is relu", value());
    layer(Site::Out, Change::Epsilon(1e-5), &[], "ε is 1e-5; the model's is 1e-6", value());
    layer(Site::Out, Change::Without(Branch::Mlp), &[], "what the MLP adds is left out", value());
    let bias: &[(&str, &[usize])] = &[
        ("a.bias", &[16]),
        ("norm.weight", &[16]),
        ("position_embedding.weight", &[9, 16]),
        ("patch.weight", &[16, 3, 2, 2]),
    ];
    for (i, edit, words) in [
        (0, Edit::Zero, "a.bias is left out"),
        (1, Edit::One, "norm.weight is left out"),
        (1, Edit::Plus, "norm.weight is read as 1 + w"),
        (2, Edit::Rows(1), "one row late: a patch gets the position before its own"),
        (2, Edit::Rows(-1), "one row early: a patch gets the position after its own"),
        (3, Edit::Channels, "reads the channels in the other order"),
    ] {
        layer(Site::VisionOut, Change::Weight(i, edit), bias, words, value());
    }
    // One column of what the MLP adds.
    let plain = given(Site::Out, 0, &[24, 16]);
    let without = value();
    let got = plain.truth.iter().enumerate().map(|(i, t)| if i % 16 == 3 { t + 0.02 * (t - without[i]) } else { *t });
    let got: Vec<f64> = got.collect();
    let fake = Fake {
        change: Change::Without(Branch::Mlp),
        value: without.clone(),
        truth: plain.truth.clone(),
        tensors: vec![],
    };
    Given { again: Some(fake), ..given(Site::Out, 0, &[24, 16]) }
        .says("output 3 of the MLP is 1.02000 times what it should be", got);
    // A head that the output projection does not read; logits of another row.
    let mix = random(24 * 16, 31);
    let mut without = ArrayD::from_shape_vec(vec![24, 16], mix.clone()).unwrap();
    without.indexed_iter_mut().for_each(|(i, v)| {
        if i[1] / 4 == 2 {
            *v = 0.0
        }
    });
    let change = Change::Instead(Stage::layer(Site::Mix, 0), without);
    let fake = Fake { change, value: value(), truth: plain.truth.clone(), tensors: vec![] };
    let mut out = Given { again: Some(fake), ..plain };
    out.known.insert(Stage::layer(Site::Mix, 0), ArrayD::from_shape_vec(vec![24, 16], mix).unwrap());
    out.known.insert(Stage::layer(Site::Query, 0), ArrayD::zeros(vec![4, 24, 4]));
    out.says("the output projection does not read head 2", value());
    let norm = ArrayD::from_shape_vec(vec![5, 4], random(20, 32)).unwrap();
    let rolled = ArrayD::from_shape_fn(vec![5, 4], |i| norm[[(i[0] + 4) % 5, i[1]]]);
    let mut logits = Given { at: Stage::once(Site::Logits), ..given(Site::Out, 0, &[64]) };
    let other = random(64, 33);
    let fake = Fake {
        change: Change::Instead(Stage::once(Site::Norm), rolled),
        value: other.clone(),
        truth: logits.truth.clone(),
        tensors: vec![],
    };
    logits.known.insert(Stage::once(Site::Norm), norm);
    Given { again: Some(fake), ..logits }.says("these are the logits of row 3; the prompt's last row is 4", other);
}

#[test]
fn d11_14_pixels_on_another_line_are_named() {
    let pixels = given(Site::Pixels, 0, &[1, 1, 3, 16, 16]);
    let a = 255.0 / 256.0;
    pixels.says("divided by 256 in place of 255", pixels.truth.iter().map(|t| a * t + a - 1.0).collect());
    pixels.says("not divided by 255", pixels.truth.iter().map(|t| 255.0 * t + 254.0).collect());
    pixels.says("another mean or standard deviation", pixels.truth.iter().map(|t| 1.9 * t + 0.3).collect());
}

#[test]
fn e11_2_rivals_are_named_together() {
    let plain = given(Site::Out, 0, &[24, 16]);
    let value: Vec<f64> = plain.truth.iter().zip(random(384, 21)).map(|(t, r)| t + 0.1 * r).collect();
    struct Two(Vec<f64>, Vec<f64>);
    impl Again for Two {
        fn again(&self, _: Stage, change: &Change) -> Option<Vec<f64>> {
            let gelu = matches!(change, Change::Function(Activation::GeluErf | Activation::GeluTanh));
            Some(if gelu { self.0.clone() } else { self.1.clone() })
        }
        fn tensors(&self, _: Stage) -> Vec<Tensor> {
            vec![]
        }
        fn epsilon(&self, _: Stage) -> Option<f64> {
            None
        }
    }
    let two = Two(value.clone(), plain.truth.clone());
    let name = plain.at.name();
    let layout = Layout::of(&name, &plain.shape);
    let off: Vec<f64> = plain.truth.iter().zip(random(384, 3)).map(|(t, r)| t + 1e-7 * r).collect();
    let noise = Some(Errors::of(layout, &plain.truth, &off, None));
    let (shape, truth) = (&plain.shape[..], &plain.truth[..]);
    let precision = Precision::Fast;
    let numbers = Numbers {
        name: &name,
        shape,
        truth,
        got: &value,
        noise,
        rotated: false,
        precision,
        heads: 1,
        independent: true,
        drift: None,
    };
    let facts = Facts {
        at: plain.at,
        numbers: &numbers,
        slack: None,
        rotation: None,
        known: &|_| None,
        alike: vec![],
        roles: None,
        again: Some(&two),
        halves: vec![],
        drift: None,
    };
    let told = named(&facts, |_| {}).unwrap();
    assert_eq!(told, "the activation is gelu (with the error function), or the activation is gelu_pytorch_tanh");
}
