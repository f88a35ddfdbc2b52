//! Quantised caches: keys and values as they lie, with their scales, and what they stand for. Spec: D11.13, E11.3

use super::Bundle;
use crate::stage::{Site, Stage};
use crate::weights::Dtype;

/// The suffix of the scales of a quantised tensor: `cache.LL.key.scale`.
pub(super) const SCALE: &str = ".scale";

/// Replaces quantised caches by the numbers that they stand for, in f32, exactly; the scales leave the bundle's stages.
pub(super) fn dequantised(bundle: &mut Bundle) -> Option<String> {
    let mut note = None;
    for at in
        Stage::sorted(bundle.names()).into_iter().filter(|at| matches!(at.site, Site::CacheKey | Site::CacheValue))
    {
        let name = at.name();
        let Some(t) = bundle.get(&name).filter(|t| is_quantised(t.dtype)) else { continue };
        let (dtype, shape) = (t.dtype, t.shape.to_vec());
        let Some(codes) = codes(dtype, t.data) else { continue };
        let scales = format!("{name}{SCALE}");
        let scale = match bundle.get(&scales) {
            None if is_float(dtype) => vec![1.0; codes.len()],
            None => continue,
            Some(s) => {
                let side = s.shape.to_vec();
                let Some(all) = bundle.flat(&scales).ok().and_then(|all| spread(&all, &side, &shape)) else { continue };
                all
            }
        };
        let values: Vec<u8> = codes.iter().zip(&scale).flat_map(|(c, s)| ((*c * *s) as f32).to_le_bytes()).collect();
        bundle.lay(&name, &shape, Some((Dtype::F32, values)));
        bundle.quantise(&name, dtype, scale);
        note = note.or(Some(format!(
            "{name} is {}: the quantiser is judged at the cache, and steps from the numbers that the cache stands for",
            words(dtype)
        )));
    }
    note
}

/// Whether a tensor holds numbers that a quantised cache stores.
fn is_quantised(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::I8 | Dtype::U8 | Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ)
}

fn is_float(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::I8 | Dtype::U8)
}

/// A type of a quantised cache, in words.
pub(super) fn words(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F8_E4M3 => "fp8 e4m3 (FN)",
        Dtype::F8_E4M3FNUZ => "fp8 e4m3 (FNUZ)",
        Dtype::F8_E5M2 => "fp8 e5m2",
        Dtype::F8_E5M2FNUZ => "fp8 e5m2 (FNUZ)",
        _ => "int8",
    }
}

/// The numbers that bytes of a quantised type stand for, before their scale; none for U8, whose zero point is not known.
pub(super) fn codes(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    Some(match dtype {
        Dtype::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
        Dtype::F8_E4M3 => data.iter().map(|&b| fp8(b, 3, 7, false)).collect(),
        Dtype::F8_E4M3FNUZ => data.iter().map(|&b| fp8(b, 3, 8, true)).collect(),
        Dtype::F8_E5M2 => data.iter().map(|&b| fp8(b, 2, 15, false)).collect(),
        Dtype::F8_E5M2FNUZ => data.iter().map(|&b| fp8(b, 2, 16, true)).collect(),
        _ => return None,
    })
}

/// A number of fp8 with `mantissa` bits. Source: OCP 8-bit floating point (FN, and e5m2 as IEEE); LLVM's FNUZ.
fn fp8(byte: u8, mantissa: u32, bias: i32, fnuz: bool) -> f64 {
    let (sign, rest) = (if byte & 0x80 != 0 { -1.0 } else { 1.0 }, u32::from(byte & 0x7f));
    let (exponent, fraction) = ((rest >> mantissa) as i32, rest & ((1 << mantissa) - 1));
    let top = rest == 0x7f && mantissa == 3; // e4m3 FN has a NaN alone
    let ieee = mantissa == 2 && exponent == 31; // e5m2 has infinities
    match () {
        () if fnuz && byte == 0x80 => f64::NAN,
        () if !fnuz && top => f64::NAN,
        () if !fnuz && ieee => {
            if fraction == 0 {
                sign * f64::INFINITY
            } else {
                f64::NAN
            }
        }
        () if exponent == 0 => sign * f64::from(fraction) * f64::from(1 - bias - mantissa as i32).exp2(),
        () => {
            sign * (f64::from(fraction) + f64::from(1 << mantissa))
                * f64::from(exponent - bias - mantissa as i32).exp2()
        }
    }
}

