//! A table of reference hashes, equal on every machine, that anybody can check. For each sample, policy and precision
//! it has hashes of the input, numbers, kept entries and answers: of the demo model, and of a toy of each family with
//! random weights.
//!
//! The table is `demo/hashes.txt` and `family/hashes.txt`, written on one machine. [`run`] computes the hashes again; [`differences`] reports
//! the first stage of each run that differs. The table checks that the bits are equal; goldens check that the numbers
//! are right.

use crate::demo;
use crate::error::{Error, Result};
use crate::family::{self, Family, Outline, Profile};
use crate::generate::{self, Until};
use crate::input::{GivenImage, Image, Prepared};
use crate::model::Model;
use crate::num::{Grid, Random, Real};
use crate::pass::{Pass, Precision, Way, Work};
use crate::policy::{Policy, Retain};
use crate::processor::Processor;
use crate::sample::{Sampler, Sampling};
use ndarray::{ArrayD, ArrayView2};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The table of the reference machine.
pub const TABLE: &str = concat!(include_str!("demo/hashes.txt"), include_str!("family/hashes.txt"));

/// The table of runs in bf16 whose linear layers add in the order of a matrix unit (E3.16): the demo model alone.
pub const TILES: &str = include_str!("demo/tiles.txt");

/// The stages that are hashed, in causal order.
pub const STAGES: [&str; 4] = ["input", "prefill", "kept", "output"];

/// The bundled images that are read.
pub const SAMPLES: [&str; 4] = ["00", "07", "18", "31"];
const POLICIES: [(&str, &str); 6] =
    [("full", "1"), ("aircache", "0.3"), ("aircache", "0.05"), ("snapkv", "0.1"), ("h2o", "0.2"), ("prefixkv", "0.2")];
const NEW_TOKENS: usize = 6;

/// A run and its hashes, one for each stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Sample, policy, retention, precision.
    pub run: String,
    /// The first 16 digits of each stage's sha-256.
    pub hashes: [String; 4],
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.run, self.hashes.join(" "))
    }
}

/// Reads the lines of a table.
///
/// # Errors
/// A line has another form.
pub fn read(table: &str) -> Result<Vec<Line>> {
    let line = |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        let (run, hashes) = words.split_at_checked(4)?;
        Some(Line { run: run.join(" "), hashes: <[&str; 4]>::try_from(hashes).ok()?.map(str::to_owned) })
    };
    let lines = table.lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| line(l).ok_or_else(|| Error::new("hashes", "a run and four hashes", l))).collect()
}

/// The names of all samples: the bundled images, and the families' toys.
///
/// # Errors
/// As [`family::toys`].
pub fn samples() -> Result<Vec<&'static str>> {
    Ok(SAMPLES.into_iter().chain(family::toys()?.into_iter().map(|(name, _)| name)).collect())
}

/// Computes the runs on some [`samples`] now, with the current kernels and threads.
///
/// # Errors
/// There is no such sample; any other error is a bug.
pub fn run(samples: &[String]) -> Result<Vec<Line>> {
    lines(samples, &Precision::ALL.map(|precision| (precision, Way::default())))
}

/// Computes the runs of [`TILES`] on some bundled images now, on the matrix unit if this machine has one. Spec: C3.16a
///
/// # Errors
/// As [`run`].
pub fn run_in_tiles(samples: &[String]) -> Result<Vec<Line>> {
    lines(samples, &[(Precision::Bf16, Way { tiles: true, ..Way::default() })])
}

fn lines(samples: &[String], kinds: &[(Precision, Way)]) -> Result<Vec<Line>> {
    let demo = Model::load(&demo::files())?;
    let processor = Processor::load(&demo::files(), &demo.config)?;
    let toys = family::toys()?;
    let mut lines = Vec::new();
    for sample in samples {
        let toy = toys.iter().find(|(name, _)| name == sample).map(|(_, family)| toy(family)).transpose()?;
        let (model, prompt, tail) = match &toy {
            Some((model, prompt)) => (model, prompt.clone(), 0),
            None => {
                let (prompt, tail) = read_sample(&processor, sample)?;
                (&demo, prompt, tail)
            }
        };
        for &(precision, way) in kinds {
            lines.extend(precision.run(Runs { model, prompt: &prompt, tail, sample, precision, way })?);
        }
    }
    Ok(lines)
}

/// The prompt of a bundled image, and how many rows the template puts after the question.
fn read_sample(processor: &Processor, sample: &str) -> Result<(Prepared, usize)> {
    let absent = || Error::new("sample", "a bundled image with a question", sample);
    let picture = demo::sample(sample).ok_or_else(absent)?;
    let asked = demo::questions().iter().find(|q| q.sample() == picture.name).ok_or_else(absent)?;
    let image = Image::from_bytes(picture.png, picture.name)?;
    let prompt = processor.prepare(&[image], &asked.question, asked.system.as_deref())?;
    let tail = processor.tail(&prompt, &asked.question);
    Ok((prompt, tail))
}

