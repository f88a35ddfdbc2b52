//! SentencePiece: text to the ids of pieces and back, from a `tokenizer.model` alone.
//!
//! ```text
//! proto      what the file says
//! normalize  what happens to text before it is cut
//! cut        the cut, by a model of the crate `tokenizers`
//! ```
//!
//! The results equal the Python package `sentencepiece`. [`super::tokenizer_model`] does the work of Python tokenizers
//! around it (added tokens, `<s>`). Spec: T4.10, E4.18–E4.21

mod cut;
mod normalize;
mod proto;

use crate::error::{Error, Result, ensure};
use cut::Cut;
use normalize::Normalizer;
pub(super) use normalize::SPACE;
use proto::{Kind, Proto};
use std::collections::HashMap;

/// The most bytes of a piece; the longest piece of any checkpoint on the hub has a few hundred.
const LONGEST: usize = 1024;

/// A SentencePiece model.
#[derive(Debug, Clone)]
pub struct Pieces {
    proto: Proto,
    /// Ids of the pieces that text may become.
    ids: HashMap<String, u32>,
    /// Ids of all other pieces.
    reserved: HashMap<String, u32>,
    bytes: [Option<u32>; 256],
    unknown: u32,
    normalizer: Normalizer,
    cut: Cut,
}

impl Pieces {
    /// The model in the bytes of a file; `at` is the file's name in messages.
    ///
    /// # Errors
    /// The file is not a SentencePiece model, is neither BPE nor unigram, or has no unknown piece.
    pub fn read(bytes: &[u8], at: &str) -> Result<Pieces> {
        let proto = Proto::read(bytes, at)?;
        let (mut ids, mut reserved, mut of_bytes) = (HashMap::new(), HashMap::new(), [None; 256]);
        let mut unknown = None;
        for (id, (text, _, kind)) in (0u32..).zip(&proto.pieces) {
            ensure!(text.len() <= LONGEST, at, format!("pieces of at most {LONGEST} bytes"), text.len());
            match kind {
                Kind::Normal | Kind::UserDefined | Kind::Unused => ids.insert(text.clone(), id),
                Kind::Unknown | Kind::Control | Kind::Byte => reserved.insert(text.clone(), id),
            };
            match kind {
                Kind::Unknown => unknown = Some(id),
                Kind::Byte => {
                    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
                    let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    let byte = byte.ok_or_else(|| Error::new(at, "bytes named <0x00> to <0xFF>", text))?;
                    of_bytes[usize::from(byte)] = Some(id);
                }
                _ => {}
            }
        }
        let unknown = unknown.ok_or_else(|| Error::new(at, "an unknown piece", "none"))?;
        let cut = Cut::new(&proto, &ids, unknown)
            .map_err(|e| Error::new(at, "pieces that the crate `tokenizers` cuts", e))?;
        let normalizer = Normalizer::new(&proto);
        Ok(Pieces { proto, ids, reserved, bytes: of_bytes, unknown, normalizer, cut })
    }

    /// The same model, which adds no space to a text that it encodes.
    pub fn without_prefix(mut self) -> Pieces {
        self.normalizer.dummy_prefix = false;
        self
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.proto.pieces.len()
    }

    /// Whether there are no pieces.
    pub fn is_empty(&self) -> bool {
        self.proto.pieces.is_empty()
    }

    /// The id of a piece's exact text, including marks and bytes.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.reserved.get(piece).or(self.ids.get(piece)).copied()
    }

    /// The text of a piece.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.proto.pieces.get(id as usize).map(|(text, _, _)| text.as_str())
    }

    fn kind(&self, id: u32) -> Kind {
        self.proto.pieces.get(id as usize).map_or(Kind::Unknown, |(_, _, kind)| *kind)
    }

    /// The ids of a text. Spec: E4.18–E4.20
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = self.normalizer.normalized(text);
        let (mut rest, mut ids) = (text.as_str(), Vec::new());
        // BPE never merges a user-defined piece with its neighbours.
        while let Some((start, end)) = self.normalizer.user_defined(rest).filter(|_| self.proto.bpe) {
            self.cut(&rest[..start], &mut ids);
            ids.push(self.ids[&rest[start..end]]);
            rest = &rest[end..];
        }
        self.cut(rest, &mut ids);
        ids
    }

    /// The ids of a stretch of normalised text without user-defined pieces.
    fn cut(&self, text: &str, ids: &mut Vec<u32>) {
        let known = self.cut.cut(text, |id, piece| match id == self.unknown && self.proto.byte_fallback {
            true => ids.extend(piece.bytes().map(|b| self.bytes[usize::from(b)].unwrap_or(self.unknown))),
            false => ids.push(id),
        });
        known.expect("E4.19, E4.20: text without a piece is the unknown piece");
    }

    /// The text of ids. Ids without a piece produce no text. Spec: E4.21
    pub fn decode(&self, ids: &[u32]) -> String {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        let mut at_start = true;
        for &id in ids {
            if self.kind(id) == Kind::Byte && (id as usize) < self.len() {
                bytes.extend(self.bytes.iter().position(|&b| b == Some(id)).map(|b| b as u8));
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            let Some(piece) = self.piece(id) else { continue };
            at_start &= text.is_empty();
            match self.kind(id) {
                Kind::Control => {}
                Kind::Unknown => text.push_str(&self.proto.unknown_surface),
                _ => {
                    let mut piece = piece;
                    let strip = at_start && (self.proto.dummy_prefix || self.proto.trim);
                    if let Some(rest) = piece.strip_prefix(SPACE).filter(|_| strip) {
                        piece = rest;
                        at_start = self.proto.trim; // if `trim` is set, the next piece loses its space too
                    }
                    text.push_str(&piece.replace(SPACE, " "));
                }
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }
}

/// Moves `bytes` to the end of `text`. Each byte that is part of no character becomes a U+FFFD.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| text.push('\u{FFFD}'));
    }
    bytes.clear();
}
