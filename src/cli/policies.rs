//! `policies`, and `--policy help`: every known method, its parts and its source.

use super::out::Stdout;
use super::{Common, Verdict};
use aircache::Result;
use aircache::policy::{Preset, presets};
use serde_json::json;
use std::collections::BTreeMap;

/// Lists the eviction methods and their parts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: aircache run --policy snapkv,heads=mean --retain 0.3

Parts can be combined; missing parts are AirCache's:
  window=elite:A|last-text:N|all-text|last-visual:N|last:N|all-queries|none
  score=mean|sum|received-mean|text-weighted|pool:KERNEL|max-pool:KERNEL|mix:KERNEL|keydiff|knorm|value-norm|
        expected:POSITIONS|position|random:SEED
  budget=uniform|pyramid:BETA|prefix|sparsity:P|entropy|votes|heads|strength|skewness|both|full
  keep=top[+first:N][+last:N][+window][+recent:SHARE][+on-top]  scope=visual|all  text=after|all|question
  heads=mean|union|kv|kv-max  split=even|ada:FLOOR|file:[FLOOR:]PATH
  evict=drop|merge:nearest|merge:pivot|merge:elastic-code
  keys=elite|all|causal  mask=none|causal
  prune=none|LAYER[:SHARE]|PERCENT%[:SHARE]|raters@LAYER[:SHARE]|raters@PERCENT%[:SHARE][+...]
  prune=class[:SHARE]|received[:SHARE]|dominant[:SHARE]|diverse[:SHARE]|zip[:SHARE][+...]")]
pub struct Args {}

/// The command.
pub fn run(_: Args, common: &Common) -> Result<Verdict> {
    let mut out = Stdout::new();
    if common.json {
        let all: Vec<_> = presets()
            .iter()
            .map(|p| {
                let parts: BTreeMap<_, _> = p.policy.parts().into_iter().collect();
                json!({"name": p.name, "group": p.group(), "line": p.line, "parts": parts, "source": p.source, "notes": p.notes})
            })
            .collect();
        out.json(&all.into())?;
        return Ok(Verdict::Pass);
    }
    for group in Preset::GROUPS {
        out.line(&format!("{group}:"))?;
        for p in presets().iter().filter(|p| p.group() == group) {
            let source = if p.source.is_empty() { String::new() } else { format!(" [{}]", p.source) };
            out.line(&format!("  {:<18}{}{source}", p.name, p.line))?;
            let parts = p.policy.parts().map(|(part, value)| format!("{part}={value}"));
            out.line(&format!("{:20}{}", "", parts.join(",")))?;
        }
    }
    Ok(Verdict::Pass)
}
