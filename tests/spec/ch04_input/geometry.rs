//! Grids, token counts and regions, compared with transformers.

use super::*;

pub fn grids(tile: usize, high: usize, wide: usize) -> Vec<(usize, usize)> {
    (1..=high).flat_map(|h| (1..=wide).map(move |w| (h * tile, w * tile))).collect()
}

pub fn anyres(set: &str) -> Anyres {
    let demo = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2)];
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
    // For 100 × 200 px: the grid 128 × 256 shows all 20000 pixels, and the grid 64 × 128 shows only 8192 of them.
    let a = anyres("demo");
    assert_eq!(a.resolution((100, 200)).unwrap(), (128, 256));
    assert_eq!(a.grid((100, 200)).unwrap(), (2, 4));
    // Every grid shows the whole small image; the smallest grid wastes the fewest pixels.
    assert_eq!(a.resolution((10, 20)).unwrap(), (64, 64));
}

#[test]
fn e4_5_worked_example() {
    assert_eq!(Anyres::fit((100, 333), (128, 256)), (77, 256)); // 76.88 rounds up
    assert_eq!(Anyres::fit((333, 100), (256, 128)), (256, 77));
}

#[test]
fn e4_6_worked_example() {
    // 16 × 32 tokens. The image fills 32/333·100 = 9.6 rows, so (16 − 9) / 2 = 3 rows are cut at the top and at the
    // bottom.
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
    // Source index 12/4 · 0.5 − 0.5 = 1, which is exactly the second token of the first row and column of tile 1.
    assert_eq!(parts[0], (1, 4, 1.0));
    assert!(parts[1..].iter().all(|p| p.2 == 0.0));
}

#[test]
fn c4_7a_a_grid_that_shrinks_to_nothing_is_an_error() {
    // 1 × 40 tiles of 3 × 3 tokens, N = 2: ratio 4.47, 3 // 4.47 = 0.
    let a = Anyres { pinpoints: vec![(28, 28 * 40)], ..anyres("max2") };
    assert!(a.packing((28, 28 * 40), true).unwrap_err().to_string().contains("3 × 120 tokens"));
}

#[test]
fn t4_3_the_geometry_comes_from_config_json() {
    let family = aircache::family::load(&aircache::demo::files()).unwrap();
    let config: &aircache::family::llava_onevision::LlavaOnevisionConfig = family.as_a().unwrap();
    assert_eq!(config.anyres(), anyres("demo"));
    assert_eq!(anyres("hub").side(), 27);
}

#[test]
fn c4_8c_several_images_have_one_tile_and_one_newline() {
    let packing = anyres("demo").packing((10, 2000), false).unwrap();
    assert_eq!((packing.rows.len(), packing.base, packing.tiles), (65, 64, 1));
    assert_eq!(packing.rows[64], PackedRow::Newline);
}

#[test]
fn c4_8d_dropping_the_first_token_works_for_several_images_only() {
    let a = Anyres { drop_first: true, ..anyres("demo") };
    assert_eq!(a.packing((10, 20), false).unwrap().rows.len(), 64);
    assert!(a.packing((10, 20), true).unwrap_err().to_string().contains("vision_feature_select_strategy"));
}

#[test]
fn c4_4a_hopeless_shapes_and_grids_are_errors() {
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
    // Tiles of 384 px have 27 patches of 14 px on a side: no patch covers the last 6 px of a tile.
    let p = anyres("hub").packing((384, 768), true).unwrap();
    assert_eq!(p.region(729 + 26), Some([0.0, 364.0, 14.0, 378.0]));
    assert_eq!(p.region(729 + 27), Some([0.0, 384.0, 14.0, 398.0]));
    // One of several images: 32 × 64 px in the middle of a square of 64 px.
    let p = anyres("demo").packing((32, 64), false).unwrap();
    assert_eq!((p.region(0), p.region(2 * 8)), (None, Some([0.0, 0.0, 8.0, 8.0])));
}

#[test]
fn c4_4b_more_tiles_than_any_image_has_are_an_error() {
    let of = |tiles: usize| {
        let a = anyres("max2");
        Anyres { pinpoints: vec![(tiles * a.tile, a.tile)], ..a }.grid((10_000, 10)).map_err(|e| e.to_string())
    };
    assert_eq!(of(1024), Ok((1024, 1)));
    assert!(of(1025).unwrap_err().contains("at most 1024 whole tiles"));
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
    fn c4_4b_no_size_panics(h: usize, w: usize, tiled: bool) {
        let _ = anyres("max2").packing((h, w), tiled);
    }
}
