//! How policies are written: `--policy` strings and the JSON of a bundle's metadata. Spec: D9.6

use super::{Budget, Decimal, Heads, Keep, Keys, Mask, Policy, Scope, Score, Text, Window, preset, presets};
use crate::error::{Error, Result, ensure};
use std::fmt;
use std::str::FromStr;

/// `word:argument` in two.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(word, argument)| (word, Some(argument)))
}

/// The argument as a number, or what it is where left out.
fn number<N: FromStr>(argument: Option<&str>, default: Option<N>) -> Option<N> {
    argument.map_or(default, |a| a.parse().ok())
}

/// Implements FromStr by `$read: fn(&str, Option<&str>) -> Option<Self>`, and names what would have been accepted.
macro_rules! written {
    ($part:ty, $name:literal, $accepted:literal, |$word:ident, $argument:ident| $read:expr) => {
        impl FromStr for $part {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let ($word, $argument) = split(text);
                let read: Option<Self> = $read;
                read.ok_or_else(|| Error::new(concat!("policy: ", $name), $accepted, format!("{text:?}")))
            }
        }
    };
}

/// Implements both ways for a part that is one of a few words.
macro_rules! words {
    ($part:ty, $name:literal, $accepted:literal, $($word:literal => $value:path),+) => {
        written!($part, $name, $accepted, |word, argument| match (word, argument) {
            $(($word, None) => Some($value),)+
            _ => None,
        });

        impl fmt::Display for $part {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word,)+ })
            }
        }
    };
}

words!(Scope, "scope", "visual or all", "visual" => Scope::Visual, "all" => Scope::All);
words!(Heads, "heads", "mean, union or kv", "mean" => Heads::Mean, "union" => Heads::Union, "kv" => Heads::Kv);
words!(Keys, "keys", "elite, all or causal", "elite" => Keys::Elite, "all" => Keys::All, "causal" => Keys::Causal);
words!(Mask, "mask", "none or causal", "none" => Mask::None, "causal" => Mask::Causal);

written!(
    Window,
    "window",
    "elite:ALPHA, last-text:N, all-text, last-visual:N, last:N, all-queries or none",
    |word, argument| match word {
        "elite" => number(argument, Some(0.9)).map(|alpha| Window::Elite { alpha }),
        "last-text" => number(argument, None).map(Window::LastText),
        "last-visual" => number(argument, None).map(Window::LastVisual),
        "last" => number(argument, None).map(Window::Last),
        "all-text" if argument.is_none() => Some(Window::AllText),
        "all-queries" if argument.is_none() => Some(Window::AllQueries),
        "none" if argument.is_none() => Some(Window::Nobody),
        _ => None,
    }
);

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Nobody => f.write_str("none"),
            Window::AllQueries => f.write_str("all-queries"),
            Window::Last(n) => write!(f, "last:{n}"),
            Window::LastText(n) => write!(f, "last-text:{n}"),
            Window::AllText => f.write_str("all-text"),
            Window::LastVisual(n) => write!(f, "last-visual:{n}"),
            Window::Elite { alpha } => write!(f, "elite:{alpha}"),
        }
    }
}

written!(Score, "score", "mean, sum, pool:KERNEL, position or random:SEED", |word, argument| match word {
    "mean" if argument.is_none() => Some(Score::Mean),
    "sum" if argument.is_none() => Some(Score::Sum),
    "pool" => number(argument, Some(5)).map(Score::Pool),
    "position" if argument.is_none() => Some(Score::Position),
    "random" => number(argument, Some(0)).map(Score::Random),
    _ => None,
});

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Score::Mean => f.write_str("mean"),
            Score::Sum => f.write_str("sum"),
            Score::Pool(kernel) => write!(f, "pool:{kernel}"),
            Score::Position => f.write_str("position"),
            Score::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

