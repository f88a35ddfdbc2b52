//! `inspect`: the sizes of a checkpoint, the memory that it needs, and every problem in it.

use super::ask::Ask;
use super::inspect_bundle;
use super::inspect_input::{self, Reading};
use super::out::{Stdout, bytes};
use super::{Common, Verdict};
use aircache::family::Family;
use aircache::files::Files;
use aircache::model::Survey;
use aircache::weights::Checkpoint;
use aircache::{Error, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The number of unused tensors that are named; --json names all.
const NAMED: usize = 6;

/// Reports the family and the sizes of a checkpoint, the memory that it needs, and every problem in it; or what a bundle holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache inspect --model llava-onevision-qwen2-7b-ov-hf
  aircache inspect candidate.safetensors                           a bundle: its metadata, stages, types, shapes

inspect reads all weights, to find NaN and infinities. Exit code 0: `run` can use the checkpoint. Exit code 2: it cannot;
all problems are listed, not only the first.")]
pub struct Args {
    /// A Hugging Face checkpoint folder [default: the embedded demo model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The same as --model; or a bundle
    #[arg(value_name = "DIR|BUNDLE", conflicts_with = "model")]
    folder: Option<PathBuf>,
}

/// Everything found.
struct Report {
    name: String,
    survey: Survey,
    reading: Reading,
    /// Names of tensors that no part of the model reads.
    unused: Vec<String>,
    /// Tensors with numbers that are not finite, and the count of these numbers; unused tensors too.
    not_finite: Vec<(String, usize)>,
    problems: Vec<Error>,
    notes: Vec<String>,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let is_file = |path: &&std::path::Path| path.extension().is_some_and(|e| e == "safetensors") && path.is_file();
    if let Some(bundle) = args.folder.as_deref().filter(is_file) {
        return inspect_bundle::explain(bundle, common.json).map(|()| Verdict::Pass);
    }
    let (files, name) = Ask::files(args.model.as_ref().or(args.folder.as_ref()));
    let report = look(&files, name, common);
    let mut out = Stdout::new();
    match common.json {
        true => out.json(&report.json())?,
        false => report.print(&mut out)?,
    }
    match report.problems.first() {
        None => Ok(Verdict::Pass),
        Some(first) if report.problems.len() == 1 => Err(first.clone()),
        Some(first) => {
            let got = format!("{} problems; the first: {first}", report.problems.len());
            Err(Error::new(&report.name, "a checkpoint that can be used", got))
        }
    }
}

fn look(files: &Files, name: String, common: &Common) -> Report {
    let survey = Survey::of(files);
    let reading = inspect_input::look(files, survey.config.as_ref());
    let mut problems = survey.problems.clone();
    problems.extend(reading.problems.iter().filter(|e| !survey.problems.contains(e)).cloned());
    let mut notes = Vec::new();
    let (mut unused, mut not_finite) = (Vec::new(), Vec::new());
    if let Some(checkpoint) = &survey.checkpoint {
        let busy = common.messages().busy(&format!("reading {}", bytes(checkpoint.bytes())));
        not_finite = checkpoint.scan();
        drop(busy);
        if survey.config.is_some() {
            unused = checkpoint.unused().map(String::from).collect();
        }
        let idle: BTreeSet<&String> = unused.iter().collect();
        for (tensor, count) in &not_finite {
            let e = Error::new(
                format!("{}: {tensor}", checkpoint.label()),
                "finite numbers",
                format!("{count} NaN or infinite"),
            );
            if idle.contains(tensor) { notes.push(format!("{e} (the tensor is not used)")) } else { problems.push(e) }
        }
    }
    if let Some(g) = &survey.generation {
        if g.eos.is_empty() {
            notes.push("no eos_token_id: an answer ends at --max-new-tokens only".into());
        }
        if g.do_sample {
            let (t, k, p) = (g.temperature, g.top_k, g.top_p);
            notes.push(format!(
                "the checkpoint advises sampling (--temperature {t} --top-k {k} --top-p {p}); `run` is greedy without these options"
            ));
        }
        notes.extend(g.faults.iter().map(|(_, e)| format!("sampling needs other values: {e}")));
        notes.extend(g.not_followed.iter().map(|setting| format!("ignored setting: {setting}")));
    }
    if !unused.is_empty() {
        let named = unused.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if unused.len() > NAMED { format!(" and {} more", unused.len() - NAMED) } else { String::new() };
        notes.push(format!("{} tensors are not used: {named}{more}", unused.len()));
    }
    notes.extend(reading.notes.iter().cloned());
    Report { name, survey, reading, unused, not_finite, problems, notes }
}

/// dtype: tensors, numbers, bytes.
fn dtypes(checkpoint: &Checkpoint) -> BTreeMap<String, (usize, usize, usize)> {
    let mut all = BTreeMap::new();
    for t in checkpoint.tensors() {
        let entry: &mut (usize, usize, usize) = all.entry(t.dtype.to_string()).or_default();
        *entry = (entry.0 + 1, entry.1 + t.numbers(), entry.2 + t.data.len());
    }
    all
}

/// Bytes of the KV cache for a token in float32.
fn kv_bytes(config: &dyn Family) -> u64 {
    let c = config.text();
    2 * 4 * (c.layers * c.kv_heads * c.head_dim) as u64
}

impl Report {
    fn print(&self, out: &mut Stdout) -> Result<()> {
        out.line(&format!("checkpoint   {}", self.name))?;
        if let Some(config) = &self.survey.config {
            let t = config.text();
            out.line(&format!("family       {}", config.name()))?;
            out.line(&format!(
                "decoder      {} layers, hidden {}, {} query and {} KV heads of {}, MLP {}, vocabulary {}, {} positions, head {}",
                t.layers, t.hidden, t.heads, t.kv_heads, t.head_dim, t.intermediate, t.vocab, t.max_positions,
                if t.tied { "tied" } else { "of its own" }
            ))?;
            if let Some(sections) = &t.mrope {
                let sections = sections.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
                let so = if t.interleaved { "interleaved sections" } else { "sections" };
                out.line(&format!(
                    "positions    M-RoPE: the {} frequencies of a head in {so} of {sections}, for time, height and width in turn",
                    t.head_dim / 2
                ))?;
            }
            if let Some(long) = &t.long_rope {
                out.line(&format!(
                    "positions    long rope: long factors after {} rows; cosines and sines times {:.4}",
                    long.trained, long.scale
                ))?;
            }
            if t.qk_norm {
                out.line(&format!("attention    every head of {} numbers of queries and keys is normed", t.head_dim))?;
            }
            if let Some(factor) = t.ntk {
                out.line(&format!(
                    "positions    dynamic NTK scaling of factor {factor}: after {} rows the angles grow more slowly; a prompt may be longer",
                    t.max_positions
                ))?;
            }
            out.line(&format!("vision       {}", config.vision_line()))?;
        }
        if let Some(checkpoint) = &self.survey.checkpoint {
            let numbers: usize = checkpoint.tensors().map(|t| t.numbers()).sum();
            out.line(&format!("parameters   {numbers} in {} tensors", checkpoint.tensors().count()))?;
            for (dtype, (tensors, numbers, size)) in dtypes(checkpoint) {
                out.line(&format!(
                    "             {dtype}: {numbers} numbers in {tensors} tensors, {}",
                    bytes(size as u64)
                ))?;
            }
            if let Some(config) = &self.survey.config {
                let (kv, n) = (kv_bytes(&**config), config.text().max_positions as u64);
                out.line(&format!(
                    "memory       weights {} (mapped, shared, not copied), KV cache {} a token in float32, {} for the longest prompt",
                    bytes(checkpoint.bytes()),
                    bytes(kv),
                    bytes(kv.saturating_mul(n))
                ))?;
            }
        }
        if let Some(images) = &self.reading.images {
            out.line(&format!("images       {images}"))?;
        }
        if !self.reading.costs.is_empty() {
            let costs = self.reading.costs.iter().map(|((h, w), n)| format!("{w} × {h}: {n}"));
            out.line(&format!("an image     {} tokens", costs.collect::<Vec<_>>().join(", ")))?;
        }
        if let Some(video) = &self.reading.video {
            out.line(&format!("video        {video}"))?;
            let costs = self.reading.frames.iter().map(|((h, w), [one, two])| format!("{w} × {h}: {one}, {two}"));
            out.line(&format!("1, 2 frames  {} tokens", costs.collect::<Vec<_>>().join("; ")))?;
        }
        if let Some(template) = &self.reading.template {
            out.line(&format!("template     {template}"))?;
        }
        if let Some(g) = &self.survey.generation {
            let named = |id: &u32| match self.reading.token(*id) {
                Some(token) => format!("{id} {token}"),
                None => id.to_string(),
            };
            let ends = g.eos.iter().map(named).collect::<Vec<_>>().join(", ");
            out.line(&format!("ends at      {}", if ends.is_empty() { "no token" } else { &ends }))?;
        }
        for note in &self.notes {
            out.line(&format!("note         {note}"))?;
        }
        for problem in &self.problems {
            out.line(&format!("PROBLEM      {problem}"))?;
        }
        out.line(if self.problems.is_empty() { "usable" } else { "not usable" })
    }

    fn json(&self) -> Value {
        let config = self.survey.config.as_deref();
        let checkpoint = self.survey.checkpoint.as_ref();
        let text = config.map(|c| c.text());
        json!({
            "checkpoint": self.name,
            "usable": self.problems.is_empty(),
            "problems": self.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "notes": self.notes,
            "family": config.map(|c| c.name()),
            "decoder": text.map(|t| json!({
                "layers": t.layers, "hidden": t.hidden, "heads": t.heads, "kv_heads": t.kv_heads, "head_dim": t.head_dim,
                "intermediate": t.intermediate, "vocab": t.vocab, "max_positions": t.max_positions, "tied": t.tied,
                "rope_theta": t.rope_theta, "mrope_section": t.mrope, "mrope_interleaved": t.interleaved, "dynamic_ntk": t.ntk,
                "qk_norm": t.qk_norm, "long_rope_after": t.long_rope.as_ref().map(|long| long.trained),
            })),
            "vision": config.map(|c| c.vision_json()),
            "parameters": checkpoint.map(|c| c.tensors().map(|t| t.numbers()).sum::<usize>()),
            "dtypes": checkpoint.map(|c| dtypes(c).into_iter().map(|(dtype, (tensors, numbers, bytes))| {
                (dtype, json!({"tensors": tensors, "numbers": numbers, "bytes": bytes}))
            }).collect::<BTreeMap<_, _>>()),
            "weight_bytes": checkpoint.map(Checkpoint::bytes),
            "kv_bytes_per_token": config.map(kv_bytes),
            "images": self.reading.images,
            "image_tokens": self.reading.costs.iter().map(|((h, w), n)| {
                json!({"height": h, "width": w, "tokens": n})
            }).collect::<Vec<_>>(),
            "video": self.reading.video,
            "video_tokens": self.reading.frames.iter().map(|((h, w), [one, two])| {
                json!({"height": h, "width": w, "one_frame": one, "two_frames": two})
            }).collect::<Vec<_>>(),
            "template": self.reading.template,
            "eos": self.survey.generation.as_ref().map(|g| &g.eos),
            "not_followed": self.survey.generation.as_ref().map(|g| &g.not_followed),
            "unused_tensors": self.unused,
            "not_finite": self.not_finite.iter().map(|(name, count)| json!({"tensor": name, "count": count})).collect::<Vec<_>>(),
        })
    }
}
