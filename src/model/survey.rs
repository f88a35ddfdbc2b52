//! A check of a checkpoint that does not stop at the first error. It computes nothing with the weights.

use super::{generation, parts};
use crate::config::GenerationConfig;
use crate::error::Error;
use crate::family::{self, Family};
use crate::files::Files;
use crate::weights::{Checkpoint, Names, shards};
use std::sync::{Arc, Mutex, PoisonError};

/// The contents of a checkpoint, and all errors for which [`Model::load`](super::Model::load) would refuse the
/// checkpoint.
#[derive(Debug)]
pub struct Survey {
    /// The configuration, if it has no errors.
    pub config: Option<Arc<dyn Family>>,
    /// The generation settings, if they have no errors.
    pub generation: Option<GenerationConfig>,
    /// The weights, if they can be opened. [`Checkpoint::unused`] then lists the tensors that the model would not use.
    pub checkpoint: Option<Checkpoint>,
    /// The errors. If the configuration has errors, the tensors are not compared with the configuration.
    pub problems: Vec<Error>,
}

impl Survey {
    /// Checks everything except the values of the weights.
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
