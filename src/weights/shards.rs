//! The files of a checkpoint: `model.safetensors`, or the files that `model.safetensors.index.json` lists.

use super::Storage;
use super::file::{MAX_HEADER, TensorFile, shortened};
use crate::config::json::{self, kind};
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Opens all files of a checkpoint. Also returns the checkpoint's name for messages about missing tensors.
///
/// # Errors
/// The folder has no weights, or has them in another format; a shard is missing, damaged, or outside the folder; the
/// index names a shard for a tensor, but the shard does not hold the tensor.
pub(crate) fn open(files: &Files) -> Result<(String, Vec<TensorFile>)> {
    if let Some(shard) = shard(files, ONE)? {
        return Ok((shard.label.clone(), vec![shard]));
    }
    let label = files.label(INDEX);
    let Some(index) = json::load(files, INDEX)? else { return Err(no_weights(files)?) };
    let Some(Value::Object(map)) = index.get("weight_map") else {
        let got = index.get("weight_map").map_or("none".into(), kind);
        return Err(Error::new(format!("{label}: weight_map"), "an object of tensors and their files", got));
    };
    let mut tensors_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let at = || format!("{label}: weight_map.{}", shortened(tensor));
        let Value::String(file) = file else { return Err(Error::new(at(), "a file name", kind(file))) };
        files.path(file).map_err(|e| e.within(at()))?;
        ensure!(file.ends_with(".safetensors"), at(), "a file name that ends in .safetensors", format!("{file:?}"));
        tensors_of.entry(file).or_default().push(tensor);
    }
    ensure!(!tensors_of.is_empty(), format!("{label}: weight_map"), "at least one tensor", "none");
    let (mut shards, mut heads) = (Vec::new(), 0);
    for (file, tensors) in tensors_of {
        let Some(shard) = shard(files, file)? else {
            let remedy = format!("{} lists it: the download may be incomplete", files.label(INDEX));
            return Err(Error::new(files.label(file), "a file of weights", "no such file").remedy(remedy));
        };
        heads += shard.start - 8;
        let most = format!("headers of at most {MAX_HEADER} bytes in all files");
        ensure!(heads <= MAX_HEADER, files.label(file), most, format!("{heads} with this one"));
        if let Some(absent) = tensors.into_iter().find(|name| !shard.names.contains(*name)) {
            let at = format!("{}: {}", shard.label, shortened(absent));
            return Err(Error::new(at, format!("a tensor of this name, as {label} says"), "none"));
        }
        shards.push(shard);
    }
    Ok((label, shards))
}

/// All files that the index lists but the folder does not hold, for surveys. [`open`] stops at the first missing file.
pub(crate) fn missing(files: &Files) -> Vec<String> {
    let Ok(Some(index)) = json::load(files, INDEX) else { return Vec::new() };
    let listed = index.get("weight_map").and_then(Value::as_object).into_iter().flatten();
    let listed: std::collections::BTreeSet<&str> = listed.filter_map(|(_, file)| file.as_str()).collect();
    let gone = |file: &&str| matches!(files.path(file), Ok(Some(path)) if path.symlink_metadata().is_err());
    listed.into_iter().filter(gone).map(|file| files.label(file)).collect()
}

/// One file of weights; `None` if there is no such file.
fn shard(files: &Files, name: &str) -> Result<Option<TensorFile>> {
    let storage = match files.path(name)? {
        Some(path) if path.symlink_metadata().is_err() => return Ok(None),
        Some(path) => Storage::open(&path)?,
        None => match files.read(name)? {
            Some(Cow::Borrowed(bytes)) => Storage::Static(bytes),
            Some(Cow::Owned(bytes)) => Storage::copy(&bytes),
            None => return Ok(None),
        },
    };
    TensorFile::read(storage, files.label(name)).map(Some)
}

/// The error for a folder that holds neither of the two files.
fn no_weights(files: &Files) -> Result<Error> {
    let expected = format!("{ONE} or {INDEX}");
    for other in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        if files.path(other)?.is_some_and(|path| path.exists()) {
            let remedy = "convert it: load it in transformers and call save_pretrained, which writes safetensors";
            return Ok(Error::new(files.label(other), expected, "weights as a Python pickle").remedy(remedy));
        }
    }
    Ok(Error::new(files.label(ONE), expected, "neither")
        .remedy("give a checkpoint folder as the Hugging Face hub has it"))
}
