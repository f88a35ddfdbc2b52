//! Models: wiring only. A family says how its pixels become visual rows; everything else is shared.

mod invented;
mod survey;

pub use survey::Survey;

use crate::config::GenerationConfig;
use crate::decoder::Decoder;
use crate::error::{Result, ensure};
use crate::family::{self, Encoder, Family};
use crate::files::Files;
use crate::input::Prepared;
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::stage::{Site, Stage};
use crate::vision;
use crate::weights::{Checkpoint, Names};
use ndarray::Array2;
use std::sync::Arc;

/// A loaded model: its weights stay where they are, mapped or embedded.
///
/// ```
/// let model = aircache::model::Model::load(&aircache::demo::files())?;
/// assert_eq!(model.config.name(), "llava_onevision");
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    /// What `config.json` says.
    pub config: Arc<dyn Family>,
    /// What `generation_config.json` says, and the family's own code.
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
    /// A file that is missing or damaged, a configuration that is not supported, a tensor that is missing or has another
    /// shape or type than the configuration says.
    pub fn load(files: &Files) -> Result<Self> {
        Self::load_if(files, |_| Ok(()))
    }

    /// The same, unless `refuse` does so of the opened checkpoint: what a model will take is known before it is made.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of `refuse`.
    pub fn load_if(files: &Files, refuse: impl FnOnce(&Checkpoint) -> Result<()>) -> Result<Self> {
        let config = family::load(files)?;
        let generation = generation(files, Some(&*config))?;
        let checkpoint = Checkpoint::open(files)?;
        refuse(&checkpoint)?;
        Self::wired(config, generation, checkpoint)
    }

    /// The model in a type: itself where its weights are in that type, else a copy of it. Spec: R10.4
    ///
    /// # Errors
    /// None that a model which was loaded can cause.
    pub fn rounded(&self, grid: Grid) -> Result<Rounded<'_>> {
        let Some(checkpoint) = self.checkpoint.rounded(grid) else { return Ok(Rounded::Same(self)) };
        Self::wired(self.config.clone(), self.generation.clone(), checkpoint).map(Box::new).map(Rounded::Copy)
    }

    fn wired(config: Arc<dyn Family>, generation: GenerationConfig, checkpoint: Checkpoint) -> Result<Self> {
        let (decoder, encoder) = parts(&*config, &Names::new(&checkpoint, config.profile().names))?;
        Ok(Model { config, generation, decoder, checkpoint, encoder })
    }

    /// Bytes of memory that a prompt of this model needs at the least, in f32: its weights, keys and values of all rows,
    /// the rows that a layer works on, and several times its pixels for the vision side.
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

    /// The visual rows of the prompt's images, in prompt order: [n_v, d]. Spec: E5.1–E5.15
    pub fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        let rows = match prompt.images.is_empty() {
            false => self.encoder.encode(pass, prompt),
            // A prompt that came without pixels has no rows, unless a replay knows the rows alone.
            true => Array2::from_elem((prompt.roles.visual().len(), self.config.text().hidden), T::ZERO),
        };
        if rows.is_empty() { rows } else { pass.put(Stage::once(Site::Projected), rows) }
    }

    /// The prompt's embeddings with the visual rows in their places: ids: \[n\], visual: [n_v, d] → [n, d].
    /// Spec: E6.1, R6.1
    ///
    /// # Errors
    /// Where the prompt has another number of visual rows than `visual`.
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

/// How to generate: what the files say, and where they name one, what ends an answer in the family's own code.
fn generation(files: &Files, family: Option<&dyn Family>) -> Result<GenerationConfig> {
    let mut found = GenerationConfig::load(files)?;
    let end = family.map_or(Ok(None), |family| family.end(files))?;
    found.eos.extend(end.filter(|end| !found.eos.contains(end)));
    Ok(found)
}

/// A model in the type of a run.
#[derive(Debug)]
pub enum Rounded<'a> {
    /// As it was loaded.
    Same(&'a Model),
    /// With weights of its own, each rounded to the type.
    Copy(Box<Model>),
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

/// Takes everything that a model needs from a checkpoint.
fn parts(config: &dyn Family, names: &Names<'_>) -> Result<(Decoder, Box<dyn Encoder>)> {
    Ok((Decoder::load(names, config.text())?, config.encoder(names)?))
}
