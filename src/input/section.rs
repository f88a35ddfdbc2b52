//! JSON objects of processor files, read field by field; null counts as missing, as in transformers.

use crate::config::json;
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::{Map, Value};

/// A JSON object of a file, and the name of both in messages.
pub(crate) struct Section {
    pub at: String,
    pub fields: Map<String, Value>,
}

impl Section {
    /// The object in the file `name`; `None` if there is no such file.
    pub fn read(files: &Files, name: &str) -> Result<Option<Section>> {
        Ok(json::load(files, name)?.map(|fields| Section { at: files.label(name), fields }))
    }

    /// The value of `key`; null counts as missing, as in transformers.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|v| !v.is_null())
    }

    /// An error about `key`.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        let got = self.get(key).map_or("nothing".into(), json::kind);
        Error::new(format!("{}: {key}", self.at), expected, got)
    }

    /// Fails if `got` is not `want`; `what` gives the reason, for the message.
    pub fn expect(&self, key: &str, got: Option<u64>, want: usize, what: &str) -> Result<()> {
        if got == Some(want as u64) { Ok(()) } else { Err(self.wrong(key, &format!("{want}, {what}"))) }
    }

    /// Fails if the file names an image processor class whose name does not begin with `name`.
    pub fn class(&self, name: &str) -> Result<()> {
        const KEY: &str = "image_processor_type";
        let known = self.get(KEY).is_none_or(|kind| kind.as_str().is_some_and(|kind| kind.starts_with(name)));
        if known { Ok(()) } else { Err(self.wrong(KEY, name)) }
    }

    /// A boolean.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| self.wrong(key, "true or false")))
    }

    /// One number for all channels, or one number for each channel.
    pub fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        let wrong = || self.wrong(key, "a number, or three");
        match self.get(key) {
            None => Ok(default),
            Some(Value::Array(list)) => {
                let numbers: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
                numbers.and_then(|n| n.try_into().ok()).ok_or_else(wrong)
            }
            Some(v) => v.as_f64().map(|v| [v; 3]).ok_or_else(wrong),
        }
    }
}
