//! The part of a model before the language model: it maps pixels to visual rows, in f32 or in f64 (the two containers).

use crate::input::prepared::{Prepared, PreparedImage};
use crate::num::{ByContainer, Real};
use crate::pass::Pass;
use crate::policy::Rater;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use std::fmt::Debug;

/// The vision tower and the projector of a model, with one generic implementation for both containers.
pub trait Encode: Debug + Send + Sync {
    /// The visual rows of the prompt's images, in prompt order: [n_v, d]. The prompt has at least one image. With
    /// DeepStack, the rows that it adds stand beside them: [n_v, d · (1 + |deepstack|)]. If rows of the tower rate, one
    /// more column has what they give to each visual row. Spec: E9.30, E9.31
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rater>) -> Array2<T>;
}

/// [`Encode`] as a trait object, for a model whose family is not known at compile time. `encode` calls the method for
/// its container.
pub trait Encoder: Debug + Send + Sync {
    /// [`Encode::encode`] in f32.
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared, rate: Option<Rater>) -> Array2<f32>;
    /// [`Encode::encode`] in f64.
    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared, rate: Option<Rater>) -> Array2<f64>;
}

impl<E: Encode> Encoder for E {
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared, rate: Option<Rater>) -> Array2<f32> {
        self.encode(pass, prompt, rate)
    }

    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared, rate: Option<Rater>) -> Array2<f64> {
        self.encode(pass, prompt, rate)
    }
}

impl dyn Encoder {
    /// [`Encode::encode`] in the container T. Spec: E5.1–E5.20
    pub fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rater>) -> Array2<T> {
        struct Method;
        impl ByContainer for Method {
            type In<T: Real> = fn(&dyn Encoder, &mut Pass<'_, T>, &Prepared, Option<Rater>) -> Array2<T>;
        }
        let method = T::pick::<Method>(
            |e, pass, prompt, rate| e.encode_f32(pass, prompt, rate),
            |e, pass, prompt, rate| e.encode_f64(pass, prompt, rate),
        );
        method(self, pass, prompt, rate)
    }
}

/// Rows with one more column: the mean of the votes of the patches that a row was made of, which are consecutive. No
/// votes: no column. rows: [n, d]; votes: [n · patches of a row]. Spec: E9.30, E9.31
pub(super) fn with_votes<T: Real>(rows: Array2<T>, votes: &[T]) -> Array2<T> {
    if votes.is_empty() {
        return rows;
    }
    let patches = votes.len() / rows.nrows();
    let mean = |votes: &[T]| votes.iter().fold(T::ZERO, |sum, &v| sum + v) / T::of(patches as f64);
    let column: Array2<T> = votes.chunks(patches).map(|votes| [mean(votes)]).collect::<Vec<_>>().into();
    concatenate(Axis(1), &[rows.view(), column.view()]).unwrap_or_else(|_| unreachable!("E9.30: a vote for each row"))
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