/// A family's toy with random weights, and a prompt of two images with random pixels.
fn toy(family: &Arc<dyn Family>) -> Result<(Model, Prepared)> {
    let Profile { pixels: layout, tower, image_token, .. } = family.profile();
    let mut random = Random::new(7);
    let mut image = |side: usize| {
        let grid = layout.has_grids().then_some([1, 4, 2 * side]);
        let size = (4 * tower.patch, 2 * side * tower.patch);
        let tiles = family.packing(&Outline { size, grid, of: 2, frames: None, most: None })?.tiles;
        let shape = layout.shape(grid.map_or(tiles, |grid| grid.iter().product()));
        let pixels = ArrayD::from_shape_simple_fn(shape, || random.unit() as f32 * 2.0 - 1.0);
        Ok(GivenImage { pixels, size, grid })
    };
    let images = vec![image(4)?, image(6)?];
    let ids = [1, 2, image_token, 3, 4, image_token, 5, 6, 7, 8, 9];
    let prompt = Prepared::from_ids(&**family, &ids, images)?;
    Ok((Model::invented(family.clone(), Grid::Native)?, prompt))
}

/// Every policy on one sample at one precision.
struct Runs<'a> {
    model: &'a Model,
    prompt: &'a Prepared,
    tail: usize,
    sample: &'a str,
    precision: Precision,
    way: Way,
}

impl Work for Runs<'_> {
    type Output = Result<Vec<Line>>;

    fn run<T: Real>(self) -> Self::Output {
        let Runs { model, prompt, tail, sample, precision, way } = self;
        let policies: Vec<(Policy, Retain)> = POLICIES
            .iter()
            .map(|(policy, retain)| Ok((policy.parse::<Policy>()?.with_tail(tail), retain.parse()?)))
            .collect::<Result<_>>()?;
        let mut pass = Pass::<T>::new(precision.grid()).by(way);
        let prefilled =
            generate::prefill(model, &mut pass, prompt, &policies.iter().map(|p| p.0.clone()).collect::<Vec<_>>())?;

        let input = hash(|h| {
            prompt.ids.iter().for_each(|id| h.update(id.to_le_bytes()));
            prompt.images.iter().flat_map(|image| &image.pixels).for_each(|v| h.update(v.to_le_bytes()));
        });
        let all = |h: &mut Sha256, cache: &crate::cache::Cache<T>| {
            for head in cache.layers.iter().flatten() {
                numbers(h, head.keys().view());
                numbers(h, head.values().view());
            }
        };
        let prefill = hash(|h| {
            all(h, &prefilled.cache);
            h.update(bytemuck::cast_slice::<T, u8>(&prefilled.logits));
        });
        let line = |((policy, retain), (name, written)): (&(Policy, Retain), &(&str, &str))| {
            let plan = prefilled.plan(policy, *retain)?;
            let kept =
                hash(|h| plan.kept.iter().flatten().flatten().for_each(|row| h.update((*row as u64).to_le_bytes())));
            let mut evicted = prefilled.clone();
            evicted.evict(&plan, precision.grid());
            let until = Until { stop: Vec::new(), max_new_tokens: NEW_TOKENS };
            let mut greedy = Sampler::new(Sampling::Greedy)?;
            let mut pass = Pass::<T>::new(precision.grid()).by(way);
            let each = |_| ControlFlow::Continue(());
            let tokens = generate::decode(model, &mut pass, &mut evicted, &mut greedy, &until, each)?;
            let output = hash(|h| {
                tokens.iter().for_each(|id| h.update(id.to_le_bytes()));
                all(h, &evicted.cache);
            });
            let tiles = if way.tiles { "/tiles" } else { "" };
            let run = format!("{sample} {name} {written} {}{tiles}", precision.bundle_name());
            Ok(Line { run, hashes: [input.clone(), prefill.clone(), kept, output] })
        };
        policies.iter().zip(&POLICIES).map(line).collect()
    }
}

fn numbers<T: Real>(hash: &mut Sha256, array: ArrayView2<'_, T>) {
    array.outer_iter().for_each(|row| hash.update(bytemuck::cast_slice::<T, u8>(&row.to_vec())));
}

fn hash(fill: impl FnOnce(&mut Sha256)) -> String {
    let mut hash = Sha256::new();
    fill(&mut hash);
    hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// A run whose numbers differ from the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Sample, policy, retention, precision.
    pub run: String,
    /// The first stage that differs.
    pub stage: &'static str,
    /// The hash of this stage in the table.
    pub expected: String,
    /// The hash of this stage now.
    pub got: String,
}

/// The differences between `now` and `table`: the first stage of each run that differs. If a run exists in only one of
/// the two, its first difference is the input.
pub fn differences(table: &[Line], now: &[Line]) -> Vec<Difference> {
    let none = |run: &str| Line { run: run.to_owned(), hashes: ["none"; 4].map(str::to_owned) };
    let find = |lines: &[Line], run: &str| lines.iter().find(|l| l.run == run).cloned().unwrap_or_else(|| none(run));
    let extra = now.iter().filter(|l| table.iter().all(|t| t.run != l.run));
    let differs = |line: &Line| {
        let (expected, got) = (find(table, &line.run), find(now, &line.run));
        let at = (0..STAGES.len()).find(|&i| expected.hashes[i] != got.hashes[i])?;
        let [expected, got] = [expected, got].map(|line| line.hashes[at].clone());
        Some(Difference { run: line.run.clone(), stage: STAGES[at], expected, got })
    };
    table.iter().chain(extra).filter_map(differs).collect()
}
