//! Chapter 11: the causes of decisions, of integers and of cache entries (D11.2, D11.10), each said of a candidate with the
//! mistake, and not said of a near miss, which has almost the mistake.

use crate::common::lab::{Dump, Lab};
use aircache::generate;
use aircache::golden::{Bundle, BundleWriter, Verdict, check};
use aircache::num::Grid;
use aircache::pass::{Pass, Precision};
use aircache::policy::{Keys, Policy, Scorer, ranking, skewness};
use ndarray::{Array1, ArrayD, Axis};
use std::sync::OnceLock;

/// A lab, its golden, and an honest run in f32.
fn lab() -> &'static (Lab, Bundle, Dump) {
    static LAB: OnceLock<(Lab, Bundle, Dump)> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new(20);
        let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
        (lab, golden, honest)
    })
}

/// The words are said of the mistake; the near miss fails, too, and they are not said of it.
fn told(words: &str, mistake: &Verdict, near: &Verdict) {
    let all = |v: &Verdict| v.told().join("; ");
    assert!(all(mistake).contains(words), "expected {words:?}, got {:?}", all(mistake));
    assert!(!near.passes(), "near {words:?}: it passes");
    assert!(!all(near).contains(words), "near {words:?}: {:?}", all(near));
}

/// A change of an honest run.
type Change<'a> = &'a dyn Fn(&mut Dump);

/// The words are said of the run with the mistake, and not of the run that almost has it.
fn says(words: &str, mistake: Change<'_>, near: Change<'_>) {
    let (lab, golden, honest) = lab();
    let judged = |change: Change<'_>| {
        let mut dump = honest.clone();
        change(&mut dump);
        lab.by_golden(golden, &dump, Precision::Fast)
    };
    told(words, &judged(mistake), &judged(near));
}

fn list(d: &mut Dump, name: &str, values: impl IntoIterator<Item = usize>) {
    let mut values: Vec<i64> = values.into_iter().map(|v| v as i64).collect();
    values.sort_unstable();
    d.integers.insert(name.into(), Array1::from(values).into_dyn());
}

/// The text rows after the image, in the order of the attention that the last of them gives, the least first.
fn voters() -> Vec<usize> {
    let (lab, _, honest) = lab();
    let text = lab.prompt.roles.visual().last().unwrap() + 1..lab.prompt.ids.len();
    let attention: Vec<f64> = honest.numbers["policy.00.attention"].iter().copied().collect();
    assert_eq!(attention.len(), text.len());
    let mut order = ranking(&attention);
    order.reverse();
    order.into_iter().map(|i| text.start + i).collect()
}

#[test]
fn d11_10_windows() {
    let name = "policy.00.window";
    let rows = voters();
    let (all, most) = (rows.len(), rows.len() / 2);
    let without = |row: usize| rows.iter().copied().filter(move |r| *r != row).collect::<Vec<_>>();
    says("every row of text votes", &|d| list(d, name, rows.clone()), &|d| list(d, name, without(rows[most])));
    says("one row votes alone", &|d| list(d, name, [rows[0]]), &|d| list(d, name, [rows[0], rows[1]]));
    // The rows of a smaller α; the same with a row that is among the least attended.
    says("the window is that of an α between", &|d| list(d, name, rows[most..].to_vec()), &|d| {
        list(d, name, rows[most + 1..all].iter().copied().chain([rows[0]]))
    });
}

/// Importances of all layers by another policy, through the windows of a run.
fn importances(lab: &Lab, policy: Policy, d: &mut Dump, share: f64) {
    let mut pass = Pass::<f32>::new(Grid::Native);
    let sequence =
        generate::prefill(&lab.model, &mut pass, &lab.prompt, &[lab.policy.clone(), policy.clone()]).unwrap();
    let scorer = Scorer::new(&policy, &lab.prompt.roles).unwrap();
    let name = |l: usize, what: &str| format!("policy.{l:02}.{what}");
    let windows: Vec<Vec<usize>> = (0..6)
        .map(|l| {
            let window = &d.integers[&name(l, "window")];
            match window.ndim() {
                2 => (0..lab.prompt.ids.len()).filter(|&i| window[[0, i]] != 0).collect(),
                _ => window.iter().map(|&row| row as usize).collect(),
            }
        })
        .collect();
    let seen = sequence
        .observed(scorer.policy(), |l, seen| scorer.observe_through(l, seen, vec![windows[l].clone()]))
        .unwrap();
    for (l, seen) in seen.into_iter().enumerate() {
        let own = d.numbers.get_mut(&name(l, "importance")).unwrap();
        own.iter_mut().zip(&seen.importance).for_each(|(own, other)| *own += share * (other - *own));
    }
}

