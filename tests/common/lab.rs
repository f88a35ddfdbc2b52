//! A small laboratory for backends: a run in which every stage is an array. A test can change the arrays and write them
//! as a candidate.

use super::decoding;
use aircache::demo;
use aircache::files::Files;
use aircache::generate;
use aircache::golden::{Bundle, BundleWriter, Recording, Selection, Verdict, check, record, replay};
use aircache::input::{Image, Prepared};
use aircache::kernel::Operands;
use aircache::model::Model;
use aircache::num::Grid;
use aircache::pass::{Pass, Precision, Source, Tap, Way};
use aircache::policy::{Policy, Retain, Scorer, Values};
use aircache::processor::Processor;
use aircache::sample::Sampling;
use aircache::stage::Stage;
use ndarray::{ArrayD, ArrayViewD};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// The number of tokens that candidates generate.
pub const TOKENS: usize = 5;

/// Every stage of a run.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    pub numbers: BTreeMap<String, ArrayD<f64>>,
    pub integers: BTreeMap<String, ArrayD<i64>>,
}

impl Dump {
    pub fn values(&mut self, name: &str, values: &Values) {
        match values {
            Values::F64(a) => drop(self.numbers.insert(name.into(), a.clone())),
            Values::I64(a) => drop(self.integers.insert(name.into(), a.clone())),
            Values::U8(a) => drop(self.integers.insert(name.into(), a.mapv(i64::from))),
        }
    }

    /// Only the stages with these names.
    pub fn only(&self, names: &[&str]) -> Dump {
        let numbers = names.iter().filter_map(|n| Some((n.to_string(), self.numbers.get(*n)?.clone()))).collect();
        Dump { numbers, ..Dump::default() }
    }
}

impl Tap<f32> for Dump {
    fn wants(&self, _: Stage) -> bool {
        true
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, f32>) {
        self.numbers.insert(at.to_string(), value.mapv(f64::from));
    }
    fn rows(&mut self, at: Stage, rows: &[usize]) {
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        self.integers.insert(at.to_string(), ndarray::Array1::from(rows).into_dyn());
    }
}

/// Replaces computed stages by the stages of a dump; later stages continue from the replaced stages.
pub struct Instead(pub Dump);

impl Source<f32> for Instead {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<f32>> {
        let value = self.0.numbers.get(&at.to_string())?;
        assert_eq!(value.shape(), shape, "{at}");
        Some(value.mapv(|v| v as f32))
    }
    fn rows(&self, at: Stage) -> Option<Vec<usize>> {
        Some(self.0.integers.get(&at.to_string())?.iter().map(|&row| row as usize).collect())
    }
}

/// The errors of a backend, apart from errors in its weights.
#[derive(Clone)]
pub struct Backend {
    pub policy: Policy,
    /// This number is added to the position of every generated token.
    pub shift: i64,
    /// If true, decoding reads the evicted cache; if false, it reads the full cache.
    pub evicts: bool,
    /// True if the first token is the second-best token.
    pub second: bool,
    /// The visual tokens that each layer keeps, if the policy does not decide them.
    pub kept: Option<Vec<Vec<usize>>>,
    /// The model that steps read, if it is another than the prefill's.
    pub steps: Option<std::sync::Arc<Model>>,
    /// Stages that replace the computed stages; later stages continue from them.
    pub instead: Dump,
    pub way: Way,
}

