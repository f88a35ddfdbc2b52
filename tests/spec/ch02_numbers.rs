//! Chapter 02: containers, orders of sums, exp, grids.

use crate::common::numbers::{Rng, bits, cases, gamma};
use aircache::kernel::naive;
use aircache::num::{BLOCK, Grid, LANES, Real, dot, dot_in_order, fold, pack, sum};
use half::{bf16, f16};
use proptest::prelude::*;
use rayon::prelude::*;

/// Packs both rows and computes their dot product, as a linear layer does.
fn packed_dot<T: Real>(x: &[T], w: &[T]) -> T {
    let mut both = [x, w].map(|row| {
        let mut packed = vec![T::of(7.0); row.len().div_ceil(BLOCK) * BLOCK];
        pack(row, |v| v, &mut packed);
        packed
    });
    let (x, w) = both.split_at_mut(1);
    dot(&x[0], &w[0])
}

/// C2.1a: of_f32 is exact, and every bf16 and f16 is an f32.
#[test]
fn d2_1_numbers_enter_a_container_exactly() {
    assert_eq!(<f32 as Real>::of(0.1).to_f64(), 0.100_000_001_490_116_12);
    for bits in 0..=u16::MAX {
        for x in [bf16::from_bits(bits).to_f32(), f16::from_bits(bits).to_f32()] {
            if !x.is_nan() {
                assert_eq!((f64::of_f32(x), f32::of_f32(x)), (x as f64, x));
            }
        }
    }
}

/// C2.1b: a number half way between two neighbours is rounded to the even neighbour; subnormal numbers are not flushed.
#[test]
fn c2_1b_arithmetic_is_ieee() {
    let (one, half_ulp) = (std::hint::black_box(1f32), 2f32.powi(-24));
    assert_eq!((one + half_ulp, (one + 2.0 * half_ulp) + half_ulp), (1.0, 1.0 + 4.0 * half_ulp));
    let small = std::hint::black_box(f32::MIN_POSITIVE);
    assert!(small / 4.0 > 0.0 && small / 4.0 * 4.0 == small);
}

#[test]
fn d2_2_fused_multiply_add_rounds_once() {
    let a = 1.0 + 2f32.powi(-12);
    let c = 1.0 + 2f32.powi(-11);
    assert_eq!(Real::mul_add(a, a, -c), 2f32.powi(-24));
    assert_eq!(std::hint::black_box(a * a) - c, 0.0);
}

#[test]
fn d2_3_worked_example() {
    let row: Vec<f64> = (0..34).map(f64::from).collect();
    let mut packed = vec![-1.0; 64];
    pack(&row, |v| v, &mut packed);
    let odd = (0..16).map(|j| 2.0 * j as f64 + 1.0);
    let even = (0..16).map(|j| 2.0 * j as f64);
    let rest = |first: f64| std::iter::once(first).chain(std::iter::repeat_n(0.0, 15));
    let want: Vec<f64> = odd.chain(even).chain(rest(33.0)).chain(rest(32.0)).collect();
    assert_eq!(packed, want);
}

fn order_example<T: Real>() -> (Vec<T>, Vec<T>) {
    let mut x = vec![T::ZERO; 34];
    (x[0], x[32], x[33]) = (T::of(2f64.powi(24)), T::of(-(2f64.powi(24))), T::ONE);
    (x, vec![T::ONE; 34])
}

#[test]
fn e2_4_worked_example_shows_the_order() {
    let ((x, w), (x64, w64)) = (order_example::<f32>(), order_example::<f64>());
    assert_eq!((packed_dot(&x, &w), dot_in_order(&x, &w)), (0.0, 0.0));
    assert_eq!((packed_dot(&x64, &w64), dot_in_order(&x64, &w64)), (1.0, 1.0));
    assert_eq!((packed_dot::<f32>(&[], &[]), dot_in_order::<f32>(&[], &[])), (0.0, 0.0));
}

#[test]
fn d2_5_worked_example() {
    assert_eq!(fold(std::array::from_fn::<f64, LANES, _>(|j| j as f64)), 120.0);
    // The order of the sum: lanes 0 and 8 are added first.
    let mut lanes = [0f32; LANES];
    (lanes[0], lanes[8], lanes[1]) = (2f32.powi(24), -(2f32.powi(24)), 1.0);
    assert_eq!(fold(lanes), 1.0);
    (lanes[8], lanes[1]) = (1.0, -(2f32.powi(24)));
    assert_eq!(fold(lanes), 0.0, "lane 8's 1 is lost before lane 1 comes");
}

