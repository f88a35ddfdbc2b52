//! `eval`: accuracy against retention, resumable and in shards.

use super::answer::tokens;
use super::ask::Ask;
use super::common::PrecisionName;
use super::out::{Messages, Stdout};
use super::places::Read;
use super::seeing::Seeing;
use super::{Common, Verdict, memory, output};
use aircache::eval::{Cells, Examiner, Header, Item, Journal, Questions, Results};
use aircache::pass::Precision;
use aircache::processor::Processor;
use aircache::{Error, Result};
use rayon::prelude::*;
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

--data has JSON lines: {\"image\": path or list of paths, relative to the file, \"question\": …, \"answer\": string or
list of accepted strings, \"system\": optional}; \"video\" instead of \"image\": frames, or a folder of frames. The command also
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
    /// The largest number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true, value_parser = tokens::<1>)]
    max_new_tokens: usize,
    /// Answers only every n-th question, from the i-th on: 1/n … n/n
    #[arg(long, value_name = "i/n", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Merges the results of shards (the files of their --out); questions without an answer are answered now
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    merge: Vec<PathBuf>,
    /// Writes the results as JSON; without this option nothing is written
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
    let questions = Questions::read(&args.data)?;
    if let Some(out) = &args.out {
        let (plot, journal) = (out.with_extension("svg"), journal_of(out));
        // The journal of an earlier run with the same name is continued, and may be among the merged ones.
        let shards: Vec<_> = args.merge.iter().map(|s| journal_of(s)).filter(|s| *s != journal).collect();
        let read = Read::new().model(args.model.as_ref()).files([&args.data]).files(&shards).questions(&questions);
        read.apart(&[("--out", out), ("--out", &plot), ("--out", &journal)])?;
    }
    let cells = Cells::parse(&args.policies, &args.retain)?;
    let (files, name) = Ask::files(args.model.as_ref());
    let model = {
        let _busy = messages.busy(&format!("loading {name}"));
        memory::load(&files)?
    };
    memory::check(&name, model.forecast(None))?;
    let processor = args.seeing.apply(Processor::load(&files, &model.config)?)?;
    let precision = Precision::from(args.precision);
    let header = Header {
        format: Header::FORMAT.into(),
        model: model.checkpoint.digest(),
        data: questions.sha256.clone(),
        questions: questions.items.len(),
        precision: precision.bundle_name().into(),
        preprocess: args.seeing.words(&processor),
        max_new_tokens: args.max_new_tokens,
        how: String::new(),
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
    let examiner =
        Examiner { model, processor: &processor, cells: &cells, precision, max_new_tokens: args.max_new_tokens };
    let shard = args.shard.unwrap_or(Shard { i: 1, n: 1 });
    answer(&examiner, &questions, shard, &mut journal, messages)?;

    let results = Results::of(&journal, &questions);
    if let Some(out) = &args.out {
        let plot = (out.with_extension("svg"), results.plot().svg().into_bytes().into());
        output::write_together([plot, (out.clone(), results.json().into_bytes().into())])?;
        messages.say(&format!("wrote {}, {}", out.display(), out.with_extension("svg").display()));
    }
    Stdout::new().text(&if common.json { results.json() } else { results.table() })?;
    Ok(Verdict::Pass)
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
    messages: Messages,
) -> Result<()> {
    let open: Vec<usize> =
        (0..questions.items.len()).filter(|q| q % shard.n == shard.i - 1 && !journal.has(*q)).collect();
    let answered = journal.answers().len();
    if answered > 0 && !open.is_empty() {
        messages.say(&format!("{answered} questions are answered already, {} to go", open.len()));
    }
    let bar = messages.bar("questions", open.len());
    let side_by_side = if examiner.model.checkpoint.bytes() <= SMALL { 2 * rayon::current_num_threads() } else { 1 };
    for some in open.chunks(side_by_side) {
        for some in Item::side_by_side(some, |&q| &questions.items[q])? {
            let answer = |&q: &usize| {
                let item = &questions.items[q];
                let prompt = item.prepare(examiner.processor)?;
                memory::check_prompt(examiner.model, &prompt)?;
                examiner.answers(&prompt, &item.question)
            };
            let answers: Vec<Result<Vec<String>>> = some.par_iter().map(answer).collect();
            for (&q, answers) in some.iter().zip(answers) {
                let at = |e: Error| e.within(format!("{}: question {}", questions.label, q + 1));
                journal.add(q, answers.map_err(at)?)?;
                bar.step();
            }
        }
    }
    Ok(())
}
