//! Realistic bugs of backends, each with the first stage that shows the bug. The checker does not know this file.

use super::lab::{Backend, Dump, Lab, altered, stored};
use aircache::input::Positions;
use aircache::pass::Precision;
use aircache::policy::{Decimal, skewness};
use aircache::{Role, policy::Window};
use ndarray::{Array1, ArrayD, Axis, s};

/// Makes a candidate with a bug.
pub type Make = Box<dyn Fn(&Lab, Precision) -> Dump + Sync>;

/// A bug.
pub struct Bug {
    pub name: &'static str,
    /// The first stage that shows the bug; * if the stage depends on the prompt.
    pub stage: &'static str,
    pub make: Make,
}

fn bug(name: &'static str, stage: &'static str, make: impl Fn(&Lab, Precision) -> Dump + Sync + 'static) -> Bug {
    Bug { name, stage, make: Box::new(make) }
}

/// A bug of settings or weights.
fn model(
    name: &'static str,
    stage: &'static str,
    replace: &'static [(&'static str, &'static str)],
    tensor: &'static str,
    edit: fn(&mut [f32], &[usize]),
) -> Bug {
    bug(name, stage, move |lab, p| lab.run(&altered(replace, tensor, edit), &lab.prompt, p, &lab.backend()))
}

/// A bug in one stage; later stages continue from the wrong result.
fn within(
    name: &'static str,
    stage: &'static str,
    change: impl Fn(&Lab, &Dump, &mut ArrayD<f64>) + Sync + 'static,
) -> Bug {
    bug(name, stage, move |lab, p| {
        let honest = lab.honest(p);
        let mut instead = honest.only(&[stage]);
        if let Some(value) = instead.numbers.get_mut(stage) {
            change(lab, &honest, value);
            *value = stored(p.grid(), value.clone());
        }
        let how = Backend { instead, ..lab.backend() };
        lab.run(&lab.model, &lab.prompt, p, &how)
    })
}

/// A bug that changes a finished candidate.
fn after(name: &'static str, stage: &'static str, change: impl Fn(&Lab, &mut Dump) + Sync + 'static) -> Bug {
    bug(name, stage, move |lab, p| {
        let mut dump = lab.honest(p);
        change(lab, &mut dump);
        dump
    })
}

/// The ways in which attention may be wrong.
struct Mixing {
    scale: f64,
    sees: fn(usize, usize, usize) -> bool,
    kv: fn(usize, usize, usize) -> usize,
    weight: fn(f64) -> f64,
}

const RIGHT: Mixing = Mixing { scale: 1.0, sees: |i, j, _| j <= i, kv: |h, g, hs| h * g / hs, weight: |p| p };

/// The attention of a layer, computed from the layer's own queries, keys and values, with a mistake.
fn mixed(layer: usize, how: Mixing) -> impl Fn(&Lab, &Dump, &mut ArrayD<f64>) + Sync {
    move |_, honest, out| {
        let of = |site: &str| &honest.numbers[&format!("decoder.{layer:02}.{site}")];
        let (q, k, v) = (of("query"), of("key"), of("value"));
        let (heads, n, d) = (q.shape()[0], q.shape()[1], q.shape()[2]);
        let scale = how.scale / (d as f64).sqrt();
        for h in 0..heads {
            let g = (how.kv)(h, k.shape()[0], heads);
            for i in 0..n {
                let score = |j: usize| (0..d).map(|c| q[[h, i, c]] * k[[g, j, c]]).sum::<f64>() * scale;
                let seen: Vec<usize> = (0..n).filter(|&j| (how.sees)(i, j, n)).collect();
                let scores: Vec<f64> = seen.iter().map(|&j| score(j)).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                for c in 0..d {
                    let sum =
                        seen.iter().zip(&scores).map(|(&j, s)| (how.weight)((s - most).exp() / total) * v[[g, j, c]]);
                    out[[i, h * d + c]] = sum.sum();
                }
            }
        }
    }
}

/// Queries or keys, rotated again by the angle of `rows(row)` positions.
fn turned(theta: f64, rows: impl Fn(usize) -> f64 + Sync) -> impl Fn(&Lab, &Dump, &mut ArrayD<f64>) + Sync {
    move |_, _, x| {
        let half = x.shape()[2] / 2;
        for mut head in x.outer_iter_mut() {
            for (i, mut row) in head.outer_iter_mut().enumerate() {
                for c in 0..half {
                    let angle = rows(i) * theta.powf(-(c as f64) / half as f64);
                    let (a, b) = (row[[c]], row[[c + half]]);
                    row[[c]] = a * angle.cos() - b * angle.sin();
                    row[[c + half]] = b * angle.cos() + a * angle.sin();
                }
            }
        }
    }
}

