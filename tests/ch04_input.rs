//! Chapter 04: what images and prompts become, against torchvision, Pillow and transformers.

use aircache::input::image::Image;
use aircache::input::pixels::Pixels;
use aircache::input::{Anyres, PackedRow};
use aircache::kernel::resample::{Filter, Resampler, resize};
use ndarray::Array3;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(path)).unwrap()).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn pair(v: &Value) -> (usize, usize) {
    (v[0].as_u64().unwrap() as usize, v[1].as_u64().unwrap() as usize)
}

/// The images of tests/golden/resample/README.md: [h, w, 3].
fn content(kind: &str, (h, w): (usize, usize), seed: u64) -> Array3<u8> {
    let mut s = seed as u32;
    let mut out = Array3::zeros((h, w, 3));
    for ((y, x, c), v) in out.indexed_iter_mut() {
        s = s.wrapping_mul(1664525).wrapping_add(1013904223);
        *v = match (kind, c) {
            ("noise", _) => (s >> 24) as u8,
            (_, 0) => ((7 * x + 3 * y + seed as usize) % 256) as u8,
            (_, 1) => 255 - (5 * x % 256) as u8,
            _ => ((11 * y + x * y) % 256) as u8,
        };
    }
    out
}

fn bytes(image: &Array3<u8>) -> Vec<u8> {
    image.iter().copied().collect()
}

mod resampling {
    use super::*;

