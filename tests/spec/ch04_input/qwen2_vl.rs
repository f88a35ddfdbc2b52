//! Qwen2-VL: sizes, patches, positions, settings.

use super::*;
use aircache::family::patch_reader::PatchReader;
use aircache::family::qwen2_vl::Qwen2VlConfig;
use aircache::family::{self, Reader};
use aircache::files::Files;
use aircache::input::sizes::Sizes;
use aircache::input::{GivenImage, Positions, Prepared, mrope};
use ndarray::Array2;

fn sizes(line: &[usize]) -> Sizes {
    let &[unit, min_pixels, max_pixels, ..] = line else { panic!() };
    Sizes { patch: unit / 2, merge: 2, min_pixels, max_pixels }
}

fn table(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    text.lines().skip(1).map(String::from).collect()
}

#[test]
fn e4_12_every_size_of_the_sweep_is_that_of_transformers() {
    let lines = table("smart_resize/sweep.csv");
    assert_eq!(lines.len(), 4 * 31);
    for line in lines {
        let (numbers, sha) = line.rsplit_once(',').unwrap();
        let numbers: Vec<usize> = numbers.split(',').map(|n| n.parse().unwrap()).collect();
        let (sizes, heights) = (sizes(&numbers), numbers[3]..=numbers[4]);
        let all = heights.flat_map(|h| (28..=2000).map(move |w| (h, w))).map(|size| sizes.fit(size).unwrap());
        let bytes: Vec<u8> = all.flat_map(|(h, w)| [h, w]).flat_map(|n| (n as u16).to_le_bytes()).collect();
        assert_eq!(hash(&bytes), sha, "{line}");
    }
}

#[test]
fn e4_12_c4_15a_odd_sizes_are_those_of_transformers() {
    let lines = table("smart_resize/single.csv");
    assert_eq!(lines.len(), 4 * 24);
    for line in lines {
        let n: Vec<usize> = line.split(',').map(|n| n.parse().unwrap()).collect();
        let found = sizes(&n).fit((n[3], n[4]));
        match (n[5], n[6]) {
            (0, 0) => assert!(found.unwrap_err().to_string().contains("200 times"), "{line}"),
            want => assert_eq!(found.unwrap(), want, "{line}"),
        }
    }
}

#[test]
fn e4_12_worked_example() {
    let sizes = sizes(&[28, 3136, 12_845_056]);
    assert_eq!(sizes.fit((70, 126)).unwrap(), (56, 112));
    assert_eq!(sizes.fit((182, 182)).unwrap(), (168, 168));
    assert!(sizes.fit((0, 5)).unwrap_err().to_string().contains("at least one pixel"));
    let endless = Sizes { max_pixels: usize::MAX, ..sizes };
    assert!(endless.fit((1 << 20, 1 << 20)).unwrap_err().to_string().contains("65536 patches"));
}

proptest! {
    #[test]
    fn c4_15a_no_size_panics(h: usize, w: usize, min in 1usize.., max in 1usize.., patch in 1usize..1000, merge in 1usize..64) {
        let sizes = Sizes { patch, merge, min_pixels: min, max_pixels: max };
        for size in [(h, w), (h % 4000, w % 4000)] {
            if let Ok((fit_h, fit_w)) = sizes.fit(size) {
                prop_assert!(fit_h > 0 && fit_w > 0 && fit_h % (patch * merge) == 0 && fit_w % (patch * merge) == 0);
            }
        }
    }
}

/// A processor with these settings, for a model whose settings agree.
fn reader(patch: usize, merge: usize, frames: usize, settings: &Value) -> aircache::Result<PatchReader> {
    let config = serde_json::json!({"model_type": "qwen2_vl", "hidden_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1,
        "vision_config": {"hidden_size": 128, "patch_size": patch, "spatial_merge_size": merge, "temporal_patch_size": frames}});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
    let files = Files::Folder(folder.path().into());
    PatchReader::load(&files, family::load(&files)?.as_a::<Qwen2VlConfig>().unwrap().patches())
}

