//! The memory that a bench needs in addition to the weights: the memory of its largest cell.

use super::machine;
use aircache::config::DecoderConfig;
use aircache::decoder::AT_ONCE;
use aircache::eval::{Cell, Cells};

/// A full head of a cache grows by this number of entries.
const GROWTH: u128 = 256;

/// The sizes of the largest cell.
#[derive(Clone, Copy)]
pub struct Largest {
    /// The number of tokens of the prompt.
    pub prompt: u32,
    /// Sequences that are decoded side by side.
    pub batch: u32,
    /// The number of decode steps.
    pub steps: usize,
    /// The size of one number in the KV cache, in bytes.
    pub number: u8,
}

/// A lower bound of the bytes that the largest cell needs, without the weights.
pub fn most(text: &DecoderConfig, largest: Largest, cells: &Cells) -> u64 {
    let cells = cells.all.iter().map(|cell| needed(text, cell, largest)).max().unwrap_or(0);
    u64::try_from(cells).unwrap_or(u64::MAX).max(machine::BYTES)
}

/// Bytes that one cell needs. The need of a cell grows with each size, so `largest` has the maximum of each size.
fn needed(c: &DecoderConfig, cell: &Cell, largest: Largest) -> u128 {
    let wide = |n: usize| n as u128;
    let (prompt, batch) = (u128::from(largest.prompt), u128::from(largest.batch));
    let (steps, number) = (wide(largest.steps), u128::from(largest.number));
    // One entry: its key, its value and its original position.
    let entry = wide(c.layers * c.kv_heads) * (2 * wide(c.head_dim) * number + 8);
    let share = if cell.name == "full" { 1.0 } else { cell.retain.parse().unwrap_or(1.0) };
    // In every twenty prompt rows, two rows are text rows; text rows are never evicted.
    let kept = prompt / 10 + (0.9 * prompt as f64 * share) as u128;
    let decoded = batch * entry * (kept + (steps + 1).next_multiple_of(GROWTH));

    let row = 4 * wide(3 * c.hidden + 2 * c.intermediate + (2 * c.heads + c.kv_heads) * c.head_dim);
    // For each prompt token: its id, its position, its role and its embedding.
    let prefill = prompt * (16 + 4 * wide(c.hidden)) + prompt.min(wide(AT_ONCE)) * row;
    let step = batch * (row + 4 * wide(c.vocab)) + 8 * steps;
    // The prompt's own cache stays in memory for the later cells.
    prompt * entry + prefill.max(decoded + step)
}
