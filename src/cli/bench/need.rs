//! The memory that a bench needs in addition to the weights: the memory of its largest cell.

use super::cell::TEXT;
use super::machine;
use aircache::config::DecoderConfig;
use aircache::decoder::AT_ONCE;
use aircache::eval::{Cell, Cells};
use aircache::policy::Budget;

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
    // One entry of each KV head of a layer: its key, its value and its original position.
    let entry = wide(c.kv_heads) * (2 * wide(c.head_dim) * number + 8);
    let (read, kept) = rows(c, cell, largest.prompt as usize);
    let decoded = batch * entry * (wide(kept) + wide(c.layers) * (steps + 1).next_multiple_of(GROWTH));

    let row = 4 * wide(3 * c.hidden + 2 * c.intermediate + (2 * c.heads + c.kv_heads) * c.head_dim);
    // For each prompt token: its id, its position, its role and its embedding.
    let prefill = prompt * (16 + 4 * wide(c.hidden)) + prompt.min(wide(AT_ONCE)) * row;
    let step = batch * (row + 4 * wide(c.vocab)) + 8 * steps;
    // The prompt's own cache stays in memory for the later cells.
    wide(read) * entry + prefill.max(decoded + step)
}

/// The rows that the layers read, and the rows that stay after an eviction, over all layers. Rows that are dropped inside
/// prefill never reach later layers.
fn rows(c: &DecoderConfig, cell: &Cell, prompt: usize) -> (usize, usize) {
    let visual = prompt - 2 * (prompt / TEXT);
    let cuts = cell.policy.at(cell.fraction).prune.cuts(c.layers, visual).unwrap_or_default();
    let dropped = |l: usize| cuts.iter().rev().find(|cut| cut.layer <= l).map_or(0, |cut| visual - cut.keep);
    let read = (0..c.layers).map(|l| prompt - dropped(l)).sum();
    if cell.policy.budget == Budget::Full {
        return (read, read);
    }
    // Text rows are never evicted, unless the scope is all.
    let share = cell.retain.parse::<f64>().unwrap_or(1.0);
    (read, c.layers * (prompt - visual + (visual as f64 * share) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 rows, 90 of them visual; 6 layers. `fastv-prune` at 0.1 keeps 9 visual rows from layer 2 on, `pyramiddrop` 45, 23
    /// and 11 from layers 1, 3 and 4 on (D9.9).
    #[test]
    fn rows_that_are_dropped_inside_prefill_take_no_memory() {
        let config = aircache::family::shape("llava-ov-0.5b", Some(16)).unwrap();
        let c = &DecoderConfig { layers: 6, ..config.text().clone() };
        let cells = Cells::parse("full,snapkv,fastv-prune,pyramiddrop", "0.1").unwrap();
        let of = |name: &str| rows(c, cells.all.iter().find(|cell| cell.name == name).unwrap(), 100);
        assert_eq!(of("full"), (600, 600));
        assert_eq!(of("snapkv"), (600, 6 * 19));
        assert_eq!(of("fastv-prune"), (200 + 4 * 19, 200 + 4 * 19));
        assert_eq!(of("pyramiddrop"), (100 + 2 * 55 + 33 + 2 * 21, 100 + 2 * 55 + 33 + 2 * 21));
    }
}