/// E4.13, D4.5: whole pixel tensors equal those of both transformers processors, by hash.
#[test]
fn e4_13_d4_5_pixels_equal_both_processors() {
    let cases = json("preprocess/qwen2_vl.json");
    for case in cases["cases"].as_array().unwrap() {
        let n = |key: &str| case[key].as_u64().unwrap() as usize;
        let mut settings = serde_json::json!({"size": {"shortest_edge": 3136, "longest_edge": 1_003_520},
            "patch_size": n("patch"), "merge_size": n("merge"), "temporal_patch_size": n("frames"),
            "image_mean": case["mean"], "image_std": case["std"]});
        for (key, value) in case["settings"].as_object().unwrap() {
            settings[key] = value.clone();
        }
        let about = &case["image"];
        let size = pair(&about["size"]);
        let rgb = content(about["content"].as_str().unwrap(), size, about["seed"].as_u64().unwrap());
        let image = Image::from_rgb(size.0, size.1, bytes(&rgb)).unwrap();
        for resampler in [Resampler::Torchvision, Resampler::Pillow] {
            let mut reader = reader(n("patch"), n("merge"), n("frames"), &settings).unwrap();
            reader.settings.pixels.resampler = resampler;
            let (pixels, Some(grid)) = reader.pixels(&image, 1).unwrap() else { panic!() };
            let want = &case[resampler.name()];
            assert_eq!(serde_json::json!(grid), case["grid"], "{case}");
            assert_eq!(serde_json::json!(pixels.shape()), want["shape"], "{case}");
            let raw: Vec<u8> = pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(hash(&raw), want["sha256"].as_str().unwrap(), "{} {case}", resampler.name());
            let rows = reader.packing(size, 1).unwrap().rows.len();
            assert_eq!(rows * n("merge") * n("merge"), grid.iter().product::<usize>());
        }
    }
}

#[test]
fn e4_13_d4_5_worked_examples() {
    // Two rows of four pixels, and one pixel for each patch, in squares of 2 × 2. Without rescaling, the levels appear
    // directly in the result.
    let settings = serde_json::json!({"patch_size": 1, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 1, "do_rescale": false, "do_normalize": false});
    let reader = reader(1, 2, 2, &settings).unwrap();
    let rgb: Vec<u8> = (0..24).collect();
    let (pixels, Some(grid)) = reader.pixels(&Image::from_rgb(2, 4, rgb).unwrap(), 1).unwrap() else { panic!() };
    assert_eq!((grid, pixels.shape()), ([1, 2, 4], &[8, 6][..]));
    let first: Vec<f32> = pixels.outer_iter().map(|patch| patch[0]).collect();
    assert_eq!(first, [0.0, 3.0, 12.0, 15.0, 6.0, 9.0, 18.0, 21.0], "the red of (0,0), (0,1), (1,0), (1,1), (0,2), …");
    assert_eq!(pixels.as_slice().unwrap()[..6], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0], "(r, r, g, g, b, b)");
    let packing = reader.packing((2, 4), 1).unwrap();
    assert_eq!((packing.region(0), packing.region(1)), (Some([0.0, 0.0, 2.0, 2.0]), Some([0.0, 2.0, 2.0, 4.0])));
    assert_eq!(packing.region(2), None);
}

proptest! {
    #[test]
    fn d4_5_regions_tile_the_image(h in 1usize..900, w in 1usize..900) {
        prop_assume!(h.max(w) <= 200 * h.min(w));
        let reader = reader(14, 2, 2, &serde_json::json!({})).unwrap();
        let p = reader.packing((h, w), 1).unwrap();
        prop_assert_eq!(p.rows.len(), p.height * p.width);
        let area: f64 = (0..p.rows.len()).map(|i| p.region(i).unwrap()).map(|[t, l, b, r]| (b - t) * (r - l)).sum();
        prop_assert!((area - (h * w) as f64).abs() < 1e-6 * (h * w) as f64);
        let in_order = |(token, row): (usize, &PackedRow)| *row == PackedRow::Token { tile: 0, token };
        prop_assert!(p.rows.iter().enumerate().all(in_order));
    }
}

#[test]
fn e4_14_c4_16a_worked_example() {
    let ids = [1, 9, 9, 9, 9, 9, 9, 2];
    let time = vec![0, 1, 1, 1, 1, 1, 1, 4];
    let (height, width) = (vec![0, 1, 1, 1, 2, 2, 2, 4], vec![0, 1, 2, 3, 1, 2, 3, 4]);
    assert_eq!(mrope::positions(&ids, 9, &[[1, 2, 3]]), Positions::Mrope([time, height, width]));
    let text = Positions::Mrope([vec![0, 1, 2], vec![0, 1, 2], vec![0, 1, 2]]);
    assert_eq!(mrope::positions(&[5, 6, 7], 9, &[]), text);
    assert_eq!((text.next(), mrope::positions(&ids[..7], 9, &[[1, 2, 3]]).next()), (3, 4));
}

