//! Chapter 03: every kernel equals its naive twin, bit for bit, and the twin is within its bound of the mathematical
//! value.

use crate::common::numbers::{Rng, bits, cases, exp_error, gamma, threads, unit, widen};
use aircache::config::Activation;
use aircache::kernel::naive;
use aircache::kernel::simd::Isa;
use aircache::kernel::tiles::linears_in_tiles;
use aircache::kernel::{
    Angles, Elements, Frequencies, HeadView, MatrixView, Turn, Visible, activate, attention, inverse_frequencies,
    key_at, layer_norm, linear, linears, patches, push_key, rms_norm, scale, softmax,
};
use aircache::num::{BLOCK, Grid, LANES, Real};
use half::{bf16, f16};
use ndarray::{Array2, Array4, Axis, array, concatenate, s};
use proptest::prelude::*;
use std::ops::Range;

const GRIDS: [Grid; 3] = [Grid::Native, Grid::Bf16, Grid::F16];

/// Head sizes of real models, and odd head sizes.
fn head_dims() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(2), Just(64), Just(72), Just(80), Just(128), 1usize..40]
}

/// A bf16 with a random significand and a size of one of several kinds; sometimes 0.
fn any_bf16(rng: &mut Rng, kind: u64) -> bf16 {
    let exponent = match (kind, rng.bits() % 16) {
        (_, 0) => return bf16::from_f32(-0.0),
        (0, _) => 120 + rng.bits() % 14, // sizes of real weights
        (1, _) => 60 + rng.bits() % 14,  // products near the smallest normal number
        (2, _) => rng.bits() % 3,        // subnormal or almost subnormal
        (3, 1) => 255,                   // infinite or NaN
        (5, _) => 16 + rng.bits() % 8,   // times 2⁻⁸, and with cancellation, subnormal
        _ => rng.bits() % 255,
    };
    bf16::from_bits((rng.bits() % 128 + exponent * 128 + rng.bits() % 2 * 32768) as u16)
}

mod linear_layer {
    use super::*;

    struct Case<T> {
        x: Array2<T>,
        w: Vec<f32>,
        b: Vec<f32>,
        n: usize,
    }

    fn case<T: Real>(m: usize, k: usize, n: usize, seed: u64) -> Case<T> {
        let mut rng = Rng(seed);
        Case { x: rng.matrix(m, k, 4.0), w: rng.row(n * k, 0.5), b: rng.row(n, 1.0), n }
    }

    impl<T: Real> Case<T> {
        fn run(&self, x: &Array2<T>) -> Array2<T> {
            linear(x.view(), MatrixView::f32(&self.w, self.n, x.ncols()), Some(&self.b))
        }
    }

    /// The shapes of C3.3a; E3.3 equals its twin; C3.3b, C3.3c, C3.3f.
    fn holds<T: Real>(m: usize, k: usize, n: usize, seed: u64) {
        let c = case::<T>(m, k, n, seed);
        let (y, w) = (c.run(&c.x), Array2::from_shape_fn((n, k), |(o, i)| T::of_f32(c.w[o * k + i])));
        let b: Vec<T> = c.b.iter().map(|&b| T::of_f32(b)).collect();
        assert_eq!(y.dim(), (m, n));
        assert_eq!(bits(&y), bits(&naive::linear(c.x.view(), w.view(), Some(&b))), "E3.3: {m} {k} {n}");
        for row in 0..m {
            let alone = c.run(&c.x.slice(s![row..row + 1, ..]).to_owned());
            assert_eq!(bits(&alone), bits(y.row(row)), "C3.3b: row {row} of {m}, {k} {n}");
        }
        let layer = |o: Range<usize>| (MatrixView::f32(&c.w, n, k).some(o.clone()), (Some(&c.b[o]), Grid::Native));
        let parts = linears(c.x.view(), &[layer(0..n / 3), layer(n / 3..n / 2), layer(n / 2..n)]);
        assert_eq!(bits(&concatenate![Axis(1), parts[0], parts[1], parts[2]]), bits(&y), "C3.3f: {m} {k} {n}");
        let (x, w) = (widen(&c.x), widen(&w));
        let (exact, size) = (x.dot(&w.t()), x.mapv(f64::abs).dot(&w.mapv(f64::abs).t()));
        for ((i, o), &y) in y.indexed_iter() {
            // The f64 reference has an error of the same form.
            let (b, j) = (c.b[o] as f64, 2 * k.div_ceil(BLOCK) + 5);
            let allowed = (gamma::<T>(j) + gamma::<f64>(k + 1)) * (size[[i, o]] + b.abs());
            assert!((y.to_f64() - (exact[[i, o]] + b)).abs() <= allowed, "C3.3c: {m} {k} {n}");
        }
    }

    #[test]
    fn e3_3_worked_example() {
        let y = linear(
            array![[1.0, 2.0], [0.0, 1.0]].view(),
            MatrixView::f32(&[3.0, 4.0, 5.0, 6.0], 2, 2),
            Some(&[0.5, -1.0]),
        );
        assert_eq!(y, array![[11.5, 16.0], [4.5, 5.0]]);
    }

    #[test]
    #[should_panic(expected = "C3.3a")]
    fn c3_3a_other_widths_are_a_bug() {
        linear(array![[1.0, 2.0]].view(), MatrixView::f32(&[3.0], 1, 1), None);
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn c3_3b_c3_3c_equals_its_twin_row_by_row(m in 0usize..32, k in 0usize..150, n in 0usize..70, seed: u64) {
            holds::<f32>(m, k, n, seed);
            holds::<f64>(m, k, n, seed);
        }
    }

    /// Long sums, longer than any block over k.
    #[test]
    fn c3_3c_holds_for_long_rows() {
        for m in (1..=9).chain([13, 23, 24, 25]) {
            holds::<f32>(m, 4864 + 7, 37, m as u64); // few rows process one range of inputs at a time
        }
        holds::<f32>(31, 5000, 37, 1);
        holds::<f64>(3, 4303, 35, 3);
    }

    /// D3.2, C2.1a: bf16 and f16 weights give the same bits as equal weights stored as f32.
    #[test]
    fn d3_2_weights_are_widened_exactly() {
        assert_eq!((bf16::from_bits(0x3fc0).to_f32(), f16::from_bits(0x3e00).to_f32()), (1.5, 1.5));
        let mut rng = Rng(5);
        let (n, k) = (37, 131);
        for (m, k) in [(1, k), (7, k), (7, 2000), (13, 2000), (29, 2000)] {
            let x = rng.matrix::<f32>(m, k, 4.0);
            let b: Vec<bf16> = (0..n * k).map(|_| bf16::from_f32(rng.number(0.5))).collect();
            let h: Vec<f16> = (0..n * k).map(|_| f16::from_f32(rng.number(0.5))).collect();
            let wide_b: Vec<f32> = b.iter().map(|v| v.to_f32()).collect();
            let wide_h: Vec<f32> = h.iter().map(|v| v.to_f32()).collect();
            for (values, wide) in [(Elements::Bf16(&b), &wide_b), (Elements::F16(&h), &wide_h)] {
                let narrow = MatrixView { values, rows: n, cols: k };
                let want = linear(x.view(), MatrixView::f32(wide, n, k), None);
                assert_eq!(bits(&linear(x.view(), narrow, None)), bits(&want));
                let (x, want) = (widen(&x), linear(widen(&x).view(), MatrixView::f32(wide, n, k), None));
                assert_eq!(bits(&linear(x.view(), narrow, None)), bits(&want));
            }
        }
    }

    /// D3.3, C3.3d: rows and weights in bf16 give the bits of the twin, for numbers of any size. Half of the cases have so
    /// few rows that the kernel reads weights in place, without pairs.
    #[test]
    fn c3_3d_pairs_of_bf16_give_the_same_bits() {
        let mut rng = Rng(11);
        for case in 0..500u64 {
            let many = case >= 250;
            let m = if many { 25 + case as usize % 9 } else { 1 + case as usize % 24 };
            let (k, n) = (1 + rng.bits() as usize % 200, 1 + rng.bits() as usize % 40);
            // Of many rows, neighbours have numbers of different sizes, so each panel chooses its own path. In every other
            // case, outputs differ in size too, because a task or a tile chooses its path by its smallest output.
            let of_row = |i: usize| (case + if many { i as u64 / 6 } else { 0 }) % 5;
            let x = Array2::from_shape_fn((m, k), |(i, _)| any_bf16(&mut rng, of_row(i)).to_f32());
            let w: Vec<bf16> =
                (0..n * k).map(|i| any_bf16(&mut rng, (case / 5 + (i / k / 4) as u64 * (case % 2)) % 5)).collect();
            let wide: Vec<f32> = w.iter().map(|v| v.to_f32()).collect();
            let narrow = MatrixView { values: Elements::Bf16(&w), rows: n, cols: k };
            let (y, want) = (
                linear(x.view(), narrow, None),
                naive::linear(x.view(), Array2::from_shape_vec((n, k), wide).unwrap().view(), None),
            );
            for (y, want) in y.iter().zip(&want) {
                assert!(
                    y.to_bits() == want.to_bits() || y.is_nan() && want.is_nan(),
                    "{case}: {m} {k} {n}: {y} {want}"
                );
            }
        }
    }

