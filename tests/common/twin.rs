//! A second implementation of the decoder and the vision tower from the kernels' naive twins: row by row and head by
//! head, with no cache layout, no batches and no threads. It is generic over the container and the grid, so the model
//! must equal it bit for bit.

#![allow(clippy::needless_range_loop)] // a twin counts in the same way as its equation

use aircache::config::{
    Activation, DecoderConfig, InternVitConfig, NormKind, PatchVitConfig, Projections, SiglipConfig,
};
use aircache::family::internvl::InternVlConfig;
use aircache::kernel::{Angles, Frequencies, Turn, naive};
use aircache::num::{Grid, Real, gelu_erf, gelu_tanh, quick_gelu, silu};
use aircache::weights::Names;
use ndarray::{Array2, ArrayView3, Axis, concatenate, s};

/// Weights by name, widened to the container; results are stored on a grid.
pub struct Twin<'a> {
    pub names: Names<'a>,
    pub grid: Grid,
}

/// Keys and values of one KV head.
pub type Head<T> = (Array2<T>, Array2<T>);

/// The attention of one row: layer, KV head, query, keys, values → mix.
pub type Attend<'f, T> = &'f dyn Fn(usize, usize, &[T], &Head<T>) -> Vec<T>;

impl Twin<'_> {
    fn store<T: Real>(&self, x: Array2<T>) -> Array2<T> {
        x.mapv(|v| self.grid.round(v))
    }

    fn vector<T: Real>(&self, name: &str, len: usize) -> Vec<T> {
        self.names.vector(name, len).unwrap().into_iter().map(T::of_f32).collect()
    }

    fn matrix<T: Real>(&self, m: &aircache::weights::Matrix) -> Array2<T> {
        let mut w = Array2::from_elem((m.rows(), m.cols()), T::ZERO);
        for (i, mut row) in w.outer_iter_mut().enumerate() {
            m.view().row_into(i, row.as_slice_mut().unwrap());
        }
        w
    }

    fn linear<T: Real>(&self, x: &Array2<T>, name: &str, outputs: usize, bias: bool) -> Array2<T> {
        let w = self.matrix(&self.names.matrix(&format!("{name}.weight"), outputs, x.ncols()).unwrap());
        let b = bias.then(|| self.vector(&format!("{name}.bias"), outputs));
        self.store(naive::linear(x.view(), w.view(), b.as_deref()))
    }

    fn rms_norm<T: Real>(&self, x: &Array2<T>, name: &str, eps: f64) -> Array2<T> {
        let w = self.vector(name, x.ncols());
        self.rows(x, |row| naive::rms_norm(row, &w, eps, self.grid))
    }

    fn layer_norm<T: Real>(&self, x: &Array2<T>, name: &str, eps: f64) -> Array2<T> {
        let part = |part: &str| self.vector(&format!("{name}.{part}"), x.ncols());
        let (w, b) = (part("weight"), part("bias"));
        self.rows(x, |row| naive::layer_norm(row, &w, &b, eps))
    }

    fn rows<T: Real>(&self, x: &Array2<T>, f: impl Fn(&[T]) -> Vec<T>) -> Array2<T> {
        let rows: Vec<T> = x.outer_iter().flat_map(|row| f(&row.to_vec())).collect();
        self.store(Array2::from_shape_vec(x.dim(), rows).unwrap())
    }

    fn activate<T: Real>(&self, x: &Array2<T>, activation: Activation) -> Array2<T> {
        self.store(x.mapv(|v| match activation {
            Activation::Silu => silu(v),
            Activation::QuickGelu => quick_gelu(v),
            Activation::GeluTanh => gelu_tanh(v),
            Activation::GeluErf => gelu_erf(v),
            Activation::Relu => v.max(T::ZERO),
        }))
    }

    fn sum<T: Real>(&self, x: &Array2<T>, y: &Array2<T>) -> Array2<T> {
        let mut sum = x.clone();
        sum.zip_mut_with(y, |x, &y| *x += y);
        self.store(sum)
    }

    /// All layers, for rows at `positions`; cache: [L][G]. E6.2–E6.6
    pub fn decoder<T: Real>(
        &self,
        c: &DecoderConfig,
        x: Array2<T>,
        positions: &[i64],
        cache: &mut [Vec<Head<T>>],
        attend: Attend<'_, T>,
    ) -> Array2<T> {
        self.decoder_at(c, x, &|row, _| positions[row], cache, attend)
    }

    /// As [`Self::decoder`], for rows whose frequency i is rotated by position(row, i). E6.10
    pub fn decoder_at<T: Real>(
        &self,
        c: &DecoderConfig,
        mut x: Array2<T>,
        position: &dyn Fn(usize, usize) -> i64,
        cache: &mut [Vec<Head<T>>],
        attend: Attend<'_, T>,
    ) -> Array2<T> {
        let (d, group) = (c.head_dim, c.heads / c.kv_heads);
        let length = (0..x.nrows()).map(|row| position(row, 0) + 1).max().unwrap_or(0);
        let angles = angles(c, x.nrows(), length as usize, position, self.grid);
        let turned = |x: Array2<T>| {
            let mut turned = x.clone();
            for (row, mut to) in turned.outer_iter_mut().enumerate() {
                let (cos, sin) = (angles.cos.row(row).to_vec(), angles.sin.row(row).to_vec());
                let heads: Vec<T> =
                    x.row(row).to_vec().chunks(d).flat_map(|h| naive::rotate(h, &cos, &sin, self.grid)).collect();
                to.iter_mut().zip(heads).for_each(|(to, v)| *to = v);
            }
            turned
        };
        for layer in 0..c.layers {
            let at = |part: &str| format!("decoder.layers.{layer}.{part}");
            let h = self.rms_norm(&x, &at("input_layernorm.weight"), c.norm_eps); // E6.2
            let fused = "self_attn.qkv_proj";
            let part = |one: &str, first: usize, heads: usize, rows: &dyn Fn(usize) -> usize| match c.projections {
                Projections::Apart => self.linear(&h, &at(one), heads * d, c.qkv_bias),
                Projections::Grouped => self.rows_of(&h, &at(fused), c, heads, rows), // E6.13
                Projections::Stacked => self.rows_of(&h, &at(fused), c, heads, &|h| first + h), // E6.16
            };
            let normed = |x: Array2<T>, name: &str| match c.qk_norm {
                true => {
                    let heads = x.to_shape((x.len() / d, d)).unwrap().to_owned();
                    self.rms_norm(&heads, &at(name), c.norm_eps).into_shape_with_order(x.dim()).unwrap() // E6.14
                }
                false => x,
            };
            let q = part("self_attn.q_proj", 0, c.heads, &|h| h / group * (group + 2) + h % group);
            let k = part("self_attn.k_proj", c.heads, c.kv_heads, &|g| g * (group + 2) + group);
            let v = part("self_attn.v_proj", c.heads + c.kv_heads, c.kv_heads, &|g| g * (group + 2) + group + 1);
            let q = turned(normed(q, "self_attn.q_norm.weight")); // E6.3
            let k = turned(normed(k, "self_attn.k_norm.weight"));
            let mut mix = Array2::from_elem(q.dim(), T::ZERO); // E6.4
            for row in 0..x.nrows() {
                for g in 0..c.kv_heads {
                    let columns = s![row..row + 1, g * d..(g + 1) * d];
                    let (keys, values) = &mut cache[layer][g];
                    keys.append(Axis(0), k.slice(columns)).unwrap();
                    values.append(Axis(0), v.slice(columns)).unwrap();
                    for h in g * group..(g + 1) * group {
                        let q = q.slice(s![row, h * d..(h + 1) * d]).to_vec();
                        let out = attend(layer, g, &q, &cache[layer][g]);
                        mix.slice_mut(s![row, h * d..(h + 1) * d]).assign(&ndarray::arr1(&out));
                    }
                }
            }
            x = self.sum(&x, &self.linear(&mix, &at("self_attn.o_proj"), c.hidden, c.out_bias)); // E6.5
            let h = self.rms_norm(&x, &at("post_attention_layernorm.weight"), c.norm_eps); // E6.6
            let m = c.intermediate;
            let [gate, up] = match c.projections {
                Projections::Stacked => {
                    let both = self.linear(&h, &at("mlp.gate_up_proj"), 2 * m, false); // E6.16
                    [both.slice(s![.., ..m]).to_owned(), both.slice(s![.., m..]).to_owned()]
                }
                _ => ["mlp.gate_proj", "mlp.up_proj"].map(|part| self.linear(&h, &at(part), m, false)),
            };
            let mut product = self.activate(&gate, c.activation);
            product.zip_mut_with(&up, |g, &u| *g *= u);
            x = self.sum(&x, &self.linear(&self.store(product), &at("mlp.down_proj"), c.hidden, false));
        }
        x
    }

    /// Computes some heads of a fused projection like a separate matrix. which: the head's index → its index among all
    /// heads of the fused matrix. E6.13, C6.13a
    fn rows_of<T: Real>(
        &self,
        h: &Array2<T>,
        name: &str,
        c: &DecoderConfig,
        heads: usize,
        which: &dyn Fn(usize) -> usize,
    ) -> Array2<T> {
        let (d, all) = (c.head_dim, (c.heads + 2 * c.kv_heads) * c.head_dim);
        let rows: Vec<usize> = (0..heads).flat_map(|h| which(h) * d..(which(h) + 1) * d).collect();
        let w = self.matrix(&self.names.matrix(&format!("{name}.weight"), all, h.ncols()).unwrap());
        let b: Option<Vec<T>> = c.qkv_bias.then(|| self.vector(&format!("{name}.bias"), all));
        let b: Option<Vec<T>> = b.map(|b| rows.iter().map(|&row| b[row]).collect());
        self.store(naive::linear(h.view(), w.select(Axis(0), &rows).view(), b.as_deref()))
    }

    /// InternViT: one tile, all layers: pixels: [1, 3, S, S] → hidden states 0 … layers. E5.11–E5.13
    pub fn intern_vit<T: Real>(&self, c: &InternVitConfig, pixels: ndarray::ArrayView4<'_, f32>) -> Vec<Array2<T>> {
        let (d, tokens, size) = (c.hidden, 1 + c.side() * c.side(), c.hidden / c.heads);
        let patches: Vec<T> = naive::patches(pixels, c.patch).concat();
        let patches = self.store(Array2::from_shape_vec((tokens - 1, 3 * c.patch * c.patch), patches).unwrap());
        let kernel = self.names.kernel("vision.patch.weight", d, 3, c.patch).unwrap();
        let bias: Vec<T> = self.vector("vision.patch.bias", d);
        let mut x = self.store(naive::linear(patches.view(), self.matrix(&kernel).view(), None)); // R10.2
        x.outer_iter_mut().for_each(|mut x| x.iter_mut().zip(&bias).for_each(|(x, &b)| *x += b));
        let class = self.matrix(&self.names.batch_of_one("vision.class", 1, d).unwrap());
        let x = concatenate(Axis(0), &[class.view(), self.store(x).view()]).unwrap();
        let positions = self.matrix(&self.names.batch_of_one("vision.positions", tokens, d).unwrap());
        let mut states = vec![self.sum(&x, &positions)];
        let norm = |x: &Array2<T>, name: String| match c.norm {
            NormKind::Layer => self.layer_norm(x, &name, c.norm_eps),
            NormKind::Rms => self.rms_norm(x, &format!("{name}.weight"), c.norm_eps),
        };
        let scaled = |x: Array2<T>, name: String| {
            let scale: Vec<T> = self.vector(&name, d);
            self.rows(&x, |row| row.iter().zip(&scale).map(|(&x, &s)| x * s).collect())
        };
        for layer in 0..c.layers {
            let at = |part: &str| format!("vision.layers.{layer}.{part}");
            let x = &states[layer];
            let h = norm(x, at("norm1"));
            let [mut q, mut k, v] = match c.fused {
                false => ["query", "key", "value"].map(|part| self.linear(&h, &at(part), d, c.qkv_bias)),
                true => {
                    let all = self.linear(&h, &at("qkv"), 3 * d, c.qkv_bias);
                    [0, 1, 2].map(|i| all.slice(s![.., i * d..(i + 1) * d]).to_owned())
                }
            };
            if let Some(eps) = c.qk_norm {
                q = self.rms_norm(&q, &at("q_norm.weight"), eps);
                k = self.rms_norm(&k, &at("k_norm.weight"), eps);
            }
            let head = |x: &Array2<T>, h: usize| x.slice(s![.., h * size..(h + 1) * size]).to_owned();
            let heads: Vec<Head<T>> = (0..c.heads).map(|h| (head(&k, h), head(&v, h))).collect();
            let (mix, _) = naive::attention(q.view(), &heads, false, self.grid);
            let x = self.sum(x, &scaled(self.linear(&mix, &at("out"), d, true), at("scale1")));
            let h = norm(&x, at("norm2"));
            let h = self.activate(&self.linear(&h, &at("mlp.fc1"), c.intermediate, true), c.activation);
            states.push(self.sum(&x, &scaled(self.linear(&h, &at("mlp.fc2"), d, true), at("scale2"))));
        }
        if c.last_norm {
            states.push(self.layer_norm(&states[c.layers], "vision.norm", c.norm_eps));
        }
        states
    }

    /// E5.15: features [rows, m² · d_v] → [rows, d].
    pub fn shuffled_projector<T: Real>(&self, c: &InternVlConfig, features: &Array2<T>) -> Array2<T> {
        let h = self.layer_norm(features, "projector.norm", 1e-5);
        let h = self.activate(&self.linear(&h, "projector.fc1", c.text.hidden, true), c.activation);
        self.linear(&h, "projector.fc2", c.text.hidden, true)
    }

    /// E6.7
    pub fn logits<T: Real>(&self, c: &DecoderConfig, x: &Array2<T>) -> Array2<T> {
        let h = self.rms_norm(x, "decoder.norm.weight", c.norm_eps);
        let (_, head) = self.names.embedding_and_head(c.vocab, c.hidden, c.tied).unwrap();
        self.store(naive::linear(h.view(), self.matrix(&head).view(), None))
    }

    /// E6.1, for text.
    pub fn embed<T: Real>(&self, c: &DecoderConfig, ids: &[u32]) -> Array2<T> {
        let (embedding, _) = self.names.embedding_and_head(c.vocab, c.hidden, c.tied).unwrap();
        self.matrix(&embedding).select(Axis(0), &ids.iter().map(|&id| id as usize).collect::<Vec<_>>())
    }

    /// Qwen2-VL's tower: patches [n, 3·τ·p²], grids → the stream after each layer. E5.7–E5.9
    pub fn qwen2_vl<T: Real>(
        &self,
        c: &PatchVitConfig,
        patches: ndarray::ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
    ) -> Vec<Array2<T>> {
        const EPS: f64 = 1e-6;
        let (d, size) = (c.hidden, c.hidden / c.heads);
        let kernel = self.names.kernel_3d("vision.patch_embed.proj.weight", d, [3, c.temporal, c.patch]).unwrap();
        let patches = self.store(patches.mapv(T::of_f32));
        let mut x = self.store(naive::linear(patches.view(), self.matrix(&kernel).view(), None));
        // The position and the frame of each patch: square by square, and in each square row by row.
        let (mut at, mut frame, mut frames) = (vec![], vec![], 0);
        for &[t, h, w] in grids {
            for _ in 0..t {
                for (square_y, square_x) in (0..h / c.merge).flat_map(|y| (0..w / c.merge).map(move |x| (y, x))) {
                    for (y, x) in (0..c.merge).flat_map(|y| (0..c.merge).map(move |x| (y, x))) {
                        at.push([(square_y * c.merge + y) as i64, (square_x * c.merge + x) as i64]);
                        frame.push(frames);
                    }
                }
                frames += 1;
            }
        }
        let quarter = Frequencies::new(c.rope_theta, size / 2);
        let place = |row: usize, i: usize| (i % quarter.len(), at[row][i / quarter.len()]);
        let angles = Angles::new((x.nrows(), 2 * quarter.len()), &quarter, place, Turn::of::<T>(), Grid::Native);
        let turned = |x: Array2<T>| {
            let rows = x.outer_iter().enumerate().flat_map(|(row, x)| {
                let (cos, sin) = (angles.cos.row(row).to_vec(), angles.sin.row(row).to_vec());
                let heads = x.to_vec();
                heads.chunks(size).flat_map(|h| naive::rotate(h, &cos, &sin, Grid::Native)).collect::<Vec<T>>()
            });
            self.store(Array2::from_shape_vec(x.dim(), rows.collect()).unwrap())
        };
        let mut states = Vec::new();
        for layer in 0..c.layers {
            let at = |part: &str| format!("vision.blocks.{layer}.{part}");
            let h = self.layer_norm(&x, &at("norm1"), EPS);
            let qkv = self.linear(&h, &at("attn.qkv"), 3 * d, true);
            let part = |i: usize| qkv.slice(s![.., i * d..(i + 1) * d]).to_owned();
            let (q, k, v) = (turned(part(0)), turned(part(1)), part(2));
            let mut mix = Array2::from_elem(x.dim(), T::ZERO);
            for f in 0..frames {
                let rows: Vec<usize> = (0..x.nrows()).filter(|&r| frame[r] == f).collect();
                let of = |x: &Array2<T>, h: usize| {
                    x.select(Axis(0), &rows).slice(s![.., h * size..(h + 1) * size]).to_owned()
                };
                let heads: Vec<Head<T>> = (0..c.heads).map(|h| (of(&k, h), of(&v, h))).collect();
                let (out, _) = naive::attention(q.select(Axis(0), &rows).view(), &heads, false, self.grid);
                rows.iter().zip(out.outer_iter()).for_each(|(&row, out)| mix.row_mut(row).assign(&out));
            }
            x = self.sum(&x, &self.linear(&mix, &at("attn.proj"), d, true));
            let h = self.layer_norm(&x, &at("norm2"), EPS);
            let h = self.activate(&self.linear(&h, &at("mlp.fc1"), c.intermediate, true), c.activation);
            x = self.sum(&x, &self.linear(&h, &at("mlp.fc2"), d, true));
            states.push(x.clone());
        }
        states
    }

    /// E5.10: features [n, d_v] → [n / m², d].
    pub fn merger<T: Real>(&self, c: &PatchVitConfig, features: &Array2<T>, width: usize) -> Array2<T> {
        let h = self.layer_norm(features, "vision.merger.ln_q", 1e-6);
        let square = c.hidden * c.merge * c.merge;
        let h = h.into_shape_with_order((features.len() / square, square)).unwrap();
        let h = self.activate(&self.linear(&h, "vision.merger.mlp.0", square, true), Activation::GeluErf);
        self.linear(&h, "vision.merger.mlp.2", width, true)
    }

    /// One tile, all layers: pixels: [1, 3, S, S] → hidden states 0 … layers. E5.1–E5.4
    pub fn tower<T: Real>(&self, c: &SiglipConfig, pixels: ndarray::ArrayView4<'_, f32>) -> Vec<Array2<T>> {
        let (d, tokens) = (c.hidden, c.side() * c.side());
        let patches: Vec<T> = naive::patches(pixels, c.patch).concat();
        let patches = self.store(Array2::from_shape_vec((tokens, 3 * c.patch * c.patch), patches).unwrap());
        let kernel = self.names.kernel("vision.embeddings.patch_embedding.weight", d, 3, c.patch).unwrap();
        let x = self.store(naive::linear(patches.view(), self.matrix(&kernel).view(), None)); // R10.2
        let before = |rows| {
            let position = self.names.matrix("vision.embeddings.position_embedding.weight", rows, d).unwrap();
            self.matrix(&position)
        };
        let mut states = vec![match c.class {
            false => {
                let bias: Vec<T> = self.vector("vision.embeddings.patch_embedding.bias", d);
                self.sum(&self.rows(&x, |row| row.iter().zip(&bias).map(|(&x, &b)| x + b).collect()), &before(tokens))
            }
            true => {
                let class: Vec<T> = self.vector("vision.embeddings.class_embedding", d);
                let class = Array2::from_shape_vec((1, d), class).unwrap();
                let x = concatenate(Axis(0), &[class.view(), x.view()]).unwrap();
                self.layer_norm(&self.sum(&x, &before(1 + tokens)), "vision.pre_layrnorm", c.norm_eps) // E5.16
            }
        }];
        for layer in 0..c.layers {
            let at = |part: &str| format!("vision.encoder.layers.{layer}.{part}");
            let x = &states[layer];
            let h = self.layer_norm(x, &at("layer_norm1"), c.norm_eps);
            let of = |part: &str| self.linear(&h, &at(&format!("self_attn.{part}")), d, true);
            let (q, k, v) = (of("q_proj"), of("k_proj"), of("v_proj"));
            let head = |x: &Array2<T>, h: usize| {
                let size = d / c.heads;
                x.slice(s![.., h * size..(h + 1) * size]).to_owned()
            };
            let heads: Vec<Head<T>> = (0..c.heads).map(|h| (head(&k, h), head(&v, h))).collect();
            let (mix, _) = naive::attention(q.view(), &heads, false, self.grid);
            let x = self.sum(x, &self.linear(&mix, &at("self_attn.out_proj"), d, true));
            let h = self.layer_norm(&x, &at("layer_norm2"), c.norm_eps);
            let h = self.activate(&self.linear(&h, &at("mlp.fc1"), c.intermediate, true), c.activation);
            states.push(self.sum(&x, &self.linear(&h, &at("mlp.fc2"), d, true)));
        }
        states
    }
}