/// The near miss of another softmax lies half way to it.
#[test]
fn d11_10_importances() {
    let policy = &lab().0.policy;
    let keys = |keys| Policy { keys, ..policy.clone() };
    for (words, other) in [
        ("a softmax over all entries, not over the visual ones", keys(Keys::All)),
        ("a softmax over the entries that a row sees", keys(Keys::Causal)),
    ] {
        says(words, &|d| importances(&lab().0, other.clone(), d, 1.0), &|d| {
            importances(&lab().0, other.clone(), d, 0.5)
        });
    }
}

/// A policy whose softmax goes over all entries that a row sees, and a candidate with AirCache's.
#[test]
fn d11_10_importances_of_another_policy() {
    let mut lab = Lab::new(20);
    lab.policy = Policy { keys: Keys::Causal, ..Policy::AIRCACHE };
    let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
    let judged = |share: f64| {
        let mut dump = honest.clone();
        importances(&lab, Policy::AIRCACHE, &mut dump, share);
        lab.by_golden(&golden, &dump, Precision::Fast)
    };
    told("a softmax over the entries of the policy's own rows", &judged(1.0), &judged(0.5));
}

/// Few entries stay, so that a layer does not keep the first one, and all kept numbers can be too small.
#[test]
fn d11_10_kept_numbers_from_one() {
    let mut lab = Lab::new(20);
    lab.retain = "0.05".parse().unwrap();
    let (golden, honest) = (lab.golden(), lab.honest(Precision::Fast));
    let kept = |l: usize| honest.integers[&format!("policy.{l:02}.kept")].iter().map(|&i| i as usize).collect();
    let sets: Vec<Vec<usize>> = (0..6).map(kept).collect();
    let l = (0..6).find(|&l| sets[l].len() > 2 && !sets[l].contains(&0)).unwrap();
    let judged = |set: Vec<usize>| {
        let mut dump = honest.clone();
        list(&mut dump, &format!("policy.{l:02}.kept"), set);
        lab.by_golden(&golden, &dump, Precision::Fast)
    };
    let early: Vec<usize> = sets[l].iter().map(|i| i - 1).collect();
    let mut near = early.clone();
    near[1] = (0..).find(|i| !early.contains(i) && !sets[l].contains(i)).unwrap();
    told("every kept number is 1 too small", &judged(early), &judged(near));
}

/// The near miss of another formula is right in half of the layers.
#[test]
fn d11_10_statistics() {
    let times = |site: &'static str, factor: f64, layers: usize| {
        move |d: &mut Dump| {
            let all = d.numbers.get_mut(&format!("policy.{site}")).unwrap();
            all.iter_mut().take(layers).for_each(|v| *v *= factor);
        }
    };
    let n = lab().2.numbers["policy.00.importance"].len() as f64;
    let own: Vec<f64> = lab().2.numbers["policy.00.importance"].iter().copied().collect();
    assert!((skewness(&own) / lab().2.numbers["policy.skewness"][[0]] - 1.0).abs() < 1e-5);
    for (words, site, factor) in [
        ("the mean of importances in place of their sum", "strength", 1.0 / n),
        ("a sum over 6 heads in place of their mean", "strength", 6.0),
        ("the skewness of a population", "skewness", (n - 2.0) / (n * (n - 1.0)).sqrt()),
        ("the third moment over n", "skewness", (n - 2.0) * (n - 1.0) / (n * n)),
        ("the sign is turned", "skewness", -1.0),
    ] {
        says(words, &times(site, factor, 6), &times(site, factor, 3));
    }
}

#[test]
fn d11_10_budgets() {
    let own: Vec<i64> = lab().2.integers["policy.budget"].iter().copied().collect();
    let mean = own.iter().sum::<i64>() / 6;
    let turned: Vec<i64> = (0..6).map(|l| own[(l + 1) % 6]).collect();
    let plus = |b: &[i64], off: [i64; 6]| b.iter().zip(off).map(|(b, off)| b + off).collect::<Vec<i64>>();
    for (words, mistake, near) in [
        ("the budget is uniform", vec![mean; 6], plus(&[mean; 6], [0, -2, 0, 0, 2, 0])),
        ("shares are rounded down", plus(&own, [0, 0, -1, 0, 0, 0]), plus(&own, [0, 0, -2, 0, 0, 0])),
        ("the numbers are right, and stand at other layers", turned.clone(), plus(&turned, [0, -3, 0, 0, 3, 0])),
    ] {
        let put = |b: &[i64]| {
            let b = Array1::from(b.to_vec()).into_dyn();
            move |d: &mut Dump| drop(d.integers.insert("policy.budget".into(), b.clone()))
        };
        says(words, &put(&mistake), &put(&near));
    }
}