    /// C3.3c, D3.3: also for long rows, longer than any block over k.
    #[test]
    fn c3_3d_long_rows_of_pairs() {
        let mut rng = Rng(12);
        for (m, k, n) in [(27, 6001, 9), (24, 6001, 9), (7, 6001, 9), (3, 6016, 5)] {
            let x = Array2::from_shape_fn((m, k), |_| any_bf16(&mut rng, 0).to_f32());
            let w: Vec<bf16> = (0..n * k).map(|_| any_bf16(&mut rng, 0)).collect();
            let wide = Array2::from_shape_fn((n, k), |(o, i)| w[o * k + i].to_f32());
            let narrow = MatrixView { values: Elements::Bf16(&w), rows: n, cols: k };
            let y = linear(x.view(), narrow, None);
            assert_eq!(bits(&y), bits(&naive::linear(x.view(), wide.view(), None)), "{m} rows");
        }
    }

    /// A layer in the order of a matrix unit; w: [n, k] in bf16.
    fn in_tiles(x: &Array2<f32>, w: &[bf16], b: Option<&[f32]>) -> Array2<f32> {
        let w = MatrixView { values: Elements::Bf16(w), rows: w.len() / x.ncols(), cols: x.ncols() };
        together(x, &w, b, Grid::Native)
    }

    /// Two layers of the same rows in the order of a matrix unit: the first half of the outputs, and the second.
    fn together(x: &Array2<f32>, w: &MatrixView<'_>, b: Option<&[f32]>, grid: Grid) -> Array2<f32> {
        let layer = |rows: Range<usize>| (w.some(rows.clone()), (b.map(|b| &b[rows]), grid));
        let parts = linears_in_tiles(x.view(), &[layer(0..w.rows / 2), layer(w.rows / 2..w.rows)]);
        concatenate![Axis(1), parts[0], parts[1]]
    }

    #[test]
    fn e3_16_worked_example() {
        let big = 2f32.powi(24);
        let x = array![[big, 1.0, -big, 1.0]];
        assert_eq!(in_tiles(&x, &[bf16::ONE; 4], None), array![[2.0]]);
        assert_eq!(linear(x.view(), MatrixView::f32(&[1.0; 4], 1, 4), None), array![[1.0]]);
        assert_eq!(in_tiles(&x, &[bf16::ONE; 4], Some(&[0.5])), array![[2.5]]);
    }

    /// E3.16: whether a sum is flushed depends on the sum before it is rounded to the steps of small numbers.
    #[test]
    fn e3_16_the_edge_of_the_numbers() {
        let two = |e: i32| 2f32.powi(e);
        let of = |last: f32| {
            let x = array![[two(-63), 0.0, two(-75), 0.0]];
            in_tiles(&x, &[two(-63), 0.0, last, 0.0].map(bf16::from_f32), None)[[0, 0]]
        };
        assert_eq!(of(0.0), two(-126));
        assert_eq!(of(-two(-77)), two(-126)); // 2⁻¹²⁶ − 2⁻¹⁵² is rounded to 2⁻¹²⁶
        assert_eq!(of(-two(-75)), 0.0); // 2⁻¹²⁶ − 2⁻¹⁵⁰ has 24 bits
        assert_eq!(of(-two(-70)), 0.0);
    }

    /// C3.16a, C3.3f: on this machine, by its unit or by plain code; numbers of any size.
    #[test]
    fn c3_16a_tiles_equal_their_twin() {
        let mut rng = Rng(13);
        for case in 0..200u64 {
            let (m, k, n) = (case as usize % 38, 1 + rng.bits() as usize % 200, 1 + rng.bits() as usize % 70);
            let x = Array2::from_shape_fn((m, k), |(i, _)| any_bf16(&mut rng, (case + i as u64) % 5).to_f32());
            let x = if case % 7 == 0 { x.mapv(|v| v * 1.001) } else { x }; // no bf16
            let w: Vec<bf16> = (0..n * k).map(|_| any_bf16(&mut rng, case / 5 % 5)).collect();
            let b = rng.row(n, 1.0);
            let wide = Array2::from_shape_fn((n, k), |(o, i)| w[o * k + i].to_f32());
            let (y, want) = (in_tiles(&x, &w, Some(&b)), naive::linear_in_tiles(x.view(), wide.view(), Some(&b)));
            for (y, want) in y.iter().zip(&want) {
                let same = y.to_bits() == want.to_bits() || y.is_nan() && want.is_nan();
                assert!(same, "{case}: {m} {k} {n}: {y:e} {want:e}");
            }
        }
    }

    /// C3.16b, C3.1b, R3.3.
    #[test]
    fn c3_16b_tiles_are_close_to_the_sum() {
        let mut rng = Rng(14);
        let (m, k, n) = (41, 1003, 70);
        let x = Array2::from_shape_fn((m, k), |_| any_bf16(&mut rng, 0).to_f32());
        let w: Vec<bf16> = (0..n * k).map(|_| any_bf16(&mut rng, 0)).collect();
        let wide = Array2::from_shape_fn((n, k), |(o, i)| f64::from(w[o * k + i].to_f32()));
        let y = in_tiles(&x, &w, None);
        let (exact, size) = (widen(&x).dot(&wide.t()), widen(&x).mapv(f64::abs).dot(&wide.mapv(f64::abs).t()));
        for ((at, &y), size) in y.indexed_iter().zip(&size) {
            let bound = gamma::<f32>(k.div_ceil(BLOCK) + 18) * size + 2.0 * k as f64 * (-126f64).exp2();
            assert!((f64::from(y) - exact[at]).abs() <= bound, "{at:?}");
        }
        assert_eq!(bits(&threads(1, || in_tiles(&x, &w, None))), bits(&y));
        let view = MatrixView { values: Elements::Bf16(&w), rows: n, cols: k };
        assert_eq!(bits(&together(&x, &view, None, Grid::Bf16)), bits(&y.mapv(|v| Grid::Bf16.round(v))));
    }

    /// R3.3: a layer stores its output once, after the bias.
    #[test]
    fn r3_3_a_layer_stores_once_after_the_bias() {
        use aircache::{layer::Linear, pass::Pass, weights::Matrix};
        let layer = Linear {
            weight: Matrix::of_f32(&[1.0], 1, 1),
            bias: Some(vec![2f32.powi(-8)]),
            stored: Default::default(),
        };
        let y = |x: f32| layer.forward(&Pass::new(Grid::Bf16), array![[x]].view())[[0, 0]];
        // If the output were stored before the bias, 1 + 2^-8 would become 1, and the sum 1 + 2^-8 would become 1
        // again.
        assert_eq!(y(1.0 + 2f32.powi(-8)), 1.0 + 2f32.powi(-7));
    }
}

mod soft_max {
    use super::*;
    use aircache::kernel::Stores;

    #[test]
    fn e3_2_worked_example() {
        let mut p = [0.0, 3f64.ln(), f64::NEG_INFINITY];
        softmax(&mut p);
        let allowed = 3.0 * unit::<f64>() + 2.0 * exp_error::<f64>();
        assert!((p[0] - 0.25).abs() <= allowed && (p[1] - 0.75).abs() <= allowed && p[2] == 0.0, "{p:?}");
    }

    #[test]
    fn c3_2a_masked_everywhere_is_zeros() {
        for n in [0, 1, 15, 16, 17, 100] {
            let mut p = vec![f32::NEG_INFINITY; n];
            softmax(&mut p);
            assert_eq!(bits(&p), bits(&vec![0f32; n]));
            assert_eq!(bits(&naive::softmax(&vec![f32::NEG_INFINITY; n])), bits(&p));
        }
    }

