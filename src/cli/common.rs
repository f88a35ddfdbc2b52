//! Options of every command.

use super::out::Messages;
use aircache::kernel::simd::Isa;
use aircache::pass::Precision;
use aircache::{Error, Result};

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Number of threads [default: all cores]; results do not depend on it
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..), display_order = 900)]
    pub threads: Option<u16>,
    /// No messages and no progress on stderr; errors are always shown
    #[arg(long, global = true, display_order = 901)]
    pub quiet: bool,
    /// A machine-readable result on stdout
    #[arg(long, global = true, display_order = 902)]
    pub json: bool,
}

impl Common {
    /// Sets up threads and kernels.
    pub fn apply(&self) -> Result<()> {
        if std::env::var_os("AIRCACHE_ISA").is_some_and(|name| name.to_str().is_none()) {
            return Err(Error::new("AIRCACHE_ISA", "avx512, avx2 or portable", "bytes that are no UTF-8"));
        }
        Isa::force_from_env()?;
        // This thread works too: it need not wake another one for every kernel, which takes longer than a small one runs.
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(self.threads.map_or(0, usize::from)).use_current_thread();
        pool.build_global().map_err(|e| Error::new("--threads", "a number of threads that can be started", e))?;
        Ok(())
    }

    /// Messages on stderr.
    pub fn messages(&self) -> Messages {
        Messages { quiet: self.quiet }
    }
}

/// How numbers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PrecisionName {
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

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Truth => Precision::Truth,
            PrecisionName::Fast => Precision::Fast,
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::F16 => Precision::F16,
        }
    }
}
