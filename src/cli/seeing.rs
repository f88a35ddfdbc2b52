//! Options that change how pictures are read.

use aircache::Result;
use aircache::input::frames::{Chosen, Frames};
use aircache::input::mrope::AfterVideo;
use aircache::input::{Image, Limits, Orientation};
use aircache::kernel::resample::Resampler;
use aircache::processor::Processor;

use super::out::Messages;

/// Options that change how pictures are read.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pictures")]
pub struct Seeing {
    /// The program whose arithmetic resizes images: torchvision, pillow (13) or pillow-12
    #[arg(long, value_name = "NAME", value_parser = resampler)]
    resampler: Option<Resampler>,
    /// The fewest pixels at which an image is read (Qwen2-VL) [default: the checkpoint's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    min_pixels: Option<usize>,
    /// The most pixels at which an image is read (Qwen2-VL) [default: the checkpoint's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    max_pixels: Option<usize>,
    /// The most tiles of an image (InternVL) [default: the checkpoint's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    max_tiles: Option<usize>,
    /// The colour behind pictures with alpha: white, black or #rrggbb [default: alpha is dropped, as transformers does]
    #[arg(long, value_name = "COLOUR", value_parser = colour)]
    background: Option<[u8; 3]>,
    /// Whether pictures are turned as their EXIF says [default: as the family's own program does]
    #[arg(long, value_enum, value_name = "exif|ignore")]
    orientation: Option<Turning>,
    /// Where the text after a video stands (Qwen2-VL): `side` as transformers 5.3 and later [default: as trained]
    #[arg(long, value_enum, value_name = "largest|side")]
    after_video: Option<After>,
    /// The frames a second of a video, for families that read times [default: 24, as transformers 5 has it]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = rate)]
    fps: Option<f64>,
    /// Which frames of a video are read: `all`, `rule` (as many as the checkpoint says), N of them, or N/s a second, all by the family's rule [default: all]
    #[arg(long, value_name = "all|rule|N|N/s", value_parser = frames)]
    frames: Option<Frames>,
}

/// Where the text after a video stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum After {
    /// Behind every position of the video: as the model was trained, and as vLLM and SGLang do
    Largest,
    /// Behind the longer side of a frame, as transformers 5.3 and later
    Side,
}

impl From<After> for AfterVideo {
    fn from(after: After) -> AfterVideo {
        match after {
            After::Largest => AfterVideo::Largest,
            After::Side => AfterVideo::Side,
        }
    }
}

/// What is done with a picture that is stored turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Turning {
    /// The picture is turned, as transformers' `load_image` does
    Exif,
    /// The picture stays as it is stored
    Ignore,
}

impl From<Turning> for Orientation {
    fn from(turning: Turning) -> Orientation {
        match turning {
            Turning::Exif => Orientation::Exif,
            Turning::Ignore => Orientation::Ignore,
        }
    }
}

fn resampler(name: &str) -> std::result::Result<Resampler, String> {
    let known: Vec<_> = Resampler::ALL.iter().map(|r| r.name()).collect();
    let found = Resampler::ALL.into_iter().find(|r| r.name() == name);
    found.ok_or_else(|| format!("expected one of {}", known.join(", ")))
}

fn count(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number above 0".into())
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let known = text.parse().ok().filter(|fps| (1e-3..=1e4).contains(fps));
    known.ok_or_else(|| "expected a number from 0.001 to 10000".into())
}

fn frames(text: &str) -> std::result::Result<Frames, String> {
    let known = match (text, text.strip_suffix("/s")) {
        ("all", _) => Some(Frames::All),
        ("rule", _) => Some(Frames::Settings),
        (_, Some(a_second)) => rate(a_second).ok().map(Frames::Rate),
        (_, None) => count(text).ok().map(Frames::Count),
    };
    known.ok_or_else(|| "expected all, rule, a whole number above 0, or a number and /s".into())
}

