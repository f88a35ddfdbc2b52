//! Options of every command.

use super::out::Messages;
use super::shell::STACK;
use aircache::kernel::simd::Isa;
use aircache::pass::Precision;
use aircache::{Error, Result};

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Number of threads [default: all cores]; results do not depend on it
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true, value_parser = threads, display_order = 900)]
    pub threads: Option<usize>,
    /// No messages and no progress on stderr; errors are always shown
    #[arg(long, global = true, display_order = 901)]
    pub quiet: bool,
    /// A machine-readable result on stdout
    #[arg(long, global = true, display_order = 902)]
    pub json: bool,
}

/// The most threads: every kernel wakes all threads, and thousands of threads would only wake each other.
fn most_threads() -> usize {
    (4 * cores()).max(256)
}

/// Processors that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn threads(text: &str) -> std::result::Result<usize, String> {
    let found = text.parse().ok().filter(|n| (1..=most_threads()).contains(n));
    found.ok_or_else(|| format!("expected a whole number from 1 to {}", most_threads()))
}

/// A pool of this many threads; RUST_MIN_STACK does not change their stacks.
pub fn pool(threads: usize) -> rayon::ThreadPoolBuilder {
    rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK)
}

/// Forces the kernels onto the instruction set that the environment variable names, if the variable is set.
fn force_kernels() -> Result<()> {
    const VARIABLE: &str = "AIRCACHE_ISA";
    let Some(name) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let Some(name) = name.to_str() else {
        return Err(Error::new(VARIABLE, "avx512, avx2 or portable", "bytes that are not UTF-8"));
    };
    let forced = Isa::named(name).and_then(Isa::force);
    forced.map_err(|e| match name {
        "amx" => Error { at: VARIABLE.into(), ..e }.remedy("--isa amx in run, record or bench"),
        _ => Error { at: VARIABLE.into(), ..e },
    })
}

impl Common {
    /// Sets up threads and kernels.
    pub fn apply(&self) -> Result<()> {
        force_kernels()?;
        let threads = self.threads();
        // If memory ended while threads start, there could be none left to say so. So all stacks are asked for at once first;
        // the allocator says what is missing.
        let mut stacks = Vec::<u8>::new();
        _ = stacks.try_reserve_exact(threads * STACK);
        drop(std::hint::black_box(stacks));
        // The calling thread works in the pool too. Otherwise it would have to wake another thread for every kernel,
        // and the wake-up takes longer than a small kernel.
        let built = pool(threads).use_current_thread().build_global();
        built.map_err(|e| Error::new("--threads", "a number of threads that can be started", e))?;
        Ok(())
    }

    /// The number of threads: that of the option, else RAYON_NUM_THREADS (which may be meant for other programs, so it is
    /// limited to the largest useful number), else one for each core.
    fn threads(&self) -> usize {
        let variable = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|n| *n > 0);
        let wanted = self.threads.or_else(variable).unwrap_or_else(cores);
        if wanted > most_threads() {
            let most = most_threads();
            self.messages()
                .say(&format!("note: RAYON_NUM_THREADS={wanted} is more than {most}: {most} threads are used"));
        }
        wanted.min(most_threads())
    }

    /// Messages on stderr.
    pub fn messages(&self) -> Messages {
        Messages { quiet: self.quiet }
    }
}

/// How numbers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PrecisionName {
    /// bf16 if the checkpoint is in bf16 and this processor multiplies bf16 in hardware, otherwise float32; in run only
    Auto,
    /// float64
    #[value(alias = "f64")]
    Truth,
    /// float32
    #[value(alias = "f32")]
    Fast,
    /// what an honest GPU computes in bfloat16
    Bf16,
    /// what an honest GPU computes in IEEE half precision
    F16,
}

impl PrecisionName {
    /// The precision; none for `auto`.
    pub fn explicit(self) -> Option<Precision> {
        match self {
            PrecisionName::Auto => None,
            PrecisionName::Truth => Some(Precision::Truth),
            PrecisionName::Fast => Some(Precision::Fast),
            PrecisionName::Bf16 => Some(Precision::Bf16),
            PrecisionName::F16 => Some(Precision::F16),
        }
    }

    /// The precision of a command whose results must not depend on the processor.
    ///
    /// # Errors
    /// `auto`.
    pub fn named(self) -> Result<Precision> {
        let expected = "truth, fast, bf16 or f16: this command's results do not depend on the processor";
        self.explicit().ok_or_else(|| Error::new("--precision", expected, "auto"))
    }
}
