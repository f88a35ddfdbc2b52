//! Lists of frames against the recorded results of transformers, in the families that read videos:
//! `tests/golden/video`.

use crate::common::held::{self, recorded};
use crate::common::toys::{Case, toys, toys_pass};
use aircache::golden::replay;
use aircache::input::{GivenImage, PackedRow, Positions, Prepared};
use aircache::pass::Precision;

fn cases() -> Vec<Case> {
    toys("video", 17)
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

/// D4.8, T4.11, E4.22, E4.23: ids, roles, positions, grids, sizes and pixels are equal.
#[test]
fn frames_are_read_as_transformers_reads_them() {
    cases().iter().for_each(held::reads_what_transformers_reads);
}

#[test]
fn ids_and_frames_of_transformers_pass_the_core_door() {
    // Ids alone give the trained positions (A4.8) of 24 frames a second, which these cases do not have.
    let other = ["qwen2-vl-odd", "qwen2-5-vl-slow", "qwen2-5-vl-chosen"];
    let cases = cases().into_iter().filter(|case| !other.contains(&case.name.as_str())).collect();
    held::pass_the_core_door(cases, |video, pixels| match video.grid {
        Some(grid) => GivenImage::patches(pixels.into_dimensionality().unwrap(), video.size, grid),
        None => GivenImage::tiles(pixels.into_dimensionality().unwrap(), video.size),
    });
}

toys_pass!(cases, but: [""], policies: [] of "", honest: &held::GPU);

/// Typical errors of ports are found at the right stage.
#[test]
fn wrong_times_and_pools_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let found = |case: &Case, change: &dyn Fn(&mut Prepared)| {
        let golden = recorded(case, &case.prompt, Precision::Truth, true, &path("golden"));
        held::found(case, &golden, &path("candidate"), change)
    };
    let both = |stage: &str| (stage.to_string(), stage.to_string());
    let still = |p: &mut Prepared| {
        let Positions::Mrope(axes) = &mut p.positions else { panic!() };
        let visual = p.roles.visual();
        let first = axes[0][visual[0]];
        axes[0][visual[0]..=visual[visual.len() - 1]].fill(first);
    };
    assert_eq!(found(&case("qwen2-vl-odd"), &still), both("input.positions"), "time stands still");
    let nearest = |p: &mut Prepared| {
        for row in &mut p.images[0].packing.rows {
            if let PackedRow::Blend([(tile, token, _), ..]) = *row {
                *row = PackedRow::Token { tile, token };
            }
        }
    };
    assert_eq!(found(&case("llava-even"), &nearest), both("projector.out"), "every second token instead of a mean");
}

/// C10.7d: without its frames a second, a recording is honest by the positions of some number a second, and only by these.
#[test]
fn c10_7d_positions_of_some_number_of_frames_a_second_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let case = case("qwen2-5-vl-slow");
    let by_replay = |change: &dyn Fn(&mut [Vec<i64>; 3])| {
        let mut prompt = case.prompt.clone();
        let Positions::Mrope(axes) = &mut prompt.positions else { panic!() };
        change(axes);
        let candidate = recorded(&case, &prompt, Precision::Bf16, false, &path("candidate"));
        let verdict = replay(&case.model, None, &candidate, held::scratch()).unwrap();
        verdict.first_divergence().map_or("none".into(), |stage| stage.stage.clone())
    };
    assert_eq!(by_replay(&|_| {}), "none", "1.5 a second, of which the bundle says nothing");
    let visual = case.prompt.roles.visual();
    let each = visual.len() / 3;
    let wrong = |axes: &mut [Vec<i64>; 3]| visual[each..2 * each].iter().for_each(|&row| axes[0][row] += 2);
    assert_eq!(by_replay(&wrong), "input.positions", "the second of three moments is nearer to the third than any is");
}
