//! Chapter 05: tower, projector, packed rows.

mod clip;
mod internvl;
mod qwen2_5_vl;
mod qwen2_vl;
mod qwen3_vl;

use crate::common::numbers::{Rng, bits};
use crate::common::twin::{self, Twin};
use crate::common::{by_hand, raw};
use aircache::config::{Activation, SiglipConfig};
use aircache::family;
use aircache::family::llava_onevision::{LlavaOnevisionConfig, names};
use aircache::input::{PackedRow, Packing};
use aircache::layer::{Linear, Mlp};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::Pass;
use aircache::vision::{Siglip, pack};
use aircache::weights::{Matrix, Names};
use ndarray::{Array4, array, s};

fn demo() -> (Model, SiglipConfig) {
    let model = Model::load(&aircache::demo::files()).unwrap();
    let vision = model.config.as_a::<LlavaOnevisionConfig>().unwrap().vision.clone();
    (model, vision)
}

fn pixels(tiles: usize, side: usize) -> Array4<f32> {
    let mut rng = Rng(5);
    Array4::from_shape_fn((tiles, 3, side, side), |_| rng.number(1.0))
}

/// E5.1–E5.4: the tower by hand.
#[test]
fn e5_1_e5_2_e5_3_e5_4_worked_examples() {
    let layer = "vision_tower.encoder.layers.0.";
    let name = |part: &str| format!("{layer}{part}");
    let (zero, one) = ([0f32; 2], [1f32; 2]);
    let (zeros, identity) = ([0f32; 4], [1f32, 0.0, 0.0, 1.0]);
    let embeddings: [(String, &[usize], &[f32]); 3] = [
        ("vision_tower.embeddings.patch_embedding.weight".into(), &[2, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        ("vision_tower.embeddings.patch_embedding.bias".into(), &[2], &zero),
        ("vision_tower.embeddings.position_embedding.weight".into(), &[1, 2], &[0.0, 1.0]),
    ];
    let layers: [(String, &[usize], &[f32]); 16] = [
        (name("layer_norm1.weight"), &[2], &one),
        (name("layer_norm1.bias"), &[2], &zero),
        (name("self_attn.q_proj.weight"), &[2, 2], &zeros),
        (name("self_attn.q_proj.bias"), &[2], &zero),
        (name("self_attn.k_proj.weight"), &[2, 2], &zeros),
        (name("self_attn.k_proj.bias"), &[2], &zero),
        (name("self_attn.v_proj.weight"), &[2, 2], &identity),
        (name("self_attn.v_proj.bias"), &[2], &zero),
        (name("self_attn.out_proj.weight"), &[2, 2], &identity),
        (name("self_attn.out_proj.bias"), &[2], &zero),
        (name("layer_norm2.weight"), &[2], &one),
        (name("layer_norm2.bias"), &[2], &zero),
        (name("mlp.fc1.weight"), &[1, 2], &[0.0, 1.0]),
        (name("mlp.fc1.bias"), &[1], &[0.0]),
        (name("mlp.fc2.weight"), &[2, 1], &[1.0, 0.0]),
        (name("mlp.fc2.bias"), &[2], &zero),
    ];
    let all: Vec<_> = embeddings.iter().chain(&layers).map(|(n, shape, v)| (n.as_str(), *shape, *v)).collect();
    let (checkpoint, _folder) = by_hand::checkpoint(&all);
    let config = SiglipConfig {
        hidden: 2,
        layers: 1,
        heads: 1,
        intermediate: 1,
        image: 1,
        patch: 1,
        channels: 3,
        norm_eps: 0.0,
        activation: Activation::GeluTanh,
        class: false,
    };
    let tower = Siglip::load(&Names::new(&checkpoint, names), &config, 1).unwrap();
    let ones = Array4::from_elem((1, 3, 1, 1), 1.0);
    let x = tower.features(&mut Pass::<f64>::new(Grid::Native), ones.view(), &[0, 1]);
    let want = [1.0, 3.0, aircache::num::gelu_tanh(1.0), 4.0];
    assert_eq!(x.as_slice().unwrap(), want, "states 0 and 1, side by side");
    assert!(want[2].to_string().starts_with("0.841191"));
}

/// C5.2a, R5.1, R5.2: every state of every layer equals the twin's, bit for bit, on every grid. C5.1b: the states
/// contain neither post_layernorm nor a layer after the last requested layer.
#[test]
fn c5_1b_c5_2a_r5_1_r5_2_the_tower_equals_its_twin() {
    let (model, c) = demo();
    let names = Names::new(&model.checkpoint, names);
    let tower = Siglip::load(&names, &c, c.layers).unwrap();
    let pixels = pixels(1, c.image);
    fn check<T: Real>(names: Names<'_>, tower: &Siglip, pixels: &Array4<f32>, grid: Grid) {
        let c = &tower.config;
        let wanted: Vec<usize> = (0..=c.layers).collect();
        let features = tower.features(&mut Pass::<T>::new(grid), pixels.view(), &wanted);
        let states = Twin { names, grid }.tower::<T>(c, pixels.view());
        assert_eq!(bits(&features), bits(&twin::beside(&states)), "{} on {grid:?}", T::NAME);
        let fewer = Siglip::load(&names, c, 1).unwrap();
        let first = fewer.features(&mut Pass::<T>::new(grid), pixels.view(), &[1]);
        assert_eq!(bits(&first), bits(&states[1]));
    }
    for grid in [Grid::Native, Grid::Bf16, Grid::F16] {
        check::<f32>(names, &tower, &pixels, grid);
    }
    check::<f64>(names, &tower, &pixels, Grid::Native);
}

/// C5.1a, C5.3a: a call with more tiles than one group holds gives the same bits as one call for each tile.
#[test]
fn c5_1a_c5_3a_tiles_do_not_see_each_other() {
    let (model, c) = demo();
    let tower = Siglip::load(&Names::new(&model.checkpoint, names), &c, c.layers).unwrap();
    let tiles = 1500 / (c.side() * c.side()) + 2;
    let pixels = pixels(tiles, c.image);
    let run = |range: std::ops::Range<usize>| {
        let pixels = pixels.slice(s![range, .., .., ..]);
        tower.features(&mut Pass::<f32>::new(Grid::Native), pixels, &[0, c.layers])
    };
    let all = run(0..tiles);
    for tile in [0, 1, tiles - 2, tiles - 1] {
        assert_eq!(bits(&run(tile..tile + 1)), bits(&twin::tile(all.view(), tile)), "tile {tile}");
    }
}

/// E5.5 by hand; C5.5a: the projection of a token does not depend on the neighbouring tokens.
#[test]
fn e5_5_c5_5a_worked_example() {
    let layer = |w: &[f32], outputs, inputs| Linear {
        weight: Matrix::of_f32(w, outputs, inputs),
        bias: None,
        stored: Default::default(),
    };
    let projector = Mlp { fc1: layer(&[1.0, 0.0], 1, 2), activation: Activation::GeluErf, fc2: layer(&[2.0], 1, 1) };
    let pass = Pass::<f64>::new(Grid::Native);
    let y = projector.forward(&pass, array![[1.0, 7.0], [-3.0, 2.0]]);
    assert!(y[[0, 0]].to_string().starts_with("1.682689"), "{y}");
    assert_eq!(y[[1, 0]], projector.forward(&pass, array![[-3.0, 2.0]])[[0, 0]]);
}

fn packing() -> Packing {
    let model = Model::load(&aircache::demo::files()).unwrap();
    model.config.as_a::<LlavaOnevisionConfig>().unwrap().anyres().packing((64, 64), false).unwrap()
}

/// E5.6, C5.6a.
#[test]
fn e5_6_c5_6a_worked_example() {
    let mut packing = packing();
    packing.rows = vec![
        PackedRow::Token { tile: 0, token: 1 },
        PackedRow::Newline,
        PackedRow::Blend([(0, 0, 0.25), (0, 1, 0.25), (0, 2, 0.25), (0, 3, 0.25)]),
    ];
    let tile = array![[[2.0], [4.0], [8.0], [16.0]]];
    assert_eq!(pack(tile.view(), &packing, &[-1.0]), array![[4.0], [-1.0], [7.5]]);
}

/// R5.6: a blend is stored once, at the end.
#[test]
fn r5_6_a_blend_is_stored_once() {
    let mut packing = packing();
    let part = |token| (0, token, 0.25);
    packing.rows = vec![PackedRow::Blend([part(0), part(1), part(1), part(1)])];
    // 1 + 2^-8 · (3/4): each product is on the grid, but the sum is not. If each addition were stored, the small parts
    // would be rounded away one by one.
    let step = 2f32.powi(-7);
    let tile = array![[[1.0], [1.0 + step]]];
    let blend = pack::<f32>(tile.view(), &packing, &[0.0]);
    assert_eq!(blend[[0, 0]], 1.0 + 0.75 * step);
    assert_eq!(Pass::new(Grid::Bf16).store(blend)[[0, 0]], 1.0 + step);
}

fn read(config: &str) -> LlavaOnevisionConfig {
    let family = family::load(&raw::embedded(&[("config.json", config)])).unwrap();
    family.as_a::<LlavaOnevisionConfig>().unwrap().clone()
}

/// T5.1: the defaults of missing fields.
#[test]
fn t5_1_defaults() {
    let sizes = |c: &SiglipConfig| (c.hidden, c.layers, c.heads, c.intermediate, c.image, c.patch);
    let c = read(r#"{"model_type": "llava_onevision", "vision_config": {"image_size": 384}}"#).vision;
    assert_eq!(sizes(&c), (768, 12, 12, 3072, 384, 16));
    assert_eq!((c.norm_eps, c.activation, c.side()), (1e-6, Activation::GeluTanh, 24));
    let c = read(r#"{"model_type": "llava_onevision"}"#).vision;
    assert_eq!(sizes(&c), (1152, 26, 16, 4304, 384, 14));
    assert_eq!((c.norm_eps, c.activation, c.side()), (1e-6, Activation::GeluTanh, 27));
}

/// T5.2: the defaults of missing fields.
#[test]
fn t5_2_defaults() {
    let c = read(r#"{"model_type": "llava_onevision"}"#);
    assert_eq!((c.image_token, c.pinpoints.len(), c.pinpoints[1]), (151_646, 36, (384, 768)));
    assert_eq!((c.max_tiles, c.feature_layers, c.drop_first), (9, vec![26], false));
    assert_eq!((c.projector_activation, c.projector_bias, c.text.tied), (Activation::GeluErf, true, false));
    let c = read(
        r#"{"model_type": "llava_onevision", "vision_feature_layer": [-2, 0], "text_config": {"tie_word_embeddings": true}}"#,
    );
    assert_eq!((c.feature_layers, c.text.tied), (vec![25, 0], true));
}
