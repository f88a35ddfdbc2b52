//! `run`: images and a prompt to text, streamed; a summary on stderr.

use super::answer::Answer;
use super::ask::{Ask, Asked};
use super::common::PrecisionName;
use super::compute::Computing;
use super::eviction::Eviction;
use super::out::{Stdout, bytes, seconds};
use super::{Common, Verdict, batch, memory, output, policies, samples};
use aircache::Result;
use aircache::cache::HeadCache;
use aircache::decoder::AT_ONCE;
use aircache::generate;
use aircache::model::Model;
use aircache::num::Real;
use aircache::pass::Work;
use aircache::policy::{Plan, Policy, Retain};
use aircache::sample::{Sampler, Sampling};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Answers a question about images: text on stdout, streamed; a summary on stderr
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache run --retain 0.3
  aircache run --image page.png --prompt 'What is the total?' --model llava-onevision-qwen2-0.5b-ov-hf --retain 0.1
  aircache run --video frames/0001.png frames/0002.png --prompt 'What happens?' --model DIR
  aircache run --sample 07 --policy snapkv --retain-tokens 40 --json
  aircache run --batch questions.jsonl --retain 0.3 --out answers.jsonl

With --out, --batch writes answers.journal.jsonl beside the file, and continues where a killed run stopped.")]
pub struct Args {
    #[command(flatten)]
    ask: Ask,
    #[command(flatten)]
    eviction: Eviction,
    #[command(flatten)]
    answer: Answer,
    #[command(flatten)]
    file: batch::File,
    /// Writes the answer (with --json: the result) to a file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Lists the bundled images and their questions, and stops
    #[arg(long)]
    list_samples: bool,
    /// Writes the bundled images into a folder, and stops
    #[arg(long, value_name = "DIR")]
    save_samples: Option<PathBuf>,
}

/// The parts of a run, after its options are read.
struct Job<'a> {
    asked: &'a Asked,
    /// The model in the type of the precision.
    model: &'a Model,
    policy: Policy,
    retain: Retain,
    computing: Computing,
    sampling: Sampling,
}

/// The outcome of a run.
struct Outcome {
    text: String,
    tokens: Vec<u32>,
    /// The visual entries that each kept set of each layer keeps, and their number before the eviction.
    budget: Option<(Vec<usize>, usize)>,
    vision: Duration,
    prefill: Duration,
    compress: Duration,
    decode: Duration,
    kv_bytes: (usize, usize),
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    if args.eviction.wants_list() {
        return policies::run(policies::Args {}, common);
    }
    if args.list_samples {
        return samples::list(common);
    }
    if let Some(folder) = &args.save_samples {
        return samples::save(folder, common);
    }
    if let Some(path) = &args.out {
        args.ask.read().files(&args.file.batch).apart(&[("--out", path)])?;
    }
    if let Some(data) = &args.file.batch {
        let size = usize::from(args.file.batch_size);
        return batch::run((data, size), (&args.ask, &args.eviction, &args.answer), args.out.as_deref(), common);
    }
    let messages = common.messages();
    let (policy, retain) = args.eviction.resolve(messages)?;
    let asked = &args.ask.load(messages)?;
    let computing = args.answer.compute.resolve(PrecisionName::Auto, &asked.model)?;
    let model = &*memory::rounded(&asked.model, computing.precision)?; // R10.4
    let policy = asked.fitted(policy);
    let sampling = args.answer.sampling(&model.generation)?;
    args.answer.notes(&model.generation, sampling, messages);
    let job = Job { asked, model, policy, retain, computing, sampling };
    let mut out = Stdout::new();
    let outcome = computing.precision.run(Flow { job: &job, args: &args, common, out: &mut out })?;
    let result = result(&job, &outcome);
    if common.json {
        out.json(&result)?;
    }
    if let Some(path) = &args.out {
        let text = if common.json { format!("{result:#}\n") } else { format!("{}\n", outcome.text) };
        output::write(path, text.as_bytes())?;
    }
    if !out.is_closed() {
        summary(&job, &outcome, common);
    }
    Ok(Verdict::Pass)
}

/// A job, and the destination of its text.
struct Flow<'a> {
    job: &'a Job<'a>,
    args: &'a Args,
    common: &'a Common,
    out: &'a mut Stdout,
}

