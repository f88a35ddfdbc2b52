//! Attention by itself: any scale, any mask, any number of leading axes. Spec: E10.20, E3.5

use super::arrays::{Arrays, Kernel, of, rounded};
use crate::error::{Result, ensure};
use crate::golden::causes::{Attend, Fitted, Lineup, suspects_of};
use crate::kernel::{tf32, truncated, weights};
use crate::num::{Grid, Real};
use crate::pass::{Pass, Way};
use crate::stage::Site;
use ndarray::Array3;
use rayon::prelude::*;

/// The inputs. Leading axes are joined: a batch of B sequences is B·H query heads over B·G KV heads.
#[derive(Clone)]
pub(super) struct Attention {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// Added to the scores, −∞ where hidden: [n, m], or one for each query head.
    mask: Option<Vec<f64>>,
    causal: bool,
    scale: f64,
    scale_is_given: bool,
    heads: usize,
    groups: usize,
    n: usize,
    m: usize,
    d: usize,
    d_v: usize,
}

impl Attention {
    /// Reads `q` [..., H, n, d], `k` [..., G, m, d], `v` [..., G, m, d_v], and `mask` if there is one.
    ///
    /// # Errors
    /// An array is missing or does not fit; `causal` and `mask` are both missing.
    pub fn read(arrays: &Arrays<'_>) -> Result<Attention> {
        let three = |name: &str| {
            let (values, shape) = arrays.numbers(name)?;
            ensure!(shape.len() >= 2, arrays.at(name), "[heads, rows, head size]", format!("{shape:?}"));
            let [rows, width] = [shape[shape.len() - 2], shape[shape.len() - 1]];
            Ok((values, shape[..shape.len() - 2].iter().product::<usize>(), rows, width))
        };
        let ((q, heads, n, d), (k, groups, m, d_k), (v, groups_v, m_v, d_v)) = (three("q")?, three("k")?, three("v")?);
        ensure!(
            d_k == d,
            arrays.at("k"),
            format!("a last axis of {d}, as q"),
            d_k,
            "axes are [heads, rows, head size]"
        );
        let ours = format!("{groups} heads of {m} rows, as k");
        ensure!((groups_v, m_v) == (groups, m), arrays.at("v"), ours, format!("{groups_v} heads of {m_v} rows"));
        let remedy = "axes are [heads, rows, head size]: is an array transposed?";
        let whole = format!("a multiple of the {groups} heads of k");
        ensure!(heads % groups == 0, arrays.at("q"), whole, format!("{heads} heads"), remedy);
        let mask = Self::mask(arrays, heads, n, m)?;
        let causal = match arrays.file.metadata("causal") {
            Some("true") => true,
            Some("false") => false,
            None if mask.is_some() => false,
            found => {
                let e = crate::Error::new(arrays.at("metadata causal"), "true or false", format!("{found:?}"));
                return Err(e.remedy("say whether row i sees only the first m − n + i + 1 entries; or give a mask"));
            }
        };
        ensure!(!causal || n <= m, arrays.at("q"), format!("at most {m} rows, as k"), n);
        let scale = arrays.number("scale")?;
        let scale_is_given = scale.is_some();
        let scale = scale.unwrap_or(1.0 / (d as f64).sqrt());
        Ok(Attention { q, k, v, mask, causal, scale, scale_is_given, heads, groups, n, m, d, d_v })
    }

    /// The mask as numbers to add; whole numbers mean 1 visible, 0 hidden.
    fn mask(arrays: &Arrays<'_>, heads: usize, n: usize, m: usize) -> Result<Option<Vec<f64>>> {
        if !arrays.has("mask") {
            return Ok(None);
        }
        let shape = arrays.file.stage("mask")?.shape.to_vec();
        let values = match arrays.file.flat("mask") {
            Ok(values) => values,
            Err(_) => {
                let seen = arrays.file.i64("mask")?;
                seen.iter().map(|&seen| if seen == 0 { f64::NEG_INFINITY } else { 0.0 }).collect()
            }
        };
        let lead = shape.iter().rev().skip(2).product::<usize>();
        let fits = shape.len() >= 2 && shape[shape.len() - 2..] == [n, m] && (lead == 1 || lead == heads);
        let want = format!("[{n}, {m}], or one for each of the {heads} query heads");
        ensure!(fits, arrays.at("mask"), want, format!("{shape:?}"));
        Ok(Some(values))
    }

    /// The suspects of attention with a mask.
    fn masked(&self, lineup: &mut Lineup<'_>) {
        let no = Attention { mask: None, ..self.clone() };
        lineup.add(Fitted::No, no.run(&Pass::<f64>::new(Grid::Native)), || "the mask is left out".into());
        for (scale, words) in [(1.0, "1"), (1.0 / self.d as f64, "1/d_h")] {
            let other = Attention { scale, ..self.clone() };
            lineup.add(Fitted::No, other.run(&Pass::<f64>::new(Grid::Native)), || {
                format!("scores are scaled by {words}")
            });
        }
    }

