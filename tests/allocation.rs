//! C6.8c: what a decode step asks the system for does not grow with the context. One test in a process of its own, on one thread,
//! since every allocation of the process is counted.

#[path = "common/numbers.rs"]
mod numbers;

use aircache::cache::Cache;
use aircache::demo;
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::Pass;
use numbers::Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static ASKED: AtomicUsize = AtomicUsize::new(0);

struct Counted;

// SAFETY: every request goes to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(size, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Bytes that a step asks for after `len` entries, once memory that is kept has been asked for by the steps before.
fn asked(model: &Model, mut cache: Cache<f32>, len: usize) -> usize {
    let (d, mut rng) = (model.decoder.config.head_dim, Rng(7));
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
        let before = ASKED.load(Relaxed);
        model.decoder.step(&mut pass, i, &[20], &mut [&mut sequence]);
        ASKED.load(Relaxed) - before
    };
    (0..4).map(&mut step).last().unwrap()
}

#[test]
fn c6_8c_a_step_asks_for_no_memory_that_grows_with_the_context() {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
    let model = Model::load(&demo::files()).unwrap();
    let config = &model.decoder.config;
    for cache in [model.decoder.cache(), Cache::in_bf16(config.layers, config.kv_heads, config.head_dim)] {
        let [short, long] = [6000, 18_000].map(|len| asked(&model, cache.clone(), len));
        assert_eq!(short, long, "bytes after 6,000 and after 18,000 entries");
        assert!(short > 0 && short < 1 << 20, "{short}");
    }
}
