//! The only seeded generator: SplitMix64 (Steele, Lea and Flood 2014). It gives the same numbers on every machine.

/// A sequence of pseudo-random numbers, determined by its seed. Spec: E6.9, E9.4
///
/// ```
/// use aircache::num::Random;
/// assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf);
/// assert!((0.0..1.0).contains(&Random::new(7).unit()));
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence that starts at `seed`.
    #[inline(always)]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    #[inline(always)]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in \[0, 1): a multiple of 2^−53.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}