#[test]
fn e2_6_worked_example_shows_the_order() {
    let mut x = [0f32; 16];
    (x[0], x[1], x[9]) = (2f32.powi(24), 1.0, 1.0);
    assert_eq!(sum(&x), 2f32.powi(24) + 2.0);
    assert_eq!(x.iter().sum::<f32>(), 2f32.powi(24));
}

#[test]
fn c2_6a_an_empty_sum_is_zero() {
    assert_eq!(bits(&[sum::<f64>(&[])]), bits(&[0f64]));
    assert_eq!(bits(&[sum::<f32>(&[])]), bits(&[0f32]));
}

/// C2.4a, C2.4b, E2.6 against its twin, C2.6b, in one container. The exact values come from f64 for f32, and from
/// integers for f64.
fn sums_hold<T: Real>(n: usize, seed: u64) {
    let mut rng = Rng(seed);
    let (x, w): (Vec<T>, Vec<T>) = (rng.row(n, 4.0), rng.row(n, 0.5));
    let got = packed_dot(&x, &w);
    assert_eq!(bits(&[got]), bits(&[dot_in_order(&x, &w)]), "C2.4a");
    assert_eq!(bits(&[sum(&x)]), bits(&[naive::sum(&x)]), "E2.6");
    // x is a multiple of 2^-18 below 4, and w is a multiple of 2^-21 below 1/2, so i128 holds every sum exactly.
    let whole = |v: T, scale: i32| (v.to_f64() * 2f64.powi(scale)) as i128;
    let products: Vec<i128> = x.iter().zip(&w).map(|(&x, &w)| whole(x, 18) * whole(w, 21)).collect();
    let (exact, size) = (products.iter().sum::<i128>(), products.iter().map(|p| p.abs()).sum::<i128>());
    let off = ((got.to_f64() * 2f64.powi(39)) as i128 - exact).abs() as f64;
    assert!(off <= gamma::<T>(2 * n.div_ceil(BLOCK) + 4) * size as f64 + 1.0, "C2.4b: {off} of {size}");
    let (exact, size) = x.iter().fold((0, 0), |(e, s), &x| (e + whole(x, 18), s + whole(x, 18).abs()));
    let off = ((sum(&x).to_f64() * 2f64.powi(18)) as i128 - exact).abs() as f64;
    assert!(off <= gamma::<T>(n.div_ceil(LANES) + 4) * size as f64 + 1.0, "C2.6b: {off} of {size}");
}

proptest! {
    #![proptest_config(cases(128))]
    #[test]
    fn c2_4a_c2_6b_sums_equal_their_twins_within_the_bound(n in 0usize..600, seed: u64) {
        sums_hold::<f32>(n, seed);
        sums_hold::<f64>(n, seed);
    }
}

/// The distance of `y` from the exact `value`, in units of the last place of f32.
fn ulps_f32(y: f32, value: f64) -> f64 {
    let exponent = libm::ilogb(value).max(-126);
    (y as f64 - value).abs() / 2f64.powi(exponent - 23)
}

/// e^x as a sum of two f64 numbers, with an error of about 2^-100: the Taylor series of x / 2^10 in double-double,
/// squared ten times.
fn exp_double(x: f64) -> (f64, f64) {
    let add = |(a, b): (f64, f64), (c, d): (f64, f64)| {
        let s = a + c;
        let t = s - a;
        let low = ((a - (s - t)) + (c - t)) + b + d;
        (s + low, low - ((s + low) - s))
    };
    let mul = |(a, b): (f64, f64), (c, d): (f64, f64)| {
        let p = a * c;
        let low = f64::mul_add(a, c, -p) + (a * d + b * c);
        (p + low, low - ((p + low) - p))
    };
    let r = x / 1024.0; // exact
    let mut y = (1.0, 0.0);
    for k in (1..=24).rev() {
        let q = mul(y, (r, 0.0));
        let high = q.0 / k as f64;
        let low = (f64::mul_add(-high, k as f64, q.0) + q.1) / k as f64;
        y = add((1.0, 0.0), (high, low));
    }
    (0..10).fold(y, |y, _| mul(y, y))
}

