//! `record`: does the work of `run`, and writes every stage to a golden bundle.

use super::answer::Answer;
use super::ask::Ask;
use super::common::PrecisionName;
use super::eviction::Eviction;
use super::out::{Stdout, bytes};
use super::{Common, Verdict, memory, output, policies};
use aircache::golden::{BundleWriter, Recording, Selection, record};
use aircache::{Error, Result};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Writes every stage of a run to a golden bundle, in float64 unless --precision says otherwise
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache record --retain 0.3 --out golden.safetensors
  aircache record --model DIR --image page.png --prompt 'What is the total?' --policy aircache --retain 0.1 \\
      --max-new-tokens 16 --out golden.safetensors
  aircache record --stages 'input.*,decoder.*.query,decoder.*.key' --out kernels.safetensors
  aircache record --model DIR --image page.png --prompt 'What is the total?' --rows 64 --out small.safetensors

A bundle is a safetensors file; stages are named as in decoder.07.mix, and stored in the type of the precision.")]
pub struct Args {
    #[command(flatten)]
    ask: Ask,
    #[command(flatten)]
    eviction: Eviction,
    #[command(flatten)]
    answer: Answer,
    /// The stages to write: patterns of whole names, with * and ?, separated by commas [default: all]
    #[arg(long, value_name = "GLOBS")]
    stages: Option<String>,
    /// Writes only N rows of a stage with more than N rows, and a hash of all its rows
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Omits the noise of honest f32, bf16 and f16 computations, from which `check` makes its rulers
    #[arg(long)]
    no_noise: bool,
    /// The bundle; the file is replaced at the end
    #[arg(long, value_name = "FILE", required_unless_present = "policy")]
    out: Option<PathBuf>,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    if args.eviction.wants_list() {
        return policies::run(policies::Args {}, common);
    }
    let messages = common.messages();
    let Some(target) = args.out.as_deref() else {
        return Err(Error::new("--out", "the bundle's file", "none"));
    };
    let (policy, retain) = args.eviction.resolve(messages)?;
    let stages =
        args.stages.as_deref().map(str::parse::<Selection>).transpose().map_err(at_stages)?.unwrap_or_default();
    let stages = match args.rows {
        Some(rows) => stages.with_rows(rows).map_err(|e| Error { at: "--rows".into(), ..e })?,
        None => stages,
    };
    args.ask.read().apart(&[("--out", target)])?;
    let asked = args.ask.load(messages)?;
    let computing = args.answer.compute.resolve(PrecisionName::Truth, &asked.model)?;
    if computing.chosen {
        PrecisionName::Auto.named()?;
    }
    let how = Recording {
        precision: computing.precision,
        way: computing.way,
        kv: computing.kv,
        policy: asked.fitted(policy),
        retain,
        sampling: args.answer.sampling(&asked.model.generation)?,
        until: args.answer.until(&asked.model.generation),
        stages,
        noise: !args.no_noise,
    };
    memory::check(asked.model.checkpoint.label(), how.rounded_bytes(&asked.model))?;
    let writer = BundleWriter::create_by(output::temporary, target)?;
    messages.notes();
    let busy = messages.busy(&format!("recording {}", target.display()));
    let recorded =
        record(&asked.model, &asked.prompt, &how, writer, |_| ControlFlow::Continue(())).map_err(at_stages)?;
    drop(busy);
    for glob in how.stages.idle(&recorded.stages) {
        messages.say(&format!("note: no stage of this run matches {glob:?}"));
    }
    let text = asked.processor.tokenizer().decode(&recorded.tokens)?;
    if common.json {
        return Stdout::new()
            .json(&json!({
                "out": target.display().to_string(),
                "stages": recorded.stages,
                "bytes": recorded.bytes,
                "precision": how.precision.bundle_name(),
                "policy": how.policy,
                "retain": how.retain.to_string(),
                "prompt_tokens": asked.prompt.ids.len(),
                "visual_tokens": asked.prompt.roles.visual().len(),
                "ids": recorded.tokens,
                "text": text,
            }))
            .map(|()| Verdict::Pass);
    }
    messages.say(&format!(
        "{}: {} stages, {}, {}; the answer: {text}",
        target.display(),
        recorded.stages.len(),
        bytes(recorded.bytes),
        how.precision.bundle_name()
    ));
    Ok(Verdict::Pass)
}

/// Converts an error about globs into an error about the option.
fn at_stages(e: Error) -> Error {
    if e.at == "stages" { Error { at: "--stages".into(), ..e } } else { e }
}