/// The distance of a number of the type to its neighbours, at a code: what a quantiser may round by is half of it.
pub(super) fn spacing(dtype: Dtype, code: f64) -> f64 {
    let (mantissa, least) = match dtype {
        Dtype::F8_E4M3 => (3, -6),
        Dtype::F8_E4M3FNUZ => (3, -7),
        Dtype::F8_E5M2 => (2, -14),
        Dtype::F8_E5M2FNUZ => (2, -15),
        _ => return 1.0,
    };
    let exponent = if code == 0.0 { least } else { (code.abs().log2().floor() as i32).max(least) };
    f64::from(exponent - mantissa).exp2()
}

/// The largest number of a type.
pub(super) fn largest(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F8_E4M3 => 448.0,
        Dtype::F8_E4M3FNUZ => 240.0,
        Dtype::F8_E5M2 | Dtype::F8_E5M2FNUZ => 57344.0,
        _ => 127.0,
    }
}

/// One scale for each number: of shape [], [1], [G], [G, len], [G, len, 1], [G, 1, d_h], [G, len, blocks].
fn spread(scales: &[f64], side: &[usize], shape: &[usize]) -> Option<Vec<f64>> {
    let [g, len, d] = *shape else { return None };
    let of = |f: &dyn Fn(usize, usize, usize) -> usize| {
        let at = |i: usize| f(i / (len * d), i / d % len, i % d);
        (0..g * len * d).map(|i| scales.get(at(i)).copied()).collect::<Option<Vec<f64>>>()
    };
    match *side {
        [] | [1] => of(&|_, _, _| 0),
        [heads] | [heads, 1, 1] if heads == g => of(&|h, _, _| h),
        [heads, rows] | [heads, rows, 1] if (heads, rows) == (g, len) => of(&|h, e, _| h * len + e),
        [heads, 1, columns] if (heads, columns) == (g, d) => of(&|h, _, c| h * d + c),
        [heads, rows, blocks] if (heads, rows) == (g, len) && blocks > 0 && d % blocks == 0 => {
            of(&|h, e, c| (h * len + e) * blocks + c / (d / blocks))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_13_bytes_of_fp8() {
        let of = |dtype, byte: u8| codes(dtype, &[byte]).unwrap()[0];
        assert_eq!(of(Dtype::F8_E4M3, 0x38), 1.0);
        assert_eq!(of(Dtype::F8_E4M3, 0x7e), 448.0);
        assert!(of(Dtype::F8_E4M3, 0x7f).is_nan() && of(Dtype::F8_E4M3, 0xff).is_nan());
        assert_eq!(of(Dtype::F8_E4M3, 0x01), 2f64.powi(-9));
        assert_eq!(of(Dtype::F8_E4M3FNUZ, 0x38), 0.5, "read as FN it is twice as large");
        assert_eq!(of(Dtype::F8_E4M3FNUZ, 0x7f), 240.0);
        assert!(of(Dtype::F8_E4M3FNUZ, 0x80).is_nan());
        assert_eq!(of(Dtype::F8_E5M2, 0x7b), 57344.0);
        assert_eq!(of(Dtype::F8_E5M2, 0xfc), f64::NEG_INFINITY);
        assert_eq!(of(Dtype::I8, 0xff), -1.0);
        assert_eq!([1.0, 1.9, 448.0, 0.0].map(|c| spacing(Dtype::F8_E4M3, c)), [0.125, 0.125, 32.0, 2f64.powi(-9)]);
    }

    #[test]
    fn d11_13_scales_of_every_shape() {
        let spread = |scales: &[f64], side: &[usize]| spread(scales, side, &[2, 2, 2]);
        assert_eq!(spread(&[3.0], &[1]), Some(vec![3.0; 8]));
        assert_eq!(spread(&[1.0, 2.0], &[2]), Some(vec![1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]));
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1]), Some(vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]));
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0], &[2, 1, 2]), Some(vec![1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]));
        assert_eq!(spread(&[1.0], &[3]), None);
    }
}
