//! Text to ids and back, and text in pieces as ids arrive. Reads `tokenizer.json` with the crate `tokenizers`. Without
//! that file it uses `vocabulary.rs` (`vocab.json`, `merges.txt`) or [`super::tokenizer_model`].
//!
//! Not here: chat templates and image placeholders. Source: transformers 5.17 `ProcessorMixin.apply_chat_template`
//! (when special tokens are added), `tokenizer.decode`. Spec: D4.3, E4.11

use super::added_tokens::AddedTokens;
use super::tokenizer_bounds;
use super::tokenizer_model::{self, PieceTokenizer};
use super::vocabulary;
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use crate::foreign::{Limits, caught, watched};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

const FILE: &str = "tokenizer.json";
const TOKENIZER: &str = "a tokenizer that the crate `tokenizers` reads";
const ENCODES: &str = "rules by which the crate `tokenizers` can encode the prompt";

/// A checkpoint's tokenizer. Spec: D4.3
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    at: String,
    /// Named special tokens of `tokenizer_config.json`: `bos_token`, `image_token` and so on.
    special: Vec<(String, String)>,
}

/// The implementation that encodes and decodes.
#[derive(Clone)]
enum Inner {
    Json(Arc<tokenizers::Tokenizer>),
    Pieces(Arc<PieceTokenizer>),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = match &self.inner {
            Inner::Json(inner) => inner.get_vocab_size(true),
            Inner::Pieces(inner) => inner.count(),
        };
        write!(f, "Tokenizer({}, {size} tokens)", self.at)
    }
}

impl Tokenizer {
    /// The tokenizer of a checkpoint.
    ///
    /// # Errors
    /// No `tokenizer.json` and no file that replaces it, or a file that cannot be read. Spec: D4.3, D4.7
    pub fn load(files: &Files) -> Result<Tokenizer> {
        let at = files.label(FILE);
        let added = AddedTokens::read(files)?;
        if let Some(bytes) = files.read(FILE)? {
            return Tokenizer::from_bytes(&bytes, at, added.names())?.with(&added);
        }
        if let Some(inner) = PieceTokenizer::load(files, &added)? {
            return Ok(Tokenizer {
                inner: Inner::Pieces(Arc::new(inner)),
                at: files.label(tokenizer_model::FILE),
                special: added.names(),
            });
        }
        if let Some(bytes) = vocabulary::as_json(files)? {
            return Tokenizer::from_bytes(&bytes, files.label(vocabulary::FILE), added.names())?.with(&added);
        }
        Err(Error::new(&at, "the tokenizer", "no such file").remedy(
            "it lies beside the weights on the hub; an older checkpoint gets one from \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        ))
    }

    /// A tokenizer from the bytes of a `tokenizer.json`. `at` is its name in messages, `special` are its named tokens.
    ///
    /// # Errors
    /// Bytes that the crate `tokenizers` cannot read.
    pub fn from_bytes(bytes: &[u8], at: String, special: Vec<(String, String)>) -> Result<Tokenizer> {
        // The crate panics on a decoder with truncated JSON, so this function checks the syntax first.
        let (bytes, place) = (bytes.to_vec(), at.clone());
        let broken = |e| Error::new(&at, TOKENIZER, e);
        let read = move || -> Result<tokenizers::Tokenizer> {
            let text = std::str::from_utf8(&bytes).map_err(|e| Error::new(&place, "UTF-8 text", e))?;
            let head: Head = serde_json::from_str(text).map_err(|e| Error::new(&place, "JSON", e))?;
            charsmaps(&head.normalizer).map_err(|e| e.within(&place))?;
            let inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| Error::new(&place, TOKENIZER, e))?;
            tokenizer_bounds::check(&inner).map_err(|e| e.within(&place))?;
            Ok(inner)
        };
        let mut inner = watched(&at, TOKENIZER, Limits::TEXT, read)??;
        // The file may store truncation and padding; transformers switches both off unless a call asks for them.
        inner.with_truncation(None).map_err(broken)?.with_padding(None);
        Ok(Tokenizer { inner: Inner::Json(Arc::new(inner)), at, special })
    }

    /// The tokenizer with the tokens of the checkpoint's small files. Spec: D4.9
    fn with(mut self, added: &AddedTokens) -> Result<Tokenizer> {
        let Inner::Json(inner) = self.inner else { return Ok(self) };
        let mut inner = Arc::unwrap_or_clone(inner);
        let present: HashSet<String> = inner.get_added_tokens_decoder().into_values().map(|t| t.content).collect();
        let tokens: Vec<tokenizers::AddedToken> = added
            .in_order(|text| present.contains(text))
            .into_iter()
            .map(|token| tokenizers::AddedToken {
                content: token.text,
                single_word: token.single_word,
                lstrip: token.strips[0],
                rstrip: token.strips[1],
                normalized: token.normalized,
                special: token.special,
            })
            .collect();
        let inner = caught(&self.at, "tokens that the crate `tokenizers` can add", move || {
            inner.add_tokens(&tokens);
            inner
        })?;
        self.inner = Inner::Json(Arc::new(inner));
        Ok(self)
    }

    /// The file of the tokenizer, for messages.
    pub fn label(&self) -> &str {
        &self.at
    }

    /// The text of a named special token, such as `bos_token`.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.special.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }

    /// All named special tokens.
    pub fn specials(&self) -> &[(String, String)] {
        &self.special
    }

    /// The ids of a rendered prompt. If the prompt already begins with the beginning-of-sequence token, the
    /// post-processor adds no tokens, as in transformers for chats.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode. Spec: D4.3
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let add = !self.special("bos_token").is_some_and(|bos| text.starts_with(bos));
        let (inner, owned, limits) = (self.inner.clone(), text.to_owned(), Limits::encoding(text.len()));
        let encode = move || match inner {
            Inner::Json(inner) => inner.encode_fast(owned, add).map(|encoding| encoding.get_ids().to_vec()),
            Inner::Pieces(inner) => Ok(inner.encode(&owned, add)),
        };
        watched(&self.at, ENCODES, limits, encode)?.map_err(|e| Error::new(&self.at, ENCODES, e))
    }

