//! Qwen2-VL beyond what `patches.rs` tests: wrong prompts are found, and candidates of a few stages are replayed.

use crate::common::held::{self, recorded};
use crate::common::toys::{Case, toys};
use aircache::golden::{Bundle, BundleWriter, Outcome, Verdict, replay};
use aircache::input::{Positions, Prepared};
use aircache::pass::Precision;
use ndarray::Axis;

fn cases() -> Vec<Case> {
    toys("qwen2_vl", 15)
}

#[test]
fn toys_end_where_their_file_says() {
    cases().iter().for_each(|c| assert_eq!(c.model.generation.eos, [488, 486], "{}", c.name));
}

/// Typical errors of ports are found at the right stage.
#[test]
fn wrong_positions_grids_and_patches_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let case = cases().into_iter().find(|c| c.name == "hub-bf16").unwrap();
    let golden = recorded(&case, &case.prompt, Precision::Truth, true, &path("golden"));
    let bug = |change: &dyn Fn(&mut Prepared)| held::found(&case, &golden, &path("candidate"), change);
    let positions = |p: &mut Prepared, change: &dyn Fn(&mut [Vec<i64>; 3])| {
        let Positions::Mrope(axes) = &mut p.positions else { panic!() };
        change(axes);
    };
    let at = ("input.positions".to_string(), "input.positions".to_string());
    assert_eq!(bug(&|p| positions(p, &|axes| axes.swap(1, 2))), at, "height and width exchanged");
    assert_eq!(
        bug(&|p| positions(p, &|axes| *axes = std::array::from_fn(|_| (0..53).collect()))),
        at,
        "one position a row"
    );
    assert_eq!(bug(&|p| positions(p, &|axes| axes.iter_mut().for_each(|a| a[52] += 1))), at, "the last row moved");
    // The same patches in reverse order, and a grid with height and width exchanged.
    let (golden_says, replay_says) = bug(&|p| {
        let pixels = &mut p.images[0].pixels;
        *pixels = pixels.select(Axis(0), &(0..pixels.shape()[0]).rev().collect::<Vec<_>>());
    });
    assert_eq!(
        (golden_says.as_str(), replay_says.as_str()),
        ("input.pixels", "none"),
        "replay takes pixels as they are"
    );
    let (golden_says, _) = bug(&|p| p.images[0].grid = p.images[0].grid.map(|[t, h, w]| [t, w, h]));
    assert_eq!(golden_says, "input.grid");
}

/// A candidate of a few stages: replay takes the positions of rows from the grid or from the positions; if both are
/// missing, the error names both.
#[test]
fn d10_7_a_candidate_of_a_few_stages_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let case = cases().into_iter().find(|c| c.name == "hub-bf16").unwrap();
    let whole = recorded(&case, &case.prompt, Precision::Fast, false, &folder.path().join("whole"));
    let some = |names: &[&str]| {
        let path = folder.path().join("some");
        let mut w = BundleWriter::create(&path).unwrap();
        for name in names {
            match name.starts_with("input.") && *name != "input.pixels" {
                true => {
                    let a = whole.i64(name).unwrap();
                    w.put_i64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()).unwrap();
                }
                false => {
                    let a = whole.f32(name).unwrap();
                    w.put_f32(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()).unwrap();
                }
            }
        }
        w.finish([("precision", "f32")]).unwrap();
        replay(&case.model, None, &Bundle::open(&path).unwrap(), held::scratch())
    };
    let judged = |v: Verdict| {
        v.stages.iter().filter(|s| s.outcome == Outcome::Pass).map(|s| s.stage.clone()).collect::<Vec<_>>()
    };
    let layer = ["decoder.00.out", "decoder.01.query", "decoder.01.key", "decoder.01.value"];
    let with = |first: &'static [&'static str]| [first, &layer[..]].concat();
    let v = judged(some(&with(&["input.ids", "input.positions"])).unwrap());
    assert_eq!(v, ["input.positions", "decoder.01.query", "decoder.01.key", "decoder.01.value"]);
    let v = judged(some(&with(&["input.ids", "input.grid"])).unwrap());
    assert_eq!(v, ["decoder.01.query", "decoder.01.key", "decoder.01.value"]);
    // Without positions or grids nobody knows how rows are turned; values are not turned.
    assert_eq!(judged(some(&with(&["input.ids"])).unwrap()), ["decoder.01.value"]);
    let v = judged(some(&["input.ids", "input.grid", "vision.00.out", "vision.01.out", "projector.out"]).unwrap());
    assert_eq!(v, ["vision.01.out", "projector.out"], "vision.features is the last layer's");
}
