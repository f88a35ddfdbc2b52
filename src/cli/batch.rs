//! `run --batch`: a file of questions, answered several at a time; continues where a killed run stopped.

use super::answer::Answer;
use super::ask::Ask;
use super::common::PrecisionName;
use super::compute::Computing;
use super::eviction::Eviction;
use super::out::{Bar, Stdout, seconds};
use super::{Common, Verdict, memory, output};
use aircache::eval::{Batch, Header, Journal, Questions};
use aircache::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The options of `run` for a file of questions.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "A file of questions")]
pub struct File {
    /// Answers a file of questions in the form of `eval --data` ("answer" may be missing), with one JSON line for each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "video", "prompt", "system", "sample", "messages"])]
    pub batch: Option<PathBuf>,
    /// The number of questions that are decoded side by side; the answers do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
}

/// Answers `data`; with `out`, a journal beside it gets every answer at once.
pub fn run(
    (data, size): (&Path, usize),
    (ask, eviction, answer): (&Ask, &Eviction, &Answer),
    out: Option<&Path>,
    common: &Common,
) -> Result<Verdict> {
    let messages = common.messages();
    let questions = Questions::read_open(data)?;
    if let Some(out) = out {
        let read = ask.read().files([&data.to_path_buf()]).questions(&questions);
        read.apart(&[("--out", out), ("--out", &out.with_extension("journal.jsonl"))])?;
    }
    let (policy, retain) = eviction.resolve(messages)?;
    let (model, processor, name) = ask.load_model(messages)?;
    let computing = answer.compute.resolve(PrecisionName::Auto, &model)?;
    let sampling = answer.sampling(&model.generation)?;
    answer.notes(&model.generation, sampling, messages);
    let until = answer.until(&model.generation);
    let header = Header {
        format: "aircache-run".into(),
        model: model.checkpoint.digest(),
        data: questions.sha256.clone(),
        questions: questions.items.len(),
        precision: computing.name(),
        preprocess: ask.seeing.words(&processor),
        max_new_tokens: until.max_new_tokens,
        how: format!("{sampling:?}, until {:?}", until.stop),
        recipe: None,
        cells: vec![(policy.to_string(), retain.to_string())],
    };
    let mut journal = match out {
        Some(out) => Journal::open(&out.with_extension("journal.jsonl"), header)?,
        None => Journal::in_memory(header),
    };
    let open: Vec<usize> = (0..questions.items.len()).filter(|q| !journal.has(*q)).collect();
    if open.len() < questions.items.len() && !open.is_empty() {
        messages.say(&format!("{} questions are answered already", questions.items.len() - open.len()));
    }
    let model = &*memory::rounded(&model, computing.precision)?; // R10.4
    let Computing { precision, way, kv, .. } = computing;
    let batch =
        Batch { model, processor: &processor, policy: policy.clone(), retain, precision, way, kv, sampling, until };
    messages.notes();
    let bar = messages.bar("questions", open.len());
    let (start, mut printed, mut stdout) = (Instant::now(), 0, Stdout::new());
    print(&questions, &journal, &mut printed, &mut stdout, &bar)?;
    for some in open.chunks(size) {
        let items: Vec<_> = some.iter().map(|&q| (q, &questions.items[q])).collect();
        let within = |e: Error| e.within(&questions.label);
        let prompts = batch.prompts(&items).map_err(within)?;
        prompts.iter().try_for_each(|(prompt, _)| memory::check_prompt(model, prompt)).map_err(within)?;
        let answers = batch.answers(&prompts).map_err(within)?;
        for (&q, answer) in some.iter().zip(answers) {
            journal.add(q, vec![answer])?;
            bar.step();
        }
        print(&questions, &journal, &mut printed, &mut stdout, &bar)?;
        // If stdout is closed, only a file needs more answers.
        if stdout.is_closed() && out.is_none() {
            return Ok(Verdict::Pass);
        }
    }
    drop(bar);
    if let Some(out) = out {
        let lines: String = (0..questions.items.len()).filter_map(|q| line(&questions, &journal, q)).collect();
        output::write(out, lines.as_bytes())?;
    }
    messages.say(&format!(
        "{} questions in {}, with {name}, {policy} at {retain}, {size} side by side",
        open.len(),
        seconds(start.elapsed())
    ));
    Ok(Verdict::Pass)
}

/// Prints the answers that are ready, in the order of the file.
fn print(questions: &Questions, journal: &Journal, printed: &mut usize, out: &mut Stdout, bar: &Bar) -> Result<()> {
    while let Some(line) = line(questions, journal, *printed) {
        bar.aside(|| out.text(&line))?;
        *printed += 1;
    }
    Ok(())
}

/// A question and its answer; none if it has no answer yet.
fn line(questions: &Questions, journal: &Journal, question: usize) -> Option<String> {
    let text = journal.answers().get(&question)?.first()?;
    let item = questions.items.get(question)?;
    Some(format!("{}\n", json!({"n": question + 1, "question": item.question, "text": text})))
}