    /// The text of ids, without special tokens. Ids without a token produce no text.
    ///
    /// # Errors
    /// Ids that the tokenizer's decoder cannot handle; tokens that are too long.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        tokenizer_bounds::short(ids.iter().map(|&id| (id, self.token(id).map_or(0, |t| t.len()))))
            .map_err(|e| e.within(&self.at))?;
        match &self.inner {
            Inner::Json(inner) => caught(&self.at, "ids that the tokenizer can decode", || inner.decode(ids, true))?
                .map_err(|e| Error::new(&self.at, "ids that the tokenizer can decode", e)),
            Inner::Pieces(inner) => Ok(inner.decode(ids)),
        }
    }

    /// The id of a token's exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.inner {
            Inner::Json(inner) => inner.token_to_id(token),
            Inner::Pieces(inner) => inner.id(token),
        }
    }

    /// The text of one token as stored in the vocabulary (byte-level tokenizers write `Ġ` for a space).
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.inner {
            Inner::Json(inner) => inner.id_to_token(id),
            Inner::Pieces(inner) => inner.token(id),
        }
    }

    /// A decoder that takes ids one by one.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream { tokenizer: self, ids: Vec::new(), said: String::new() }
    }
}

/// Decodes ids as they arrive, never half a character. The pieces concatenate to [`Tokenizer::decode`] of all ids.
///
/// The stream holds back up to three U+FFFD at the end of the text: an incomplete character decodes to at most three,
/// and later bytes do not change earlier text. The stream also holds back a run of byte tokens `<0xHH>`, because the
/// decoder judges the run as a whole. Every push decodes all ids again. This is exact for any decoder and takes
/// microseconds. Spec: E4.11
#[derive(Debug)]
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    said: String,
}

impl TokenStream<'_> {
    /// The text that `id` completes, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let byte = |t: String| t.len() == 6 && t.starts_with("<0x") && t.ends_with('>');
        if self.tokenizer.token(id).is_some_and(byte) {
            return None;
        }
        let text = self.tokenizer.decode(&self.ids).ok()?;
        let mut sure = text.as_str();
        for _ in 0..3 {
            sure = sure.strip_suffix('\u{FFFD}').unwrap_or(sure);
        }
        self.rest(sure)
    }

    /// The text that the stream held back. The stream is empty afterwards.
    pub fn finish(&mut self) -> Option<String> {
        let text = self.tokenizer.decode(&self.ids).ok()?;
        let rest = self.rest(&text);
        self.ids.clear();
        self.said.clear();
        rest
    }

    fn rest(&mut self, text: &str) -> Option<String> {
        let rest = text.strip_prefix(&self.said)?.to_owned();
        self.said.push_str(&rest);
        (!rest.is_empty()).then_some(rest)
    }
}

/// The part of the file that is checked before the crate reads the file.
#[derive(serde::Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    #[serde(default)]
    normalizer: Value,
}

/// Fails if a `Precompiled` normalizer claims a longer table than it has, because the crate allocates the claimed
/// length.
fn charsmaps(normalizer: &Value) -> Result<()> {
    match normalizer {
        Value::Array(list) => list.iter().try_for_each(charsmaps),
        Value::Object(map) => {
            if let Some(Value::String(table)) = map.get("precompiled_charsmap") {
                let start = table.get(..8).and_then(|s| STANDARD.decode(s).ok());
                let claimed = start.and_then(|s| s.first_chunk().copied()).map_or(u32::MAX, u32::from_le_bytes);
                let held = table.len() / 4 * 3;
                let expected = "a table as long as it says";
                ensure!(
                    claimed as usize <= held,
                    "precompiled_charsmap",
                    expected,
                    format!("{held} bytes of {claimed}")
                );
            }
            map.values().try_for_each(charsmaps)
        }
        _ => Ok(()),
    }
}