    /// The ways in which attention can store its intermediate results.
    fn stores() -> [Stores; 7] {
        let of = |grid, fused, split| Stores { grid, fused, split, ..Stores::default() };
        [
            of(Grid::Native, false, false),
            of(Grid::Native, true, false),
            of(Grid::Native, false, true),
            Stores { chain: true, ..of(Grid::Native, false, false) },
            of(Grid::Bf16, false, false),
            of(Grid::Bf16, true, false),
            of(Grid::F16, false, false),
        ]
    }

    /// A NaN never counts as a mask, for any other numbers in the row.
    #[test]
    fn c3_2c_a_nan_makes_the_whole_row_nan() {
        for n in [1, 15, 16, 17, 100] {
            for other in [0.5, f32::NEG_INFINITY, f32::NAN] {
                for at in [0, n / 2, n - 1] {
                    let mut p = vec![other; n];
                    p[at] = f32::NAN;
                    assert!(naive::softmax(&p).iter().all(|p| p.is_nan()), "{n} {other} {at}");
                    softmax(&mut p);
                    assert!(p.iter().all(|p| p.is_nan()), "{n} {other} {at}");
                }
            }
        }
        let (keys, values) = (vec![1f32; 32], vec![7f32; 32]);
        let mut broken = keys.clone();
        broken[5] = f32::NAN;
        for (keys, q) in [(&keys, f32::NAN), (&broken, 1.0)] {
            let heads = [HeadView { keys, values: &values }];
            for stores in stores() {
                let mix = attention(&[q], 1, &heads, 1, Visible::All, stores, None);
                assert!(mix[0].is_nan(), "{stores:?}");
            }
        }
    }

    /// If every score overflows to −∞, the result is zeros without NaN, for every way in which attention stores.
    #[test]
    fn c3_2a_attention_over_nothing_is_zeros() {
        let (keys, values) = (vec![-1e30f32; 32], vec![7f32; 32]);
        let heads = [HeadView { keys: &keys, values: &values }];
        for stores in stores() {
            for rows in [1, 5] {
                let q = vec![1e30f32; rows];
                let mut received = vec![vec![0f32; 32]];
                let mix = attention(&q, 1, &heads, 1, Visible::All, stores, None);
                assert_eq!(bits(&mix), bits(&vec![0f32; rows]), "{stores:?}");
                let mix = attention(&q, 1, &heads, 1, Visible::All, stores, Some(&mut received));
                assert_eq!(
                    (bits(&mix), bits(&received[0])),
                    (bits(&vec![0f32; rows]), bits(&vec![0f32; 32])),
                    "{stores:?}"
                );
            }
        }
    }

    fn holds<T: Real>(n: usize, masked: usize, seed: u64) {
        let mut rng = Rng(seed);
        let mut s: Vec<T> = rng.row(n, 16.0);
        (0..masked).for_each(|_| s[rng.below(n)] = T::NEG_INFINITY);
        let mut p = s.clone();
        softmax(&mut p);
        assert_eq!(bits(&p), bits(&naive::softmax(&s)), "E3.2: {n}");
        let real: Vec<f64> = s.iter().map(|v| v.to_f64()).collect();
        let (exact, reference) = (naive::softmax(&real), if T::NAME == "f64" { 2.0 } else { 1.01 });
        let finite = || real.iter().filter(|v| v.is_finite());
        let (m, low) = finite().fold((f64::MIN, f64::MAX), |(m, l), &v| (m.max(v), l.min(v)));
        let delta = unit::<T>() * (m - low).max(0.0) + exp_error::<T>(); // all masked: C3.2a
        let allowed = reference * (2.0 * delta + gamma::<T>(n.div_ceil(LANES) + 4) + unit::<T>());
        for (p, e) in p.iter().zip(exact) {
            assert!((p.to_f64() - e).abs() <= allowed * e, "C3.2b: {p} for {e}");
        }
    }

    proptest! {
        #![proptest_config(cases(128))]
        #[test]
        fn c3_2b_equals_its_twin_within_the_bound(n in 1usize..300, masked in 0usize..40, seed: u64) {
            holds::<f32>(n, masked, seed);
            holds::<f64>(n, masked, seed);
        }
    }
}

mod attend {
    use super::*;
    use aircache::kernel::Stores;

    /// The queries and the KV heads of one sequence.
    struct Case<T> {
        q: Array2<T>,
        heads: Vec<(Array2<T>, Array2<T>)>,
        d: usize,
        causal: bool,
    }

    /// Keys in the blocks of the cache. Spec: D3.4
    fn blocked<T: Real>(keys: &Array2<T>) -> Vec<T> {
        let mut blocks = Vec::new();
        keys.outer_iter().enumerate().for_each(|(i, key)| push_key(&mut blocks, i, key.iter().copied()));
        blocks
    }

    fn case<T: Real>(rows: usize, d: usize, group: usize, lens: &[usize], causal: bool, seed: u64) -> Case<T> {
        let mut rng = Rng(seed);
        let q = rng.matrix(rows, d * group * lens.len(), 2.0);
        let heads = lens.iter().map(|&len| (rng.matrix(len, d, 2.0), rng.matrix(len, d, 4.0))).collect();
        Case { q, heads, d, causal }
    }

    impl<T: Real> Case<T> {
        fn run(&self, q: &Array2<T>, grid: Grid, received: Option<&mut [Vec<T>]>) -> Array2<T> {
            let keys: Vec<Vec<T>> = self.heads.iter().map(|(k, _)| blocked(k)).collect();
            let views: Vec<HeadView<'_, T>> = keys
                .iter()
                .zip(&self.heads)
                .map(|(keys, (_, v))| HeadView { keys, values: v.as_slice().unwrap() })
                .collect();
            let visible = if self.causal { Visible::Causal } else { Visible::All };
            let mix = attention(q.as_slice().unwrap(), q.ncols() / self.d, &views, self.d, visible, grid, received);
            Array2::from_shape_vec(q.dim(), mix).unwrap()
        }

        fn zeros(&self) -> Vec<Vec<T>> {
            self.heads.iter().map(|(k, _)| vec![T::ZERO; k.nrows()]).collect()
        }
    }

    /// Attention in bf16 in the order of a matrix unit.
    fn in_tiles(c: &Case<f32>, q: &Array2<f32>) -> Array2<f32> {
        let keys: Vec<Vec<f32>> = c.heads.iter().map(|(k, _)| blocked(k)).collect();
        let views = keys.iter().zip(&c.heads).map(|(keys, (_, v))| HeadView { keys, values: v.as_slice().unwrap() });
        let visible = if c.causal { Visible::Causal } else { Visible::All };
        let stores = Stores { tiles: true, ..Stores::from(Grid::Bf16) };
        let views: Vec<_> = views.collect();
        let mix = attention(q.as_slice().unwrap(), q.ncols() / c.d, &views, c.d, visible, stores, None);
        Array2::from_shape_vec(q.dim(), mix).unwrap()
    }

    /// E3.17, C3.17a, C3.17b: by the unit of this machine or by plain code. The last case is none of bf16 numbers.
    #[test]
    fn e3_17_attention_in_tiles_equals_its_twin() {
        let shapes = [
            (40, 72, 1, vec![60], false, true),
            (3, 64, 7, vec![300, 41], true, true),
            (70, 40, 2, vec![330], true, true),
            (50, 33, 1, vec![50, 257], true, true),
            (1, 8, 3, vec![4200], true, true),
            (20, 16, 2, vec![30], true, false),
        ];
        for (i, (rows, d, group, lens, causal, rounded)) in shapes.into_iter().enumerate() {
            let mut c = case::<f32>(rows, d, group, &lens, causal, 90 + i as u64);
            let round = |a: &mut Array2<f32>| a.mapv_inplace(|v| if rounded { Grid::Bf16.round(v) } else { v });
            round(&mut c.q);
            c.heads.iter_mut().for_each(|(k, v)| [k, v].into_iter().for_each(round));
            let mix = in_tiles(&c, &c.q);
            assert_eq!(bits(&threads(1, || in_tiles(&c, &c.q))), bits(&mix), "C3.1b: {i}");
            for (row, h) in (0..rows).flat_map(|row| (0..c.q.ncols() / d).map(move |h| (row, h))) {
                let (keys, values) = &c.heads[h / group];
                let at = s![..if causal { keys.nrows() + row + 1 - rows } else { keys.nrows() }, ..];
                let q = c.q.slice(s![row, h * d..(h + 1) * d]).to_vec();
                let want = naive::attend_in_tiles(&q, keys.slice(at), values.slice(at));
                assert_eq!(bits(mix.slice(s![row, h * d..(h + 1) * d])), bits(&want), "{i}: row {row}, head {h}");
            }
            let few = c.q.slice(s![rows - rows.min(2).., ..]).to_owned();
            assert_eq!(bits(&in_tiles(&c, &few)), bits(mix.slice(s![rows - rows.min(2).., ..])), "C3.17b: {i}");
        }
    }

