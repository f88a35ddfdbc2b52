//! Recording: the flow of [`crate::generate`], with every stage written to a bundle as soon as it is computed.
//!
//! The stages that [`Pass::put`] names come through the [`Recorder`]. [`record`] writes the stages that no pass
//! computes: inputs, decisions, the cache after eviction, the tokens. The target file appears only if nothing failed.
//! Spec: T1.2

use super::recorder::Recorder;
use super::rerun::DENSITY;
use super::stages::{cache, inputs, possible};
use super::{BundleWriter, Selection};
use crate::decoder::Sequence;
use crate::error::Result;
use crate::generate::{self, Until};
use crate::input::Prepared;
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision, Way, Work};
use crate::policy::{Policy, Retain, Scorer, Values};
use crate::sample::{Sampler, Sampling};
use crate::stage::{Site, Stage};
use ndarray::{Array1, Array2};
use std::ops::ControlFlow;

/// What to record, and how to compute it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// How the flow computes, and the type that stages are stored in.
    pub precision: Precision,
    /// The way of the computation.
    pub way: Way,
    /// The type that the cache stores. Spec: D7.4
    pub kv: Grid,
    /// The eviction policy.
    pub policy: Policy,
    /// How many candidates stay: a fraction, or a mean number for each layer.
    pub retain: Retain,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// When generation ends.
    pub until: Until,
    /// Which stages are written.
    pub stages: Selection,
    /// Whether to measure the noise of honest computations and write it beside a truth. This needs several more runs.
    /// Spec: D10.3
    pub noise: bool,
}

impl Recording {
    /// Bytes of the largest rounded copy of a model's weights that the recording makes.
    pub fn rounded_bytes(&self, model: &Model) -> u64 {
        let noisy = self.noise && self.precision == Precision::Truth;
        let types = super::noise::TYPES.into_iter().filter(|_| noisy).chain([self.precision]);
        types.map(|precision| model.checkpoint.rounded_bytes(precision.grid())).max().unwrap_or(0)
    }
}

/// The result of a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The stages written, in the order of the flow.
    pub stages: Vec<String>,
    /// Bytes of their numbers.
    pub bytes: u64,
    /// The tokens generated.
    pub tokens: Vec<u32>,
}

/// Runs a prompt through a model and writes the requested stages to a bundle; `each` is called with every token.
///
/// # Errors
/// A glob selects no stage; errors as of [`generate::prefill`], [`generate::decode`] and [`BundleWriter`]. No file is
/// left.
///
/// ```
/// # #[cfg(feature = "input")] {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("run.safetensors");
/// use aircache::{demo, generate::Until, golden::{Bundle, BundleWriter, Recording, Selection, record}};
/// use aircache::{input::Image, model::Model, pass::Precision, policy::Policy, processor::Processor, sample::Sampling};
/// let model = Model::load(&demo::files())?;
/// let processor = Processor::load(&demo::files(), &model.config)?;
/// let image = Image::from_bytes(demo::samples()[0].png, "sample")?;
/// let prompt = processor.prepare(&[image], "What does the top right box say?", None)?;
/// let how = Recording {
///     precision: Precision::Fast,
///     way: aircache::pass::Way::default(),
///     kv: aircache::num::Grid::Native,
///     policy: Policy::AIRCACHE,
///     retain: "0.3".parse()?,
///     sampling: Sampling::Greedy,
///     until: Until { stop: model.generation.eos.clone(), max_new_tokens: 8 },
///     stages: "policy.*,output.ids".parse()?,
///     noise: false,
/// };
/// record(&model, &prompt, &how, BundleWriter::create(&path)?, |_| std::ops::ControlFlow::Continue(()))?;
/// assert_eq!(Bundle::open(&path)?.i64("policy.budget")?.sum(), 360); // 0.3 · 200 visual tokens · 6 layers
/// # }
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn record(
    model: &Model,
    prompt: &Prepared,
    how: &Recording,
    out: BundleWriter,
    each: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Recorded> {
    how.precision.run(Flow { model, prompt, how, out, each })
}

/// The attention from which elites are chosen: one stage for each layer.
fn attention<T: Real>(sequence: &Sequence<T>, policy: &Policy) -> Result<Vec<(Stage, Values)>> {
    if policy.prunes() {
        return Ok(vec![]);
    }
    let scorer = Scorer::new(policy, &sequence.roles)?;
    let layers = sequence.observed(policy, |l, seen| Ok((l, scorer.text_attention(l, seen)?)))?;
    let stage =
        |(l, a): (usize, Option<Array2<f64>>)| Some((Stage::layer(Site::Attention, l), Values::F64(a?.into_dyn())));
    Ok(layers.into_iter().filter_map(stage).collect())
}

/// The arguments of [`record`].
struct Flow<'a, F> {
    model: &'a Model,
    prompt: &'a Prepared,
    how: &'a Recording,
    out: BundleWriter,
    each: F,
}

