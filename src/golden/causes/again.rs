//! A replayed stage computed once more, with a change of the model. Spec: D11.9

use super::facts::{Again, Change, Edit, Tensor};
use crate::generate;
use crate::golden::answers::Answers;
use crate::golden::given::Values as Given;
use crate::golden::measure::flat;
use crate::golden::rerun::Rerun;
use crate::golden::widths;
use crate::input::Prepared;
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::{Aside, Pass, Source, Tap, Way};
use crate::stage::{Site, Stage};
use crate::weights::Dtype;
use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD};

/// The replay of a candidate.
pub(in crate::golden) struct Replayed<'a> {
    run: &'a Rerun<'a>,
    given: &'a Given<'a>,
    /// The prompt without pixels, where the bundle holds the rows that come from them.
    prompt: Prepared,
    /// Values that were computed before, by the words of their change.
    known: Answers<String, Option<Vec<f64>>>,
}

/// Takes one stage.
struct One {
    at: Stage,
    value: Option<Vec<f64>>,
}

impl<T: Real> Tap<T> for One {
    fn wants(&self, at: Stage) -> bool {
        at == self.at
    }
    fn see(&mut self, _: Stage, value: ArrayViewD<'_, T>) {
        self.value = Some(flat(&value));
    }
}

/// The candidate's values, and another value of one stage.
struct Instead<'a>(&'a Given<'a>, Option<(Stage, &'a ArrayD<f64>)>);

impl<T: Real> Source<T> for Instead<'_> {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        match self.1 {
            Some((other, value)) if other == at && value.shape() == shape => Some(value.mapv(T::of)),
            _ => self.0.given(at, shape),
        }
    }
    fn rows(&self, at: Stage) -> Option<Vec<usize>> {
        Source::<T>::rows(self.0, at)
    }
}

impl<'a> Replayed<'a> {
    /// The replay of a run; none if it does not follow a candidate.
    pub fn new(run: &'a Rerun<'a>) -> Option<Replayed<'a>> {
        Some(Replayed { run, given: run.given?, prompt: run.prompt.clone(), known: Answers::default() })
    }

    /// The prompt to run for a stage: the tower is left out where nothing of it is needed.
    fn prompt(&self, at: Stage) -> Prepared {
        let has = |site: Site| self.given.0.get(&Stage::once(site).name()).is_some();
        let mut prompt = self.prompt.clone();
        if at.row().part == "decoder" && at.site != Site::Embed && has(Site::Embed) {
            prompt.images.clear();
        }
        prompt
    }

    fn run<T: Real>(
        &self,
        at: Stage,
        model: &Model,
        way: Way,
        grid: Grid,
        other: Option<(Stage, &ArrayD<f64>)>,
    ) -> Option<Vec<f64>> {
        let mut one = One { at, value: None };
        let source = Instead(self.given, other);
        let mut pass = Pass::<T>::watched(grid, &mut one).by(way).replaying(&source);
        generate::prefill(model, &mut pass, &self.prompt(at), std::slice::from_ref(self.run.policy)).ok()?;
        one.value
    }

    /// The checkpoint's tensors of the layer of a stage.
    fn names(&self, at: Stage) -> Vec<Tensor> {
        let model = self.run.model;
        let names = model.config.profile().names;
        let (part, layer) = match at.site {
            Site::VisionOut => ("vision.", Some(at.layer)),
            Site::Query | Site::Key | Site::Value | Site::Out => ("decoder.", Some(at.layer)),
            Site::Projected => ("projector.", None),
            Site::Norm => ("decoder.", None),
            _ => return vec![],
        };
        let prefixes = names(part);
        let belongs = |name: &str| {
            let Some(rest) = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix.as_str())) else {
                return false;
            };
            if at.site == Site::Norm {
                return rest.starts_with("norm.");
            }
            let number = rest.split('.').find_map(|part| part.parse::<usize>().ok());
            let first = at.site == Site::VisionOut && at.layer == 0;
            match (layer, number) {
                (Some(layer), Some(number)) => layer == number,
                (Some(_), None) => first,
                (None, _) => true,
            }
        };
        let tensors = model.checkpoint.tensors().filter(|t| belongs(t.name));
        tensors.map(|t| Tensor { name: t.name.to_string(), shape: t.shape.to_vec() }).collect()
    }

    /// The model with one edited tensor.
    fn edited(&self, at: Stage, i: usize, edit: Edit) -> Option<Model> {
        let model = self.run.model;
        let name = self.names(at).into_iter().nth(i)?.name;
        let info = model.checkpoint.find(std::slice::from_ref(&name))?;
        let mut values = widths::read(info.dtype, info.data)?;
        change(&mut values, info.shape, edit);
        model.with(&name, &bytes(info.dtype, &values)?).ok()
    }

    /// The stage's value with a change.
    fn changed(&self, at: Stage, change: &Change) -> Option<Vec<f64>> {
        let model = self.run.model;
        let aside = |aside| Way { aside: Some(aside), ..Way::default() };
        let truth = |model: &Model, way: Way| self.run::<f64>(at, model, way, Grid::Native, None);
        match change {
            Change::Function(f) => truth(model, aside(Aside::Function(*f))),
            Change::Epsilon(epsilon) => truth(model, aside(Aside::OtherEpsilon(*epsilon))),
            Change::Without(branch) => truth(model, aside(Aside::Without(*branch))),
            Change::Narrow { all } => truth(model, aside(Aside::Narrow { all: *all })),
            Change::Weight(i, edit) => self.edited(at, *i, *edit).and_then(|model| truth(&model, Way::default())),
            Change::Instead(stage, value) => {
                self.run::<f64>(at, model, Way::default(), Grid::Native, Some((*stage, value)))
            }
            Change::Stored(grid) => self.run::<f32>(at, model, Way::default(), *grid, None),
        }
    }
}

