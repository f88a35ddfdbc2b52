//! How policies are written: `--policy` strings and the JSON of a bundle's metadata. Spec: D9.6

use super::{Policy, preset, presets};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

impl Policy {
    /// The parts by name, as they are written, in the order of the struct.
    pub fn parts(&self) -> [(&'static str, String); 12] {
        [
            ("window", self.window.to_string()),
            ("score", self.score.to_string()),
            ("budget", self.budget.to_string()),
            ("keep", self.keep.to_string()),
            ("scope", self.scope.to_string()),
            ("text", self.text.to_string()),
            ("heads", self.heads.to_string()),
            ("split", self.split.to_string()),
            ("evict", self.evict.to_string()),
            ("prune", self.prune.to_string()),
            ("keys", self.keys.to_string()),
            ("mask", self.mask.to_string()),
        ]
    }

    /// The name of the preset that equals this policy, if there is one.
    pub fn name(&self) -> Option<&'static str> {
        presets().iter().find(|p| p.policy == *self).map(|p| p.name)
    }

    fn set(&mut self, part: &str, value: &str) -> Result<()> {
        match part {
            "window" => self.window = value.parse()?,
            "score" => self.score = value.parse()?,
            "budget" => self.budget = value.parse()?,
            "keep" => self.keep = value.parse()?,
            "scope" => self.scope = value.parse()?,
            "text" => self.text = value.parse()?,
            "heads" => self.heads = value.parse()?,
            "split" => self.split = value.parse()?,
            "evict" => self.evict = value.parse()?,
            "prune" => self.prune = value.parse()?,
            "keys" => self.keys = value.parse()?,
            "mask" => self.mask = value.parse()?,
            _ => {
                let known: Vec<_> = self.parts().into_iter().map(|(name, _)| name).collect();
                return Err(Error::new(
                    "policy",
                    format!("one of the parts {}", known.join(", ")),
                    format!("{part:?}"),
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = Error;

    /// Reads a preset's name, or parts (`part=value`; other parts are AirCache's), or a name followed by the parts that
    /// differ.
    /// Spec: D9.6, C9.6a
    fn from_str(text: &str) -> Result<Self> {
        let mut policy = Policy::AIRCACHE;
        for (i, word) in text.split(',').map(str::trim).enumerate() {
            match word.split_once('=') {
                Some((part, value)) => policy.set(part.trim(), value.trim())?,
                None if i == 0 => policy = preset(word)?.policy.clone(),
                None => return Err(Error::new("policy", "part=value after the first word", format!("{word:?}"))),
            }
        }
        policy.check()?;
        Ok(policy)
    }
}

impl fmt::Display for Policy {
    /// Writes the preset's name, or the parts that differ from AirCache's. Spec: D9.6
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        let differing = self.parts().into_iter().zip(Policy::AIRCACHE.parts()).filter(|(a, b)| a != b);
        f.write_str(&differing.map(|((part, value), _)| format!("{part}={value}")).collect::<Vec<_>>().join(","))
    }
}

/// The JSON form: `{"name": …}` and any of the parts; `alpha` beside `"window": "elite"` is accepted too. A part that
/// is left out is the named preset's, or AirCache's. Unknown keys are ignored. Spec: D9.6
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, expecting = "a JSON object with the parts of a policy")]
struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(flatten)]
    parts: std::collections::BTreeMap<String, serde_json::Value>,
}

impl serde::Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        Form::from(self.clone()).serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Form::deserialize(from)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl From<Policy> for Form {
    fn from(policy: Policy) -> Self {
        let name = Some(policy.name().unwrap_or("custom").to_string());
        let parts = policy.parts().into_iter().map(|(part, value)| (part.to_string(), value.into())).collect();
        Form { name, alpha: None, parts }
    }
}

impl TryFrom<Form> for Policy {
    type Error = Error;

    fn try_from(form: Form) -> Result<Self> {
        let mut policy = match form.name.as_deref() {
            None | Some("custom") => Policy::AIRCACHE,
            Some(name) => preset(name)?.policy.clone(),
        };
        for (part, _) in Policy::AIRCACHE.parts() {
            match form.parts.get(part) {
                None | Some(serde_json::Value::Null) => {}
                Some(serde_json::Value::String(value)) => policy.set(part, value)?,
                Some(other) => return Err(Error::new(format!("policy: {part}"), "a string", other)),
            }
        }
        policy.check()?;
        match form.alpha {
            Some(alpha) => policy.with_alpha(alpha),
            None => Ok(policy),
        }
    }
}