    /// C3.17a: a value that is no number reaches only the rows that see it.
    #[test]
    fn c3_17a_unseen_values_have_no_part() {
        let mut c = case::<f32>(20, 32, 1, &[40], true, 97);
        c.q.mapv_inplace(|v| Grid::Bf16.round(v));
        c.heads.iter_mut().for_each(|(k, v)| [k, v].into_iter().for_each(|a| a.mapv_inplace(|v| Grid::Bf16.round(v))));
        let mix = in_tiles(&c, &c.q);
        c.heads[0].1.row_mut(39).fill(f32::INFINITY);
        let other = in_tiles(&c, &c.q);
        assert_eq!(bits(other.slice(s![..19, ..])), bits(mix.slice(s![..19, ..])));
        assert!(other.row(19).iter().all(|v| *v == f32::INFINITY));
    }

    /// E3.4, E3.5, E3.15 equal their twins on every grid; C3.5b; C3.15a; C3.5c.
    fn holds<T: Real>(c: &Case<T>) {
        for grid in GRIDS {
            let (want, want_received) = naive::attention(c.q.view(), &c.heads, c.causal, grid);
            let mix = c.run(&c.q, grid, None);
            assert_eq!(bits(&mix), bits(&want), "E3.5 on {grid:?}");
            let mut received = c.zeros();
            assert_eq!(bits(&c.run(&c.q, grid, Some(&mut received))), bits(&want), "C3.15a on {grid:?}");
            assert_eq!(bits(received.iter().flatten()), bits(want_received.iter().flatten()), "E3.15 on {grid:?}");
        }
        let mix = c.run(&c.q, Grid::Native, None);
        if !c.causal {
            for row in 0..c.q.nrows() {
                let alone = c.run(&c.q.slice(s![row..row + 1, ..]).to_owned(), Grid::Native, None);
                assert_eq!(bits(&alone), bits(mix.row(row)), "C3.5b: row {row}");
            }
        }
        within_bound(c, &mix);
    }

    /// C3.4a, C3.5c: the mix is within its bound of an f64 reference.
    fn within_bound<T: Real>(c: &Case<T>, mix: &Array2<T>) {
        let (group, root) = (c.q.ncols() / c.d / c.heads.len(), (c.d as f64).sqrt());
        for (row, h) in (0..c.q.nrows()).flat_map(|row| (0..c.q.ncols() / c.d).map(move |h| (row, h))) {
            let (keys, values) = &c.heads[h / group];
            let seen = if c.causal { keys.nrows() + row + 1 - c.q.nrows() } else { keys.nrows() };
            let q: Vec<f64> = c.q.slice(s![row, h * c.d..(h + 1) * c.d]).iter().map(|v| v.to_f64()).collect();
            let keys = widen(keys);
            let (mut s, mut largest) = (Vec::with_capacity(seen), 0f64);
            for k in keys.slice(s![..seen, ..]).outer_iter() {
                s.push(naive::score(&q, k.as_slice().unwrap()) / root);
                largest = largest.max(q.iter().zip(k).map(|(q, k)| (q * k).abs()).sum::<f64>() / root);
            }
            let spread = s.iter().fold(f64::MIN, |m, &v| m.max(v)) - s.iter().fold(f64::MAX, |m, &v| m.min(v));
            let error = gamma::<T>(c.d + 2) * largest + unit::<T>() * spread + exp_error::<T>();
            let j = seen.div_ceil(LANES) + seen.div_ceil(256) + 256 + 6;
            let p = naive::softmax(&s);
            for i in 0..c.d {
                let v = |e: usize| values[[e, i]].to_f64();
                let (exact, total) = (0..seen).fold((0.0, 0.0), |(x, t), e| (x + p[e] * v(e), t + p[e] * v(e).abs()));
                let twice = if T::NAME == "f64" { 2.0 } else { 1.0 }; // the reference then has an equal error
                let allowed = twice * ((2.0 * error).exp_m1() + gamma::<T>(j)) * total;
                let got = mix[[row, h * c.d + i]];
                assert!((got.to_f64() - exact).abs() <= allowed, "C3.5c: {got} for {exact}, allowed {allowed:e}");
            }
        }
    }

    proptest! {
        #![proptest_config(cases(24))]

        #[test]
        fn e3_5_e3_15_equal_their_twins_over_a_prefill(
            rows in 1usize..24, before in 0usize..40, d in head_dims(), group in 1usize..4, g in 1usize..3, seed: u64,
        ) {
            let lens = vec![before + rows; g];
            holds::<f32>(&case(rows, d, group, &lens, true, seed));
            holds::<f64>(&case(rows, d, group, &lens, true, seed));
        }

        #[test]
        fn e3_5_equals_its_twin_over_a_ragged_cache(
            lens in prop::collection::vec(0usize..600, 1..3), rows in 1usize..4, d in head_dims(), group in 1usize..4, seed: u64,
        ) {
            holds::<f32>(&case(rows, d, group, &lens, false, seed));
            holds::<f64>(&case(rows, d, group, &lens, false, seed));
        }
    }

    /// D3.5: one row over thousands of entries, which several threads share, beside a head with few entries.
    #[test]
    fn e3_5_equals_its_twin_over_a_long_cache() {
        for (rows, d, group, causal) in [(1, 64, 7, true), (3, 72, 2, false), (2, 24, 9, true)] {
            let lens = if causal { [4801; 2] } else { [4801, 30] };
            holds::<f32>(&case(rows, d, group, &lens, causal, 7));
            holds::<f64>(&case(rows, d, group, &lens, causal, 8));
        }
    }

    #[test]
    fn e3_5_worked_example() {
        let c = Case {
            q: array![[1.0]],
            heads: vec![(array![[0.0], [3f64.ln()]], array![[4.0], [8.0]])],
            d: 1,
            causal: true,
        };
        let mix = c.run(&c.q, Grid::Native, None);
        assert!((mix[[0, 0]] - 7.0).abs() <= 7.0 * (2.0 * exp_error::<f64>() + gamma::<f64>(6)), "{mix}");
    }

    /// R3.5a–R3.5d: exactly the listed results are stored. With 0.75 + 2⁻⁹ …, each rounding changes the result.
    #[test]
    fn r3_5_a_gpu_stores_scores_weights_and_mix() {
        let grid = Grid::Bf16;
        let (q, k) = (1.0 + 2f32.powi(-7), [1.0 + 2f32.powi(-7), 0.5, 0.25]);
        let v = [1.0f32, 2.0, 3.0];
        let r = |x: f32| bf16::from_f32(x).to_f32();
        let s = k.map(|k| r(r(q * k) * 1.0)); // R3.5a, R3.5b
        let e = s.map(|s| Real::exp(s - s.max(r(r(q * k[0]) * 1.0))));
        let total = (e[0] + e[1]) + e[2]; // lanes 0, 1, 2: lane 0 and lane 2 are added first
        let total_in_order = (e[0] + e[2]) + e[1];
        assert!((total - total_in_order).abs() <= 2.0 * f32::EPSILON);
        let m = s[0];
        let e = s.map(|s| Real::exp(s - m));
        let total = (e[0] + e[2]) + e[1];
        let p = e.map(|e| r(e / total)); // R3.5c
        let mix = r(p[2].mul_add(v[2], p[1].mul_add(v[1], p[0] * v[0]))); // R3.5d
        let keys = Array2::from_shape_vec((3, 1), k.to_vec()).unwrap();
        let values = Array2::from_shape_vec((3, 1), v.to_vec()).unwrap();
        let c = Case { q: array![[q]], heads: vec![(keys, values)], d: 1, causal: true };
        assert_eq!(c.run(&c.q, grid, None)[[0, 0]], mix);
    }

