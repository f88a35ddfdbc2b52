//! Checks for the toys of every family, in addition to their goldens: a step equals a prefill, and honest recordings
//! pass.

use super::toys::Case;
use aircache::decoder::{AT_ONCE, Sequence};
use aircache::generate::{self, Until};
use aircache::golden::{
    Bundle, BundleWriter, Outcome, Recording, Selection, StageVerdict, Verdict, check, record, replay,
};
use aircache::input::{GivenImage, Positions, Prepared, PreparedImage};
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Precision};
use aircache::policy::Policy;
use aircache::sample::Sampling;
use ndarray::{ArrayD, Axis, Slice, concatenate};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;

/// Text, ids, roles, positions, grids, sizes and pixels equal the values that transformers recorded.
pub fn reads_what_transformers_reads(Case { name, prompt, golden, rendered, .. }: &Case) {
    assert_eq!(prompt.prompt, *rendered, "{name}");
    let list = |stage: &str| golden.i64(stage).unwrap().into_raw_vec_and_offset().0;
    assert_eq!(prompt.ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), list("input.ids"), "{name}");
    assert_eq!(prompt.roles.0.iter().map(|&r| r as i64).collect::<Vec<_>>(), list("input.roles"), "{name}");
    let positions = match &prompt.positions {
        Positions::Linear(all) => all.clone(),
        Positions::Mrope(axes) => axes.concat(),
    };
    assert_eq!(positions, list("input.positions"), "{name}");
    if prompt.images.is_empty() {
        return;
    }
    let grids: Vec<i64> = prompt.images.iter().filter_map(|i| i.grid).flatten().map(|n| n as i64).collect();
    assert_eq!(grids, golden.get("input.grid").map_or(vec![], |_| list("input.grid")), "{name}");
    let sizes: Vec<i64> = prompt.images.iter().flat_map(|i| [i.size.0 as i64, i.size.1 as i64]).collect();
    assert_eq!(sizes, list("input.sizes"), "{name}");
    let pixels: Vec<_> = prompt.images.iter().map(|i| i.pixels.view()).collect();
    let (pixels, want) = (concatenate(Axis(0), &pixels).unwrap(), golden.f32("input.pixels").unwrap());
    // In LLaVA's videos, the axis of videos stands before the axis of frames.
    let shape = if want.ndim() == 5 && pixels.ndim() == 4 { &want.shape()[1..] } else { want.shape() };
    assert_eq!(pixels.shape(), shape, "{name}");
    assert!(pixels.iter().eq(want.iter()), "{name}: pixels");
}

/// Transformers' ids and pixels give the same prompt, with and without expanded placeholders. `given`: makes the core's
/// input from one image and its part of the pixels.
pub fn pass_the_core_door(cases: Vec<Case>, given: impl Fn(&PreparedImage, ArrayD<f32>) -> GivenImage) {
    for Case { name, model, prompt, golden, .. } in cases.into_iter().filter(|c| !c.prompt.images.is_empty()) {
        let pixels = golden.f32("input.pixels").unwrap();
        let pixels = if pixels.ndim() == 5 { pixels.index_axis(Axis(0), 0).to_owned() } else { pixels };
        let mut first = 0;
        let images = prompt.images.iter().map(|image| {
            let part = first..first + image.pixels.shape()[0];
            first = part.end;
            given(image, pixels.slice_axis(Axis(0), Slice::from(part)).to_owned())
        });
        let images: Vec<GivenImage> = images.collect();
        let mut short = prompt.ids.clone();
        let token = model.config.visual_token(&prompt.ids);
        short.dedup_by(|b, a| a == b && *a == token);
        for ids in [&short, &prompt.ids] {
            let again = Prepared::from_ids(&*model.config, ids, images.clone()).unwrap();
            assert_eq!((&again.ids, &again.roles), (&prompt.ids, &prompt.roles), "{name}");
            assert_eq!(again.positions, prompt.positions, "{name}");
            assert!(again.images.iter().zip(&prompt.images).all(|(a, b)| a.packing == b.packing), "{name}");
        }
    }
}

/// C6.1a with images: a prefill of n rows equals a prefill of n − 1 rows and one step, bit for bit, in keys, values and
/// logits; also in a GPU's type.
pub fn a_prefill_is_one_row_less_and_a_step(cases: &[Case]) {
    fn check<T: Real>(case: &Case, grid: Grid) {
        let run = |rows: usize| {
            let mut prompt = case.prompt.clone();
            prompt.ids.truncate(rows);
            prompt.roles.0.truncate(rows);
            match &mut prompt.positions {
                Positions::Linear(all) => all.truncate(rows),
                Positions::Mrope(axes) => axes.iter_mut().for_each(|axis| axis.truncate(rows)),
            }
            generate::prefill(&case.model, &mut Pass::<T>::new(grid), &prompt, &[]).unwrap()
        };
        let (n, mut short) = (case.prompt.ids.len(), run(case.prompt.ids.len() - 1));
        let whole = run(n);
        let mut pass = Pass::<T>::new(grid);
        let last = case.prompt.ids[n - 1];
        case.model.decoder.step(&mut pass, 0, &[last], &mut [&mut short]);
        let bits = |v: &[T]| v.iter().map(|v| v.to_f64().to_bits()).collect::<Vec<_>>();
        let (step, all) = (bits(&short.logits), bits(&whole.logits));
        assert!(step == all, "{}, {grid:?}: logits differ", case.name);
        assert_eq!(short.next_position, whole.next_position, "{}", case.name);
        for (a, b) in short.cache.layers.iter().flatten().zip(whole.cache.layers.iter().flatten()) {
            assert_eq!(a.keys(), b.keys(), "{}", case.name);
            assert_eq!(a.values(), b.values(), "{}", case.name);
        }
    }
    for case in cases {
        check::<f64>(case, Grid::Native);
        check::<f32>(case, Grid::Native);
        check::<f32>(case, Grid::Bf16);
    }
}

