//! The memory that a bench needs beside its weights: that of its largest cell.

use super::Args;
use super::machine;
use aircache::config::{DecoderConfig, FamilyConfig};
use aircache::decoder::AT_ONCE;
use aircache::eval::{Cell, Grid};

/// Entries that a head of a cache makes room for at once.
const GROWTH: u128 = 256;

/// Bytes that the largest cell needs at the least, weights apart.
pub fn most(config: &FamilyConfig, args: &Args, cells: &Grid) -> u64 {
    let number = if args.kv == "bf16" { 2 } else { 4 };
    let batch = args.batch.iter().max().copied().unwrap_or(1).into();
    let prompt = args.prompt_len.iter().max().copied().unwrap_or(1).into();
    let of = |cell: &Cell| needed(config.text(), cell, prompt, batch, args.max_new_tokens as u128, number);
    let cells = cells.cells.iter().map(of).max().unwrap_or(0);
    u64::try_from(cells).unwrap_or(u64::MAX).max(machine::BYTES)
}

/// Bytes of one cell; number: those of a number of its caches. A cell grows with all three, so the largest one has the most
/// of each.
fn needed(c: &DecoderConfig, cell: &Cell, prompt: u128, batch: u128, steps: u128, number: u128) -> u128 {
    let wide = |n: usize| n as u128;
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
