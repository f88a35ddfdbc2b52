//! Rows that are merged before the decoder against VisionZip's code and EffiVLM-Bench's. The answers are in early/zip.json;
//! scripts/make_zip.py made them, and scripts/make_early.py names the commits.

use crate::common::toys::Case;
use crate::early::{cases_of, tower_of};
use aircache::generate;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Tap};
use aircache::policy::{Policy, Rate, Rater, Retain, best, destinations, merged};
use aircache::stage::Stage;
use ndarray::{Array2, ArrayView2, ArrayViewD, Axis, Ix2, s};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answer {
    code: String,
    /// FAMILY/NAME of the toy checkpoint.
    toy: String,
    dominant: usize,
    contextual: usize,
    /// The dominant tokens of each tile.
    tiles: Option<Vec<Vec<usize>>>,
    /// What the projector reads of the contextual tokens of each tile.
    merged: Option<Vec<Vec<Vec<f64>>>>,
    /// What the projector makes of the contextual tokens; of a tower of patches, the rows that merging changed.
    projected: Option<Vec<Vec<f64>>>,
    /// The visual rows that stay, and those that merging changed.
    rows: Option<Vec<usize>>,
    changed: Option<Vec<usize>>,
}

fn answers() -> Vec<Answer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/early/zip.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Votes and keys of the tokens of each tile, [tokens, 1 + d_h], and what the projector reads of them; the class token left
/// out.
fn tiles(case: &Case) -> Vec<(Array2<f64>, Array2<f64>)> {
    let (tower, config, pixels, layers) = tower_of(case);
    let last = *layers.iter().max().unwrap(); // the codes read one state
    let rate = Rate { by: if config.class { Rater::Class } else { Rater::Received }, keys: true };
    let mut pass = Pass::<f64>::new(Grid::Native);
    let (features, ratings) = tower.rated_features(&mut pass, pixels.view(), &[last], Some(rate));
    let first = usize::from(config.class);
    let ratings = ratings.axis_chunks_iter(Axis(0), config.tokens());
    let tile = |(ratings, features): (ArrayView2<'_, f64>, ArrayView2<'_, f64>)| {
        (ratings.slice(s![first.., ..]).to_owned(), features.slice(s![first.., ..]).to_owned())
    };
    ratings.zip(features.outer_iter()).map(tile).collect()
}

/// The destinations of rows with these votes and keys.
fn into(votes: &[f64], keys: ArrayView2<'_, f64>, answer: &Answer) -> (Vec<usize>, Vec<usize>) {
    let dominant = best(votes, answer.dominant);
    let others: Vec<usize> = (0..votes.len()).filter(|v| dominant.binary_search(v).is_err()).collect();
    (dominant, destinations(keys, &others, answer.contextual, Grid::Native))
}

/// transformers computes the softmax of a tower in f32, and EffiVLM-Bench's code sums in f32.
fn near(ours: ArrayView2<'_, f64>, theirs: &[Vec<f64>], what: &str) {
    assert_eq!(ours.nrows(), theirs.len(), "{what}");
    let size = theirs.iter().flatten().fold(0.0f64, |most, x| most.max(x.abs()));
    for (ours, theirs) in ours.iter().zip(theirs.iter().flatten()) {
        assert!((ours - theirs).abs() <= 2e-6 * size, "{what}: {ours}, {theirs}");
    }
}

/// E9.35, E9.36: the codes choose dominant tokens, targets and sums in each tile, before the projector.
#[test]
fn e9_35_e9_36_tiles_are_merged_as_in_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.merged.is_some()).collect();
    let cases = cases_of(answers.iter().map(|a| &a.toy[..]));
    let mut sums = 0;
    for answer in &answers {
        let all = tiles(&cases[&answer.toy]);
        let (kept, theirs) = (answer.tiles.as_ref().unwrap(), answer.merged.as_ref().unwrap());
        assert_eq!((all.len(), all.len()), (kept.len(), theirs.len()));
        for (t, (ratings, features)) in all.iter().enumerate() {
            let what =
                format!("{}, {}, {} + {}, tile {t}", answer.code, answer.toy, answer.dominant, answer.contextual);
            let (dominant, into) = into(&ratings.column(0).to_vec(), ratings.slice(s![.., 1..]), answer);
            assert_eq!(&dominant, &kept[t], "{what}");
            near(merged(features.view(), &into, Grid::Native).view(), &theirs[t], &what);
            sums += (0..into.len()).filter(|&v| into[v] < into.len() && into[v] != v).count();
        }
    }
    assert_eq!((answers.len(), sums > 500), (36, true), "{sums} tokens are merged");
}

