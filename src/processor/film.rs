//! Videos: lists of frames with one placeholder, one for each moment, or an image for each frame. Spec: D4.8, D4.15, D4.16

use super::Processor;
use super::assemble::{assemble, fits};
use crate::error::{Error, Result, ensure};
use crate::family;
use crate::input::frames::{Chosen, Frames};
use crate::input::mrope::{self, AfterVideo};
use crate::input::{Image, Prepared, PreparedImage, Settings, video};
use std::path::PathBuf;

impl Processor {
    /// The same processor with another choice of frames.
    pub fn with_frames(mut self, frames: Frames) -> Processor {
        self.reader.settings_mut().frames = frames;
        self
    }

    /// The frames that are read of a film of `of` frames.
    ///
    /// # Errors
    /// A family that reads no videos; otherwise as [`choose`](crate::input::frames::Sampler::choose). Spec: D4.17
    pub fn chosen(&self, of: usize) -> Result<Chosen> {
        let Settings { frames, fps, .. } = *self.settings();
        let sampler = self.reader.sampler().ok_or_else(|| family::reads_no_videos(&*self.family))?;
        if frames == Frames::All { Ok(Chosen::all(of, fps)) } else { sampler?.choose(frames, of, fps) }
    }

    /// Reads the frames of a film, one file for each frame, and no frame that is not chosen.
    ///
    /// # Errors
    /// As [`Image::frames`] and [`chosen`](Self::chosen). Spec: D4.17
    pub fn film(&self, paths: &[PathBuf]) -> Result<(Vec<Image>, Chosen)> {
        let (files, chosen) = self.film_files(paths)?;
        Ok((Image::frames(&files)?, chosen))
    }

    /// The files that [`film`](Self::film) reads.
    ///
    /// # Errors
    /// As [`Image::unfolded`] and [`chosen`](Self::chosen). Spec: D4.17
    pub fn film_files(&self, paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Chosen)> {
        let files = Image::unfolded(paths)?;
        let chosen = self.chosen(files.len())?;
        Ok((chosen.at.iter().map(|&frame| files[frame].clone()).collect(), chosen))
    }

    /// The model's input for a video: its frames in order, all of one size. The template places the video before the
    /// question.
    ///
    /// # Errors
    /// A family that reads no videos; a vocabulary or a chat template without a placeholder for videos; otherwise as
    /// [`prepare`](Self::prepare). Spec: D4.8, E4.22, E4.23
    pub fn prepare_video(&self, frames: &[Image], prompt: &str, system: Option<&str>) -> Result<Prepared> {
        self.prepare_film(frames, &Chosen::all(frames.len(), self.settings().fps), prompt, system)
    }

    /// As [`prepare_video`](Self::prepare_video), for the frames that were chosen of a film.
    ///
    /// # Errors
    /// As [`prepare_video`](Self::prepare_video). Spec: D4.17
    pub fn prepare_film(
        &self,
        frames: &[Image],
        chosen: &Chosen,
        prompt: &str,
        system: Option<&str>,
    ) -> Result<Prepared> {
        let seen: Vec<Image> = frames.iter().map(|frame| self.seen(frame).into_owned()).collect();
        let size = video::one_size(&seen)?;
        // An error about "image" concerns the frames, so the message names the first frame.
        let of = |e: Error| if e.at == "image" { Error { at: frames[0].label().to_owned(), ..e } } else { e };
        if let Some(reader) = self.reader.of_frames() {
            let (mark, special) = (self.reader.mark(), self.tokenizer.specials());
            let (rendered, text) = self.dialogue.clip(frames.len(), prompt, system, mark, special)?;
            let out = self.prepared(&*reader?, frames, text, &[prompt, system.unwrap_or_default()])?;
            let preprocess = format!("{}{}", out.preprocess, of_film(chosen));
            return Ok(Prepared { prompt: rendered, preprocess, ..out });
        }
        let reader = self.reader.videos().ok_or_else(|| family::reads_no_videos(&*self.family))?;
        let rows = reader.packing(frames.len(), size).map_err(of)?.rows.len();
        let Some(token) = self.family.profile().video_token else {
            let expected = "an id for videos (video_token_id) in the vocabulary";
            return Err(Error::new(self.files.label("config.json"), expected, "none"));
        };
        let rendered = self.dialogue.film(prompt, system, self.tokenizer.specials())?;
        let placeholder = self.tokenizer.token(token).unwrap_or_default();
        let written = reader.written(&rendered, &placeholder, chosen);
        let ids = self.encode(&rendered)?;
        let count = |token: u32| ids.iter().filter(|&&id| id == token).count();
        let (videos, images) = (count(token), count(self.family.image_token()));
        ensure!(
            (videos, images) == (1, 0),
            "prompt",
            format!("one placeholder of a video (id {token}) and none of an image"),
            format!("{videos} and {images}"),
            "the chat template writes the placeholder for {\"type\": \"video\"}; the question must not hold one"
        );
        let ids = written.map_or(Ok(ids), |written| self.encode(&written))?;
        fits(self.family.text(), ids.len() - 1 + rows, rows)?;
        let video = PreparedImage { interval: self.family.interval(chosen.rate()), ..reader.prepare(&seen)? };
        let mut out = assemble(&*self.family, &ids, vec![video])?;
        (out.prompt, out.preprocess) = (rendered, self.preprocess(frames) + &of_film(chosen));
        if let (AfterVideo::Side, Some(video), Some([_, h, w])) =
            (self.settings().after_video, out.roles.one_run(), out.images[0].grid)
            && mrope::after_side(&mut out.positions, video, h.max(w) / self.reader.merged())
        {
            out.preprocess += "; after-video side";
        }
        Ok(out)
    }
}

/// The frames that were chosen, for the bundle; empty if all were.
fn of_film(chosen: &Chosen) -> String {
    if chosen.is_all() { String::new() } else { format!("; {}", chosen.words()) }
}
