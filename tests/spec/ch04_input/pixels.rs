//! Tiles of pixels, compared with transformers' two image processors.

use super::*;

fn settings(mean: [f64; 3], std: [f64; 3], resampler: Resampler) -> Pixels {
    let rescale = Some(1.0 / 255.0);
    Pixels { resize: true, filter: Filter::Bicubic, resampler, rescale, mean, std, normalize: true, exact: false }
}

#[test]
fn e4_10_pixel_tensors_equal_both_processors_bit_for_bit() {
    let doc = json("preprocess/pixels.json");
    let three = |v: &Value| -> [f64; 3] { serde_json::from_value(v.clone()).unwrap() };
    let mut compared = 0;
    for case in doc["cases"].as_array().unwrap() {
        let tile = case["tile"].as_u64().unwrap() as usize;
        let grid = &doc["grids"][case["grid"].as_str().unwrap()];
        let pinpoints = grid.as_array().unwrap().iter().map(pair).collect();
        let anyres = Anyres { pinpoints, tile, patch: tile / 3, max_tiles: 9, drop_first: false };
        let images = case["images"].as_array().unwrap();
        for (name, resampler) in [("torchvision", Resampler::Torchvision), ("pillow", Resampler::Pillow)] {
            let pixels = settings(three(&case["mean"]), three(&case["std"]), resampler);
            let want = &case[name];
            let most = want["shape"][1].as_u64().unwrap() as usize;
            let mut all = Vec::new();
            for image in images {
                let kind = image["content"].as_str().unwrap();
                let rgb = content(kind, pair(&image["size"]), image["seed"].as_u64().unwrap());
                let tiles = pixels.tiles(rgb.view(), &anyres, images.len() == 1).unwrap();
                all.extend(tiles.iter().flat_map(|v| v.to_le_bytes()));
                all.resize(all.len() + (most - tiles.dim().0) * 3 * tile * tile * 4, 0);
            }
            assert_eq!(hash(&all), want["sha256"].as_str().unwrap(), "{name} {case}");
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared}");
}

#[test]
fn e4_9_worked_example() {
    let half = settings([0.5; 3], [0.5; 3], Resampler::Torchvision);
    assert_eq!((half.levels()[0][0], half.levels()[0][255]), (-1.0, 1.0));
    let raw = Pixels { rescale: None, normalize: false, ..half.clone() };
    assert_eq!(raw.levels()[2][7], 7.0);
    let scaled = Pixels { normalize: false, ..half };
    assert_eq!(scaled.levels()[1][255], 1.0);
}

#[test]
fn e4_10_worked_example() {
    let half = settings([0.5; 3], [0.5; 3], Resampler::Torchvision);
    let tile = half.tiles(Array3::from_elem((32, 64, 3), 255).view(), &geometry::anyres("demo"), false).unwrap();
    let row = |y: usize| tile[[0, 1, y, 9]];
    assert_eq!((row(15), row(16), row(47), row(48)), (half.levels()[1][127], 1.0, 1.0, half.levels()[1][127]));
}

#[test]
fn c4_10a_a_square_beyond_the_limit_is_an_error() {
    let rgb = Array3::<u8>::zeros((1, 20_000, 3));
    let anyres = geometry::anyres("demo");
    let error = settings([0.5; 3], [0.5; 3], Resampler::Torchvision).tiles(rgb.view(), &anyres, false).unwrap_err();
    assert!(error.to_string().contains("1 × 20000"), "{error}");
    assert!(settings([0.5; 3], [0.5; 3], Resampler::Torchvision).tiles(rgb.view(), &anyres, true).is_ok());
}

#[test]
fn d4_2_images_are_checked() {
    assert!(Image::from_rgb(0, 3, vec![]).is_err());
    assert!(Image::from_rgb(1, 2, vec![0; 5]).unwrap_err().to_string().contains("found 5"));
    assert!(Image::from_rgb(usize::MAX, usize::MAX, vec![]).is_err());
    assert_eq!(Image::from_rgb(1, 2, vec![7; 6]).unwrap().size(), (1, 2));
}
