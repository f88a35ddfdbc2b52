//! The instruction set that kernels run on: the best set of the CPU, or the set that the caller chose. Spec: D3.1
//!
//! The choice is the library's only setting for the whole process. Kernels read it in every call, and no result depends
//! on it.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// The instructions that the target guarantees; slow without FMA, with the same bits.
    Portable = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// AVX-512 F, VL, BW, DQ.
    Avx512 = 3,
}

/// 0 until the first kernel runs or [`force`] is called.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl Isa {
    /// Every set, the best last.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The name that [`named`](Self::named) takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this CPU has the set.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The set in use: the forced one, or the best that the CPU has.
    pub fn current() -> Isa {
        match CHOSEN.load(Ordering::Relaxed) {
            0 => {
                let best = Isa::ALL.into_iter().filter(|i| i.available()).max().unwrap_or(Isa::Portable);
                // If another thread forced a set meanwhile, the forced set wins.
                let _ = CHOSEN.compare_exchange(0, best as u8, Ordering::Relaxed, Ordering::Relaxed);
                best
            }
            3 => Isa::Avx512,
            2 => Isa::Avx2,
            _ => Isa::Portable,
        }
    }

    /// Uses this set from now on, in the whole process. Results never depend on it.
    ///
    /// # Errors
    /// The CPU does not have the set.
    pub fn force(self) -> Result<()> {
        if !self.available() {
            return Err(Error::new("instruction set", "an instruction set of this CPU", self.name()));
        }
        CHOSEN.store(self as u8, Ordering::Relaxed);
        Ok(())
    }

    /// The set of this name.
    ///
    /// # Errors
    /// No set has this name.
    pub fn named(name: &str) -> Result<Isa> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| Error::new("instruction set", "avx512, avx2 or portable", format!("{name:?}")))
    }
}
