//! M-RoPE: three positions for each row.

use super::*;
use crate::common::decoding;
use aircache::family;
use aircache::files::Files;
use aircache::kernel::{Angles, Frequencies, Turn};
use aircache::weights::Checkpoint;
use aircache::weights::names::visual as names;

struct Toy {
    checkpoint: Checkpoint,
    config: DecoderConfig,
}

impl Toy {
    fn files(case: &str) -> Files {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen2_vl");
        Files::Folder(root.join(case).join("model"))
    }

    fn load(case: &str) -> Toy {
        let files = Toy::files(case);
        let config = family::load(&files).unwrap().text().clone();
        Toy { checkpoint: Checkpoint::open(&files).unwrap(), config }
    }

    fn names(&self) -> Names<'_> {
        Names::new(&self.checkpoint, names)
    }
}

/// Computes the angles by hand, with the axes from the configuration's sections.
#[test]
fn e6_10_worked_example() {
    let config = DecoderConfig { mrope: Some(vec![1, 1]), head_dim: 4, ..config().clone() };
    assert_eq!(config.axes(), [0, 1]);
    let row = Positions::Mrope([vec![3], vec![5], vec![7]]);
    let at = |r: usize, i: usize| (i, row.at(r, config.axes()[i]));
    let angles = Angles::<f64>::new((1, 2), &Frequencies::new(1e4, 4), at, Turn::Exact, Grid::Native);
    assert_eq!((angles.cos[[0, 0]], angles.sin[[0, 0]]), (libm::cos(3.0), libm::sin(3.0)));
    assert!((angles.sin[[0, 1]] - libm::sin(0.05)).abs() < 1e-16);
    let round = DecoderConfig { mrope: Some(vec![1, 2, 0, 1]), head_dim: 8, ..config.clone() };
    assert_eq!(round.axes(), [0, 1, 1, 0], "time, height, width, time again");
    assert_eq!(DecoderConfig { mrope: None, ..config }.axes(), [0, 0]);
}

/// E6.10, C6.10a: stream, keys and values equal the twin's for any three positions of a row. A row with three equal
/// positions gives the same bits as a row with one position.
#[test]
fn e6_10_c6_10a_the_decoder_equals_its_twin() {
    fn check<T: Real>(toy: &Toy, grid: Grid) {
        let (c, n) = (&toy.config, 23);
        let decoder = Decoder::load(&toy.names(), c).unwrap();
        let mut rng = Rng(3);
        let axes: [Vec<i64>; 3] = std::array::from_fn(|_| (0..n).map(|_| rng.below(90) as i64).collect());
        let ids: Vec<u32> = (0..n).map(|_| rng.below(480) as u32).collect();
        let run = |positions: &Positions| {
            let mut cache = decoder.cache::<T>();
            let (mut pass, x) = (Pass::new(grid), decoder.embed(&ids));
            let out = decoding::forward(&decoder, &mut pass, x, positions, &mut [(&mut cache, n)]);
            (bits(&out), entries(&cache))
        };
        let got = run(&Positions::Mrope(axes.clone()));
        let twin = Twin { names: toy.names(), grid };
        let attend = |_: usize, _: usize, q: &[T], (k, v): &twin::Head<T>| naive::attend(q, k.view(), v.view(), grid).0;
        let section = |i: usize| {
            let ends = c.mrope.as_ref().unwrap().iter().scan(0, |end, s| {
                *end += s;
                Some(*end)
            });
            ends.take_while(|&end| end <= i).count() % 3
        };
        let mut twins = twin::empty::<T>(c);
        let position = |row: usize, i: usize| axes[section(i)][row];
        let want = twin.decoder_at(c, twin.embed(c, &ids), &position, &mut twins, &attend);
        let cached: Vec<u64> = twins.iter().flatten().flat_map(|(k, v)| [bits(k), bits(v)].concat()).collect();
        assert!(got == (bits(&want), cached), "{} on {grid:?}", T::NAME);
        let same = run(&Positions::Mrope(std::array::from_fn(|_| axes[0].clone())));
        assert!(same == run(&Positions::Linear(axes[0].clone())), "C6.10a");
        assert!(same != got);
    }
    for case in ["hub-bf16", "merge-1"] {
        let toy = Toy::load(case);
        for grid in [Grid::Native, Grid::Bf16] {
            check::<f32>(&toy, grid);
        }
        check::<f64>(&toy, Grid::Native);
    }
}

/// C6.10b: after 29 text rows and an image of 4 × 6 rows, the next position is 34, for any eviction.
#[test]
#[cfg(feature = "input")]
fn c6_10b_evictions_move_nobody() {
    let files = Toy::files("hub-bf16");
    let model = aircache::model::Model::load(&files).unwrap();
    let processor = aircache::processor::Processor::load(&files, &model.config).unwrap();
    let grey = aircache::input::Image::from_rgb(40, 56, vec![128; 3 * 40 * 56]).unwrap();
    let prompt = processor.prepare(&[grey], "What is the value of Age?", None).unwrap();
    let (n, visual) = (prompt.ids.len() as i64, prompt.roles.visual().len() as i64);
    let next = n - visual + 6;
    assert_eq!((visual, prompt.positions.next()), (24, next));
    let mut pass = Pass::<f64>::new(Grid::Native);
    let mut prefilled = generate::prefill(&model, &mut pass, &prompt, &[aircache::policy::Policy::AIRCACHE]).unwrap();
    let before = prefilled.cache.clone();
    let plan = prefilled.plan(&aircache::policy::Policy::AIRCACHE, "0.3".parse().unwrap()).unwrap();
    prefilled.cache.compact(&plan.kept);
    assert_eq!(prefilled.next_position, next);
    for (kept, whole) in prefilled.cache.layers.iter().flatten().zip(before.layers.iter().flatten()) {
        assert!(kept.len() < whole.len());
        for (e, &row) in kept.rows().iter().enumerate() {
            assert_eq!(bits(kept.keys().row(e)), bits(whole.keys().row(row)));
        }
    }
    // The new token is rotated to the next position on all three axes.
    decoding::step(&model.decoder, &mut pass, &[7], &[next], &mut [&mut prefilled.cache]);
    let mut alone = model.decoder.cache::<f64>();
    let at = Positions::Mrope(std::array::from_fn(|_| vec![next]));
    decoding::forward(&model.decoder, &mut pass, model.decoder.embed(&[7]), &at, &mut [(&mut alone, 1)]);
    let last = |cache: &Cache<f64>| bits(cache.layers[0][0].keys().rows().into_iter().next_back().unwrap());
    assert_eq!(last(&prefilled.cache), last(&alone));
}
