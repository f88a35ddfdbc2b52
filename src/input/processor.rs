//! What `preprocessor_config.json` or `processor_config.json` says, with transformers' defaults, checked against the model.
//!
//! Settings that change pixels are honoured or refused, never ignored. Source: transformers 5.17
//! `ImageProcessingMixin.get_image_processor_dict`, `LlavaOnevisionImageProcessor`, `LlavaOnevisionProcessor`. Spec: T4.4

use super::pixels::Pixels;
use crate::config::LlavaOnevisionConfig;
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use crate::kernel::resample::{Filter, Resampler};
use serde_json::{Map, Value};

/// The file of transformers 4 with the image processor's settings.
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// The file with the processor's settings and, in transformers 5, the image processor's inside.
pub const PROCESSOR: &str = "processor_config.json";

/// The settings of a processor. Spec: T4.4
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Resizing and normalising.
    pub pixels: Pixels,
    /// Whether images of other colour modes are converted (`do_convert_rgb`); where not, they are refused.
    pub convert_rgb: bool,
    /// The text that stands for an image in the prompt, if the processor names one.
    pub image_token: Option<String>,
}

/// A JSON object of a file, and the name of both in messages.
pub(super) struct Section {
    pub at: String,
    pub fields: Map<String, Value>,
}

impl Section {
    /// The object in the file `name`; `None` where there is no such file.
    pub fn read(files: &Files, name: &str) -> Result<Option<Section>> {
        let Some(bytes) = files.read(name)? else { return Ok(None) };
        let at = files.label(name);
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Some(Section { at, fields })),
            Ok(_) => Err(Error::new(at, "a JSON object", "another JSON value")),
            Err(e) => Err(Error::new(at, "a JSON object", e)),
        }
    }

    /// The value of `key`; null counts as missing, as in transformers.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|v| !v.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let got = self.get(key).map_or("nothing".into(), |v| v.to_string().chars().take(80).collect::<String>());
        Error::new(format!("{}: {key}", self.at), expected, got)
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| self.wrong(key, "true or false")))
    }

    /// One number for all channels, or one a channel.
    fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
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

    /// The side of a tile: `size` as a number, a pair, or an object. Spec: T4.4
    fn side(&self) -> Result<usize> {
        let Some(size) = self.get("size") else { return Ok(384) };
        let number = |v: Option<&Value>| v.and_then(Value::as_u64).filter(|&n| n > 0).map(|n| n as usize);
        let square = |h: Option<usize>, w: Option<usize>| h.filter(|_| h == w);
        let side = match size {
            Value::Array(pair) if pair.len() == 2 => square(number(pair.first()), number(pair.get(1))),
            Value::Object(o) if o.len() == 1 => number(o.get("shortest_edge")),
            Value::Object(o) if o.len() == 2 => square(number(o.get("height")), number(o.get("width"))),
            v => number(Some(v)),
        };
        side.ok_or_else(|| self.wrong("size", "a square: {\"height\": n, \"width\": n} or {\"shortest_edge\": n}"))
    }

    fn pinpoints(&self) -> Result<Vec<(usize, usize)>> {
        let Some(value) = self.get("image_grid_pinpoints") else { return Ok(default_pinpoints()) };
        serde_json::from_value(value.clone())
            .map_err(|e| Error::new(format!("{}: image_grid_pinpoints", self.at), "a list of [height, width]", e))
    }
}

/// transformers' 36 grids of 384 px tiles, up to 6 × 6. Spec: T4.4
fn default_pinpoints() -> Vec<(usize, usize)> {
    (1..=6).flat_map(|h| (1..=6).map(move |w| (384 * h, 384 * w))).collect()
}

