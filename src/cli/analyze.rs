//! `analyze`: spectra of a bundle's keys and values, and the loss of an eviction; feature `lapack`.

use super::eviction::Eviction;
use super::out::Stdout;
use super::{Common, Verdict, policies};
use aircache::analyze::{Layer, analyze};
use aircache::golden::Bundle;
use aircache::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Spectra of the keys and values of each layer, and the share of the evicted rows in the span of the kept rows
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache record --retain 0.05 --no-noise --out golden.safetensors
  aircache analyze golden.safetensors                                 the eviction of the bundle
  aircache analyze golden.safetensors --policy snapkv --retain 0.05   another eviction

The bundle holds input.roles, decoder.LL.key, decoder.LL.value and policy.LL.kept (with --policy: decoder.LL.query instead).
lost: the share of the last prompt row's attention that went to evicted rows (needs decoder.LL.query; mean over heads).
leading: the number of directions with 99 % of the energy of all visual rows. span, lead: the share of the energy of the
evicted rows in the span of the kept rows, and in the leading directions of the kept rows. Means over KV heads; --json has each.")]
pub struct Args {
    /// The bundle to read
    #[arg(value_name = "BUNDLE", required_unless_present = "policy")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    eviction: Eviction,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    if args.eviction.wants_list() {
        return policies::run(policies::Args {}, common);
    }
    let Some(path) = args.bundle.as_deref() else { return Err(Error::new("BUNDLE", "the bundle to read", "none")) };
    let asked =
        args.eviction.policy.is_some() || args.eviction.retain.is_some() || args.eviction.retain_tokens.is_some();
    let (policy, retain) = args.eviction.resolve(common.messages())?;
    let layers = analyze(&Bundle::open(path)?, asked.then_some((&policy, retain)))?;
    common.messages().notes();
    let mut out = Stdout::new();
    if common.json {
        out.json(&json!({"layers": layers.iter().map(Layer::json).collect::<Vec<_>>()}))?;
        return Ok(Verdict::Pass);
    }
    out.line("layer   kept   lost | keys: leading   span   lead | values: leading   span   lead")?;
    for (l, layer) in layers.iter().enumerate() {
        let kept = layer.keys.first().map_or(0, |s| s.kept);
        let part = |heads| {
            let mean = |figure| Layer::mean(heads, figure);
            (mean(|s| s.leading as f64), mean(|s| s.span), mean(|s| s.lead))
        };
        let ((a, b, c), (d, e, f)) = (part(&layer.keys), part(&layer.values));
        let lost = layer.lost.map_or("-".into(), |lost| format!("{lost:.4}"));
        out.line(&format!("{l:>5} {kept:>6} {lost:>6} | {a:>13.1} {b:>6.4} {c:>6.4} | {d:>15.1} {e:>6.4} {f:>6.4}"))?;
    }
    Ok(Verdict::Pass)
}
