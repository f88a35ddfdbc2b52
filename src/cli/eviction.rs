//! Options of the eviction: `--policy`, `--retain`, `--retain-tokens`, `--alpha`.

use super::heads;
use super::out::Messages;
use aircache::Result;
use aircache::policy::{Policy, Retain, preset};

/// Options of the eviction.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Eviction")]
pub struct Eviction {
    /// The eviction method: a name, parts (window=last-text:32,budget=uniform), or a name and the parts that differ;
    /// `help` lists them [default: aircache with --retain or --retain-tokens, otherwise full]
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Share of the visual KV entries that is kept, over all layers: 0 < R <= 1
    #[arg(long, value_name = "R", allow_hyphen_values = true, conflicts_with = "retain_tokens")]
    pub retain: Option<String>,
    /// The mean number of visual KV entries that a layer keeps
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub retain_tokens: Option<String>,
    /// A text token is elite if its attention is at least A times the largest: 0 <= A <= 1 [default: 0.9]
    #[arg(long, value_name = "A", allow_hyphen_values = true)]
    pub alpha: Option<String>,
}

impl Eviction {
    /// True if the policies are to be listed instead.
    pub fn wants_list(&self) -> bool {
        self.policy.as_deref() == Some("help")
    }

    /// The policy and the retention.
    ///
    /// # Errors
    /// Unknown names or parts, numbers out of range.
    pub fn resolve(&self, messages: Messages) -> Result<(Policy, Retain)> {
        let retain = match (&self.retain, &self.retain_tokens) {
            (Some(r), _) => Some(r.parse::<Retain>().map_err(|e| option("--retain", e))?),
            (None, Some(n)) => Some(Retain::tokens(number("--retain-tokens", n, "a whole number of at least 1")?)?),
            (None, None) => None,
        };
        let mut policy: Policy = match (&self.policy, retain) {
            (Some(text), _) => heads::read("--policy", text)?.parse().map_err(|e| option("--policy", e))?,
            (None, Some(_)) => Policy::AIRCACHE,
            (None, None) => preset("full")?.policy.clone(),
        };
        if let Some(alpha) = &self.alpha {
            let expected = "a number A with 0 <= A <= 1";
            let a: f64 = number("--alpha", alpha, expected)?;
            if !(0.0..=1.0).contains(&a) {
                return Err(aircache::Error::new("--alpha", expected, alpha));
            }
            let elite = "--alpha needs window=elite, as in --policy aircache";
            policy = policy.with_alpha(a).map_err(|e| option("--alpha", e).remedy(elite))?;
        }
        if retain.is_none() && policy.name() != Some("full") {
            messages.note("note: without --retain or --retain-tokens nothing is evicted".into());
        }
        Ok((policy, retain.unwrap_or(Retain::ALL)))
    }
}

/// Parses the number that the user gave for an option.
///
/// # Errors
/// The text is no number.
pub fn number<N: std::str::FromStr>(option: &str, text: &str, expected: &str) -> Result<N> {
    text.parse().map_err(|_| aircache::Error::new(option, expected, format!("{text:?}")))
}

/// Converts the error of a part of an option into an error of the whole option.
fn option(name: &str, e: aircache::Error) -> aircache::Error {
    let at = match e.at.split_once(": ") {
        Some((_, part)) => format!("{name}: {part}"),
        None => name.to_string(),
    };
    aircache::Error { at, ..e }
}
