//! The array layout of the pixels of one image, and of the pixels of all images of a prompt.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, concatenate};

/// The layout of the pixels of one image ([`PreparedImage::pixels`](super::PreparedImage::pixels)) and of all images of
/// a prompt in one array. A family's processor produces the array of all images, and a bundle stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelLayout {
    /// Tiles of side S pixels. One image: [tiles, 3, S, S]. All images: [images, tiles of the largest, 3, S, S]; images
    /// with fewer tiles are padded with zero tiles.
    Padded(usize),
    /// Tiles of side S pixels. One image: [tiles, 3, S, S]. All images: [tiles, 3, S, S], one image after the other.
    Tiles(usize),
    /// Patches of this many numbers, for images of any size. One image: [patches, numbers]. All images: [patches,
    /// numbers], one image after the other. The images' grids give the number of patches of each image.
    Patches(usize),
}

impl PixelLayout {
    /// Whether each image needs a grid (time, height and width in patches).
    pub fn has_grids(self) -> bool {
        matches!(self, PixelLayout::Patches(_))
    }

    /// Whether the tiles of all images follow each other.
    pub fn is_flat(self) -> bool {
        matches!(self, PixelLayout::Tiles(_))
    }

    /// The shape of one image's pixels; `count` is the number of its tiles or patches.
    pub fn shape(self, count: usize) -> Vec<usize> {
        match self {
            PixelLayout::Padded(side) | PixelLayout::Tiles(side) => vec![count, 3, side, side],
            PixelLayout::Patches(numbers) => vec![count, numbers],
        }
    }

    /// The pixels of all images in one array. There must be at least one image.
    pub fn join(self, images: &[ArrayViewD<'_, f32>]) -> ArrayD<f32> {
        let PixelLayout::Padded(_) = self else {
            return concatenate(Axis(0), images)
                .unwrap_or_else(|_| unreachable!("D4.5: patches or tiles of one shape"));
        };
        let most = images.iter().map(|i| i.shape()[0]).max().unwrap_or(0);
        let mut all = ArrayD::zeros(IxDyn(&[&[images.len()], &self.shape(most)[..]].concat()));
        for (mut padded, image) in all.outer_iter_mut().zip(images) {
            padded.slice_axis_mut(Axis(0), Slice::from(..image.shape()[0])).assign(image);
        }
        all
    }

    /// Splits the array of all images into the pixels of each image; `counts` are the tiles or patches of each image.
    /// Undoes [`join`](Self::join).
    ///
    /// # Errors
    /// An array of another shape. The error holds the expected shape, for a message.
    pub fn part(self, all: ArrayViewD<'_, f32>, counts: &[usize]) -> Result<Vec<ArrayD<f32>>, String> {
        let shape = self.shape(counts.iter().sum());
        if let PixelLayout::Padded(side) = self {
            let most = counts.iter().copied().max().unwrap_or(0);
            let fits = all.ndim() == 5 && all.shape()[0] == counts.len() && all.shape()[1] >= most;
            if !fits || all.shape()[2..] != shape[1..] {
                return Err(format!("the shape [{}, tiles, 3, {side}, {side}]", counts.len()));
            }
            let tiles = |(image, &count): (ArrayViewD<'_, f32>, &usize)| {
                image.slice_axis(Axis(0), Slice::from(..count)).to_owned()
            };
            return Ok(all.outer_iter().zip(counts).map(tiles).collect());
        }
        if all.shape() != shape {
            return Err(format!("the shape {shape:?}"));
        }
        let mut first = 0;
        let part = |&count: &usize| {
            let range = first..first + count;
            first = range.end;
            all.slice_axis(Axis(0), Slice::from(range)).to_owned()
        };
        Ok(counts.iter().map(part).collect())
    }
}
