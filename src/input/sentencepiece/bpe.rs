//! SentencePiece's BPE: the pair of neighbours whose piece scores highest is merged, over and over.
//!
//! Source: sentencepiece's `bpe_model.cc`. Spec: E4.19

use super::Pieces;
use super::proto::Kind;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

/// A stretch of the text, and its neighbours.
struct Symbol {
    range: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
    /// Cut out of the text by a user-defined piece, never to be merged.
    frozen: bool,
}

/// Two neighbours that a piece joins.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when they were found; another size means that one of them has grown since.
    size: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pair {}

impl Pieces {
    /// The stretches of a normalised text that pieces stand for, or that have none. Spec: E4.19
    pub(super) fn bpe(&self, text: &str) -> Vec<Range<usize>> {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            let cut = self.user_defined(&text[at..]);
            let range = at..at + cut.unwrap_or(first.len_utf8());
            at = range.end;
            let before = symbols.len().checked_sub(1);
            symbols.push(Symbol { range, before, after: Some(symbols.len() + 1), frozen: cut.is_some() });
        }
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        let mut agenda = BinaryHeap::new();
        // What a piece that is not used was made of, so that it can be taken apart again.
        let mut made_of: HashMap<&str, usize> = HashMap::new();
        let mut look =
            |symbols: &[Symbol], left: Option<usize>, right: Option<usize>, agenda: &mut BinaryHeap<Pair>| {
                let (Some(left), Some(right)) = (left, right) else { return };
                let (a, b) = (&symbols[left], &symbols[right]);
                if a.frozen || b.frozen {
                    return;
                }
                let joined = &text[a.range.start..b.range.end];
                let Some(&id) = self.ids.get(joined) else { return };
                let (_, score, kind) = self.proto.pieces[id as usize];
                agenda.push(Pair { score, left, right, size: joined.len() });
                if kind == Kind::Unused {
                    made_of.insert(joined, a.range.len());
                }
            };
        for right in 1..symbols.len() {
            look(&symbols, Some(right - 1), Some(right), &mut agenda);
        }
        while let Some(Pair { left, right, size, .. }) = agenda.pop() {
            let (a, b) = (symbols[left].range.clone(), symbols[right].range.clone());
            if a.is_empty() || b.is_empty() || a.len() + b.len() != size {
                continue;
            }
            let after = symbols[right].after;
            symbols[left].range.end = b.end;
            symbols[left].after = after;
            symbols[right].range = b.end..b.end;
            if let Some(after) = after {
                symbols[after].before = Some(left);
            }
            let before = symbols[left].before;
            look(&symbols, before, Some(left), &mut agenda);
            look(&symbols, Some(left), after, &mut agenda);
        }
        let mut out = Vec::new();
        for symbol in symbols.iter().filter(|s| !s.range.is_empty()) {
            self.taken_apart(text, symbol.range.clone(), &made_of, &mut out);
        }
        out
    }

    /// A stretch, or, where its piece is not used, what it was made of.
    fn taken_apart(
        &self,
        text: &str,
        range: Range<usize>,
        made_of: &HashMap<&str, usize>,
        out: &mut Vec<Range<usize>>,
    ) {
        let unused = self.ids.get(&text[range.clone()]).is_some_and(|&id| self.kind(id) == Kind::Unused);
        match made_of.get(&text[range.clone()]).filter(|_| unused) {
            None => out.push(range),
            Some(&left) => {
                self.taken_apart(text, range.start..range.start + left, made_of, out);
                self.taken_apart(text, range.start + left..range.end, made_of, out);
            }
        }
    }
}