impl<F: FnMut(u32) -> ControlFlow<()>> Work for Flow<'_, F> {
    type Output = Result<Recorded>;

    fn run<T: Real>(self) -> Self::Output {
        flow::<T>(self)
    }
}

fn flow<T: Real>(
    Flow { model, prompt, how, out, each }: Flow<'_, impl FnMut(u32) -> ControlFlow<()>>,
) -> Result<Recorded> {
    let original = model;
    let model = &*model.rounded(how.precision.grid())?; // R10.4
    how.stages.check(&possible(model, how.until.max_new_tokens))?;
    let mut sampler = Sampler::new(how.sampling)?;
    let mut out = Recorder::new(out, how.precision, how.stages.clone());
    let (grid, policy) = (how.precision.grid(), how.policy.at(how.retain));

    inputs(&mut out, &*model.config, prompt)?;
    let mut pass = Pass::<T>::watched(grid, &mut out).by(how.way).with_kv(how.kv);
    let mut sequence = generate::prefill(model, &mut pass, prompt, std::slice::from_ref(&policy))?;
    out.check()?;
    let plan = sequence.plan(&policy, how.retain)?;
    for (at, values) in attention(&sequence, &policy)?.into_iter().chain(plan.tensors()) {
        out.values(&at.name(), &values)?;
    }
    if let Some(d) = plan.decisions.as_ref().filter(|_| how.noise && how.policy.budget.reads_rows()) {
        let densities: Vec<f64> = d.layers.iter().map(|l| l.spread).collect();
        out.writer()?.put_f64(DENSITY, &[densities.len()], &densities)?;
    }
    sequence.evict(&plan, grid);
    cache(&mut out, &sequence.cache, &prompt.positions, &how.policy)?;
    let mut pass = Pass::<T>::watched(grid, &mut out).by(how.way).with_kv(how.kv);
    let tokens = generate::decode(model, &mut pass, &mut sequence, &mut sampler, &how.until, each)?;
    out.values(
        &Stage::once(Site::OutputIds).name(),
        &Values::I64(tokens.iter().map(|&t| i64::from(t)).collect::<Array1<_>>().into_dyn()),
    )?;

    let mut metadata = metadata(original, prompt, how);
    let mut noise = 0;
    if how.noise && how.precision == Precision::Truth {
        noise =
            super::noise::measure_all(model, prompt, (policy.clone(), how.retain), (&plan, &tokens), out.writer()?)?;
        metadata.push(("noise", "1".into()));
    }
    let (stages, bytes) = out.finish(metadata)?;
    Ok(Recorded { stages, bytes: bytes + noise, tokens })
}

/// How tokens were chosen, as metadata says it. Spec: T1.3
fn said(sampling: Sampling) -> String {
    match sampling {
        Sampling::Greedy => "greedy".into(),
        Sampling::Draw { temperature, top_k, top_p, seed } => {
            format!("temperature={temperature},top_k={top_k},top_p={top_p},seed={seed}")
        }
    }
}

/// The metadata of the bundle. Spec: T1.3
fn metadata(model: &Model, prompt: &Prepared, how: &Recording) -> Vec<(&'static str, String)> {
    let images: Vec<&str> = prompt.images.iter().map(|i| i.sha256.as_str()).collect();
    vec![
        ("version", "1".into()),
        ("producer", format!("aircache {}", env!("CARGO_PKG_VERSION"))),
        ("family", model.config.name().into()),
        ("model", model.checkpoint.digest()),
        ("precision", how.precision.bundle_name().into()),
        ("policy", serde_json::json!(how.policy).to_string()),
        ("retain", how.retain.to_string()),
        ("prompt", prompt.prompt.clone()),
        ("images", serde_json::json!(images).to_string()),
        ("preprocess", prompt.preprocess.clone()),
        ("sampling", said(how.sampling)),
    ]
}