written!(
    Budget,
    "budget",
    "uniform, pyramid:BETA, prefix, sparsity:P, strength, skewness, both or full",
    |word, argument| match word {
        "pyramid" => number(argument, Some(Decimal::new(20, 0))).map(|beta| Budget::Pyramid { beta }),
        "sparsity" => number(argument, Some(0.01)).map(|p| Budget::Sparsity { p }),
        _ if argument.is_some() => None,
        "full" => Some(Budget::Full),
        "uniform" => Some(Budget::Uniform),
        "prefix" => Some(Budget::Prefix),
        "strength" => Some(Budget::Strength),
        "skewness" => Some(Budget::Skewness),
        "both" => Some(Budget::Both),
        _ => None,
    }
);

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Full => f.write_str("full"),
            Budget::Uniform => f.write_str("uniform"),
            Budget::Pyramid { beta } => write!(f, "pyramid:{beta}"),
            Budget::Prefix => f.write_str("prefix"),
            Budget::Sparsity { p } => write!(f, "sparsity:{p}"),
            Budget::Strength => f.write_str("strength"),
            Budget::Skewness => f.write_str("skewness"),
            Budget::Both => f.write_str("both"),
        }
    }
}

written!(Text, "text", "after, all or question", |word, argument| match (word, argument) {
    ("after", None) => Some(Text::After),
    ("all", None) => Some(Text::All),
    ("question", None) => Some(Text::Question { tail: None }),
    ("question", Some(tail)) => tail.parse().ok().map(|tail| Text::Question { tail: Some(tail) }),
    _ => None,
});

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text::After => f.write_str("after"),
            Text::All => f.write_str("all"),
            Text::Question { tail: None } => f.write_str("question"),
            Text::Question { tail: Some(tail) } => write!(f, "question:{tail}"),
        }
    }
}

impl FromStr for Keep {
    type Err = Error;

    /// `top`, and after it any of `+first:N`, `+last:N`, `+window`, `+recent:SHARE` (a half if left out).
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let accepted = "top, with any of +first:N, +last:N, +window, +recent:SHARE after it";
            Error::new("policy: keep", accepted, format!("{text:?}"))
        };
        let mut parts = text.split('+');
        ensure!(parts.next() == Some("top"), bad().at, bad().expected, bad().got);
        let mut keep = Keep::TOP;
        for part in parts {
            match split(part) {
                ("first", n) => keep.first = number(n, None).ok_or_else(bad)?,
                ("last", n) => keep.last = number(n, None).ok_or_else(bad)?,
                ("window", None) => keep.window = true,
                ("recent", share) => keep.recent = number(share, Some(Decimal::new(5, 1))).ok_or_else(bad)?,
                _ => return Err(bad()),
            }
        }
        Ok(keep)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("top")?;
        if self.first > 0 {
            write!(f, "+first:{}", self.first)?;
        }
        if self.last > 0 {
            write!(f, "+last:{}", self.last)?;
        }
        if self.window {
            f.write_str("+window")?;
        }
        if self.recent.numerator() > 0 {
            write!(f, "+recent:{}", self.recent)?;
        }
        Ok(())
    }
}

impl Policy {
    /// The parts by name, as they are written, in the order of the struct.
    pub fn parts(&self) -> [(&'static str, String); 9] {
        [
            ("window", self.window.to_string()),
            ("score", self.score.to_string()),
            ("budget", self.budget.to_string()),
            ("keep", self.keep.to_string()),
            ("scope", self.scope.to_string()),
            ("text", self.text.to_string()),
            ("heads", self.heads.to_string()),
            ("keys", self.keys.to_string()),
            ("mask", self.mask.to_string()),
        ]
    }

    /// The name of the preset that this is, if it is one.
    pub fn name(&self) -> Option<&'static str> {
        presets().iter().find(|p| p.policy == *self).map(|p| p.name)
    }

