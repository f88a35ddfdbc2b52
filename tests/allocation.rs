//! Chapters 06 and 07, by the allocator's account: what a prefill, a cache and a step ask for, and what they give back.
//! A process of its own, since the allocator is the process's; one test at a time, since C6.4a watches all threads.

mod common;

use aircache::cache::{Cache, HeadCache};
use aircache::config::DecoderConfig;
use aircache::decoder::{Observer, Sequence};
use aircache::input::Positions;
use aircache::num::Grid;
use aircache::pass::Pass;
use common::demo::{DEMO, cache, feed, rows};
use common::numbers::{Rng, threads};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a thread has asked for, in bytes.
#[derive(Clone, Copy)]
struct Account {
    /// In all.
    asked: usize,
    /// Asked for and not given back.
    held: isize,
    /// The most that was ever held.
    most: isize,
}

thread_local! {
    static ACCOUNT: Cell<Account> = const { Cell::new(Account { asked: 0, held: 0, most: 0 }) };
}

/// The largest single request of any thread.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(asked: usize, held: isize) {
    LARGEST.fetch_max(asked, Relaxed);
    // A thread that is being torn down no longer counts.
    let _ = ACCOUNT.try_with(|account| {
        let a = account.get();
        let held = a.held + held;
        account.set(Account { asked: a.asked + asked, held, most: a.most.max(held) });
    });
}

// SAFETY: every request goes to the system's allocator unchanged; counting neither allocates nor touches the memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps other tests waiting.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn account() -> Account {
    ACCOUNT.get()
}

/// Counts the most that is held from here on; what is held here.
fn from_here() -> isize {
    let Account { asked, held, .. } = account();
    ACCOUNT.set(Account { asked, held, most: held });
    held
}

/// C6.4a: a long prefill's largest allocation is far below a matrix of scores. (The scores of 8 rows over 2000 entries are 64 kB;
/// n × n of one head would be 16 MB.) Measured as the peak of the largest single request.
#[test]
fn c6_4a_no_matrix_of_scores_is_held() {
    let _alone = alone();
    let n = 2000;
    let mut cache = DEMO.decoder.cache::<f32>();
    let x = rows::<f32>(n, 5);
    LARGEST.store(0, Relaxed);
    feed(&mut cache, x, Grid::Native);
    let largest = LARGEST.load(Relaxed);
    let config = &DEMO.decoder.config;
    let widest = n * config.intermediate.max(config.hidden) * 4;
    assert!(largest <= 2 * widest && largest < n * n * 4, "{largest} bytes at once");
}

/// Bytes that a step asks for after `len` entries, once memory that is kept has been asked for by the steps before.
fn asked(mut cache: Cache<f32>, len: usize) -> usize {
    let (d, mut rng) = (DEMO.decoder.config.head_dim, Rng(7));
    for head in cache.layers.iter_mut().flatten() {
        head.reserve(len + 8);
        for row in 0..len {
            head.push(row, rng.row::<f32>(d, 1.0).into_iter(), rng.row::<f32>(d, 1.0).into_iter());
        }
    }
    cache.rows = len;
    let mut sequence = Sequence { next_position: len as i64, ..Sequence::new(cache) };
    let mut pass = Pass::<f32>::new(Grid::Native);
    let mut step = |i: usize| {
        let before = account().asked;
        DEMO.decoder.step(&mut pass, i, &[20], &mut [&mut sequence]);
        account().asked - before
    };
    (0..4).map(&mut step).last().unwrap()
}

/// On one thread.
#[test]
fn c6_8c_a_step_asks_for_no_memory_that_grows_with_the_context() {
    let _alone = alone();
    for cache in [DEMO.decoder.cache(), DEMO.decoder.cache_in(Grid::Bf16)] {
        let [short, long] = [6000, 18_000].map(|len| threads(1, || asked(cache.clone(), len)));
        assert_eq!(short, long, "bytes after 6,000 and after 18,000 entries");
        assert!(short > 0 && short < 1 << 20, "{short}");
    }
}

/// C6.11c, on one thread: beside cache, embeddings and what is observed, twice the prompt
/// holds no more than once, where the chunk is the same; and far less than the whole prompt at once.
#[test]
fn c6_11c_what_is_alive_does_not_grow_with_the_prompt() {
    let _alone = alone();
    let d = DEMO.decoder.config.hidden;
    // The most held on the way, less what is there in the end and the embeddings, which come in whole.
    let on_the_way = |n: usize, at_once: usize| {
        let (ids, positions) = (vec![7; n], Positions::in_order(n));
        let observer = Observer::new(vec![n - 1], true);
        let mut sequence = Sequence { observer, ..Sequence::new(DEMO.decoder.cache()) };
        let x = DEMO.decoder.embed::<f32>(&ids);
        from_here();
        let sequences = std::slice::from_mut(&mut sequence);
        DEMO.decoder.prefill(&mut Pass::new(Grid::Native), &[(x, &positions)], sequences, at_once);
        account().most - account().held - (n * d * 4) as isize
    };
    let [once, twice, whole] =
        [(1000, 64), (2000, 64), (2000, 2000)].map(|(n, at_once)| threads(1, || on_the_way(n, at_once)));
    println!("{once} bytes on the way for 1000 rows, {twice} for 2000, {whole} at once");
    let DecoderConfig { heads, kv_heads, .. } = DEMO.decoder.config;
    // 8 blocks of received sums for each KV head, 8 rows of scores for each query head of a group.
    let attention = (1000 * 4 * 8 * (kv_heads + heads / kv_heads)) as isize;
    assert!(twice <= once + attention && whole > 8 * twice);
}

/// C7.1b: after `reserve` nothing but the last block is unused; while growing, at most 256 entries' room is ahead.
#[test]
fn c7_1b_memory_grows_with_the_entries() {
    let _alone = alone();
    let (d, n) = (8, 1000);
    let entry = 2 * d * 4 + 8; // key, value, row
    let (before, mut head) = (account().held, HeadCache::<f32>::new(d));
    let held = || account().held - before;
    head.reserve(n);
    assert!(held() <= (n * entry + 15 * d * 4) as isize, "the prefill's rows");
    for row in 0..n {
        head.push(row, [0.5; 8].into_iter(), [0.5; 8].into_iter());
    }
    for row in n..3000 {
        head.push(row, [0.5; 8].into_iter(), [0.5; 8].into_iter());
        let room = ((row + 1 + 256 + 15) * entry) as isize;
        assert!(held() <= room, "{} bytes for {} entries", held(), row + 1);
    }
}

/// C7.2c: what is left is what the kept entries need, and never was more than a head held twice.
#[test]
fn c7_2c_compaction_gives_the_memory_back() {
    let _alone = alone();
    let (layers, d, n) = (6, 64, 2000);
    let start = account().held;
    let mut cache = cache::<f32>(&vec![vec![n; 2]; layers], d, 4);
    let full = account().held - start;
    assert!(full as usize >= cache.bytes());
    let keep = vec![vec![(0..n).step_by(10).collect::<Vec<usize>>(); 2]; layers];
    let before = from_here();
    cache.compact(&keep);
    let Account { held: now, most, .. } = account();
    let kept = n / 10;
    let needed = 2 * layers * (kept * (2 * d * 4 + 8) + 15 * d * 4);
    let frame = layers * 2 * size_of::<HeadCache<f32>>() + 4096;
    assert!((now - start - (before - start - full)) as usize <= needed + frame, "{now} bytes held");
    assert!((most - before) as usize <= needed, "{} bytes more on the way", most - before);
}
