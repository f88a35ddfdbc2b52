//! The limits of the machine, measured in the same run as the cells.

use super::super::memory;
use aircache::kernel::has_pairs;
use aircache::kernel::limits::{OPERATIONS, multiply, multiply_pairs, read};
use aircache::kernel::simd::Isa;
use aircache::pass::Precision;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// The number of f32 numbers that are read: 256 MiB, more than any CPU cache holds.
const NUMBERS: usize = 64 << 20;

/// The memory that the measurement needs, in bytes.
pub const BYTES: u64 = 4 * NUMBERS as u64;

/// The machine and its limits.
pub struct Machine {
    /// The processor's name, if the system reports it.
    pub cpu: String,
    /// Threads in use.
    pub threads: usize,
    /// Memory bandwidth when reading, in 10⁹ bytes per second.
    pub read_gb_s: f64,
    /// f32 operations in 10⁹ per second; a fused multiply-add counts as two operations.
    pub fma_gflops: f64,
    /// The same of pairs of bf16, if kernels use them.
    pub pairs_gflops: Option<f64>,
}

impl Machine {
    /// Measures both limits; each is the best of a few tries.
    pub fn measured() -> Machine {
        let memory = vec![1f32; NUMBERS];
        let threads = rayon::current_num_threads();
        Machine {
            cpu: cpu(),
            threads,
            read_gb_s: (NUMBERS * 4) as f64 / best(|| black_box(read(black_box(&memory)))) / 1e9,
            fma_gflops: (threads * OPERATIONS) as f64 / best(|| black_box(multiply())) / 1e9,
            pairs_gflops: has_pairs()
                .then(|| 2.0 * (threads * OPERATIONS) as f64 / best(|| black_box(multiply_pairs())) / 1e9),
        }
    }

    /// The JSON form in the result.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "threads": self.threads, "isa": Isa::current().name(),
            "read_gb_s": self.read_gb_s, "fma_gflops": self.fma_gflops, "pairs_gflops": self.pairs_gflops,
        })
    }

    /// One line of text for people.
    pub fn line(&self) -> String {
        format!(
            "{}, {} threads, {}: reads {:.1} GB/s, multiplies and adds {:.0} GFLOP/s{}",
            self.cpu,
            self.threads,
            Isa::current().name(),
            self.read_gb_s,
            self.fma_gflops,
            self.pairs_gflops.map_or(String::new(), |g| format!(", pairs of bf16 {g:.0} GFLOP/s"))
        )
    }

    /// The operations in 10⁹ per second that a precision can reach.
    pub fn peak(&self, precision: Precision) -> f64 {
        match precision {
            Precision::Truth => self.fma_gflops / 2.0,
            Precision::Fast | Precision::F16 | Precision::Tf32 => self.fma_gflops,
            Precision::Bf16 => self.pairs_gflops.unwrap_or(self.fma_gflops),
        }
    }
}

/// The time of the fastest of five tries in seconds; one warm-up try before them does not count.
fn best(mut f: impl FnMut() -> f32) -> f64 {
    f();
    let times = (0..5).map(|_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name).to_string()
}

/// The largest resident memory that the process has had so far, in bytes, if the system reports it.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    memory::field(&status, "VmHWM:").map(|kib| kib * 1024)
}