impl Again for Replayed<'_> {
    fn again(&self, at: Stage, change: &Change) -> Option<Vec<f64>> {
        if at.is_step() || at.row().part == "policy" {
            return None;
        }
        match change {
            Change::Instead(..) => self.changed(at, change),
            other => self.known.get(format!("{at} {other:?}"), |_| self.changed(at, change)),
        }
    }

    fn tensors(&self, at: Stage) -> Vec<Tensor> {
        self.names(at)
    }

    fn epsilon(&self, at: Stage) -> Option<f64> {
        match at.site {
            Site::VisionOut | Site::Query | Site::Key | Site::Value | Site::Out | Site::Norm | Site::Projected => {}
            _ => return None,
        }
        match at.row().part {
            "decoder" => Some(self.run.model.decoder.config.norm_eps),
            _ => Some(1e-6),
        }
    }
}

/// Numbers as a tensor of this type holds them.
fn bytes(dtype: Dtype, values: &[f32]) -> Option<Vec<u8>> {
    Some(match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        _ => return None,
    })
}

/// Edits a tensor of this shape.
fn change(values: &mut [f32], shape: &[usize], edit: Edit) {
    match edit {
        Edit::Zero => values.fill(0.0),
        Edit::One => values.fill(1.0),
        Edit::Plus => values.iter_mut().for_each(|v| *v += 1.0),
        Edit::Rows(by) => {
            let row = shape.last().copied().unwrap_or(1);
            let by = by.unsigned_abs() * row * usize::from(by != 0);
            if by < values.len() {
                if matches!(edit, Edit::Rows(by) if by > 0) { values.rotate_right(by) } else { values.rotate_left(by) }
            }
        }
        Edit::Channels => {
            let [outputs, channels, ..] = *shape else { return };
            let inner = values.len() / (outputs * channels).max(1);
            for kernel in values.chunks_exact_mut((channels * inner).max(1)) {
                let own = kernel.to_vec();
                for c in 0..channels {
                    kernel[c * inner..(c + 1) * inner]
                        .copy_from_slice(&own[(channels - 1 - c) * inner..(channels - c) * inner]);
                }
            }
        }
    }
}