    /// C3.5d: in many rows of bf16, registers may hold pairs. The sizes of queries, keys and values let a task use pairs, use
    /// them for a part of its products, or not at all.
    #[test]
    fn c3_5d_pairs_of_bf16_give_the_same_bits() {
        let mut rng = Rng(98);
        let shapes: [(usize, usize, usize, &[usize], bool); 7] = [
            (40, 72, 1, &[61], false),
            (50, 64, 7, &[301, 50], true),
            (70, 40, 2, &[331], true),
            (20, 16, 3, &[600], true),
            (19, 18, 1, &[256, 257, 19], true),
            (16, 33, 2, &[40], true), // odd head sizes and small ones have no pairs
            (18, 14, 2, &[40], false),
        ];
        for (rows, d, group, lens, causal) in shapes {
            let sizes =
                [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 5), (1, 1, 0), (0, 0, 2), (0, 0, 3), (3, 0, 0), (0, 3, 0)];
            for (of_query, of_key, of_value) in sizes {
                let mut any = |rows, kind| Array2::from_shape_fn((rows, d), |_| any_bf16(&mut rng, kind).to_f32());
                let heads: Vec<_> = lens.iter().map(|&len| (any(len, of_key), any(len, of_value))).collect();
                let q = any(rows * group * lens.len(), of_query).into_shape_with_order((rows, d * group * lens.len()));
                let c = Case { q: q.unwrap(), heads, d, causal };
                let (want, _) = naive::attention(c.q.view(), &c.heads, causal, Grid::Bf16);
                for (y, want) in c.run(&c.q, Grid::Bf16, None).iter().zip(&want) {
                    let same = y.to_bits() == want.to_bits() || y.is_nan() && want.is_nan();
                    assert!(same, "{rows} {d} {group} {lens:?} {of_query} {of_key} {of_value}: {y} {want}");
                }
            }
        }
    }

    /// C3.5d: a value that is no number reaches only the rows that see it.
    #[test]
    fn c3_5d_unseen_values_have_no_part() {
        let mut c = case::<f32>(20, 32, 1, &[40], true, 96);
        c.q.mapv_inplace(|v| Grid::Bf16.round(v));
        c.heads.iter_mut().for_each(|(k, v)| [k, v].into_iter().for_each(|a| a.mapv_inplace(|v| Grid::Bf16.round(v))));
        let mix = c.run(&c.q, Grid::Bf16, None);
        c.heads[0].1.row_mut(39).fill(f32::INFINITY);
        let other = c.run(&c.q, Grid::Bf16, None);
        assert_eq!(bits(other.slice(s![..19, ..])), bits(mix.slice(s![..19, ..])));
        assert!(other.row(19).iter().all(|v| *v == f32::INFINITY));
    }

    /// More query heads for each KV head than a block has rows, as in multi-query models.
    #[test]
    fn e3_5_equals_its_twin_for_large_groups() {
        for (rows, group) in [(1, 8), (1, 9), (3, 16), (17, 33)] {
            holds::<f32>(&case(rows, 6, group, &[40, 40], true, 5));
        }
    }

    #[test]
    fn e3_4_worked_example() {
        let allowed = |size: f64| gamma::<f64>(4) * size; // C3.4a
        let s = [[3.0, 4.0], [1.0, 0.0]].map(|k| naive::score(&[1.0, 2.0], &k) * scale::<f64>(2));
        assert!((s[0] - 11.0 / 2f64.sqrt()).abs() <= allowed(s[0]) && (s[1] - 0.5f64.sqrt()).abs() <= allowed(s[1]));
    }

    #[test]
    fn e3_15_worked_example() {
        let heads = vec![(array![[1.0], [2.0]], array![[0.0], [0.0]])];
        let c = Case { q: array![[0.0], [0.0]], heads, d: 1, causal: true };
        let mut received = c.zeros();
        c.run(&c.q, Grid::Native, Some(&mut received));
        assert_eq!(received, [[1.5, 0.5]]);
    }

    #[test]
    fn d3_4_worked_example() {
        let keys = blocked(&array![[1.0, 2.0], [3.0, 4.0]]);
        let mut want = vec![0.0; 32];
        (want[0], want[1], want[16], want[17]) = (1.0, 3.0, 2.0, 4.0);
        assert_eq!(keys, want);
        let mut rng = Rng(9);
        for (len, d) in [(1, 1), (16, 3), (17, 64), (40, 5)] {
            let rows = rng.matrix::<f32>(len, d, 1.0);
            let keys = blocked(&rows);
            assert_eq!(keys.len(), len.div_ceil(LANES) * d * LANES);
            rows.indexed_iter().for_each(|((e, i), &v)| assert_eq!(key_at(&keys, d, e, i), v));
        }
    }

    #[test]
    fn d3_5_worked_example() {
        let mut values = Array2::from_elem((258, 1), 0f32);
        (values[[0, 0]], values[[256, 0]], values[[257, 0]]) = (2f32.powi(24), 1.0, 1.0);
        assert_eq!(naive::mix(&[1.0; 258], &values.column(0).to_vec()), 2f32.powi(24) + 2.0);
        // All scores are equal, so the weights are exp(0) = 1, and the kernel's mix is that sum over 258.
        let c = Case { q: array![[0f32]], heads: vec![(Array2::from_elem((258, 1), 0.0), values)], d: 1, causal: true };
        assert_eq!(c.run(&c.q, Grid::Native, None)[[0, 0]], (2f32.powi(24) + 2.0) / 258.0);
    }

    #[test]
    fn c3_5a_a_row_that_sees_nothing_gives_zeros() {
        for grid in GRIDS {
            let c = case::<f32>(3, 8, 2, &[0, 5], false, 1);
            let mix = c.run(&c.q, grid, Some(&mut c.zeros()));
            assert!(mix.slice(s![.., ..16]).iter().all(|v| v.to_bits() == 0));
            assert!(mix.slice(s![.., 16..]).iter().all(|v| *v != 0.0));
        }
        assert!(case::<f64>(0, 8, 1, &[4], false, 1).run(&Array2::zeros((0, 8)), Grid::Native, None).is_empty());
    }

    /// C3.5b: if the last rows of a causal call run alone, they see the same entries and give the same bits.
    #[test]
    fn c3_5b_chunks_of_a_prefill_give_the_bits_of_the_whole() {
        let c = case::<f32>(50, 72, 3, &[50, 50], true, 4);
        for grid in GRIDS {
            let whole = c.run(&c.q, grid, None);
            for first in [0, 1, 7, 8, 33, 49] {
                let rows = c.run(&c.q.slice(s![first.., ..]).to_owned(), grid, None);
                assert_eq!(bits(&rows), bits(whole.slice(s![first.., ..])), "from row {first}");
            }
        }
    }

    /// Online softmax over blocks of 64 keys, for A3.5.
    fn online(q: &[f32], keys: &Array2<f32>, values: &Array2<f32>) -> Vec<f32> {
        let (mut m, mut total, mut out) = (f32::NEG_INFINITY, 0f32, vec![0f32; q.len()]);
        for first in (0..keys.nrows()).step_by(64) {
            let range = first..keys.nrows().min(first + 64);
            let s: Vec<f32> =
                range.clone().map(|e| naive::score(q, &keys.row(e).to_vec()) * scale::<f32>(q.len())).collect();
            let grown = s.iter().fold(m, |m, &s| m.max(s));
            let shrink = Real::exp(m - grown);
            let e: Vec<f32> = s.iter().map(|&s| Real::exp(s - grown)).collect();
            total = total * shrink + naive::sum(&e);
            for (i, o) in out.iter_mut().enumerate() {
                let column: Vec<f32> = range.clone().map(|e| values[[e, i]]).collect();
                *o = *o * shrink + naive::mix(&e, &column);
            }
            m = grown;
        }
        out.iter().map(|o| o / total).collect()
    }

    #[test]
    fn a3_5_two_sweeps_against_online() {
        let c = case::<f32>(64, 64, 1, &[1000], false, 11);
        let wide = Case {
            q: widen(&c.q),
            heads: c.heads.iter().map(|(k, v)| (widen(k), widen(v))).collect(),
            d: 64,
            causal: false,
        };
        let exact = wide.run(&wide.q, Grid::Native, None);
        let (two, size) = (c.run(&c.q, Grid::Native, None), exact.iter().fold(0f64, |m, v| m.max(v.abs())));
        let (keys, values) = &c.heads[0];
        let mut worst = [0f64; 2];
        for (row, q) in c.q.outer_iter().enumerate() {
            let one = online(&q.to_vec(), keys, values);
            for i in 0..64 {
                let off = |v: f32| (v as f64 - exact[[row, i]]).abs() / size;
                worst = [worst[0].max(off(two[[row, i]])), worst[1].max(off(one[i]))];
            }
        }
        println!("relative to the largest: two sweeps {:.1e}, online {:.1e}", worst[0], worst[1]);
        within_bound(&c, &two);
        assert!(worst[0] <= 2.0 * worst[1], "the choice costs no accuracy: {worst:?}");
    }
}

