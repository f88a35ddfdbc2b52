//! Limits on the work that a `tokenizer.json` may request from the crate `tokenizers`, for cases that a watched thread
//! would notice too late: a decoder step that lengthens a text can request all memory at once, and it runs for every
//! token.
//!
//! Spec: D4.3

use crate::error::{Error, Result, ensure};
use serde_json::Value;
use tokenizers::models::ModelWrapper;

/// The most bytes of a token; the longest token of any checkpoint on the hub has a few hundred.
const LONGEST: usize = 1024;
/// The most bytes of the tokens of one text.
const MOST: usize = 16 << 20;
/// The most steps of a decoder, and the factor by which all steps together may lengthen a text. Real decoders have four
/// steps, and make a text shorter.
const STEPS: usize = 8;
const STRETCH: usize = 4;

/// Fails if a decoder has no bounds, or if a model chooses merges at random (dropout).
pub(super) fn check(tokenizer: &tokenizers::Tokenizer) -> Result<()> {
    if let ModelWrapper::BPE(model) = tokenizer.get_model() {
        let drawn = model.dropout.filter(|share| *share > 0.0);
        let remedy = "null: with dropout, the same text has other ids in every run";
        ensure!(drawn.is_none(), "model.dropout", "null or 0", drawn.unwrap_or_default(), remedy);
    }
    let Some(decoder) = tokenizer.get_decoder() else { return Ok(()) };
    let decoder = serde_json::to_value(decoder).map_err(|e| Error::new("decoder", "a decoder", e))?;
    let (mut steps, mut stretch) = (0, 1usize);
    walk(&decoder, &mut steps, &mut stretch)?;
    ensure!(steps <= STEPS, "decoder", format!("at most {STEPS} steps"), steps);
    let wanted = format!("steps that make a text at most {STRETCH} times longer");
    ensure!(stretch <= STRETCH, "decoder", wanted, format!("{stretch} times"));
    Ok(())
}

/// Counts the steps of a decoder, and multiplies `stretch` by the factor by which each step may lengthen a text.
fn walk(decoder: &Value, steps: &mut usize, stretch: &mut usize) -> Result<()> {
    let text = |key: &str| decoder[key].as_str().unwrap_or_default();
    *steps += 1;
    let by = match text("type") {
        "Sequence" => {
            *steps -= 1;
            let inner = decoder["decoders"].as_array();
            return inner.into_iter().flatten().try_for_each(|inner| walk(inner, steps, stretch));
        }
        "Replace" => {
            let pattern = decoder["pattern"]["String"].as_str();
            let expected = "a plain string as the pattern of Replace";
            let pattern = pattern.ok_or_else(|| Error::new("decoder", expected, shown(&decoder["pattern"])))?;
            replaced(pattern, text("content"))
        }
        "BPEDecoder" => replaced(text("suffix"), " "),
        "CTC" => replaced(text("word_delimiter_token"), " "),
        _ => 1,
    };
    *stretch = stretch.saturating_mul(by);
    Ok(())
}

/// The largest factor by which a text grows if a pattern in it is replaced.
fn replaced(pattern: &str, content: &str) -> usize {
    match pattern.len() {
        0 => 1 + content.len(), // the content goes before every letter
        n => content.len().div_ceil(n).max(1),
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// Fails if a token, or a whole text, is longer than any real one. `tokens` gives each id and the length of its token.
pub(super) fn short(tokens: impl Iterator<Item = (u32, usize)>) -> Result<()> {
    let mut all = 0;
    for (id, length) in tokens {
        ensure!(length <= LONGEST, format!("token {id}"), format!("at most {LONGEST} bytes"), length);
        all += length;
    }
    ensure!(all <= MOST, "text", format!("tokens of at most {MOST} bytes"), all);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn measured(decoder: &Value) -> Option<(usize, usize)> {
        let (mut steps, mut stretch) = (0, 1);
        walk(decoder, &mut steps, &mut stretch).ok().map(|()| (steps, stretch))
    }

    #[test]
    fn real_decoders_make_no_text_longer() {
        let llama = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        assert_eq!(measured(&llama), Some((4, 1)));
        assert_eq!(measured(&json!({"type": "ByteLevel"})), Some((1, 1)));
    }

    #[test]
    fn what_steps_add_is_multiplied() {
        let step = |pattern: &str| json!({"type": "Replace", "pattern": {"String": pattern}, "content": "12345"});
        let nested =
            json!({"type": "Sequence", "decoders": [step("ab"), {"type": "Sequence", "decoders": [step("")]}]});
        assert_eq!(measured(&nested), Some((2, 18)));
        assert_eq!(measured(&json!({"type": "BPEDecoder", "suffix": ""})), Some((1, 2)));
        assert_eq!(measured(&json!({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})), None);
    }

    #[test]
    fn long_tokens_are_refused() {
        short([(0, LONGEST)].into_iter()).unwrap();
        assert!(short([(7, LONGEST + 1)].into_iter()).unwrap_err().to_string().contains("token 7"));
        assert!(short(std::iter::repeat_n((0, LONGEST), MOST / LONGEST + 1)).is_err());
    }
}