pub struct Lab {
    pub model: Model,
    pub processor: Processor,
    pub prompt: Prepared,
    pub policy: Policy,
    pub retain: Retain,
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(line: usize) -> Lab {
        let model = Model::load(&demo::files()).unwrap();
        let processor = Processor::load(&demo::files(), &model.config).unwrap();
        let q = &demo::questions()[line];
        let image = Image::from_bytes(demo::sample(q.sample()).unwrap().png, q.sample()).unwrap();
        let prompt = processor.prepare(&[image], &q.question, q.system.as_deref()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Lab { model, processor, prompt, policy: Policy::AIRCACHE, retain: "0.3".parse().unwrap(), folder }
    }

    pub fn backend(&self) -> Backend {
        Backend {
            policy: self.policy.clone(),
            shift: 0,
            evicts: true,
            second: false,
            kept: None,
            steps: None,
            instead: Dump::default(),
            way: Way::default(),
        }
    }

    pub fn golden(&self) -> Bundle {
        self.golden_of(Selection::default())
    }

    pub fn golden_of(&self, stages: Selection) -> Bundle {
        let path = self.path();
        let how = Recording {
            precision: Precision::Truth,
            way: aircache::pass::Way::default(),
            kv: aircache::num::Grid::Native,
            policy: self.policy.clone(),
            retain: self.retain,
            sampling: Sampling::Greedy,
            until: generate::Until { stop: vec![], max_new_tokens: TOKENS },
            stages,
            noise: true,
        };
        record(&self.model, &self.prompt, &how, BundleWriter::create(&path).unwrap(), |_| ControlFlow::Continue(()))
            .unwrap();
        Bundle::open(&path).unwrap()
    }

    /// A run of a backend in f32, tf32, bf16 or f16.
    pub fn run(&self, model: &Model, prompt: &Prepared, precision: Precision, how: &Backend) -> Dump {
        let grid = precision.grid();
        let way = match precision {
            Precision::Tf32 if how.way.operands == Operands::Whole => Way { operands: Operands::Nearest, ..how.way },
            _ => how.way,
        };
        let mut dump = Dump::default();
        let source = Instead(how.instead.clone());
        let mut prefilled = {
            let mut pass = Pass::<f32>::watched(grid, &mut dump).by(way).replaying(&source);
            generate::prefill(model, &mut pass, prompt, std::slice::from_ref(&how.policy)).unwrap()
        };
        dump.numbers.extend(how.instead.numbers.clone());
        dump.integers.extend(how.instead.integers.clone());
        let scorer = Scorer::new(&how.policy, &prompt.roles).unwrap();
        let elites = match how.policy.prunes() {
            true => vec![],
            false => prefilled.observed(&how.policy, |l, seen| scorer.text_attention(l, seen)).unwrap(),
        };
        for (l, a) in elites.into_iter().enumerate() {
            if let Some(a) = a {
                dump.numbers.insert(format!("policy.{l:02}.attention"), a.into_dyn());
            }
        }
        let mut plan = prefilled.plan(&how.policy, self.retain).unwrap();
        if let (Some(kept), Some(d)) = (&how.kept, &mut plan.decisions) {
            for (l, kept) in kept.iter().enumerate() {
                (d.budget[l], d.kept[l]) = (kept.len(), vec![kept.clone()]);
                plan.kept[l] = scorer.rows_kept(&d.kept[l], plan.kept[l].len());
            }
        }
        plan.tensors().iter().for_each(|(at, values)| dump.values(&at.name(), values));
        let whole: Vec<i64> = (0..prompt.ids.len() as i64).collect();
        let vector = |v: Vec<i64>| ndarray::Array1::from(v).into_dyn();
        dump.integers.insert("input.ids".into(), vector(prompt.ids.iter().map(|&i| i64::from(i)).collect()));
        dump.integers.insert("input.roles".into(), vector(prompt.roles.0.iter().map(|&r| r as i64).collect()));
        let positions = match &prompt.positions {
            aircache::input::Positions::Linear(p) => p.clone(),
            _ => whole.clone(),
        };
        dump.integers.insert("input.positions".into(), vector(positions.clone()));
        let pixels = &prompt.images[0].pixels;
        let shape = [&[1], pixels.shape()].concat();
        let pixels = pixels.mapv(f64::from).into_shape_with_order(shape).unwrap();
        dump.numbers.insert("input.pixels".into(), pixels);
        let (h, w) = prompt.images[0].size;
        dump.integers
            .insert("input.sizes".into(), ArrayD::from_shape_vec(vec![1, 2], vec![h as i64, w as i64]).unwrap());

        let mut full = prefilled.cache.clone();
        if !how.policy.prunes() {
            prefilled.cache.compact(&plan.kept);
        }
        let placed = prefilled.pruning.rows(0).map_or(prompt.positions.clone(), |left| prompt.positions.closed(left));
        for (l, heads) in prefilled.cache.layers.iter().enumerate() {
            let (len, d) = heads[0].keys().dim();
            let mut put = |site: &str, of: &dyn Fn(usize) -> ndarray::Array2<f32>| {
                let all: Vec<f64> =
                    (0..heads.len()).flat_map(|g| of(g).iter().map(|&v| f64::from(v)).collect::<Vec<_>>()).collect();
                let all = ArrayD::from_shape_vec(vec![heads.len(), len, d], all).unwrap();
                dump.numbers.insert(format!("cache.{l:02}.{site}"), all);
            };
            put("key", &|g| heads[g].keys());
            put("value", &|g| heads[g].values());
            let at = heads[0].rows().iter().map(|&r| placed.at(r, 0)).collect();
            dump.integers.insert(format!("cache.{l:02}.positions"), vector(at));
        }
        let cache = if how.evicts { &mut prefilled.cache } else { &mut full };
        let greatest = |l: &ArrayD<f64>| (0..l.len()).fold(0, |b, i| if l[[i]] > l[[b]] { i } else { b }) as u32;
        let mut first = dump.numbers["decoder.logits"].clone();
        if how.second {
            let best = greatest(&first) as usize;
            first[[best]] = f64::NEG_INFINITY;
        }
        let mut tokens = vec![greatest(&first)];
        for t in 0..TOKENS - 1 {
            let mut pass = Pass::<f32>::watched(grid, &mut dump).by(way).replaying(&source);
            let position = prefilled.next_position + t as i64 + how.shift;
            let at = (t, &tokens[t..], &[position][..]);
            let logits = decoding::step_at(
                &how.steps.as_deref().unwrap_or(model).decoder,
                &mut pass,
                at.0,
                at.1,
                at.2,
                &mut [&mut *cache],
            );
            let logits = logits.row(0).mapv(f64::from).into_dyn();
            dump.numbers.insert(format!("step.{t:04}.logits"), logits.clone());
            tokens.push(greatest(&logits));
        }
        dump.integers.insert("output.ids".into(), vector(tokens.iter().map(|&t| i64::from(t)).collect()));
        dump
    }

    /// An honest run.
    pub fn honest(&self, precision: Precision) -> Dump {
        self.run(&self.model, &self.prompt, precision, &self.backend())
    }

    /// Writes a dump as a candidate.
    pub fn write(&self, dump: &Dump, precision: Precision) -> Bundle {
        self.write_as(dump, precision, true)
    }

    /// Writes a dump as a candidate; `named` decides if the candidate names its policy.
    pub fn write_as(&self, dump: &Dump, precision: Precision, named: bool) -> Bundle {
        let path = self.path();
        let mut w = BundleWriter::create(&path).unwrap();
        for (name, a) in &dump.numbers {
            let values: Vec<f64> = a.iter().copied().collect();
            let wide = name.starts_with("policy") || name == "input.pixels";
            match precision {
                _ if name.starts_with("policy") => w.put_f64(name, a.shape(), &values).unwrap(),
                Precision::Bf16 if !wide => {
                    let v: Vec<_> = values.iter().map(|&v| half::bf16::from_f64(v)).collect();
                    w.put_bf16(name, a.shape(), &v).unwrap()
                }
                Precision::F16 if !wide => {
                    let v: Vec<_> = values.iter().map(|&v| half::f16::from_f64(v)).collect();
                    w.put_f16(name, a.shape(), &v).unwrap()
                }
                _ => w.put_f32(name, a.shape(), &values.iter().map(|&v| v as f32).collect::<Vec<_>>()).unwrap(),
            }
        }
        for (name, a) in &dump.integers {
            w.put_i64(name, a.shape(), &a.iter().copied().collect::<Vec<_>>()).unwrap();
        }
        let policy = serde_json::json!(self.policy).to_string();
        let retain = self.retain.to_string();
        let metadata = [("precision", precision.bundle_name()), ("policy", &policy), ("retain", &retain)];
        w.finish(metadata.into_iter().take(if named { 3 } else { 1 })).unwrap();
        Bundle::open(&path).unwrap()
    }

    pub fn path(&self) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.folder.path().join(format!("candidate-{n}.safetensors"))
    }

