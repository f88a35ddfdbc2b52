//! Models with random weights, for measurements.

use super::{Model, parts};
use crate::config::GenerationConfig;
use crate::error::Result;
use crate::family::Family;
use crate::files::Files;
use crate::num::Grid;
use crate::weights::{Checkpoint, Names};
use std::sync::Arc;

impl Model {
    /// A model of this configuration with random weights, stored in f32 (native) or in a 16-bit type.
    ///
    /// # Errors
    /// A configuration that was read without errors causes no error here.
    pub fn invented(config: Arc<dyn Family>, stored: Grid) -> Result<Model> {
        let checkpoint = Checkpoint::empty("random weights");
        let names = Names::new(&checkpoint, config.profile().names).inventing(stored);
        let (decoder, encoder) = parts(&*config, &names)?;
        let generation = GenerationConfig::load(&Files::Embedded(&[]))?;
        Ok(Model { config, generation, decoder, checkpoint, encoder })
    }

    /// Bytes of the weights that [`invented`](Self::invented) would make.
    ///
    /// # Errors
    /// A configuration that was read without errors causes no error here.
    pub fn invented_bytes(config: &dyn Family, stored: Grid) -> Result<u64> {
        let checkpoint = Checkpoint::empty("random weights");
        parts(config, &Names::new(&checkpoint, config.profile().names).counting(stored))?;
        Ok(checkpoint.bytes())
    }
}
