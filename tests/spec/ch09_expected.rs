//! Chapter 09, Expected Attention: the queries that a prompt lets us expect, the score, and how candidates are judged.

use crate::common::prompts::{Prompt, policy, retain, roles};
use aircache::num::Grid;
use aircache::policy::{Future, LayerScores, Moments, Observed, Scorer, compress, preset};
use ndarray::{Array2, Array3, arr3, s};

/// Six rows of queries of one head of size 2; the first four do not count.
fn six() -> Array3<f64> {
    arr3(&[[[9.0, 9.0], [-7.0, 3.0], [9.0, 9.0], [4.0, 5.0], [1.0, 0.0], [3.0, 2.0]]])
}

/// The turn of two positions, whose angles are 0° and 90°.
const HALF: [f64; 1] = [0.5];

fn future(q: &Array3<f64>) -> Future<f64> {
    let mut moments = Moments::new(q.shape()[0], q.shape()[2]);
    moments.add(0, q.view());
    moments.turned(&HALF, &HALF, Grid::Native)
}

#[test]
fn e9_37_worked_example() {
    let Future { mean, covariance } = future(&six());
    assert_eq!(mean.as_slice(), Some(&[0.5, 1.5][..]));
    assert_eq!(covariance.as_slice(), Some(&[0.0, 0.0, 0.0, 1.0][..]));
}

/// E9.37 by its definition, and the same bits in pieces of any size.
#[test]
fn e9_37_c9_37a_sums_do_not_depend_on_chunks() {
    let prompt = Prompt::<f64>::seeded(5, roles(&"V".repeat(40)), 1, [3, 1, 6], 1.0);
    let q = &prompt.q[0];
    let (cos, sin) = ([0.5, 0.25, 1.0], [-0.5, 0.75, 0.0]);
    let of = |step: usize| {
        let mut moments = Moments::new(3, 6);
        for first in (0..40).step_by(step) {
            moments.add(first, q.slice(s![.., first..(first + step).min(40), ..]));
        }
        moments.turned(&cos, &sin, Grid::Native)
    };
    let whole = of(40);
    assert!([1, 3, 8, 16].into_iter().all(|step| of(step) == whole));
    let Future { mean, covariance } = prompt.future(0);
    let turn = Array2::from_shape_fn((6, 6), |(i, j)| match (i % 3 == j % 3, i / 3, j / 3) {
        (false, ..) => 0.0,
        (true, a, b) if a == b => cos[i % 3],
        (true, a, _) => sin[i % 3] * if a == 0 { -1.0 } else { 1.0 },
    });
    for h in 0..3 {
        let want = turn.dot(&mean.row(h));
        assert!((&want - &whole.mean.row(h)).iter().all(|off| off.abs() < 1e-13));
        let want = turn.dot(&covariance.slice(s![h, .., ..])).dot(&turn.t());
        assert!((&want - &whole.covariance.slice(s![h, .., ..])).iter().all(|off| off.abs() < 1e-13));
    }
}

#[test]
fn c9_37b_short_prompts_have_zeros() {
    for n in 0..=4 {
        let Future { mean, covariance } = future(&six().slice(s![.., ..n, ..]).to_owned());
        assert!(mean.iter().chain(&covariance).all(|&v| v == 0.0));
    }
    let p = Prompt::<f64>::one("TVVT", &[1.0; 4], &[1.0; 4]);
    assert_eq!(p.observe(&policy("expected")).unwrap()[0].importance.row(0).to_vec(), [1.0, 1.0]);
}

#[test]
fn r9_37_statistics_are_stored() {
    let mut moments = Moments::new(1, 2);
    moments.add(0, (six() / 3.0).view());
    let Future { mean, covariance } = moments.turned::<f32>(&[0.7], &[0.1], Grid::Bf16);
    assert!(mean.iter().chain(&covariance).all(|&v| half::bf16::from_f32(v).to_f32() == v));
}

/// Keys and values of the worked example: rows 4 and 5 are visual.
fn example() -> [Array3<f64>; 2] {
    let (mut k, mut v) = (Array3::zeros((1, 6, 2)), Array3::zeros((1, 6, 2)));
    k.slice_mut(s![0, 4, ..]).assign(&ndarray::arr1(&[0.0, -3.0 * 2f64.sqrt()]));
    k.slice_mut(s![0, 5, ..]).assign(&ndarray::arr1(&[2.0 * 2f64.sqrt() * 2f64.ln(), 0.0]));
    v.slice_mut(s![0, 4, ..]).assign(&ndarray::arr1(&[3.0, 4.0]));
    v.slice_mut(s![0, 5, ..]).assign(&ndarray::arr1(&[1.0, 0.0]));
    [k, v]
}

