//! Which frames of a film are read: all of them, or those that the checkpoint's video processor chooses.
//!
//! Source: transformers 5.24 `sample_frames` of the video processors, `default_sample_indices_fn`,
//! `VideoMetadata.sampled_fps`; InternVL's own form: `get_index` on the checkpoint's page. Spec: D4.17, E4.32

use super::image::MAX_IMAGES;
use super::section::Section;
use crate::error::{Error, Result, ensure};
use serde_json::Value;

/// What the caller wants to be read of a film. Spec: D4.17
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Frames {
    /// Every frame.
    #[default]
    All,
    /// As many as the checkpoint's settings say.
    Settings,
    /// So many frames a second.
    Rate(f64),
    /// So many frames.
    Count(usize),
}

/// The frames that are read of a film. Spec: D4.17
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The numbers of the frames in the film, from 0, in order.
    pub at: Vec<usize>,
    /// The number of frames of the film.
    pub of: usize,
    /// The frames a second of the film.
    pub fps: f64,
}

impl Chosen {
    /// Every frame of a film.
    pub fn all(of: usize, fps: f64) -> Chosen {
        Chosen { at: (0..of).collect(), of, fps }
    }

    /// Whether every frame is read once.
    pub fn is_all(&self) -> bool {
        self.at.iter().copied().eq(0..self.of)
    }

    /// The times of the frames in seconds.
    pub fn seconds(&self) -> impl Iterator<Item = f64> + '_ {
        self.at.iter().map(|&frame| frame as f64 / self.fps)
    }

    /// How many of these frames a second has.
    pub fn rate(&self) -> f64 {
        self.at.len() as f64 / self.of as f64 * self.fps
    }

    /// The frames and their times, for people: `8 of 240 frames: 0 (0.0 s), …`.
    pub fn words(&self) -> String {
        let each: Vec<String> = self.at.iter().zip(self.seconds()).map(|(at, s)| format!("{at} ({s:.1} s)")).collect();
        format!("{} of {} frames: {}", self.at.len(), self.of, each.join(", "))
    }
}

/// Where the chosen frames stand. n frames of a film of f. Spec: E4.32
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// At the starts of n equal parts; n is a multiple of the frames of a moment.
    Starts {
        /// τ: the frames of a moment.
        together: usize,
    },
    /// At the starts of n equal parts, in whole numbers.
    Even,
    /// From the first to the last frame at equal distances.
    Ends,
    /// In the middle of n equal parts, or after another shift.
    Shifted,
    /// In the middle of n equal parts of the film without its last frame.
    Segments,
}

/// A family's rule, and what a checkpoint's settings say about it. Spec: E4.32
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    rule: Rule,
    rate: Option<f64>,
    count: Option<usize>,
    /// The fewest and the most frames, if their number follows from a rate.
    bounds: (usize, usize),
    /// The first place, if it is not the middle of a part.
    shift: Option<f64>,
}

impl Sampler {
    /// The rule of families that choose by number alone, without settings: `count` frames.
    pub const fn fixed(rule: Rule, count: usize) -> Sampler {
        Sampler { rule, rate: None, count: Some(count), bounds: (4, 768), shift: None }
    }

