//! `stages`: prints the table of stages, for people and for programs that write bundles.

use super::out::Stdout;
use super::{Common, Verdict};
use aircache::Result;
use aircache::stage::{Row, TABLE};
use serde_json::json;

/// Lists the stages of a bundle: name, type and shape, kind, and what each is computed from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: aircache stages --json

LL is a layer of two digits, TTTT a decode step of four. Symbols: n prompt tokens, n_v visual tokens, T generated tokens,
d hidden size, d_v that of the vision tower, H query heads, G KV heads, d_h head size, V vocabulary, L layers.
A stage without a type is stored as computed (F64, F32, BF16 or F16).")]
pub struct Args {}

/// The command.
pub fn run(_: Args, common: &Common) -> Result<Verdict> {
    let mut out = Stdout::new();
    let from = |row: &Row| row.from.iter().map(|from| from.words()).collect::<Vec<_>>();
    if common.json {
        let row = |row: &Row| {
            json!({
                "stage": row.pattern(), "type": row.stored, "shape": row.shape, "kind": row.kind.name(), "from": from(row),
                "rows_may_be_sampled": row.sampled, "since": row.since, "what": row.what,
            })
        };
        out.json(&TABLE.iter().map(row).collect())?;
        return Ok(Verdict::Pass);
    }
    for row in &TABLE {
        let stored = row.stored.map_or(String::new(), |stored| format!("{stored} "));
        out.line(&format!("{:<30}{stored}{}: {}", row.pattern(), row.shape, row.what))?;
        let from = from(row).join(", ").replace('`', "");
        out.line(&format!("{:30}{}, from {}", "", row.kind.name(), if from.is_empty() { "outside" } else { &from }))?;
    }
    Ok(Verdict::Pass)
}
