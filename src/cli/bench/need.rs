//! The memory that a bench needs beside its weights: that of its largest cell.

use super::machine;
use aircache::config::DecoderConfig;
use aircache::decoder::AT_ONCE;
use aircache::eval::{Cell, Cells};

/// A full head of a cache grows by so many entries.
const GROWTH: u128 = 256;

/// The sizes of the largest cell.
#[derive(Clone, Copy)]
pub struct Largest {
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Sequences that are decoded side by side.
    pub batch: u32,
    /// Steps of a decode.
    pub steps: usize,
    /// Bytes of a number of its caches.
    pub number: u8,
}

/// Bytes that the largest cell needs at the least, weights apart.
pub fn most(text: &DecoderConfig, largest: Largest, cells: &Cells) -> u64 {
    let cells = cells.all.iter().map(|cell| needed(text, cell, largest)).max().unwrap_or(0);
    u64::try_from(cells).unwrap_or(u64::MAX).max(machine::BYTES)
}

/// Bytes of one cell. A cell grows with each of its sizes, so the largest one has the most of each.
fn needed(c: &DecoderConfig, cell: &Cell, largest: Largest) -> u128 {
    let wide = |n: usize| n as u128;
    let (prompt, batch) = (u128::from(largest.prompt), u128::from(largest.batch));
    let (steps, number) = (wide(largest.steps), u128::from(largest.number));
    // Keys, values, and where the entry stood.
    let entry = wide(c.layers * c.kv_heads) * (2 * wide(c.head_dim) * number + 8);
    let share = if cell.name == "full" { 1.0 } else { cell.retain.parse().unwrap_or(1.0) };
    // Of twenty rows two are text, which stays.
    let kept = prompt / 10 + (0.9 * prompt as f64 * share) as u128;
    let decoded = batch * entry * (kept + (steps + 1).next_multiple_of(GROWTH));

    let row = 4 * wide(3 * c.hidden + 2 * c.intermediate + (2 * c.heads + c.kv_heads) * c.head_dim);
    // Of each token of the prompt: its id, its position, its role and its embedding.
    let prefill = prompt * (16 + 4 * wide(c.hidden)) + prompt.min(wide(AT_ONCE)) * row;
    let step = batch * (row + 4 * wide(c.vocab)) + 8 * steps;
    // The prompt's own cache stays for the cells to come.
    prompt * entry + prefill.max(decoded + step)
}
