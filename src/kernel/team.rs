//! How the threads of a pool share the work of a kernel.
//!
//! A pass runs many small kernels. A thread that finds no work falls asleep within some microseconds, and to wake it takes
//! longer than a small kernel; so does a thread that waits for the part of its work that another thread took. With sixteen
//! threads, a pass would spend most of its time on this. Therefore the thread that runs a pass keeps the others of its
//! pool [`awake`]: between two kernels they look at one number until it changes. All threads then take the tasks of the
//! kernel from one list. The bits do not depend on it: a task gives the same numbers on every thread.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Does all tasks on the threads of the pool; each thread takes the next task when it has finished one.
pub fn share<I: Send>(tasks: impl Iterator<Item = I> + Send, work: impl Fn(I) + Sync) {
    let others = rayon::current_num_threads().min(tasks.size_hint().1.unwrap_or(usize::MAX)).saturating_sub(1);
    if others == 0 {
        return tasks.for_each(work);
    }
    let left = Mutex::new(tasks);
    let next = || lock(&left).next();
    let take_all = || {
        while let Some(task) = next() {
            work(task);
        }
    };
    match team() {
        Some(team) => team.run(&take_all),
        None => rayon::in_place_scope(|scope| {
            (0..others).for_each(|_| scope.spawn(|_| take_all()));
            take_all();
        }),
    }
}

/// How often a thread looks for work in vain before it may sleep: some milliseconds.
const LOOKS: usize = 16_000;
/// After so many looks in vain, a thread also looks for other work of the pool.
const POOL: usize = 64;
/// After so many looks in vain, other programs may use the core for a moment.
const LEND: usize = 512;
/// After so many looks whether the members have left a job, other programs may use the core for a moment: members need
/// little time for their last tasks.
const PATIENCE: usize = 32_768;
/// How often a caller looks whether all other threads are awake: for much longer than it takes to wake them.
const WAIT: usize = 1600;
/// Calls after which a caller tries again, if some threads had other work.
const LATER: usize = 16;

