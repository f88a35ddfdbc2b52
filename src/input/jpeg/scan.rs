//! The coefficients of one JPEG scan. Source: T.81 F.2, G.2; libjpeg's behaviour where bits are missing: the rest of the
//! restart interval stays as it is. Spec: E4.24

use super::bits::{Bits, Huffman};
use super::frame::{Component, Frame, Tables, ZIGZAG, broken};
use crate::error::{Result, ensure};
use std::sync::Arc;

/// The most components of a scan, and the most blocks of an interleaved unit. Source: T.81 B.2.3
const MAX_UNIT: usize = 10;

/// A Huffman table, if the file gave one.
type Table = Option<Arc<Huffman>>;

/// A scan: its components, and the coefficients and bits that it gives.
pub(super) struct Scan<'a> {
    frame: &'a mut Frame,
    /// Index in the frame, and tables.
    parts: Vec<(usize, Table, Table)>,
    /// First and last coefficient, in the order of the scan.
    band: (usize, usize),
    /// Whether the scan gives further bits of coefficients that earlier scans gave.
    refines: bool,
    /// The place of the lowest bit that the scan gives.
    low: u8,
    restart: usize,
}

/// What a scan remembers from block to block.
#[derive(Default)]
struct State {
    /// The last DC value of each component.
    dc: [i32; 4],
    /// The number of blocks without further coefficients.
    run: u32,
}

impl<'a> Scan<'a> {
    pub fn read(segment: &[u8], frame: &'a mut Frame, tables: &Tables) -> Result<Scan<'a>> {
        let wrong = || broken("a scan header", "another");
        let (&count, rest) = segment.split_first().ok_or_else(wrong)?;
        let count = usize::from(count);
        let (list, tail) = rest.split_at_checked(2 * count).filter(|_| (1..=4).contains(&count)).ok_or_else(wrong)?;
        let [first, last, bits, ..] = *tail else { return Err(wrong()) };
        let (band, high, low) = match frame.progressive {
            true => ((usize::from(first), usize::from(last)), bits >> 4, bits & 15),
            false => ((0, 63), 0, 0),
        };
        let dc_only = band == (0, 0);
        let fits = band.1 < 64 && band.0 <= band.1 && low <= 13 && (high == 0 || high == low + 1);
        let alone = !frame.progressive || dc_only || (band.0 > 0 && count == 1);
        ensure!(fits && alone, "JPEG", "a scan that T.81 allows", format!("{band:?}, bits {high} to {low}"));
        let (need_dc, need_ac) = (band.0 == 0 && high == 0, band.1 > 0);
        let (mut parts, mut unit): (Vec<(usize, _, _)>, usize) = (Vec::new(), 0);
        for pair in list.chunks_exact(2) {
            let index = frame.components.iter().position(|c| c.id == pair[0]).ok_or_else(wrong)?;
            ensure!(parts.iter().all(|(i, ..)| *i != index), "JPEG", "different components in a scan", "one twice");
            let [dc, ac] = [(&tables.dc, pair[1] >> 4), (&tables.ac, pair[1] & 15)]
                .map(|(tables, place)| tables.get(usize::from(place)).cloned().flatten());
            let complete = (!need_dc || dc.is_some()) && (!need_ac || ac.is_some());
            ensure!(complete, "JPEG", "the Huffman tables that the scan names", "none");
            let component = &mut frame.components[index];
            unit += component.sampling.0 * component.sampling.1;
            component.table = component.table.or(tables.quantizers[component.quantizer]);
            for known in &mut component.known[band.0..=band.1] {
                *known = Some(low);
            }
            parts.push((index, dc, ac));
        }
        let remedy = "save the image as PNG; libjpeg refuses it too";
        ensure!(count == 1 || unit <= MAX_UNIT, "JPEG", format!("at most {MAX_UNIT} blocks in a unit"), unit, remedy);
        Ok(Scan { frame, parts, band, refines: high > 0, low, restart: tables.restart })
    }

    /// Reads the scan, and gives the number of its bytes.
    pub fn run(mut self, bytes: &[u8]) -> usize {
        let (mut bits, mut state) = (Bits::new(bytes), State::default());
        let single = self.parts.len() == 1;
        let (rows, columns) = match single {
            true => self.frame.components[self.parts[0].0].blocks,
            false => {
                let (across, down) = self.frame.most;
                (self.frame.size.0.div_ceil(8 * down), self.frame.size.1.div_ceil(8 * across))
            }
        };
        let mut left = self.restart;
        for row in 0..rows {
            for column in 0..columns {
                if self.restart > 0 && left == 0 {
                    if !bits.restart() {
                        return bits.used();
                    }
                    (state, left) = (State::default(), self.restart);
                }
                left = left.wrapping_sub(1);
                if bits.dry {
                    if self.restart == 0 {
                        return bits.used();
                    }
                    continue;
                }
                for part in 0..self.parts.len() {
                    let component = &self.frame.components[self.parts[part].0];
                    let (h, v) = if single { (1, 1) } else { component.sampling };
                    let stride = component.stride;
                    for block in (0..v).flat_map(|y| (0..h).map(move |x| (row * v + y) * stride + column * h + x)) {
                        self.block(part, block, &mut bits, &mut state);
                    }
                }
            }
        }
        bits.used()
    }

    fn block(&mut self, part: usize, block: usize, bits: &mut Bits<'_>, state: &mut State) {
        let (index, dc, ac) = &self.parts[part];
        let Component { coefficients, .. } = &mut self.frame.components[*index];
        let block = &mut coefficients[block];
        let (low, band) = (self.low, self.band);
        if band.0 == 0 {
            match dc {
                _ if self.refines => block[0] |= i16::from(bits.bit()) << low,
                Some(dc) => {
                    let length = u32::from(bits.symbol(dc)).min(16);
                    state.dc[*index] = state.dc[*index].wrapping_add(bits.signed(length));
                    block[0] = (state.dc[*index] << low) as i16;
                }
                None => {}
            }
        }
        let Some(ac) = ac.as_ref().filter(|_| band.1 > 0) else { return };
        match (self.frame.progressive, self.refines) {
            (false, _) => sequential(block, ac, bits),
            (true, false) => first(block, ac, bits, band, low, &mut state.run),
            (true, true) => refine(block, ac, bits, band, 1 << low, &mut state.run),
        }
    }
}

/// The coefficients behind the first one.
fn sequential(block: &mut [i16; 64], ac: &Huffman, bits: &mut Bits<'_>) {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(ac);
        let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if length == 0 {
            if zeros < 15 {
                return;
            }
            k += 16;
            continue;
        }
        k += zeros;
        let value = bits.signed(length) as i16;
        if let Some(&place) = ZIGZAG.get(k) {
            block[usize::from(place)] = value;
        }
        k += 1;
    }
}

