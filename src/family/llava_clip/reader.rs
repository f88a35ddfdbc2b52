//! The image processors of LLaVA-1.5, which reads the square in the middle of an image, and of LLaVA-NeXT, which cuts every
//! image into anyres tiles and shrinks none.
//!
//! Geometry: [`Crop`], [`Anyres`]. Source: transformers 5.17 `CLIPImageProcessor`, `LlavaProcessor`,
//! `LlavaNextImageProcessor`, `LlavaNextProcessor`. Spec: T4.12, E4.28, E4.29

use super::config::{LlavaConfig, default_pinpoints};
use crate::error::{Result, ensure};
use crate::family::reader::{Cut, Reader};
use crate::files::Files;
use crate::input::{Anyres, Crop, Image, Packing, Section, Settings, anyres_settings, sections};
use serde_json::Value;

/// Reads images as a checkpoint's processor does.
#[derive(Debug, Clone)]
pub struct LlavaReader {
    settings: Settings,
    geometry: Geometry,
}

/// How an image is cut.
#[derive(Debug, Clone)]
enum Geometry {
    Square(Crop),
    Tiles(Anyres),
}

impl LlavaReader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// The errors of [`Settings`]; a contradiction to `config.json`. Spec: T4.12, C4.12
    pub fn load(files: &Files, config: &LlavaConfig) -> Result<LlavaReader> {
        let (images, processor) = sections(files)?;
        let model = files.label("config.json");
        if let Some(processor) = &processor {
            agree(processor, config, &model)?;
        }
        let geometry = match config.anyres() {
            None => Geometry::Square(crop(&images, config, &model)?),
            Some(anyres) => {
                images.class("LlavaNextImageProcessor")?;
                images.flag("do_pad", true)?; // adds empty tiles to a batch
                same_side(&images, "size", anyres_settings::side(&images, 224)?, config, &model)?;
                if images.flag("do_center_crop", true)? {
                    same_side(&images, "crop_size", square(&images, "crop_size", 224)?, config, &model)?;
                }
                let pinpoints = config.pinpoints.as_deref().unwrap_or_default();
                anyres_settings::same_pinpoints(&images, default_pinpoints, pinpoints, &model)?;
                Geometry::Tiles(anyres)
            }
        };
        Ok(LlavaReader { settings: Settings::read(&images, processor.as_ref(), "<image>")?, geometry })
    }
}

impl Reader for LlavaReader {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn line(&self) -> String {
        match &self.geometry {
            Geometry::Square(Crop { edge, side, patch, .. }) => {
                let along = side / patch;
                let shown = match edge {
                    Some(_) => "the square in the middle of an image is seen, the rest is not",
                    None => "an image is squeezed into a square",
                };
                format!("{shown}: {side} × {side} px become {along} × {along} tokens")
            }
            Geometry::Tiles(anyres) => {
                let (tile, side) = (anyres.tile, anyres.side());
                format!(
                    "tiles of {tile} px become {side} × {side} tokens; a newline after each row of them; no shrinking"
                )
            }
        }
    }

    fn packing(&self, size: (usize, usize), _: usize) -> Result<Packing> {
        match &self.geometry {
            Geometry::Square(crop) => crop.packing(self.settings.pixels.resize, size),
            Geometry::Tiles(anyres) => anyres.packing(size, true),
        }
    }

    fn pixels(&self, image: &Image, _: usize) -> Result<Cut> {
        let (pixels, rgb) = (&self.settings.pixels, image.rgb());
        let tiles = match &self.geometry {
            Geometry::Square(crop) => crop.tile(pixels, rgb)?,
            Geometry::Tiles(anyres) => pixels.tiles(rgb, anyres, true)?,
        };
        Ok((tiles.into_dyn(), None))
    }
}

/// CLIP's square, by the image processor's fields. Spec: T4.12
fn crop(images: &Section, config: &LlavaConfig, model: &str) -> Result<Crop> {
    if images.class("CLIPImageProcessor").is_err() {
        images.class("LlavaImageProcessor")?;
    }
    ensure!(!images.flag("do_pad", false)?, format!("{}: do_pad", images.at), "false", true);
    let edge = match images.get("size") {
        Some(Value::Object(o)) if !o.contains_key("shortest_edge") => {
            same_side(images, "size", anyres_settings::side(images, 224)?, config, model)?;
            None
        }
        _ => Some(anyres_settings::side(images, 224)?),
    };
    let cut = images.flag("do_center_crop", true)?;
    if cut {
        same_side(images, "crop_size", square(images, "crop_size", 224)?, config, model)?;
    }
    Ok(Crop { edge, cut, ..config.crop() })
}

/// The side of a square field: a number, or an object with two equal sides.
fn square(images: &Section, key: &str, default: usize) -> Result<usize> {
    let number = |v: &Value| v.as_u64().map(|n| n as usize);
    let side = match images.get(key) {
        None => Some(default),
        Some(Value::Object(o)) => o.get("height").and_then(number).filter(|_| o.get("width") == o.get("height")),
        Some(v) => number(v),
    };
    side.ok_or_else(|| images.wrong(key, "a square: a number, or {\"height\": n, \"width\": n}"))
}

/// Fails if a side in pixels is not the tower's.
fn same_side(images: &Section, key: &str, side: usize, config: &LlavaConfig, model: &str) -> Result<()> {
    let want = config.vision.image;
    let expected = format!("{want}, vision_config.image_size of {model}");
    ensure!(side == want, format!("{}: {key}", images.at), expected, side);
    Ok(())
}

/// Checks the processor's own fields, if they are present: together they give the rows of a tile. Spec: C4.12
fn agree(processor: &Section, config: &LlavaConfig, model: &str) -> Result<()> {
    if let Some(patch) = processor.get("patch_size") {
        let what = format!("vision_config.patch_size of {model}");
        processor.expect("patch_size", patch.as_u64(), config.vision.patch, &what)?;
    }
    if let Some(strategy) = processor.get("vision_feature_select_strategy") {
        let want = if config.drop_first { "default" } else { "full" };
        let at = format!("{}: vision_feature_select_strategy", processor.at);
        ensure!(strategy == want, at, format!("{want:?} as in {model}"), strategy);
    }
    if let Some(extra) = processor.get("num_additional_image_tokens") {
        processor.expect("num_additional_image_tokens", extra.as_u64(), 1, "the tower's class token")?;
    }
    Ok(())
}
