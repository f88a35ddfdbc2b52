//! Bits of a JPEG scan, the markers between them, and Huffman codes.

/// The bits of a code that one look-up decides.
const LOOK: u32 = 9;

/// A Huffman table.
pub(super) struct Huffman {
    /// For each value of the next LOOK bits: length and symbol of the code; length 0 if the code is longer.
    short: Vec<(u8, u8)>,
    /// For each length: the first code that is larger than every code of this length, aligned to 16 bits.
    above: [u32; 18],
    /// For each length: the index of a code's symbol is the code plus this number.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// The table with `counts[l − 1]` codes of length l. `None` if there are more codes than bits allow.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Huffman> {
        let mut table =
            Huffman { short: vec![(0, 0); 1 << LOOK], above: [0; 18], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            table.offset[length as usize] = index as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    table.short[first..first + (1 << (LOOK - length))].fill((length as u8, symbols[index]));
                }
                code += 1;
                index += 1;
            }
            table.above[length as usize] = code << (16 - length);
            code <<= 1;
        }
        table.above[17] = u32::MAX;
        Some(table)
    }
}

/// The next marker at or after `at`, and the place behind it.
pub(super) fn marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)?;
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        match bytes.get(at)? {
            0 => at += 1,
            &code => return Some((code, at + 1)),
        }
    }
}

/// Reads bits up to the next marker. After it, all bits are 0, and `dry` is set when such a bit is read.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// The number of bits that were made up.
    made_up: u32,
    pub dry: bool,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0, held: 0, count: 0, made_up: 0, dry: false }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xFF, 0, ..]) => {
                    self.at += 2;
                    0xFF
                }
                Some([byte, ..]) if *byte != 0xFF => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next `n` ≤ 16 bits, which stay.
    fn peek(&mut self, n: u32) -> u32 {
        if self.count < n {
            self.fill();
        }
        (self.held >> (self.count - n)) as u32 & ((1 << n) - 1)
    }

    fn skip(&mut self, n: u32) {
        self.count -= n;
        self.dry |= self.count < self.made_up;
    }

    /// The next `n` ≤ 16 bits.
    pub fn take(&mut self, n: u32) -> u32 {
        let value = self.peek(n);
        self.skip(n);
        value
    }

    pub fn bit(&mut self) -> bool {
        self.take(1) == 1
    }

    /// A symbol; 0 for bits that are no code, as in libjpeg.
    pub fn symbol(&mut self, table: &Huffman) -> u8 {
        let next = self.peek(16);
        let (length, symbol) = table.short[(next >> (16 - LOOK)) as usize];
        if length > 0 {
            self.skip(u32::from(length));
            return symbol;
        }
        let length = (LOOK + 1..=17).find(|&l| next < table.above[l as usize]).unwrap_or(17);
        self.skip(length.min(16));
        let index = (next >> (16 - length.min(16))) as i32 + table.offset[length.min(16) as usize];
        let found = (length <= 16).then(|| usize::try_from(index).ok().and_then(|i| table.symbols.get(i)));
        found.flatten().copied().unwrap_or(0)
    }

    /// A signed number of `n` bits. Source: T.81 F.2.2.1 (EXTEND)
    pub fn signed(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = self.take(n) as i32;
        if value < 1 << (n - 1) { value - (1 << n) + 1 } else { value }
    }

    /// Continues behind the restart marker that comes next; false if another marker, or none, comes next.
    pub fn restart(&mut self) -> bool {
        let Some((code, at)) = marker(self.bytes, self.at) else { return false };
        if !(0xD0..=0xD7).contains(&code) {
            return false;
        }
        *self = Bits { at, ..Bits::new(self.bytes) };
        true
    }

    /// The number of bytes before the marker that ends the scan.
    pub fn used(&self) -> usize {
        self.at
    }
}
