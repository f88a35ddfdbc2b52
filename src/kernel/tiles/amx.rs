//! The matrix unit of recent Intel CPUs (AMX): eight registers, called tiles, of 16 rows of 64 bytes.
//!
//! Rust has no stable functions for these instructions, so they stand here in assembly. [`super`] has the layer that uses
//! them. Spec: E3.16

#![allow(unsafe_code)]

use super::tile::{SIDE, Strip, Sums};
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Whether this process may use the unit: the CPU has it, with bf16, and the system grants it.
pub fn available() -> bool {
    /// The answer cannot change, and the system is asked once.
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_unit() && granted())
}

/// Whether the CPU has tiles, their products of bf16, and AVX-512.
#[allow(unused_unsafe)] // `__cpuid` is safe from Rust 1.94 on
fn has_unit() -> bool {
    // SAFETY: every x86-64 CPU has CPUID; a leaf beyond the last one is not asked for.
    let bits = unsafe { if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx } };
    let (tile, bf16) = (1 << 24, 1 << 22);
    bits & tile != 0 && bits & bf16 != 0 && crate::kernel::simd::Isa::Avx512.available()
}

/// Asks Linux for the state of the tiles, which is too large to be saved for every process.
fn granted() -> bool {
    #[cfg(target_os = "linux")]
    {
        // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for all threads of the process.
        const ARCH_PRCTL: i64 = 158;
        let result: i64;
        // SAFETY: the call changes nothing but the permission; the kernel clobbers rcx and r11.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") 0x1023, in("rsi") 18,
                 out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// The shapes of the eight tiles: all have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    first_row: u8,
    zero: [u8; 14],
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

/// Tiles from those that are multiplied to those that memory is asked for.
const AHEAD: usize = 4;

/// The unit, ready to be used on this thread. It is given back when this value is dropped.
pub struct Unit(());

impl Unit {
    /// The unit, if there is one.
    pub fn take() -> Option<Unit> {
        if !available() {
            return None;
        }
        let (mut bytes_of_a_row, mut rows) = ([0; 16], [0; 16]);
        bytes_of_a_row[..8].fill(64);
        rows[..8].fill(16);
        let shapes = Shapes { palette: 1, first_row: 0, zero: [0; 14], bytes_of_a_row, rows };
        // SAFETY: the unit is there; the operand is the 64 bytes that the instruction reads.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &shapes, options(nostack)) };
        Some(Unit(()))
    }

    /// All sums become 0.
    #[inline(always)]
    pub fn begin(&self) {
        // SAFETY: the unit is configured.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        }
    }

    /// Continues with sums that were stored.
    #[inline(always)]
    pub fn resume(&self, sums: &Sums) {
        let [[a, b], [c, d]] = sums;
        // SAFETY: the unit is configured, and each of the four is a whole tile.
        unsafe {
            asm!(
                "tileloadd tmm0, [{a} + {line}]",
                "tileloadd tmm1, [{b} + {line}]",
                "tileloadd tmm2, [{c} + {line}]",
                "tileloadd tmm3, [{d} + {line}]",
                a = in(reg) a.as_ptr(), b = in(reg) b.as_ptr(), c = in(reg) c.as_ptr(), d = in(reg) d.as_ptr(),
                line = in(reg) size_of::<[f32; SIDE]>(), options(nostack, readonly),
            );
        }
    }

    /// Adds the products of `count` tiles, 32 inputs each. rows: tiles of \[rows, inputs\] for each group of rows;
    /// columns: tiles of \[pairs of inputs, columns\] for each group of columns, one or two.
    ///
    /// next: how many numbers after these rows those stand that are read next, if memory is to be asked for them early.
    #[inline(always)]
    pub fn add<const C: usize>(
        &self,
        rows: [Strip<'_>; 2],
        columns: [Strip<'_>; C],
        count: usize,
        next: Option<usize>,
    ) {
        assert!(rows.iter().chain(&columns).all(|strip| strip.has(count)), "E3.16: a tile for each block of inputs");
        let bytes = |strip: Strip<'_>| strip.stride * size_of::<u16>();
        for s in 0..count {
            // SAFETY: the unit is configured; as asserted, every tile is there. A prefetch never faults.
            unsafe {
                let at = |strip: Strip<'_>| strip.numbers.as_ptr().add(s * strip.step);
                match columns[..] {
                    [first] => asm!(
                        "tileloadd tmm4, [{r0} + {rows0}]",
                        "tileloadd tmm6, [{c0} + {columns0}]",
                        "tileloadd tmm5, [{r1} + {rows1}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        r0 = in(reg) at(rows[0]), r1 = in(reg) at(rows[1]), c0 = in(reg) at(first),
                        rows0 = in(reg) bytes(rows[0]), rows1 = in(reg) bytes(rows[1]), columns0 = in(reg) bytes(first),
                        options(nostack, readonly),
                    ),
                    [first, second] => asm!(
                        "tileloadd tmm4, [{r0} + {rows0}]",
                        "tileloadd tmm6, [{c0} + {columns0}]",
                        "tileloadd tmm7, [{c1} + {columns1}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm5, [{r1} + {rows1}]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        r0 = in(reg) at(rows[0]), r1 = in(reg) at(rows[1]),
                        c0 = in(reg) at(first), c1 = in(reg) at(second),
                        rows0 = in(reg) bytes(rows[0]), rows1 = in(reg) bytes(rows[1]),
                        columns0 = in(reg) bytes(first), columns1 = in(reg) bytes(second),
                        options(nostack, readonly),
                    ),
                    _ => unreachable!("E3.16: one or two groups of columns"),
                }
                if let Some(next) = next {
                    for strip in rows {
                        let soon = match s + AHEAD {
                            later if later < count => later * strip.step,
                            later => next + (later - count) * strip.step,
                        };
                        for row in 0..SIDE {
                            let line = strip.numbers.as_ptr().wrapping_add(soon + row * strip.stride);
                            _mm_prefetch::<_MM_HINT_T0>(line.cast());
                        }
                    }
                }
            }
        }
    }

    /// Stores the sums.
    #[inline(always)]
    pub fn store(&self, sums: &mut Sums) {
        let [[a, b], [c, d]] = sums;
        // SAFETY: each of the four is a whole tile.
        unsafe {
            stored([a.as_mut_ptr(), b.as_mut_ptr(), c.as_mut_ptr(), d.as_mut_ptr()].map(|tile| tile.cast()), SIDE)
        }
    }

    /// Stores the sums in a matrix, [32 rows, 32 columns] of it; its rows are `stride` numbers apart.
    #[inline(always)]
    pub fn store_rows(&self, to: &mut [f32], stride: usize) {
        assert!(to.len() >= (2 * SIDE - 1) * stride + 2 * SIDE, "E3.17: 32 rows of 32 columns");
        let to = to.as_mut_ptr();
        // SAFETY: as asserted, the rows of the four tiles are there.
        unsafe {
            let second = to.add(SIDE * stride);
            stored([to, to.add(SIDE), second, second.add(SIDE)], stride);
        }
    }
}

/// Stores tiles 0 to 3; rows are `stride` numbers apart.
///
/// # Safety
/// The unit is configured; 16 rows of 16 numbers may be written at each of `to`.
#[inline(always)]
unsafe fn stored(to: [*mut f32; 4], stride: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilestored [{a} + {line}], tmm0",
            "tilestored [{b} + {line}], tmm1",
            "tilestored [{c} + {line}], tmm2",
            "tilestored [{d} + {line}], tmm3",
            a = in(reg) to[0], b = in(reg) to[1], c = in(reg) to[2], d = in(reg) to[3],
            line = in(reg) stride * size_of::<f32>(),
            options(nostack),
        );
    }
}

/// Rows become columns.
#[inline(always)]
pub fn transpose(m: &mut [[f32; SIDE]; SIDE]) {
    /// # Safety
    /// AVX-512.
    #[target_feature(enable = "avx512f")]
    unsafe fn transposed(m: &mut [[f32; SIDE]; SIDE]) {
        // SAFETY: every row has the 16 numbers of a register.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); SIDE];
            for i in 0..SIDE {
                rows[i] = _mm512_loadu_ps(m[i].as_ptr());
            }
            // Of rows a, b, c, d, each quarter of a register gets a column: a, b, c, d at 4 · quarter + i.
            let mut fours = rows;
            for i in (0..SIDE).step_by(4) {
                let (low, high) = (_mm512_unpacklo_ps(rows[i], rows[i + 1]), _mm512_unpackhi_ps(rows[i], rows[i + 1]));
                let (low2, high2) =
                    (_mm512_unpacklo_ps(rows[i + 2], rows[i + 3]), _mm512_unpackhi_ps(rows[i + 2], rows[i + 3]));
                let pd = |x| _mm512_castps_pd(x);
                fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(low), pd(low2)));
                fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(low), pd(low2)));
                fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(high), pd(high2)));
                fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(high), pd(high2)));
            }
            for i in 0..4 {
                let (a, b, c, d) = (fours[i], fours[4 + i], fours[8 + i], fours[12 + i]);
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
                let (even2, odd2) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d));
                _mm512_storeu_ps(m[i].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(even, even2));
                _mm512_storeu_ps(m[4 + i].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(odd, odd2));
                _mm512_storeu_ps(m[8 + i].as_mut_ptr(), _mm512_shuffle_f32x4::<0xDD>(even, even2));
                _mm512_storeu_ps(m[12 + i].as_mut_ptr(), _mm512_shuffle_f32x4::<0xDD>(odd, odd2));
            }
        }
    }
    assert!(available(), "E3.16: only a CPU with the unit transposes its tiles");
    // SAFETY: a CPU with the unit has AVX-512.
    unsafe { transposed(m) }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the unit was configured by this thread: a task of rayon that holds it does not move.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