#[test]
fn c2_7a_exp_in_f32_is_within_1_01_ulp_sampled() {
    let mut worst = (0.0, 0f32);
    // Every 997th f32 from −87 to 88.
    for bits in (0..=87f32.to_bits()).step_by(997).map(|b| b | 1 << 31).chain((0..=88f32.to_bits()).step_by(997)) {
        let x = f32::from_bits(bits);
        let off = ulps_f32(Real::exp(x), libm::exp(x as f64));
        worst = if off > worst.0 { (off, x) } else { worst };
    }
    println!("worst {:.4} ULP at {:e}", worst.0, worst.1);
    assert!(worst.0 <= 1.01, "{worst:?}");
}

/// The largest distance between erf and libm's erf in f64, over the positive f32 numbers with these bits.
fn erf_off(bits: impl ParallelIterator<Item = u32>) -> f64 {
    bits.map(|b| ulps_f32(Real::erf(f32::from_bits(b)), libm::erf(f32::from_bits(b) as f64))).reduce(|| 0.0, f64::max)
}

#[test]
fn c2_9a_erf_in_f32_is_within_1_5_ulp_sampled() {
    // Every 499th f32 above 0, including subnormal numbers, up to numbers beyond the point where erf is 1.
    let worst = erf_off((0..5f32.to_bits()).into_par_iter().step_by(499).filter(|&b| b > 0));
    println!("worst {worst:.4} ULP");
    assert!(worst <= 1.5, "{worst}");
}

#[test]
#[ignore = "a thousand million numbers, a minute: run once for every change of the polynomials"]
fn c2_9a_erf_in_f32_is_within_1_5_ulp_everywhere() {
    let worst = erf_off((1..=f32::INFINITY.to_bits()).into_par_iter());
    println!("worst {worst:.4} ULP");
    assert!(worst <= 1.5, "{worst}");
}

#[test]
fn e2_9_c2_9b_erf_of_what_is_known() {
    let erf = |x: f32| Real::erf(x);
    assert!((erf(0.5) - 0.520_499_9).abs() < 1e-7, "{}", erf(0.5));
    assert_eq!((erf(0.0).to_bits(), erf(-0.0).to_bits()), (0, (-0.0f32).to_bits()));
    assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
    assert!(erf(f32::NAN).is_nan());
    for bits in (0..f32::INFINITY.to_bits()).step_by(100_003) {
        let x = f32::from_bits(bits);
        assert_eq!((-erf(-x)).to_bits(), erf(x).to_bits(), "{x}");
    }
}

#[test]
#[ignore = "2.2 thousand million numbers, a minute: run once for every change of the polynomial"]
fn c2_7a_exp_in_f32_is_within_1_01_ulp_everywhere() {
    let worst = |range: std::ops::RangeInclusive<u32>, sign: u32| {
        let off = |b: u32| ulps_f32(Real::exp(f32::from_bits(b | sign)), libm::exp(f32::from_bits(b | sign) as f64));
        range.into_par_iter().map(off).reduce(|| 0.0, f64::max)
    };
    let (below, above) = (worst(0..=87f32.to_bits(), 1 << 31), worst(0..=88f32.to_bits(), 0));
    println!("worst {below:.4} ULP below 0, {above:.4} above");
    assert!(below <= 1.01 && above <= 1.01);
}

#[test]
fn c2_7b_exp_in_f64_is_within_2_ulp_sampled() {
    let mut rng = Rng(7);
    let mut worst = (0.0, 0f64);
    for i in 0..400_000 {
        let size = [708.0, 40.0, 1.0, 2f64.powi(-20)][i % 4];
        let x = rng.number::<f64>(size) + rng.number::<f64>(size * 2f64.powi(-22));
        let (high, low) = exp_double(x);
        let ulp = 2f64.powi((libm::ilogb(high) - 52).max(-1022));
        let off = ((Real::exp(x) - high) - low).abs() / ulp;
        worst = if off > worst.0 { (off, x) } else { worst };
    }
    println!("worst {:.4} ULP at {:e}", worst.0, worst.1);
    assert!(worst.0 <= 2.0, "{worst:?}");
    let (e, low) = exp_double(1.0);
    assert_eq!((e, (low - 1.4456468917292502e-16).abs() < 1e-28), (std::f64::consts::E, true), "the ruler itself");
}

