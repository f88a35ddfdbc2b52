//! Every sentence of T11.1 that plain numbers give: said of a candidate with the mistake, and not said where the same
//! candidate has another error as well.

mod attentions;
mod layers;
mod places;

use super::attend::{Attend, Sees};
use super::bits::BITS;
use super::bits::e4m3;
use super::facts::{Again, Change, Edit, Facts, Rotation, Tensor};
use super::named;
use super::reads::read;
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
            honest: &|_, _| None,
            drift: None,
        };
        named(&facts, |_| {}).cause.unwrap_or_default()
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
    out.says("everything is 1.03000 times the truth", out.truth.iter().map(|t| t * 1.03).collect());
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
        "head 2 is 1.02000 times the truth",
        key.truth.iter().enumerate().map(|(i, t)| if i >= 2 * 24 * 16 { t * 1.02 } else { *t }).collect(),
    );
    let query = given(Site::Query, 0, &[3, 24, 16]);
    query.says("queries are scaled by 1/√d_h", query.truth.iter().map(|t| t / 4.0).collect());
    let mut importance = given(Site::Importance, 0, &[40]);
    importance.truth.iter_mut().for_each(|t| *t = t.abs());
    importance.known.insert(Stage::layer(Site::Query, 0), ArrayD::zeros(vec![6, 24, 16]));
    let times = |factor: f64| importance.truth.iter().map(|t| t * factor).collect::<Vec<f64>>();
    importance.says("one of 6 heads is left out", times(5.0 / 6.0));
    importance.says("a sum over 6 heads in place of the mean", times(6.0));
    importance.says("divided by 6 heads once too often", times(1.0 / 6.0));
    let log2e = std::f64::consts::LOG2_E;
    query.says("queries are scaled by log₂e/√d_h", query.truth.iter().map(|t| t * log2e / 4.0).collect());
    let mix = given(Site::Mix, 0, &[24, 16]);
    let share = |i: usize| (i / 16 + 1) as f64 / (i / 16 + 1).next_multiple_of(16) as f64;
    let padded = mix.truth.iter().enumerate().map(|(i, t)| t * share(i)).collect();
    mix.says("every row is divided by too much: padding of the last tile of 16 keys", padded);
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
    let memory = (0..1152).map(|i| key.truth[(i / 16 % 3 * 24 + i / 48) * 16 + i % 16]).collect();
    key.says("[n, heads, d_h] under the shape [heads, n, d_h]: a view that is not contiguous was saved", memory);
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
    key.rotation.as_ref().unwrap().turn(Layout::of(&key.at.name(), &key.shape), &mut v, 1.0);
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
    let layout = Layout::of(&key.at.name(), &key.shape);
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
    let mut x = image.truth.clone();
    rotation
        .turn_by(layout, &mut x, |row, pair| (row / 5) as f64 * rotation.frequencies[pair] - rotation.angle(row, pair));
    image.says("all pairs are rotated by the position of pair 0", x);
    let mut step = given(Site::StepQuery, 0, &[4, 16]);
    step.rotation =
        Some(Rotation { frequencies: key.rotation.as_ref().unwrap().frequencies.clone(), positions: vec![300; 8] });
    let mut x = step.truth.clone();
    let rotation = step.rotation.as_ref().unwrap();
    rotation.turn_by(Layout::of(&step.at.name(), &step.shape), &mut x, |_, pair| -153.0 * rotation.frequencies[pair]);
    step.says("the token stands at position 147; its own is 300", x);
}

#[test]
fn d11_14_pixels_on_another_line_are_named() {
    let pixels = given(Site::Pixels, 0, &[1, 1, 3, 16, 16]);
    let a = 255.0 / 256.0;
    pixels.says("divided by 256 in place of 255", pixels.truth.iter().map(|t| a * t + a - 1.0).collect());
    pixels.says("not divided by 255", pixels.truth.iter().map(|t| 255.0 * t + 254.0).collect());
    pixels.says("another mean or standard deviation", pixels.truth.iter().map(|t| 1.9 * t + 0.3).collect());
}