    /// The entries that a row sees.
    fn seen(&self, row: usize) -> usize {
        if self.causal { self.m - self.n + row + 1 } else { self.m }
    }
}

impl Kernel for Attention {
    const LIKE: Site = Site::Query;

    fn in_type(&self, grid: Grid) -> Attention {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|x| rounded(x, grid));
        Attention { q, k, v, ..self.clone() }
    }

    fn judged(&self) -> Vec<usize> {
        vec![self.heads, self.n, self.d_v]
    }

    fn notes(&self) -> Vec<String> {
        let scale = if self.scale_is_given { "as given" } else { "1/√d" };
        let causal = if self.causal { "causal" } else { "not causal" };
        let mask = if self.mask.is_some() { ", with a mask" } else { "" };
        vec![format!(
            "{} query heads over {} KV heads, {causal}{mask}, scale {:.6} ({scale})",
            self.heads, self.groups, self.scale
        )]
    }

    fn suspects(&self, lineup: &mut Lineup<'_>) {
        // A mask that hides, and is one for all heads, is no other than a causal one.
        let hides = |mask: &Vec<f64>| mask.len() == self.n * self.m && mask.iter().all(|v| *v == 0.0 || *v < HIDDEN);
        if self.mask.as_ref().is_some_and(|mask| !hides(mask)) {
            return self.masked(lineup);
        }
        let of = |x: &[f64], heads: usize, rows: usize, d: usize| Array3::from_shape_vec((heads, rows, d), x.to_vec());
        let arrays = (
            of(&self.q, self.heads, self.n, self.d),
            of(&self.k, self.groups, self.m, self.d),
            of(&self.v, self.groups, self.m, self.d_v),
        );
        let (Ok(q), Ok(k), Ok(v)) = arrays else { return };
        let right = Attend {
            sees: Box::new(|i, j| {
                j < self.seen(i) && self.mask.as_ref().is_none_or(|mask| mask[i * self.m + j] == 0.0)
            }),
            ..Attend::new([&q, &k, &v], self.scale)
        };
        suspects_of(lineup, &right, true, None);
    }

    /// Rows that see nothing, and scores that are too large for exp.
    fn not_finite(&self, got: &[f64]) -> Option<String> {
        let row = |i: usize| {
            let (h, row) = (i / self.n, i % self.n);
            let q = &self.q[i * self.d..][..self.d];
            let k = &self.k[h * self.groups / self.heads * self.m * self.d..];
            let score = |j: usize| {
                let dot: f64 = q.iter().zip(&k[j * self.d..][..self.d]).map(|(q, k)| q * k).sum();
                let mask = self.mask.as_ref().map_or(0.0, |mask| mask[(h * self.n + row) * self.m % mask.len() + j]);
                self.scale * dot + mask
            };
            let most = (0..self.seen(row)).map(score).fold(f64::NEG_INFINITY, f64::max);
            (most, got[i * self.d_v..][..self.d_v].iter().any(|v| !v.is_finite()))
        };
        let rows: Vec<(f64, bool)> = (0..self.heads * self.n).into_par_iter().map(row).collect();
        if rows.iter().all(|(most, bad)| *bad == (*most < HIDDEN)) {
            return Some("rows that see no entry are not finite, as 0/0 is: they should be zeros".into());
        }
        let most = rows.iter().fold(0.0f64, |m, row| m.max(row.0));
        let below = (self.m as f64).ln();
        let fits = |limit: f64| rows.iter().all(|&(s, bad)| if bad { s > limit - below } else { s < limit + 0.1 });
        let (limit, kind) = [(88.7, "f32"), (11.1, "f16")].into_iter().find(|(limit, _)| fits(*limit))?;
        Some(format!(
            "scores reach {most:.1}, and exp overflows {kind} from {limit} on: the largest score of a row is not subtracted"
        ))
    }

    /// The output as [heads, n, d_v], also where it lies as [n, H·d_v].
    fn output(&self, arrays: &Arrays<'_>) -> Result<Vec<f64>> {
        let Attention { heads, n, d_v, .. } = *self;
        let (got, shape) = arrays.numbers("out")?;
        if shape.len() >= 2 && shape[shape.len() - 2..] == [n, d_v] && got.len() == heads * n * d_v {
            return Ok(got);
        }
        let side_by_side = shape == [n, heads * d_v];
        let want = format!("{:?}, or [{n}, {}] with the heads side by side", self.judged(), heads * d_v);
        ensure!(side_by_side, arrays.at("out"), want, format!("{shape:?}"), "transpose it to one of them");
        let of = |i: usize| got[(i / d_v % n) * heads * d_v + i / (d_v * n) * d_v + i % d_v];
        Ok((0..got.len()).map(of).collect())
    }

    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T> {
        let Attention { heads, groups, n, m, d, d_v, .. } = *self;
        let read = |x: &[f64]| of::<T>(x).into_iter().map(|x| pass.way.operands.read(x)).collect::<Vec<T>>();
        let (q, k, v): (Vec<T>, _, _) = (of(&self.q), read(&self.k), read(&self.v));
        let (mut out, row_of) =
            (vec![T::ZERO; heads * n * d_v], Row { scale: T::of(self.scale), grid: pass.grid, way: pass.way });
        let each = heads / groups;
        out.par_chunks_mut(d_v).enumerate().for_each(|(i, out)| {
            let (h, row) = (i / n, i % n);
            let (g, seen) = (h / each, self.seen(row));
            let (k, v) = (&k[g * m * d..][..seen * d], &v[g * m * d_v..][..seen * d_v]);
            let mask = self.mask.as_ref().map(|mask| {
                let one = if mask.len() == n * m { 0 } else { h };
                &mask[(one * n + row) * m..][..seen]
            });
            row_of.attend(&q[i * d..][..d], (k, v), mask, out);
        });
        out
    }
}

