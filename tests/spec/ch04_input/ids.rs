//! The core door: prompts from ids and pixels.

use super::*;
use aircache::family::{self, Family};
use aircache::files::Files;
use aircache::input::{GivenImage, Positions, Prepared, PreparedImage};
use ndarray::Array4;

pub fn demo() -> std::sync::Arc<dyn Family> {
    family::load(&aircache::demo::files()).unwrap()
}

fn blank(tiles: usize, size: (usize, usize)) -> GivenImage {
    GivenImage::tiles(Array4::zeros((tiles, 3, 64, 64)), size)
}

#[test]
fn e4_8_placeholders_expand_and_expanded_ids_stay() {
    // 10 × 20 px: one tile beside the base tile; the image fills 4 of the tile's 8 token rows.
    let short = Prepared::from_ids(&*demo(), &[1, 489, 2], vec![blank(2, (10, 20))]).unwrap();
    assert_eq!(short.ids.len(), 2 + 64 + 4 * 9);
    assert_eq!((short.ids[0], short.ids[1], *short.ids.last().unwrap()), (1, 489, 2));
    assert_eq!(short.roles.visual(), (1..=100).collect::<Vec<_>>());
    assert_eq!(short.positions, Positions::Linear((0..102).collect()));
    let long = Prepared::from_ids(&*demo(), &short.ids, vec![blank(2, (10, 20))]).unwrap();
    assert_eq!((long.ids, long.roles), (short.ids, short.roles));
    let none = Prepared::from_ids(&*demo(), &[3, 4], vec![]).unwrap();
    assert_eq!((none.ids, none.images.len()), (vec![3, 4], 0));
    let two = Prepared::from_ids(&*demo(), &[489, 7, 489], vec![blank(1, (5, 5)), blank(1, (9, 5))]).unwrap();
    assert_eq!((two.ids.len(), two.ids[65]), (131, 7));
    assert_eq!(two.visual_rows().last(), Some((1, 64)));
}

#[test]
fn c4_8a_both_counts_are_named() {
    let fail =
        |ids: &[u32], images: Vec<GivenImage>| Prepared::from_ids(&*demo(), ids, images).unwrap_err().to_string();
    let e = fail(&[489, 489], vec![blank(2, (10, 20))]);
    assert!(e.contains("1 image placeholders") && e.contains("100") && e.contains("found 2"), "{e}");
    assert!(fail(&[489], vec![]).contains("0 image placeholders"));
    assert!(fail(&[489], vec![blank(3, (10, 20))]).contains("[2, 3, 64, 64]"));
    assert!(fail(&[489], vec![blank(2, (0, 20))]).contains("0 × 20"));
    assert!(fail(&[496], vec![]).contains("vocabulary's 496"));
    assert!(fail(&[], vec![]).contains("at least one token"));
}

#[test]
fn c4_8b_a_prompt_past_the_positions_names_both_numbers() {
    let e = Prepared::from_ids(&*demo(), &[5; 4097], vec![]).unwrap_err().to_string();
    assert!(e.contains("4096") && e.contains("4097"), "{e}");
}

/// Compares ids, roles, sizes and pixels of a prepared prompt with a bundle of transformers.
pub fn equals(prepared: &Prepared, bundle: &[u8], what: &str) {
    let file = safetensors::SafeTensors::deserialize(bundle).unwrap();
    let i64s = |name: &str| -> Vec<i64> {
        let data = file.tensor(name).unwrap();
        data.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let ids: Vec<i64> = prepared.ids.iter().map(|&i| i.into()).collect();
    assert_eq!(ids, i64s("input.ids"), "{what}");
    let roles: Vec<u8> = prepared.roles.0.iter().map(|&r| r as u8).collect();
    assert_eq!(roles, file.tensor("input.roles").unwrap().data(), "{what}");
    if prepared.images.is_empty() {
        return;
    }
    let sizes: Vec<i64> = prepared.images.iter().flat_map(|i| [i.size.0 as i64, i.size.1 as i64]).collect();
    assert_eq!(sizes, i64s("input.sizes"), "{what}");
    let Ok(pixels) = file.tensor("input.pixels") else { return };
    let got = padded(&prepared.images);
    assert!(got == pixels.data(), "{what}: pixels differ");
}

/// The pixels as the processor stacks them: little-endian f32; shorter images are padded with zero tiles.
pub fn padded(images: &[PreparedImage]) -> Vec<u8> {
    let most = images.iter().map(|i| i.pixels.shape()[0]).max().unwrap();
    let mut all: Vec<u8> = Vec::new();
    for image in images {
        let [tiles, c, h, w] = *image.pixels.shape() else { panic!() };
        all.extend(image.pixels.iter().flat_map(|v| v.to_le_bytes()));
        all.resize(all.len() + (most - tiles) * c * h * w * 4, 0);
    }
    all
}

#[test]
fn e4_8_ids_and_pixels_of_transformers_pass_the_core_door() {
    for case in std::fs::read_dir(golden("llava")).unwrap() {
        let case = case.unwrap().path();
        let what = case.file_name().unwrap().to_string_lossy().into_owned();
        let config = family::load(&Files::Folder(case.join("model"))).unwrap();
        let bundle = std::fs::read(case.join("expected.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bundle).unwrap();
        let i64s = |name: &str| -> Vec<i64> {
            let Ok(t) = file.tensor(name) else { return vec![] };
            t.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let ids: Vec<u32> = i64s("input.ids").into_iter().map(|i| i as u32).collect();
        let sizes: Vec<(usize, usize)> =
            i64s("input.sizes").chunks(2).map(|s| (s[0] as usize, s[1] as usize)).collect();
        let mut images = vec![];
        if !sizes.is_empty() {
            let t = file.tensor("input.pixels").unwrap();
            let values: Vec<f32> = t.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let [.., tiles, c, h, w] = *t.shape() else { panic!() };
            for (image, size) in values.chunks(tiles * c * h * w).zip(&sizes) {
                images
                    .push(GivenImage::tiles(Array4::from_shape_vec((tiles, c, h, w), image.to_vec()).unwrap(), *size));
            }
        }
        let prepared = Prepared::from_ids(&*config, &ids, images).unwrap();
        equals(&prepared, &bundle, &what);
    }
}