fn swap_heads(a: usize, b: usize) -> impl Fn(&Lab, &Dump, &mut ArrayD<f64>) + Sync {
    move |_, _, x| {
        let (first, second) = (x.index_axis(Axis(0), a).to_owned(), x.index_axis(Axis(0), b).to_owned());
        x.index_axis_mut(Axis(0), a).assign(&second);
        x.index_axis_mut(Axis(0), b).assign(&first);
    }
}

fn bf16(v: f64) -> f64 {
    half::bf16::from_f64(v).to_f64()
}

impl Bug {
    /// True if the bug first shows at this stage.
    pub fn is_at(&self, stage: &str) -> bool {
        match self.stage.split_once('*') {
            None => stage == self.stage,
            Some((a, b)) => stage.starts_with(a) && stage.ends_with(b),
        }
    }

    /// True if this is no bug in this type, because honest programs do the same.
    pub fn is_honest(&self, precision: Precision) -> bool {
        self.name == "softmax: weights in bf16" && precision == Precision::Bf16
    }
}

/// All bugs.
pub fn all() -> Vec<Bug> {
    let layer_weight = |w: &mut [f32], _: &[usize]| w.iter_mut().for_each(|w| *w += 1.0);
    let zero = |w: &mut [f32], _: &[usize]| w.fill(0.0);
    let mut bugs = vec![
        // Settings and weights.
        model("tower: erf for tanh in GELU", "vision.00.out", &[("gelu_pytorch_tanh", "gelu")], "", |_, _| {}),
        model(
            "tower: layer norm ε 1e-5",
            "vision.00.out",
            &[("\"layer_norm_eps\": 1e-06", "\"layer_norm_eps\": 1e-5")],
            "",
            |_, _| {},
        ),
        model(
            "decoder: RMS norm ε 1e-5",
            "decoder.00.query",
            &[("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-5")],
            "",
            |_, _| {},
        ),
        model(
            "decoder: RMS norm ε 1e-3",
            "decoder.00.query",
            &[("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-3")],
            "",
            |_, _| {},
        ),
        model(
            "projector: tanh for erf in GELU",
            "projector.out",
            &[("\"projector_hidden_act\": \"gelu\"", "\"projector_hidden_act\": \"gelu_pytorch_tanh\"")],
            "",
            |_, _| {},
        ),
        model(
            "decoder: GELU for SiLU",
            "decoder.00.out",
            &[("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu_pytorch_tanh\"")],
            "",
            |_, _| {},
        ),
        model(
            "rotary: base 10⁶ for 10⁴",
            "decoder.00.query",
            &[("\"rope_theta\": 10000.0", "\"rope_theta\": 1000000.0")],
            "",
            |_, _| {},
        ),
        model(
            "features: one layer too early",
            "vision.features",
            &[("\"vision_feature_layer\": -1", "\"vision_feature_layer\": -2")],
            "",
            |_, _| {},
        ),
        model(
            "query bias left out in layer 2",
            "decoder.02.query",
            &[],
            "model.layers.2.self_attn.q_proj.bias",
            |w, s| {
                if s[0] == 192 {
                    w.fill(0.0)
                }
            },
        ),
        model("key bias left out in layer 1", "decoder.01.key", &[], "model.layers.1.self_attn.k_proj.bias", zero),
        model("value bias left out in layer 0", "decoder.00.value", &[], "model.layers.0.self_attn.v_proj.bias", zero),
        model("final norm's weight left out", "decoder.norm", &[], "model.norm.weight", |w, _| w.fill(1.0)),
        model(
            "norm weights read as 1 + w in layer 2",
            "decoder.02.query",
            &[],
            "layers.2.input_layernorm.weight",
            layer_weight,
        ),
        model(
            "MLP norm's weight left out in layer 3",
            "decoder.03.out",
            &[],
            "layers.3.post_attention_layernorm.weight",
            |w, _| w.fill(1.0),
        ),
        model("newline rows of zeros", "projector.out", &[], "image_newline", zero),
        model("position embedding one row late", "vision.00.out", &[], "position_embedding.weight", |w, s| {
            w.rotate_right(s[1])
        }),
        model("patches read blue first", "vision.00.out", &[], "patch_embedding.weight", |w, s| {
            let side = s[2] * s[3];
            w.chunks_mut(3 * side).for_each(|k| {
                let (a, b) = k.split_at_mut(2 * side);
                a[..side].swap_with_slice(b)
            })
        }),
        model(
            "one head missing in the output projection",
            "decoder.04.out",
            &[],
            "model.layers.4.self_attn.o_proj.weight",
            |w, s| w.chunks_mut(s[1]).for_each(|row| row[5 * 32..].fill(0.0)),
        ),
        model(
            "one output of a GEMM tile 2 % too large",
            "decoder.05.out",
            &[],
            "model.layers.5.mlp.down_proj.weight",
            |w, s| w[17 * s[1]..18 * s[1]].iter_mut().for_each(|w| *w *= 1.02),
        ),
        model(
            "tower: query bias left out in layer 1",
            "vision.01.out",
            &[],
            "encoder.layers.1.self_attn.q_proj.bias",
            zero,
        ),
        // Attention.
        within("mask: a row sees the next", "decoder.02.mix", mixed(2, Mixing { sees: |i, j, _| j <= i + 1, ..RIGHT })),
        within(
            "mask: a row does not see itself",
            "decoder.03.mix",
            mixed(3, Mixing { sees: |i, j, _| j < i || i == 0 && j == 0, ..RIGHT }),
        ),
        within("mask: none", "decoder.00.mix", mixed(0, Mixing { sees: |_, _, _| true, ..RIGHT })),
        within(
            "mask: a window of 128 rows",
            "decoder.01.mix",
            mixed(1, Mixing { sees: |i, j, _| j <= i && j + 128 > i, ..RIGHT }),
        ),
        within("mask: padding of the last tile of 16 keys is seen", "decoder.04.mix", |lab, honest, out| {
            // Zero keys and values in addition to the real entries.
            mixed(4, RIGHT)(lab, honest, out);
            let (n, w) = (out.shape()[0], out.shape()[1]);
            let seen = |i: usize| (i + 1) as f64 / (i + 1).next_multiple_of(16) as f64;
            for i in 0..n {
                for c in 0..w {
                    out[[i, c]] *= seen(i);
                }
            }
        }),
        within("scale: √d_h forgotten", "decoder.01.mix", mixed(1, Mixing { scale: 32f64.sqrt(), ..RIGHT })),
        within("scale: 1/√d for 1/√d_h", "decoder.03.mix", mixed(3, Mixing { scale: (32f64 / 192.0).sqrt(), ..RIGHT })),
        within("GQA: head h reads h mod G", "decoder.02.mix", mixed(2, Mixing { kv: |h, g, _| h % g, ..RIGHT })),
        within(
            "softmax: weights of 8 bits and less",
            "decoder.00.mix",
            mixed(0, Mixing { weight: |p| (p * 256.0).round() / 256.0, ..RIGHT }),
        ),
        within("softmax: weights in bf16", "decoder.00.mix", mixed(0, Mixing { weight: bf16, ..RIGHT })),
        within("mix: two heads exchanged", "decoder.02.mix", |_, _, x| {
            let first = x.slice(s![.., 4 * 32..5 * 32]).to_owned();
            let second = x.slice(s![.., 5 * 32..]).to_owned();
            x.slice_mut(s![.., 4 * 32..5 * 32]).assign(&second);
            x.slice_mut(s![.., 5 * 32..]).assign(&first);
        }),
        within("mix: one row not written", "decoder.05.mix", |_, _, x| x.index_axis_mut(Axis(0), 77).fill(0.0)),
        within("values: KV heads exchanged", "decoder.02.value", swap_heads(0, 1)),
        within("keys: KV heads exchanged", "decoder.04.key", swap_heads(0, 1)),
        after("keys: a NaN", "decoder.05.key", |_, d| {
            d.numbers.get_mut("decoder.05.key").unwrap()[[1, 100, 3]] = f64::NAN
        }),
        // Rotary embedding.
        within("rotary: keys one position late", "decoder.03.key", turned(1e4, |_| 1.0)),
        within(
            "rotary: keys' tables in bf16, so that positions past 256 collide",
            "decoder.00.key",
            turned(1e4, |i| bf16(i as f64) - i as f64),
        ),
        within("rotary: not applied to keys", "decoder.02.key", turned(1e4, |i| -(i as f64))),
        within("rotary: pairs side by side", "decoder.01.query", |lab, honest, x| {
            turned(1e4, |i| -(i as f64))(lab, honest, x);
            let half = x.shape()[2] / 2;
            for mut head in x.outer_iter_mut() {
                for (i, mut row) in head.outer_iter_mut().enumerate() {
                    for c in 0..half {
                        let angle = i as f64 * 1e4f64.powf(-(c as f64) / half as f64);
                        let (a, b) = (row[[2 * c]], row[[2 * c + 1]]);
                        row[[2 * c]] = a * angle.cos() - b * angle.sin();
                        row[[2 * c + 1]] = b * angle.cos() + a * angle.sin();
                    }
                }
            }
        }),
        // Residual stream, merge, logits.
        within("residual left out after the MLP", "decoder.03.out", |_, honest, x| {
            *x -= &honest.numbers["decoder.02.out"]
        }),
        within("visual rows one late", "decoder.embed", |lab, honest, x| {
            let rows = lab.prompt.roles.visual();
            let source = honest.numbers["decoder.embed"].clone();
            for pair in rows.windows(2) {
                x.index_axis_mut(Axis(0), pair[1]).assign(&source.index_axis(Axis(0), pair[0]))
            }
        }),
        within("logits of the row before the last", "decoder.logits", |lab, honest, x| {
            let norm = honest.numbers["decoder.norm"].mapv(|v| v as f32).into_dimensionality::<ndarray::Ix2>().unwrap();
            let pass = aircache::pass::Pass::<f32>::new(aircache::num::Grid::Native);
            let n = norm.nrows();
            *x = lab.model.decoder.logits(&pass, norm.slice(s![n - 2..n - 1, ..])).row(0).mapv(f64::from).into_dyn();
        }),
        // Input.
        bug("pixels: 1/256 for 1/255", "input.pixels", |lab, p| {
            let mut prompt = lab.prompt.clone();
            prompt.images[0].pixels.mapv_inplace(|v| (v + 1.0) * (255.0 / 256.0) - 1.0);
            lab.run(&lab.model, &prompt, p, &lab.backend())
        }),
        bug("pixels: blue first", "input.pixels", |lab, p| {
            let mut prompt = lab.prompt.clone();
            prompt.images[0].pixels.invert_axis(Axis(1));
            prompt.images[0].pixels = prompt.images[0].pixels.as_standard_layout().to_owned();
            lab.run(&lab.model, &prompt, p, &lab.backend())
        }),
        bug("pixels: tiles column by column", "input.pixels", |lab, p| {
            let mut prompt = lab.prompt.clone();
            let tiles = prompt.images[0].pixels.clone();
            let n = tiles.shape()[0];
            let order: Vec<usize> = std::iter::once(0).chain((1..n).rev()).collect();
            prompt.images[0].pixels = tiles.select(Axis(0), &order);
            lab.run(&lab.model, &prompt, p, &lab.backend())
        }),
        bug("positions: a step of two after the image", "input.positions", |lab, p| {
            let mut prompt = lab.prompt.clone();
            let last = *prompt.roles.visual().last().unwrap();
            if let Positions::Linear(rows) = &mut prompt.positions {
                rows.iter_mut().skip(last + 1).for_each(|p| *p += 1);
            }
            lab.run(&lab.model, &prompt, p, &lab.backend())
        }),
        // Steps and cache.
        bug("decode: positions counted in the evicted cache", "step.0000.00.*", |lab, p| {
            let honest = lab.honest(p);
            let kept = honest.numbers["cache.00.key"].shape()[1] as i64;
            let how = Backend { shift: kept - lab.prompt.ids.len() as i64, ..lab.backend() };
            lab.run(&lab.model, &lab.prompt, p, &how)
        }),
        bug("decode: one position early", "step.0000.00.*", |lab, p| {
            lab.run(&lab.model, &lab.prompt, p, &Backend { shift: -1, ..lab.backend() })
        }),
        bug("decode: reads the full cache", "step.0000.*", |lab, p| {
            lab.run(&lab.model, &lab.prompt, p, &Backend { evicts: false, ..lab.backend() })
        }),
        after("decode: logits of a step before, once", "step.0002.logits", |_, d| {
            let stale = d.numbers["step.0001.logits"].clone();
            d.numbers.insert("step.0002.logits".into(), stale);
        }),
        bug("decode: the second best token", "output.ids", |lab, p| {
            lab.run(&lab.model, &lab.prompt, p, &Backend { second: true, ..lab.backend() })
        }),
        after("cache: positions renumbered", "cache.00.positions", |_, d| {
            for l in 0..6 {
                let p = d.integers.get_mut(&format!("cache.{l:02}.positions")).unwrap();
                *p = Array1::from_iter(0..p.len() as i64).into_dyn();
            }
        }),
        after("cache: entries one late", "cache.02.key", |_, d| {
            let k = d.numbers.get_mut("cache.02.key").unwrap();
            let source = k.clone();
            for e in 1..k.shape()[1] {
                k.index_axis_mut(Axis(1), e).assign(&source.index_axis(Axis(1), e - 1))
            }
        }),
        after("cache: values of another head", "cache.03.value", |lab, d| {
            let honest = d.clone();
            swap_heads(0, 1)(lab, &honest, d.numbers.get_mut("cache.03.value").unwrap());
        }),
        after("cache: entries by importance, not by position", "cache.01.key", |_, d| {
            // The positions of the entries stay in order; an order that they tell is honest.
            for site in ["key", "value"] {
                let name = format!("cache.01.{site}");
                let mut other = d.numbers[&name].clone();
                other.invert_axis(Axis(1));
                d.numbers.insert(name, other.as_standard_layout().to_owned());
            }
        }),
    ];
    // Policy.
    bugs.extend([
        bug("elite: α 0.5 for 0.9", "policy.*.window", |lab, p| {
            let policy = aircache::policy::Policy { window: Window::Elite { alpha: 0.5 }, ..lab.policy.clone() };
            lab.run(&lab.model, &lab.prompt, p, &Backend { policy, ..lab.backend() })
        }),
        bug("elite: all the text votes", "policy.00.window", |lab, p| {
            let policy = aircache::policy::Policy { window: Window::AllText, ..lab.policy.clone() };
            lab.run(&lab.model, &lab.prompt, p, &Backend { policy, ..lab.backend() })
        }),
        bug("importance: over all keys", "policy.00.importance", |lab, p| {
            let policy = aircache::policy::Policy { keys: aircache::policy::Keys::All, ..lab.policy.clone() };
            lab.run(&lab.model, &lab.prompt, p, &Backend { policy, ..lab.backend() })
        }),
        after("importance: a head left out", "policy.02.importance", |_, d| {
            let i = d.numbers.get_mut("policy.02.importance").unwrap();
            i.mapv_inplace(|v| v * 5.0 / 6.0);
        }),
        after("strength: the mean for the sum", "policy.strength", |_, d| {
            let n = d.numbers["policy.00.importance"].len() as f64;
            d.numbers.get_mut("policy.strength").unwrap().mapv_inplace(|v| v / n);
        }),
        after("skewness: of a population", "policy.skewness", |_, d| {
            for l in 0..6 {
                let i: Vec<f64> = d.numbers[&format!("policy.{l:02}.importance")].iter().copied().collect();
                let n = i.len() as f64;
                d.numbers.get_mut("policy.skewness").unwrap()[[l]] = skewness(&i) * (n - 2.0) / (n * (n - 1.0)).sqrt();
            }
        }),
        after("budget: rounded down, layer by layer", "policy.budget", |_, d| {
            let b = d.integers.get_mut("policy.budget").unwrap();
            b[[2]] -= 1;
        }),
        after("budget: uniform", "policy.budget", |_, d| {
            let b = d.integers.get_mut("policy.budget").unwrap();
            let mean = b.iter().sum::<i64>() / b.len() as i64;
            b.fill(mean);
        }),
        bug("kept: half of them recent", "policy.00.kept", |lab, p| {
            let keep = aircache::policy::Keep { recent: Decimal::new(5, 1), ..lab.policy.keep };
            let policy = aircache::policy::Policy { keep, ..lab.policy.clone() };
            lab.run(&lab.model, &lab.prompt, p, &Backend { policy, ..lab.backend() })
        }),
        after("roles: newline rows called text", "input.roles", |lab, d| {
            let last = *lab.prompt.roles.visual().last().unwrap();
            assert_eq!(lab.prompt.roles.0[last], Role::Visual);
            d.integers.get_mut("input.roles").unwrap()[[last]] = 0;
        }),
    ]);
    bugs
}
