//! Options of the generation.

use super::compute::Compute;
use super::eviction::number;
use super::out::Messages;
use aircache::Result;
use aircache::config::GenerationConfig;
use aircache::generate::Until;
use aircache::sample::{Sampler, Sampling};

/// How the answer is generated.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Generation")]
pub struct Answer {
    #[command(flatten)]
    pub compute: Compute,
    /// The largest number of generated tokens
    #[arg(long, value_name = "N", default_value_t = 256, allow_negative_numbers = true, value_parser = tokens::<0>)]
    pub max_new_tokens: usize,
    /// Continues after the end-of-text tokens of the checkpoint
    #[arg(long)]
    pub ignore_eos: bool,
    /// Samples tokens, from logits divided by T; 0 selects the most probable token, which is the default
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub temperature: Option<String>,
    /// Samples from the K most probable tokens, 0 = all [default: the checkpoint's]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Samples from the most probable tokens that together reach the probability P [default: the checkpoint's]
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub top_p: Option<String>,
    /// The seed of the sampling: the same seed gives the same tokens on every machine [default: 0]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// The largest number that --max-new-tokens takes: far more than the positions of any model.
const MOST_TOKENS: usize = 1 << 24;

/// Parses --max-new-tokens, in every command.
pub fn tokens<const LEAST: usize>(text: &str) -> std::result::Result<usize, String> {
    let found = text.parse().ok().filter(|n| (LEAST..=MOST_TOKENS).contains(n));
    found.ok_or_else(|| format!("expected a whole number from {LEAST} to {MOST_TOKENS}"))
}

impl Answer {
    /// The sampling; options that are not given come from the checkpoint.
    ///
    /// # Errors
    /// A number out of range.
    pub fn sampling(&self, advice: &GenerationConfig) -> Result<Sampling> {
        let temperature = self.temperature.as_ref().map(|t| number("--temperature", t, "a number of at least 0"));
        let temperature: Option<f64> = temperature.transpose()?;
        let top_p = self.top_p.as_ref().map(|p| number("--top-p", p, "a number P with 0 < P <= 1")).transpose()?;
        let drawn = temperature.is_some() || self.top_k.is_some() || top_p.is_some() || self.seed.is_some();
        if !drawn || temperature == Some(0.0) {
            return Ok(Sampling::Greedy);
        }
        let given =
            [("temperature", temperature.is_some()), ("top_k", self.top_k.is_some()), ("top_p", top_p.is_some())];
        let open = |name: &str| given.contains(&(name, false));
        if let Some((name, e)) = advice.faults.iter().find(|(name, _)| open(name)) {
            return Err(e.clone().remedy(format!("give --{}", name.replace('_', "-"))));
        }
        let sampling = Sampling::Draw {
            temperature: temperature.unwrap_or(advice.temperature),
            top_k: self.top_k.unwrap_or(advice.top_k),
            top_p: top_p.unwrap_or(advice.top_p),
            seed: self.seed.unwrap_or(0),
        };
        Sampler::new(sampling).map_err(|e| aircache::Error { at: format!("--{}", e.at.replace('_', "-")), ..e })?;
        Ok(sampling)
    }

    /// Says where the checkpoint's settings make the answer another than a user may expect.
    pub fn notes(&self, advice: &GenerationConfig, sampling: Sampling, messages: Messages) {
        if let (Sampling::Draw { top_k: 1, .. }, None) = (sampling, self.top_k) {
            messages.note(
                "note: the checkpoint's top_k = 1 leaves one token to draw from, so every seed gives the same text \
                 (--top-k 0 takes all)"
                    .into(),
            );
        }
        if !advice.not_followed.is_empty() {
            let settings = advice.not_followed.join(", ");
            messages.note(format!(
                "note: the checkpoint asks for {settings}, which is not applied; transformers applies it"
            ));
        }
    }

    /// When generation ends.
    pub fn until(&self, advice: &GenerationConfig) -> Until {
        let stop = if self.ignore_eos { Vec::new() } else { advice.eos.clone() };
        Until { stop, max_new_tokens: self.max_new_tokens }
    }
}
