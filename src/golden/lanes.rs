//! Work that goes side by side: runs of one model that do not depend on each other, and stages.

use super::BundleWriter;
use crate::error::Result;
use rayon::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The waiting truth of several runs.
pub(super) type Shared<'a> = Mutex<&'a mut BundleWriter>;

/// Stages are compared, fitted or judged side by side when they have this many numbers together.
pub(super) const TOGETHER: usize = 1 << 20;

/// What threads share, for one of them.
pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A truth of at most this many bytes is small.
const SMALL: usize = 1 << 26;

/// Makes runs, and returns their results in order. bytes: of the truth. The kernels of small runs are too short for several
/// threads, so small runs go side by side; large ones go one after the other, so that memory holds one.
///
/// # Errors
/// The error of the first run that fails.
pub(super) fn each<I: Send, R: Send>(
    runs: Vec<I>,
    bytes: usize,
    run: impl Fn(I) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    if bytes > SMALL {
        return runs.into_iter().map(run).collect();
    }
    let all: Vec<Result<R>> = runs.into_par_iter().with_max_len(1).map(run).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn d10_7_runs_side_by_side_give_what_runs_in_turn_give() {
        let run = |i: usize| match i % 5 {
            4 => Err(Error::new("run", "another number", i)),
            _ => Ok(i * i),
        };
        for bytes in [0, SMALL + 1] {
            assert_eq!(each((0..4).collect(), bytes, run).unwrap(), [0, 1, 4, 9]);
            let first = each((0..20).collect(), bytes, run).unwrap_err();
            assert!(first.to_string().contains("found 4"), "{first}");
        }
    }
}