    #[test]
    fn e4_3_equals_torchvision_and_pillow_value_for_value() {
        let sweep = json("resample/sweep.json");
        let outputs = [
            ("torchvision_bicubic", Filter::Bicubic, Resampler::Torchvision),
            ("torchvision_bilinear", Filter::Bilinear, Resampler::Torchvision),
            ("pillow_bicubic", Filter::Bicubic, Resampler::Pillow),
            ("pillow_bilinear", Filter::Bilinear, Resampler::Pillow),
            ("pillow_lanczos", Filter::Lanczos, Resampler::Pillow),
        ];
        let mut compared = 0;
        for case in sweep["cases"].as_array().unwrap() {
            let (from, to) = (pair(&case["from"]), pair(&case["to"]));
            let image = content(case["content"].as_str().unwrap(), from, case["seed"].as_u64().unwrap());
            assert_eq!(hash(&bytes(&image)), case["input"]["sha256"], "input {from:?}");
            for (name, filter, resampler) in outputs {
                let Some(want) = case.get(name) else { continue };
                let got = resize(image.view(), to, filter, resampler).unwrap();
                assert_eq!(hash(&bytes(&got)), want["sha256"].as_str().unwrap(), "{name} {from:?} → {to:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 72 * 5);
    }

    #[test]
    fn t4_1_pillow_12_differs_only_where_pillow_13_goes_vertical_first() {
        for case in json("resample/sweep.json")["cases"].as_array().unwrap() {
            let (from, to) = (pair(&case["from"]), pair(&case["to"]));
            let image = content(case["content"].as_str().unwrap(), from, case["seed"].as_u64().unwrap());
            let run = |r| resize(image.view(), to, Filter::Bicubic, r).unwrap();
            let same = run(Resampler::Pillow) == run(Resampler::Pillow12);
            assert!(same || case["pillow_vertical_first"] == true, "{from:?} → {to:?}");
        }
    }

    #[test]
    fn t4_2_filters_at_their_worked_points() {
        assert_eq!([0.0, 0.25, 1.0].map(|x| Filter::Bilinear.at(x)), [1.0, 0.75, 0.0]);
        assert_eq!(
            [0.0, 0.5, -0.5, 1.0, 1.5, 2.0].map(|x| Filter::Bicubic.at(x)),
            [1.0, 0.5625, 0.5625, 0.0, -0.0625, 0.0]
        );
        assert_eq!([0.0, 3.0, -4.0].map(|x| Filter::Lanczos.at(x)), [1.0, 0.0, 0.0]);
    }

    /// The definition, with a whole second image between the passes. Spec: E4.1–E4.3
    fn naive(image: &Array3<u8>, to: (usize, usize)) -> Array3<u8> {
        let pass = |image: &Array3<u8>, axis: usize, n_out: usize| {
            let n_in = image.dim_of(axis);
            if n_in == n_out {
                return image.clone();
            }
            let (scale, stretch) = (n_in as f64 / n_out as f64, (n_in as f64 / n_out as f64).max(1.0));
            let weights: Vec<(usize, Vec<f64>)> = (0..n_out)
                .map(|i| {
                    let center = scale * (i as f64 + 0.5);
                    let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
                    let end = ((center + 2.0 * stretch + 0.5) as usize).min(n_in);
                    let w = (first..end).map(|j| Filter::Bicubic.at((j as f64 - center + 0.5) * (1.0 / stretch)));
                    let w: Vec<f64> = w.collect();
                    let total: f64 = w.iter().fold(0.0, |a, b| a + b);
                    (first, w.iter().map(|v| v / total).collect())
                })
                .collect();
            let top = weights.iter().flat_map(|(_, w)| w).fold(0f64, |a, &b| a.max(b));
            let bits = (0..22).find(|b| (0.5 + top * 2f64.powi(b + 1)) as i64 >= 1 << 15).unwrap_or(22);
            let mut shape = image.raw_dim();
            shape[axis] = n_out;
            Array3::from_shape_fn(shape, |at| {
                let at = [at.0, at.1, at.2];
                let (first, w) = &weights[at[axis]];
                let mut sum = 1i64 << (bits - 1);
                for (j, w) in w.iter().enumerate() {
                    let mut from = at;
                    from[axis] = first + j;
                    sum += (w * 2f64.powi(bits)).round() as i64 * i64::from(image[from]);
                }
                (sum >> bits).clamp(0, 255) as u8
            })
        };
        pass(&pass(image, 1, to.1), 0, to.0)
    }

    trait DimOf {
        fn dim_of(&self, axis: usize) -> usize;
    }
    impl DimOf for Array3<u8> {
        fn dim_of(&self, axis: usize) -> usize {
            self.shape()[axis]
        }
    }

    proptest! {
        #[test]
        fn e4_2_equals_its_naive_twin(h in 1usize..40, w in 1usize..40, to in (1usize..40, 1usize..40), seed: u32) {
            let image = content("noise", (h, w), seed.into());
            prop_assert_eq!(resize(image.view(), to, Filter::Bicubic, Resampler::Torchvision).unwrap(), naive(&image, to));
        }

        #[test]
        fn e4_1_a_flat_image_stays_flat(h in 1usize..30, w in 1usize..30, to in (1usize..30, 1usize..30), v: u8) {
            let image = Array3::from_elem((h, w, 3), v);
            for resampler in Resampler::ALL {
                for filter in [Filter::Bilinear, Filter::Bicubic] {
                    let out = resize(image.view(), to, filter, resampler).unwrap();
                    prop_assert!(out.iter().all(|&o| o.abs_diff(v) <= 1), "{:?}", resampler);
                }
            }
        }
    }

    #[test]
    fn c4_1_sides_and_filters_that_are_refused() {
        let image = Array3::<u8>::zeros((1, 2, 3));
        let fail = |to, f, r| resize(image.view(), to, f, r).unwrap_err().to_string();
        assert!(fail((0, 4), Filter::Bicubic, Resampler::Pillow).contains("1 × 2 to be resized to 0 × 4"));
        assert!(fail((1 << 21, 4), Filter::Bicubic, Resampler::Pillow).contains("sides of 1 to 1048576"));
        assert!(fail((3, 4), Filter::Lanczos, Resampler::Torchvision).contains("lanczos"));
    }
}

mod geometry {
    use super::*;

    pub fn grids(tile: usize, high: usize, wide: usize) -> Vec<(usize, usize)> {
        (1..=high).flat_map(|h| (1..=wide).map(move |w| (h * tile, w * tile))).collect()
    }

    pub fn anyres(set: &str) -> Anyres {
        let demo =
            [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2)];
        let (pinpoints, tile, patch, max_tiles) = match set {
            "demo" => (demo.iter().map(|&(h, w)| (64 * h, 64 * w)).collect(), 64, 8, 9),
            "hub" => (grids(384, 6, 6), 384, 14, 9),
            _ => (grids(28, 4, 4), 28, 8, 2),
        };
        Anyres { pinpoints, tile, patch, max_tiles, drop_first: false }
    }

    #[test]
    fn e4_8_grids_sizes_and_rows_equal_transformers_on_2441_sizes() {
        let text = std::fs::read_to_string(golden("anyres/sweep.csv")).unwrap();
        let mut lines = text.lines().filter(|l| !l.starts_with('#'));
        let head: Vec<&str> = lines.next().unwrap().split(',').collect();
        let mut compared = 0;
        for line in lines {
            let cells: Vec<usize> = line.split(',').map(|c| c.parse().unwrap()).collect();
            let n = |name: &str| cells[head.iter().position(|h| *h == name).unwrap()];
            let size = (n("height"), n("width"));
            for set in ["demo", "hub", "max2"] {
                let n = |name: &str| n(&format!("{set}_{name}"));
                let a = anyres(set);
                let best = a.resolution(size).unwrap();
                assert_eq!(best, (n("best_h"), n("best_w")), "{set} {size:?}");
                assert_eq!(Anyres::fit(size, best), (n("new_h"), n("new_w")), "{set} {size:?}");
                let packing = a.packing(size, true).unwrap();
                assert_eq!(packing.rows.len(), n("tokens"), "{set} {size:?}");
                assert_eq!(packing.height, n("rows"), "{set} {size:?}");
                let newlines = packing.rows.iter().filter(|r| **r == PackedRow::Newline).count();
                assert_eq!(newlines, n("rows"), "{set} {size:?}");
            }
            compared += 1;
        }
        assert_eq!(compared, 2441);
    }

    #[test]
    fn e4_4_worked_example() {
        // 100 × 200 px: 128 × 256 shows all 20000 pixels, 64 × 128 but 8192 of them.
        let a = anyres("demo");
        assert_eq!(a.resolution((100, 200)).unwrap(), (128, 256));
        assert_eq!(a.grid((100, 200)).unwrap(), (2, 4));
        // A small image is whole in every grid; the smallest wastes least.
        assert_eq!(a.resolution((10, 20)).unwrap(), (64, 64));
    }

    #[test]
    fn e4_5_worked_example() {
        assert_eq!(Anyres::fit((100, 333), (128, 256)), (77, 256)); // 76.88 rounds up
        assert_eq!(Anyres::fit((333, 100), (256, 128)), (256, 77));
    }

    #[test]
    fn e4_6_worked_example() {
        // 16 × 32 tokens; the image fills 32/333·100 = 9.6 rows: (16 − 9) / 2 = 3 go at the top and at the bottom.
        let grid = anyres("demo").tokens((100, 333)).unwrap();
        assert_eq!((grid.cut, grid.unpadded, grid.shrunk), ((3, 0), (10, 32), (10, 32)));
    }

    #[test]
    fn e4_7_worked_example() {
        // 4 × 4 tiles of 3 × 3 tokens, N = 2: √(144 / 18) = 2.83, so 12 // 2.83 = 4 rows and columns.
        let a = anyres("max2");
        let packing = a.packing((112, 112), true).unwrap();
        assert_eq!((packing.height, packing.width), (4, 4));
        let PackedRow::Blend(parts) = packing.rows[packing.base] else { panic!("{:?}", packing.rows[packing.base]) };
        // Source index 12/4 · 0.5 − 0.5 = 1: exactly the second token of the first row and column of tile 1.
        assert_eq!(parts[0], (1, 4, 1.0));
        assert!(parts[1..].iter().all(|p| p.2 == 0.0));
    }

    #[test]
    fn c4_8_c_several_images_have_one_tile_and_one_newline() {
        let packing = anyres("demo").packing((10, 2000), false).unwrap();
        assert_eq!((packing.rows.len(), packing.base, packing.tiles), (65, 64, 1));
        assert_eq!(packing.rows[64], PackedRow::Newline);
    }

    #[test]
    fn c4_8_d_dropping_the_first_token_works_for_several_images_only() {
        let a = Anyres { drop_first: true, ..anyres("demo") };
        assert_eq!(a.packing((10, 20), false).unwrap().rows.len(), 64);
        assert!(a.packing((10, 20), true).unwrap_err().to_string().contains("vision_feature_select_strategy"));
    }

    #[test]
    fn c4_4_a_hopeless_shapes_and_grids_are_errors() {
        let a = anyres("demo");
        assert!(a.packing((0, 5), true).is_err() && a.packing((5, 0), false).is_err());
        for pinpoints in [vec![], vec![(64, 65)], vec![(0, 64)], vec![(64 << 40, 64 << 40)]] {
            assert!(Anyres { pinpoints, ..a.clone() }.packing((5, 5), true).is_err());
        }
    }

    #[test]
    fn d4_1_regions_of_a_worked_example() {
        // 64 × 128 px in a 1 × 2 grid, unscaled: base tokens cover 8 × 16 px, grid tokens 8 × 8.
        let p = anyres("demo").packing((64, 128), true).unwrap();
        assert_eq!(p.region(0), Some([0.0, 0.0, 8.0, 16.0]));
        assert_eq!(p.region(64), Some([0.0, 0.0, 8.0, 8.0]));
        assert_eq!(p.region(64 + 17 + 15), Some([8.0, 120.0, 16.0, 128.0]));
        assert_eq!((p.region(64 + 16), p.region(p.rows.len())), (None, None));
        // 384 px tiles of 27 patches of 14 px: the last 6 px of a tile are seen by no patch.
        let p = anyres("hub").packing((384, 768), true).unwrap();
        assert_eq!(p.region(729 + 26), Some([0.0, 364.0, 14.0, 378.0]));
        assert_eq!(p.region(729 + 27), Some([0.0, 384.0, 14.0, 398.0]));
        // One of several: 32 × 64 px in the middle of a 64 px square.
        let p = anyres("demo").packing((32, 64), false).unwrap();
        assert_eq!((p.region(0), p.region(2 * 8)), (None, Some([0.0, 0.0, 8.0, 8.0])));
    }

    proptest! {
        #[test]
        fn d4_1_regions_tile_the_image(h in 1usize..700, w in 1usize..700, set in prop::sample::select(vec!["demo", "hub", "max2"])) {
            let a = anyres(set);
            let p = a.packing((h, w), true).unwrap();
            prop_assert_eq!(p.rows.len(), p.base + p.height * (p.width + 1));
            let side = a.side();
            prop_assert_eq!(p.base, side * side);
            for (i, row) in p.rows.iter().enumerate() {
                match row {
                    PackedRow::Token { tile, token } => prop_assert!(*tile < p.tiles && *token < side * side),
                    PackedRow::Blend(parts) => {
                        prop_assert!(parts.iter().all(|&(tile, token, _)| tile < p.tiles && token < side * side));
                        prop_assert!((parts.iter().map(|p| p.2).sum::<f64>() - 1.0).abs() < 1e-12);
                    }
                    PackedRow::Newline => prop_assert!(p.region(i).is_none()),
                }
                if let Some([top, left, bottom, right]) = p.region(i) {
                    prop_assert!(0.0 <= top && top < bottom && bottom <= h as f64, "{i}");
                    prop_assert!(0.0 <= left && left < right && right <= w as f64, "{i}");
                }
            }
        }

        #[test]
        fn c4_4_b_no_size_panics(h: usize, w: usize, tiled: bool) {
            let _ = anyres("max2").packing((h, w), tiled);
        }
    }
}

mod pixels {
    use super::*;

    fn settings(mean: [f64; 3], std: [f64; 3], resampler: Resampler) -> Pixels {
        let rescale = Some(1.0 / 255.0);
        Pixels { resize: true, filter: Filter::Bicubic, resampler, rescale, mean, std, normalize: true }
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
    fn c4_10_a_square_beyond_the_limit_is_an_error() {
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
}

mod ids {
    use super::*;
    use aircache::config::FamilyConfig;
    use aircache::files::Files;
    use aircache::input::{Positions, Prepared, PreparedImage};
    use ndarray::Array4;

    pub fn demo() -> FamilyConfig {
        FamilyConfig::load(&aircache::demo::files()).unwrap()
    }

    fn blank(tiles: usize) -> Array4<f32> {
        Array4::zeros((tiles, 3, 64, 64))
    }

    #[test]
    fn e4_8_placeholders_expand_and_expanded_ids_stay() {
        // 10 × 20 px: one tile beside the base tile, of whose 8 token rows the image fills 4.
        let short = Prepared::from_ids(&demo(), &[1, 489, 2], vec![(blank(2), (10, 20))]).unwrap();
        assert_eq!(short.ids.len(), 2 + 64 + 4 * 9);
        assert_eq!((short.ids[0], short.ids[1], *short.ids.last().unwrap()), (1, 489, 2));
        assert_eq!(short.roles.visual(), (1..=100).collect::<Vec<_>>());
        assert_eq!(short.positions, Positions::Linear((0..102).collect()));
        let long = Prepared::from_ids(&demo(), &short.ids, vec![(blank(2), (10, 20))]).unwrap();
        assert_eq!((long.ids, long.roles), (short.ids, short.roles));
        let none = Prepared::from_ids(&demo(), &[3, 4], vec![]).unwrap();
        assert_eq!((none.ids, none.images.len()), (vec![3, 4], 0));
        let two = Prepared::from_ids(&demo(), &[489, 7, 489], vec![(blank(1), (5, 5)), (blank(1), (9, 5))]).unwrap();
        assert_eq!((two.ids.len(), two.ids[65]), (131, 7));
        assert_eq!(two.visual_rows().last(), Some((1, 64)));
    }

    #[test]
    fn c4_8_a_both_counts_are_named() {
        let fail = |ids: &[u32], images: Vec<(Array4<f32>, (usize, usize))>| {
            Prepared::from_ids(&demo(), ids, images).unwrap_err().to_string()
        };
        let e = fail(&[489, 489], vec![(blank(2), (10, 20))]);
        assert!(e.contains("1 image placeholders") && e.contains("100") && e.contains("found 2"), "{e}");
        assert!(fail(&[489], vec![]).contains("0 image placeholders"));
        assert!(fail(&[489], vec![(blank(3), (10, 20))]).contains("[2, 3, 64, 64]"));
        assert!(fail(&[489], vec![(blank(2), (0, 20))]).contains("0 × 20"));
        assert!(fail(&[496], vec![]).contains("vocabulary's 496"));
        assert!(fail(&[], vec![]).contains("at least one token"));
    }

    #[test]
    fn c4_8_b_a_prompt_past_the_positions_names_both_numbers() {
        let e = Prepared::from_ids(&demo(), &[5; 4097], vec![]).unwrap_err().to_string();
        assert!(e.contains("4096") && e.contains("4097"), "{e}");
    }

    /// Checks ids, roles, sizes and pixels of a prepared prompt against a bundle of transformers.
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

    /// The pixels as the processor stacks them: little-endian f32, shorter images filled up with zero tiles.
    pub fn padded(images: &[PreparedImage]) -> Vec<u8> {
        let most = images.iter().map(|i| i.pixels.dim().0).max().unwrap();
        let mut all: Vec<u8> = Vec::new();
        for image in images {
            let (tiles, c, h, w) = image.pixels.dim();
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
            let config = FamilyConfig::load(&Files::Folder(case.join("model"))).unwrap();
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
                    images.push((Array4::from_shape_vec((tiles, c, h, w), image.to_vec()).unwrap(), *size));
                }
            }
            let prepared = Prepared::from_ids(&config, &ids, images).unwrap();
            equals(&prepared, &bundle, &what);
        }
    }
}

mod settings {
    use super::*;
    use aircache::config::FamilyConfig;
    use aircache::files::Files;
    use aircache::input::processor::Settings;

    /// The demo model's small files, with changes to one of them.
    pub fn folder(changes: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let Files::Embedded(files) = aircache::demo::files() else { panic!() };
        for (name, bytes) in files.iter().filter(|(n, _)| *n != "model.safetensors") {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        for (name, text) in changes {
            match text.is_empty() {
                true => std::fs::remove_file(dir.path().join(name)).unwrap(),
                false => std::fs::write(dir.path().join(name), text).unwrap(),
            }
        }
        let files = Files::Folder(dir.path().into());
        (dir, files)
    }

    fn edited(file: &str, section: Option<&str>, key: &str, value: &str) -> aircache::Result<Settings> {
        let Files::Embedded(files) = aircache::demo::files() else { panic!() };
        let bytes = files.iter().find(|(n, _)| *n == file).unwrap().1;
        let mut doc: Value = serde_json::from_slice(bytes).unwrap();
        let place = if let Some(s) = section { &mut doc[s] } else { &mut doc };
        match value {
            "" => drop(place.as_object_mut().unwrap().remove(key)),
            _ => place[key] = serde_json::from_str(value).unwrap(),
        }
        let (_dir, files) = folder(&[(file, &doc.to_string())]);
        load(&files)
    }

    fn load(files: &Files) -> aircache::Result<Settings> {
        let FamilyConfig::LlavaOnevision(config) = FamilyConfig::load(files).unwrap();
        Settings::load(files, &config)
    }

    #[test]
    fn t4_4_missing_settings_take_the_defaults_of_transformers() {
        let inner = |key: &str| edited("processor_config.json", Some("image_processor"), key, "").unwrap();
        assert_eq!(inner("image_mean").pixels.mean, [0.48145466, 0.4578275, 0.40821073]);
        assert_eq!(inner("image_std").pixels.std, [0.26862954, 0.26130258, 0.27577711]);
        assert_eq!(inner("resample").pixels.filter, Filter::Bicubic);
        assert_eq!(inner("rescale_factor").pixels.rescale, Some(1.0 / 255.0));
        let null = edited("processor_config.json", Some("image_processor"), "image_mean", "null").unwrap();
        assert_eq!(null.pixels.mean[0], 0.48145466);
    }

    #[test]
    fn t4_4_the_nested_settings_win() {
        let flat = r#"{"resample": 2, "size": {"shortest_edge": 64}, "image_mean": 0.25, "do_rescale": false}"#;
        let pinpoints = &json_of("preprocessor_config.json")["image_grid_pinpoints"];
        let flat = flat.replacen('{', &format!("{{\"image_grid_pinpoints\": {pinpoints}, "), 1);
        let (_dir, files) = folder(&[("preprocessor_config.json", &flat)]);
        assert_eq!(load(&files).unwrap().pixels.filter, Filter::Bicubic);
        let (_dir, files) = folder(&[("preprocessor_config.json", &flat), ("processor_config.json", "")]);
        let flat = load(&files).unwrap().pixels;
        assert_eq!((flat.filter, flat.mean, flat.rescale), (Filter::Bilinear, [0.25; 3], None));
        let (_dir, files) = folder(&[("preprocessor_config.json", ""), ("processor_config.json", "{}")]);
        assert!(load(&files).unwrap_err().to_string().contains("preprocessor_config.json"));
    }

    fn json_of(name: &str) -> Value {
        let Files::Embedded(files) = aircache::demo::files() else { panic!() };
        serde_json::from_slice(files.iter().find(|(n, _)| *n == name).unwrap().1).unwrap()
    }

    #[test]
    fn c4_12_disagreements_and_unsupported_settings_name_the_place() {
        let inner =
            |k: &str, v: &str| edited("processor_config.json", Some("image_processor"), k, v).unwrap_err().to_string();
        let outer = |k: &str, v: &str| edited("processor_config.json", None, k, v).unwrap_err().to_string();
        let both = |e: String, what: &str| {
            assert!(e.contains("processor_config.json") && e.contains("/config.json") && e.contains(what), "{e}");
        };
        both(inner("size", r#"{"height": 32, "width": 32}"#), "64");
        both(inner("size", ""), "384");
        both(inner("image_grid_pinpoints", "[[64, 64]]"), "of 13");
        both(inner("image_grid_pinpoints", ""), "[384, 384]");
        both(outer("num_image_tokens", "63"), "64");
        both(outer("vision_aspect_ratio", r#""anyres_max_4""#), "anyres_max_4");
        both(outer("vision_feature_select_strategy", r#""default""#), "full");
        for (key, value) in [
            ("size", r#"{"height": 64, "width": 32}"#),
            ("do_center_crop", "true"),
            ("crop_size", "64"),
            ("resample", "1"),
            ("resample", "\"bicubic\""),
            ("image_std", "[0.5, 0, 0.5]"),
            ("image_mean", "[0.5, 0.5]"),
            ("rescale_factor", "0"),
            ("do_resize", "1"),
            ("image_processor_type", "\"SiglipImageProcessor\""),
            ("image_grid_pinpoints", "[[64]]"),
        ] {
            let e = inner(key, value);
            assert!(e.contains("processor_config.json") && e.contains(key), "{e}");
        }
    }
}

#[cfg(feature = "input")]
mod conversion {
    use super::*;

    #[test]
    fn t4_6_files_become_rgb_as_in_pillow() {
        let bytes = std::fs::read(golden("convert/expected.safetensors")).unwrap();
        let want = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut wrong = vec![];
        for file in json("convert/files.json").as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let image = match Image::open(golden("convert").join(name)) {
                Ok(image) => image,
                Err(e) => {
                    wrong.push(e.to_string());
                    continue;
                }
            };
            let tensor = want.tensor(name).unwrap();
            assert_eq!(&[image.size().0, image.size().1, 3], tensor.shape(), "{name}");
            let most = image.rgb().iter().zip(tensor.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // Chroma upsampling and colour conversion of JPEG differ; grey JPEG and lossy WebP do not.
            let allowed = if name.ends_with(".jpg") && name != "grey.jpg" { 4 } else { 0 };
            if most > allowed {
                wrong.push(format!("{name}: off by up to {most}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn t4_6_a_gif_frame_smaller_than_its_canvas_lies_on_one_colour() {
        // 10 × 8 canvas, 4 × 3 frame at (1, 2); colours of the free pixels as Pillow 13 gave them.
        let gif = |background: u8, transparent: Option<u8>| {
            let mut b = b"GIF89a\x0a\0\x08\0\x81".to_vec();
            b.extend([background, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30]);
            if let Some(t) = transparent {
                b.extend([0x21, 0xF9, 4, 1, 0, 0, t, 0]);
            }
            b.extend([0x2C, 2, 0, 1, 0, 4, 0, 3, 0, 0, 2, 10]);
            // A clear code before every index 0 1 3 1, thrice: no code table ever grows.
            let codes = [0, 1, 3, 1, 0, 1, 3, 1, 0, 1, 3, 1].into_iter().flat_map(|i| [4u128, i]).chain([5]);
            let bits = codes.enumerate().fold(0u128, |all, (n, code)| all | code << (3 * n));
            b.extend(&bits.to_le_bytes()[..10]);
            b.extend([0, 0x3B]);
            b
        };
        for (file, free) in [
            (gif(0, None), [255, 0, 0]),
            (gif(2, None), [255, 0, 0]),
            (gif(2, Some(1)), [0, 255, 0]),
            (gif(1, Some(3)), [10, 20, 30]),
        ] {
            let image = Image::from_bytes(&file, "gif").unwrap();
            let at = |y: usize, x: usize| [0, 1, 2].map(|c| image.rgb()[(y, x, c)]);
            assert_eq!((image.size(), at(0, 0), at(7, 9)), ((8, 10), free, free));
            assert_eq!([2, 3, 4, 5].map(|x| at(3, x)), [[255, 0, 0], [0, 255, 0], [10, 20, 30], [0, 255, 0]]);
        }
    }

    #[test]
    fn c4_11_c_a_jpeg_cut_short_is_an_error() {
        let bytes = std::fs::read(golden("convert/rgb-progressive.jpg")).unwrap();
        for end in [bytes.len() / 2, bytes.len() - 20, bytes.len() - 2] {
            assert!(Image::from_bytes(&bytes[..end], "cut.jpg").is_err(), "{end}");
        }
        let longer = [&bytes[..], b"trailing bytes"].concat();
        assert_eq!(Image::from_bytes(&longer, "a").unwrap().rgb(), Image::from_bytes(&bytes, "a").unwrap().rgb());
    }

    #[test]
    fn c4_11_what_is_no_image_is_an_error() {
        for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0"] {
            assert!(Image::from_bytes(bytes, "x").unwrap_err().to_string().starts_with("x: expected"));
        }
        assert!(Image::open("/").is_err() && Image::open("/no/such/file").is_err());
    }

    #[test]
    fn c4_11_a_bombs_are_refused_before_they_are_decoded() {
        // A PNG header that promises 60000 × 60000 pixels, with its checksum.
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
        png.extend(crc(&png[12..]).to_be_bytes());
        png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        let e = Image::from_bytes(&png, "bomb.png").unwrap_err().to_string();
        assert!(e.contains("60000 × 60000") && e.contains("178956970"), "{e}");
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xEDB88320 & !(c & 1).wrapping_sub(1)))
        })
    }

    proptest! {
        #[test]
        fn c4_11_broken_files_never_panic(at in 0usize..600, v: u8, cut in 0usize..3000) {
            for file in ["palette-trns.png", "rgb.jpg", "palette.gif", "cmyk.jpg", "lossy.webp", "rgb-lzw.tiff", "bit1.bmp"] {
                let mut bytes = std::fs::read(golden("convert").join(file)).unwrap();
                let n = bytes.len();
                bytes[at % n] = v;
                bytes.truncate(cut.max(1));
                let _ = Image::from_bytes(&bytes, file);
            }
        }
    }
}

#[cfg(feature = "input")]
mod templates {
    use super::*;
    use aircache::input::template::{DEFAULT_DATE, Template, Turn};

    fn render(source: &str) -> Result<String, String> {
        let turns = [
            Turn { role: "system", images: 0, text: " Be brief. " },
            Turn { role: "user", images: 1, text: "What's this?" },
        ];
        let special = [("bos_token".to_owned(), "<s>".to_owned())];
        let template = Template::new(source, "t", DEFAULT_DATE).map_err(|e| e.to_string())?;
        template.render(&turns, &special).map_err(|e| e.to_string())
    }

    #[test]
    fn t4_5_extensions_print_as_jinja2_prints() {
        let cases = json("template/cases.json");
        for case in cases.as_array().unwrap() {
            let got = render(case["template"].as_str().unwrap());
            match case["rendered"].as_str() {
                Some(want) => assert_eq!(got.as_deref(), Ok(want), "{}", case["template"]),
                None => assert!(got.is_err(), "{}: {got:?}", case["template"]),
            }
        }
    }

    #[test]
    fn a4_1_the_date_is_fixed_or_given() {
        let source = "{{ strftime_now('%d %b %Y, %A') }}";
        assert_eq!(render(source).unwrap(), "26 Jul 2024, Friday");
        let other = Template::new(source, "t", (2000, 2, 29)).unwrap();
        assert_eq!(other.render(&[], &[]).unwrap(), "29 Feb 2000, Tuesday");
        assert!(render("{{ strftime_now('%Q') }}").is_err());
    }

    #[test]
    fn c4_10_endless_templates_end_within_a_second() {
        let loops = [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% for a in range(10000) %}{% for b in range(10000) %}{{ 'x' * 10000 }}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% for a in range(100000) %}{% for b in range(100000) %}{% set x = 'y' * 100000 %}{% endfor %}{% endfor %}",
        ];
        for source in loops {
            let start = std::time::Instant::now();
            assert!(render(source).is_err(), "{source}");
            // Generous, since tests share the machine: alone it takes less than a fifth of a second.
            assert!(start.elapsed().as_secs() < 10, "{source}: {:?}", start.elapsed());
        }
        assert!(render("{{ raise_exception('no pictures, please') }}").unwrap_err().contains("no pictures, please"));
        assert!(render(&format!("{}x{}", "{{ (".repeat(5000), ") }}".repeat(5000))).is_err());
    }

    proptest! {
        #[test]
        fn c4_10_no_template_panics(source in ".{0,60}", parts in prop::collection::vec(prop::sample::select(vec![
            "{%", "%}", "{{", "}}", "{#", "#}", "generation", "endgeneration", "raw", "endraw", "-", "+", "'", "\"", "\\", " ",
            "if x", "endif", "for m in messages", "endfor", "m", "messages", "[0]", "['content']", ".role", ".strip()",
            "|tojson", "|length", "(", ")", "[", "]", "é", "\n",
        ]), 0..14)) {
            let _ = render(&source);
            let _ = render(&parts.concat());
        }
    }
}

#[cfg(feature = "input")]
mod whole {
    use super::*;
    use aircache::config::FamilyConfig;
    use aircache::files::Files;
    use aircache::input::Processor;

    fn processor(files: &Files) -> aircache::Result<Processor> {
        Processor::load(files, &FamilyConfig::load(files)?)
    }

    #[test]
    fn d4_4_every_toy_checkpoint_prepares_as_in_transformers() {
        for case in std::fs::read_dir(golden("llava")).unwrap() {
            let case = case.unwrap().path();
            let what = case.file_name().unwrap().to_string_lossy().into_owned();
            let about: Value = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
            let processor = processor(&Files::Folder(case.join("model"))).unwrap();
            let names = about["images"].as_array().unwrap();
            let images: Vec<Image> =
                names.iter().map(|n| Image::open(case.join(n.as_str().unwrap())).unwrap()).collect();
            let prompt = about["prompt"].as_str().unwrap();
            let prepared = processor.prepare(&images, prompt, about["system"].as_str()).unwrap();
            assert_eq!(prepared.prompt, about["rendered"].as_str().unwrap(), "{what}");
            ids::equals(&prepared, &std::fs::read(case.join("expected.safetensors")).unwrap(), &what);
        }
    }

    #[test]
    fn d4_4_the_demo_model_prepares_as_in_transformers() {
        let processor = processor(&aircache::demo::files()).unwrap();
        for case in json("demo/cases.json").as_array().unwrap() {
            let name = case["image"].as_str().unwrap().trim_start_matches("samples/");
            let sample = aircache::demo::sample(name).unwrap();
            let image = Image::from_bytes(sample.png, name).unwrap();
            let prompt = case["question"].as_str().unwrap();
            let prepared = processor.prepare(&[image], prompt, case["system"].as_str()).unwrap();
            assert_eq!(hash(&ids::padded(&prepared.images)), case["pixels_sha256"].as_str().unwrap(), "{name}");
            ids::equals(&prepared, &std::fs::read(golden("demo").join(case["file"].as_str().unwrap())).unwrap(), name);
        }
    }

    #[test]
    fn d4_4_placeholders_in_the_prompt_place_the_images() {
        let processor = processor(&aircache::demo::files()).unwrap();
        let image = || Image::from_rgb(10, 10, vec![9; 300]).unwrap();
        let render = |n, prompt| processor.render(n, prompt, None).unwrap();
        assert_eq!(render(1, "Hi"), "<|im_start|>user <image>\nHi<|im_end|><|im_start|>assistant\n");
        assert_eq!(render(1, "Hi <image>!"), "<|im_start|>user \nHi <image>!<|im_end|><|im_start|>assistant\n");
        let two = processor.prepare(&[image(), image()], "<image> or <image>?", None).unwrap();
        assert_eq!(two.roles.visual().len(), 130);
        let e = processor.prepare(&[image(), image()], "only <image>", None).unwrap_err().to_string();
        assert!(e.contains("2 placeholders") && e.contains("found 1"), "{e}");
        let e = processor.prepare(&[], "<image>?", None).unwrap_err().to_string();
        assert!(e.contains("0 placeholders") && e.contains("found 1"), "{e}");
        let none = processor.prepare(&[], "Hello", Some("Be brief.")).unwrap();
        assert!(none.roles.visual().is_empty() && none.preprocess.is_empty());
        assert_eq!(two.preprocess, "torchvision");
        let long = processor.prepare(&[], &"word ".repeat(5000), None).unwrap_err().to_string();
        assert!(long.contains("4096"), "{long}");
    }

    #[test]
    fn d4_4_extreme_images_are_prepared_or_refused() {
        let processor = processor(&aircache::demo::files()).unwrap();
        for (h, w) in [(1, 1), (1, 2000), (2000, 1), (3, 5), (1, 100_000)] {
            let image = Image::from_rgb(h, w, vec![200; h * w * 3]).unwrap();
            let prepared = processor.prepare(&[image], "?", None).unwrap();
            assert_eq!(prepared.images[0].packing.rows.len(), prepared.roles.visual().len());
        }
        let wide = || Image::from_rgb(1, 100_000, vec![200; 300_000]).unwrap();
        assert!(processor.prepare(&[wide(), wide()], "?", None).unwrap_err().to_string().contains("1 × 100000"));
    }

    #[test]
    fn d4_4_missing_and_broken_files_are_named() {
        let fail = |changes: &[(&str, &str)]| {
            let (_dir, files) = settings::folder(changes);
            processor(&files).unwrap_err().to_string()
        };
        let e = fail(&[("tokenizer.json", "")]);
        assert!(e.contains("tokenizer.json") && e.contains("save_pretrained"), "{e}");
        assert!(fail(&[("tokenizer.json", "{")]).contains("tokenizer.json"));
        assert!(fail(&[("chat_template.jinja", "{% if %}")]).contains("chat_template.jinja"));
        let e = fail(&[("chat_template.jinja", ""), ("tokenizer_config.json", "{}")]);
        assert!(e.contains("chat template"), "{e}");
        let e = fail(&[("tokenizer_config.json", r#"{"image_token": "<picture>"}"#)]);
        assert!(e.contains("<picture>") && e.contains("489"), "{e}");
    }

    #[test]
    fn t4_5_templates_are_found_in_every_place() {
        let found = |changes: &[(&str, &str)]| {
            let (_dir, files) = settings::folder(changes);
            processor(&files).unwrap().render(0, "x", None).unwrap()
        };
        let json = ("chat_template.json", r#"{"chat_template": "json"}"#);
        assert_eq!(found(&[json]), "json");
        assert_eq!(found(&[("chat_template.jinja", "jinja")]), "jinja");
        let listed =
            r#"{"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "listed"}]}"#;
        assert_eq!(found(&[("chat_template.jinja", ""), ("tokenizer_config.json", listed)]), "listed");
    }

    #[test]
    fn e4_11_streaming_never_cuts_a_character() {
        let processor = processor(&aircache::demo::files()).unwrap();
        let tokenizer = processor.tokenizer();
        let ids = tokenizer.encode("Grüße, 你好 🙂!").unwrap();
        let mut stream = tokenizer.stream();
        let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
        pieces.extend(stream.finish());
        assert!(pieces.iter().all(|p| !p.contains('\u{FFFD}')), "{pieces:?}");
        assert_eq!(pieces.concat(), "Grüße, 你好 🙂!");
    }

    proptest! {
        #[test]
        fn e4_11_pieces_concatenate_to_the_whole(ids in prop::collection::vec(0u32..500, 0..40)) {
            let processor = processor(&aircache::demo::files()).unwrap();
            let tokenizer = processor.tokenizer();
            let mut stream = tokenizer.stream();
            let mut said: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            said.extend(stream.finish());
            prop_assert_eq!(said, tokenizer.decode(&ids).unwrap());
        }

        #[test]
        fn d4_3_text_survives_the_round_trip(text in "[ -~é你]{0,40}") {
            let processor = processor(&aircache::demo::files()).unwrap();
            let tokenizer = processor.tokenizer();
            let text = text.replace("<", "");
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
        }
    }
}
