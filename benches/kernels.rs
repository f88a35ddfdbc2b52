//! Kernels on the shapes of public models: `cargo bench --bench kernels`. `docs/performance.md` explains the output.

use aircache::kernel::limits::{OPERATIONS, multiply, read};
use aircache::kernel::simd::Isa;
use aircache::kernel::{Elements, HeadView, MatrixView, Visible, attention, linear, recycle};
use aircache::num::Grid;
use half::bf16;
use ndarray::Array2;
use std::hint::black_box;
use std::time::Instant;

/// Numbers between −1 and 1, the same for the same seed.
fn random(n: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The median of times in seconds.
fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(f: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// The median times of contenders that run in turns, in seconds; a first turn does not count.
fn in_turn<const N: usize>(mut contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    contenders.iter_mut().for_each(|f| f());
    let mut times = [const { Vec::new() }; N];
    for _ in 0..9 {
        for (times, f) in times.iter_mut().zip(&mut contenders) {
            times.push(seconds(f));
        }
    }
    times.map(middle)
}

/// Floating-point operations of [`multiply`] on all threads.
fn operations() -> f64 {
    (rayon::current_num_threads() * OPERATIONS) as f64
}

fn main() -> aircache::Result<()> {
    if let Ok(name) = std::env::var("AIRCACHE_ISA") {
        Isa::named(&name)?.force()?;
    }
    // As in the program, the calling thread works in the pool too. If a pool already exists, that pool is used.
    let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
    let memory = vec![1f32; 64 << 20];
    let [multiplied, all_read] = in_turn([&mut || _ = black_box(multiply()), &mut || _ = black_box(read(&memory))]);
    let (peak, bandwidth) = (operations() / multiplied / 1e9, memory.len() as f64 * 4.0 / all_read / 1e9);
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let only = |part: &str| only.as_deref().is_none_or(|only| only == part);
    println!("{}: {peak:.0} GFLOP/s, {bandwidth:.1} GB/s read", Isa::current().name());
    if only("linear") {
        linear_layers();
    }
    if only("few") {
        few_rows();
    }
    if only("attention") {
        attentions();
    }
    Ok(())
}

/// Many rows, as in a prefill.
fn linear_layers() {
    println!("linear layers, rows × inputs × outputs, and the share of the peak meanwhile");
    for (m, k, n) in [(729, 1152, 4304), (729, 1152, 1152), (3072, 896, 4864), (3072, 4864, 896), (1024, 3584, 18_944)]
    {
        let x = Array2::from_shape_fn((m, k), |(i, j)| ((i * 7 + j * 13) % 64) as f32 / 32.0 - 1.0); // exact in bf16
        let w = random(n * k, 2);
        let narrow: Vec<bf16> = w.iter().map(|&v| bf16::from_f32(v)).collect();
        let pairs = MatrixView { values: Elements::Bf16(&narrow), rows: n, cols: k };
        let [a, b, peak] = in_turn([
            &mut || recycle(black_box(linear(x.view(), MatrixView::f32(&w, n, k), None))),
            &mut || recycle(black_box(linear(x.view(), pairs, None))),
            &mut || _ = black_box(multiply()),
        ]);
        let [a, b] = [a, b].map(|t| 2.0 * (m * k * n) as f64 / t / 1e9);
        let share = a / (operations() / peak / 1e9);
        println!("  {m} × {k} × {n}: f32 {a:.0} GFLOP/s ({share:.2}), bf16 × bf16 {b:.0}");
    }
}

/// Few rows, as in a decode.
fn few_rows() {
    for (k, n) in [(896, 4864), (4864, 896)] {
        println!("linear layers of few rows, {k} × {n}, a matrix after the other, and the read bandwidth meanwhile");
        let layers = 24;
        let wide = random(layers * n * k, 3);
        let narrow: Vec<bf16> = wide.iter().map(|&v| bf16::from_f32(v)).collect();
        for m in [1, 2, 4, 8, 16] {
            let x = Array2::from_elem((m, k), 0.5f32);
            let [a, b, limit] = in_turn([
                &mut || {
                    for w in wide.chunks_exact(n * k) {
                        black_box(linear(x.view(), MatrixView::f32(w, n, k), None));
                    }
                },
                &mut || {
                    for w in narrow.chunks_exact(n * k) {
                        black_box(linear(x.view(), MatrixView { values: Elements::Bf16(w), rows: n, cols: k }, None));
                    }
                },
                &mut || _ = black_box(read(&wide)),
            ]);
            let gb = (layers * n * k) as f64 / 1e9;
            let all = [4.0 * gb / a, 2.0 * gb / b, 4.0 * gb / limit];
            println!("  {m} rows: f32 {:.1} GB/s, bf16 {:.1} GB/s, read {:.1} GB/s", all[0], all[1], all[2]);
        }
    }
}

/// Attention of prefills, and of a decode.
fn attentions() {
    println!("attention, rows + entries before, query heads / KV heads × d");
    for (rows, before, h, g, d) in
        [(1024, 0, 14, 2, 64), (512, 3584, 14, 2, 64), (729, 0, 16, 16, 72), (1, 16_383, 14, 2, 64)]
    {
        let len = rows + before;
        let q = random(rows * h * d, 5);
        let kv: Vec<_> = (0..g).map(|i| (random(len.next_multiple_of(16) * d, i), random(len * d, i + 9))).collect();
        let heads: Vec<_> = kv.iter().map(|(keys, values)| HeadView { keys, values }).collect();
        let mut received: Vec<_> = (0..g).map(|_| vec![0f32; len]).collect();
        let [t, summed] = in_turn([
            &mut || drop(black_box(attention(&q, h, &heads, d, Visible::Causal, Grid::Native, None))),
            &mut || drop(black_box(attention(&q, h, &heads, d, Visible::Causal, Grid::Native, Some(&mut received)))),
        ]);
        let pairs: usize = (0..rows).map(|r| before + r + 1).sum();
        println!(
            "  {rows} + {before}, {h} / {g} × {d}: {:.2} ms, {:.0} GFLOP/s; {:.2} times as long with what is received",
            t * 1e3,
            (4 * pairs * h * d) as f64 / t / 1e9,
            summed / t
        );
    }
}
