//! Qwen3-VL: learned positions, mergers, the defaults.

use super::*;
use aircache::family::qwen3_vl::{Qwen3VlConfig, Qwen3VlTower};
use aircache::files::Files;
use aircache::vision::interpolated;
use aircache::weights::Checkpoint;
use aircache::weights::names::visual;
use ndarray::{Array2, Axis, concatenate};

/// A table of `rows` learned positions: row r is (r, r²).
fn table(rows: usize) -> (Checkpoint, tempfile::TempDir) {
    let numbers: Vec<f32> = (0..rows).flat_map(|r| [r as f32, (r * r) as f32]).collect();
    by_hand::checkpoint(&[("table", &[rows, 2], &numbers)])
}

#[test]
fn e5_19_worked_example() {
    let (checkpoint, _folder) = table(9);
    let table = Names::new(&checkpoint, |name| vec![name.into()]).matrix("table", 9, 2).unwrap();
    let rows = interpolated::<f64>(&table, 3, &[[1, 2, 5]], 1);
    assert_eq!(rows.row(6).to_vec(), [6.5, (36.0 + 49.0) / 2.0]);
    assert_eq!(rows.column(0).to_vec(), [0.0, 0.5, 1.0, 1.5, 2.0, 6.0, 6.5, 7.0, 7.5, 8.0]);
    // A side of one patch lies at the first position.
    assert_eq!(interpolated::<f64>(&table, 3, &[[1, 1, 1]], 1).row(0).to_vec(), [0.0, 0.0]);
}

/// E5.19 with exact shares, in the order of squares, for every moment of a film: A5.19 is all that differs.
#[test]
fn e5_19_a5_19_shares_are_those_of_f32() {
    let side = 48;
    let (checkpoint, _folder) = table(side * side);
    let table = Names::new(&checkpoint, |name| vec![name.into()]).matrix("table", side * side, 2).unwrap();
    let mut exact = true;
    for [t, h, w] in [[1, 30, 46], [2, 4, 6], [1, 100, 2]] {
        let rows = interpolated::<f64>(&table, side, &[[t, h, w]], 2);
        assert_eq!(rows.nrows(), t * h * w);
        for (i, row) in rows.outer_iter().enumerate() {
            let (square, part) = (i % (h * w) / 4, i % 4);
            let (y, x) = (square / (w / 2) * 2 + part / 2, square % (w / 2) * 2 + part % 2);
            let at = |i: usize, size: usize| i as f64 * 47.0 / (size - 1) as f64;
            let want = at(y, h) * side as f64 + at(x, w); // linear, as the first column of the table
            let off = (row[0] - want).abs() / (side * side) as f64;
            assert!(off <= 4e-6, "{off:e}");
            exact &= off == 0.0;
        }
    }
    assert!(!exact, "A5.19");
}

fn toy(case: &str) -> (Checkpoint, Qwen3VlConfig) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3_vl");
    let files = Files::Folder(root.join(case).join("model"));
    let config = family::load(&files).unwrap().as_a::<Qwen3VlConfig>().unwrap().clone();
    (Checkpoint::open(&files).unwrap(), config)
}

fn random(patches: usize, c: &Qwen3VlConfig, rng: &mut Rng) -> Array2<f32> {
    Array2::from_shape_fn((patches, c.vision.numbers()), |_| rng.below(9) as f32 / 4.0 - 1.0)
}

/// C5.19a, R5.19: two images together give the rows of each image alone, on every grid.
#[test]
fn c5_19a_r5_19_images_do_not_see_each_other() {
    let (checkpoint, c) = toy("hub-bf16");
    let tower = Qwen3VlTower::load(&Names::new(&checkpoint, visual), &c).unwrap();
    let (grids, patches) = ([[1, 6, 10], [1, 4, 2]], random(68, &c, &mut Rng(9)));
    fn check<T: Real>(tower: &Qwen3VlTower, patches: &Array2<f32>, grids: &[[usize; 3]; 2], grid: Grid) {
        let rows = |of: std::ops::Range<usize>, grids: &[[usize; 3]]| {
            tower.rows(&mut Pass::<T>::new(grid), patches.slice(s![of, ..]), grids, None)
        };
        let (first, second) = (rows(0..60, &grids[..1]), rows(60..68, &grids[1..]));
        let alone = concatenate(Axis(0), &[first.view(), second.view()]).unwrap();
        let together = rows(0..68, grids);
        assert_eq!(bits(&together), bits(&alone), "{grid:?}");
        let stored = |v: &T| grid.round(*v) == *v;
        assert!(together.iter().all(stored), "{grid:?}");
    }
    for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
        check::<f32>(&tower, &patches, &grids, grid);
    }
    check::<f64>(&tower, &patches, &grids, Grid::Native);
}