mod norms {
    use super::*;

    #[test]
    fn e3_10_worked_example() {
        let y = rms_norm(array![[1.0, 7.0]].view(), &[1.0, 2.0], 0.0, [Grid::Native, Grid::Native]);
        let near = |y: f64, want: f64| (y - want).abs() <= gamma::<f64>(13) * want; // C3.10a
        assert!(near(y[[0, 0]], 0.2) && near(y[[0, 1]], 2.8), "{y}");
    }

    #[test]
    fn e3_11_worked_example() {
        let y = layer_norm(array![[1.0, 3.0]].view(), &[1.0, 2.0], &[0.0, 1.0], 0.0, Grid::Native);
        assert_eq!(y, array![[-1.0, 3.0]]);
    }

    /// R3.10: the normalised element is stored before it is multiplied by the weight; the product is not stored.
    #[test]
    fn r3_10_the_normalised_element_is_stored_before_the_weight() {
        let x = array![[1f32, 0.3]];
        let y = rms_norm(x.view(), &[3.0, 3.0], 0.0, [Grid::Bf16, Grid::Native]);
        let scale = 1.0 / ((1f32 + 0.3 * 0.3) / 2.0).sqrt();
        assert_eq!(y[[0, 1]], bf16::from_f32(0.3 * scale).to_f32() * 3.0);
    }

    fn holds<T: Real>(rows: usize, d: usize, seed: u64) {
        let mut rng = Rng(seed);
        let (x, shift) = (rng.matrix::<T>(rows, d, 4.0), rng.number::<T>(2.0));
        let x = x.mapv(|v| v + shift);
        let (w, b): (Vec<f32>, Vec<f32>) = (rng.row(d, 2.0), rng.row(d, 1.0));
        let of = |v: &[f32]| v.iter().map(|&v| T::of_f32(v)).collect::<Vec<T>>();
        let f64s = |v: &[f32]| v.iter().map(|&v| v as f64).collect::<Vec<f64>>();
        let (eps, eps64) = (1e-6, T::of(1e-6).to_f64());
        let layer = layer_norm(x.view(), &w, &b, eps, Grid::Native);
        for grid in GRIDS {
            let y = rms_norm(x.view(), &w, eps, [grid, Grid::Native]);
            for (y, x) in y.outer_iter().zip(x.outer_iter()) {
                assert_eq!(bits(y), bits(&naive::rms_norm(&x.to_vec(), &of(&w), eps, grid)), "E3.10 on {grid:?}");
            }
        }
        let root = rms_norm(x.view(), &w, eps, [Grid::Native, Grid::Native]);
        let twice = if T::NAME == "f64" { 2.0 } else { 1.01 }; // the reference's own error
        for (i, row) in x.outer_iter().enumerate() {
            assert_eq!(bits(layer.row(i)), bits(&naive::layer_norm(&row.to_vec(), &of(&w), &of(&b), eps)), "E3.11");
            let x: Vec<f64> = row.iter().map(|v| v.to_f64()).collect();
            let exact = naive::rms_norm(&x, &f64s(&w), eps64, Grid::Native);
            for (y, e) in root.row(i).iter().zip(exact) {
                let allowed = twice * gamma::<T>(d.div_ceil(LANES) + 12) * e.abs();
                assert!((y.to_f64() - e).abs() <= allowed, "C3.10a: {y} for {e}");
            }
            let n = d as f64;
            let mean = x.iter().sum::<f64>() / n;
            let c = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + eps64).sqrt();
            let j = d.div_ceil(LANES) + 6;
            let largest = x.iter().fold(0f64, |m, v| m.max(v.abs()));
            let error = gamma::<T>(j) * x.iter().map(|v| v.abs()).sum::<f64>() / n + unit::<T>() * largest;
            // The bound holds to first order. If the error hides the deviation (d = 1, equal elements), there is no
            // statement.
            if error * c > 1e-3 {
                continue;
            }
            for (k, e) in naive::layer_norm(&x, &f64s(&w), &f64s(&b), eps64).into_iter().enumerate() {
                let (w, deviation) = ((w[k] as f64).abs(), (x[k] - mean).abs() * c);
                let allowed =
                    4.0 * error * c * w * (1.0 + deviation) + gamma::<T>(j + 9) * (deviation * w + b[k].abs() as f64);
                assert!((layer[[i, k]].to_f64() - e).abs() <= twice * allowed, "C3.11a: {} for {e}", layer[[i, k]]);
            }
        }
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn c3_10a_c3_11a_norms_equal_their_twins_within_the_bound(rows in 0usize..5, d in 1usize..300, seed: u64) {
            holds::<f32>(rows, d, seed);
            holds::<f64>(rows, d, seed);
        }
    }

    /// A3.10, A3.2: the other reading is f32 inside an f64 run. It changes a norm and a softmax by no more than f32's
    /// own rounding error: the bounds C3.10a and C3.2b.
    #[test]
    fn a3_10_a3_2_the_other_reading_differs_by_f32_rounding() {
        let mut rng = Rng(31);
        let (x, w) = (rng.matrix::<f64>(4, 192, 4.0), rng.row::<f32>(192, 2.0));
        let truth = rms_norm(x.view(), &w, 0.0, [Grid::Native, Grid::Native]);
        let cast = rms_norm(x.mapv(|v| v as f32).view(), &w, 0.0, [Grid::Native, Grid::Native]);
        let off =
            truth.iter().zip(&cast).map(|(&t, &c)| (c as f64 - t).abs() / t.abs().max(1e-300)).fold(0.0, f64::max);
        assert!(off > unit::<f64>() * 100.0 && off <= 1.01 * gamma::<f32>(192 / 16 + 12), "norm: {off:e}");
        let (mut p, mut narrow) = (x.row(0).to_vec(), x.row(0).mapv(|v| v as f32).to_vec());
        softmax(&mut p);
        softmax(&mut narrow);
        let delta = 8.0 * unit::<f32>() + exp_error::<f32>();
        let allowed = 1.01 * (2.0 * delta + gamma::<f32>(192 / 16 + 4) + unit::<f32>());
        let worst = p.iter().zip(&narrow).map(|(&p, &n)| (n as f64 - p).abs() / p).fold(0.0, f64::max);
        println!("relative difference: norm {off:.1e}, softmax {worst:.1e}");
        assert!(worst > unit::<f64>() * 100.0 && worst <= allowed, "softmax: {worst:e}");
    }

    /// R3.11: the layer norm itself stores nothing; the tower stores its result.
    #[test]
    fn r3_11_a_layer_norm_is_stored_by_its_layer() {
        let y = layer_norm(array![[1f32, 2.0, 4.0]].view(), &[1.0; 3], &[0.0; 3], 0.0, Grid::Native);
        let stored = aircache::pass::Pass::new(Grid::Bf16).store(y.clone());
        assert!(y.iter().zip(&stored).all(|(y, s)| bf16::from_f32(*y).to_f32() == *s));
        assert!(y.iter().zip(&stored).any(|(y, s)| y != s));
    }
}

mod activations {
    use super::*;

    const ALL: [Activation; 5] =
        [Activation::Silu, Activation::QuickGelu, Activation::GeluTanh, Activation::GeluErf, Activation::Relu];

    fn run<T: Real>(x: &[T], activation: Activation) -> Vec<T> {
        let mut y = Array2::from_shape_vec((1, x.len()), x.to_vec()).unwrap();
        activate(&mut y, activation, Grid::Native);
        y.into_raw_vec_and_offset().0
    }

    /// C3.6a, C3.7a, C3.8a, C3.9a: the twin and the bound of an activation at x; none if the statement does not cover
    /// x.
    fn bound<T: Real>(x: f64, activation: Activation) -> Option<(f64, f64)> {
        let (u, f64_too) = (unit::<T>(), T::NAME == "f64");
        // In f64 the reference, a few correctly rounded libm steps, has an error too: 5 u, and 3 u |z| from its
        // exponent.
        let (most, few, reference) = if f64_too { (708.0, 7.0 + 5.0, 3.0) } else { (88.0, 5.0, 0.0) };
        let t = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        let (value, z, per) = match activation {
            Activation::Silu => (naive::silu(x), -x, 0.0),
            Activation::QuickGelu => (naive::quick_gelu(x), -1.702 * x, 2.0 + reference),
            // In the tanh form, the reference's 1 + tanh t cancels below 0, so the reference there is e^t / (e^t +
            // e^-t).
            Activation::GeluTanh => (x / (1.0 + libm::exp(-2.0 * t)), -2.0 * t, 10.0 + reference),
            Activation::GeluErf => return Some((naive::gelu_erf(x), (if f64_too { 6.0 } else { 4.0 }) * u * x.abs())),
            Activation::Relu => return Some((x.max(0.0), 0.0)),
        };
        (z <= most).then(|| (value, (per * z.abs() + few) * u * value.abs()))
    }