/// What a pass shows of contextual rows.
#[derive(Default)]
struct Shown(Option<Array2<f64>>);

impl<T: Real> Tap<T> for Shown {
    fn wants(&self, at: Stage) -> bool {
        at.to_string() == "decoder.00.merged"
    }
    fn see(&mut self, _: Stage, value: ArrayViewD<'_, T>) {
        self.0 = Some(value.mapv(|v| v.to_f64()).into_dimensionality().unwrap());
    }
}

/// Where an image is one tile, the whole flow makes the contextual rows of VisionZip's code and transformers' projector.
#[test]
fn e9_36_a_prefill_goes_on_with_the_rows_of_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.tiles.is_some() && a.projected.is_some()).collect();
    let cases = cases_of(answers.iter().map(|a| &a.toy[..]));
    for answer in &answers {
        let (case, keep) = (&cases[&answer.toy], answer.dominant + answer.contextual);
        let policy: Policy = "visionzip".parse().unwrap();
        let policy = policy.at(Retain::tokens(keep).unwrap());
        let mut shown = Shown::default();
        let mut pass = Pass::<f64>::watched(Grid::Native, &mut shown);
        let sequence = generate::prefill(&case.model, &mut pass, &case.prompt, &[policy]).unwrap();
        let into = &sequence.pruning.into;
        let dominant: Vec<usize> = (0..into.len()).filter(|&v| into[v] == usize::MAX).collect();
        assert_eq!(&dominant, &answer.tiles.as_ref().unwrap()[0], "{}", answer.toy);
        near(shown.0.unwrap().view(), answer.projected.as_ref().unwrap(), &answer.toy);
    }
    assert_eq!(answers.len(), 6);
}

/// A9.18: EffiVLM-Bench merges the rows of Qwen2-VL after the projector, and leaves them in their places.
#[test]
fn a9_18_rows_of_patches_are_merged_as_in_public_code() {
    let answers: Vec<Answer> = answers().into_iter().filter(|a| a.rows.is_some()).collect();
    let cases = cases_of(answers.iter().map(|a| &a.toy[..]));
    let mut sums = 0;
    for answer in &answers {
        let case = &cases[&answer.toy];
        let mut pass = Pass::<f64>::new(Grid::Native);
        let visual = case.model.encode(&mut pass, &case.prompt, Some(Rater::Zip));
        let (dominant, into) = into(&visual.votes, visual.metric.view(), answer);
        let mut rows: Vec<usize> = dominant.into_iter().chain((0..into.len()).filter(|&v| into[v] == v)).collect();
        rows.sort_unstable();
        assert_eq!(&rows, answer.rows.as_ref().unwrap(), "{}", answer.toy);
        let golden = case.golden.f64("projector.out").unwrap().into_dimensionality::<Ix2>().unwrap();
        let targets: Vec<usize> = (0..into.len()).filter(|&v| into[v] == v).collect();
        let alone = |&&t: &&usize| into.iter().filter(|&&target| target == t).count() > 1;
        let changed: Vec<usize> = targets.iter().filter(alone).copied().collect();
        assert_eq!(&changed, answer.changed.as_ref().unwrap(), "{}", answer.toy);
        let places: Vec<usize> = changed.iter().map(|t| targets.binary_search(t).unwrap()).collect();
        let ours = merged(golden.view(), &into, Grid::Native).select(Axis(0), &places);
        near(ours.view(), answer.projected.as_ref().unwrap(), &answer.toy);
        sums += (0..into.len()).filter(|&v| into[v] < into.len() && into[v] != v).count();
    }
    assert_eq!((answers.len(), sums > 20), (27, true), "{sums} rows are merged");
}
