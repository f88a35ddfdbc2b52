//! The model of the crate `tokenizers` that cuts normalised text into a SentencePiece model's pieces.
//!
//! Source: sentencepiece's `bpe_model.cc` and `unigram_model.cc`; transformers 5.17 `convert_slow_tokenizer.py`
//! (`generate_merges`). Spec: E4.19, E4.20

use super::proto::{Kind, Proto};
use std::collections::HashMap;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::{Model, Result};

/// A model that cuts text into pieces.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    model: ModelWrapper,
    /// For each unused BPE piece: the two pieces that it consists of.
    parts: HashMap<u32, [u32; 2]>,
}

impl Cut {
    /// The model of these pieces. `ids` holds the pieces that text may become; `unknown` is the piece for all other
    /// text.
    pub fn new(proto: &Proto, ids: &HashMap<String, u32>, unknown: u32) -> Result<Cut> {
        if proto.bpe { Cut::bpe(proto, ids, unknown) } else { Cut::unigram(proto, unknown) }
    }

    /// Every way to join two pieces into a third piece is a merge. Merges are sorted by the third piece's score,
    /// highest first. Spec: E4.19
    fn bpe(proto: &Proto, ids: &HashMap<String, u32>, unknown: u32) -> Result<Cut> {
        let merged = |&(_, kind): &(&str, Kind)| matches!(kind, Kind::Normal | Kind::Unused);
        let mut pieces: Vec<_> =
            (0u32..).zip(&proto.pieces).filter(|(_, (text, _, kind))| merged(&(text, *kind))).collect();
        pieces.sort_by(|(_, (_, a, _)), (_, (_, b, _))| b.total_cmp(a));
        let (mut merges, mut parts) = (Vec::new(), HashMap::new());
        for (id, (text, _, kind)) in pieces {
            for (middle, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(middle);
                let (Some(&a), Some(&b)) = (ids.get(left), ids.get(right)) else { continue };
                if *kind == Kind::Unused {
                    parts.entry(id).or_insert([a, b]);
                }
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
        let unknown_text = &proto.pieces[unknown as usize].0;
        let vocab = ids.iter().map(|(text, &id)| (text.clone(), id)).chain([(unknown_text.clone(), unknown)]);
        let builder = BPE::builder().vocab_and_merges(vocab.collect::<tokenizers::models::bpe::Vocab>(), merges);
        let model = builder.unk_token(unknown_text.clone()).fuse_unk(true).build()?;
        Ok(Cut { model: model.into(), parts })
    }

    /// The unigram model of these pieces. Spec: E4.20
    fn unigram(proto: &Proto, unknown: u32) -> Result<Cut> {
        let scores = || proto.pieces.iter().filter(|(_, _, kind)| *kind == Kind::Normal).map(|(_, score, _)| *score);
        let greatest = scores().fold(f32::MIN_POSITIVE, f32::max);
        let vocab = (0u32..).zip(&proto.pieces).map(|(id, (text, score, kind))| match kind {
            Kind::Normal => (text.clone(), f64::from(*score)),
            Kind::UserDefined => (text.clone(), f64::from(text.len() as f32 * greatest) - 0.1),
            // U+FFFF is not a character, so no text becomes a control mark, a byte piece or an unused piece.
            _ => (format!("\u{FFFF}{id}"), f64::from(greatest)),
        });
        let model = Unigram::from(vocab.collect(), Some(unknown as usize), false)?;
        Ok(Cut { model: model.into(), parts: HashMap::new() })
    }

    /// Calls `piece` with the id of each piece of `text` and the piece's text. A run of unknown text counts as one
    /// piece.
    pub fn cut(&self, text: &str, mut piece: impl FnMut(u32, &str)) -> Result<()> {
        for token in self.model.tokenize(text)? {
            self.used(token.id, &mut |id| piece(id, &text[token.offsets.0..token.offsets.1]));
        }
        Ok(())
    }

    /// Calls `piece` with the id, or with the parts of an unused piece.
    fn used(&self, id: u32, piece: &mut impl FnMut(u32)) {
        match self.parts.get(&id) {
            Some(parts) => parts.iter().for_each(|&part| self.used(part, piece)),
            None => piece(id),
        }
    }
}
