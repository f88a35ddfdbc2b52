//! A look at a checkpoint that does not stop at the first thing wrong with it; nothing is computed.

use super::{generation, parts};
use crate::config::GenerationConfig;
use crate::error::Error;
use crate::family::{self, Family};
use crate::files::Files;
use crate::weights::{Checkpoint, Names, shards};
use std::sync::{Arc, Mutex, PoisonError};

/// What a checkpoint says of itself, and everything for which [`Model::load`](super::Model::load) would refuse it.
#[derive(Debug)]
pub struct Survey {
    /// The configuration, where nothing is wrong with it.
    pub config: Option<Arc<dyn Family>>,
    /// How to generate, where nothing is wrong with that.
    pub generation: Option<GenerationConfig>,
    /// The weights, where they can be opened; [`Checkpoint::unused`] is told what the model would ask for.
    pub checkpoint: Option<Checkpoint>,
    /// What is wrong. Once the configuration is, tensors are not held against it.
    pub problems: Vec<Error>,
}

impl Survey {
    /// Looks at everything but the numbers.
    ///
    /// ```
    /// use aircache::{files::Files, model::Survey};
    /// let files = Files::Embedded(&[(
    ///     "config.json",
    ///     br#"{"model_type": "llava_onevision", "text_config": {"hidden_size": 7.5, "vocab_size": null}}"#,
    /// )]);
    /// let survey = Survey::of(&files);
    /// assert_eq!(survey.problems.len(), 3); // two fields, no weights
    /// ```
    pub fn of(files: &Files) -> Survey {
        let (config, mut problems) = family::survey(files);
        let generation = generation(files, config.as_deref());
        let told = generation.as_ref().err().filter(|e| !problems.contains(e)).cloned();
        problems.extend(told);
        let checkpoint = match Checkpoint::open(files) {
            Ok(checkpoint) => Some(checkpoint),
            Err(e) => {
                let others = shards::missing(files).into_iter().filter(|label| *label != e.at);
                let others: Vec<Error> =
                    others.map(|label| Error::new(label, "a file of weights", "no such file")).collect();
                problems.push(e);
                problems.extend(others);
                None
            }
        };
        if let (Some(config), Some(checkpoint)) = (&config, &checkpoint) {
            let found = Mutex::new(Vec::new());
            let stopped = parts(&**config, &Names::new(checkpoint, config.profile().names).surveying(&found)).err();
            problems.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
            problems.extend(stopped);
        }
        Survey { config, generation: generation.ok(), checkpoint, problems }
    }
}