    fn set(&mut self, part: &str, value: &str) -> Result<()> {
        match part {
            "window" => self.window = value.parse()?,
            "score" => self.score = value.parse()?,
            "budget" => self.budget = value.parse()?,
            "keep" => self.keep = value.parse()?,
            "scope" => self.scope = value.parse()?,
            "text" => self.text = value.parse()?,
            "heads" => self.heads = value.parse()?,
            "keys" => self.keys = value.parse()?,
            "mask" => self.mask = value.parse()?,
            _ => {
                let known: Vec<_> = self.parts().into_iter().map(|(name, _)| name).collect();
                return Err(Error::new(
                    "policy",
                    format!("one of the parts {}", known.join(", ")),
                    format!("{part:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Several policies in one string: separated by `;`, or by commas, where a name begins the next policy and
    /// `part=value` changes the one before it (the very first part begins one from AirCache's parts).
    ///
    /// # Errors
    /// As for one policy.
    ///
    /// ```
    /// use aircache::policy::Policy;
    /// assert_eq!(Policy::list("full,snapkv,heads=mean,aircache")?.len(), 3);
    /// assert_eq!(Policy::list("window=all-text;budget=uniform")?.len(), 2);
    /// # Ok::<(), aircache::Error>(())
    /// ```
    pub fn list(text: &str) -> Result<Vec<(String, Policy)>> {
        let mut each: Vec<String> = vec![];
        for group in text.split(';').filter(|g| !g.trim().is_empty()) {
            for (i, word) in group.split(',').map(str::trim).enumerate() {
                match each.last_mut() {
                    Some(last) if i > 0 && word.contains('=') => *last = format!("{last},{word}"),
                    _ => each.push(word.to_string()),
                }
            }
        }
        each.into_iter().map(|written| Ok((written.clone(), written.parse()?))).collect()
    }
}

impl FromStr for Policy {
    type Err = Error;

    /// A preset's name, parts (`part=value`, the others being AirCache's), or a name and then the parts that differ.
    /// Spec: D9.6
    fn from_str(text: &str) -> Result<Self> {
        let mut policy = Policy::AIRCACHE;
        for (i, word) in text.split(',').map(str::trim).enumerate() {
            match word.split_once('=') {
                Some((part, value)) => policy.set(part.trim(), value.trim())?,
                None if i == 0 => policy = preset(word)?.policy,
                None => return Err(Error::new("policy", "part=value after the first word", format!("{word:?}"))),
            }
        }
        policy.check()?;
        Ok(policy)
    }
}

impl fmt::Display for Policy {
    /// The preset's name, or the parts that are not AirCache's. Spec: D9.6
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        let differing = self.parts().into_iter().zip(Policy::AIRCACHE.parts()).filter(|(a, b)| a != b);
        f.write_str(&differing.map(|((part, value), _)| format!("{part}={value}")).collect::<Vec<_>>().join(","))
    }
}

/// The JSON form: `{"name": …}` and any of the parts; `alpha` beside `"window": "elite"` is taken as well. Parts left
/// out are the named preset's, or AirCache's. Keys that are not known are passed over. Spec: D9.6
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(flatten)]
    parts: std::collections::BTreeMap<String, serde_json::Value>,
}

impl From<Policy> for Form {
    fn from(policy: Policy) -> Self {
        let name = Some(policy.name().unwrap_or("custom").to_string());
        let parts = policy.parts().into_iter().map(|(part, value)| (part.to_string(), value.into())).collect();
        Form { name, alpha: None, parts }
    }
}

impl TryFrom<Form> for Policy {
    type Error = Error;

    fn try_from(form: Form) -> Result<Self> {
        let mut policy = match form.name.as_deref() {
            None | Some("custom") => Policy::AIRCACHE,
            Some(name) => preset(name)?.policy,
        };
        for (part, _) in Policy::AIRCACHE.parts() {
            match form.parts.get(part) {
                None | Some(serde_json::Value::Null) => {}
                Some(serde_json::Value::String(value)) => policy.set(part, value)?,
                Some(other) => return Err(Error::new(format!("policy: {part}"), "a string", other)),
            }
        }
        policy.check()?;
        form.alpha.map_or(Ok(policy), |alpha| policy.with_alpha(alpha))
    }
}
