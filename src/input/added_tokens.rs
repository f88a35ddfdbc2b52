//! The tokens that a checkpoint's small files add to its tokenizer: `tokenizer_config.json`, `special_tokens_map.json`,
//! `added_tokens.json`.
//!
//! Source: transformers 5.17 `PreTrainedTokenizerBase._from_pretrained`, `TokenizersBackend.__init__`. Spec: D4.9

use super::section::Section;
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

pub(super) const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// The named tokens of every tokenizer, in the order in which transformers adds them.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token, and how it is found in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub text: String,
    /// Whether decoding leaves the token out of the text.
    pub special: bool,
    /// Whether the token is found in the normalised text.
    pub normalized: bool,
    /// Whether the token is found only as a whole word.
    pub single_word: bool,
    /// Whether the token takes the white space before it, and after it.
    pub strips: [bool; 2],
}

/// The tokens that the files list.
#[derive(Debug, Clone, Default)]
pub(super) struct AddedTokens {
    /// Tokens by id.
    pub listed: BTreeMap<u32, Token>,
    /// Named tokens: `bos_token`, `image_token` and so on.
    pub named: Vec<(String, Token)>,
    /// Special tokens without a name.
    pub extra: Vec<Token>,
}

impl Token {
    fn plain(text: &str, special: bool) -> Token {
        Token { text: text.into(), special, normalized: !special, single_word: false, strips: [false; 2] }
    }

    /// A token that a file writes as a string, or as an object with `content`. Without `special`, a token has `default`.
    fn read(value: &Value, default: bool) -> Option<Token> {
        let Value::Object(fields) = value else { return Some(Token::plain(value.as_str()?, default)) };
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(default);
        let mut token = Token::plain(fields.get("content")?.as_str()?, special);
        token.normalized = flag("normalized").unwrap_or(!special);
        token.single_word = flag("single_word").unwrap_or(false);
        token.strips = ["lstrip", "rstrip"].map(|key| flag(key).unwrap_or(false));
        Some(token)
    }
}

/// The id of a token, as files write it.
fn number(text: Option<u32>, at: String) -> Result<u32> {
    text.ok_or_else(|| Error::new(at, "a token's id as a whole number", "another value"))
}

impl AddedTokens {
    /// The tokens of a checkpoint. `special_tokens_map.json` and `added_tokens.json` count only if
    /// `tokenizer_config.json` has no `added_tokens_decoder`.
    ///
    /// # Errors
    /// A file is not a JSON object; a listed token has no text or no id.
    pub fn read(files: &Files) -> Result<AddedTokens> {
        let mut all = AddedTokens::default();
        let config = Section::read(files, CONFIG)?;
        if let Some(config) = &config {
            all.name(&config.fields);
        }
        if let Some((config, decoder)) = config.as_ref().and_then(|c| Some((c, c.get("added_tokens_decoder")?))) {
            let decoder = decoder.as_object().ok_or_else(|| config.wrong("added_tokens_decoder", "an object"))?;
            for (id, value) in decoder {
                let at = format!("{}: added_tokens_decoder[{id:?}]", config.at);
                let token = Token::read(value, false)
                    .ok_or_else(|| Error::new(&at, "a token with its content", "another value"))?;
                all.listed.insert(number(id.parse().ok(), at)?, token);
            }
        } else {
            // transformers 5 does not count those that only special_tokens_map.json lists.
            let listed: Vec<String> = all.extra.iter().map(|token| token.text.clone()).collect();
            if let Some(map) = Section::read(files, MAP)? {
                all.name(&map.fields);
            }
            for (text, id) in Section::read(files, ADDED)?.map(|file| file.fields).unwrap_or_default() {
                let at = format!("{}: {text:?}", files.label(ADDED));
                let id = number(id.as_u64().and_then(|id| u32::try_from(id).ok()), at)?;
                let named = |(name, token): &(String, Token)| NAMES.contains(&name.as_str()) && token.text == text;
                let special = all.named.iter().any(named) || listed.contains(&text);
                all.listed.insert(id, Token::plain(&text, special));
            }
        }
        let order = |name: &str| NAMES.iter().position(|n| *n == name).unwrap_or(NAMES.len());
        all.named.sort_by_key(|(name, _)| order(name));
        Ok(all)
    }

    /// Takes the named tokens and the special tokens of a file. A name that was taken before gets the new token.
    fn name(&mut self, fields: &Map<String, Value>) {
        let extra = ["additional_special_tokens", "extra_special_tokens"].map(|key| fields.get(key));
        let inner = extra[1].and_then(Value::as_object);
        let named = fields.iter().filter(|(key, _)| key.ends_with("_token")).chain(inner.into_iter().flatten());
        for (key, token) in named.filter_map(|(key, value)| Some((key, Token::read(value, true)?))) {
            match self.named.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = token,
                None => self.named.push((key.clone(), token)),
            }
        }
        for token in extra.into_iter().flatten().filter_map(Value::as_array).flatten() {
            self.extra.extend(Token::read(token, true).filter(|token| !self.extra.contains(token)));
        }
    }

    fn specials(&self) -> impl Iterator<Item = &Token> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    /// The tokens in the order in which transformers adds them to a tokenizer that has `present` already: the listed
    /// tokens by their ids, then the named and the special tokens that are in neither.
    pub fn in_order(&self, present: impl Fn(&str) -> bool) -> Vec<Token> {
        let mut seen: HashSet<&str> = self.listed.values().map(|token| token.text.as_str()).collect();
        let mut all: Vec<Token> = self.listed.values().cloned().collect();
        let named: HashSet<&str> = self.named.iter().map(|(_, token)| token.text.as_str()).collect();
        for token in &mut all {
            token.special |= named.contains(token.text.as_str());
        }
        all.extend(self.specials().filter(|token| !present(&token.text) && seen.insert(&token.text)).cloned());
        all
    }

    /// The names of the named tokens, and their texts.
    pub fn names(&self) -> Vec<(String, String)> {
        self.named.iter().map(|(name, token)| (name.clone(), token.text.clone())).collect()
    }
}
