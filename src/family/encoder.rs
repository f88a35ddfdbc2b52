//! The part of a model before the language model: it maps pixels to visual rows, in f32 or in f64 (the two containers).

use crate::input::prepared::Prepared;
use crate::num::{ByContainer, Real};
use crate::pass::Pass;
use ndarray::Array2;
use std::fmt::Debug;

/// The vision tower and the projector of a model, with one generic implementation for both containers.
pub trait Encode: Debug + Send + Sync {
    /// The visual rows of the prompt's images, in prompt order: [n_v, d]. The prompt has at least one image.
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T>;
}

/// [`Encode`] as a trait object, for a model whose family is not known at compile time. `encode` calls the method for
/// its container.
pub trait Encoder: Debug + Send + Sync {
    /// [`Encode::encode`] in f32.
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared) -> Array2<f32>;
    /// [`Encode::encode`] in f64.
    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared) -> Array2<f64>;
}

impl<E: Encode> Encoder for E {
    fn encode_f32(&self, pass: &mut Pass<'_, f32>, prompt: &Prepared) -> Array2<f32> {
        self.encode(pass, prompt)
    }

    fn encode_f64(&self, pass: &mut Pass<'_, f64>, prompt: &Prepared) -> Array2<f64> {
        self.encode(pass, prompt)
    }
}

impl dyn Encoder {
    /// The visual rows of the prompt's images, in prompt order: [n_v, d]. The prompt has at least one image.
    /// Spec: E5.1–E5.15
    pub fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        struct Method;
        impl ByContainer for Method {
            type In<T: Real> = fn(&dyn Encoder, &mut Pass<'_, T>, &Prepared) -> Array2<T>;
        }
        let method = T::pick::<Method>(
            |e, pass, prompt| e.encode_f32(pass, prompt),
            |e, pass, prompt| e.encode_f64(pass, prompt),
        );
        method(self, pass, prompt)
    }
}