/// The high bits of a band.
fn first(block: &mut [i16; 64], ac: &Huffman, bits: &mut Bits<'_>, band: (usize, usize), low: u8, run: &mut u32) {
    if *run > 0 {
        *run -= 1;
        return;
    }
    let mut k = band.0;
    while k <= band.1 {
        let symbol = bits.symbol(ac);
        let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, length) {
            (15, 0) => k += 16,
            (_, 0) => {
                *run = (1 << zeros) + bits.take(zeros as u32) - 1;
                return;
            }
            _ => {
                k += zeros;
                let value = bits.signed(length);
                if let Some(&place) = ZIGZAG.get(k) {
                    block[usize::from(place)] = (value << low) as i16;
                }
                k += 1;
            }
        }
    }
}

/// One more bit of a band. Source: T.81 G.1.2.3
fn refine(block: &mut [i16; 64], ac: &Huffman, bits: &mut Bits<'_>, band: (usize, usize), bit: i16, run: &mut u32) {
    let correct = |value: &mut i16, bits: &mut Bits<'_>| {
        if bits.bit() && *value & bit == 0 {
            *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
        }
    };
    let mut k = band.0;
    if *run == 0 {
        while k <= band.1 {
            let symbol = bits.symbol(ac);
            let (mut zeros, length) = (u32::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            if length > 0 {
                new = if bits.bit() { bit } else { -bit };
            } else if zeros < 15 {
                *run = (1 << zeros) + bits.take(zeros);
                break;
            }
            while k <= band.1 {
                let value = &mut block[usize::from(ZIGZAG[k])];
                if *value != 0 {
                    correct(value, bits);
                } else if zeros == 0 {
                    *value = new;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            k += 1;
        }
    }
    if *run > 0 {
        for &place in &ZIGZAG[k.min(band.1 + 1)..=band.1] {
            let value = &mut block[usize::from(place)];
            if *value != 0 {
                correct(value, bits);
            }
        }
        *run -= 1;
    }
}