/// The list (2, 0, 2, 9) of a tower of 3 layers: the features of layer 0 by merger 1, then of layer 2 by merger 0. Two
/// towers that differ in the order of the list exchange their mergers.
#[test]
fn e5_20_worked_example() {
    let (checkpoint, mut c) = toy("deepstack-order");
    let d = c.text.hidden;
    let patches = random(16, &c, &mut Rng(3));
    let mut rows = |tapped: &[usize], layers: &[usize]| {
        (c.own.tapped, c.own.deepstack) = (tapped.to_vec(), layers.to_vec());
        let tower = Qwen3VlTower::load(&Names::new(&checkpoint, visual), &c).unwrap();
        tower.rows(&mut Pass::<f64>::new(Grid::Native), patches.view(), &[[1, 4, 4]], None)
    };
    let both = rows(&[2, 0, 2, 9], &[0, 2]);
    assert_eq!(both.dim(), (4, 3 * d));
    let part = |rows: &Array2<f64>, i: usize| rows.slice(s![.., i * d..(i + 1) * d]).to_owned();
    assert_eq!(part(&rows(&[2, 0], &[0]), 1), part(&both, 1), "layer 0 by merger 1");
    assert_eq!(part(&rows(&[2], &[2]), 1), part(&both, 2), "layer 2 by merger 0");
    assert_ne!(part(&rows(&[0, 2], &[0]), 1), part(&both, 1), "layer 0 by merger 0");
    assert_eq!(rows(&[], &[]), part(&both, 0), "without DeepStack");
}

fn read(json: &str) -> aircache::Result<Qwen3VlConfig> {
    let files = Files::Embedded(Box::leak(Box::new([("config.json", json.to_owned().into_bytes().leak() as &[u8])])));
    Ok(family::load(&files)?.as_a::<Qwen3VlConfig>().unwrap().clone())
}

#[test]
fn t5_10_t6_2_defaults() {
    let c = read(r#"{"model_type": "qwen3_vl", "vision_config": {"out_hidden_size": 4096}}"#).unwrap();
    let v = &c.vision;
    assert_eq!(
        (v.hidden, v.layers, v.heads, v.intermediate, v.patch, v.merge, v.temporal),
        (1152, 27, 16, 4304, 16, 2, 2)
    );
    assert_eq!((c.own.positions, v.activation, v.rope_theta), (2304, Activation::GeluTanh, 1e4));
    assert_eq!((&c.own.deepstack, c.image_token), (&vec![8, 16, 24], 151_655));
    let t = &c.text;
    assert_eq!((t.hidden, t.layers, t.heads, t.kv_heads, t.head_dim, t.intermediate), (4096, 32, 32, 32, 128, 22_016));
    assert_eq!((t.vocab, t.norm_eps, t.rope_theta, t.max_positions), (151_936, 1e-6, 5e5, 128_000));
    assert_eq!((t.mrope.as_deref(), t.interleaved, t.qk_norm), (Some(&[24, 20, 20][..]), true, true));
    assert_eq!((t.qkv_bias, t.out_bias, t.tied), (false, false, false));
    // Layers that the tower does not have, and features for layers that the decoder does not have.
    let deep = |vision: &str, text: &str| {
        let vision = format!(r#""out_hidden_size": 4096, "deepstack_visual_indexes": {vision}"#);
        let text = format!(r#""num_hidden_layers": {text}"#);
        let json = format!(r#"{{"model_type": "qwen3_vl", "vision_config": {{{vision}}}, "text_config": {{{text}}}}}"#);
        read(&json).unwrap().own.deepstack
    };
    assert_eq!(deep("[20, 3, 20, 27]", "32"), [3, 20]);
    assert_eq!(deep("[20, 3, 9]", "2"), [3, 9]);
}

#[test]
fn t5_10_c6_17a_what_is_refused() {
    let refused = |part: &str, fields: &str, at: &str| {
        let other = if part == "text" { r#""vision_config": {"out_hidden_size": 4096}, "# } else { "" };
        let e = read(&format!(r#"{{"model_type": "qwen3_vl", {other}"{part}_config": {{{fields}}}}}"#)).unwrap_err();
        assert!(e.at.ends_with(at), "{e}");
    };
    refused("vision", r#""out_hidden_size": 8"#, "vision_config.out_hidden_size");
    refused("vision", r#""out_hidden_size": 4096, "deepstack_visual_indexes": 7"#, "deepstack_visual_indexes");
    refused("vision", r#""out_hidden_size": 4096, "num_heads": 7"#, "vision_config.num_heads");
    refused("text", r#""rope_scaling": {"mrope_interleaved": false}"#, "rope_scaling.mrope_interleaved");
    refused("text", r#""rope_scaling": {"mrope_section": [32, 32]}"#, "rope_scaling.mrope_section");
    refused("text", r#""rope_scaling": {"rope_type": "yarn", "factor": 3.0}"#, "rope_scaling.rope_type");
    let e = read(r#"{"model_type": "qwen3_vl_moe"}"#).unwrap_err().to_string();
    assert!(e.contains("mixture of experts"), "{e}");
}