/// Does nothing for a part of a microsecond.
fn rest() {
    (0..4).for_each(|_| std::hint::spin_loop());
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the threads that are kept awake do together.
type Job<'a> = &'a (dyn Fn() + Sync);

/// A thread that runs a pass, and the threads that it keeps awake: its members.
#[derive(Default)]
struct Team {
    /// How many members there are.
    awake: AtomicUsize,
    /// Changes at the beginning and at the end of the time in which threads may join.
    time: AtomicUsize,
    /// Calls for which the caller does not try.
    skip: AtomicUsize,
    /// The number of the last job, in units of [`JOB`]; [`OPEN`] while members may enter the job; and how many are in it.
    state: AtomicU64,
    /// The job that is open.
    job: AtomicPtr<Job<'static>>,
    /// What a member's panic said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const OPEN: u64 = 1 << 31;
const JOB: u64 = 1 << 32;

thread_local! {
    /// The team of this thread.
    static TEAM: OnceCell<Arc<Team>> = const { OnceCell::new() };
    /// Whether another thread keeps this thread awake.
    static KEPT: Cell<bool> = const { Cell::new(false) };
}

/// The team of this thread, if all other threads of the pool are its members and wait for a job.
fn team() -> Option<Arc<Team>> {
    let team = TEAM.with(|team| team.get().cloned())?;
    let whole = team.awake.load(Relaxed) + 1 == rayon::current_num_threads();
    (whole && team.state.load(Relaxed) & OPEN == 0).then_some(team)
}

/// Whether the other threads begin their part of a kernel at once.
pub fn are_awake() -> bool {
    team().is_some()
}

/// Wakes the other threads of this thread's pool, unless they are awake. Outside of a pool it does nothing.
pub fn awake() {
    let (Some(caller), others) = (rayon::current_thread_index(), rayon::current_num_threads() - 1) else { return };
    let team = TEAM.with(|team| team.get_or_init(Arc::default).clone());
    if KEPT.get() || team.awake.load(Relaxed) >= others {
        return;
    }
    if team.skip.load(Relaxed) > 0 {
        team.skip.fetch_sub(1, Relaxed);
        return;
    }
    let time = team.time.fetch_add(1, Relaxed) + 1;
    let joining = team.clone();
    rayon::spawn_broadcast(move |thread| {
        if thread.index() != caller {
            joining.keep(time);
        }
    });
    for _ in 0..WAIT {
        if team.awake.load(Relaxed) >= others {
            break;
        }
        rest();
    }
    // A thread that comes later has work from another caller, and this work must not wait for ours.
    team.time.fetch_add(1, Relaxed);
    if team.awake.load(Relaxed) < others {
        team.skip.store(LATER, Relaxed);
    }
}

impl Team {
    /// Does the job on this thread and on the members, and returns when all have left it.
    fn run(&self, job: Job<'_>) {
        /// Closes the job, also after a panic.
        struct Opened<'a>(&'a Team);
        impl Drop for Opened<'_> {
            fn drop(&mut self) {
                self.0.state.fetch_sub(OPEN, AcqRel);
                let mut looks = 0;
                while self.0.state.load(Acquire) & (OPEN - 1) > 0 {
                    looks += 1;
                    match looks % PATIENCE {
                        0 => std::thread::yield_now(),
                        _ => std::hint::spin_loop(),
                    }
                }
            }
        }
        self.job.store((&raw const job).cast_mut().cast(), Relaxed);
        self.state.fetch_add(JOB + OPEN, Release);
        let opened = Opened(self);
        job();
        drop(opened);
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Does the open job, unless this thread did it: `done` is the number of the last one it did. Returns whether it did.
    fn join(&self, done: &mut u64) -> bool {
        let seen = self.state.load(Relaxed);
        if seen & OPEN == 0 || seen / JOB == *done {
            return false;
        }
        let entered = self.state.fetch_add(1, Acquire);
        let open = entered & OPEN > 0;
        if open {
            *done = entered / JOB;
            let job = self.job.load(Relaxed);
            // SAFETY: the job was open when this thread was counted, so its caller still is in `run`, which keeps the job and
            // does not open another one until this thread is no longer counted.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)() }));
            if let Err(panic) = result {
                lock(&self.panic).get_or_insert(panic);
            }
        }
        self.state.fetch_sub(1, Release);
        open
    }

    /// Looks for work, and does it, until there has been none for some milliseconds.
    fn keep(&self, time: usize) {
        if self.time.load(Relaxed) != time || KEPT.replace(true) {
            return;
        }
        let mut done = self.state.load(Relaxed) / JOB;
        self.awake.fetch_add(1, Relaxed);
        let mut looks = 0;
        while looks < LOOKS {
            looks += 1;
            if self.join(&mut done) || looks % POOL == 0 && rayon::yield_now() == Some(rayon::Yield::Executed) {
                looks = 0;
            }
            match looks % LEND {
                0 if looks > 0 => std::thread::yield_now(),
                _ => rest(),
            }
        }
        self.awake.fetch_sub(1, Relaxed);
        KEPT.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of small kernels, some of which share work of their own.
    fn sums(kernels: usize, nested: bool) -> usize {
        let all = AtomicUsize::new(0);
        for i in 0..kernels {
            awake();
            share(0..i % 40, |task| {
                if nested && task % 3 == 0 {
                    share(0..5, |inner| _ = all.fetch_add(inner, Relaxed));
                }
                all.fetch_add(task, Relaxed);
            });
        }
        all.into_inner()
    }

    #[test]
    fn every_task_is_done_once() {
        let of = |threads: usize, nested: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| sums(2000, nested))
        };
        for nested in [false, true] {
            let alone = of(1, nested);
            for threads in [2, 3, 8] {
                assert_eq!(of(threads, nested), alone, "{threads} threads");
            }
        }
    }

    #[test]
    fn several_callers_of_a_pool_do_not_wait_for_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let alone = sums(500, true);
        let all = pool.broadcast(|_| sums(500, true));
        assert!(all.iter().all(|&sum| sum == alone));
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_team_as_it_was() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            for bad in [0, 7, 39] {
                awake();
                let result = catch_unwind(AssertUnwindSafe(|| share(0..40, |task| assert_ne!(task, bad, "it is bad"))));
                assert!(result.is_err());
                assert_eq!(
                    sums(100, false),
                    sums(100, true) - 10 * (0..100).map(|i: usize| (i % 40).div_ceil(3)).sum::<usize>()
                );
            }
        });
    }
}
