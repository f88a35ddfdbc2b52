//! Folders that hold other weights than a model's own: quantised weights, and adapters beside a model or without one.

use crate::config::json::{self, Scope};
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::Value;

/// The file that describes an adapter.
const ADAPTER: &str = "adapter_config.json";

/// Fails if the folder holds an adapter: transformers would load the base model, and add the adapter to it.
pub(super) fn adapter(files: &Files) -> Result<()> {
    let Some(map) = json::load(files, ADAPTER)? else { return Ok(()) };
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    let kind = text("peft_type").unwrap_or("one");
    let base = text("base_model_name_or_path").map_or(String::new(), |base| format!(" for {base}"));
    let remedy = "merge it with peft (AutoPeftModel.from_pretrained(DIR).merge_and_unload(), then save_pretrained), \
                  or remove the adapter's files";
    Err(Error::new(files.label(ADAPTER), "a model without an adapter", format!("{kind}{base}")).remedy(remedy))
}

/// Fails if a configuration says that the weights are quantised.
pub(super) fn quantized(config: &Scope<'_>) -> Result<()> {
    const KEY: &str = "quantization_config";
    let text = config.object("text_config").ok().flatten();
    let found = [Some(config), text.as_ref()].into_iter().flatten();
    let found = found.filter_map(|scope| Some((scope, scope.object(KEY).ok()??))).next();
    let Some((scope, q)) = found.filter(|(_, q)| !q.is_empty()) else { return Ok(()) };
    let method = q.get("quant_method").and_then(Value::as_str).unwrap_or("an unknown method");
    let loads = |key: &str| q.get(key) == Some(&Value::Bool(true));
    let bits = match q.get("bits").and_then(Value::as_u64) {
        _ if loads("load_in_4bit") => Some(4),
        _ if loads("load_in_8bit") => Some(8),
        bits => bits,
    };
    let bits = bits.map_or(String::new(), |bits| format!(", {bits} bit"));
    let found = format!("quantized ({method}{bits}), which is not supported");
    Err(Error::new(scope.at(KEY), "weights in f32, f16 or bf16", found)
        .remedy("take the checkpoint that is not quantized"))
}
