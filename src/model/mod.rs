//! Models: this module only connects the parts. A family defines how pixels become visual rows; all other parts are
//! shared by all families.

mod invented;
mod survey;

pub use survey::Survey;

use crate::config::GenerationConfig;
use crate::decoder::{Decoder, Told};
use crate::error::{Result, ensure};
use crate::family::{self, Encoder, Family};
use crate::files::Files;
use crate::input::Prepared;
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::policy::{Rater, merged};
use crate::stage::{Site, Stage};
use crate::vision;
use crate::weights::{Checkpoint, Names};
use ndarray::{Array2, Axis};
use std::sync::Arc;

/// The visual rows of a prompt.
#[derive(Debug, Clone)]
pub struct Visual<T> {
    /// The rows that enter the first decoder layer: [n_v, d].
    pub rows: Array2<T>,
    /// The rows that are added after the first decoder layers: entry l, [n_v, d], after layer l. Spec: E6.18
    pub deepstack: Vec<Array2<T>>,
    /// What rows of the vision tower give to each visual row: \[n_v\]; empty if none rate. Spec: E9.30, E9.31
    pub votes: Vec<T>,
    /// The keys of the visual rows: [n_v, d_h]; no columns if nobody asks for them. Spec: E9.35
    pub metric: Array2<T>,
    /// What the projector reads of each visual row, [n_v, width], if sums of rows go through it. Spec: E9.36
    pub read: Option<Array2<T>>,
}

impl<T: Real> Visual<T> {
    /// What is known of the rows before the decoder.
    pub fn told(&self) -> Told<'_, T> {
        Told { rows: self.rows.view(), votes: &self.votes, metric: self.metric.view() }
    }
}

/// A loaded model. Its weights stay in place: in the mapped files or in the binary.
///
/// ```
/// let model = aircache::model::Model::load(&aircache::demo::files())?;
/// assert_eq!(model.config.name(), "llava_onevision");
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    /// The contents of `config.json`.
    pub config: Arc<dyn Family>,
    /// The settings of `generation_config.json`, and the end token from the family's own code.
    pub generation: GenerationConfig,
    /// The language model.
    pub decoder: Decoder,
    /// The checkpoint's tensors.
    pub checkpoint: Checkpoint,
    encoder: Box<dyn Encoder>,
}

impl Model {
    /// Loads a checkpoint folder, or the embedded demo model's files.
    ///
    /// # Errors
    /// A file is missing or damaged, the configuration is not supported, or a tensor is missing or has a shape or type
    /// that differs from the configuration.
    pub fn load(files: &Files) -> Result<Self> {
        Self::load_if(files, |_| Ok(()))
    }

    /// Loads a model as [`load`](Self::load) does, unless `refuse` returns an error for the opened checkpoint. `refuse`
    /// can check the memory that the model needs before the model is made.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load) and of `refuse`.
    pub fn load_if(files: &Files, refuse: impl FnOnce(&Checkpoint) -> Result<()>) -> Result<Self> {
        let config = family::load(files)?;
        let generation = generation(files, Some(&*config))?;
        let checkpoint = Checkpoint::open(files)?;
        refuse(&checkpoint)?;
        Self::wired(config, generation, checkpoint)
    }

