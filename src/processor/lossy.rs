//! What other decoders make of a prompt's lossy images. Spec: D4.18

use super::Processor;
use crate::error::Result;
use crate::input::lossy::{OTHERS, PROGRAMS};
use crate::input::prepared::Lossy;
use crate::input::{Image, Prepared};
use ndarray::{ArrayD, Dimension};

impl Processor {
    /// A prompt, with what other decoders make of its lossy images. images: those that the prompt was prepared from;
    /// prepare: prepares the same prompt from other images. Spec: D4.18
    ///
    /// # Errors
    /// As `prepare`, and as [`Image::open`].
    pub fn with_decoders(
        &self,
        images: &[Image],
        prompt: Prepared,
        prepare: impl Fn(&[Image]) -> Result<Prepared>,
    ) -> Result<Prepared> {
        let lossy: Vec<&Image> = images.iter().filter(|image| image.is_lossy()).collect();
        if lossy.is_empty() {
            return Ok(prompt);
        }
        let levels = self.settings().pixels.levels().map(|level| (level[255] - level[0]).abs() / 255.0);
        // The frames of a film may be one image of the prompt.
        let apart = prompt.images.len() == images.len();
        let level = |i: usize, pixels: &ArrayD<f32>| {
            let numbers = pixels.shape()[1];
            let of = |channel: usize| if apart && !images[i].is_lossy() { 0.0 } else { levels[channel] };
            ArrayD::from_shape_fn(pixels.raw_dim(), |at| of(at.as_array_view()[1] * 3 / numbers))
        };
        let hull = prompt.images.iter().map(|image| &image.pixels).enumerate();
        let mut hull: Vec<_> =
            hull.map(|(i, own)| [own.clone(), own.clone(), own.clone(), own.clone(), level(i, own)]).collect();
        for other in 0..OTHERS {
            let read = |image: &Image| Ok(image.decoded_by(other)?.unwrap_or_else(|| image.clone()));
            let read = images.iter().map(read).collect::<Result<Vec<Image>>>()?;
            for (hull, image) in hull.iter_mut().zip(prepare(&read)?.images) {
                let first = if other < PROGRAMS { 0 } else { 2 };
                for ends in hull[first..4].chunks_exact_mut(2) {
                    ends[0].zip_mut_with(&image.pixels, |least, v| *least = least.min(*v));
                    ends[1].zip_mut_with(&image.pixels, |most, v| *most = most.max(*v));
                }
            }
        }
        let name = |image: &&Image| image.label().rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(Prepared { lossy: Some(Lossy { images: lossy.iter().map(name).collect(), pixels: hull }), ..prompt })
    }
}