fn colour(text: &str) -> std::result::Result<[u8; 3], String> {
    let hex = |text: &str| {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
        let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some([r, g, b])
    };
    match text {
        "white" => Ok([255; 3]),
        "black" => Ok([0; 3]),
        _ => hex(text).ok_or_else(|| "expected white, black or #rrggbb".into()),
    }
}

impl Seeing {
    /// These options, with `limits` where none is given.
    pub fn or(self, limits: Limits) -> Seeing {
        Seeing {
            min_pixels: self.min_pixels.or(limits.min_pixels),
            max_pixels: self.max_pixels.or(limits.max_pixels),
            max_tiles: self.max_tiles.or(limits.max_tiles),
            ..self
        }
    }

    fn limits(&self) -> Limits {
        Limits { min_pixels: self.min_pixels, max_pixels: self.max_pixels, max_tiles: self.max_tiles }
    }

    /// The processor with these options.
    ///
    /// # Errors
    /// The family has no such limit, or the limits contradict each other.
    pub fn apply(&self, mut processor: Processor) -> Result<Processor> {
        if let Some(resampler) = self.resampler {
            processor = processor.with_resampler(resampler);
        }
        if let Some(background) = self.background {
            processor = processor.with_background(background);
        }
        if let Some(turning) = self.orientation {
            processor = processor.with_orientation(turning.into());
        }
        if let Some(after) = self.after_video {
            processor = processor.with_after_video(after.into());
        }
        if let Some(fps) = self.fps {
            processor = processor.with_fps(fps);
        }
        if let Some(frames) = self.frames {
            processor = processor.with_frames(frames);
        }
        match self.limits().named().next() {
            Some(_) => processor.with_limits(self.limits()),
            None => Ok(processor),
        }
    }

    /// The resampler and the options that were given, for the header of a journal.
    pub fn words(&self, processor: &Processor) -> String {
        let mut words = vec![processor.settings().pixels.resampler.name().to_owned()];
        words.extend(self.limits().named().map(|(name, limit)| format!("{name} {limit}")));
        words.extend(self.background.map(|[r, g, b]| format!("background #{r:02x}{g:02x}{b:02x}")));
        words.extend(self.orientation.map(|turning| format!("orientation {}", Orientation::from(turning).name())));
        words.extend(self.after_video.map(|after| format!("after-video {}", AfterVideo::from(after).name())));
        words.extend(self.fps.map(|fps| format!("fps {fps}")));
        words.extend(self.frames.map(|frames| format!("frames {frames:?}")));
        words.join("; ")
    }

    /// Says which frames of a film are read, unless all are.
    pub fn note_frames(&self, chosen: &Chosen, messages: Messages) {
        if !chosen.is_all() {
            messages.note(format!("note: the model reads {}", chosen.words()));
        }
        let by_rate = !matches!(self.frames, None | Some(Frames::All | Frames::Count(_)));
        if by_rate && self.fps.is_none() {
            messages.note(format!(
                "note: the film is taken to have {} frames a second (--fps N says how many)",
                chosen.fps
            ));
        }
    }

    /// Says what is done with turned and with transparent pictures, unless an option chose it.
    pub fn notes(&self, processor: &Processor, images: &[Image], messages: Messages) {
        let turned = images.iter().find(|image| image.orientation() != 1);
        if let (Some(image), None) = (turned, self.orientation) {
            let name = image.label();
            messages.note(match processor.settings().orientation {
                Orientation::Exif => {
                    format!("note: {name} is stored turned, and is turned upright (--orientation ignore leaves it)")
                }
                Orientation::Ignore => {
                    format!("note: {name} is stored turned, and stays so (--orientation exif turns it upright)")
                }
            });
        }
        let transparent = images.iter().find(|image| image.is_transparent());
        if let (Some(image), None) = (transparent, self.background) {
            let name = image.label();
            messages.note(format!(
                "note: {name} has transparent pixels, and their colours count (--background white hides them)"
            ));
        }
    }
}