    fn holds<T: Real>(x: &[T], activation: Activation) -> f64 {
        let mut worst = 0f64;
        for (&x, y) in x.iter().zip(run(x, activation)) {
            let Some((value, allowed)) = bound::<T>(x.to_f64(), activation) else {
                assert!(y.to_f64() <= 0.0 && y.to_f64() >= -6e-37, "{activation:?}({x}) = {y}");
                continue;
            };
            let off = (y.to_f64() - value).abs();
            assert!(off <= allowed, "{activation:?}({x}) = {y}, not {value}: {off:e} over {allowed:e}");
            worst = if value == 0.0 { worst } else { worst.max(off / value.abs() / unit::<T>()) };
        }
        worst
    }

    #[test]
    fn c3_6a_c3_7a_c3_8a_c3_9a_activations_are_within_their_bounds() {
        let mut rng = Rng(21);
        for activation in ALL {
            for size in [2f64.powi(-30), 0.25, 8.0, 128.0, 1024.0] {
                let worst = holds::<f32>(&rng.row(20_001, size), activation);
                let worst64 = holds::<f64>(&rng.row(20_001, size), activation);
                println!("{activation:?} to ±{size}: worst relative error {worst:.2} u in f32, {worst64:.2} u in f64");
            }
        }
        assert_eq!(bits(&[aircache::num::silu(-100f32)]), bits(&[-0f32]), "C3.6a: past the exponential's range");
    }

    /// T3.6: worked examples of E3.6–E3.9; relu keeps numbers above 0.
    #[test]
    fn e3_6_e3_7_e3_8_e3_9_t3_6_worked_examples() {
        let ln3 = 3f64.ln();
        let near = |y: f64, want: f64| (y - want).abs() <= 1e-15;
        assert!(near(run(&[ln3], Activation::Silu)[0], 0.75 * ln3));
        assert!(near(run(&[ln3 / 1.702], Activation::QuickGelu)[0], 0.75 * ln3 / 1.702));
        assert!(run(&[1.0], Activation::GeluTanh)[0].to_string().starts_with("0.841191"));
        assert!(run(&[1.0], Activation::GeluErf)[0].to_string().starts_with("0.841344"));
        assert_eq!(run(&[-2.0, 0.0, 3.0], Activation::Relu), [0.0, 0.0, 3.0]);
        assert!(near(naive::gelu_tanh(1.0), run(&[1.0], Activation::GeluTanh)[0]));
    }

    /// A transposed array is not contiguous; the numbers are the same.
    #[test]
    fn e3_6_does_not_depend_on_the_layout() {
        let mut rng = Rng(22);
        let x = rng.matrix::<f32>(37, 5, 4.0);
        for activation in ALL {
            let (mut rows, mut columns) = (x.clone(), x.t().as_standard_layout().reversed_axes().to_owned());
            activate(&mut rows, activation, Grid::Native);
            activate(&mut columns, activation, Grid::Native);
            assert_eq!(bits(&rows), bits(&columns));
        }
    }

    /// R3.6: the function itself stores nothing; the MLP stores the function's result.
    #[test]
    fn r3_6_activations_are_stored_by_the_mlp() {
        use aircache::{layer::Linear, layer::Mlp, pass::Pass, weights::Matrix};
        let one = || Linear { weight: Matrix::of_f32(&[1.0], 1, 1), bias: None, stored: Default::default() };
        let mlp = Mlp { fc1: one(), activation: Activation::Silu, fc2: one() };
        let y = mlp.forward(&Pass::<f32>::new(Grid::Bf16), array![[1.5]])[[0, 0]];
        assert_eq!(y, bf16::from_f32(aircache::num::silu(1.5f32)).to_f32());
        assert_ne!(y, aircache::num::silu(1.5f32));
    }
}

mod rotary {
    use super::*;

    #[test]
    fn e3_12_worked_example() {
        assert_eq!(inverse_frequencies(10000.0, 4), [1.0, 0.01]);
        let f = Frequencies::new(10000.0, 4);
        let of = |turn| Angles::<f64>::new((1, 2), &f, |_, i| (i, 3), turn, Grid::Native);
        assert_eq!(of(Turn::Exact).cos[[0, 0]], libm::cos(3.0));
        assert!((of(Turn::Exact).sin[[0, 1]] - libm::sin(0.03)).abs() < 1e-17);
        assert_eq!(of(Turn::Rounded).sin[[0, 1]], libm::sin((3.0f32 * 0.01) as f64));
        assert_eq!(of(Turn::Chain).sin[[0, 1]], libm::sin((3.0f32 * 0.01) as f64));
        assert_eq!((Turn::of::<f64>(), Turn::of::<f32>()), (Turn::Exact, Turn::Rounded));
    }

    /// D10.11: what transformers and llama.cpp compute is within the slack, for usual bases and head sizes; half a
    /// position more, or another base, is not.
    #[test]
    fn d10_11_honest_angles_are_within_the_slack() {
        for (theta, d) in [(1e4, 32), (1e4, 128), (1e6, 64), (1e6, 128), (5e6, 128), (1e4, 96), (1e6, 80)] {
            let (f, other) = (Frequencies::new(theta, d), Frequencies::new(1.01 * theta, d));
            for position in [1, 7, 100, 2600, 32_000] {
                let apart = |i: usize, angle: f64| (angle - f.angle(Turn::Exact, position, i)).abs();
                for i in 0..d / 2 {
                    for turn in [Turn::Rounded, Turn::Chain] {
                        assert!(
                            apart(i, f.angle(turn, position, i)) <= f.slack(position, i),
                            "{theta} {d} {i} {turn:?}"
                        );
                    }
                }
                let half = 0.5 * f.angle(Turn::Exact, 1, 0);
                assert!(half > 40.0 * f.slack(position, 0), "{theta} {position}");
                let i = d / 4;
                assert!(apart(i, other.angle(Turn::Exact, position, i)) > 10.0 * f.slack(position, i), "{theta} {d}");
            }
        }
    }