    /// The model with its weights rounded to a type: the model itself if rounding changes no weight, else a rounded
    /// copy. Spec: R10.4
    ///
    /// # Errors
    /// A model that was loaded without errors causes no error here.
    pub fn rounded(&self, grid: Grid) -> Result<Rounded<'_>> {
        self.rounded_where(grid, |_| true)
    }

    /// As [`rounded`](Self::rounded), but norms and biases keep the checkpoint's type, as GGUF files keep them; the
    /// model itself if that is the same as rounding everything. Spec: D10.1
    ///
    /// # Errors
    /// As [`rounded`](Self::rounded).
    pub fn rounded_matrices(&self, grid: Grid) -> Result<Rounded<'_>> {
        let vectors = self.checkpoint.tensors().filter(|t| t.shape.len() == 1);
        if vectors.into_iter().all(|t| !crate::weights::rounding_changes(grid, t.dtype)) {
            return Ok(Rounded::Same(self));
        }
        self.rounded_where(grid, |shape| shape.len() > 1)
    }

    fn rounded_where(&self, grid: Grid, which: impl Fn(&[usize]) -> bool) -> Result<Rounded<'_>> {
        let Some(checkpoint) = self.checkpoint.rounded(grid, which) else { return Ok(Rounded::Same(self)) };
        Self::wired(self.config.clone(), self.generation.clone(), checkpoint).map(Box::new).map(Rounded::Copy)
    }

    /// The model with other numbers in one tensor of its checkpoint.
    ///
    /// # Errors
    /// No tensor has this name, or `data` has another size.
    pub(crate) fn with(&self, tensor: &str, data: &[u8]) -> Result<Model> {
        Self::wired(self.config.clone(), self.generation.clone(), self.checkpoint.with(tensor, data)?)
    }

    fn wired(config: Arc<dyn Family>, generation: GenerationConfig, checkpoint: Checkpoint) -> Result<Self> {
        let (decoder, encoder) = parts(&*config, &Names::new(&checkpoint, config.profile().names))?;
        Ok(Model { config, generation, decoder, checkpoint, encoder })
    }

    /// The minimum number of bytes of memory that a prompt needs with this model in f32: the weights, the keys and
    /// values of all rows, the rows that a layer works on, and several copies of the pixels for the vision side.
    pub fn forecast(&self, prompt: Option<&Prepared>) -> u64 {
        let c = self.config.text();
        let rows = prompt.map_or(0, |p| p.ids.len());
        let cache = 2 * c.layers * c.kv_heads * c.head_dim;
        let layer = 3 * c.hidden + 2 * c.intermediate + (2 * c.heads + c.kv_heads) * c.head_dim;
        let images = prompt.map_or(&[][..], |p| &p.images);
        let pixels: usize = images.iter().map(|image| image.pixels.len()).sum();
        let sizes = self.config.profile().tower;
        let patches = images.iter().map(|i| vision::rows_at_once(i.pixels.shape(), sizes.patch)).max().unwrap_or(0);
        let tower = patches as u64 * (6 * sizes.hidden + sizes.intermediate) as u64;
        self.checkpoint.bytes() + 4 * (rows as u64 * (cache + layer) as u64 + 8 * pixels as u64 + tower)
    }

    /// Whether the vision tower can rate visual rows in this way. Spec: D9.10, C9.10c
    ///
    /// # Errors
    /// The tower has no class token, or no layer.
    pub fn rates(&self, by: Rater) -> Result<()> {
        let (tower, name) = (self.config.profile().tower, self.config.name());
        let at = format!("policy: prune={}", by.word());
        let none = format!("the vision tower of {name}, which has none");
        let remedy = "use prune=dominant, which takes the attention that each row receives (E9.31)";
        ensure!(tower.class || by != Rater::Class, at, "a vision tower with a class token", none, remedy);
        let rated = by.in_tower(tower.class).is_some();
        ensure!(tower.used > 0 || !rated, at, "a vision tower with a layer", format!("features of {name} before it"));
        Ok(())
    }

    /// The visual rows of the prompt's images, the rows that DeepStack adds to them, and what rows of the tower give to
    /// them if the rater reads the tower, in prompt order. Spec: E5.1–E5.20, E9.30, E9.31, E9.35, R9.30
    pub fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, by: Option<Rater>) -> Visual<T> {
        let (d, deepstack, tower) =
            (self.config.text().hidden, self.config.deepstack().len(), self.config.profile().tower);
        let rate = by.and_then(|by| by.in_tower(tower.class));
        let keys = if rate.is_some_and(|rate| rate.keys) { tower.hidden / tower.heads } else { 0 };
        let columns = usize::from(rate.is_some()) + keys;
        let all = match prompt.images.is_empty() {
            false => self.encoder.encode(pass, prompt, rate),
            // A prompt without pixels has no visual rows. The exception is a replay that knows only the visual rows.
            true => Array2::from_elem((prompt.roles.visual().len(), d * (1 + deepstack) + columns), T::ZERO),
        };
        let (all, beside) = all.view().split_at(Axis(1), d * (1 + deepstack));
        let (ratings, read) = beside.split_at(Axis(1), columns);
        let (votes, metric) = ratings.split_at(Axis(1), columns - keys);
        let mut parts = all.axis_chunks_iter(Axis(1), d).map(|part| part.to_owned());
        let rows = parts.next().unwrap_or_default();
        if rows.is_empty() {
            return Visual { rows, deepstack: vec![], votes: vec![], metric: metric.to_owned(), read: None };
        }
        let grid = if pass.way.fused { Grid::Native } else { pass.grid };
        let votes = votes.iter().map(|&vote| grid.round(vote)).collect();
        let metric = pass.store(metric.to_owned());
        let read = (!read.is_empty()).then(|| pass.store(read.to_owned()));
        let rows = pass.put(Stage::once(Site::Projected), rows);
        let put = |(layer, rows)| pass.put(Stage::layer(Site::Deepstack, layer), rows);
        Visual { rows, deepstack: parts.enumerate().map(put).collect(), votes, metric, read }
    }

    /// The contextual rows, [targets, d]. into: the destination of each visual row. Spec: E9.36, R9.36
    pub fn contextual<T: Real>(&self, pass: &Pass<'_, T>, visual: &Visual<T>, into: &[usize]) -> Array2<T> {
        match &visual.read {
            Some(read) => self.encoder.project(pass, merged(read.view(), into, pass.grid)),
            None => merged(visual.rows.view(), into, pass.grid), // A9.18
        }
    }

    /// The prompt's embeddings, with the visual rows at the visual positions. ids: \[n\], visual: [n_v, d] → [n, d].
    /// Spec: E6.1, R6.1
    ///
    /// # Errors
    /// The number of visual rows in the prompt differs from the number of rows of `visual`.
    pub fn merge<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, visual: Array2<T>) -> Result<Array2<T>> {
        let rows = prompt.roles.visual();
        ensure!(
            rows.len() == visual.nrows(),
            "prompt",
            format!("as many image placeholders as the images have rows, {}", visual.nrows()),
            rows.len()
        );
        let mut x = self.decoder.embed(&prompt.ids);
        for (&row, from) in rows.iter().zip(visual.outer_iter()) {
            x.row_mut(row).assign(&from);
        }
        Ok(pass.put(Stage::once(Site::Embed), x))
    }
}