/// T4.7, C4.12: defaults, both forms of the limits, and settings that do not agree.
#[test]
fn t4_7_c4_12_settings() {
    let limits = |settings: Value| reader(14, 2, 2, &settings).map(|r| (r.sizes.min_pixels, r.sizes.max_pixels));
    let of = |text: &str| limits(serde_json::from_str(text).unwrap());
    assert_eq!(of("{}").unwrap(), (3136, 1_003_520));
    assert_eq!(of(r#"{"min_pixels": 100, "max_pixels": 2000}"#).unwrap(), (100, 2000));
    assert_eq!(of(r#"{"size": {"shortest_edge": 100, "longest_edge": 2000}}"#).unwrap(), (100, 2000));
    assert_eq!(of(r#"{"size": {"shortest_edge": 100}, "max_pixels": 3000}"#).unwrap(), (100, 3000));
    assert_eq!(
        of(r#"{"size": {"shortest_edge": 100, "longest_edge": 2000}, "min_pixels": 300}"#).unwrap(),
        (300, 2000)
    );
    assert_eq!(
        of(r#"{"size": {"min_pixels": 1, "max_pixels": 2}, "min_pixels": 5, "max_pixels": 7}"#).unwrap(),
        (5, 7)
    );
    for broken in [
        r#"{"size": {"shortest_edge": 100}}"#,
        r#"{"size": 448}"#,
        r#"{"size": {"min_pixels": 100, "max_pixels": 2000}}"#,
        r#"{"min_pixels": 0}"#,
        r#"{"max_pixels": "many"}"#,
        r#"{"patch_size": 16}"#,
        r#"{"merge_size": 3}"#,
        r#"{"temporal_patch_size": 1}"#,
        r#"{"image_processor_type": "CLIPImageProcessor"}"#,
        r#"{"resample": 1}"#,
    ] {
        let key = broken.split('"').nth(1).unwrap();
        let e = of(broken).unwrap_err().to_string();
        assert!(e.contains(key) && e.contains("preprocessor_config.json"), "{broken}: {e}");
    }
    let still = reader(14, 2, 2, &serde_json::json!({"do_resize": false})).unwrap();
    assert_eq!(still.packing((56, 84), 1).unwrap().rows.len(), 6);
    assert!(still.packing((56, 85), 1).unwrap_err().to_string().contains("multiples of 28"));
}

#[test]
fn c4_8a_patches_of_another_shape_are_errors() {
    let family = family::load(&Files::Folder(golden("qwen2_vl/hub-bf16/model"))).unwrap();
    let c = family.as_a::<Qwen2VlConfig>().unwrap();
    let fail = |patches: usize, grid: [usize; 3]| {
        let image = GivenImage::patches(Array2::zeros((patches, c.vision.numbers())), (8, 8), grid);
        Prepared::from_ids(c, &[c.image_token], vec![image]).map(|p| p.ids.len()).map_err(|e| e.to_string())
    };
    assert_eq!(fail(8, [1, 2, 4]), Ok(2));
    assert_eq!(fail(16, [2, 2, 4]), Ok(4), "two moments");
    assert!(fail(7, [1, 2, 4]).unwrap_err().contains("[8, 96]"));
    for grid in [[1, 3, 4], [0, 2, 4], [1, usize::MAX, 2], [1, 1 << 40, 1 << 40]] {
        assert!(fail(8, grid).unwrap_err().contains("multiples of 2"), "{grid:?}");
    }
}

/// A4.8: both readings, as two versions of transformers compute them.
#[test]
fn e4_14_a4_8_text_after_a_video_stands_where_the_model_was_trained_or_where_a_side_ends() {
    use aircache::input::{Positions, mrope};
    let told = json("video/positions.json");
    let cases = |name: &str| told[name]["cases"].as_array().unwrap().clone();
    let mut differ = 0;
    for (trained, side) in cases("largest").iter().zip(&cases("side")) {
        let numbers = |v: &Value| -> Vec<i64> { v.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect() };
        let ids: Vec<u32> = numbers(&trained["ids"]).into_iter().map(|id| id as u32).collect();
        let grid: [usize; 3] = std::array::from_fn(|i| trained["grid"][i].as_u64().unwrap() as usize);
        let axes = |case: &Value| Positions::Mrope(std::array::from_fn(|axis| numbers(&case["positions"][axis])));
        let mut got = mrope::positions(&ids, 92, &[grid]);
        assert_eq!(got, axes(trained), "{grid:?}");
        let rows = |of: Option<usize>| of.unwrap();
        let video = rows(ids.iter().position(|&id| id == 92))..rows(ids.iter().rposition(|&id| id == 92)) + 1;
        mrope::after_side(&mut got, video, grid[1].max(grid[2]));
        assert_eq!(got, axes(side), "{grid:?}");
        differ += usize::from(trained["positions"] != side["positions"]);
    }
    assert_eq!(differ, 3);
}
