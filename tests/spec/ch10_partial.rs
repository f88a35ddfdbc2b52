//! Chapter 10, partial recordings: any subset of the stages of an honest recording passes, by golden and by replay.

use crate::common::held::scratch;
use crate::common::lab::Lab;
use crate::common::numbers::Rng;
use crate::common::toys::toys;
use aircache::generate::Until;
use aircache::golden::{Bundle, BundleWriter, Outcome, Recording, Selection, Verdict, check, record, replay};
use aircache::input::Prepared;
use aircache::model::Model;
use aircache::pass::Precision;
use aircache::sample::Sampling;
use aircache::stage::{Site, Stage, TABLE};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const TYPES: [Precision; 3] = [Precision::Fast, Precision::Bf16, Precision::F16];

/// Honest recordings of one prompt: the golden, and a candidate in each type.
pub struct Honest {
    pub name: String,
    pub model: Model,
    pub prompt: Prepared,
    pub golden: Bundle,
    pub candidates: Vec<(Precision, Bundle)>,
    folder: tempfile::TempDir,
}

pub fn recorded(model: &Model, prompt: &Prepared, how: (&str, &str), precision: Precision, to: &Path) -> Bundle {
    sampled(model, prompt, how, precision, Sampling::Greedy, to)
}

fn sampled(
    model: &Model,
    prompt: &Prepared,
    (policy, retain): (&str, &str),
    precision: Precision,
    sampling: Sampling,
    to: &Path,
) -> Bundle {
    let how = Recording {
        precision,
        way: aircache::pass::Way::default(),
        kv: aircache::num::Grid::Native,
        policy: policy.parse().unwrap(),
        retain: retain.parse().unwrap(),
        sampling,
        until: Until { stop: vec![], max_new_tokens: 4 },
        stages: Selection::default(),
        noise: precision == Precision::Truth,
    };
    record(model, prompt, &how, BundleWriter::create(to).unwrap(), |_| ControlFlow::Continue(())).unwrap();
    Bundle::open(to).unwrap()
}

