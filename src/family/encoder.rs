//! The part of a model before the language model: it maps pixels to visual rows, in f32 or in f64 (the two containers).

use crate::input::prepared::{Prepared, PreparedImage};
use crate::num::{ByContainer, Real};
use crate::pass::Pass;
use crate::policy::Rate;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use std::fmt::Debug;

/// The vision tower and the projector of a model, with one generic implementation for both containers.
pub trait Encode: Debug + Send + Sync {
    /// The visual rows of the prompt's images, in prompt order: [n_v, d]. The prompt has at least one image. With
    /// DeepStack, the rows that it adds stand beside them: [n_v, d · (1 + |deepstack|)]. If rows of the tower rate, one
    /// more column has what they give to each visual row. If keys are asked for, the row's key follows, and then what the
    /// projector reads of the row, if rows reach it one by one. Spec: E9.30, E9.31, E9.35, E9.36
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T>;

    /// What the projector makes of sums of the rows that it reads: [n, width] → [n, d]. If rows do not reach it one by
    /// one, sums are of visual rows already. Spec: E9.36
    fn project<T: Real>(&self, _pass: &Pass<'_, T>, sums: Array2<T>) -> Array2<T> {
        sums
    }
}

/// [`Encode`] as a trait object, for a model whose family is not known at compile time. `encode` calls the method for
/// its container.
pub trait Encoder: Debug + Send + Sync {
    /// [`Encode::encode`] in f32.
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared, rate: Option<Rate>) -> Array2<f32>;
    /// [`Encode::encode`] in f64.
    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared, rate: Option<Rate>) -> Array2<f64>;
    /// [`Encode::project`] in f32.
    fn project_f32(&self, pass: &Pass<'_, f32>, sums: Array2<f32>) -> Array2<f32>;
    /// [`Encode::project`] in f64.
    fn project_f64(&self, pass: &Pass<'_, f64>, sums: Array2<f64>) -> Array2<f64>;
}

impl<E: Encode> Encoder for E {
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared, rate: Option<Rate>) -> Array2<f32> {
        self.encode(pass, prompt, rate)
    }

    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared, rate: Option<Rate>) -> Array2<f64> {
        self.encode(pass, prompt, rate)
    }

    fn project_f32(&self, pass: &Pass<'_, f32>, sums: Array2<f32>) -> Array2<f32> {
        self.project(pass, sums)
    }

    fn project_f64(&self, pass: &Pass<'_, f64>, sums: Array2<f64>) -> Array2<f64> {
        self.project(pass, sums)
    }
}

impl dyn Encoder {
    /// [`Encode::encode`] in the container T. Spec: E5.1–E5.20
    pub fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        struct Method;
        impl ByContainer for Method {
            type In<T: Real> = fn(&dyn Encoder, &mut Pass<'_, T>, &Prepared, Option<Rate>) -> Array2<T>;
        }
        let method = T::pick::<Method>(
            |e, pass, prompt, rate| e.encode_f32(pass, prompt, rate),
            |e, pass, prompt, rate| e.encode_f64(pass, prompt, rate),
        );
        method(self, pass, prompt, rate)
    }

    /// [`Encode::project`] in the container T. Spec: E9.36
    pub fn project<T: Real>(&self, pass: &Pass<'_, T>, sums: Array2<T>) -> Array2<T> {
        struct Method;
        impl ByContainer for Method {
            type In<T: Real> = fn(&dyn Encoder, &Pass<'_, T>, Array2<T>) -> Array2<T>;
        }
        let method =
            T::pick::<Method>(|e, pass, sums| e.project_f32(pass, sums), |e, pass, sums| e.project_f64(pass, sums));
        method(self, pass, sums)
    }
}

/// Rows with more columns: the mean of the ratings of the patches that a row was made of, which are consecutive. No
/// ratings: no column. rows: [n, d]; ratings: [n · patches of a row, columns]. Spec: E9.30, E9.31, E9.35
pub(super) fn with_ratings<T: Real>(rows: Array2<T>, ratings: ArrayView2<'_, T>) -> Array2<T> {
    if ratings.is_empty() {
        return rows;
    }
    let patches = ratings.nrows() / rows.nrows();
    let mean = Array2::from_shape_fn((rows.nrows(), ratings.ncols()), |(row, i)| {
        let of_row = ratings.column(i);
        let sum = (row * patches..(row + 1) * patches).fold(T::ZERO, |sum, patch| sum + of_row[patch]);
        sum / T::of(patches as f64)
    });
    concatenate(Axis(1), &[rows.view(), mean.view()]).unwrap_or_else(|_| unreachable!("E9.30: ratings for each row"))
}

/// The visual rows of images of any size, which do not attend to each other. One image at a time bounds the memory; a
/// watched pass takes all images at once, because it shows whole stages.
///
/// `rows`: the visual rows of some images. It takes their patches, [n, numbers of a patch], and their grids: time, height
/// and width in patches. Spec: C5.7a, C5.17a, C5.19a
pub(super) fn image_by_image<T: Real>(
    pass: &mut Pass<'_, T>,
    prompt: &Prepared,
    rows: impl Fn(&mut Pass<'_, T>, ArrayView2<'_, f32>, &[[usize; 3]]) -> Array2<T>,
) -> Array2<T> {
    let grids: Vec<[usize; 3]> = prompt.images.iter().filter_map(|image| image.grid).collect();
    let at_once = if pass.is_watched() { grids.len() } else { 1 };
    let parts = prompt.images.chunks(at_once).zip(grids.chunks(at_once));
    let all: Vec<Array2<T>> =
        parts.map(|(images, grids)| rows(pass, PreparedImage::joined(images).view(), grids)).collect();
    let views: Vec<_> = all.iter().map(|rows| rows.view()).collect();
    concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E5.10: rows of one width"))
}