fn ends<T: Real>(zero_below: f64, infinite_above: f64) {
    let exp = |x: f64| T::of(x).exp().to_f64();
    assert_eq!((exp(0.0), exp(-0.0), exp(f64::NEG_INFINITY), exp(f64::INFINITY)), (1.0, 1.0, 0.0, f64::INFINITY));
    assert_eq!((exp(zero_below - 0.1), exp(infinite_above + 0.1)), (0.0, f64::INFINITY));
    assert!(exp(f64::NAN).is_nan());
}

#[test]
fn c2_7c_the_ends_of_exp() {
    ends::<f32>(-104.0, 88.8);
    ends::<f64>(-746.0, 709.8);
    assert!(Real::exp(-103.0f32) > 0.0, "gradual underflow");
}

#[test]
fn e2_7_worked_example() {
    let x = 3f64.ln() as f32;
    let allowed = 1.01 * 2f64.powi(-22) + 3.0 * 0.5 * 2f64.powi(-23);
    assert!((Real::exp(x) as f64 - 3.0).abs() <= allowed);
}

/// C2.7d: exp inlined into a vectorised loop gives the bits of a single call.
#[test]
fn c2_7d_exp_in_a_loop_is_exp_alone() {
    use aircache::kernel::simd::vectorize;
    let mut rng = Rng(3);
    let x: Vec<f32> = rng.row(4099, 128.0);
    let mut y = x.clone();
    vectorize(
        #[inline(always)]
        || y.iter_mut().for_each(|v| *v = Real::exp(*v)),
    );
    let one_by_one: Vec<f32> = x.iter().map(|&v| std::hint::black_box(Real::exp(v))).collect();
    assert_eq!(bits(&y), bits(&one_by_one));
}

#[test]
fn d2_8_worked_examples() {
    let (b, h) = (|x: f32| Grid::Bf16.round(x), |x: f32| Grid::F16.round(x));
    assert_eq!((b(1.0 + 2f32.powi(-8)), b(1.0 + 3.0 * 2f32.powi(-8))), (1.0, 1.0 + 2f32.powi(-6)));
    assert_eq!((h(65519.0), h(65520.0), h(-65520.0)), (65504.0, f32::INFINITY, f32::NEG_INFINITY));
    assert_eq!(Grid::Native.round(0.1f64), 0.1);
}

/// C2.8a, R2.8: all 65,536 patterns of both grids are unchanged, and a number half way between neighbours is rounded to
/// the even neighbour.
#[test]
fn r2_8_stores_round_to_nearest_even_on_every_number_of_the_grid() {
    for (grid, value) in
        [(Grid::Bf16, (|b| bf16::from_bits(b).to_f32()) as fn(u16) -> f32), (Grid::F16, |b| f16::from_bits(b).to_f32())]
    {
        for pattern in 0..=u16::MAX {
            let x = value(pattern);
            if x.is_nan() {
                assert!(grid.round(x).is_nan());
                continue;
            }
            assert_eq!(grid.round(x).to_bits(), x.to_bits(), "{grid:?} {pattern:04x}");
            assert_eq!(grid.round(x as f64), x as f64);
            let next = value(pattern.wrapping_add(1));
            if next.is_finite() && x.is_finite() && (pattern + 1) & 0x7fff != 0 {
                let middle = ((x as f64 + next as f64) / 2.0) as f32; // exact: one bit more than the grid has
                let even = if pattern % 2 == 0 { x } else { next };
                assert_eq!(grid.round(middle), even, "{grid:?} {pattern:04x}");
                if middle.abs() > f32::MIN_POSITIVE {
                    assert_eq!(grid.round(if x.abs() < next.abs() { middle.next_toward(x) } else { middle }), x);
                }
            }
        }
    }
}

trait NextToward {
    fn next_toward(self, x: f32) -> f32;
}

impl NextToward for f32 {
    /// The neighbour of `self` in the direction of 0; `x` must lie in that direction.
    fn next_toward(self, x: f32) -> f32 {
        assert!(x.abs() < self.abs());
        f32::from_bits(self.to_bits() - 1)
    }
}

/// C2.8b: f64 is rounded through f32. A number just above half way is first rounded to half way in f32, and then to
/// even.
#[test]
fn c2_8b_f64_goes_through_f32() {
    let x = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
    assert_eq!(Grid::Bf16.round(x), 1.0);
}
