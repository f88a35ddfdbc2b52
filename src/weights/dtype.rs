//! The number formats of safetensors.

use std::fmt;

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are the format's own.
pub enum Dtype {
    F4,
    F6E2M3,
    F6E3M2,
    Bool,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    F8E8M0,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

/// Format, name in the file, bits of one number. Names: safetensors 0.8, `tensor.rs`.
const TABLE: [(Dtype, &str, usize); 22] = [
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
    (Dtype::Bool, "BOOL", 8),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8),
    (Dtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::Bf16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::C64, "C64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
];

impl Dtype {
    /// The format of a name in a file.
    pub fn parse(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|(_, n, _)| *n == name).map(|(dtype, _, _)| *dtype)
    }

    /// The name in a file.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Bits of a number.
    pub fn bits(self) -> usize {
        TABLE[self as usize].2
    }

    /// Bytes that a tensor of this shape takes; `None` past 2⁶⁴ bits or if the last byte is not full.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let numbers = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))?;
        let bits = numbers.checked_mul(self.bits())?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_formats() {
        for (i, (dtype, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(*dtype as usize, i);
            assert_eq!(Dtype::parse(name), Some(*dtype));
        }
    }
}
