//! Kernels of independent rows: norm, linear, softmax, rotary. Every axis but the last is joined. Spec: E10.20

use super::arrays::{Arrays, Kernel, of, rounded};
use super::fewer::{self, Layer};
use crate::error::{Error, Result, ensure};
use crate::golden::causes::{Fitted, Lineup, Rotation};
use crate::kernel::{Frequencies, MatrixView, Operands, Turn, weights};
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision, Stored, Way, Weights};
use crate::stage::Site;
use ndarray::Array2;

/// The output of a kernel in f64.
pub(super) fn exact<K: Kernel>(kernel: &K) -> Vec<f64> {
    kernel.run(&Pass::<f64>::new(Grid::Native))
}

/// Rows of a container.
fn matrix<T: Real>(x: &[f64], rows: usize, width: usize) -> Array2<T> {
    Array2::from_shape_vec((rows, width), of(x)).unwrap_or_else(|_| unreachable!("E10.20: whole rows"))
}

/// `x` [..., d], `weight` \[d\], `bias` \[d\] for a layer norm; metadata `eps`. Spec: E3.10, E3.11
#[derive(Clone)]
pub(super) struct Norm {
    x: Vec<f64>,
    rows: usize,
    width: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f64,
}

impl Norm {
    pub fn read(arrays: &Arrays<'_>) -> Result<Norm> {
        let (x, rows, width) = arrays.rows("x")?;
        let weight = arrays.vector("weight", width)?;
        let bias = arrays.has("bias").then(|| arrays.vector("bias", width)).transpose()?;
        let eps = arrays.number("eps")?.filter(|eps| *eps >= 0.0);
        let eps = eps
            .ok_or_else(|| Error::new(arrays.at("metadata eps"), "the number under the root, such as 1e-6", "none"))?;
        Ok(Norm { x, rows, width, weight, bias, eps })
    }
}

impl Kernel for Norm {
    const LIKE: Site = Site::Norm;
    fn in_type(&self, grid: Grid) -> Norm {
        let bias = self.bias.as_ref().map(|bias| rounded(bias, grid));
        Norm { x: rounded(&self.x, grid), weight: rounded(&self.weight, grid), bias, ..self.clone() }
    }
    fn judged(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }
    fn notes(&self) -> Vec<String> {
        let kind = if self.bias.is_some() { "a layer norm" } else { "an RMS norm" };
        vec![format!("{kind} of {} rows of {}, ε {}", self.rows, self.width, self.eps)]
    }
    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T> {
        let x: Array2<T> = matrix(&self.x, self.rows, self.width);
        pass.norm(x.view(), &self.weight, self.bias.as_deref(), self.eps).into_iter().collect()
    }
    fn suspects(&self, lineup: &mut Lineup<'_>) {
        let mut tried = |other: Norm, words: String| {
            lineup.add(Fitted::No, exact(&other), || words);
        };
        for eps in [0.0, 1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3] {
            if eps != self.eps {
                tried(Norm { eps, ..self.clone() }, format!("ε is {eps:e}; {:e} is expected", self.eps));
            }
        }
        let weight = self.weight.iter().map(|w| w + 1.0).collect();
        tried(Norm { weight, ..self.clone() }, "1 + weight in place of the weight".into());
        tried(Norm { weight: vec![1.0; self.width], ..self.clone() }, "the weight is left out".into());
        let d = self.width;
        let padded = [16, 32, 64, 128, 256, 512, 1024].map(|side| d.next_multiple_of(side));
        for count in [1, d - 1, d + 1].into_iter().chain(padded).filter(|&count| count != d && count > 0) {
            // Squares that are divided by another count are `times` as large.
            let times = d as f64 / count as f64;
            let weight = self.weight.iter().map(|w| (f64::from(*w) / times.sqrt()) as f32).collect();
            let other = Norm { weight, eps: self.eps / times, ..self.clone() };
            tried(other, format!("the sum of squares is divided by {count} in place of {d}"));
        }
        let unbiased = Norm { bias: Some(vec![0.0; self.width]), ..self.clone() };
        match self.bias {
            Some(_) => {
                tried(unbiased, "the bias is left out".into());
                tried(Norm { bias: None, ..self.clone() }, "an RMS norm in place of a layer norm".into());
            }
            None => tried(unbiased, "the mean is subtracted: a layer norm in place of an RMS norm".into()),
        }
    }
}