    /// The settings in a checkpoint's section of videos; `rate`: the frames a second if the section names none.
    ///
    /// # Errors
    /// A field of the wrong type, or both a rate and a number. Spec: T4.11
    pub(super) fn read(section: &Section, rule: Rule, rate: Option<f64>) -> Result<Sampler> {
        let whole = |key: &str, default: Option<usize>| match section.get(key) {
            None => Ok(default),
            Some(v) => match v.as_u64().filter(|n| (1..=1 << 20).contains(n)) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(section.wrong(key, "a whole number from 1 to 1048576")),
            },
        };
        let count = whole("num_frames", None)?;
        let fps = match section.get("fps") {
            None => rate.filter(|_| count.is_none()),
            Some(v) => match v.as_f64().filter(|fps| (1e-3..=1e4).contains(fps)) {
                Some(fps) => Some(fps),
                None => return Err(section.wrong("fps", "a number from 0.001 to 10000")),
            },
        };
        let both = fps.is_some() && count.is_some() && rule != Rule::Shifted;
        ensure!(!both, format!("{}: fps, num_frames", section.at), "one of them", "both");
        let shift = match section.get("initial_shift").filter(|_| rule == Rule::Shifted) {
            None | Some(Value::Bool(true)) => None,
            Some(Value::Bool(false)) => Some(0.0),
            Some(v) => match v.as_f64().filter(|shift| (0.0..=1e9).contains(shift)) {
                Some(shift) => Some(shift),
                None => return Err(section.wrong("initial_shift", "true, false or a number from 0")),
            },
        };
        let bounds = (whole("min_frames", Some(4))?.unwrap_or(4), whole("max_frames", Some(768))?.unwrap_or(768));
        Ok(Sampler { rule, rate: fps, count, bounds, shift })
    }

    /// The frames of a film of `of` frames, of which a second has `fps`.
    ///
    /// # Errors
    /// The settings say no number; the rule chooses no frame, or more frames than the film has. Spec: E4.32
    ///
    /// ```
    /// use aircache::input::frames::{Frames, Rule, Sampler};
    /// let sampler = Sampler::fixed(Rule::Ends, 3);
    /// assert_eq!(sampler.choose(Frames::Settings, 9, 24.0)?.at, [0, 4, 8]);
    /// # Ok::<(), aircache::Error>(())
    /// ```
    pub fn choose(&self, frames: Frames, of: usize, fps: f64) -> Result<Chosen> {
        let (rate, count) = match frames {
            Frames::All => return Ok(Chosen::all(of, fps)),
            Frames::Settings => (self.rate, self.count),
            Frames::Rate(rate) => (Some(rate), None),
            Frames::Count(count) => (None, Some(count)),
        };
        let n = match (count, rate) {
            (Some(n), _) => self.counted(n),
            (None, Some(_)) if self.rule == Rule::Segments => {
                let expected = "a number of frames: the family's own rule knows no rate";
                return Err(Error::new("frames", expected, "a rate"));
            }
            (None, Some(rate)) => self.rated(of, of as f64 / fps * rate),
            (None, None) if self.rule == Rule::Even => of,
            (None, None) => {
                let expected = "fps or num_frames in the settings of videos";
                return Err(Error::new("frames", expected, "neither").remedy("say how many frames are read"));
            }
        };
        let most = if matches!(self.rule, Rule::Ends | Rule::Segments) { MAX_IMAGES } else { of };
        let found = || format!("{n} of a film of {of}");
        ensure!(n > 0, "frames", "a rule that chooses a frame", found(), "read all of them, or name a larger number");
        ensure!(n <= most, "frames", format!("at most {most} frames"), found(), "name a smaller number of frames");
        // A shift of its own leaves less of the film than n parts.
        let fits = |k: &usize| self.shift.is_none_or(|shift| shift + *k as f64 * of as f64 / (n as f64) < of as f64);
        let at: Vec<usize> = (0..n).take_while(fits).map(|k| self.place(k, n, of, fps)).collect();
        ensure!(!at.is_empty(), "frames", "an initial_shift within the film", found());
        Ok(Chosen { at, of, fps })
    }

    /// The number of frames, if the caller or the settings name it.
    fn counted(&self, n: usize) -> usize {
        match self.rule {
            Rule::Starts { together } => (n as f64 / together as f64).round_ties_even() as usize * together,
            _ => n,
        }
    }

    /// The number of frames, if it follows from a rate. wanted: the seconds of the film by the rate.
    fn rated(&self, of: usize, wanted: f64) -> usize {
        let (least, most) = self.bounds;
        let whole = wanted as usize;
        match self.rule {
            Rule::Starts { together } => {
                let most = most.min(of) / together * together;
                wanted.max(least as f64).min(most as f64) as usize / together * together
            }
            Rule::Ends => whole.max(least).min(most).min(of),
            Rule::Even => whole.max(1),
            Rule::Shifted | Rule::Segments => whole,
        }
    }

    /// The number of the frame k of n. PyTorch counts by fractions of f32, numpy by those of f64. Spec: E4.32, A4.10
    fn place(&self, k: usize, n: usize, of: usize, fps: f64) -> usize {
        let (step, k_f) = (of as f64 / n as f64, k as f64);
        let at = match self.rule {
            Rule::Starts { .. } => f64::from((k_f * step) as f32),
            Rule::Even => return (k as u128 * of as u128 / n as u128) as usize,
            Rule::Ends if n == 1 => 0.0,
            Rule::Ends => (k_f * ((of - 1) as f64 / (n - 1) as f64)).round_ties_even(),
            Rule::Shifted => f64::from((self.shift.unwrap_or(step / 2.0) + k_f * step) as f32),
            Rule::Segments => {
                let last = (1e5 * fps).round_ties_even().min((of - 1) as f64);
                let part = last / n as f64;
                part / 2.0 + (part * k_f).round_ties_even()
            }
        };
        (at as usize).min(of - 1)
    }
}