fn observe(written: &str, future: &Future<f64>, [k, v]: &[Array3<f64>; 2], grid: Grid) -> LayerScores {
    let scorer = Scorer::new(&policy(written), &roles("TTTTVV")).unwrap().storing(grid);
    let q = Array3::zeros((future.mean.nrows(), 0, 2));
    let (v, future) = (Some(v.view()), Some(future));
    scorer.observe(0, &Observed { q: q.view(), rows: &[], k: k.view(), received: None, v, future }).unwrap()
}

fn near(got: impl IntoIterator<Item = f64>, want: &[f64]) {
    let got: Vec<f64> = got.into_iter().collect();
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{got:?}, {want:?}"));
}

#[test]
fn e9_38_worked_example() {
    let of = |scope: &str| observe(&format!("expected,scope={scope}"), &future(&six()), &example(), Grid::Native);
    near(of("visual").importance, &[5.0 / 3.0, 2.0 / 3.0]);
    near(of("all").importance, &[8.0 / 3.0, 8.0 / 3.0, 8.0 / 3.0, 8.0 / 3.0, 5.0 / 3.0, 2.0 / 3.0]);
    assert!(of("visual").window[0].is_empty());
}

/// A second query head that expects nothing gives both keys ½.
#[test]
fn e9_38_query_heads_are_averaged_or_the_largest_counts() {
    let one = future(&six());
    let mut two = Future { mean: Array2::zeros((2, 2)), covariance: Array3::zeros((2, 2, 2)) };
    two.mean.row_mut(0).assign(&one.mean.row(0));
    two.covariance.slice_mut(s![0, .., ..]).assign(&one.covariance.slice(s![0, .., ..]));
    let of = |written: &str| observe(written, &two, &example(), Grid::Native).importance;
    near(of("expected"), &[5.0 * 5.0 / 12.0, 7.0 / 12.0]);
    near(of("expected,heads=kv-max"), &[5.0 / 2.0, 2.0 / 3.0]);
    near(of("expected,heads=mean"), &[5.0 * 5.0 / 12.0, 7.0 / 12.0]);
}

#[test]
fn r9_38_scores_are_stored() {
    let stored = |grid| observe("expected", &future(&six()), &example(), grid).importance;
    assert!(stored(Grid::Bf16).iter().all(|&v| half::bf16::from_f64(v).to_f64() == v));
    assert_ne!(stored(Grid::Bf16), stored(Grid::Native));
}

/// A visual row among the first four stays before all others.
#[test]
fn a9_20_the_first_four_rows_stay() {
    let p = Prompt::<f64>::seeded(3, roles("TTVVVVVVVVTT"), 2, [2, 2, 4], 1.0);
    let plan = p.plan(&policy("expected"), retain("0.25")).unwrap();
    assert!(plan.kept.iter().flatten().all(|rows| rows == &[0, 1, 2, 3, 10, 11]));
    let plan = p.plan(&policy("expected,scope=all"), retain("0.5")).unwrap();
    assert!(plan.kept.iter().flatten().all(|rows| rows.starts_with(&[0, 1, 2, 3]) && rows.ends_with(&[11])));
}

#[test]
fn e9_38_written_forms_and_what_is_missing() {
    assert_eq!(policy("expected,score=expected:512").name(), Some("expected"));
    assert_eq!(policy("score=expected:7,window=none").needs_future(), Some(7));
    assert_eq!(preset("keydiff").unwrap().policy.needs_future(), None);
    for bad in ["expected,score=expected:0", "expected,score=expected:65537", "expected,score=expected:-1"] {
        assert!(bad.parse::<aircache::policy::Policy>().unwrap_err().to_string().contains("score"), "{bad}");
    }
    let p = Prompt::<f64>::one("TTTTVVT", &[1.0; 7], &[1.0; 7]);
    let (q, k, v) = (p.q[0].view(), p.k[0].view(), Some(p.v[0].view()));
    let rows: Vec<usize> = (0..7).collect();
    let of = |future: Option<&Future<f64>>| {
        let seen = Observed { q, rows: &rows, k, received: None, v, future };
        compress(&policy("expected"), retain("0.5"), &[seen], &p.roles).unwrap_err().to_string()
    };
    assert!(of(None).contains("query-mean"));
    let narrow = Future { mean: Array2::zeros((1, 2)), covariance: Array3::zeros((1, 1, 1)) };
    assert!(of(Some(&narrow)).contains("query-mean [H, d_h]"));
    let narrow = Future { mean: Array2::zeros((1, 1)), covariance: Array3::zeros((1, 1, 2)) };
    assert!(of(Some(&narrow)).contains("query-covariance"));
}

