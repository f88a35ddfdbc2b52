//! Videos as lists of frames: the code that families with videos share. This file decodes no film and picks no frames
//! from one.
//!
//! A video takes one place in a prompt, as an image does, but with its own placeholder. Its frames have one size and
//! are in order. Source: transformers 5.17 `BaseVideoProcessor`. Spec: D4.8, T4.11

use super::frames::{Chosen, Rule, Sampler};
use super::image::Image;
use super::pixels::Pixels;
use super::section::Section;
use super::settings::{PREPROCESSOR, PROCESSOR};
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use serde_json::Value;

/// The file of transformers 4 with the video processor's settings.
const VIDEO: &str = "video_preprocessor_config.json";

/// The size (height, width) of all frames. Spec: D4.8
///
/// # Errors
/// No frame; frames of different sizes.
pub fn one_size(frames: &[Image]) -> Result<(usize, usize)> {
    let Some(first) = frames.first() else { return Err(Error::new("video", "at least one frame", "none")) };
    let (h, w) = first.size();
    let Some(other) = frames.iter().find(|f| f.size() != (h, w)) else { return Ok((h, w)) };
    let got = format!("{} × {}", other.size().0, other.size().1);
    let want = format!("a frame of {h} × {w} pixels, as the first, {}, has", first.label());
    Err(Error::new(other.label(), want, got).remedy("resize the frames to one size, or give them as images"))
}

/// The time of each moment in seconds: the mean of the times of its first and its last frame. The last frame is repeated.
/// Spec: D4.15
///
/// ```
/// let frames = aircache::input::frames::Chosen::all(3, 2.0);
/// assert_eq!(aircache::input::video::times(&frames, 2), [0.25, 1.0]);
/// ```
pub fn times(frames: &Chosen, together: usize) -> Vec<f64> {
    let at: Vec<f64> = frames.seconds().collect();
    at.chunks(together).map(|moment| (moment[0] + moment[moment.len() - 1]) / 2.0).collect()
}

/// The text before the frames of a clip that are images of the prompt: a line for each. mark: what stands for an image.
/// Spec: D4.16
pub fn lines(frames: usize, mark: &str) -> String {
    (1..=frames).map(|frame| format!("Frame{frame}: {mark}\n")).collect()
}

/// The settings for frames that are resized to one tile of `side` pixels each. Spec: T4.11
///
/// # Errors
/// As [`section`]; another size; frames that are not resized.
pub(crate) fn of_tiles(files: &Files, side: usize) -> Result<Pixels> {
    let section = section(files)?;
    let edge = |key: &str| section.get("size").map_or(Some(384), |size| size.get(key)?.as_u64());
    for key in ["height", "width"] {
        section.expect("size", edge(key), side, "vision_config.image_size of config.json")?;
    }
    let pixels = Pixels::read(&section, Pixels::CLIP)?;
    ensure!(pixels.resize, format!("{}: do_resize", section.at), "true", "false");
    Ok(pixels)
}

/// The video processor's settings: `video_processor` in `processor_config.json`, otherwise the first existing file of
/// `video_preprocessor_config.json` and `preprocessor_config.json`. Spec: T4.11
///
/// # Errors
/// None of these exists; a file that is not a JSON object; a setting that changes pixels in an unsupported way.
pub(crate) fn section(files: &Files) -> Result<Section> {
    let nested = Section::read(files, PROCESSOR)?.and_then(|p| match p.get("video_processor")? {
        Value::Object(fields) => Some(Ok(Section { at: format!("{}: video_processor", p.at), fields: fields.clone() })),
        _ => Some(Err(p.wrong("video_processor", "a JSON object"))),
    });
    let found = match nested {
        Some(section) => Some(section?),
        None => match Section::read(files, VIDEO)? {
            Some(section) => Some(section),
            None => Section::read(files, PREPROCESSOR)?,
        },
    };
    let Some(section) = found else {
        return Err(Error::new(files.label(VIDEO), "the video processor's settings", "no such file")
            .remedy("copy it from the checkpoint's page"));
    };
    for key in ["do_center_crop", "cap_pixels_per_frame"] {
        ensure!(!section.flag(key, false)?, format!("{}: {key}", section.at), "false", "true");
    }
    Ok(section)
}

/// How a checkpoint's video processor chooses frames; `rate`: the frames a second if its files name none. Spec: D4.17
///
/// # Errors
/// As [`section`]; a field of the wrong type. Spec: T4.11
pub(crate) fn sampler(files: &Files, rule: Rule, rate: Option<f64>) -> Result<Sampler> {
    Sampler::read(&section(files)?, rule, rate)
}
