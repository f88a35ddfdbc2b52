//! `check`: the verdict on a candidate, with a golden or by replay.

use super::ask::Ask;
use super::out::Stdout;
use super::{Common, Verdict, memory, output};
use aircache::golden::{self, Bundle, BundleWriter, replay_told};
use aircache::input::Prepared;
use aircache::model::Model;
use aircache::report::verdict_page;
use aircache::{Error, Result};
use std::path::PathBuf;

/// Judges the numbers of a GPU backend, stage by stage in causal order, by the errors of honest computations in its type
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache check golden.safetensors candidate.safetensors          with a golden of `record`; no model is needed
  aircache check --model DIR candidate.safetensors                 replay: every stage from the candidate's own inputs
  aircache check --model demo candidate.safetensors                the same with the embedded demo model
  aircache check --model DIR --image page.png --prompt 'What is the total?' candidate.safetensors
                                                                   ids and pixels are judged as well
  aircache check --model demo --html verdict.html candidate.safetensors
                                                                   also draws the errors over depth, and the worst stage
  aircache check --kernel attention arrays.safetensors             one kernel by itself, without a model

Arrays of a kernel (`out` is what it computed; leading axes are free; numbers such as scale are metadata, as strings):
  attention   q [H, n, d], k and v [G, m, d], out like q; mask [n, m] or causal = true|false; scale
  norm        x [n, d], weight, eps; with a bias it is a layer norm
  linear      x [n, k], weight [outputs, k], bias
  rotary      x [n, d], positions, theta
  softmax     x [n, m]
  topk        x [n, m], out [n, k]: the places of the largest

A candidate is a safetensors file with the metadata `format` = aircache-bundle and `precision` (f32, tf32, bf16, f16), and any
of the stages that `record` writes. Exit code 1 means that the error of some stage is larger than that of an honest
computation in this type.")]
pub struct Args {
    /// The golden and the candidate; with --model, only the candidate
    #[arg(required = true, num_args = 1..=2, value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    #[command(flatten)]
    ask: Ask,
    /// Judges one kernel from a file of its arrays: attention, norm, linear, rotary, softmax, topk
    #[arg(long, value_name = "NAME", value_parser = golden::KERNELS, conflicts_with_all = ["model", "image", "video", "prompt", "system", "sample"])]
    kernel: Option<String>,
    /// Anything that is not judged, or is no stage, is a failure as well
    #[arg(long)]
    strict: bool,
    /// Also draws the verdict, as a page that loads nothing; the file is replaced at the end
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let messages = common.messages();
    if let Some(page) = &args.html {
        args.ask.read().files(&args.bundles).apart(&[("--html", page)])?;
    }
    let bar = messages.bar("judging", 1);
    let tell = |p: &golden::Progress| bar.set(p.done, p.all, &p.stage);
    let asked = !args.ask.image.is_empty()
        || !args.ask.video.is_empty()
        || args.ask.prompt.is_some()
        || args.ask.messages.is_some()
        || args.ask.sample.is_some();
    let verdict = match (&args.bundles[..], &args.ask.model) {
        ([arrays], None) if args.kernel.is_some() => {
            let arrays = Bundle::open(arrays)?;
            memory::check_stages(&arrays, 8)?;
            golden::kernel(args.kernel.as_deref().unwrap_or_default(), &arrays)?
        }
        (_, _) if args.kernel.is_some() => {
            return Err(Error::new("check --kernel", "one file of arrays", format!("{} files", args.bundles.len())));
        }
        ([golden, candidate], None) => {
            let (golden, candidate) = (Bundle::open(golden)?, Bundle::open(candidate)?);
            if asked {
                return Err(Error::new("--image, --prompt", "--model with them", "a golden")
                    .remedy("leave them out: a golden has its own prompt"));
            }
            // Each stage is widened to f64, and errors of the same size stand beside it.
            memory::check_stages(&golden, 3)?;
            memory::check_stages(&candidate, 6)?;
            golden::check_told(&golden, &candidate, &tell)?
        }
        ([candidate], Some(dir)) => {
            let candidate = Bundle::open(candidate)?;
            if asked {
                let asked = args.ask.load_with_decoders(messages)?;
                replayed(&asked.model, Some(&asked.prompt), &candidate, &tell)?
            } else {
                let (files, _) = Ask::files(Some(dir));
                replayed(&memory::load(&files)?, None, &candidate, &tell)?
            }
        }
        ([_], None) => {
            let e = Error::new("check", "GOLDEN CANDIDATE, or --model DIR CANDIDATE", "one bundle");
            return Err(e.remedy("--model demo is the embedded model"));
        }
        _ => return Err(Error::new("check", "--model DIR CANDIDATE, or GOLDEN CANDIDATE", "--model and two bundles")),
    };
    let verdict = golden::Verdict { strict: args.strict, ..verdict };
    drop(bar);
    messages.notes();
    if let Some(page) = &args.html {
        let candidate = args.bundles.last().map(|path| path.display().to_string()).unwrap_or_default();
        output::write(page, verdict_page(&verdict, &candidate).as_bytes())?;
        messages.say(&format!("wrote {}", page.display()));
    }
    let mut out = Stdout::new();
    if common.json {
        out.json(&verdict.json())?;
    } else {
        verdict.lines().iter().try_for_each(|line| out.line(line))?;
    }
    Ok(if verdict.passes() { Verdict::Pass } else { Verdict::Fail })
}

/// Computes the verdict by replay, after a check that there is enough memory.
fn replayed(
    model: &Model,
    prompt: Option<&Prepared>,
    candidate: &Bundle,
    tell: &(dyn Fn(&golden::Progress) + Sync),
) -> Result<golden::Verdict> {
    let weights = &model.checkpoint;
    memory::check(weights.label(), weights.rounded_bytes(golden::precision(candidate)?.grid()))?;
    memory::check_stages(candidate, 6)?;
    if let Some((stage, bytes)) = golden::replayed_pixels(model, candidate).filter(|_| prompt.is_none()) {
        memory::check(&format!("{}: {stage}", candidate.label()), bytes)?;
    }
    let truth = BundleWriter::create_by(output::temporary, &std::env::temp_dir().join("aircache-replay.safetensors"))
        .map_err(|e| e.remedy("the replay writes a temporary file there: set TMPDIR to another folder"))?;
    replay_told(model, prompt, candidate, truth, tell)
}