/// A score below this one is hidden: programs add −∞, the least number of f16 or less, or −10⁴.
const HIDDEN: f64 = -9e3;

/// How a row is computed: where it is stored, and in which order sums are formed. Spec: R3.5, R10.3, R10.7, R10.11
struct Row<T> {
    scale: T,
    grid: Grid,
    way: Way,
}

impl<T: Real> Row<T> {
    /// One query over its entries. q: \[d\], k: [m, d], v: [m, d_v], mask: \[m\] → out: \[d_v\].
    fn attend(&self, q: &[T], (k, v): (&[T], &[T]), mask: Option<&[f64]>, out: &mut [T]) {
        let Row { scale, grid, way } = *self;
        let native = grid == Grid::Native;
        let scales_query = way.scaled || native && way.fused;
        let by = |q: T| if scales_query { grid.round(q * scale) } else { q };
        let q: Vec<T> = q.iter().map(|&q| way.operands.read(by(q))).collect();
        let scale = if scales_query { T::ONE } else { scale };
        let mut p: Vec<T> = k.chunks_exact(q.len()).map(|k| self.dot(&q, k)).collect();
        let stored = |x: T| if way.fused { x } else { grid.round(x) };
        p.iter_mut().for_each(|s| *s = stored(stored(*s) * scale));
        if let Some(mask) = mask {
            p.iter_mut().zip(mask).for_each(|(s, &mask)| *s = stored(*s + T::of(mask)));
        }
        let total = weights(&mut p);
        let total = if total == T::ZERO { T::ONE } else { total }; // C3.2a
        let late = native != way.fused;
        match late {
            true => grid.round_all(&mut p),
            false => p.iter_mut().for_each(|p| *p = grid.round(*p / total)),
        }
        self.mix(&way.operands.read_all(&p), v, out);
        if late {
            out.iter_mut().for_each(|o| *o = *o / total);
        }
        grid.round_all(out);
    }

    /// Σ p·v; in order, as a tensor core computes it: it keeps 64 entries, and truncates after every eight.
    fn mix(&self, p: &[T], v: &[T], out: &mut [T]) {
        let width = out.len();
        if !self.way.in_order {
            let add = |(&p, v): (&T, &[T])| out.iter_mut().zip(v).for_each(|(o, &v)| *o = p.mul_add(v, *o));
            return p.iter().zip(v.chunks_exact(width)).for_each(add);
        }
        for (p, v) in p.chunks(64).zip(v.chunks(64 * width)) {
            let mut sums = vec![0.0; width];
            for (p, v) in p.chunks(8).zip(v.chunks(8 * width)) {
                for (p, v) in p.iter().zip(v.chunks_exact(width)) {
                    sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += p.to_f64() * v.to_f64());
                }
                sums.iter_mut().for_each(|sum| *sum = truncated(*sum));
            }
            out.iter_mut().zip(sums).for_each(|(o, sum)| *o += T::of(sum));
        }
    }

    /// Σ q·k; in order, as a tensor core computes it: products of three of TF32, and a truncated sum of every eight.
    fn dot(&self, q: &[T], k: &[T]) -> T {
        if !self.way.in_order {
            return q.iter().zip(k).fold(T::ZERO, |sum, (&q, &k)| q.mul_add(k, sum));
        }
        let halves = |x: T| {
            let high = tf32(x.to_f32());
            (f64::from(high), f64::from(tf32(x.to_f32() - high)))
        };
        let three = |(&q, &k): (&T, &T)| {
            let ((q, q_low), (k, k_low)) = (halves(q), halves(k));
            q_low * k + q * k_low + q * k
        };
        let eight = |sum: f64, (q, k): (&[T], &[T])| truncated(sum + q.iter().zip(k).map(three).sum::<f64>());
        T::of(q.chunks(8).zip(k.chunks(8)).fold(0.0, eight))
    }
}
