//! The rows that stay before the decoder against the public code of the methods. The answers are in early/answers.json;
//! scripts/make_early.py made them and names the commits.

use crate::common::toys::{Case, toys};
use aircache::config::SiglipConfig;
use aircache::family::llava_clip::LlavaConfig;
use aircache::family::llava_onevision::LlavaOnevisionConfig;
use aircache::generate;
use aircache::num::Grid;
use aircache::pass::Pass;
use aircache::policy::{Policy, Rate, Rater, Retain, best, spread};
use aircache::vision::Siglip;
use aircache::weights::Names;
use ndarray::{Array4, Axis, Ix2};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Answer {
    code: String,
    /// FAMILY/NAME of the toy checkpoint.
    toy: String,
    by: String,
    keep: usize,
    /// The tokens of each tile that stay.
    tiles: Option<Vec<Vec<usize>>>,
    /// What the code ranks by, of each tile.
    scores: Option<Vec<Vec<f64>>>,
    /// The visual rows that stay.
    rows: Option<Vec<usize>>,
}

fn answers() -> Vec<Answer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/early/answers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The toys of these answers, by FAMILY/NAME.
fn toys_of(answers: &[Answer]) -> BTreeMap<String, Case> {
    cases_of(answers.iter().map(|a| &a.toy[..]))
}

/// The toys of these names.
pub fn cases_of<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, Case> {
    let mut families: Vec<&str> = names.filter_map(|name| Some(name.split_once('/')?.0)).collect();
    families.sort_unstable();
    families.dedup();
    let each =
        |family: &str| toys(family, 1).into_iter().map(|c| (format!("{family}/{}", c.name), c)).collect::<Vec<_>>();
    families.iter().flat_map(|family| each(family)).collect()
}

/// The tower of a toy up to the last layer that is read, its tiles, and the layers that are read.
pub fn tower_of(case: &Case) -> (Siglip, &SiglipConfig, Array4<f32>, Vec<usize>) {
    let names = Names::new(&case.model.checkpoint, case.model.config.profile().names);
    let (config, layers) = match case.model.config.as_a::<LlavaConfig>() {
        Some(config) => (&config.vision, config.feature_layers.clone()),
        None => {
            let config = case.model.config.as_a::<LlavaOnevisionConfig>().unwrap();
            (&config.vision, config.feature_layers.clone())
        }
    };
    let tower = Siglip::load(&names, config, *layers.iter().max().unwrap()).unwrap();
    let pixels = case.golden.f32("input.pixels").unwrap();
    let side = config.image;
    let tiles = pixels.len() / (3 * side * side);
    (tower, config, pixels.into_shape_with_order((tiles, 3, side, side)).unwrap(), layers)
}

/// E9.30, E9.31: the votes of the tokens of each tile of a toy, the class token left out.
fn votes_of_tiles(case: &Case, by: Rater) -> Vec<Vec<f64>> {
    let (tower, config, pixels, layers) = tower_of(case);
    let mut pass = Pass::<f64>::new(Grid::Native);
    let rate = Some(Rate { by, keys: false });
    let (_, ratings) = tower.rated_features(&mut pass, pixels.view(), &layers, rate);
    let tiles = ratings.axis_chunks_iter(Axis(0), config.tokens());
    tiles.map(|tile| tile.iter().skip(usize::from(config.class)).copied().collect()).collect()
}

/// FasterVLM and VisionZip rank by the class token, EffiVLM-Bench by what each token receives.
#[test]
fn e9_30_e9_31_tiles_keep_what_public_code_keeps() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.tiles.is_some()).collect();
    let cases = toys_of(&answers);
    for answer in &answers {
        let what = format!("{}, {}, {} tokens", answer.code, answer.toy, answer.keep);
        let by = if answer.by == "class" { Rater::Class } else { Rater::Received };
        let votes = votes_of_tiles(&cases[&answer.toy], by);
        let tiles = answer.tiles.as_ref().unwrap();
        assert_eq!(votes.len(), tiles.len(), "{what}");
        for (t, (votes, kept)) in votes.iter().zip(tiles).enumerate() {
            assert_eq!(&best(votes, answer.keep), kept, "{what}, tile {t}");
            for (ours, theirs) in votes.iter().zip(answer.scores.iter().flat_map(|all| &all[t])) {
                // transformers computes the softmax in f32.
                assert!((ours - theirs).abs() <= 2e-6 * theirs.max(0.05), "{what}, tile {t}: {ours}, {theirs}");
            }
        }
    }
    assert_eq!(answers.len(), 42);
}

/// E9.31: a visual row of Qwen2-VL is made of four patches.
#[test]
fn e9_31_rows_of_patches_are_those_of_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.rows.is_some() && a.by == "received").collect();
    let cases = toys_of(&answers);
    for answer in &answers {
        let case = &cases[&answer.toy];
        let mut pass = Pass::<f64>::new(Grid::Native);
        let votes = case.model.encode(&mut pass, &case.prompt, Some(Rater::Received)).votes;
        assert_eq!(&best(&votes, answer.keep), answer.rows.as_ref().unwrap(), "{}", answer.toy);
    }
    assert_eq!(answers.len(), 27);
}

/// E9.32: DivPrune's choice among the visual rows that transformers computed. Of equal rows, such as newlines, its code takes
/// one whose distance its matrix product rounded up.
#[test]
fn e9_32_rows_that_are_far_are_those_of_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.by == "diverse").collect();
    let cases = toys_of(&answers);
    for answer in &answers {
        let rows = cases[&answer.toy].golden.f64("projector.out").unwrap().into_dimensionality::<Ix2>().unwrap();
        let (_, chosen) = spread(rows.view(), answer.keep, Grid::Native);
        let first_alike = |&v: &usize| (0..=v).find(|&u| rows.row(u) == rows.row(v)).unwrap();
        let alike = |kept: &[usize]| {
            let mut all: Vec<usize> = kept.iter().map(first_alike).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(alike(&chosen), alike(answer.rows.as_ref().unwrap()), "{}, {} rows", answer.toy, answer.keep);
    }
    assert_eq!(answers.len(), 216);
}

/// Where an image is one tile, the whole flow keeps the rows of FasterVLM's code.
#[test]
fn c9_10a_a_prefill_goes_on_with_the_rows_of_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.code == "FasterVLM").collect();
    let cases = toys_of(&answers);
    let mut compared = 0;
    for answer in answers.iter().filter(|a| a.tiles.as_ref().unwrap().len() == 1) {
        let case = &cases[&answer.toy];
        let policy: Policy = "fastervlm".parse().unwrap();
        let policy = policy.at(Retain::tokens(answer.keep).unwrap());
        let mut pass = Pass::<f64>::new(Grid::Native);
        let sequence = generate::prefill(&case.model, &mut pass, &case.prompt, &[policy]).unwrap();
        let left = sequence.pruning.rows(0).unwrap();
        let visual = case.prompt.roles.visual();
        let kept: Vec<usize> = (0..visual.len()).filter(|&v| left.contains(&visual[v])).collect();
        assert_eq!(&kept, &answer.tiles.as_ref().unwrap()[0], "{}", answer.toy);
        assert_eq!(left.len(), case.prompt.ids.len() - visual.len() + answer.keep);
        compared += 1;
    }
    assert_eq!(compared, 9);
}
