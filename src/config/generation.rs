//! `generation_config.json`: the makers' recommended stop tokens and sampling settings.
//!
//! Source: transformers 5.17, `generation/configuration_utils.py`. If the file is missing, the values come from
//! `config.json` (`from_model_config`: the outermost object, then `text_config`).

use super::json::{self, Scope, integer, kind};
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::Value;

/// A checkpoint's settings for generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Ids that end an answer. The list may be empty.
    pub eos: Vec<u32>,
    /// The padding id of batches. The forward pass does not read it.
    pub pad: Option<u32>,
    /// Whether the makers recommend sampling. `run` is greedy unless an option selects sampling.
    pub do_sample: bool,
    /// Divisor of the logits before sampling, > 0. The value 1 changes nothing.
    pub temperature: f64,
    /// Sampling uses only this number of most probable ids; 0 = all.
    pub top_k: usize,
    /// Sampling uses only the most probable ids up to this probability mass, 0 < p ≤ 1; 1 = all.
    pub top_p: f64,
    /// The faults of temperature, `top_k` and `top_p`, which only sampling reads. A field with a fault has the value that
    /// changes nothing.
    pub faults: Vec<(&'static str, Error)>,
    /// Settings in the file that this library does not follow (`repetition_penalty`, beams …), each as `name = value`.
    /// `inspect` reports them.
    pub not_followed: Vec<String>,
}

const FILE: &str = "generation_config.json";

/// Settings that change the output of transformers, each with the value that changes nothing.
const NEUTRAL: [(&str, f64); 11] = [
    ("repetition_penalty", 1.0),
    ("num_beams", 1.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("min_p", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("guidance_scale", 1.0),
];

/// Settings that change the output of transformers unless they are absent.
const ABSENT: [&str; 9] = [
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "stop_strings",
    "watermarking_config",
];

impl GenerationConfig {
    /// Reads `generation_config.json`. If this file is missing, reads the settings for generation in `config.json`.
    ///
    /// # Errors
    /// A file is not valid JSON, or a field has the wrong type or is out of range, except the fields that only sampling
    /// reads ([`faults`](Self::faults)). Fields that are `null` count as absent.
    pub fn load(files: &Files) -> Result<GenerationConfig> {
        if let Some(map) = json::load(files, FILE)? {
            return Self::read(&[Scope::new(&files.label(FILE), &map)]);
        }
        let map = json::load(files, "config.json")?.unwrap_or_default();
        let label = files.label("config.json");
        let outer = Scope::new(&label, &map);
        let inner = outer.object("text_config")?;
        Self::read(&[Some(outer), inner].into_iter().flatten().collect::<Vec<_>>())
    }

    /// Reads each field from the first scope that has it.
    fn read(scopes: &[Scope<'_>]) -> Result<GenerationConfig> {
        let first = |key: &str| scopes.iter().find(|s| !matches!(s.get(key), None | Some(Value::Null)));
        let number = |key, allowed, expected| first(key).map_or(Ok(1.0), |s| s.number(key, 1.0, allowed, expected));
        let do_sample = first("do_sample").map_or(Ok(false), |s| s.boolean("do_sample", false))?;
        // Many files set a temperature of 0 together with greedy decoding. transformers does not read the temperature
        // then.
        let temperature = match do_sample {
            true => number("temperature", |x| x > 0.0, "a number above 0, or do_sample = false"),
            false => {
                number("temperature", |x| x >= 0.0, "a number of at least 0").map(|t| if t > 0.0 { t } else { 1.0 })
            }
        };
        let top_k = first("top_k").map_or(Ok(50), |s| s.size("top_k", 50, (0, u32::MAX as usize)));
        let top_p = number("top_p", |x| x > 0.0 && x <= 1.0, "a number above 0 and at most 1");
        let fault = |name, e: Option<&Error>| e.map(|e| (name, e.clone()));
        let faults = [
            fault("temperature", temperature.as_ref().err()),
            fault("top_k", top_k.as_ref().err()),
            fault("top_p", top_p.as_ref().err()),
        ];
        Ok(GenerationConfig {
            eos: first("eos_token_id").map_or(Ok(Vec::new()), |s| ids(s, "eos_token_id"))?,
            pad: match first("pad_token_id") {
                Some(s) if s.get("pad_token_id").and_then(Value::as_i64).is_none_or(|id| id >= 0) => {
                    ids(s, "pad_token_id")?.first().copied()
                }
                _ => None, // Some checkpoints use −1 for none.
            },
            do_sample,
            temperature: temperature.unwrap_or(1.0),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.unwrap_or(1.0),
            faults: faults.into_iter().flatten().collect(),
            not_followed: not_followed(scopes),
        })
    }
}

/// One id or a list of them.
fn ids(scope: &Scope<'_>, key: &str) -> Result<Vec<u32>> {
    let id = |value: &Value, at: String| integer(value, &at, (0, u32::MAX as usize)).map(|id| id as u32);
    match scope.get(key) {
        Some(Value::Array(list)) if list.len() <= 4096 => {
            list.iter().enumerate().map(|(i, v)| id(v, scope.at(&format!("{key}[{i}]")))).collect()
        }
        Some(value @ Value::Array(_)) => Err(Error::new(scope.at(key), "at most 4096 ids", kind(value))),
        Some(value) => Ok(vec![id(value, scope.at(key))?]),
        None => Ok(Vec::new()),
    }
}

/// The settings that are not neutral, as `name = value`.
fn not_followed(scopes: &[Scope<'_>]) -> Vec<String> {
    let value = |key: &str| scopes.iter().find_map(|s| s.get(key)).filter(|v| !v.is_null());
    let numbers = NEUTRAL.iter().filter_map(|(key, neutral)| {
        value(key).filter(|v| v.as_f64() != Some(*neutral)).map(|v| format!("{key} = {}", kind(v)))
    });
    let others = ABSENT.iter().filter_map(|key| value(key).map(|v| format!("{key} = {}", kind(v))));
    numbers.chain(others).collect()
}
