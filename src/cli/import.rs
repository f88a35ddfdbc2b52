//! `import`: where the importers are. They are written in Python, as the dumps of most engines are.

use super::Verdict;
use aircache::{Error, Result};

/// Turns the dump of another engine into a candidate; it is part of the Python package
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: python -m aircache import sglang FOLDER --input prompt.safetensors --model DIR --out candidate.safetensors

Formats: llama.cpp, sglang, tensorrt-edge-llm, vllm, paged. `pip install ./python` in a clone installs the package.")]
pub struct Args {
    /// The format, and what its importer takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FORMAT")]
    words: Vec<String>,
}

/// The command.
pub fn run(args: &Args) -> Result<Verdict> {
    let words = if args.words.is_empty() { "--help".into() } else { args.words.join(" ") };
    Err(Error::new("import", "the Python package", "the binary, which knows bundles only")
        .remedy(format!("run: python -m aircache import {words}; `pip install ./python` in a clone installs it")))
}