/// `x` [..., k], `weight` [outputs, k], `bias` \[outputs\] if there is one. Spec: E3.3
#[derive(Clone)]
pub(super) struct Linear {
    x: Vec<f64>,
    rows: usize,
    inputs: usize,
    weight: Vec<f32>,
    outputs: usize,
    bias: Option<Vec<f32>>,
}

impl Linear {
    pub fn read(arrays: &Arrays<'_>) -> Result<Linear> {
        let (x, rows, inputs) = arrays.rows("x")?;
        let (weight, shape) = arrays.numbers("weight")?;
        let want = format!("[outputs, {inputs}], as the last axis of x");
        ensure!(shape.len() == 2 && shape[1] == inputs, arrays.at("weight"), want, format!("{shape:?}"));
        let outputs = shape[0];
        let bias = arrays.has("bias").then(|| arrays.vector("bias", outputs)).transpose()?;
        let weight = weight.into_iter().map(|v| v as f32).collect();
        Ok(Linear { x, rows, inputs, weight, outputs, bias })
    }
}

impl Kernel for Linear {
    const LIKE: Site = Site::Norm;
    fn in_type(&self, grid: Grid) -> Linear {
        Linear { x: rounded(&self.x, grid), weight: rounded(&self.weight, grid), ..self.clone() }
    }
    fn judged(&self) -> Vec<usize> {
        vec![self.rows, self.outputs]
    }
    fn notes(&self) -> Vec<String> {
        let bias = if self.bias.is_some() { "with a bias" } else { "without a bias" };
        vec![format!("{} rows, {} inputs, {} outputs, {bias}", self.rows, self.inputs, self.outputs)]
    }
    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T> {
        let x: Array2<T> = matrix(&self.x, self.rows, self.inputs);
        let w = MatrixView::f32(&self.weight, self.outputs, self.inputs);
        pass.linear(x.view(), Weights { w, b: self.bias.as_deref(), stored: Stored::Once }).into_iter().collect()
    }
    fn suspects(&self, lineup: &mut Lineup<'_>) {
        if self.bias.is_some() {
            let other = Linear { bias: None, ..self.clone() };
            lineup.add(Fitted::No, exact(&other), || "the bias is left out".into());
        }
        if self.inputs == self.outputs {
            let weight = (0..self.weight.len()).map(|i| self.weight[i % self.inputs * self.inputs + i / self.inputs]);
            let other = Linear { weight: weight.collect(), ..self.clone() };
            lineup.add(Fitted::No, exact(&other), || "the weight is transposed".into());
        }
        if matches!(lineup.facts.numbers.precision, Precision::Truth | Precision::Fast) {
            for operands in [Operands::Nearest, Operands::TowardZero] {
                let way = Way { operands, ..Way::default() };
                let short = self.run(&Pass::<f64>::new(Grid::Native).by(way));
                lineup.add(Fitted::No, short, || "x and weight are read with 10 bits of mantissa: TF32 is on".into());
            }
        }
        let wide = |w: &[f32]| w.iter().map(|w| f64::from(*w)).collect::<Vec<f64>>();
        let (weight, bias) = (wide(&self.weight), self.bias.as_deref().map(wide));
        fewer::suspects(&Layer { inputs: self.inputs, x: self.x.clone(), weight, bias }, lineup);
    }
}

/// `x` [..., n]: a softmax over the last axis. Spec: E3.2
#[derive(Clone)]
pub(super) struct Softmax {
    x: Vec<f64>,
    rows: usize,
    width: usize,
}

impl Softmax {
    pub fn read(arrays: &Arrays<'_>) -> Result<Softmax> {
        let (x, rows, width) = arrays.rows("x")?;
        Ok(Softmax { x, rows, width })
    }
}

