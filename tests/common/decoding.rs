//! Runs a decoder over bare caches, for tests of single rows, steps and chunks.

use aircache::cache::Cache;
use aircache::decoder::{Decoder, Member, Sequence};
use aircache::input::Positions;
use aircache::num::Real;
use aircache::pass::Pass;
use aircache::stage::Phase;
use ndarray::Array2;

/// A sequence that holds `cache` temporarily.
fn holding<T: Real>(cache: &mut Cache<T>) -> Sequence<T> {
    Sequence::new(std::mem::replace(cache, Cache::new(0, 0, 0)))
}

/// Runs prompt rows through all layers and appends them to caches. Each cache has its own number of rows.
pub fn forward<T: Real>(
    decoder: &Decoder,
    pass: &mut Pass<'_, T>,
    x: Array2<T>,
    positions: &Positions,
    caches: &mut [(&mut Cache<T>, usize)],
) -> Array2<T> {
    let mut sequences: Vec<Sequence<T>> = caches.iter_mut().map(|(cache, _)| holding(cache)).collect();
    let mut members: Vec<Member<'_, T>> = sequences.iter_mut().zip(&*caches).map(|(s, (_, rows))| (s, *rows)).collect();
    let out = decoder.forward(pass, Phase::Prefill, x, positions, &mut members);
    caches.iter_mut().zip(sequences).for_each(|((cache, _), sequence)| **cache = sequence.cache);
    out
}

/// Decodes one token for each cache, at these positions: logits [caches, V].
pub fn step<T: Real>(
    decoder: &Decoder,
    pass: &mut Pass<'_, T>,
    tokens: &[u32],
    positions: &[i64],
    caches: &mut [&mut Cache<T>],
) -> Array2<T> {
    step_at(decoder, pass, 0, tokens, positions, caches)
}

/// As [`step`], for step number `t`.
pub fn step_at<T: Real>(
    decoder: &Decoder,
    pass: &mut Pass<'_, T>,
    t: usize,
    tokens: &[u32],
    positions: &[i64],
    caches: &mut [&mut Cache<T>],
) -> Array2<T> {
    let mut sequences: Vec<Sequence<T>> = caches.iter_mut().map(|cache| holding(cache)).collect();
    sequences.iter_mut().zip(positions).for_each(|(sequence, &at)| sequence.next_position = at);
    decoder.step(pass, t, tokens, &mut sequences.iter_mut().collect::<Vec<_>>());
    let logits = sequences.iter().flat_map(|sequence| sequence.logits.clone()).collect();
    caches.iter_mut().zip(sequences).for_each(|(cache, sequence)| **cache = sequence.cache);
    Array2::from_shape_vec((tokens.len(), decoder.config.vocab), logits).unwrap()
}
