//! `inspect` of a bundle: what it says of itself, its stages, and names that are no stages.

use super::out::{Stdout, bytes};
use aircache::Result;
use aircache::golden::Bundle;
use aircache::stage::Stage;
use serde_json::{Value, json};
use std::path::Path;

/// The metadata that a bundle may have. Spec: T1.3
const KEYS: [&str; 14] = [
    "format",
    "version",
    "producer",
    "family",
    "model",
    "precision",
    "policy",
    "retain",
    "prompt",
    "images",
    "preprocess",
    "sampling",
    "eviction",
    "noise",
];

/// Stages of the same kind, type and shape: layer after layer, or step after step.
struct Group {
    name: String,
    first: String,
    last: String,
    count: usize,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

/// A name with its numbers taken out: `decoder.LL.query`.
fn pattern(name: &str) -> String {
    let part = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
        true if part.len() == 4 => "TTTT".to_string(),
        true => "LL".to_string(),
        false => part.to_string(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn groups(bundle: &Bundle, stages: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for name in stages {
        let Some(t) = bundle.get(name) else { continue };
        let (key, dtype) = (pattern(name), t.dtype.to_string());
        match groups.iter_mut().find(|g| g.name == key && g.dtype == dtype && g.shape == t.shape) {
            Some(group) => {
                group.last = name.clone();
                (group.count, group.bytes) = (group.count + 1, group.bytes + t.data.len());
            }
            None => groups.push(Group {
                name: key,
                first: name.clone(),
                last: name.clone(),
                count: 1,
                dtype,
                shape: t.shape.to_vec(),
                bytes: t.data.len(),
            }),
        }
    }
    groups
}

/// Explains a bundle.
///
/// # Errors
/// The file is no bundle.
pub fn explain(path: &Path, as_json: bool) -> Result<()> {
    let bundle = Bundle::open(path)?;
    let stages: Vec<String> = Stage::sorted(bundle.names()).into_iter().map(Stage::name).collect();
    let beside = ["noise.", "rows.", "shape.", "hash."];
    let noise = bundle.names().filter(|name| beside.iter().any(|prefix| name.starts_with(prefix))).count();
    let other = |name: &&str| Stage::parse(name).is_none() && !beside.iter().any(|prefix| name.starts_with(prefix));
    let unknown: Vec<(&str, Option<String>)> =
        bundle.names().filter(other).map(|name| (name, Stage::meant(name).map(Stage::name))).collect();
    let said: Vec<(&str, &str)> = KEYS.iter().filter_map(|key| Some((*key, bundle.metadata(key)?))).collect();
    let mut out = Stdout::new();
    if as_json {
        let tensor = |name: &String| {
            bundle.get(name).map(|t| json!({"stage": name, "dtype": t.dtype.to_string(), "shape": t.shape}))
        };
        let unknown: Vec<Value> = unknown.iter().map(|(name, meant)| json!({"name": name, "meant": meant})).collect();
        return out.json(&json!({
            "bundle": path.display().to_string(),
            "metadata": said.iter().map(|(k, v)| (k.to_string(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "stages": stages.iter().filter_map(tensor).collect::<Vec<_>>(),
            "noise": noise,
            "unknown": unknown,
        }));
    }
    out.line(&format!("bundle       {}, {} stages", path.display(), stages.len()))?;
    for (key, value) in &said {
        let short: String = value.chars().take(100).collect();
        out.line(&format!(
            "{key:12} {}{}",
            short.replace('\n', "\\n"),
            if short.len() < value.len() { " …" } else { "" }
        ))?;
    }
    if bundle.metadata("precision").is_none() {
        out.line("note         no precision: `check` needs it, as f32, bf16 or f16")?;
    }
    for g in groups(&bundle, &stages) {
        let name = if g.count == 1 { g.first.clone() } else { format!("{} to {}", g.first, g.last) };
        let shape = g.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        out.line(&format!("{name:40} {:5} [{shape}]  {}", g.dtype, bytes(g.bytes as u64)))?;
    }
    if noise > 0 {
        out.line(&format!("{noise} tensors of noise and samples: it is a golden, which `check` judges others by"))?;
    }
    for (name, meant) in unknown {
        let meant = meant.map_or(String::new(), |meant| format!(" (did you mean {meant}?)"));
        out.line(&format!("note         {name} is no stage{meant}"))?;
    }
    Ok(())
}