    pub fn by_golden(&self, golden: &Bundle, dump: &Dump, precision: Precision) -> Verdict {
        check(golden, &self.write(dump, precision)).unwrap()
    }

    pub fn by_replay(&self, dump: &Dump, precision: Precision) -> Verdict {
        replay(&self.model, Some(&self.prompt), &self.write(dump, precision), scratch()).unwrap()
    }
}

/// The demo model with other settings or other weights. `edit` gets the numbers of each tensor whose name ends with
/// `tensor`.
pub fn altered(replace: &[(&str, &str)], tensor: &str, edit: impl Fn(&mut [f32], &[usize])) -> Model {
    let Files::Embedded(files) = demo::files() else { unreachable!() };
    let files: Vec<(&'static str, &'static [u8])> = files
        .iter()
        .map(|&(name, bytes)| {
            let bytes = match name {
                "config.json" => {
                    let mut text = String::from_utf8(bytes.to_vec()).unwrap();
                    for (from, to) in replace {
                        assert!(text.contains(from), "{from}");
                        text = text.replace(from, to);
                    }
                    text.into_bytes()
                }
                "model.safetensors" => weights(bytes, tensor, &edit),
                _ => return (name, bytes),
            };
            (name, &*Box::leak(bytes.into_boxed_slice()))
        })
        .collect();
    Model::load(&Files::Embedded(Box::leak(files.into_boxed_slice()))).unwrap()
}

fn weights(bytes: &[u8], tensor: &str, edit: &impl Fn(&mut [f32], &[usize])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let table: serde_json::Value = serde_json::from_slice(&bytes[8..head]).unwrap();
    let mut found = tensor.is_empty();
    for (name, info) in table.as_object().unwrap() {
        if tensor.is_empty() || !name.ends_with(tensor) {
            continue;
        }
        found = true;
        let numbers = |v: &serde_json::Value| -> Vec<usize> {
            v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let (range, shape) = (numbers(&info["data_offsets"]), numbers(&info["shape"]));
        let data = &mut bytes[head + range[0]..head + range[1]];
        let mut values: Vec<f32> = data.chunks(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        edit(&mut values, &shape);
        data.chunks_mut(2).zip(values).for_each(|(b, v)| b.copy_from_slice(&half::bf16::from_f32(v).to_le_bytes()));
    }
    assert!(found, "{tensor}");
    bytes
}

/// The numbers, rounded to the grid of a storage type.
pub fn stored(grid: Grid, mut a: ArrayD<f64>) -> ArrayD<f64> {
    a.mapv_inplace(|v| if grid == Grid::Native { f64::from(v as f32) } else { grid.round(v) });
    a
}

/// The bundle in which a replay stores its own numbers.
pub fn scratch() -> BundleWriter {
    BundleWriter::create(&std::env::temp_dir().join("replay")).unwrap()
}
