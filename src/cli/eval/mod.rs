//! `eval`: accuracy against retention, resumable and in shards.
//!
//! ```text
//! recipe    how a benchmark asks its questions
//! progress  how long it will take, and the score so far
//! compare   paired differences between cells
//! ```

mod compare;
mod progress;
mod recipe;

use super::answer::tokens;
use super::ask::Ask;
use super::common::PrecisionName;
use super::heads;
use super::out::{Messages, Stdout};
use super::places::Read;
use super::seeing::Seeing;
use super::{Common, Verdict, memory, output};
use aircache::eval::{Cells, Examiner, Header, Item, Journal, Metric, Questions, Results};
use aircache::processor::Processor;
use aircache::{Error, Result};
use progress::Progress;
use rayon::prelude::*;
use recipe::Recipe;
use std::path::{Path, PathBuf};

/// A model with at most this many bytes of weights answers several questions side by side, each on one thread.
const SMALL: u64 = 256 << 20;

/// Measures accuracy against retention: every policy at every retention on a file of questions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache eval --data questions.jsonl --policies full,aircache,snapkv --retain 0.5,0.1 --out results.json
  aircache eval --data questions.jsonl --shard 1/4 --out shard1.json      (one of four jobs)
  aircache eval --data questions.jsonl --merge shard1.json,shard2.json,shard3.json,shard4.json --out results.json

  aircache eval --data docvqa.jsonl --model DIR --recipe lmms-eval/docvqa-val --out results.json
  aircache eval --data docvqa.jsonl --compare results.json --against aircache    (paired differences)

--data has JSON lines: {\"image\": path or list of paths, relative to the file, \"question\": …, \"answer\": string or
list of accepted strings, \"system\": optional}; \"video\" instead of \"image\": frames, or a folder of frames; \"messages\": a
conversation instead of a question, as `run --messages` takes it. Optional: \"kind\" for a breakdown, \"options\" of a multiple
choice, \"group\" for metrics of groups. Metrics: exact, anls, anls-lmms, relaxed, vqa, contains, mme, choice, choice+ as
lmms-eval has them; relaxed, vqa, contains, mme and choice also as NAME@vlmevalkit. The command also
writes results.svg (accuracy against retention) and results.journal.jsonl (every answer at once) beside results.json, and
continues where a killed run stopped. If a policy has only parts, separate the policies by semicolons:
'aircache;window=last-text:32,budget=uniform'.")]
pub struct Args {
    /// The questions: JSON lines
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Policies, separated by commas; full is evaluated once, at retention 1
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "full,aircache,snapkv,h2o,pyramidkv,prefixkv,vl-cache,streaming"
    )]
    policies: String,
    /// Retentions, separated by commas
    #[arg(long, value_name = "LIST", default_value = "0.5,0.2,0.1,0.05,0.02,0.01")]
    retain: String,
    /// A Hugging Face checkpoint folder [default: the embedded demo model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// How numbers are computed
    #[arg(long, value_name = "NAME", default_value = "fast")]
    precision: PrecisionName,
    #[command(flatten)]
    seeing: Seeing,
    /// The largest number of tokens of an answer [default: the recipe's, or 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens::<1>)]
    max_new_tokens: Option<usize>,
    /// How answers are scored, separated by commas [default: the recipe's, or exact]
    #[arg(long, value_name = "NAMES")]
    metric: Option<String>,
    /// How questions are asked: a bundled recipe such as lmms-eval/docvqa-val, or a TOML file
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Answers only every n-th question, from the i-th on: 1/n … n/n
    #[arg(long, value_name = "i/n", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Merges the results of shards (the files of their --out); questions without an answer are answered now
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    merge: Vec<PathBuf>,
    /// Compares cells of one or two results (the files of their --out) on the same questions; nothing is answered
    #[arg(long, value_name = "FILE", num_args = 1..=2, conflicts_with_all = ["merge", "shard", "out"])]
    compare: Vec<PathBuf>,
    /// The policy that the others are compared with [default: the first]
    #[arg(long, value_name = "NAME", requires = "compare")]
    against: Option<String>,
    /// The form of what is printed
    #[arg(long, value_enum, value_name = "text|csv|latex", default_value = "text")]
    format: Format,
    /// Writes the results as JSON; without this option nothing is written
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The form of the results on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables of policies and retentions
    Text,
    /// One line for each policy, retention, metric and kind
    Csv,
    /// Tables for a paper
    Latex,
}

