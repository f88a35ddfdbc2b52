//! SentencePiece's unigram model: the cut whose pieces' scores have the greatest sum.
//!
//! Source: sentencepiece's `unigram_model.cc` (`EncodeOptimized`). Spec: E4.20

use super::Pieces;
use super::proto::Kind;
use std::ops::Range;

/// How much less than the worst piece a character without a piece scores.
const PENALTY: f32 = 10.0;

impl Pieces {
    /// The stretches of a normalised text that pieces stand for, or that have none. Spec: E4.20
    pub(super) fn unigram(&self, text: &str) -> Vec<Range<usize>> {
        let scores =
            || self.proto.pieces.iter().filter(|(_, _, kind)| *kind == Kind::Normal).map(|(_, score, _)| *score);
        let unknown = scores().fold(f32::MAX, f32::min) - PENALTY;
        let greatest = scores().fold(f32::MIN_POSITIVE, f32::max);
        // For each end: where the best last piece starts, and the sum up to it.
        let mut best: Vec<Option<(usize, f32)>> = vec![None; text.len() + 1];
        let mut ends: Vec<usize> = text.char_indices().map(|(i, _)| i).skip(1).collect();
        ends.push(text.len());
        for (start, first) in text.char_indices() {
            let so_far = best[start].map_or(0.0, |(_, sum)| sum);
            let one = start + first.len_utf8();
            let mut better = |end: usize, score: f64| {
                let sum = score + f64::from(so_far);
                if best[end].is_none_or(|(_, least)| sum > f64::from(least)) {
                    best[end] = Some((start, sum as f32));
                }
            };
            let mut single = false;
            let from = ends.partition_point(|&end| end <= start);
            for &end in ends[from..].iter().take_while(|&&end| end - start <= self.longest) {
                let Some(&id) = self.ids.get(&text[start..end]) else { continue };
                let score = match self.kind(id) {
                    Kind::Unused => continue,
                    Kind::UserDefined => f64::from((end - start) as f32 * greatest) - 0.1,
                    _ => f64::from(self.proto.pieces[id as usize].1),
                };
                better(end, score);
                single |= end == one;
            }
            if !single {
                better(one, f64::from(unknown));
            }
        }
        let mut out = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let start = best[end].map_or(0, |(start, _)| start);
            out.push(start..end);
            end = start;
        }
        out.reverse();
        out
    }
}
