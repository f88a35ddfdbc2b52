//! SentencePiece's normalisation of text before the cut: rules for characters and for spaces.
//!
//! The crate `tokenizers` has such a step too, but its results differ. If several rules match a grapheme, the crate
//! uses the shortest (E and its accent become e), and it changes user-defined pieces too.
//! Source: sentencepiece's `normalizer.cc`; the trie has the format of darts-clone. Spec: E4.18

use super::proto::{Kind, Proto};
use std::cmp::Reverse;

/// The character that stands for a space inside pieces.
pub(in crate::input) const SPACE: &str = "\u{2581}";

/// Turns text into the normalised text that is cut into pieces.
#[derive(Debug, Clone)]
pub(super) struct Normalizer {
    rules: Rules,
    /// Texts of user-defined pieces, long ones first.
    user_defined: Vec<String>,
    /// Whether a space is added before the text; `space_behind`: whether the space goes after the text instead.
    pub dummy_prefix: bool,
    space_behind: bool,
    /// Whether runs of spaces become one space and spaces at the ends are removed.
    trim: bool,
    /// Whether spaces become U+2581.
    escape: bool,
}

/// A trie of rules, and the texts that the rules write. A zero byte ends each text.
#[derive(Debug, Clone, Default)]
struct Rules {
    units: Vec<u32>,
    texts: Vec<u8>,
}

impl Rules {
    /// Reads the trie's size in bytes, the trie and the texts. Returns no rules if the bytes have another form.
    fn read(bytes: &[u8]) -> Rules {
        let read = || {
            let (size, rest) = bytes.split_first_chunk::<4>()?;
            let (trie, texts) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
            let units = trie.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
            Some(Rules { units, texts: texts.to_vec() })
        };
        read().unwrap_or_default()
    }

    /// The length of the longest rule that matches the start of `text`, and the text that the rule writes.
    fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let unit = |at: usize| self.units.get(at).copied();
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(unit(0)?);
        let mut found = None;
        for (i, &byte) in text.iter().enumerate() {
            at ^= usize::from(byte);
            let Some(here) = unit(at).filter(|u| u & (1 << 31 | 0xff) == u32::from(byte)) else { break };
            at ^= offset(here);
            if here >> 8 & 1 == 1 {
                found = unit(at).map(|leaf| (i + 1, (leaf & 0x7fff_ffff) as usize)).or(found);
            }
        }
        let (length, start) = found?;
        let text = self.texts.get(start..)?.split(|&b| b == 0).next()?;
        Some((length, std::str::from_utf8(text).ok()?))
    }
}

impl Normalizer {
    /// The normalizer of a model.
    pub fn new(proto: &Proto) -> Normalizer {
        let Proto { dummy_prefix, space_behind, trim, escape, .. } = *proto;
        let user_defined = proto.pieces.iter().filter(|(text, _, kind)| *kind == Kind::UserDefined && !text.is_empty());
        let mut user_defined: Vec<String> = user_defined.map(|(text, ..)| text.clone()).collect();
        user_defined.sort_by_key(|text| Reverse(text.len()));
        Normalizer { rules: Rules::read(&proto.charsmap), user_defined, dummy_prefix, space_behind, trim, escape }
    }

    /// The start and end of the first user-defined piece in a text. If several begin there, the longest counts.
    pub fn user_defined(&self, text: &str) -> Option<(usize, usize)> {
        if self.user_defined.is_empty() {
            return None;
        }
        text.char_indices().find_map(|(start, _)| Some((start, start + self.begins(&text[start..])?)))
    }

    /// The length of the longest user-defined piece at the start of a text.
    fn begins(&self, text: &str) -> Option<usize> {
        self.user_defined.iter().find(|piece| text.starts_with(piece.as_str())).map(String::len)
    }

    /// The normalised text, ready for the cut. Spec: E4.18
    pub fn normalized(&self, mut text: &str) -> String {
        let Normalizer { trim, escape, dummy_prefix, space_behind, .. } = *self;
        if trim {
            while let Some((" ", length)) = self.prefix(text) {
                text = &text[length..];
            }
        }
        let mut out = String::with_capacity(text.len() + 3);
        if text.is_empty() {
            return out;
        }
        let space = if escape { SPACE } else { " " };
        if dummy_prefix && !space_behind {
            out.push_str(space);
        }
        let mut after_space = trim;
        while let Some((mut piece, length)) = self.prefix(text) {
            if after_space {
                piece = piece.trim_start_matches(' ');
            }
            if !piece.is_empty() {
                if escape {
                    out.push_str(&piece.replace(' ', SPACE))
                } else {
                    out.push_str(piece)
                }
                after_space = trim && piece.ends_with(' ');
            }
            text = &text[length..];
        }
        if trim {
            out.truncate(out.trim_end_matches(space).len());
        }
        if dummy_prefix && space_behind {
            out.push_str(space);
        }
        out
    }

    /// The replacement of the next characters, and the length of these characters in bytes; `None` at the end of the
    /// text.
    fn prefix<'a>(&'a self, text: &'a str) -> Option<(&'a str, usize)> {
        let first = text.chars().next()?;
        if let Some(length) = self.begins(text) {
            return Some((&text[..length], length));
        }
        let rule = self.rules.longest(text.as_bytes()).filter(|&(length, _)| text.is_char_boundary(length));
        Some(match rule {
            Some((length, becomes)) => (becomes, length),
            None => (&text[..first.len_utf8()], first.len_utf8()),
        })
    }
}