impl Kernel for Softmax {
    const LIKE: Site = Site::Norm;
    fn in_type(&self, grid: Grid) -> Softmax {
        Softmax { x: rounded(&self.x, grid), ..self.clone() }
    }
    fn judged(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }
    fn notes(&self) -> Vec<String> {
        vec![format!("{} rows of {} scores", self.rows, self.width)]
    }
    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T> {
        let (grid, way) = (pass.grid, pass.way);
        let mut p: Vec<T> = of(&self.x);
        for row in p.chunks_exact_mut(self.width) {
            if way.in_order {
                row.reverse();
            }
            let total = weights(row);
            let total = if total == T::ZERO { T::ONE } else { total }; // C3.2a
            if way.fused {
                grid.round_all(row); // stored between two kernels
            }
            row.iter_mut().for_each(|p| *p = grid.round(*p / total));
            if way.in_order {
                row.reverse();
            }
        }
        p
    }
}

/// `x` [..., n, d], `positions` \[n\]; metadata `theta`. The two halves of a head are rotated. Spec: E3.12, E3.13
#[derive(Clone)]
pub(super) struct Rotary {
    x: Vec<f64>,
    rows: usize,
    width: usize,
    positions: Vec<i64>,
    theta: f64,
}

impl Rotary {
    pub fn read(arrays: &Arrays<'_>) -> Result<Rotary> {
        let (x, shape) = arrays.numbers("x")?;
        let even = shape.len() >= 2 && shape[shape.len() - 1].is_multiple_of(2);
        ensure!(even, arrays.at("x"), "[…, n, d] with an even d", format!("{shape:?}"));
        let (n, width) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let positions = arrays.file.i64("positions")?;
        ensure!(positions.shape() == [n], arrays.at("positions"), format!("[{n}]"), format!("{:?}", positions.shape()));
        let theta = arrays.number("theta")?.filter(|theta| *theta > 0.0);
        let theta = theta.ok_or_else(|| {
            Error::new(arrays.at("metadata theta"), "the base of the frequencies, such as 10000", "none")
        })?;
        let rows = x.len() / width;
        Ok(Rotary { x, rows, width, positions: positions.into_iter().collect(), theta })
    }
}

impl Rotary {
    fn position(&self, row: usize) -> i64 {
        self.positions[row % self.positions.len()]
    }
}

impl Kernel for Rotary {
    const LIKE: Site = Site::Norm;
    fn in_type(&self, grid: Grid) -> Rotary {
        Rotary { x: rounded(&self.x, grid), ..self.clone() }
    }
    fn judged(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }
    fn notes(&self) -> Vec<String> {
        let halves = "dimension i turns with i + d/2; a kernel that turns neighbours fails";
        vec![format!("{} rows of {}, θ {}; {halves}", self.rows, self.width, self.theta)]
    }
    fn rotation(&self) -> Option<Rotation> {
        let frequencies = Frequencies::new(self.theta, self.width);
        let pairs = frequencies.len();
        let positions = (0..self.rows * pairs).map(|i| self.position(i / pairs)).collect();
        Some(Rotation { frequencies: (0..pairs).map(|i| frequencies.angle(Turn::Exact, 1, i)).collect(), positions })
    }
    fn slack(&self) -> Option<Vec<f64>> {
        let frequencies = Frequencies::new(self.theta, self.width);
        let row = |row| (0..frequencies.len()).map(move |i| (row, i));
        Some((0..self.rows).flat_map(row).map(|(row, i)| frequencies.slack(self.position(row), i)).collect())
    }
    fn run<T: Real>(&self, pass: &Pass<'_, T>) -> Vec<T> {
        let frequencies = Frequencies::new(self.theta, self.width);
        let at = |row, pair| (pair, self.position(row));
        let angles = pass.angles((self.rows, frequencies.len()), &frequencies, at, None, pass.grid);
        let x: Array2<T> = matrix(&self.x, self.rows, self.width);
        pass.rotate(x, &angles, self.width).into_iter().collect()
    }
}