impl Settings {
    /// The settings in a checkpoint: `processor_config.json`'s `image_processor` before `preprocessor_config.json`.
    ///
    /// # Errors
    /// Neither file; a field of the wrong type; a setting that is not supported; a disagreement with `config.json`.
    /// Spec: T4.4, C4.12
    pub fn load(files: &Files, config: &LlavaOnevisionConfig) -> Result<Settings> {
        let processor = Section::read(files, PROCESSOR)?;
        let nested = match processor.as_ref().and_then(|p| Some((p, p.get("image_processor")?))) {
            Some((p, Value::Object(fields))) => {
                Some(Section { at: format!("{}: image_processor", p.at), fields: fields.clone() })
            }
            Some((p, _)) => return Err(p.wrong("image_processor", "a JSON object")),
            None => None,
        };
        let images = match nested {
            Some(section) => section,
            None => Section::read(files, PREPROCESSOR)?.ok_or_else(|| {
                Error::new(files.label(PREPROCESSOR), "the image processor's settings", "no such file")
                    .remedy(format!("copy it from the checkpoint's page; {PROCESSOR} with image_processor will do too"))
            })?,
        };
        agree_images(files, &images, config)?;
        if let Some(processor) = &processor {
            agree_processor(files, processor, config)?;
        }
        let filter = match images.get("resample").map(Value::as_u64) {
            None | Some(Some(3)) => Filter::Bicubic,
            Some(Some(2)) => Filter::Bilinear,
            _ => return Err(images.wrong("resample", "2 (bilinear) or 3 (bicubic)")),
        };
        let rescale = images.get("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
        let rescale = rescale.ok_or_else(|| images.wrong("rescale_factor", "a number"))?;
        let pixels = Pixels {
            resize: images.flag("do_resize", true)?,
            filter,
            resampler: Resampler::default(),
            rescale: images.flag("do_rescale", true)?.then_some(rescale),
            mean: images.channels("image_mean", [0.48145466, 0.4578275, 0.40821073])?,
            std: images.channels("image_std", [0.26862954, 0.26130258, 0.27577711])?,
            normalize: images.flag("do_normalize", true)?,
        };
        Ok(Settings {
            pixels: pixels.checked().map_err(|e| e.within(&images.at))?,
            convert_rgb: images.flag("do_convert_rgb", true)?,
            image_token: processor.and_then(|p| p.get("image_token").and_then(Value::as_str).map(str::to_owned)),
        })
    }
}

/// The image processor's fields that the model has too, and those that nobody of this family uses. Spec: C4.12
fn agree_images(files: &Files, images: &Section, config: &LlavaOnevisionConfig) -> Result<()> {
    let model = files.label("config.json");
    if let Some(kind) = images.get("image_processor_type") {
        let known = kind.as_str().is_some_and(|k| k.starts_with("LlavaOnevisionImageProcessor"));
        ensure!(known, format!("{}: image_processor_type", images.at), "LlavaOnevisionImageProcessor", kind);
    }
    images.flag("do_pad", true)?; // pads a batch with empty tiles; one prompt has none
    if images.flag("do_center_crop", false)? || images.get("crop_size").is_some() {
        return Err(images.wrong("do_center_crop, crop_size", "no cropping, which this family never does"));
    }
    let side = images.side()?;
    ensure!(
        side == config.vision.image,
        format!("{}: size", images.at),
        format!("vision_config.image_size {} of {model}", config.vision.image),
        side
    );
    let pinpoints = images.pinpoints()?;
    let differ = pinpoints.iter().zip(&config.pinpoints).position(|(a, b)| a != b);
    let differ =
        differ.or((pinpoints.len() != config.pinpoints.len()).then(|| pinpoints.len().min(config.pinpoints.len())));
    if let Some(i) = differ {
        let show = |list: &[(usize, usize)]| match list.get(i) {
            Some((h, w)) => format!("[{h}, {w}] as number {} of {}", i + 1, list.len()),
            None => format!("{} of them", list.len()),
        };
        return Err(Error::new(
            format!("{}: image_grid_pinpoints", images.at),
            format!("those of {model}: {}", show(&config.pinpoints)),
            show(&pinpoints),
        ));
    }
    Ok(())
}

/// The processor's own fields, where it says something. Spec: C4.12
fn agree_processor(files: &Files, processor: &Section, config: &LlavaOnevisionConfig) -> Result<()> {
    let model = files.label("config.json");
    let check = |key: &str, got: Option<u64>, want: u64, what: &str| match got {
        Some(n) if n == want => Ok(()),
        _ => Err(processor.wrong(key, &format!("{want}, {what} of {model}"))),
    };
    if let Some(n) = processor.get("num_image_tokens") {
        let side = config.vision.side() as u64;
        check("num_image_tokens", n.as_u64(), side * side, "the patches of a tile by vision_config")?;
    }
    if let Some(ratio) = processor.get("vision_aspect_ratio") {
        let number = ratio.as_str().map(|r| r.trim_matches(|c| "anyres_max_".contains(c)));
        let n = number.and_then(|n| n.trim().parse().ok());
        check("vision_aspect_ratio", n, config.max_tiles as u64, "the N of anyres_max_N in vision_aspect_ratio")?;
    }
    if let Some(strategy) = processor.get("vision_feature_select_strategy") {
        let want = if config.drop_first { "default" } else { "full" };
        ensure!(
            strategy == want,
            format!("{}: vision_feature_select_strategy", processor.at),
            format!("{want:?} as in {model}"),
            strategy
        );
    }
    Ok(())
}