    #[test]
    fn c3_12a_frequencies_equal_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rotary/inv_freq.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (mut numbers, mut other) = (0, 0);
        for case in cases.as_array().unwrap() {
            let got = inverse_frequencies(case["theta"].as_f64().unwrap(), case["dim"].as_u64().unwrap() as usize);
            let want: Vec<u32> = case["bits"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u32).collect();
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(want) {
                assert!(got.to_bits().abs_diff(want) <= 1, "{case}");
                numbers += 1;
                other += usize::from(got.to_bits() != want);
            }
        }
        println!("{other} of {numbers} frequencies one ULP away");
        assert!(numbers == 696 && other <= 2, "{other} of {numbers}");
    }

    /// A3.12, C3.12b: every precision but the truth has the same f32 angles; the truth's are exact, and so is a run in
    /// f64 that is asked for f32 angles.
    #[test]
    fn c3_12b_a3_12_only_the_truth_has_exact_angles() {
        let f = Frequencies::new(1e6, 128);
        fn of<T: Real>(f: &Frequencies, turn: Turn) -> Angles<T> {
            Angles::new((4096, 64), f, |row, i| (i, row as i64), turn, Grid::Native)
        }
        let (fast, wide, truth) =
            (of::<f32>(&f, Turn::Rounded), of::<f64>(&f, Turn::Rounded), of::<f64>(&f, Turn::Exact));
        assert!(fast.cos.iter().zip(&wide.cos).all(|(&a, &b)| a == b as f32));
        assert!(fast.sin.iter().zip(&wide.sin).all(|(&a, &b)| a == b as f32));
        let real = |row: usize, i: usize| row as f64 / libm::pow(1e6, 2.0 * i as f64 / 128.0);
        let off = |angles: &Angles<f64>, row: usize| {
            (0..64).fold(0f64, |m, i| m.max((angles.sin[[row, i]] - real(row, i).sin()).abs()))
        };
        let worst = |angles: &Angles<f64>| (0..=700).map(|row| off(angles, row)).fold(0.0, f64::max);
        println!("to position 700, sines of f32 angles are off from real ones by up to {:.1e}", worst(&wide));
        assert!(worst(&wide) > 1e-6 && worst(&wide) < 1e-4, "{:e}", worst(&wide));
        assert!(worst(&truth) < 1e-12, "{:e}", worst(&truth));
    }

    #[test]
    fn r3_12_cosines_are_stored() {
        let f = Frequencies::new(1e4, 2);
        let angles = Angles::<f32>::new((3, 1), &f, |row, i| (i, row as i64), Turn::Rounded, Grid::Bf16);
        assert_eq!(angles.cos[[2, 0]], bf16::from_f64(libm::cos(2.0)).to_f32());
        assert_eq!(angles.sin[[2, 0]], bf16::from_f64(libm::sin(2.0)).to_f32());
    }

    #[test]
    fn e3_13_worked_example() {
        let angles = Angles { cos: array![[0.6]], sin: array![[0.8]] };
        let mut x = array![[5.0, 10.0]];
        angles.rotate(x.view_mut(), 2, Grid::Native);
        assert_eq!(x, array![[-5.0, 10.0]]);
    }

    /// R3.13: four products and two sums.
    #[test]
    fn r3_13_products_are_stored_before_they_are_added() {
        let r = |x: f32| bf16::from_f32(x).to_f32();
        let (c, s, a, b) = (r(0.6), r(0.8), r(1.7), r(-2.3));
        let angles = Angles { cos: array![[c]], sin: array![[s]] };
        let mut x = array![[a, b]];
        angles.rotate(x.view_mut(), 2, Grid::Bf16);
        assert_eq!(x, array![[r(r(a * c) - r(b * s)), r(r(b * c) + r(a * s))]]);
    }

    fn holds<T: Real>(rows: usize, heads: usize, half: usize, seed: u64) {
        let (mut rng, d) = (Rng(seed), 2 * half);
        let x = rng.matrix::<T>(rows, heads * d, 4.0);
        for grid in GRIDS {
            let f = Frequencies::new(1e4, d);
            let angles = Angles::new((rows, half), &f, |row, i| (i, 17 * row as i64), Turn::of::<T>(), grid);
            let mut y = x.clone();
            angles.rotate(y.view_mut(), d, grid);
            for (row, y) in y.outer_iter().enumerate() {
                let (cos, sin) = (angles.cos.row(row).to_vec(), angles.sin.row(row).to_vec());
                for h in 0..heads {
                    let head = x.slice(s![row, h * d..(h + 1) * d]).to_vec();
                    let got = y.slice(s![h * d..(h + 1) * d]);
                    assert_eq!(bits(got), bits(&naive::rotate(&head, &cos, &sin, grid)), "E3.13 on {grid:?}");
                    if grid == Grid::Native {
                        for i in 0..half {
                            let [a, b, c, s] = [head[i], head[half + i], cos[i], sin[i]].map(Real::to_f64);
                            let twice = if T::NAME == "f64" { 2.0 } else { 1.0 };
                            let near = |y: T, exact: f64, size: f64| {
                                assert!((y.to_f64() - exact).abs() <= twice * gamma::<T>(2) * size, "C3.13a");
                            };
                            near(got[i], a * c - b * s, (a * c).abs() + (b * s).abs());
                            near(got[half + i], b * c + a * s, (b * c).abs() + (a * s).abs());
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn c3_13a_rotation_equals_its_twin(rows in 0usize..9, heads in 1usize..4, half in 1usize..65, seed: u64) {
            holds::<f32>(rows, heads, half, seed);
            holds::<f64>(rows, heads, half, seed);
        }
    }
}

mod patch {
    use super::*;

    #[test]
    fn e3_14_worked_example() {
        let pixels = Array4::from_shape_fn((1, 1, 2, 4), |(_, _, y, x)| (4 * y + x) as f32);
        assert_eq!(patches::<f64>(pixels.view(), 2), array![[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]);
    }

    proptest! {
        #![proptest_config(cases(64))]
        /// C3.14a: if a side is not a multiple of the patch size, the remaining pixels are not read.
        #[test]
        fn c3_14a_patches_equal_their_twin(
            tiles in 0usize..3, c in 1usize..4, h in 1usize..20, w in 1usize..20, p in 1usize..8,
        ) {
            let pixels = Array4::from_shape_fn((tiles, c, h, w), |(t, c, y, x)| (((t * 3 + c) * 20 + y) * 20 + x) as f32);
            let (got, want) = (patches::<f32>(pixels.view(), p), naive::patches::<f32>(pixels.view(), p));
            prop_assert_eq!(got.dim(), (tiles * (h / p) * (w / p), c * p * p));
            prop_assert!(got.axis_iter(Axis(0)).zip(&want).all(|(got, want)| got.iter().eq(want)));
        }
    }

    /// R3.14: the tower stores its pixels before the embedding reads them.
    #[test]
    fn r3_14_patches_are_stored() {
        let pixels = Array4::from_elem((1, 1, 1, 1), 1.0 + 2f32.powi(-8));
        let pass = aircache::pass::Pass::<f32>::new(Grid::Bf16);
        assert_eq!(pass.store(patches::<f32>(pixels.view(), 1))[[0, 0]], 1.0);
    }
}

/// One run of every kernel, as bits. The run is large enough to use all blocks, tiles and remainders.
fn everything<T: Real>() -> Vec<u64> {
    let mut rng = Rng(77);
    let mut all = Vec::new();
    for (m, k, n) in [(1, 300, 77), (13, 2500, 70)] {
        let (x, w) = (rng.matrix::<T>(m, k, 2.0), rng.row::<f32>(n * k, 0.25));
        all.extend(bits(&linear(x.view(), MatrixView::f32(&w, n, k), None)));
    }
    let (x, w) = (rng.matrix::<T>(9, 173, 2.0), rng.row::<f32>(173, 2.0));
    all.extend(bits(&rms_norm(x.view(), &w, 1e-6, [Grid::Native, Grid::Native])));
    all.extend(bits(&layer_norm(x.view(), &w, &w, 1e-6, Grid::Native)));
    for activation in [Activation::Silu, Activation::QuickGelu, Activation::GeluTanh, Activation::GeluErf] {
        let mut y = x.clone();
        activate(&mut y, activation, Grid::Native);
        all.extend(bits(&y));
    }
    for rows in [1, 40] {
        let (d, q) = (72, rng.matrix::<T>(rows, 4 * 72, 2.0));
        let heads: Vec<(Vec<T>, Array2<T>)> = (0..2)
            .map(|_| {
                let (keys, values) = (rng.matrix::<T>(313, d, 1.0), rng.matrix::<T>(313, d, 1.0));
                let mut blocks = Vec::new();
                keys.outer_iter().enumerate().for_each(|(i, k)| push_key(&mut blocks, i, k.iter().copied()));
                (blocks, values)
            })
            .collect();
        let views: Vec<_> = heads.iter().map(|(keys, v)| HeadView { keys, values: v.as_slice().unwrap() }).collect();
        for grid in GRIDS {
            let q = q.as_slice().unwrap();
            all.extend(bits(&attention(q, 4, &views, d, Visible::Causal, grid, None)));
            let mut received = vec![vec![T::ZERO; 313]; 2];
            all.extend(bits(&attention(q, 4, &views, d, Visible::Causal, grid, Some(&mut received))));
            all.extend(bits(received.iter().flatten()));
        }
    }
    let mut s = x.row(0).to_vec();
    softmax(&mut s);
    all.extend(bits(&s));
    let f = Frequencies::new(1e4, 2);
    let angles = Angles::new((9, 1), &f, |row, i| (i, row as i64), Turn::of::<T>(), Grid::Native);
    let mut x = x.slice(s![.., ..172]).to_owned();
    angles.rotate(x.view_mut(), 2, Grid::Native);
    all.extend(bits(&x));
    all
}

/// C3.1a, C3.1b. This is a single test, because the instruction set is chosen for the whole process; other tests do not
/// depend on the set.
#[test]
fn d3_1_c3_1a_c3_1b_every_instruction_set_and_any_number_of_threads_give_the_same_bits() {
    let want = (everything::<f32>(), everything::<f64>());
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        isa.force().unwrap();
        assert!((everything::<f32>(), everything::<f64>()) == want, "C3.1a: {}", isa.name());
    }
    Isa::ALL.into_iter().filter(|isa| isa.available()).max().unwrap().force().unwrap();
    for n in [1, 2, 3, 5] {
        assert!(threads(n, || (everything::<f32>(), everything::<f64>())) == want, "C3.1b: {n} threads");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.available()) {
        assert!(isa.force().unwrap_err().expected.contains("this CPU"));
    }
}