/// The generation settings: the settings in the files, plus the end token of the family's own code if the checkpoint
/// names a conversation template from that code.
fn generation(files: &Files, family: Option<&dyn Family>) -> Result<GenerationConfig> {
    let mut found = GenerationConfig::load(files)?;
    let end = family.map_or(Ok(None), |family| family.end(files))?;
    found.eos.extend(end.filter(|end| !found.eos.contains(end)));
    Ok(found)
}

/// A model whose weights are in the type of a run.
#[derive(Debug)]
pub enum Rounded<'a> {
    /// The model as it was loaded.
    Same(&'a Model),
    /// A copy with its own weights, each rounded to the type.
    Copy(Box<Model>),
}

impl Rounded<'_> {
    /// Whether rounding changed a weight.
    pub fn is_copy(&self) -> bool {
        matches!(self, Rounded::Copy(_))
    }
}

impl std::ops::Deref for Rounded<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match self {
            Rounded::Same(model) => model,
            Rounded::Copy(model) => model,
        }
    }
}

/// Loads the decoder and the encoder from a checkpoint.
fn parts(config: &dyn Family, names: &Names<'_>) -> Result<(Decoder, Box<dyn Encoder>)> {
    Ok((Decoder::load(names, config.text())?, config.encoder(names)?))
}
