//! A checkpoint with only a SentencePiece `tokenizer.model`: the Python tokenizer's work around the pieces.
//!
//! The tokenizer first cuts added tokens out of the text, the longest at each place. It encodes each stretch of text
//! between them separately, and puts `<s>` first. Source: InternLM2's `tokenization_internlm2.py`; transformers 4.37
//! `PreTrainedTokenizer`. Spec: D4.7, A4.6

use super::added_tokens::{AddedTokens, CONFIG, Token};
use super::section::Section;
use super::sentencepiece::{Pieces, SPACE};
use crate::error::{Result, ensure};
use crate::files::Files;
use crate::foreign::{Limits, watched};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The file of the SentencePiece model.
pub const FILE: &str = "tokenizer.model";

/// A SentencePiece tokenizer with its added tokens.
#[derive(Debug, Clone)]
pub struct PieceTokenizer {
    pieces: Pieces,
    /// The added tokens, long ones first.
    added: Vec<Added>,
    /// Indices into `added` by text, and by id.
    by_text: HashMap<String, usize>,
    by_id: HashMap<u32, usize>,
    /// The lengths in bytes of the added tokens.
    lengths: BTreeSet<usize>,
    /// The token at the start of every prompt; `None` if the tokenizer adds no such token.
    first: Option<u32>,
    /// The text of the unknown token, if `legacy` is false.
    unknown: Option<String>,
}

/// A token that is cut out of the text.
#[derive(Debug, Clone)]
struct Added {
    text: String,
    id: u32,
    /// Whether decoding leaves the token out of the text.
    special: bool,
    /// Whether the tokenizer's settings name the token: `bos_token` and the like, or an additional special token.
    named: bool,
    /// Whether the token removes the white space before it, and after it.
    strips: [bool; 2],
}

/// Named tokens that the Python tokenizer adds if the files do not define them. Spec: D4.7
const NAMED: [(&str, &str); 4] =
    [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "</s>")];

impl PieceTokenizer {
    /// The tokenizer of a checkpoint; `None` if there is no `tokenizer.model`. `added`: the tokens of its small files.
    ///
    /// # Errors
    /// A broken file; a tokenizer of another kind.
    pub(super) fn load(files: &Files, added: &AddedTokens) -> Result<Option<PieceTokenizer>> {
        let Some(bytes) = files.read(FILE)? else { return Ok(None) };
        let (bytes, at) = (bytes.into_owned(), files.label(FILE));
        let place = at.clone();
        let pieces = watched(&at, "a SentencePiece model", Limits::TEXT, move || Pieces::read(&bytes, &place))??;
        let config = Section::read(files, CONFIG)?;
        let told = |key: &str| config.as_ref().and_then(|c| c.get(key));
        if let (Some(class), Some(config)) = (told("tokenizer_class"), &config) {
            let known = class.as_str().is_some_and(|c| ["InternLM2Tokenizer", "LlamaTokenizer"].contains(&c));
            ensure!(
                known,
                format!("{}: tokenizer_class", config.at),
                "InternLM2Tokenizer or LlamaTokenizer beside a tokenizer.model",
                class,
                "add a tokenizer.json (save_pretrained writes one): it is read for any class"
            );
        }
        let named = NAMED.map(|(name, otherwise)| {
            added.named.iter().find(|(n, _)| n == name).map_or(otherwise, |(_, token)| token.text.as_str())
        });
        let specials = added.named.iter().map(|(_, token)| token).chain(&added.extra);
        let special: HashSet<&str> = specials.clone().map(|token| token.text.as_str()).chain(named).collect();
        let mut all: Vec<Added> = Vec::new();
        let mut seen = HashSet::new();
        let mut take = |text: &str, id: u32, flags: Option<&Token>| {
            if !text.is_empty() && seen.insert(text.to_owned()) {
                let named = special.contains(text);
                all.push(Added {
                    special: flags.is_some_and(|token| token.special) || named,
                    named,
                    strips: flags.map_or([false; 2], |token| token.strips),
                    text: text.to_owned(),
                    id,
                });
            }
        };
        added.listed.iter().for_each(|(id, token)| take(&token.text, *id, Some(token)));
        named.iter().filter_map(|text| Some((*text, pieces.id(text)?))).for_each(|(text, id)| take(text, id, None));
        // A special token without an id comes behind all others.
        let mut next = added.listed.last_key_value().map_or(0, |(id, _)| id + 1).max(pieces.len() as u32);
        for token in specials.filter(|token| !added.listed.values().any(|listed| listed.text == token.text)) {
            let id = pieces.id(&token.text).unwrap_or(next);
            next += u32::from(id == next);
            take(&token.text, id, Some(token));
        }
        all.sort_by_key(|a: &Added| std::cmp::Reverse(a.text.len()));
        let mut by_id = HashMap::new();
        for (i, a) in all.iter().enumerate() {
            by_id.entry(a.id).or_insert(i);
        }
        let by_text = all.iter().enumerate().map(|(i, a)| (a.text.clone(), i)).collect();
        let lengths = all.iter().map(|a| a.text.len()).collect();
        let adds = match &config {
            Some(config) => config.flag("add_bos_token", true)?,
            None => true,
        };
        let first = pieces.id(named[0]).filter(|_| adds);
        let legacy = match &config {
            Some(config) if told("tokenizer_class").is_some_and(|class| class == "LlamaTokenizer") => {
                config.flag("legacy", true)?
            }
            _ => true,
        };
        let unknown = (!legacy).then(|| named[2].to_owned());
        let pieces = if legacy { pieces } else { pieces.without_prefix() };
        Ok(Some(PieceTokenizer { pieces, added: all, by_text, by_id, lengths, first, unknown }))
    }

