//! The `aircache` binary: argument parsing and dispatch; each command is a module of [`cli`].

mod cli;

use clap::{CommandFactory, Parser, Subcommand};
use cli::{Common, shell};
use std::process::ExitCode;

/// If memory runs out, the process prints one line and ends: [`shell::prepare`].
#[global_allocator]
static MEMORY: cli::os::Told = cli::os::Told;

/// Answers questions about pictures with a vision-language model on the CPU, evicts most of its visual KV cache (AirCache),
/// and records and checks every number of a run.
#[derive(Debug, Parser)]
#[command(name = "aircache", version, max_term_width = 110, after_help = cli::FIRST)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cli::run::Args),
    Record(cli::record::Args),
    Check(cli::check::Args),
    Inspect(cli::inspect::Args),
    Import(cli::import::Args),
    Compress(cli::compress::Args),
    Policies(cli::policies::Args),
    Stages(cli::stages::Args),
    Eval(cli::eval::Args),
    Bench(cli::bench::Args),
    Explain(cli::explain::Args),
    Completions(cli::manual::Completions),
    Man(cli::manual::Manual),
    Selftest(cli::selftest::Args),
    #[cfg(feature = "lapack")]
    Analyze(cli::analyze::Args),
}

fn main() -> ExitCode {
    shell::prepare();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return shell::usage(&e),
    };
    let common = &cli.common;
    let done = common.apply().and_then(|()| match cli.command {
        None => cli::first(),
        Some(Command::Run(args)) => cli::run::run(args, common),
        Some(Command::Record(args)) => cli::record::run(args, common),
        Some(Command::Check(args)) => cli::check::run(args, common),
        Some(Command::Import(args)) => cli::import::run(&args),
        Some(Command::Inspect(args)) => cli::inspect::run(args, common),
        Some(Command::Compress(args)) => cli::compress::run(args, common),
        Some(Command::Policies(args)) => cli::policies::run(args, common),
        Some(Command::Stages(args)) => cli::stages::run(args, common),
        Some(Command::Eval(args)) => cli::eval::run(args, common),
        Some(Command::Bench(args)) => cli::bench::run(args, common),
        Some(Command::Explain(args)) => cli::explain::run(args, common),
        Some(Command::Completions(args)) => cli::manual::completions(args, Cli::command()),
        Some(Command::Man(args)) => cli::manual::manual(args, common, Cli::command()),
        Some(Command::Selftest(args)) => cli::selftest::run(args, common),
        #[cfg(feature = "lapack")]
        Some(Command::Analyze(args)) => cli::analyze::run(args, common),
    });
    shell::end(done)
}
