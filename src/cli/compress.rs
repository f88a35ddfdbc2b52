//! `compress`: the algorithm alone, on given queries, keys and roles; no model is needed.

use super::eviction::Eviction;
use super::out::Stdout;
use super::places::Read;
use super::{Common, Verdict, memory, output, policies};
use aircache::golden::{Bundle, BundleWriter, Recorder, Selection, compress};
use aircache::num::Real;
use aircache::pass::{Precision, Work};
use aircache::policy::{Plan, Policy, Retain};
use aircache::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the eviction alone, on the queries, keys and roles of a bundle; no model is needed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  aircache record --retain 0.3 --stages 'input.roles,decoder.*.query,decoder.*.key' --out dump.safetensors
  aircache compress dump.safetensors --policy aircache --retain 0.3 --out policy.safetensors

The bundle is a safetensors file with the metadata format=aircache-bundle and precision, and the tensors input.roles [n]
(0 text, 1 visual), decoder.LL.query [H, n, d_h] and decoder.LL.key [G, n, d_h], after rotary, in any float type; scores that
read values (value-norm, mix, expected) need decoder.LL.value [G, n, d_h] too. score=expected also needs
decoder.LL.query-mean [H, d_h] and decoder.LL.query-covariance [H, d_h, d_h].")]
pub struct Args {
    /// The bundle to read
    #[arg(value_name = "BUNDLE", required_unless_present = "policy")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    eviction: Eviction,
    /// The type of all sums: float64 (truth) or float32 (fast)
    #[arg(long, value_enum, value_name = "P", default_value = "truth")]
    precision: Sums,
    /// Writes the policy.* stages to a bundle; without this option they are only printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The type of all sums. The numbers of the bundle are used as they are, so no other precision has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sums {
    /// float64
    #[value(alias = "f64")]
    Truth,
    /// float32
    #[value(alias = "f32")]
    Fast,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    if args.eviction.wants_list() {
        return policies::run(policies::Args {}, common);
    }
    let messages = common.messages();
    let Some(path) = args.bundle.as_deref() else {
        return Err(Error::new("BUNDLE", "the bundle to read", "none"));
    };
    let (policy, retain) = args.eviction.resolve(messages)?;
    if let Some(out) = &args.out {
        Read::new().files([&path.to_path_buf()]).apart(&[("--out", out)])?;
    }
    let precision = match args.precision {
        Sums::Truth => Precision::Truth,
        Sums::Fast => Precision::Fast,
    };
    let bundle = Bundle::open(path)?;
    // Created before the work, so that a file that cannot be written is an error at once.
    let writer = args.out.as_deref().map(|out| BundleWriter::create_by(output::temporary, out)).transpose()?;
    let writer = writer.map(|writer| Recorder::new(writer, precision, Selection::default()));
    memory::check_stages(&bundle, 4)?; // queries and keys, and a copy of both in the type of the sums
    let busy = messages.busy(&format!("compressing {}", path.display()));
    let plan = precision.run(Compress { bundle: &bundle, policy: &policy, retain })?;
    if let (Some(out), Some(writer)) = (args.out.as_deref(), writer) {
        write(writer, out, &plan, precision, &policy, retain, common)?;
    }
    drop(busy);
    messages.notes();
    print(&plan, &policy, retain, common)?;
    Ok(Verdict::Pass)
}

/// The inputs of the plan.
struct Compress<'a> {
    bundle: &'a Bundle,
    policy: &'a Policy,
    retain: Retain,
}

impl Work for Compress<'_> {
    type Output = Result<Plan>;

    fn run<T: Real>(self) -> Self::Output {
        compress::<T>(self.bundle, self.policy, self.retain)
    }
}

fn write(
    mut writer: Recorder,
    out: &Path,
    plan: &Plan,
    precision: Precision,
    policy: &Policy,
    retain: Retain,
    common: &Common,
) -> Result<()> {
    for (at, values) in plan.tensors() {
        writer.values(&at.name(), &values)?;
    }
    let (stages, _) = writer.finish(vec![
        ("version", "1".into()),
        ("producer", format!("aircache {}", env!("CARGO_PKG_VERSION"))),
        ("precision", precision.bundle_name().into()),
        ("policy", json!(policy).to_string()),
        ("retain", retain.to_string()),
    ])?;
    common.messages().say(&format!("{}: {} stages", out.display(), stages.len()));
    Ok(())
}

/// Prints what each layer keeps.
fn print(plan: &Plan, policy: &Policy, retain: Retain, common: &Common) -> Result<()> {
    let Some(d) = &plan.decisions else { return Ok(()) };
    let mut out = Stdout::new();
    if common.json {
        let layers: Vec<_> = d
            .layers
            .iter()
            .zip(&d.budget)
            .zip(&d.kept)
            .map(|((layer, budget), kept)| {
                json!({
                    "budget": budget, "kept": kept, "window": layer.window,
                    "strength": layer.strength, "skewness": layer.skewness,
                })
            })
            .collect();
        return out.json(&json!({"policy": policy, "retain": retain.to_string(), "layers": layers}));
    }
    let candidates = d.layers.first().map_or(0, |layer| layer.importance.ncols());
    out.line(&format!(
        "{policy} at {retain}: {} of {} entries",
        d.budget.iter().sum::<usize>(),
        candidates * d.budget.len()
    ))?;
    out.line(&format!(
        "{:>5} {:>7} {:>5} {:>8} {:>12} {:>12}",
        "layer", "kept", "of", "voters", "strength", "skewness"
    ))?;
    for (l, (layer, kept)) in d.layers.iter().zip(&d.budget).enumerate() {
        let voters = layer.window.iter().map(Vec::len).max().unwrap_or(0);
        let (s, k) = (layer.strength, layer.skewness);
        out.line(&format!("{l:>5} {kept:>7} {candidates:>5} {voters:>8} {s:>12.6} {k:>12.6}"))?;
    }
    Ok(())
}