/// The angles of a sequence of `length` rows. E3.12, E6.15
fn angles<T: Real>(
    c: &DecoderConfig,
    rows: usize,
    length: usize,
    position: &dyn Fn(usize, usize) -> i64,
    grid: Grid,
) -> Angles<T> {
    let (shape, f, turn) = ((rows, c.head_dim / 2), frequencies(c, length), Turn::of::<T>());
    let at = |row, i| (i, position(row, i));
    let Some(long) = &c.long_rope else { return Angles::new(shape, &f, at, turn, grid) };
    let Angles { cos, sin } = Angles::<T>::new(shape, &f, at, turn, Grid::Native);
    let times = |table: Array2<T>| table.mapv(|v| grid.round(v * T::of(long.scale)));
    Angles { cos: times(cos), sin: times(sin) }
}

/// The frequencies of a sequence of `length` rows. E3.12, E6.12, E6.15
pub fn frequencies(c: &DecoderConfig, length: usize) -> Frequencies {
    if let Some(long) = &c.long_rope {
        let factors = if length > long.trained { &long.long } else { &long.short };
        return Frequencies::new(c.rope_theta, c.head_dim).divided(factors);
    }
    let Some(f) = c.ntk.filter(|_| length > c.max_positions) else {
        return Frequencies::new(c.rope_theta, c.head_dim);
    };
    let stretch = f * length as f64 / c.max_positions as f64 - (f - 1.0);
    let exponent = c.head_dim as f64 / (c.head_dim as f64 - 2.0);
    Frequencies::new(f64::from((c.rope_theta * libm::pow(stretch, exponent)) as f32), c.head_dim)
}

/// An empty cache: [L][G].
pub fn empty<T: Real>(c: &DecoderConfig) -> Vec<Vec<Head<T>>> {
    let head = || (Array2::from_elem((0, c.head_dim), T::ZERO), Array2::from_elem((0, c.head_dim), T::ZERO));
    (0..c.layers).map(|_| (0..c.kv_heads).map(|_| head()).collect()).collect()
}

/// The first tiles of a stack, placed side by side for comparisons.
pub fn beside<T: Real>(states: &[Array2<T>]) -> Array2<T> {
    concatenate(Axis(1), &states.iter().map(|s| s.view()).collect::<Vec<_>>()).unwrap()
}

/// The features of tile `tile`.
pub fn tile<T: Real>(features: ArrayView3<'_, T>, tile: usize) -> Array2<T> {
    features.index_axis(Axis(0), tile).to_owned()
}