#[cfg(feature = "input")]
mod flow {
    use crate::common::lab::{Dump, Lab};
    use crate::common::prompts::policy;
    use crate::common::pruned::{Seen, honest_candidates_pass, one_state, outcome, state};
    use crate::common::toys::toys;
    use aircache::decoder::{Decoder, Sequence};
    use aircache::generate;
    use aircache::golden::{Bundle, BundleWriter, Outcome, compress};
    use aircache::input::Prepared;
    use aircache::kernel::{Angles, Frequencies, Turn};
    use aircache::model::Model;
    use aircache::num::Grid;
    use aircache::pass::{Pass, Precision};
    use aircache::policy::Moments;
    use ndarray::{Array2, Array3, Axis};

    const MEAN: &str = "decoder.02.query-mean";
    const COVARIANCE: &str = "decoder.02.query-covariance";
    const IMPORTANCE: &str = "policy.02.importance";

    fn lab() -> Lab {
        Lab { policy: policy("expected,heads=mean"), ..Lab::new(0) }
    }

    /// The bits of a prefill, and what it expects.
    fn expected(s: &Sequence<f32>) -> impl PartialEq + Send + use<> {
        let futures = s.observer.layers.iter().flat_map(|layer| layer.futures.clone());
        (state(s), futures.map(|f| (f.mean, f.covariance)).collect::<Vec<_>>())
    }

    #[test]
    fn c9_37a_no_bit_depends_on_chunks_batches_or_threads() {
        let lab = lab();
        let (other, asked, silent) =
            (Lab::new(1), [policy("expected"), policy("expected,score=expected:7")], [policy("h2o")]);
        one_state(
            &lab.model,
            &[(&lab.prompt, &asked), (&other.prompt, &silent), (&other.prompt, &asked[..1])],
            expected,
        );
        let mut pass = Pass::<f32>::new(Grid::Native);
        let [quiet, both] = [&silent[..], &asked]
            .map(|asked| generate::prefill(&lab.model, &mut pass, &lab.prompt, asked).unwrap().observer);
        assert!(quiet.layers.iter().all(|layer| layer.futures.is_empty()), "nothing is held for others");
        assert!(both.layers.iter().all(|layer| layer.futures.len() == 2) && both.futures == [7, 512]);
        assert!(both.layers[0].futures[0] != both.layers[0].futures[1]);
    }

    /// The statistics of a run, from its queries after rotary, which are turned back. f64.
    fn turned_back(
        model: &Model,
        prompt: &Prepared,
        l: usize,
        seen: &Seen,
        positions: usize,
    ) -> aircache::policy::Future<f64> {
        let (decoder, n): (&Decoder, usize) = (&model.decoder, prompt.ids.len());
        let (heads, d) = (decoder.config.heads, decoder.config.head_dim);
        let pairs = decoder.frequencies(n as i64);
        let frequencies = Frequencies::new(decoder.config.rope_theta, d);
        let angles = |rows: usize, at: &dyn Fn(usize, usize) -> i64| {
            Angles::<f64>::new((rows, d / 2), &frequencies, |row, i| (i, at(row, i)), Turn::Exact, Grid::Native)
        };
        let q = Array3::from_shape_vec((heads, n, d), seen.numbers[&format!("decoder.{l:02}.query")].clone()).unwrap();
        let back = angles(n, &|row, i| -prompt.positions.at(row, pairs[i].1));
        let mut moments = Moments::new(heads, d);
        let before: Vec<Array2<f64>> = q
            .outer_iter()
            .map(|q| {
                let mut q = q.to_owned();
                back.rotate(q.view_mut(), d, Grid::Native);
                q
            })
            .collect();
        let views: Vec<_> = before.iter().map(|q| q.view()).collect();
        moments.add(0, ndarray::stack(Axis(0), &views).unwrap().view());
        let next = angles(positions, &|row, _| prompt.positions.next() + row as i64);
        let mean = |table: Array2<f64>| table.mean_axis(Axis(0)).unwrap().to_vec();
        moments.turned(&mean(next.cos), &mean(next.sin), Grid::Native)
    }

