//! Qwen2.5-VL: windows, the inverse order, the defaults.

use super::*;
use aircache::family::qwen2_5_vl::{Qwen25VlConfig, Qwen25VlTower};
use aircache::files::Files;
use aircache::vision::windows;
use aircache::weights::Checkpoint;
use aircache::weights::names::visual as names;
use ndarray::{Array2, Axis, concatenate};

#[test]
fn e5_17_worked_example() {
    assert_eq!(windows([1, 2, 3], 2), (vec![0, 1, 3, 4, 2, 5], vec![4, 2]));
    assert_eq!(windows([2, 2, 2], 2), (vec![0, 1, 2, 3, 4, 5, 6, 7], vec![4, 4]));
    assert_eq!(windows([1, 3, 1], 2), (vec![0, 1, 2], vec![2, 1]));
}

fn toy() -> (Checkpoint, Qwen25VlConfig) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen2_5_vl/hub-bf16/model");
    let files = Files::Folder(root);
    let config = family::load(&files).unwrap().as_a::<Qwen25VlConfig>().unwrap().clone();
    (Checkpoint::open(&files).unwrap(), config)
}

/// With a window for each square and no full layer, no square sees another: a change of one square changes its row.
#[test]
fn e5_18_rows_have_the_order_of_the_squares() {
    let (checkpoint, mut c) = toy();
    (c.own.window, c.own.full) = (1, vec![]);
    let alone = Qwen25VlTower::load(&Names::new(&checkpoint, names), &c).unwrap();
    let unit = c.vision.merge * c.vision.merge;
    let mut rng = Rng(7);
    let patches = Array2::from_shape_fn((6 * unit, c.vision.numbers()), |_| rng.below(7) as f32 - 3.0);
    let grid = [1, 2 * c.vision.merge, 3 * c.vision.merge];
    let rows = |tower: &Qwen25VlTower| tower.rows(&mut Pass::<f64>::new(Grid::Native), patches.view(), &[grid], None);
    let want = rows(&alone);
    // In one window of all squares, the rows see each other.
    c.own.window = 3;
    let all = Qwen25VlTower::load(&Names::new(&checkpoint, names), &c).unwrap();
    assert_ne!(bits(&rows(&all)), bits(&want));
    // Changing one square changes its row and no other.
    for square in 0..6 {
        let mut other = patches.clone();
        other.slice_mut(s![square * unit..(square + 1) * unit, ..]).fill(0.25);
        let got = alone.rows(&mut Pass::<f64>::new(Grid::Native), other.view(), &[grid], None);
        let changed: Vec<usize> = (0..6).filter(|&row| got.row(row) != want.row(row)).collect();
        assert_eq!(changed, [square]);
    }
}

/// C5.17a, R5.17: two images together give the rows of each image alone, on every grid.
#[test]
fn c5_17a_r5_17_images_do_not_see_each_other() {
    let (checkpoint, c) = toy();
    let tower = Qwen25VlTower::load(&Names::new(&checkpoint, names), &c).unwrap();
    let (grids, mut rng) = ([[1, 6, 10], [1, 4, 2]], Rng(9));
    let patches = Array2::from_shape_fn((68, c.vision.numbers()), |_| rng.below(9) as f32 / 4.0 - 1.0);
    fn check<T: Real>(tower: &Qwen25VlTower, patches: &Array2<f32>, grids: &[[usize; 3]; 2], grid: Grid) {
        let rows = |of: std::ops::Range<usize>, grids: &[[usize; 3]]| {
            tower.rows(&mut Pass::<T>::new(grid), patches.slice(s![of, ..]), grids, None)
        };
        let (first, second) = (rows(0..60, &grids[..1]), rows(60..68, &grids[1..]));
        let alone = concatenate(Axis(0), &[first.view(), second.view()]).unwrap();
        assert_eq!(bits(&rows(0..68, grids)), bits(&alone), "{grid:?}");
    }
    for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
        check::<f32>(&tower, &patches, &grids, grid);
    }
    check::<f64>(&tower, &patches, &grids, Grid::Native);
}

#[test]
fn t5_9_defaults() {
    let read = |json: &str| {
        let files =
            Files::Embedded(Box::leak(Box::new([("config.json", json.to_owned().into_bytes().leak() as &[u8])])));
        Ok::<_, aircache::Error>(family::load(&files)?.as_a::<Qwen25VlConfig>().unwrap().clone())
    };
    let c = read(
        r#"{"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}"#,
    )
    .unwrap();
    let v = &c.vision;
    assert_eq!(
        (v.hidden, v.layers, v.heads, v.intermediate, v.patch, v.merge, v.temporal),
        (3584, 32, 16, 3420, 14, 2, 2)
    );
    assert_eq!((c.own.window, &c.own.full[..], v.activation), (4, &[7, 15, 23, 31][..], Activation::Silu));
    assert_eq!((c.image_token, c.text.vocab, c.text.norm_eps), (151_655, 152_064, 1e-5));
    let refused = |vision: &str, at: &str| {
        let e = read(&format!(r#"{{"model_type": "qwen2_5_vl", "vision_config": {{{vision}}}}}"#)).unwrap_err();
        assert!(e.at.ends_with(at), "{e}");
    };
    refused(r#""out_hidden_size": 8"#, "vision_config.out_hidden_size");
    refused(r#""out_hidden_size": 8192, "window_size": 27"#, "vision_config.window_size");
    refused(r#""out_hidden_size": 8192, "fullatt_block_indexes": 7"#, "vision_config.fullatt_block_indexes");
    let e = read(r#"{"model_type": "qwen3_vl_moe"}"#).unwrap_err().to_string();
    assert!(e.contains("mixture of experts"), "{e}");
}
