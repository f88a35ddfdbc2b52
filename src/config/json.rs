//! Reads JSON objects field by field, so that every error names the file and the field.
//!
//! This is not a deserializer: a configuration has many fields that the forward pass does not read, and each field that
//! it reads has its own default, range and meaning of `null`. The rules are those of transformers' strict
//! configurations: an integer field accepts no float and no boolean, and `null` is not the same as absent.

use super::refused;
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use serde_json::{Map, Value};

/// The maximum number of heads of a layer: several times the number in any model.
const MAX_HEADS: usize = 1 << 10;

/// A JSON object and its place in the file.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    file: &'a str,
    path: String,
    /// `None` means an object without fields.
    map: Option<&'a Map<String, Value>>,
}

/// The JSON object in a file of the checkpoint; `None` if there is no such file.
///
/// # Errors
/// The file cannot be read, is not valid JSON, or does not hold an object.
pub(crate) fn load(files: &Files, name: &str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = files.read(name)? else { return Ok(None) };
    let label = files.label(name);
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(other) => Err(Error::new(label, "a JSON object", kind(&other))),
        Err(e) => Err(Error::new(label, "valid JSON", e)),
    }
}

/// Removes the field at `path`, for example `text_config.hidden_size`. If `path` is an element of a list, the whole
/// list is removed. Returns false if there is no such field.
pub(crate) fn remove(map: &mut Map<String, Value>, path: &str) -> bool {
    let path = path.split('[').next().unwrap_or(path);
    match path.split_once('.') {
        None => map.remove(path).is_some(),
        Some((outer, rest)) => {
            map.get_mut(outer).and_then(Value::as_object_mut).is_some_and(|inner| remove(inner, rest))
        }
    }
}

/// A short description of a value, for messages: numbers and booleans in full, strings shortened, lists and objects as
/// their length.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("the string {:?}", s.chars().take(60).collect::<String>()),
        Value::Array(a) => format!("a list of {}", a.len()),
        Value::Object(o) => format!("an object of {} fields", o.len()),
    }
}

impl<'a> Scope<'a> {
    /// The outermost object of a file. `file` is the file's label in messages.
    pub(crate) fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Scope { file, path: String::new(), map: Some(map) }
    }

    /// The place of a field, for messages: `config.json: text_config.hidden_size`.
    pub(crate) fn at(&self, key: &str) -> String {
        format!("{}: {}{key}", self.file, self.path)
    }

    /// The value of a field; `None` if absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key)
    }

    /// Whether the object has no fields.
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_none_or(Map::is_empty)
    }

    /// An inner object. If it is absent or `null`, the result is an object without fields.
    pub(crate) fn inner(&self, key: &str) -> Result<Scope<'a>> {
        Ok(self.object(key)?.unwrap_or_else(|| Scope { map: None, ..self.clone() }))
    }

    /// An inner object; `None` if it is absent or `null`.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Scope<'a>>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Scope { file: self.file, path: format!("{}{key}.", self.path), map: Some(map) }))
            }
            Some(other) => Err(Error::new(self.at(key), "an object", kind(other))),
        }
    }

    /// A size or count within `range`; `default` if absent.
    pub(crate) fn size(&self, key: &str, default: usize, range: (usize, usize)) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        integer(value, &self.at(key), range)
    }

    /// A number of heads; `default` if absent.
    pub(crate) fn heads(&self, key: &str, default: usize) -> Result<usize> {
        self.size(key, default, (1, MAX_HEADS))
    }

    /// The id of a token; `default` if absent.
    pub(crate) fn token(&self, key: &str, default: u32) -> Result<u32> {
        self.size(key, default as usize, (0, u32::MAX as usize)).map(|id| id as u32)
    }

    /// The id of a token that must be below `vocab`, the size of the vocabulary; `default` if absent.
    pub(crate) fn token_below(&self, key: &str, default: u32, vocab: usize) -> Result<u32> {
        let id = self.token(key, default)?;
        ensure!((id as usize) < vocab, self.at(key), format!("an id below vocab_size {vocab}"), id);
        Ok(id)
    }

    /// The id of a token; `default` if absent, none if it is not below `vocab`, the size of the vocabulary.
    pub(crate) fn token_within(&self, key: &str, default: u32, vocab: usize) -> Result<Option<u32>> {
        Ok(Some(self.token(key, default)?).filter(|&id| (id as usize) < vocab))
    }

    /// The number of a hidden state of `layers` layers (see [`state_of`]); the last state if absent.
    pub(crate) fn state(&self, key: &str, layers: usize) -> Result<usize> {
        self.get(key).map_or(Ok(layers), |value| state_of(value, self.at(key), layers))
    }

    /// A number for which `allowed` returns true; `default` if absent. `expected` describes such a number in messages.
    pub(crate) fn number(&self, key: &str, default: f64, allowed: fn(f64) -> bool, expected: &str) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = match value {
            Value::Number(n) => n.as_f64(),
            _ => None,
        };
        number.filter(|&x| allowed(x)).ok_or_else(|| Error::new(self.at(key), expected, kind(value)))
    }

    /// A boolean; `default` if absent.
    pub(crate) fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(other) => Err(Error::new(self.at(key), "true or false", kind(other))),
        }
    }

    /// A string; `default` if absent.
    pub(crate) fn string(&self, key: &str, default: &'a str) -> Result<&'a str> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::String(s)) => Ok(s),
            Some(other) => Err(Error::new(self.at(key), "a string", kind(other))),
        }
    }

    /// The `model_type`, which must be one of `supported`; `default` if absent.
    pub(crate) fn model_type(&self, default: &'a str, supported: &[&str]) -> Result<&'a str> {
        let found = self.string("model_type", default)?;
        if !supported.contains(&found) {
            let e = Error::new(self.at("model_type"), supported.join(" or "), kind(&Value::from(found)));
            return Err(refused::named(e));
        }
        Ok(found)
    }
}

/// A whole number within `range` (both ends included).
pub(crate) fn integer(value: &Value, at: &str, range: (usize, usize)) -> Result<usize> {
    let found = value.as_u64().and_then(|n| usize::try_from(n).ok());
    match found {
        Some(n) if (range.0..=range.1).contains(&n) => Ok(n),
        _ if range.0 == range.1 => Err(Error::new(at, range.0, kind(value))),
        _ => Err(Error::new(at, format!("a whole number from {} to {}", range.0, range.1), kind(value))),
    }
}

/// The number of a hidden state of `layers` layers: 0 = embeddings, k = after layer k. Negative numbers count from the
/// last state.
pub(crate) fn state_of(value: &Value, at: String, layers: usize) -> Result<usize> {
    let states = layers as i64 + 1;
    let found = value.as_i64().filter(|k| (-states..states).contains(k)).map(|k| k.rem_euclid(states) as usize);
    found.ok_or_else(|| Error::new(at, format!("a whole number from {} to {layers}", -states), kind(value)))
}
