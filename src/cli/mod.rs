//! The commands of the binary. A command is a module with `Args` and `run(args, common) -> Result<Verdict>`.
//!
//! ```text
//! shell      how the process starts and ends: exit codes, signals, the one error line
//! os         what the system is asked for: memory, and to be told before the process ends
//! memory     whether there is memory for what a command is about to do
//! out        stdout and stderr that may be closed; progress
//! output     files that are written: whole or not there
//! places     where results go, apart from what is read
//! common     options of every command
//! ask        options that say what goes in: model, images, prompt
//! seeing     options that say how pictures are read
//! compute    options that say how numbers are computed
//! eviction   options that say what is evicted
//! answer     options that say how tokens are chosen
//! run record …   the commands
//! ```

#[cfg(feature = "lapack")]
pub mod analyze;
pub mod answer;
pub mod ask;
pub mod batch;
pub mod bench;
pub mod check;
pub mod common;
pub mod compress;
pub mod compute;
pub mod eval;
pub mod eviction;
pub mod explain;
mod heads;
pub mod import;
pub mod inspect;
mod inspect_bundle;
pub mod inspect_input;
pub mod manual;
pub mod memory;
pub mod os;
pub mod out;
pub mod output;
pub mod places;
pub mod policies;
pub mod record;
pub mod run;
pub mod samples;
pub mod seeing;
pub mod selftest;
pub mod shell;
pub mod stages;

pub use common::Common;
pub use shell::Verdict;

use aircache::Result;

/// The end of `--help`, and the output of `aircache` alone.
pub const FIRST: &str = "\
Start with   aircache run --retain 0.3       a bundled model answers a question about a bundled picture
Then         aircache run --image FILE --prompt TEXT
             aircache run --model DIR …      a Hugging Face checkpoint folder
             aircache COMMAND --help         options and an example of each command

Exit codes: 0 done (and the verdict is pass), 1 the verdict is fail, 2 bad usage or input, 130 interrupted.
AIRCACHE_ISA=avx512|avx2|portable forces the kernels of an instruction set; results never depend on it.
AIRCACHE_MEMORY=12GB sets the memory that a run may need; the default is the free memory.";

/// `aircache` without a command: what to do first; it is no error.
pub fn first() -> Result<Verdict> {
    out::Stdout::new().text(&format!("aircache {}\n\n{FIRST}\n", env!("CARGO_PKG_VERSION")))?;
    Ok(Verdict::Pass)
}
