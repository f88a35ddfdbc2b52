//! `explain`: a page or a picture of the kept patches.

use super::answer::tokens;
use super::ask::Ask;
use super::heads;
use super::out::{Stdout, bytes};
use super::{Common, Verdict, output};
use aircache::eval::{Cells, Examiner};
use aircache::explain::{Explained, Lit, check_shown};
use aircache::pass::Precision;
use aircache::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Draws the patches that a policy keeps over the image, as a page or as a picture
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache explain --out page.html
  aircache explain --model DIR --image page.png --prompt 'What is the total?' --retain 0.1 --out page.html
  aircache explain --sample 07 --policies aircache,snapkv,h2o --retain 0.05 --out page.html
  aircache explain --sample 07 --format png --layer 3 --out kept.png

The page is one file that loads nothing: images, decisions and answers are inside. A slider selects the layer.
A picture shows the first policy and one image (--which). It shows all layers together, or one layer (--layer).")]
pub struct Args {
    #[command(flatten)]
    ask: Ask,
    /// Policies of the page, as in `eval`; the first is shown first
    #[arg(
        long,
        visible_alias = "policy",
        value_name = "LIST",
        default_value = "aircache,snapkv,h2o,vl-cache,random",
        help_heading = "Eviction"
    )]
    policies: String,
    /// Share of the visual KV entries that is kept, over all layers: 0 < R <= 1
    #[arg(long, value_name = "R", default_value = "0.1", allow_hyphen_values = true, help_heading = "Eviction")]
    retain: String,
    /// The form of the output
    #[arg(long, value_enum, value_name = "F", default_value_t = Format::Html)]
    format: Format,
    /// The layer that a picture shows, from 0 [default: all together]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// The image, or the frame, that a picture shows, from 0 [default: 0]
    #[arg(long, value_name = "N")]
    which: Option<usize>,
    /// The largest number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true, value_parser = tokens::<0>)]
    max_new_tokens: usize,
    /// The output file; it is replaced at the end
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The page
    Html,
    /// The overlay alone, the image inside
    Svg,
    /// The overlay alone, in the image's own size
    Png,
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let messages = common.messages();
    let cells = Cells::parse(&heads::read("--policies", &args.policies)?, &args.retain)?;
    if args.retain.contains(',') {
        return Err(Error::new("--retain", "one retention", format!("{:?}", args.retain)));
    }
    let picked = [("--layer", args.layer), ("--which", args.which)].into_iter().find(|(_, n)| n.is_some());
    if let (Format::Html, Some((option, _))) = (args.format, picked) {
        let e = Error::new(option, "--format svg or png with it", "a page, which shows all layers and images");
        return Err(e);
    }
    args.ask.read().apart(&[("--out", &args.out)])?;
    let asked = args.ask.load(messages)?;
    if asked.images.is_empty() {
        return Err(
            Error::new("explain", "a prompt with an image", "text only").remedy("give --image FILE, or --video")
        );
    }
    let (which, lit) = (args.which.unwrap_or(0), args.layer.map_or(Lit::All, Lit::Layer));
    check_shown(which, asked.images.len(), lit, asked.model.config.text().layers)?;
    let busy = messages.busy(&format!("explaining {} tokens", asked.prompt.ids.len()));
    let examiner = Examiner {
        model: &asked.model,
        processor: &asked.processor,
        cells: &cells,
        precision: Precision::Fast,
        max_new_tokens: args.max_new_tokens,
    };
    let explained = Explained::of(&examiner, &asked.name, asked.images, (&asked.question, asked.prompt))?;
    let written = match args.format {
        Format::Html => explained.page()?.into_bytes(),
        Format::Svg => explained.svg(which, 0, lit)?.into_bytes(),
        Format::Png => explained.png(which, 0, lit)?,
    };
    drop(busy);
    output::write(&args.out, &written)?;
    messages.notes();
    if common.json {
        let answers = explained.told.iter().map(
            |t| json!({"policy": t.cell.name, "retain": t.cell.retain, "text": t.answer, "kept": t.plan.entries()}),
        );
        Stdout::new().json(&json!({
            "out": args.out.display().to_string(),
            "bytes": written.len(),
            "full": explained.full,
            "policies": answers.collect::<Vec<_>>(),
        }))?;
    } else {
        messages.say(&format!(
            "{}: {}; the full cache answers: {}",
            args.out.display(),
            bytes(written.len() as u64),
            explained.full
        ));
        for told in &explained.told {
            messages.say(&format!("{} at {} answers: {}", told.cell.name, told.cell.retain, told.answer));
        }
    }
    Ok(Verdict::Pass)
}
