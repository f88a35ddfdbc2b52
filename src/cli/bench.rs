//! `bench`: times of prefill, compression and decode, with the full cache and with policies, and the limits of the machine.

mod cell;
mod machine;
mod need;

use super::answer::tokens;
use super::ask::Ask;
use super::common::PrecisionName;
use super::compute::{Compute, Computing};
use super::heads;
use super::out::{Stdout, bytes};
use super::{Common, Verdict, memory};
use aircache::Result;
use aircache::eval::Cells;
use aircache::family;
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Precision, Work};
use cell::{Measured, Prompts};
use machine::Machine;
use need::Largest;
use serde_json::json;
use std::path::PathBuf;

/// Measures prefill, compression and decode: one cell for each prompt length, batch, policy and retention
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache bench
  aircache bench --shape llava-ov-0.5b --vocab 32000 --weights bf16 --prompt-len 1024,4096 --batch 1,8 \\
                 --policies full,aircache --retain 0.1 --json

A prompt has random tokens; 90 % of them are visual. kind says when a policy drops entries, as `aircache policies` groups
them: after (prefill), inside (prefill) or before (the decoder); merge: it merges entries after prefill; none: it drops
nothing. prefill_s is the time of one prompt, without vision and compression; it is measured once for all retentions and
batches of a policy. vision_s is the time of one image, decode_ms that of the median step of the whole batch. The first share is that of the multiply-adds per second that the processor reaches in
registers, in the type of the precision (bf16: pairs, if kernels use them). roofline_decode_ms is the time to read step_weight_bytes and the kv_bytes of the
batch at read_gb_s, which is measured in the same run.")]
pub struct Args {
    /// A Hugging Face checkpoint folder [default: the embedded demo model]
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = format!("Random weights with the shape of a public model: {}", family::shapes().join(", ")))]
    shape: Option<String>,
    /// Cuts the vocabulary of a shape
    #[arg(long, value_name = "N", requires = "shape", value_parser = clap::value_parser!(u32).range(16..))]
    vocab: Option<u32>,
    /// The type of the weights of a shape [default: bf16 with --precision bf16, otherwise f32]
    #[arg(long, value_name = "TYPE", requires = "shape", value_parser = ["f32", "bf16"])]
    weights: Option<String>,
    #[command(flatten)]
    compute: Compute,
    /// Numbers of tokens of a prompt
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512", value_parser = clap::value_parser!(u32).range(20..))]
    prompt_len: Vec<u32>,
    /// Numbers of sequences that are decoded side by side
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Vec<u32>,
    /// The eviction methods, as in `eval`
    #[arg(long, value_name = "LIST", default_value = "full,aircache")]
    policies: String,
    /// Shares of the visual KV entries that are kept
    #[arg(long, value_name = "LIST", default_value = "0.1")]
    retain: String,
    /// The number of decode steps that are measured
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true, value_parser = tokens::<1>)]
    max_new_tokens: usize,
}

impl Args {
    fn largest(&self, computing: Computing) -> Largest {
        Largest {
            prompt: self.prompt_len.iter().max().copied().unwrap_or(1),
            batch: self.batch.iter().max().copied().unwrap_or(1),
            steps: self.max_new_tokens,
            number: match (computing.kv, computing.precision) {
                (Grid::Native, Precision::Truth) => 8,
                (Grid::Native, Precision::Fast) => 4,
                _ => 2,
            },
        }
    }
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let cells = Cells::parse(&heads::read("--policies", &args.policies)?, &args.retain)?;
    let (name, weights, model, computing) = load(&args, &cells)?;
    let model = &*memory::rounded(&model, computing.precision)?; // R10.4
    let machine = Machine::measured();
    let mut out = Stdout::new();
    if !common.json {
        out.line(&format!("{}; {}", machine.line(), computing.name()))?;
        out.line(HEAD)?;
    }
    let (vision_s, done) = {
        let all = All { args: &args, cells: &cells, model, computing, machine: &machine, out: &mut out, common };
        computing.precision.run(all)?
    };
    if common.json {
        let of = |c: &Measured| {
            json!({
                "model": name, "weights": weights, "precision": computing.precision.bundle_name(),
                "isa": computing.isa(), "kv": kv_name(computing), "policy": c.policy, "kind": c.kind, "retain": number(&c.retain),
                "batch": c.batch, "prompt": c.prompt, "vision_s": vision_s, "prefill_s": c.prefill_s,
                "prefill_tokens_s": c.prompt as f64 / c.prefill_s, "prefill_gflops": c.prefill_gflops(), "compress_s": c.compress_s,
                "decode_ms": c.decode_ms, "tokens_s": c.tokens_s(), "weight_bytes": model.checkpoint.bytes(),
                "step_weight_bytes": c.step_weight_bytes, "kv_bytes": c.kv_bytes,
                "peak_rss_bytes": machine::peak_rss(), "roofline_decode_ms": c.roofline_ms(&machine),
            })
        };
        out.json(&json!({"machine": machine.json(), "cells": done.iter().map(of).collect::<Vec<_>>()}))?;
    } else {
        let peak = machine::peak_rss().map_or("unknown".into(), bytes);
        out.line(&format!(
            "one image through the tower {vision_s:.3} s, weights {}, peak memory {peak}",
            bytes(model.checkpoint.bytes())
        ))?;
    }
    Ok(Verdict::Pass)
}