    /// The ids of a text. If `whole` is set, `<s>` comes first. Spec: D4.7
    pub fn encode(&self, text: &str, whole: bool) -> Vec<u32> {
        let mut ids: Vec<u32> = self.first.filter(|_| whole).into_iter().collect();
        if self.unknown.is_none() || text.is_empty() {
            ids.extend(self.cut(text));
            return ids;
        }
        let cut = self.cut(&format!("{SPACE}{}", text.replace(SPACE, " ")));
        let alone = |id: &u32| self.token(*id).is_some_and(|token| token == SPACE);
        let named = |id: &u32| self.of_id(*id).is_some_and(|added| added.named);
        let drop = cut.first().is_some_and(alone) && cut.get(1).is_some_and(named);
        ids.extend(&cut[usize::from(drop)..]);
        ids
    }

    /// The ids of a stretch of text between added tokens. Without `legacy`, a space at its start stays: the text of the
    /// unknown token protects it.
    fn stretch(&self, text: &str) -> Vec<u32> {
        match &self.unknown {
            Some(unknown) if text.starts_with([' ', '\u{2581}']) => {
                let before = self.pieces.encode(unknown).len();
                self.pieces.encode(&format!("{unknown}{text}")).split_off(before)
            }
            _ => self.pieces.encode(text),
        }
    }

    /// The ids of a text, with the added tokens cut out.
    fn cut(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let (mut rest, mut strip) = (text, false);
        loop {
            let next = rest.char_indices().find_map(|(at, _)| Some((at, self.begins(&rest[at..])?)));
            let between = next.map_or(rest, |(at, _)| &rest[..at]);
            let between = if strip { between.trim_start() } else { between };
            let before = next.is_some_and(|(_, added)| added.strips[0]);
            ids.extend(self.stretch(if before { between.trim_end() } else { between }));
            let Some((at, added)) = next else { return ids };
            ids.push(added.id);
            strip = added.strips[1];
            rest = &rest[at + added.text.len()..];
        }
    }

    /// The longest added token that a text begins with.
    fn begins(&self, text: &str) -> Option<&Added> {
        self.lengths.iter().rev().find_map(|&length| self.of_text(text.get(..length)?))
    }

    fn of_text(&self, text: &str) -> Option<&Added> {
        self.by_text.get(text).and_then(|&i| self.added.get(i))
    }

    fn of_id(&self, id: u32) -> Option<&Added> {
        self.by_id.get(&id).and_then(|&i| self.added.get(i))
    }

    /// The text of ids, without special tokens. Spec: E4.21, A4.6
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut run = Vec::new();
        for &id in ids {
            match self.of_id(id) {
                Some(added) if added.special => {}
                Some(added) => {
                    text.push_str(&self.pieces.decode(&std::mem::take(&mut run)));
                    text.push_str(&added.text);
                }
                None => run.push(id),
            }
        }
        text + &self.pieces.decode(&run)
    }

    /// The id of a token's exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.of_text(token).map(|added| added.id).or(self.pieces.id(token))
    }

    /// The text of one token as stored in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.of_id(id).map(|added| added.text.clone()).or_else(|| self.pieces.piece(id).map(str::to_owned))
    }

    /// Number of tokens.
    pub fn count(&self) -> usize {
        self.pieces.len() + self.added.iter().filter(|added| added.id as usize >= self.pieces.len()).count()
    }
}