impl Honest {
    pub fn new(name: &str, model: Model, prompt: Prepared, how: (&str, &str), types: &[Precision]) -> Honest {
        let folder = tempfile::tempdir().unwrap();
        let of = |precision: Precision| {
            recorded(&model, &prompt, how, precision, &folder.path().join(precision.bundle_name()))
        };
        let golden = of(Precision::Truth);
        let candidates = types.iter().map(|&precision| (precision, of(precision))).collect();
        Honest { name: format!("{name}, {} {}", how.0, how.1), model, prompt, golden, candidates, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A copy of a bundle without some of its stages, and without some of its metadata.
pub fn without(from: &Bundle, to: &Path, drops: impl Fn(&str) -> bool, unsaid: &[&str]) -> Bundle {
    let mut w = BundleWriter::create(to).unwrap();
    let stage = |name: &str| {
        name.split_once('.')
            .filter(|(kind, _)| *kind == "noise")
            .map_or(name.to_string(), |(_, rest)| rest.split_once('.').map_or(rest, |r| r.1).to_string())
    };
    for name in from.names().filter(|name| !drops(&stage(name))) {
        let t = from.get(name).unwrap();
        w.put(name, t.dtype, t.shape, t.data).unwrap();
    }
    let keys = ["precision", "policy", "retain", "noise", "sampling", "family", "model"];
    let said = keys.iter().filter(|key| !unsaid.contains(key));
    w.finish(said.filter_map(|key| Some((*key, from.metadata(key)?)))).unwrap();
    Bundle::open(to).unwrap()
}

/// A random choice of stages to leave out: whole rows of the table, and single stages.
fn dropped(rng: &mut Rng, bundle: &Bundle) -> BTreeSet<String> {
    let share = [0, 10, 30, 60, 85][rng.below(5)];
    let single = [0, 0, 5, 30][rng.below(4)];
    let rows: BTreeSet<Site> = TABLE.iter().filter(|_| rng.below(100) < share).map(|row| row.site).collect();
    let gone = |name: &&str| Stage::parse(name).is_some_and(|at| rows.contains(&at.site));
    bundle.names().filter(|name| gone(name) || rng.below(100) < single).map(String::from).collect()
}

pub fn told(v: &Verdict) -> String {
    v.first_divergence().map_or("pass".into(), |s| format!("{}: {}", s.stage, s.words))
}

/// Random subsets of a recording: a failure is told as type, mode, the stages that are there, and the verdict.
fn trial(honest: &Honest, rng: &mut Rng, golden: bool) -> Option<String> {
    let (precision, whole) = &honest.candidates[rng.below(honest.candidates.len())];
    let drops = dropped(rng, whole);
    let prompt = (rng.below(2) == 0).then_some(&honest.prompt);
    let needed = |name: &str| !golden && prompt.is_none() && name == "input.ids";
    // Without its policy, a merged entry is an entry that is no copy (C9.8c).
    let merges = whole.metadata("policy").is_some_and(|policy| policy.contains("merge:"));
    let unsaid = if rng.below(6) == 0 && !merges { &["policy", "retain"][..] } else { &[] };
    let part = without(whole, &honest.path("part"), |name| drops.contains(name) && !needed(name), unsaid);
    let verdict = if golden {
        let less = if rng.below(3) == 0 { dropped(rng, &honest.golden) } else { BTreeSet::new() };
        check(&without(&honest.golden, &honest.path("less"), |name| less.contains(name), &[]), &part)
    } else {
        replay(&honest.model, prompt, &part, scratch())
    };
    let why = match verdict {
        Ok(verdict) if verdict.passes() => return None,
        Ok(verdict) => told(&verdict),
        Err(e) if e.to_string().contains("at least one stage") => return None,
        Err(e) => e.to_string(),
    };
    let patterns: BTreeSet<String> = part.names().filter_map(Stage::parse).map(|at| at.row().pattern()).collect();
    let mode = if golden { "golden" } else { "replay" };
    let said = if unsaid.is_empty() { "" } else { ", no policy named" };
    let outside = if prompt.is_some() { " with prompt" } else { "" };
    let all: Vec<String> = patterns.into_iter().collect();
    Some(format!(
        "{}, {} {mode}{outside}{said}: {why}\n    has {}",
        honest.name,
        precision.bundle_name(),
        all.join(" ")
    ))
}

fn trials(honest: &Honest, seed: u64, by_golden: usize, by_replay: usize) -> Vec<String> {
    let mut rng = Rng(seed);
    let all = (0..by_golden).filter_map(|_| trial(honest, &mut rng, true)).collect::<Vec<_>>();
    let rest = (0..by_replay).filter_map(|_| trial(honest, &mut rng, false));
    all.into_iter().chain(rest.collect::<Vec<_>>()).collect()
}

fn demo(line: usize, how: (&str, &str), types: &[Precision]) -> Honest {
    let lab = Lab::new(line);
    Honest::new(&format!("question {line}"), lab.model, lab.prompt, how, types)
}

/// D10.7, D10.13, C10.13a, C10.13b: a sample of the next test.
#[test]
fn d10_7_subsets_of_honest_recordings_pass() {
    let mut failures = vec![];
    for (line, how, types) in [(20, ("aircache", "0.3"), &TYPES[..]), (61, ("vl-cache", "0.1"), &TYPES[1..2])] {
        failures.extend(trials(&demo(line, how, types), line as u64, 40, 6));
    }
    for family in ["qwen2_vl", "internvl2"] {
        let case = toys(family, 3).remove(1);
        let honest = Honest::new(&case.name, case.model, case.prompt, ("aircache", "0.4"), &TYPES);
        failures.extend(trials(&honest, 7, 30, 12));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// C9.7a, C9.8c: the same where heads have budgets of their own, and where entries are merged.
#[test]
fn d10_7_subsets_of_split_and_merged_recordings_pass() {
    let mut failures = vec![];
    for (seed, how) in [(3, ("adakv", "0.4")), (4, ("look-m", "0.4")), (5, ("mixkv,split=ada:0.5", "0.3"))] {
        let case = toys("qwen2_vl", 3).remove(1);
        let honest = Honest::new(&case.name, case.model, case.prompt, how, &TYPES);
        failures.extend(trials(&honest, seed, 60, 6));
    }
    let case = toys("qwen2_vl", 3).remove(1);
    let (layers, heads) = (case.model.decoder.config.layers, case.model.decoder.config.kv_heads);
    let row = |l: usize| (0..heads).map(|g| ((3 * l + 5 * g + 1) % 7).to_string()).collect::<Vec<_>>().join("/");
    let scores = (0..layers).map(row).collect::<Vec<_>>().join("|");
    let how = format!("snapkv,budget=heads,split=heads:0.25:{scores}");
    let honest = Honest::new(&case.name, case.model, case.prompt, (&how, "0.4"), &TYPES);
    failures.extend(trials(&honest, 6, 60, 6));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// C10.5b: a bug that a whole recording shows does not become a pass because stages that it does not touch are left
/// out, unless the verdict counts something that it did not judge.
#[test]
fn c10_5b_a_bug_is_found_or_something_is_not_judged() {
    let lab = Lab::new(20);
    let golden = lab.golden();
    let mut rng = Rng(23);
    let (mut found, mut all) = (0, 0);
    for bug in crate::common::bugs::all().iter().step_by(3) {
        let whole = (bug.make)(&lab, Precision::Fast);
        if lab.by_golden(&golden, &whole, Precision::Fast).passes() {
            continue;
        }
        for by_replay in [false, false, true] {
            let mut part = whole.clone();
            let share = [20, 50, 80][rng.below(3)];
            part.numbers.retain(|name, _| bug.is_at(name) || rng.below(100) >= share);
            part.integers.retain(|name, _| bug.is_at(name) || rng.below(100) >= share);
            let verdict = match by_replay {
                true => lab.by_replay(&part, Precision::Fast),
                false => lab.by_golden(&golden, &part, Precision::Fast),
            };
            let unjudged = verdict.count(aircache::golden::Outcome::NotJudged);
            assert!(
                !verdict.passes() || unjudged > 0,
                "{}, {}: {}",
                bug.name,
                verdict.mode,
                verdict.lines().join("\n")
            );
            (found, all) = (found + usize::from(!verdict.passes()), all + 1);
        }
    }
    assert!(10 * found >= 9 * all, "{found} of {all}");
}

/// A copy of a bundle with other bytes of one stage.
fn edited(from: &Bundle, to: &Path, stage: &str, edit: impl Fn(&mut Vec<u8>)) -> Bundle {
    let mut w = BundleWriter::create(to).unwrap();
    for name in from.names() {
        let t = from.get(name).unwrap();
        let mut bytes = t.data.to_vec();
        if name == stage {
            edit(&mut bytes);
        }
        w.put(name, t.dtype, t.shape, &bytes).unwrap();
    }
    let keys = ["precision", "policy", "retain", "noise", "sampling", "family", "model"];
    w.finish(keys.iter().filter_map(|key| Some((*key, from.metadata(key)?)))).unwrap();
    Bundle::open(to).unwrap()
}

/// D11.4: a stage that is a copy of the failed one by definition is no cause.
#[test]
fn d11_4_copies_by_definition_are_no_cause() {
    let case = toys("qwen2_vl", 3).remove(1);
    let honest = Honest::new(&case.name, case.model, case.prompt, ("full", "1"), &TYPES[..1]);
    let candidate = &honest.candidates[0].1;
    let larger = |bytes: &mut Vec<u8>| {
        for number in bytes.chunks_exact_mut(4) {
            let x = f32::from_le_bytes(number.try_into().unwrap()) * 1.01;
            number.copy_from_slice(&x.to_le_bytes());
        }
    };
    let copies = [
        ("vision.00.out", "vision.features"),
        ("decoder.00.key", "cache.00.key"),
        ("decoder.00.value", "cache.00.value"),
    ];
    for (at, copy) in copies {
        assert_eq!(candidate.get(at).unwrap().data, candidate.get(copy).unwrap().data, "{copy} is a copy of {at}");
        let one = edited(candidate, &honest.path("one"), at, larger);
        let both = edited(&one, &honest.path("both"), copy, larger);
        let by_replay = replay(&honest.model, None, &both, scratch()).unwrap();
        for verdict in [check(&honest.golden, &both).unwrap(), by_replay] {
            let told = verdict.told().join("; ");
            assert_eq!(verdict.first_divergence().map(|s| &s.stage[..]), Some(at), "{told}");
            assert!(told.contains("1.01") && !told.contains("the numbers of"), "{told}");
        }
    }
}

/// Merged entries are the means of the candidate's own rows: entries that were dropped instead, or scaled, fail.
#[test]
fn c9_8c_merged_entries_are_judged() {
    for policy in ["look-m", "elastic-cache", "elastic-code"] {
        let honest = demo(47, (policy, "0.2"), &TYPES[..1]);
        let (_, candidate) = &honest.candidates[0];
        let judged = |bundle: &Bundle| {
            let by_replay = replay(&honest.model, None, bundle, scratch()).unwrap();
            [check(&honest.golden, bundle).unwrap(), by_replay]
        };
        judged(candidate).iter().for_each(|v| assert!(v.passes(), "{policy}: {}", told(v)));
        let dropped = demo(47, (&format!("{policy},evict=drop"), "0.2"), &TYPES[..1]);
        for stage in ["cache.00.key", "cache.03.value"] {
            let other = dropped.candidates[0].1.get(stage).unwrap().data;
            let wrong = edited(candidate, &honest.path("dropped"), stage, |bytes| *bytes = other.to_vec());
            for v in judged(&wrong) {
                assert_eq!(v.first_divergence().map(|s| &s.stage[..]), Some(stage), "{policy}: {}", told(&v));
            }
        }
        let scaled = edited(candidate, &honest.path("scaled"), "cache.02.key", |bytes| {
            for number in bytes.chunks_exact_mut(4) {
                let x = f32::from_le_bytes(number.try_into().unwrap()) * 1.0001;
                number.copy_from_slice(&x.to_le_bytes());
            }
        });
        assert!(judged(&scaled).iter().all(|v| told(v).starts_with("cache.02.key")), "{policy}");
    }
}

/// E9.21: a kept set that follows from the order of all importances is judged by the candidate's own importances only.
#[test]
fn e9_21_an_order_that_noise_could_change_is_not_judged() {
    let honest = demo(47, ("elastic-code", "0.2"), &TYPES[..1]);
    let other = demo(47, ("elastic-cache", "0.2"), &TYPES[..1]);
    let stage = "policy.02.kept";
    let theirs = other.candidates[0].1.get(stage).unwrap().data;
    let wrong = edited(&honest.candidates[0].1, &honest.path("wrong"), stage, |bytes| *bytes = theirs.to_vec());
    let of = |bundle: &Bundle| {
        let verdict = check(&honest.golden, bundle).unwrap();
        let judged = verdict.stages.iter().find(|s| s.stage == stage).unwrap();
        (judged.outcome, judged.words.clone())
    };
    assert_eq!(of(&wrong).0, Outcome::Fail);
    let unsaid = without(&wrong, &honest.path("unsaid"), |name| name.ends_with("importance"), &[]);
    let words = "honest noise could change the order of the importances";
    assert_eq!(of(&unsaid), (Outcome::NotJudged, words.to_string()));
}

/// The heads of a layer share its budget by their importances: other shares fail.
#[test]
fn c9_7a_budgets_of_heads_are_judged() {
    let honest = demo(33, ("adakv", "0.1"), &TYPES[..1]);
    let (_, candidate) = &honest.candidates[0];
    let shapes = |name: &str| candidate.get(name).unwrap().shape.to_vec();
    let heads = shapes("decoder.00.key")[0];
    assert_eq!(shapes("policy.budget"), [shapes("policy.strength")[0], heads]);
    assert_eq!(shapes("policy.00.kept"), shapes("policy.00.importance"));
    let moved = |bytes: &mut Vec<u8>| {
        let at = |g: usize| i64::from_le_bytes(bytes[8 * g..8 * g + 8].try_into().unwrap());
        let new = [at(0) - 1, at(1) + 1];
        new.iter().enumerate().for_each(|(g, b)| bytes[8 * g..8 * g + 8].copy_from_slice(&b.to_le_bytes()));
    };
    let wrong = edited(candidate, &honest.path("moved"), "policy.budget", moved);
    let without_kept =
        without(&wrong, &honest.path("alone"), |name| name.ends_with(".kept") || name.starts_with("cache"), &[]);
    for bundle in [&wrong, &without_kept] {
        let verdict = replay(&honest.model, None, bundle, scratch()).unwrap();
        assert!(told(&verdict).starts_with("policy.budget"), "{}", told(&verdict));
    }
}

/// C9.7b, E9.22: a bundle has the scores by which heads share their budget; other shares fail.
#[test]
fn e9_22_shares_by_head_scores_are_judged() {
    let scores = "0/1/0/2/1/0|1/1/1/0/0/0|0/0/1/5/0/0|1/1/1/1/1/1|2/0/1/0/0/0|1/0/0/0/0/1";
    let honest = demo(33, (&format!("snapkv,budget=heads,split=heads:0.25:{scores}"), "0.1"), &TYPES[..1]);
    let (_, candidate) = &honest.candidates[0];
    assert!(candidate.metadata("policy").unwrap().contains(&format!("heads:0.25:{scores}")));
    let judged = |bundle: &Bundle| {
        let by_replay = replay(&honest.model, None, bundle, scratch()).unwrap();
        [check(&honest.golden, bundle).unwrap(), by_replay]
    };
    judged(candidate).iter().for_each(|v| assert!(v.passes(), "{}", told(v)));
    let wrong = edited(candidate, &honest.path("moved"), "policy.budget", |bytes| {
        let at = |g: usize| i64::from_le_bytes(bytes[8 * g..8 * g + 8].try_into().unwrap());
        let new = [at(0) - 1, at(1) + 1];
        new.iter().enumerate().for_each(|(g, b)| bytes[8 * g..8 * g + 8].copy_from_slice(&b.to_le_bytes()));
    });
    let shown = |name: &str| name.ends_with(".kept") || name.starts_with("cache");
    for bundle in [&wrong, &without(&wrong, &honest.path("alone"), shown, &[])] {
        let verdict = replay(&honest.model, None, bundle, scratch()).unwrap();
        assert!(told(&verdict).starts_with("policy.budget"), "{}", told(&verdict));
    }
}

/// D10.7: random subsets of stages, for policies, types, pictures and families.
#[test]
#[ignore = "takes minutes"]
fn d10_7_many_subsets_of_honest_recordings_pass() {
    let policies = [
        ("aircache", "0.3"),
        ("aircache", "0.05"),
        ("full", "1"),
        ("snapkv", "0.2"),
        ("h2o", "0.1"),
        ("prefixkv", "0.3"),
        ("vl-cache", "0.3"),
        ("streaming", "0.1"),
        ("random", "0.5"),
        ("aircache-sparsity", "0.1"),
        ("aircache-prefix", "0.1"),
        ("aircache-union", "0.3"),
        ("aircache-kv", "0.2"),
        ("aircache-evict-text", "0.3"),
        ("pyramidkv", "0.3"),
        ("aircache-h2o", "0.2"),
        ("adakv", "0.1"),
        ("mixkv", "0.2"),
        ("keydiff", "0.3"),
        ("meda", "0.2"),
        ("tgv-kv", "0.1"),
        ("expected", "0.2"),
        ("observed,split=ada", "0.3"),
        ("look-m", "0.2"),
        ("elastic-cache", "0.1"),
        ("snapkv,heads=kv-max,score=max-pool:7,keep=top+first:4+on-top", "0.2"),
    ];
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(1);
    let (mut failures, mut count) = (vec![], 0);
    for round in 0..rounds {
        for (i, &how) in policies.iter().enumerate() {
            let line = (37 * i + 20 + 11 * round) % 250;
            let found = trials(&demo(line, how, &TYPES), (100 * round + i) as u64, 60, 8);
            found.iter().for_each(|f| println!("{f}"));
            failures.extend(found);
            count += 68;
        }
        for family in ["qwen2_vl", "internvl", "internvl2", "llava", "video"] {
            for (i, case) in toys(family, 3).into_iter().enumerate().filter(|(i, _)| i % 4 == round % 4) {
                let how = policies[(i + round) % policies.len()];
                let text = case.prompt.roles.visual().is_empty();
                let how = if text { ("full", "1") } else { how };
                let honest = Honest::new(&case.name, case.model, case.prompt, how, &TYPES);
                let found = trials(&honest, i as u64, 40, 16);
                found.iter().for_each(|f| println!("{f}"));
                failures.extend(found);
                count += 56;
            }
        }
    }
    println!("{} of {count} fail", failures.len());
    assert!(failures.is_empty(), "{} of {count}", failures.len());
}