/// Every n-th question from the i-th on.
#[derive(Debug, Clone, Copy)]
struct Shard {
    i: usize,
    n: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some(Shard { i: i.parse().ok()?, n: n.parse().ok()? }));
        parts.filter(|s| 1 <= s.i && s.i <= s.n).ok_or_else(|| "expected i/n with 1 <= i <= n, such as 1/4".into())
    }
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let messages = common.messages();
    let mut questions = Questions::read(&args.data)?;
    let named = args.metric.as_deref().map(|names| metrics(names, "--metric", &questions)).transpose()?;
    if !args.compare.is_empty() {
        let metrics = named.unwrap_or(vec![Metric::EXACT]);
        let read =
            |file: &PathBuf| Ok((file.display().to_string(), Journal::of_file(&journal_of(file), &questions.sha256)?));
        let results = args.compare.iter().map(read).collect::<Result<Vec<_>>>()?;
        return compare::run(&results, args.against.as_deref(), &questions, &metrics, common);
    }
    if let Some(out) = &args.out {
        let (plot, journal) = (out.with_extension("svg"), journal_of(out));
        // The journal of an earlier run with the same name is continued, and may be among the merged ones.
        let shards: Vec<_> = args.merge.iter().map(|s| journal_of(s)).filter(|s| *s != journal).collect();
        let read = Read::new().model(args.model.as_ref()).files([&args.data]).files(&shards).questions(&questions);
        read.apart(&[("--out", out), ("--out", &plot), ("--out", &journal)])?;
    }
    let cells = Cells::parse(&heads::read("--policies", &args.policies)?, &args.retain)?;
    let (files, name) = Ask::files(args.model.as_ref());
    let model = {
        let _busy = messages.busy(&format!("loading {name}"));
        memory::load(&files)?
    };
    memory::check(&name, model.forecast(None))?;
    let recipe = args.recipe.as_deref().map(|name| Recipe::load(name, model.config.name())).transpose()?;
    let mut seeing = args.seeing;
    if let Some(recipe) = &recipe {
        recipe.ask(&mut questions)?;
        seeing = seeing.or(recipe.limits());
        messages.say(&recipe.words());
    }
    let metrics = match (named, &recipe) {
        (Some(metrics), _) => metrics,
        (None, Some(recipe)) => metrics(&recipe.metrics, &recipe.name, &questions)?,
        (None, None) => vec![Metric::EXACT],
    };
    let max_new_tokens = args.max_new_tokens.or(recipe.as_ref().and_then(|r| r.asked.max_new_tokens)).unwrap_or(64);
    let processor = seeing.apply(Processor::load(&files, &model.config)?)?;
    let precision = args.precision.named()?;
    let header = Header {
        format: Header::FORMAT.into(),
        model: model.checkpoint.digest(),
        data: questions.sha256.clone(),
        questions: questions.items.len(),
        precision: precision.bundle_name().into(),
        preprocess: seeing.words(&processor),
        max_new_tokens,
        how: String::new(),
        recipe: recipe.as_ref().map(Recipe::settings),
        cells: Header::cells(&cells),
    };
    let mut journal = match &args.out {
        Some(out) => Journal::open(&journal_of(out), header)?,
        None => Journal::in_memory(header),
    };
    for shard in &args.merge {
        journal.absorb(&journal_of(shard))?;
    }
    let model = &*memory::rounded(&model, precision)?; // R10.4
    let examiner = Examiner { model, processor: &processor, cells: &cells, precision, max_new_tokens };
    let shard = args.shard.unwrap_or(Shard { i: 1, n: 1 });
    answer(&examiner, &questions, shard, &mut journal, (messages, metrics[0]))?;

    let results = Results::of(&journal, &questions, &metrics);
    if let Some(out) = &args.out {
        let plot = (out.with_extension("svg"), results.plot().svg().into_bytes().into());
        output::write_together([plot, (out.clone(), results.json().into_bytes().into())])?;
        messages.say(&format!("wrote {}, {}", out.display(), out.with_extension("svg").display()));
    }
    Stdout::new().text(&match args.format {
        _ if common.json => results.json(),
        Format::Text => results.table(),
        Format::Csv => results.csv(),
        Format::Latex => results.latex(),
    })?;
    Ok(Verdict::Pass)
}

/// The metrics of a list. Every question must have what they need; `at` names the list.
fn metrics(names: &str, at: &str, questions: &Questions) -> Result<Vec<Metric>> {
    let metrics = Metric::list(names).map_err(|e| e.within(at))?;
    for (q, item) in questions.items.iter().enumerate() {
        if let Some((metric, need)) = metrics.iter().find_map(|m| Some((m.name(), m.lacks(item)?))) {
            let e = Error::new(format!("{}: question {}", questions.label, q + 1), need, "none");
            return Err(e.remedy(format!("metric {metric} reads it")));
        }
    }
    Ok(metrics)
}

/// `results.json` → `results.journal.jsonl`.
fn journal_of(out: &Path) -> PathBuf {
    out.with_extension("journal.jsonl")
}

/// Answers the questions of the shard that the journal lacks, a few at a time, in the order of the file.
fn answer(
    examiner: &Examiner<'_>,
    questions: &Questions,
    shard: Shard,
    journal: &mut Journal,
    (messages, metric): (Messages, Metric),
) -> Result<()> {
    let open: Vec<usize> =
        (0..questions.items.len()).filter(|q| q % shard.n == shard.i - 1 && !journal.has(*q)).collect();
    let answered = journal.answers().len();
    if answered > 0 && !open.is_empty() {
        messages.say(&format!("{answered} questions are answered already, {} to go", open.len()));
    }
    let names = examiner.cells.all.iter().map(|cell| format!("{}@{}", cell.name, cell.retain)).collect();
    let mut progress = Progress::new(messages, open.len(), names, metric);
    let side_by_side = if examiner.model.checkpoint.bytes() <= SMALL { 2 * rayon::current_num_threads() } else { 1 };
    for some in open.chunks(side_by_side) {
        for some in Item::side_by_side(some, |&q| &questions.items[q], examiner.processor)? {
            let answer = |&q: &usize| {
                let item = &questions.items[q];
                let prompt = item.prepare(examiner.processor)?;
                memory::check_prompt(examiner.model, &prompt)?;
                Ok((examiner.answers(&prompt, &item.question)?, examiner.model.forecast(Some(&prompt))))
            };
            let answers: Vec<Result<(Vec<String>, u64)>> = some.par_iter().map(answer).collect();
            let mut need = 0;
            for (&q, answers) in some.iter().zip(answers) {
                let at = |e: Error| e.within(format!("{}: question {}", questions.label, q + 1));
                let (answers, bytes) = answers.map_err(at)?;
                need = need.max(bytes);
                progress.step(&questions.items[q], &answers);
                journal.add(q, answers)?;
            }
            progress.forecast(need);
        }
    }
    Ok(())
}
