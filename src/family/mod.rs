//! Model families. A family is a folder here and one line in the registry below. No code outside this folder names a
//! family.
//!
//! A family's configuration implements [`Family`]. It gives the tensor names, the image reader, the positions and the
//! encoder. A family builds them from shared parts in [`input`](crate::input), [`vision`](crate::vision) and
//! [`layer`](crate::layer). To add a family, see `docs/adding-a-family.md`. Spec: chapters 04 and 05

pub mod definition;
pub mod encoder;
mod foreign;
pub mod internvl;
pub mod llava_clip;
pub mod llava_onevision;
pub mod patch_model;
pub mod patch_reader;
pub mod qwen2_5_vl;
pub mod qwen2_vl;
pub mod qwen3_vl;
pub mod reader;
mod shape;
mod tile_encoder;

pub use definition::{Family, Outline, Profile, Tower};
pub use encoder::{Encode, Encoder};
pub use reader::{Reader, VideoReader};

use crate::config::json::{self, Scope};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::input::Packing;
use definition::Entry;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The registry: one line for each family.
static ALL: [Entry; 6] =
    [llava_onevision::ENTRY, qwen2_vl::ENTRY, internvl::ENTRY, llava_clip::ENTRY, qwen2_5_vl::ENTRY, qwen3_vl::ENTRY];

/// Reads and checks `config.json`.
///
/// ```
/// # fn main() -> aircache::Result<()> {
/// use aircache::{family, files::Files};
/// let files = Files::Embedded(&[("config.json", b"{\"model_type\": \"bert\"}")]);
/// let error = family::load(&files).unwrap_err();
/// assert_eq!(error.at, "demo model: config.json: model_type");
/// # Ok(()) }
/// ```
///
/// # Errors
/// The file is missing or not valid JSON; the model type is unknown; a field is missing, has the wrong type, is out of
/// range, contradicts another field, or asks for something that is not supported. The message names the field.
pub fn load(files: &Files) -> Result<Arc<dyn Family>> {
    let label = files.label("config.json");
    foreign::adapter(files)?;
    let Some(map) = json::load(files, "config.json")? else {
        return Err(Error::new(label, "a model configuration", "no such file")
            .remedy("give a checkpoint folder as the Hugging Face hub has it"));
    };
    read(files, &label, &map)
}

/// Reads the contents of a `config.json`. label: the file's name in messages.
fn read(files: &Files, label: &str, map: &Map<String, Value>) -> Result<Arc<dyn Family>> {
    let scope = Scope::new(label, map);
    foreign::quantized(&scope)?;
    let kinds: Vec<_> = ALL.iter().flat_map(|entry| entry.kinds).collect();
    let known: Vec<&str> = kinds.iter().map(|(model_type, _)| *model_type).collect();
    let found = scope.model_type("", &known)?;
    let Some((_, read)) = kinds.iter().find(|(model_type, _)| *model_type == found) else {
        unreachable!("T5.2: {found} is among the families known")
    };
    read(files, &scope)
}

/// Collects all errors that [`load`] could report. After each error, the survey removes the field with the error and
/// reads again with the field's default. It returns the family only if there is no error.
pub(crate) fn survey(files: &Files) -> (Option<Arc<dyn Family>>, Vec<Error>) {
    let label = files.label("config.json");
    let mut map = match json::load(files, "config.json") {
        Ok(Some(map)) => map,
        _ => return (None, load(files).err().into_iter().collect()),
    };
    let mut problems: Vec<Error> = foreign::adapter(files).err().into_iter().collect();
    loop {
        let e = match read(files, &label, &map) {
            Ok(family) => return (Some(family).filter(|_| problems.is_empty()), problems),
            Err(e) => e,
        };
        let field = e.at.strip_prefix(&format!("{label}: ")).unwrap_or_default();
        let removed = json::remove(&mut map, field);
        // An error about a default is only a consequence of the previous error.
        if removed || problems.is_empty() {
            problems.push(e);
        }
        if !removed {
            return (None, problems);
        }
    }
}

/// The names of the public models whose shapes are in the registry.
pub fn shapes() -> Vec<&'static str> {
    ALL.iter().flat_map(|entry| entry.shapes).map(|shape| shape.name).collect()
}

/// The configuration of a public model. If `vocab` is given, it replaces the size of the vocabulary.
///
/// # Errors
/// There is no shape with this name, or the size of the vocabulary is not valid.
///
/// ```
/// let config = aircache::family::shape("llava-ov-0.5b", Some(32000))?;
/// assert_eq!((config.text().layers, config.text().vocab), (24, 32000));
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn shape(name: &str, vocab: Option<usize>) -> Result<Arc<dyn Family>> {
    let shape = ALL.iter().flat_map(|entry| entry.shapes).find(|shape| shape.name == name);
    let shape = shape.ok_or_else(|| Error::new("--shape", shapes().join(", "), format!("{name:?}")))?;
    let Value::Object(map) = (shape.config)(shape, vocab.unwrap_or(shape.vocab)) else {
        unreachable!("T5.2: a config.json is an object")
    };
    read(&Files::Embedded(&[]), name, &map)
}

/// A small model of every family, for checks without checkpoints: the `model_type` and the configuration.
///
/// # Errors
/// There is no error unless a family's entry is wrong.
pub fn toys() -> Result<Vec<(&'static str, Arc<dyn Family>)>> {
    let toy = |entry: &'static Entry| {
        let Ok(Value::Object(map)) = serde_json::from_str(entry.toy) else {
            unreachable!("T5.2: a config.json is an object")
        };
        let family = read(&Files::Embedded(&[]), entry.title, &map)?;
        Ok((family.name(), family))
    };
    ALL.iter().map(toy).collect()
}

/// The error for a video that is given to a family without video support.
pub fn reads_no_videos(family: &dyn Family) -> Error {
    let title = |name: &str| {
        let entry = ALL.iter().find(|entry| entry.kinds.iter().any(|(model_type, _)| *model_type == name));
        entry.map_or("another", |entry| entry.title)
    };
    let those: Vec<&str> = ALL.iter().filter(|entry| entry.videos).map(|entry| entry.title).collect();
    let wanted = format!("a family that reads videos here: {}", those.join(", "));
    Error::new("video", wanted, title(family.name()))
        .remedy("give the frames as images (--image), and say in the question that they are frames")
}

/// The rows of images whose pixels have `tiles` tiles in all: by the checkpoint's limit of tiles, or by the smallest limit
/// that gives so many (D4.12). Without that number, and where no limit gives it, by the checkpoint's limit.
///
/// # Errors
/// As [`Family::packing`].
pub(crate) fn packings(family: &dyn Family, images: &[Outline], tiles: Option<usize>) -> Result<Vec<Packing>> {
    let by = |most: Option<usize>| {
        let each = images.iter().map(|image| family.packing(&Outline { most, ..*image }));
        each.collect::<Result<Vec<Packing>>>()
    };
    let fits = |all: &Vec<Packing>| tiles.is_none_or(|tiles| all.iter().map(|p| p.tiles).sum::<usize>() == tiles);
    let plain = by(None)?;
    if fits(&plain) || family.profile().pixels.has_grids() {
        return Ok(plain);
    }
    let most = tiles.unwrap_or(0);
    let other = (1..=most.min(256)).find_map(|most| by(Some(most)).ok().filter(fits));
    Ok(other.unwrap_or(plain))
}