#[test]
fn d11_10_kept_sets() {
    let (_, _, honest) = lab();
    let importance: Vec<f64> = honest.numbers["policy.00.importance"].iter().copied().collect();
    let (ranks, n) = (ranking(&importance), importance.len());
    let b = honest.integers["policy.budget"][[0]] as usize;
    assert!(b > 8 && 2 * b < n);
    // The near miss holds one other token.
    let other = |set: &[usize], from: usize| {
        let mut set = set.to_vec();
        set[from] = *ranks.iter().skip(n / 2).find(|i| !set.contains(i) && **i > 3 && **i + 4 < n).unwrap();
        set
    };
    let recent = |r: usize| {
        let top = ranks.iter().copied().filter(|i| *i < n - r).take(b - r);
        (n - r..n).chain(top).collect::<Vec<usize>>()
    };
    for (words, set) in [
        ("the least important are kept", ranks[n - b..].to_vec()),
        ("the last are kept, whatever their importance", (n - b..n).collect()),
        ("the first are kept, whatever their importance", (0..b).collect()),
        ("the last 5 are kept whatever their importance, beside", recent(5)),
    ] {
        says(words, &|d| list(d, "policy.00.kept", set.clone()), &|d| list(d, "policy.00.kept", other(&set, b / 2)));
    }
}

#[test]
fn d11_10_roles_and_positions() {
    let visual = lab().0.prompt.roles.visual();
    let (first, last) = (visual[0], *visual.last().unwrap());
    let roles = |set: Vec<(usize, i64)>| {
        move |d: &mut Dump| set.iter().for_each(|&(row, role)| d.integers.get_mut("input.roles").unwrap()[[row]] = role)
    };
    let text: Vec<_> = visual.iter().map(|&row| (row, 0)).collect();
    says("every row is called text", &roles(text.clone()), &roles(text[1..].to_vec()));
    let few = "2 of the rows that came from the vision side are called text";
    says(few, &roles(vec![(first, 0), (last, 0)]), &roles(vec![(first, 0), (last, 0), (last + 1, 1)]));
    let rows = "1 rows of text are called visual";
    says(rows, &roles(vec![(last + 1, 1)]), &roles(vec![(last + 1, 1), (first, 0)]));
    let turned = |but: usize| {
        move |d: &mut Dump| {
            let roles = d.integers.get_mut("input.roles").unwrap();
            roles.iter_mut().skip(but).for_each(|role| *role = 1 - *role);
        }
    };
    says("0 is visual and 1 is text: the reverse", &turned(0), &turned(1));
    let later = |rows: std::ops::Range<usize>| {
        move |d: &mut Dump| {
            let positions = d.integers.get_mut("input.positions").unwrap();
            rows.clone().for_each(|row| positions[[row]] += 1);
        }
    };
    let n = lab().0.prompt.ids.len();
    says(&format!("from row {last} on every position is 1 too large"), &later(last..n), &later(last..n - 1));
}

