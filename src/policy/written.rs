//! How the parts of a policy are written: `FromStr` and `Display` of each. Spec: D9.6

use super::{Budget, Decimal, Evict, Heads, Keep, Keys, Mask, Scope, Score, Split, Text, Window};
use crate::error::{Error, Result, ensure};
use std::fmt;
use std::str::FromStr;

/// Splits `word:argument` into word and argument.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(word, argument)| (word, Some(argument)))
}

/// The argument as a number, or the default if there is no argument.
fn number<N: FromStr>(argument: Option<&str>, default: Option<N>) -> Option<N> {
    argument.map_or(default, |a| a.parse().ok())
}

/// Implements FromStr by `$read: fn(&str, Option<&str>) -> Option<Self>`; the error names the accepted forms.
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

/// Implements `FromStr` and `Display` for a part that is one of a few words.
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
words!(
    Heads, "heads", "mean, union, kv or kv-max",
    "mean" => Heads::Mean, "union" => Heads::Union, "kv" => Heads::Kv, "kv-max" => Heads::KvMax
);
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

written!(
    Score,
    "score",
    "mean, sum, received-mean, text-weighted, pool:KERNEL, max-pool:KERNEL, mix:KERNEL, keydiff, knorm, value-norm, \
     expected:POSITIONS, position or random:SEED",
    |word, argument| match word {
        "pool" => number(argument, Some(5)).map(Score::Pool),
        "max-pool" => number(argument, Some(7)).map(Score::MaxPool),
        "mix" => number(argument, Some(5)).map(Score::Mix),
        "expected" => number(argument, Some(512)).map(Score::Expected),
        "random" => number(argument, Some(0)).map(Score::Random),
        _ if argument.is_some() => None,
        "mean" => Some(Score::Mean),
        "sum" => Some(Score::Sum),
        "received-mean" => Some(Score::ReceivedMean),
        "text-weighted" => Some(Score::TextWeighted),
        "keydiff" => Some(Score::KeyDiff),
        "knorm" => Some(Score::KeyNorm),
        "value-norm" => Some(Score::ValueNorm),
        "position" => Some(Score::Position),
        _ => None,
    }
);

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Score::Mean => f.write_str("mean"),
            Score::Sum => f.write_str("sum"),
            Score::ReceivedMean => f.write_str("received-mean"),
            Score::TextWeighted => f.write_str("text-weighted"),
            Score::Pool(kernel) => write!(f, "pool:{kernel}"),
            Score::MaxPool(kernel) => write!(f, "max-pool:{kernel}"),
            Score::Mix(kernel) => write!(f, "mix:{kernel}"),
            Score::KeyDiff => f.write_str("keydiff"),
            Score::KeyNorm => f.write_str("knorm"),
            Score::ValueNorm => f.write_str("value-norm"),
            Score::Expected(positions) => write!(f, "expected:{positions}"),
            Score::Position => f.write_str("position"),
            Score::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

written!(
    Budget,
    "budget",
    "uniform, pyramid:BETA, prefix, sparsity:P, entropy, votes, heads, strength, skewness, both or full",
    |word, argument| match word {
        "pyramid" => number(argument, Some(Decimal::new(20, 0))).map(|beta| Budget::Pyramid { beta }),
        "sparsity" => number(argument, Some(0.01)).map(|p| Budget::Sparsity { p }),
        _ if argument.is_some() => None,
        "full" => Some(Budget::Full),
        "uniform" => Some(Budget::Uniform),
        "prefix" => Some(Budget::Prefix),
        "entropy" => Some(Budget::Entropy),
        "votes" => Some(Budget::Votes),
        "heads" => Some(Budget::Heads),
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
            Budget::Entropy => f.write_str("entropy"),
            Budget::Votes => f.write_str("votes"),
            Budget::Heads => f.write_str("heads"),
            Budget::Strength => f.write_str("strength"),
            Budget::Skewness => f.write_str("skewness"),
            Budget::Both => f.write_str("both"),
        }
    }
}

impl FromStr for Split {
    type Err = Error;

    /// `file:PATH` is no form of a policy itself: a program that reads the file puts its scores in place of it.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let accepted = "even, ada:FLOOR or heads:FLOOR:SCORES; a command also takes file:PATH or file:FLOOR:PATH";
            Error::new("policy: split", accepted, format!("{text:?}"))
        };
        let (word, argument) = split(text);
        match (word, argument) {
            ("even", None) => Ok(Split::Even),
            ("ada", floor) => Ok(Split::Ada { floor: number(floor, Some(Decimal::new(2, 1))).ok_or_else(bad)? }),
            ("heads", Some(told)) => {
                let (floor, scores) = told.split_once(':').ok_or_else(bad)?;
                Ok(Split::Heads { floor: floor.parse().map_err(|_| bad())?, scores: scores.parse()? })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Split::Even => f.write_str("even"),
            Split::Ada { floor } => write!(f, "ada:{floor}"),
            Split::Heads { floor, scores } => write!(f, "heads:{floor}:{scores}"),
        }
    }
}

written!(Evict, "evict", "drop, merge:nearest, merge:pivot or merge:elastic-code", |word, argument| match (
    word, argument
) {
    ("drop", None) => Some(Evict::Drop),
    ("merge", Some("nearest")) => Some(Evict::Nearest),
    ("merge", Some("pivot")) => Some(Evict::Pivot),
    ("merge", Some("elastic-code")) => Some(Evict::ElasticCode),
    _ => None,
});

impl fmt::Display for Evict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evict::Drop => "drop",
            Evict::Nearest => "merge:nearest",
            Evict::Pivot => "merge:pivot",
            Evict::ElasticCode => "merge:elastic-code",
        })
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

    /// Reads `top`, followed by any of `+first:N`, `+last:N`, `+window`, `+recent:SHARE` (a half if the share is left
    /// out), `+on-top`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let accepted = "top, with any of +first:N, +last:N, +window, +recent:SHARE, +on-top after it";
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
                ("on-top", None) => keep.on_top = true,
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
        if self.on_top {
            f.write_str("+on-top")?;
        }
        Ok(())
    }
}