/// C6.1a with images: in chunks of any size, and in a batch with another prompt, a prompt gives the same bits in keys,
/// values and logits.
pub fn chunks_and_batches_change_no_bit(cases: &[Case]) {
    for Case { name, model, prompt, .. } in cases {
        let text = Prepared::from_ids(&*model.config, &prompt.ids[..1], vec![]).unwrap();
        let hashes = |prompts: &[&Prepared], at_once: usize| -> Vec<u64> {
            let prompts: Vec<(&Prepared, &[Policy])> = prompts.iter().map(|p| (*p, &[][..])).collect();
            let mut pass = Pass::<f32>::new(Grid::Bf16);
            let sequences = generate::prefill_batch(model, &mut pass, &prompts, at_once).unwrap();
            sequences.iter().map(hash).collect()
        };
        let alone = hashes(&[prompt], AT_ONCE)[0];
        assert!(hashes(&[&text], AT_ONCE)[0] != alone, "{name}");
        for at_once in [8, 16, AT_ONCE] {
            assert_eq!(hashes(&[prompt], at_once)[0], alone, "{name}: chunks of {at_once}");
            let batch = hashes(&[&text, prompt, prompt], at_once);
            assert_eq!([batch[1], batch[2]], [alone; 2], "{name}: a batch in chunks of {at_once}");
        }
    }
}

/// A hash of the keys, values and logits of a sequence.
fn hash(sequence: &Sequence<f32>) -> u64 {
    let mut hash = DefaultHasher::new();
    let entries = sequence.cache.layers.iter().flatten().flat_map(|head| [head.keys(), head.values()]);
    entries.for_each(|entries| entries.iter().for_each(|v| v.to_bits().hash(&mut hash)));
    sequence.logits.iter().for_each(|v| v.to_bits().hash(&mut hash));
    hash.finish()
}

/// Records a prompt under AirCache, with four generated tokens.
pub fn recorded(case: &Case, prompt: &Prepared, precision: Precision, noise: bool, to: &Path) -> Bundle {
    let how = Recording {
        precision,
        way: aircache::pass::Way::default(),
        kv: aircache::num::Grid::Native,
        policy: Policy::AIRCACHE,
        retain: "0.4".parse().unwrap(),
        sampling: Sampling::Greedy,
        until: Until { stop: vec![], max_new_tokens: 4 },
        stages: Selection::default(),
        noise,
    };
    record(&case.model, prompt, &how, BundleWriter::create(to).unwrap(), |_| ControlFlow::Continue(())).unwrap();
    Bundle::open(to).unwrap()
}

fn failed(v: &Verdict) -> String {
    v.first_divergence().map_or("pass".into(), |s| format!("{}: {}", s.stage, s.words))
}

/// Honest candidates pass by golden and by replay, with and without the prompt; every vision stage of a candidate is
/// judged.
pub fn honest_candidates_pass(cases: &[Case], precisions: &[Precision]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for case in cases {
        let golden = recorded(case, &case.prompt, Precision::Truth, true, &path("golden"));
        for &precision in precisions {
            let candidate = recorded(case, &case.prompt, precision, false, &path("candidate"));
            for verdict in [
                check(&golden, &candidate).unwrap(),
                replay(&case.model, Some(&case.prompt), &candidate, scratch()).unwrap(),
                replay(&case.model, None, &candidate, scratch()).unwrap(),
            ] {
                assert!(verdict.passes(), "{}, {precision:?}: {}", case.name, failed(&verdict));
                let judged = |s: &&StageVerdict| s.outcome != Outcome::NotJudged;
                let vision =
                    verdict.stages.iter().filter(|s| s.stage.starts_with("vision.") || s.stage == "projector.out");
                let (all, of) = (vision.clone().count(), vision.filter(judged).count());
                assert_eq!(all, of, "{}, {}: vision stages judged", case.name, verdict.mode);
            }
        }
    }
}

/// float32, and the GPU types.
pub const GPU: [Precision; 3] = [Precision::Fast, Precision::Bf16, Precision::F16];

/// The first stage at which a check and a replay find the bug in a bf16 recording of a changed prompt.
pub fn found(case: &Case, golden: &Bundle, to: &Path, change: &dyn Fn(&mut Prepared)) -> (String, String) {
    let mut prompt = case.prompt.clone();
    change(&mut prompt);
    let candidate = recorded(case, &prompt, Precision::Bf16, false, to);
    let by_replay = replay(&case.model, None, &candidate, scratch()).unwrap();
    let first = |v: &Verdict| v.first_divergence().map_or("none".to_string(), |s| s.stage.clone());
    (first(&check(golden, &candidate).unwrap()), first(&by_replay))
}

/// The bundle in which a replay stores its own numbers.
pub fn scratch() -> BundleWriter {
    BundleWriter::create(&std::env::temp_dir().join("replay")).unwrap()
}
