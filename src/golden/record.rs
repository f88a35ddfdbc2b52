//! Recording: the flow of [`crate::generate`] with every stage written to a bundle as it is computed.
//!
//! The stages that [`Pass::put`] names come through the [`Recorder`]; what has no place in a pass (inputs, decisions, the
//! cache after eviction, the tokens) is put by [`record`]. Nothing is at the target unless all went well. Spec: T1.2

use super::measure::{Layout, flat};
use super::rows;
use super::stages::{cache, inputs, metadata, possible};
use super::{BundleWriter, Selection};
use crate::decoder::Sequence;
use crate::error::{Error, Result};
use crate::generate::{self, Until};
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Pass, Precision, Tap, Work};
use crate::policy::{Heads, Policy, Retain, Scorer, Values};
use crate::sample::{Sampler, Sampling};
use crate::stage::Stage;
use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayViewD};
use std::ops::ControlFlow;
use std::path::Path;

/// What is to be recorded, and how it is computed.
#[derive(Debug, Clone)]
pub struct Recording {
    /// How the flow computes, and the type that stages are stored in.
    pub precision: Precision,
    /// What evicts.
    pub policy: Policy,
    /// How much stays.
    pub retain: Retain,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// When generation ends.
    pub until: Until,
    /// Which stages are written.
    pub stages: Selection,
    /// Whether the noise of honest computations is measured and written beside a truth: several runs more. Spec: D10.3
    pub noise: bool,
}

/// What was recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The stages written, in the order of the flow.
    pub stages: Vec<String>,
    /// Bytes of their numbers.
    pub bytes: u64,
    /// The tokens generated.
    pub tokens: Vec<u32>,
}

/// Writes the stages it is shown in the type of a precision; a [`Tap`] cannot fail, so the first error waits.
pub struct Recorder {
    writer: BundleWriter,
    precision: Precision,
    selection: Selection,
    stages: Vec<String>,
    bytes: u64,
    failed: Option<Error>,
}

impl Recorder {
    /// A recorder that writes to `target`.
    ///
    /// # Errors
    /// As [`BundleWriter::create`].
    pub fn create(target: &Path, precision: Precision, selection: Selection) -> Result<Recorder> {
        let writer = BundleWriter::create(target)?;
        Ok(Recorder { writer, precision, selection, stages: Vec::new(), bytes: 0, failed: None })
    }

    /// Writes numbers under a name, in the type of the precision, if they are selected. values: row-major.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn numbers<T: Real>(&mut self, name: &str, shape: &[usize], values: impl Iterator<Item = T>) -> Result<()> {
        let layout = Layout::of(name, shape);
        let most = self.selection.rows().filter(|&most| layout.rows > most && rows::may_be_sampled(name));
        match most.filter(|_| self.selection.takes(name)) {
            Some(most) => self.sample(name, shape, most, &values.map(Real::to_f64).collect::<Vec<_>>()),
            None => self.whole(name, shape, values),
        }
    }

    /// Some rows of a stage, which they are, and hashes of all of them. Spec: D10.10
    fn sample(&mut self, name: &str, shape: &[usize], most: usize, values: &[f64]) -> Result<()> {
        let layout = Layout::of(name, shape);
        let chosen = rows::chosen(layout.rows, most);
        let list = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
        self.writer.put_i64(&format!("rows.{name}"), &[chosen.len()], &list(&chosen))?;
        self.writer.put_i64(&format!("shape.{name}"), &[shape.len()], &list(shape))?;
        for (kind, hash) in rows::hashes(values) {
            self.writer.put_u8(&format!("hash.{kind}.{name}"), &[hash.len()], &hash)?;
        }
        let picked = rows::pick(layout, &chosen, values);
        self.whole(name, &rows::shape(layout, shape, chosen.len()), picked.into_iter())
    }

    fn whole<T: Real>(&mut self, name: &str, shape: &[usize], values: impl Iterator<Item = T>) -> Result<()> {
        let precision = self.precision;
        let width = match precision {
            Precision::Truth => 8,
            Precision::Fast => 4,
            Precision::Bf16 | Precision::F16 => 2,
        };
        self.with(name, shape.iter().product::<usize>() * width, |w| match precision {
            Precision::Truth => w.put_f64(name, shape, &values.map(Real::to_f64).collect::<Vec<_>>()),
            Precision::Fast => w.put_f32(name, shape, &values.map(Real::to_f32).collect::<Vec<_>>()),
            Precision::Bf16 => w.put_bf16(name, shape, &values.map(|v| bf16::from_f32(v.to_f32())).collect::<Vec<_>>()),
            Precision::F16 => w.put_f16(name, shape, &values.map(|v| f16::from_f32(v.to_f32())).collect::<Vec<_>>()),
        })
    }

    /// Writes values that have a type of their own.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn values(&mut self, name: &str, values: &Values) -> Result<()> {
        let bytes = match values {
            Values::I64(a) => 8 * a.len(),
            Values::U8(a) => a.len(),
            Values::F64(a) => 8 * a.len(),
        };
        self.with(name, bytes, |w| match values {
            Values::I64(a) => w.put_i64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
            Values::U8(a) => w.put_u8(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
            Values::F64(a) => w.put_f64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()),
        })
    }

    /// Writes pixels, which are f32 in every precision.
    ///
    /// # Errors
    /// As [`BundleWriter::put`].
    pub fn pixels(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        self.with(name, 4 * values.len(), |w| w.put_f32(name, shape, values))
    }

    /// Whether a stage of this name is selected.
    pub fn takes(&self, name: &str) -> bool {
        self.selection.takes(name)
    }

    /// The writer, to put what is no stage.
    ///
    /// # Errors
    /// One that waited.
    pub(super) fn writer(&mut self) -> Result<&mut BundleWriter> {
        self.check()?;
        Ok(&mut self.writer)
    }

    /// Puts the bundle together.
    ///
    /// # Errors
    /// One that waited; as [`BundleWriter::finish`].
    pub fn finish(mut self, metadata: Vec<(&'static str, String)>) -> Result<(Vec<String>, u64)> {
        self.check()?;
        self.writer.finish(metadata)?;
        Ok((self.stages, self.bytes))
    }

    /// Fails with the error that waited.
    fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn with(&mut self, name: &str, bytes: usize, put: impl FnOnce(&mut BundleWriter) -> Result<()>) -> Result<()> {
        if self.selection.takes(name) {
            put(&mut self.writer)?;
            self.bytes += bytes as u64;
            self.stages.push(name.to_string());
        }
        Ok(())
    }
}