/// A bundle of integers, and of vectors of numbers.
fn bundle(
    folder: &std::path::Path,
    integers: &[(&str, &[usize], Vec<i64>)],
    numbers: &[(String, Vec<f32>)],
    metadata: &[(&'static str, &str)],
) -> Bundle {
    let path = folder.join(format!("{}.safetensors", metadata[0].1));
    let mut writer = BundleWriter::create(&path).unwrap();
    integers.iter().for_each(|(name, shape, values)| writer.put_i64(name, shape, values).unwrap());
    numbers.iter().for_each(|(name, values)| writer.put_f32(name, &[values.len()], values).unwrap());
    writer.finish(metadata.iter().copied()).unwrap();
    Bundle::open(&path).unwrap()
}

/// Three axes: two rows of text, an image of 2 × 3, two rows of text.
#[test]
fn d11_10_positions_of_three_axes() {
    let folder = tempfile::tempdir().unwrap();
    let ours = [[0, 1, 2, 2, 2, 2, 2, 2, 5, 6], [0, 1, 2, 2, 2, 3, 3, 3, 5, 6], [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]];
    let ids = || ("input.ids", &[10][..], vec![7; 10]);
    let of = |positions: Vec<i64>| [ids(), ("input.positions", &[3, 10][..], positions)];
    let golden = bundle(folder.path(), &of(ours.concat()), &[], &[("precision", "f64"), ("noise", "1")]);
    let judged =
        |positions| check(&golden, &bundle(folder.path(), &of(positions), &[], &[("precision", "f32")])).unwrap();
    let rows: Vec<i64> = (0..10).collect();
    let mut near = [rows.clone(), rows.clone(), rows.clone()].concat();
    let mistake = judged(near.clone());
    near[29] = 6;
    told("positions count rows on every axis: M-RoPE is left out", &mistake, &judged(near));
}

#[test]
fn d11_10_tokens() {
    let logits: Vec<f64> = lab().2.numbers["decoder.logits"].iter().copied().collect();
    let (ranks, last) = (ranking(&logits), logits.len() - 1);
    let first = |id: usize| move |d: &mut Dump| d.integers.get_mut("output.ids").unwrap()[[0]] = id as i64;
    says("the second greatest logit's token", &first(ranks[1]), &first(ranks[2]));
    says("the least logit's token", &first(ranks[last]), &first(ranks[last - 1]));
    // Tokens that are far from each other, by logits that fall from them.
    let folder = tempfile::tempdir().unwrap();
    let tokens = [100, 200, 300, 400, 500];
    let ids = |ids: [i64; 5]| ("output.ids", &[5][..], ids.to_vec());
    let golden = bundle(folder.path(), &[ids(tokens)], &[], &[("precision", "f64"), ("noise", "1")]);
    let judged = |t: usize, id: i64| {
        let mut own = tokens;
        own[t] = id;
        let fall = |best: &i64| (0..600).map(|i| -(i - best).abs() as f32).collect::<Vec<f32>>();
        let stage = |t: usize| if t == 0 { "decoder.logits".into() } else { format!("step.{:04}.logits", t - 1) };
        let logits: Vec<(String, Vec<f32>)> =
            tokens.iter().enumerate().map(|(t, best)| (stage(t), fall(best))).collect();
        check(&golden, &bundle(folder.path(), &[ids(own)], &logits, &[("precision", "f32")])).unwrap()
    };
    told("the token of the logits after: tokens are one early", &judged(1, 300), &judged(1, 400));
    told("the token of the logits before: tokens are one late", &judged(2, 200), &judged(2, 100));
}

#[test]
fn d11_10_cache_entries() {
    let (_, _, honest) = lab();
    let (cache, whole) = ("cache.01.key", honest.numbers["decoder.01.key"].clone());
    let (due, n) = (honest.numbers[cache].clone(), whole.shape()[1]);
    let len = due.shape()[1];
    // Entry e of the cache is this row of the prompt, or this entry of what is due.
    let from = |of: &ArrayD<f64>, at: &dyn Fn(usize) -> usize| {
        let rows: Vec<usize> = (0..len).map(at).collect();
        of.select(Axis(1), &rows)
    };
    // The near miss has one right entry in the middle, or one row that is not kept.
    let near = |mut other: ArrayD<f64>, with: &ArrayD<f64>, row: usize| {
        other.index_axis_mut(Axis(1), len / 2).assign(&with.index_axis(Axis(1), row));
        other
    };
    let (order, others) = ("the entries are the chosen ones in another order", "the slot or page of others");
    let values = honest.numbers["cache.01.value"].clone();
    let page = from(&due, &|e| if (8..16).contains(&e) { e - 8 } else { e });
    let heads = |of: [usize; 2]| due.select(Axis(0), &of);
    let put = |values: ArrayD<f64>| move |d: &mut Dump| drop(d.numbers.insert(cache.into(), values.clone()));
    for (words, values) in [
        ("entries are one late", from(&due, &|e| e.saturating_sub(1))),
        ("entries are one early", from(&due, &|e| (e + 1).min(len - 1))),
        ("rows are kept, not the chosen ones", from(&whole, &|e| e)),
        (&format!("the last {len} rows are kept"), from(&whole, &|e| n - len + e)),
        ("KV heads 0 and 1 are exchanged", heads([1, 0])),
        ("the keys of the cache are its values", values),
        ("entries 8 to 15 hold what is due at entries 0 to 7: the slot or page of others", page),
        ("KV heads hold the entries of others: 0 holds 1", heads([1, 1])),
        (order, from(&due, &|e| len - 1 - e)),
    ] {
        let other = match words == order {
            true => near(values.clone(), &whole, (0..n).find(|&i| !kept(honest).contains(&i)).unwrap()),
            false if words.ends_with(others) => near(values.clone(), &whole, n - 1),
            false => near(values.clone(), &due, len / 2),
        };
        says(words, &put(values), &put(other));
    }
    let not_finite = |v: f64| move |d: &mut Dump| d.numbers.get_mut("decoder.05.key").unwrap()[[1, 100, 3]] = v;
    says("a number is not finite", &not_finite(f64::NAN), &not_finite(1e30));
}

/// The prompt rows that layer 1 keeps.
fn kept(honest: &Dump) -> Vec<usize> {
    honest.integers["cache.01.positions"].iter().map(|&p| p as usize).collect()
}
