//! The fields of a SentencePiece model that encoding and decoding need, read from its protocol buffer.
//!
//! Source: sentencepiece's `sentencepiece_model.proto`. All other fields are skipped. Spec: T4.10

use crate::error::{Error, Result};

/// The most bytes of the text for the unknown piece. Decoding writes that text once for each unknown id.
const LONGEST_SURFACE: usize = 1024;

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A piece of text.
    Normal,
    /// The piece for text that matches no other piece.
    Unknown,
    /// A mark such as `<s>`. Text never becomes a mark.
    Control,
    /// A piece that is cut out of text before all other pieces.
    UserDefined,
    /// A piece that merges may produce as an intermediate step, but that never stays in the result.
    Unused,
    /// A byte, `<0xHH>`.
    Byte,
}

/// A SentencePiece model as stored in the file.
#[derive(Debug, Clone)]
pub struct Proto {
    /// Text, score and kind of each piece, by id.
    pub pieces: Vec<(String, f32, Kind)>,
    /// Whether the model is BPE (type 2) and not unigram (type 1). Other types are refused.
    pub bpe: bool,
    /// Whether text without a piece becomes bytes.
    pub byte_fallback: bool,
    /// Whether the added space goes after the text instead of before it.
    pub space_behind: bool,
    /// The text that decoding writes for the unknown piece.
    pub unknown_surface: String,
    /// A trie of rules, and the texts that the rules write.
    pub charsmap: Vec<u8>,
    /// Whether a space is added before the text.
    pub dummy_prefix: bool,
    /// Whether runs of spaces become one space and spaces at the ends are removed.
    pub trim: bool,
    /// Whether spaces become U+2581.
    pub escape: bool,
}

/// A field's number and value.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
    Other,
}

/// Iterates over the fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field; `None` if the message is broken.
    fn next(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        Some(match tag & 7 {
            0 => Field::Number(tag >> 3, self.varint()?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(tag >> 3, self.take(length)?)
            }
            5 => Field::Bytes(tag >> 3, self.take(4)?),
            1 => self.take(8).map(|_| Field::Other)?,
            _ => return None,
        })
    }
}

/// Calls `see` with every field. Returns `None` if the message is broken or `see` returns `None`.
fn each<'a>(bytes: &'a [u8], mut see: impl FnMut(Field<'a>) -> Option<()>) -> Option<()> {
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        see(fields.next()?)?;
    }
    Some(())
}

impl Proto {
    /// The model in the bytes of a file; `at` is the file's name in messages.
    ///
    /// # Errors
    /// The file is not a SentencePiece model, or is neither BPE nor unigram.
    pub fn read(bytes: &[u8], at: &str) -> Result<Proto> {
        let mut kind = 1;
        let mut proto = Proto {
            pieces: Vec::new(),
            bpe: false,
            byte_fallback: false,
            space_behind: false,
            unknown_surface: " \u{2047} ".into(),
            charsmap: Vec::new(),
            dummy_prefix: true,
            trim: true,
            escape: true,
        };
        let whole = each(bytes, |field| {
            match field {
                Field::Bytes(1, of) => proto.pieces.push(piece(of)?),
                Field::Bytes(2, of) => each(of, |field| {
                    match field {
                        Field::Number(3, n) => kind = n,
                        Field::Number(24, n) => proto.space_behind = n != 0,
                        Field::Number(35, n) => proto.byte_fallback = n != 0,
                        Field::Bytes(44, s) => {
                            let s = Some(s).filter(|s| s.len() <= LONGEST_SURFACE)?;
                            proto.unknown_surface = String::from_utf8_lossy(s).into_owned();
                        }
                        _ => {}
                    }
                    Some(())
                })?,
                Field::Bytes(3, of) => each(of, |field| {
                    match field {
                        Field::Bytes(2, map) => proto.charsmap = map.to_vec(),
                        Field::Number(3, n) => proto.dummy_prefix = n != 0,
                        Field::Number(4, n) => proto.trim = n != 0,
                        Field::Number(5, n) => proto.escape = n != 0,
                        _ => {}
                    }
                    Some(())
                })?,
                _ => {}
            }
            Some(())
        });
        let broken = || Error::new(at, "a SentencePiece model", "an incomplete file, or a file of another kind");
        whole.filter(|()| !proto.pieces.is_empty()).ok_or_else(broken)?;
        proto.bpe = match kind {
            1 => false,
            2 => true,
            other => return Err(Error::new(at, "a model of type 1 (unigram) or 2 (BPE)", format!("type {other}"))),
        };
        Ok(proto)
    }
}

fn piece(bytes: &[u8]) -> Option<(String, f32, Kind)> {
    let mut piece = (String::new(), 0.0, Kind::Normal);
    each(bytes, |field| {
        match field {
            Field::Bytes(1, text) => piece.0 = String::from_utf8(text.to_vec()).ok()?,
            Field::Bytes(2, score) => piece.1 = f32::from_le_bytes(score.try_into().ok()?),
            Field::Number(3, kind) => {
                piece.2 = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return None,
                }
            }
            _ => {}
        }
        Some(())
    })?;
    Some(piece)
}