impl<T: Real> Tap<T> for Recorder {
    fn wants(&self, at: Stage) -> bool {
        self.failed.is_none() && self.selection.takes(&at.to_string())
    }

    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.failed = self.numbers(&at.to_string(), value.shape(), flat(&value).into_iter()).err();
    }
}

/// Runs a prompt through a model and writes what the recording asks for to `target`; `each` sees every token.
///
/// # Errors
/// A glob that selects no stage; as [`generate::prefill`], [`generate::decode`] and [`BundleWriter`]. No file is left.
///
/// ```
/// # #[cfg(feature = "input")] {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("run.safetensors");
/// use aircache::{demo, generate::Until, golden::{Bundle, Recording, Selection, record}};
/// use aircache::{input::Image, model::Model, pass::Precision, policy::Policy, processor::Processor, sample::Sampling};
/// let model = Model::load(&demo::files())?;
/// let processor = Processor::load(&demo::files(), &model.config)?;
/// let image = Image::from_bytes(demo::samples()[0].png, "sample")?;
/// let prompt = processor.prepare(&[image], "What does the top right box say?", None)?;
/// let how = Recording {
///     precision: Precision::Fast,
///     policy: Policy::AIRCACHE,
///     retain: "0.3".parse()?,
///     sampling: Sampling::Greedy,
///     until: Until { stop: model.generation.eos.clone(), max_new_tokens: 8 },
///     stages: "policy.*,output.ids".parse()?,
///     noise: false,
/// };
/// record(&model, &prompt, &how, &path, |_| std::ops::ControlFlow::Continue(()))?;
/// assert_eq!(Bundle::open(&path)?.i64("policy.budget")?.sum(), 360); // 0.3 · 200 visual tokens · 6 layers
/// # }
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn record(
    model: &Model,
    prompt: &Prepared,
    how: &Recording,
    target: &Path,
    each: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Recorded> {
    how.precision.run(Flow { model, prompt, how, target, each })
}

/// The attention that elites are read off, a stage a layer.
fn attention<T: Real>(sequence: &Sequence<T>, policy: &Policy) -> Result<Vec<(String, Values)>> {
    let scorer = Scorer::new(policy, &sequence.roles)?;
    let layers = sequence.observed(|l, seen| Ok((l, scorer.text_attention(l, seen)?)))?;
    let stage =
        |(l, a): (usize, Option<Array2<f64>>)| Some((format!("policy.{l:02}.attention"), Values::F64(a?.into_dyn())));
    Ok(layers.into_iter().filter_map(stage).collect())
}

/// What [`record`] is given.
struct Flow<'a, F> {
    model: &'a Model,
    prompt: &'a Prepared,
    how: &'a Recording,
    target: &'a Path,
    each: F,
}

impl<F: FnMut(u32) -> ControlFlow<()>> Work for Flow<'_, F> {
    type Output = Result<Recorded>;

    fn run<T: Real>(self) -> Self::Output {
        flow::<T>(self)
    }
}

fn flow<T: Real>(
    Flow { model, prompt, how, target, each }: Flow<'_, impl FnMut(u32) -> ControlFlow<()>>,
) -> Result<Recorded> {
    let (original, rounded) = (model, model.rounded(how.precision.grid())?); // R10.4
    let model = rounded.as_ref().unwrap_or(model);
    how.stages.check(&possible(model, how.until.max_new_tokens))?;
    let mut sampler = Sampler::new(how.sampling)?;
    let mut out = Recorder::create(target, how.precision, how.stages.clone())?;
    let grid = how.precision.grid();

    inputs(&mut out, &*model.config, prompt)?;
    let mut pass = Pass::<T>::watched(grid, &mut out);
    let mut sequence = generate::prefill(model, &mut pass, prompt, &[how.policy])?;
    out.check()?;
    let plan = sequence.plan(&how.policy, how.retain)?;
    for (name, values) in attention(&sequence, &how.policy)?.into_iter().chain(plan.tensors()) {
        out.values(&name, &values)?;
    }
    sequence.cache.compact(&plan.kept);
    cache(&mut out, &sequence.cache, &prompt.positions, how.policy.heads == Heads::Kv)?;
    let mut pass = Pass::<T>::watched(grid, &mut out);
    let tokens = generate::decode(model, &mut pass, &mut sequence, &mut sampler, &how.until, each)?;
    out.values("output.ids", &Values::I64(tokens.iter().map(|&t| i64::from(t)).collect::<Array1<_>>().into_dyn()))?;

    let mut metadata = metadata(original, prompt, how);
    let mut noise = 0;
    if how.noise && how.precision == Precision::Truth {
        noise = super::noise::measure_all(model, prompt, (how.policy, how.retain), (&plan, &tokens), out.writer()?)?;
        metadata.push(("noise", "1".into()));
    }
    let (stages, bytes) = out.finish(metadata)?;
    Ok(Recorded { stages, bytes: bytes + noise, tokens })
}
