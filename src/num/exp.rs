//! exp and erf: our own polynomials, so that the bits do not depend on a system's libm.
//! Plain arithmetic without branches, so that a loop over a slice vectorises (C2.7d). Spec: E2.7, E2.9

/// e^x in f32, with an error of at most 1.01 ULP over [−87, 88] (C2.7a); 0 below −104, ∞ above 88.8 (C2.7c). Spec: E2.7
#[inline(always)]
pub(super) fn exp_f32(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
    let clamped = x.clamp(-104.0, 88.8);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, clamped));
    let p = [0.008_368_711, 0.041_668_39, 0.166_665_21, 0.499_999_94, 1.0, 1.0]
        .iter()
        .fold(0.001_381_461_f32, |p, &c| p.mul_add(r, c));
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    let y = p * power(half) * power(n - half);
    if x.is_nan() {
        x
    } else if x > 88.8 {
        f32::INFINITY
    } else if x < -104.0 {
        0.0
    } else {
        y
    }
}

/// e^x in f64, with an error of at most 2 ULP over [−708, 709] (C2.7b); 0 below −746, ∞ above 709.8. Spec: E2.7
#[inline(always)]
pub(super) fn exp_f64(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    // ln 2 in two parts, the first with trailing zeros so that n times it is exact.
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let clamped = x.clamp(-746.0, 710.0);
    let shifted = clamped.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let p = (0..13).rev().fold(1.0 / FACTORIAL[13], |p, k| f64::mul_add(p, r, 1.0 / FACTORIAL[k]));
    let n = (shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64);
    let half = n >> 1;
    let power = |e: i64| f64::from_bits(((e + 1023) as u64) << 52);
    let y = p * power(half) * power(n - half);
    if x.is_nan() {
        x
    } else if x > 709.8 {
        f64::INFINITY
    } else if x < -746.0 {
        0.0
    } else {
        y
    }
}

/// erf x in f32, with an error of at most 1.5 ULP (C2.9a); ±1 beyond 3.93, where the next f32 is further away; odd, NaN
/// stays NaN (C2.9b). Spec: E2.9
#[inline(always)]
pub(super) fn erf_f32(x: f32) -> f32 {
    const NEAR: [f32; 5] = [0.004_967_514, -0.026_748_871, 0.112_813_21, -0.376_124_47, 0.128_379_14];
    const FAR: [f32; 6] = [-0.000_333_959_18, 0.003_688_104, -0.023_859_264, 0.106_350_556, 0.635_082_07, 0.128_665_69];
    let (a, b) = (x.abs(), x.abs().min(3.93));
    let square = a * a;
    let near = NEAR.iter().fold(-0.000_586_211_f32, |p, &c| p.mul_add(square, c)).mul_add(a, a);
    let far = 1.0 - exp_f32(-FAR.iter().fold(1.233_933_8e-5_f32, |q, &c| q.mul_add(b, c)).mul_add(b, b));
    let y = if a < 0.95 { near } else { far };
    if x.is_nan() { x } else { y.copysign(x) }
}

const FACTORIAL: [f64; 14] = [
    1.0,
    1.0,
    2.0,
    6.0,
    24.0,
    120.0,
    720.0,
    5040.0,
    40_320.0,
    362_880.0,
    3_628_800.0,
    39_916_800.0,
    479_001_600.0,
    6_227_020_800.0,
];
