//! Makes a prompt from token ids and prepared images: expands placeholders, checks lengths. Spec: E4.8, C4.8a, C4.8b

use crate::config::DecoderConfig;
use crate::error::{Error, Result, ensure};
use crate::family::{self, Family, Outline};
use crate::input::image;
use crate::input::mrope::FPS;
use crate::input::{GivenImage, Prepared, PreparedImage};
use crate::roles::Roles;

/// Fails if a prompt is longer than the model's positions. The prompt has `tokens` tokens; `visual` of them are rows of
/// images.
pub(super) fn fits(text: &DecoderConfig, tokens: usize, visual: usize) -> Result<()> {
    ensure!(
        tokens <= text.longest(),
        "prompt",
        format!("at most max_position_embeddings = {} tokens", text.max_positions),
        format!("{tokens}, {visual} of them visual"),
        "shorten the prompt or pass fewer or smaller images"
    );
    Ok(())
}

/// An image whose pixels the caller gives. `of` is the number of images in the prompt. If `film` is set, the pixels are
/// the frames of a video.
///
/// # Errors
/// Pixels of another shape than the family's processor produces.
fn given(family: &dyn Family, image: GivenImage, of: usize, film: bool) -> Result<PreparedImage> {
    let GivenImage { pixels, size, grid } = image;
    let layout = family.profile().pixels;
    let grid = grid.filter(|_| layout.has_grids());
    // Where a video has no placeholder of its own, its frames are images of one tile each.
    let alone = family.profile().video_token.is_none() && layout.is_flat() && pixels.shape().first() == Some(&1);
    let frames = (film || alone).then(|| pixels.shape().first().copied().unwrap_or(0));
    let tiles = pixels.shape().first().copied().filter(|_| layout.is_flat());
    let outline = Outline { size, grid, of, frames, most: None };
    let packing = family::packings(family, &[outline], tiles)?.remove(0);
    let count = grid.map_or(packing.tiles, |grid| grid.iter().product());
    let want = layout.shape(count);
    let asked = || match grid {
        Some([t, h, w]) => format!("the shape {want:?} of {t} × {h} × {w} patches"),
        None => format!("the shape {want:?} of {} × {} pixels", size.0, size.1),
    };
    ensure!(pixels.shape() == want, "pixels", asked(), format!("{:?}", pixels.shape()));
    let sha256 = image::sha256_of(&pixels);
    let interval = if film { family.interval(FPS) } else { 1.0 };
    Ok(PreparedImage { size, grid, pixels, interval, packing, sha256 })
}

impl Prepared {
    /// A prompt from token ids and the pixels of its images, for callers that have both (core, no feature needed).
    ///
    /// `ids` holds one placeholder for each image, or one placeholder for each row of the images. If the placeholder is
    /// the placeholder of videos, the only "image" is a video: its frames stand in order in the place of tiles, or its
    /// grid includes the time. Spec: D4.8
    ///
    /// # Errors
    /// A number of placeholders that fits neither count (the message names both), pixels of another shape than the size
    /// requires, an id beyond the vocabulary, a prompt longer than the model's positions. Spec: E4.8, C4.8a
    pub fn from_ids(family: &dyn Family, ids: &[u32], images: Vec<GivenImage>) -> Result<Prepared> {
        let (of, film) = (images.len(), family.visual_token(ids) != family.image_token());
        let image = |(i, image)| given(family, image, of, film).map_err(|e| e.within(format!("image {i}")));
        let images = images.into_iter().enumerate().map(image).collect::<Result<Vec<_>>>()?;
        assemble(family, ids, images)
    }
}

/// Expands the placeholders in `ids` to the rows of `images`, and checks the lengths. Spec: E4.8, C4.8a, C4.8b
pub(super) fn assemble(family: &dyn Family, ids: &[u32], images: Vec<PreparedImage>) -> Result<Prepared> {
    let (image_token, text) = (family.visual_token(ids), family.text());
    let rows: usize = images.iter().map(|i| i.packing.rows.len()).sum();
    let placeholders = ids.iter().filter(|&&id| id == image_token).count();
    // A placeholder stands for an image or a video, or for a moment of the video.
    let moments: Vec<usize> = images.iter().flat_map(|i| i.packing.moments()).collect();
    let by_moment = placeholders == moments.len();
    ensure!(
        placeholders == images.len() || placeholders == rows || by_moment,
        "prompt",
        format!("{} image placeholders, one an image, or {rows}, one a visual row", images.len()),
        placeholders,
        "put as many placeholders into the prompt as there are images, or none"
    );
    let whole = images.iter().map(|i| i.packing.rows.len());
    let mut sizes = if by_moment { moments } else { whole.collect() }.into_iter();
    let expand = placeholders != rows;
    let ids: Vec<u32> = ids
        .iter()
        .flat_map(|&id| {
            let visual = expand && id == image_token;
            std::iter::repeat_n(id, if visual { sizes.next().unwrap_or(1) } else { 1 })
        })
        .collect();
    if let Some(i) = ids.iter().position(|&id| id as usize >= text.vocab) {
        let vocab = format!("ids below the vocabulary's {}", text.vocab);
        return Err(Error::new(format!("prompt: token {i}"), vocab, ids[i]));
    }
    ensure!(!ids.is_empty(), "prompt", "at least one token", "none");
    fits(text, ids.len(), rows)?;
    Ok(Prepared {
        roles: Roles::of(&ids, image_token),
        positions: family.positions(&ids, &images),
        ids,
        images,
        prompt: String::new(),
        preprocess: String::new(),
        lossy: None,
    })
}