    /// The stages are those of the queries before rotary, turned to the positions of generated tokens: all three coordinates
    /// are equal there with M-RoPE.
    #[test]
    fn e9_37_a9_19_stages_are_turned_to_the_positions_of_generated_tokens() {
        let mut mrope = 0;
        let demo = Lab::new(0);
        let toys = toys("qwen2_vl", 1).into_iter().take(2).map(|case| (case.model, case.prompt));
        for (model, prompt) in [(demo.model, demo.prompt)].into_iter().chain(toys) {
            let mut seen = Seen::default();
            let mut pass = Pass::<f64>::watched(Grid::Native, &mut seen);
            generate::prefill(&model, &mut pass, &prompt, &[policy("expected,score=expected:9")]).unwrap();
            mrope += usize::from(prompt.positions.next() != prompt.ids.len() as i64);
            for l in 0..model.decoder.config.layers {
                let want = turned_back(&model, &prompt, l, &seen, 9);
                for (name, want) in [("mean", want.mean.into_dyn()), ("covariance", want.covariance.into_dyn())] {
                    let got = &seen.numbers[&format!("decoder.{l:02}.query-{name}")];
                    let most = want.iter().fold(0.0f64, |most, v| most.max(v.abs()));
                    let off = got.iter().zip(&want).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
                    assert!(off <= 1e-9 * most, "layer {l}, {name}: off by {off:.1e} of {most:.1e}");
                }
            }
        }
        assert!(mrope > 0, "an image of many rows takes few positions");
    }

    #[test]
    fn c9_37c_honest_candidates_pass() {
        honest_candidates_pass(&lab());
    }

    /// A stage whose numbers are changed by a share of the largest.
    fn off(dump: &Dump, name: &str, share: f64) -> Dump {
        let mut dump = dump.clone();
        let stage = dump.numbers.get_mut(name).unwrap();
        let most = stage.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let at = stage.len() / 2;
        *stage.iter_mut().nth(at).unwrap() += share * most;
        dump
    }

    #[test]
    fn c9_37c_each_stage_is_judged_from_the_candidates_own_values() {
        let (lab, precision) = (lab(), Precision::Fast);
        let golden = lab.golden();
        let honest = lab.honest(precision);
        for name in [MEAN, COVARIANCE, IMPORTANCE] {
            let wrong = off(&honest, name, 0.05);
            for verdict in [lab.by_golden(&golden, &wrong, precision), lab.by_replay(&wrong, precision)] {
                assert_eq!(verdict.first_divergence().map(|s| &s.stage[..]), Some(name), "{}", verdict.mode);
            }
        }
        // Importances of other statistics are right of these: only the statistics fail.
        let mut backend = lab.backend();
        backend.instead = off(&honest, COVARIANCE, 0.5).only(&[COVARIANCE]);
        let verdict = lab.by_replay(&lab.run(&lab.model, &lab.prompt, precision, &backend), precision);
        assert_eq!(outcome(&verdict, COVARIANCE).0, Outcome::Fail);
        assert_eq!(outcome(&verdict, IMPORTANCE).0, Outcome::Pass);
    }

    /// A replay needs no statistics in the bundle: it computes them from the layer before.
    #[test]
    fn c9_37c_bundles_without_the_stages_are_judged() {
        let (lab, precision) = (lab(), Precision::Bf16);
        let mut dump = lab.honest(precision);
        dump.numbers.retain(|name, _| !name.contains("query-"));
        let verdict = lab.by_replay(&dump, precision);
        assert_eq!(verdict.first_divergence().map(|s| (&s.stage, &s.words)), None);
        assert_eq!(outcome(&verdict, IMPORTANCE).0, Outcome::Pass);
    }

    #[test]
    fn c9_37c_compress_reads_the_stages() {
        let lab = lab();
        let golden = lab.golden();
        let plan = compress::<f64>(&golden, &lab.policy, lab.retain).unwrap();
        for (at, values) in plan.tensors() {
            if let aircache::policy::Values::I64(kept) = values {
                assert_eq!(golden.i64(&at.name()).unwrap(), kept, "{at}");
            }
        }
        let path = lab.folder.path().join("bare");
        let mut bare = BundleWriter::create(&path).unwrap();
        bare.put_u8("input.roles", &[2], &[0, 1]).unwrap();
        for name in ["query", "key", "value"] {
            bare.put_f32(&format!("decoder.00.{name}"), &[1, 2, 2], &[0.0; 4]).unwrap();
        }
        bare.finish([("precision", "f32")]).unwrap();
        let error = compress::<f64>(&Bundle::open(&path).unwrap(), &lab.policy, lab.retain).unwrap_err().to_string();
        assert!(error.contains("decoder.00.query-mean") && error.contains("--policy expected"), "{error}");
    }
}
