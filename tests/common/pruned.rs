//! Policies that drop visual rows inside prefill or before the decoder: what their two chapters' tests share.

use super::lab::{Dump, Lab};
use aircache::Roles;
use aircache::decoder::Sequence;
use aircache::generate;
use aircache::golden::{Outcome, Verdict};
use aircache::input::{Positions, Prepared};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Precision, Tap};
use aircache::policy::Policy;
use aircache::stage::Stage;
use ndarray::{Array2, ArrayViewD, Axis};
use std::collections::BTreeMap;

/// A policy that drops rows as `written`, and evicts nothing after prefill.
pub fn policy(written: &str) -> Policy {
    format!("full,prune={written}").parse().unwrap()
}

/// The bits of a prefill: logits, cache entries, the next position.
pub fn state(s: &Sequence<f32>) -> (Vec<u32>, Vec<u32>, i64) {
    let heads = || s.cache.layers.iter().flatten();
    let bits = |v: &f32| v.to_bits();
    let entries = heads().flat_map(|h| h.keys().iter().chain(&h.values()).map(bits).collect::<Vec<_>>());
    (s.logits.iter().map(bits).collect(), entries.collect(), s.next_position)
}

/// The prefill of a prompt that never had rows other than `rows`. x: the merged embeddings of these rows; deepstack: what is
/// added to all visual rows.
pub fn shorter(
    model: &Model,
    pass: &mut Pass<'_, f32>,
    prompt: &Prepared,
    rows: &[usize],
    x: Array2<f32>,
    deepstack: &[Array2<f32>],
) -> Sequence<f32> {
    let positions = match &prompt.positions {
        Positions::Linear(_) => Positions::in_order(rows.len()),
        moved => moved.picked(rows),
    };
    let places = prompt.roles.visual();
    let kept: Vec<usize> = (0..places.len()).filter(|&v| rows.contains(&places[v])).collect();
    let mut twin = Sequence::new(model.decoder.cache());
    twin.roles = Roles(rows.iter().map(|&row| prompt.roles.0[row]).collect());
    twin.deepstack = deepstack.iter().map(|rows| rows.select(Axis(0), &kept)).collect();
    let mut twin = [twin];
    model.decoder.prefill(pass, &[(x, &positions)], &mut twin, 4096);
    let [mut twin] = twin;
    if matches!(prompt.positions, Positions::Mrope(_)) {
        twin.next_position = prompt.positions.next(); // generated tokens follow the whole prompt
    }
    twin
}

/// A laboratory with such a policy.
pub fn lab(written: &str) -> Lab {
    Lab { policy: policy(written), ..Lab::new(0) }
}

/// A prompt of the demo model.
pub fn prompt(line: usize) -> Prepared {
    Lab::new(line).prompt
}

/// What a pass shows.
#[derive(Default)]
pub struct Seen {
    pub numbers: BTreeMap<String, Vec<f64>>,
    pub rows: BTreeMap<String, Vec<usize>>,
}

impl<T: Real> Tap<T> for Seen {
    fn wants(&self, _: Stage) -> bool {
        true
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.numbers.insert(at.to_string(), value.iter().map(|v| v.to_f64()).collect());
    }
    fn rows(&mut self, at: Stage, rows: &[usize]) {
        self.rows.insert(at.to_string(), rows.to_vec());
    }
}

/// The state of each prompt after a prefill of its own: the same in chunks of any size, together, on one thread; and of
/// the first also in a watched pass.
pub fn one_state<S: PartialEq + Send>(
    model: &Model,
    prompts: &[(&Prepared, &[Policy])],
    state: impl Fn(&Sequence<f32>) -> S + Sync,
) -> Vec<S> {
    let run = |prompts: &[(&Prepared, &[Policy])], at_once: usize| -> Vec<S> {
        let mut pass = Pass::<f32>::new(Grid::Native);
        generate::prefill_batch(model, &mut pass, prompts, at_once).unwrap().iter().map(&state).collect()
    };
    let alone: Vec<S> = prompts.iter().map(|one| run(&[*one], 4096).remove(0)).collect();
    for at_once in [8, 100, 4096] {
        assert!(run(prompts, at_once) == alone, "{at_once} rows at once");
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(one.install(|| run(prompts, 100)) == alone, "one thread");
    let mut nobody = Seen::default();
    let mut pass = Pass::<f32>::watched(Grid::Native, &mut nobody);
    let watched = generate::prefill(model, &mut pass, prompts[0].0, prompts[0].1).unwrap();
    assert!(state(&watched) == alone[0], "watched");
    alone
}

/// The outcome of a stage, and its words.
pub fn outcome<'a>(verdict: &'a Verdict, stage: &str) -> (Outcome, &'a str) {
    let stage = verdict.stages.iter().find(|s| s.stage == stage).unwrap_or_else(|| panic!("{stage}"));
    (stage.outcome, &stage.words)
}

/// Honest candidates pass in every type, by a golden and by replay, and a replay judges each stage.
pub fn honest_candidates_pass(lab: &Lab) {
    let golden = lab.golden();
    for precision in [Precision::Fast, Precision::Bf16, Precision::F16] {
        let dump = lab.honest(precision);
        let replayed = lab.by_replay(&dump, precision);
        for verdict in [&lab.by_golden(&golden, &dump, precision), &replayed] {
            let failed = verdict.first_divergence().map(|s| (&s.stage, &s.words));
            assert_eq!(failed, None, "{}, {precision:?}, {}", lab.policy, verdict.mode);
        }
        let open = replayed.stages.iter().find(|s| s.outcome == Outcome::NotJudged).map(|s| (&s.stage, &s.words));
        assert_eq!(open, None, "{}, {precision:?}", lab.policy);
    }
}

/// The rows of the cut before a layer of a dump, with one visual row exchanged: the row with the most votes for that with
/// the fewest.
pub fn exchanged(dump: &Dump, visual: &[usize], layer: usize) -> Vec<i64> {
    let name = |what: &str| format!("decoder.{layer:02}.{what}");
    let (votes, rows) = (&dump.numbers[&name("votes")], &dump.integers[&name("rows")]);
    let of = |row: i64| votes[[visual.iter().position(|&v| v as i64 == row).unwrap()]];
    let is_visual = |row: &i64| visual.contains(&(*row as usize));
    let mut kept: Vec<i64> = rows.iter().copied().collect();
    let most = kept.iter().copied().filter(is_visual).max_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap();
    let dropped = visual.iter().map(|&v| v as i64).filter(|v| !kept.contains(v));
    let least = dropped.min_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap();
    kept.retain(|&row| row != most);
    kept.push(least);
    kept.sort_unstable();
    kept
}