/// All cells, in the container of the precision.
struct All<'a> {
    args: &'a Args,
    cells: &'a Cells,
    model: &'a Model,
    computing: Computing,
    machine: &'a Machine,
    out: &'a mut Stdout,
    common: &'a Common,
}

impl Work for All<'_> {
    /// The seconds of one image, and every cell.
    type Output = Result<(f64, Vec<Measured>)>;

    fn run<T: Real>(self) -> Self::Output {
        let All { args, cells, model, computing, machine, out, common } = self;
        let vision_s = cell::vision(model, &mut computing.pass::<T>())?;
        let combinations = args.prompt_len.len() * args.batch.len() * cells.all.len();
        let bar = common.messages().bar("cells", combinations);
        let mut done = Vec::with_capacity(combinations);
        for &prompt in &args.prompt_len {
            let prompts = Prompts::new(model, prompt as usize)?;
            for of_policy in cells.all.chunk_by(|a, b| a.name == b.name && !a.policy.prunes()) {
                let prefilled =
                    prompts.prefill(&of_policy[0].policy.at(of_policy[0].fraction), computing.pass::<T>())?;
                for &batch in &args.batch {
                    for wanted in of_policy {
                        let pass = &mut computing.pass::<T>();
                        let cell = prefilled.cell(wanted, batch as usize, args.max_new_tokens, pass)?;
                        if !common.json {
                            bar.aside(|| out.line(&row(&cell, machine, computing.precision)))?;
                        }
                        bar.step();
                        done.push(cell);
                    }
                }
            }
        }
        Ok((vision_s, done))
    }
}

/// The type that the cache stores.
fn kv_name(computing: Computing) -> &'static str {
    match computing.kv {
        Grid::Native => computing.precision.bundle_name(),
        Grid::Bf16 => "bf16",
        Grid::F16 => "f16",
    }
}

/// A retention as a number.
fn number(retain: &str) -> serde_json::Value {
    retain.parse::<f64>().map_or(serde_json::Value::Null, Into::into)
}

const HEAD: &str = "prompt  batch  policy            kind     retain  prefill tok/s  share  compress ms  decode ms  roofline ms  share      KV";

/// One line of the table.
fn row(c: &Measured, machine: &Machine, precision: Precision) -> String {
    let roofline = c.roofline_ms(machine);
    format!(
        "{:>6}  {:>5}  {:<16}  {:<7}  {:>6}  {:>13.0}  {:>5.2}  {:>11.1}  {:>9.2}  {:>11.2}  {:>5.2}  {:>8}",
        c.prompt,
        c.batch,
        c.policy,
        c.when,
        c.retain,
        c.prompt as f64 / c.prefill_s,
        c.prefill_gflops() / machine.peak(precision),
        c.compress_s * 1e3,
        c.decode_ms,
        roofline,
        roofline / c.decode_ms,
        bytes(c.kv_bytes as u64)
    )
}

/// Loads the model after it checks that there is memory for the model and for every cell. Returns the model's name, the
/// storage type of its weights, the model, and how it computes.
fn load(args: &Args, cells: &Cells) -> Result<(String, String, Model, Computing)> {
    let default = PrecisionName::Fast;
    if let Some(shape) = &args.shape {
        let config = family::shape(shape, args.vocab.map(|v| v as usize))?;
        let bf16 = args.compute.is(PrecisionName::Bf16);
        let weights = args.weights.as_deref().unwrap_or(if bf16 { "bf16" } else { "f32" });
        let computing = args.compute.resolve_for(default, &weights.to_uppercase())?;
        let stored = if weights == "bf16" { Grid::Bf16 } else { Grid::Native };
        memory::check(
            shape,
            Model::invented_bytes(&*config, stored)?.saturating_add(need::most(
                config.text(),
                args.largest(computing),
                cells,
            )),
        )?;
        return Ok((shape.clone(), weights.to_string(), Model::invented(config, stored)?, computing));
    }
    let (files, name) = Ask::files(args.model.as_ref());
    let model = memory::load(&files)?;
    let computing = args.compute.resolve(default, &model)?;
    memory::check(
        &name,
        model.forecast(None).saturating_add(need::most(model.config.text(), args.largest(computing), cells)),
    )?;
    let weights = model.decoder.weights().to_lowercase();
    Ok((name, weights, model, computing))
}
