//! InternVL2's image processor: it cuts an image into the grid of tiles whose shape is closest, and adds the whole image.
//!
//! InternVL2's own code reads only `config.json`, resizes with Pillow and has ImageNet's mean built in. In transformers'
//! form, the processor's files say these. Source: InternVL2's `dynamic_preprocess` and `chat`; transformers 5.17
//! `GotOcr2ImageProcessor`, `InternVLProcessor`. Spec: T4.8, E4.15–E4.17

use super::config::{CONTEXT, InternVlConfig, MOST_TILES};
use crate::error::Result;
use crate::family::reader::{Cut, Reader};
use crate::files::Files;
use crate::input::frames::{Rule, Sampler};
use crate::input::{Image, Limits, Orientation, Packing, Pixels, Section, Settings, Tiling, sections, video};
use serde_json::Value;

/// Reads images as a checkpoint's processor does.
#[derive(Debug, Clone)]
pub struct InternVlReader {
    /// The settings from the checkpoint's files, or from InternVL2's own code.
    pub settings: Settings,
    /// How images are cut.
    pub tiling: Tiling,
    /// The mark that stands for an image in a rendered prompt, then the texts before and after the image's rows.
    marks: [String; 3],
    /// The settings for the frames of a clip, or the error in them.
    film: Result<(Pixels, Sampler)>,
}

impl InternVlReader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// In transformers' form: the errors of [`Settings`]; a contradiction to `config.json`. Spec: T4.8, C4.12
    pub fn load(files: &Files, config: &InternVlConfig) -> Result<InternVlReader> {
        let marks = |mark: &str, start: &str, end: &str| [mark, start, end].map(String::from);
        let tiling = config.tiling();
        if config.template.is_some() {
            // The own code opens pictures with Pillow alone.
            let settings = Settings { orientation: Orientation::Ignore, ..Settings::of(Pixels::IMAGENET, CONTEXT) };
            let film = Ok((settings.pixels.clone(), Sampler::fixed(Rule::Segments, 32)));
            return Ok(InternVlReader { settings, tiling, marks: marks("<image>", "<img>", "</img>"), film });
        }
        let (images, processor) = sections(files)?;
        agree(files, &images, processor.as_ref(), config)?;
        let tokenizer = Section::read(files, "tokenizer_config.json")?;
        let named = |key: &str, otherwise: &str| {
            let told = tokenizer.as_ref().and_then(|t| t.get(key).or(t.get("extra_special_tokens")?.get(key)));
            told.and_then(|v| v.as_str().or(v.get("content")?.as_str())).unwrap_or(otherwise).to_owned()
        };
        let mark = named("context_image_token", CONTEXT);
        let settings = Settings { image_token: mark.clone(), ..Settings::read(&images, processor.as_ref(), CONTEXT)? };
        let marks = [mark, named("start_image_token", "<img>"), named("end_image_token", "</img>")];
        let sampler = || video::sampler(files, Rule::Shifted, None);
        let film = video::of_tiles(files, config.vision.image).and_then(|film| Ok((film, sampler()?)));
        Ok(InternVlReader { settings, tiling, marks, film })
    }
}

impl Reader for InternVlReader {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Replaces the mark of each image by a start mark, one placeholder and an end mark. Spec: D4.6
    fn marked(&self, rendered: String, images: usize) -> String {
        let [mark, start, end] = &self.marks;
        let token = &self.settings.image_token;
        if images == 0 { rendered } else { rendered.replace(mark, &format!("{start}{token}{end}")) }
    }

    fn mark(&self) -> &str {
        &self.marks[0]
    }

    fn limit(&mut self, limits: Limits) -> Result<()> {
        limits.only(&["max_tiles"], "InternVL")?;
        let Some(most) = limits.max_tiles else { return Ok(()) };
        self.tiling.limit(most, MOST_TILES)?;
        self.settings.limits = limits;
        Ok(())
    }

    fn line(&self) -> String {
        self.tiling.line()
    }

    fn of_frames(&self) -> Option<Result<Box<dyn Reader>>> {
        let reader = |(film, _)| {
            let mut reader = InternVlReader { tiling: Tiling { tiles: None, ..self.tiling.clone() }, ..self.clone() };
            reader.settings.pixels = Pixels { resampler: self.settings.pixels.resampler, ..film };
            Box::new(reader) as Box<dyn Reader>
        };
        Some(self.film.clone().map(reader))
    }

    fn sampler(&self) -> Option<Result<Sampler>> {
        Some(self.film.clone().map(|(_, sampler)| sampler))
    }

    fn packing(&self, size: (usize, usize), _: usize) -> Result<Packing> {
        self.tiling.packing(size)
    }

    fn pixels(&self, image: &Image, _: usize) -> Result<Cut> {
        Ok((self.tiling.cut(&self.settings.pixels, image.rgb())?.into_dyn(), None))
    }
}

/// Checks the fields that both the processor's files and `config.json` define. Spec: C4.12
fn agree(files: &Files, images: &Section, processor: Option<&Section>, config: &InternVlConfig) -> Result<()> {
    let model = files.label("config.json");
    images.class("GotOcr2ImageProcessor")?;
    let side = config.vision.image as u64;
    let size = match images.get("size") {
        None => Some(384),
        Some(Value::Object(o)) => {
            let of = |key: &str| o.get(key).and_then(Value::as_u64);
            of("height").filter(|&h| o.len() == 2 && of("width") == Some(h))
        }
        Some(v) => v.as_u64(),
    };
    if size != Some(side) {
        let want = format!("{{\"height\": {side}, \"width\": {side}}}, vision_config.image_size of {model}");
        return Err(images.wrong("size", &want));
    }
    let Some((processor, rows)) = processor.and_then(|p| Some((p, p.get("image_seq_length")?))) else { return Ok(()) };
    let what = format!("the rows of a tile by {model}");
    processor.expect("image_seq_length", rows.as_u64(), config.rows_along().pow(2), &what)
}