impl Work for Flow<'_> {
    type Output = Result<Outcome>;

    fn run<T: Real>(self) -> Self::Output {
        let Flow { job, args, common, out } = self;
        let (Asked { processor, prompt, .. }, model) = (job.asked, job.model);
        let messages = common.messages();
        let mut sampler = Sampler::new(job.sampling)?;
        let mut pass = job.computing.pass::<T>();

        let policy = job.policy.at(job.retain);
        messages.notes();
        let start = Instant::now();
        let busy = messages.busy(&format!("reading {} tokens", prompt.ids.len()));
        let encoded = generate::encode_batch(model, &mut pass, &[(prompt, std::slice::from_ref(&policy))])?;
        let vision = start.elapsed();
        let start = Instant::now();
        let mut sequences = encoded.prefill(model, &mut pass, AT_ONCE);
        let Some(mut sequence) = sequences.pop() else { unreachable!("D6.11: one prompt gives one sequence") };
        let prefill = start.elapsed();

        let start = Instant::now();
        let plan = sequence.plan(&policy, job.retain)?;
        let full = match (policy.prunes(), sequence.cache.layers.first()) {
            // A policy that drops rows before the decoder or inside prefill never had all entries.
            (true, Some(heads)) => {
                let entry = |head: &HeadCache<T>| head.bytes() / head.len().max(1);
                heads.iter().map(entry).sum::<usize>() * prompt.ids.len() * sequence.cache.layers.len()
            }
            _ => sequence.cache.bytes(),
        };
        sequence.evict(&plan, pass.grid);
        let compress = start.elapsed();
        let kv_bytes = (full, sequence.cache.bytes());
        drop(busy);

        let start = Instant::now();
        let mut stream = processor.tokenizer().stream();
        let mut trouble = Ok(());
        let until = args.answer.until(&model.generation);
        let tokens = generate::decode(model, &mut pass, &mut sequence, &mut sampler, &until, |token| {
            if let Some(piece) = stream.push(token).filter(|_| !common.json) {
                trouble = out.text(&piece);
            }
            // If stdout is closed, only a file needs the rest of the answer.
            if trouble.is_err() || (out.is_closed() && args.out.is_none()) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        trouble?;
        let decode = start.elapsed();
        if !common.json {
            out.text(&stream.finish().unwrap_or_default())?;
            out.text("\n")?;
        }
        let text = processor.tokenizer().decode(&tokens)?;
        Ok(Outcome { text, tokens, budget: budget(&plan), vision, prefill, compress, decode, kv_bytes })
    }
}

fn budget(plan: &Plan) -> Option<(Vec<usize>, usize)> {
    let d = plan.decisions.as_ref()?;
    Some((d.budget.clone(), d.layers.first()?.importance.ncols()))
}

/// Tokens per second; the first token needs no step and does not count.
fn rate(outcome: &Outcome) -> Option<f64> {
    let steps = outcome.tokens.len().checked_sub(1).filter(|&n| n > 0)?;
    Some(steps as f64 / outcome.decode.as_secs_f64()).filter(|r| r.is_finite())
}

/// The machine-readable result.
fn result(job: &Job<'_>, o: &Outcome) -> serde_json::Value {
    let prompt = &job.asked.prompt;
    let stopped = o.tokens.last().is_some_and(|t| job.asked.model.generation.eos.contains(t));
    let images: Vec<_> =
        prompt.images.iter().map(|i| json!({"size": [i.size.0, i.size.1], "sha256": i.sha256})).collect();
    let frames = job.asked.frames.as_ref().map(|chosen| {
        let seconds: Vec<f64> = chosen.seconds().collect();
        json!({"read": chosen.at, "seconds": seconds, "of": chosen.of, "fps": chosen.fps})
    });
    json!({
        "text": o.text,
        "ids": o.tokens,
        "stopped": if stopped { "eos" } else { "length" },
        "model": job.asked.name,
        "family": job.asked.model.config.name(),
        "precision": job.computing.precision.bundle_name(),
        "precision_chosen": job.computing.chosen,
        "policy": job.policy,
        "retain": job.retain.to_string(),
        "images": images,
        "frames": frames,
        "resampler": prompt.preprocess,
        "prompt_tokens": prompt.ids.len(),
        "visual_tokens": prompt.roles.visual().len(),
        "new_tokens": o.tokens.len(),
        "budget": o.budget.as_ref().map(|(b, _)| b),
        "vision_s": o.vision.as_secs_f64(),
        "prefill_s": o.prefill.as_secs_f64(),
        "compress_s": o.compress.as_secs_f64(),
        "decode_s": o.decode.as_secs_f64(),
        "tokens_s": rate(o),
        "kv_bytes_before": o.kv_bytes.0,
        "kv_bytes_after": o.kv_bytes.1,
        "threads": rayon::current_num_threads(),
        "isa": job.computing.isa(),
    })
}

/// The summary for people.
fn summary(job: &Job, o: &Outcome, common: &Common) {
    let messages = common.messages();
    let prompt = &job.asked.prompt;
    let (n, visual) = (prompt.ids.len(), prompt.roles.visual().len());
    messages.say(&format!(
        "model     {}, {}{}, {} threads, {}",
        job.asked.name,
        job.computing.precision.bundle_name(),
        if job.computing.chosen { " (--precision auto)" } else { "" },
        rayon::current_num_threads(),
        job.computing.isa()
    ));
    messages.say(&format!("prompt    {n} tokens, {visual} of them visual"));
    if let Some((budget, candidates)) = o.budget.as_ref().filter(|(_, candidates)| *candidates > 0) {
        let (kept, all) = (budget.iter().sum::<usize>(), candidates * budget.len());
        let share = 100.0 * kept as f64 / all.max(1) as f64;
        let (least, most) = (budget.iter().min().unwrap_or(&0), budget.iter().max().unwrap_or(&0));
        messages.say(&format!(
            "retained  {kept} of {all} visual KV entries ({share:.1} %), {least} to {most} of {candidates} in a layer, by {}",
            job.policy
        ));
    }
    messages.say(&format!(
        "time      vision {}, prefill {} ({:.0} tokens/s), compress {}, decode {}{}",
        seconds(o.vision),
        seconds(o.prefill),
        n as f64 / o.prefill.as_secs_f64(),
        seconds(o.compress),
        seconds(o.decode),
        rate(o).map_or(String::new(), |r| format!(" ({} tokens, {r:.0} tokens/s)", o.tokens.len()))
    ));
    let positions = job.asked.model.config.text().max_positions;
    if n + o.tokens.len() > positions + 1 {
        messages.say(&format!("note: the answer is longer than max_position_embeddings = {positions}"));
    }
    let (before, after) = o.kv_bytes;
    messages.say(&format!("KV cache  {} before eviction, {} after", bytes(before as u64), bytes(after as u64)));
}
