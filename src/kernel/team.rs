//! How the threads of a pool share the work of a kernel.
//!
//! A pass runs many small kernels. A thread that finds no work falls asleep within some microseconds, and to wake it takes
//! longer than a small kernel; so does a thread that waits for the part of its work that another thread took. With sixteen
//! threads, a pass would spend most of its time on this. Therefore all threads take the tasks of a kernel from one list,
//! and between two kernels they stay [`awake`]. The bits do not depend on it: a task gives the same numbers on every
//! thread.

use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Does all tasks on the threads of the pool; each thread takes the next task when it has finished one.
pub fn share<I: Send>(tasks: impl Iterator<Item = I> + Send, work: impl Fn(I) + Sync) {
    let others = rayon::current_num_threads().min(tasks.size_hint().1.unwrap_or(usize::MAX)).saturating_sub(1);
    if others == 0 {
        return tasks.for_each(work);
    }
    let (left, busy) = (Mutex::new(tasks), AtomicUsize::new(0));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_all = || {
        busy.fetch_add(1, Relaxed);
        while let Some(task) = next() {
            work(task);
        }
        busy.fetch_sub(1, Relaxed);
    };
    rayon::in_place_scope(|scope| {
        (0..others).for_each(|_| scope.spawn(|_| take_all()));
        take_all();
        // The scope would let this thread sleep, although the others need little time for their last tasks.
        for _ in 0..PATIENCE {
            if busy.load(Relaxed) == 0 {
                break;
            }
            rest();
        }
    });
}

/// How often a thread looks whether the others have finished, before it may sleep: some milliseconds.
const PATIENCE: usize = 10_000;
/// How often a thread looks for work in vain before it may sleep: some milliseconds.
const LOOKS: usize = 4000;
/// After so many looks in vain, other programs may use the core for a moment.
const LEND: usize = 64;
/// How often a caller looks whether all other threads are awake: for much longer than it takes to wake them.
const WAIT: usize = 200;
/// Calls after which a caller tries again, if some threads had other work.
const LATER: usize = 16;

/// Does nothing for about a microsecond.
fn rest() {
    (0..32).for_each(|_| std::hint::spin_loop());
}

/// The threads that a caller keeps awake.
#[derive(Default)]
struct Watch {
    /// How many there are.
    awake: AtomicUsize,
    /// Changes at the beginning and at the end of the time in which threads may join.
    time: AtomicUsize,
    /// Calls for which the caller does not try.
    skip: AtomicUsize,
}

thread_local! {
    /// The threads that this thread keeps awake.
    static WATCH: OnceCell<Arc<Watch>> = const { OnceCell::new() };
    /// Whether another thread keeps this thread awake.
    static KEPT: Cell<bool> = const { Cell::new(false) };
}

/// Wakes the other threads of this thread's pool, unless they are awake. Outside of a pool it does nothing.
pub fn awake() {
    let (Some(caller), others) = (rayon::current_thread_index(), rayon::current_num_threads() - 1) else { return };
    let watch = WATCH.with(|watch| watch.get_or_init(Arc::default).clone());
    if KEPT.get() || watch.awake.load(Relaxed) >= others {
        return;
    }
    if watch.skip.load(Relaxed) > 0 {
        watch.skip.fetch_sub(1, Relaxed);
        return;
    }
    let time = watch.time.fetch_add(1, Relaxed) + 1;
    let joining = watch.clone();
    rayon::spawn_broadcast(move |thread| {
        if thread.index() != caller {
            joining.keep(time);
        }
    });
    for _ in 0..WAIT {
        if watch.awake.load(Relaxed) >= others {
            break;
        }
        rest();
    }
    // A thread that comes later has work from another caller, and this work must not wait for ours.
    watch.time.fetch_add(1, Relaxed);
    if watch.awake.load(Relaxed) < others {
        watch.skip.store(LATER, Relaxed);
    }
}

impl Watch {
    /// Looks for work, and does it, until there has been none for some milliseconds.
    fn keep(&self, time: usize) {
        if self.time.load(Relaxed) != time || KEPT.replace(true) {
            return;
        }
        self.awake.fetch_add(1, Relaxed);
        let mut looks = 0;
        while looks < LOOKS {
            looks = if rayon::yield_now() == Some(rayon::Yield::Executed) { 0 } else { looks + 1 };
            match looks % LEND {
                0 if looks > 0 => std::thread::yield_now(),
                _ => rest(),
            }
        }
        self.awake.fetch_sub(1, Relaxed);
        KEPT.set(false);
    }
}
