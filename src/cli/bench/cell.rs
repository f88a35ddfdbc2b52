//! One cell of the bench: one prompt length, prefilled, compressed and decoded.

use super::machine::Machine;
use aircache::Result;
use aircache::cache::HeadCache;
use aircache::config::DecoderConfig;
use aircache::decoder::{AT_ONCE, Observer, Pruning, Sequence, Told};
use aircache::eval::Cell;
use aircache::family::{Outline, Profile};
use aircache::input::{GivenImage, PixelLayout, Positions, Prepared};
use aircache::model::Model;
use aircache::num::{Random, Real};
use aircache::pass::Pass;
use aircache::policy::{Policy, Scorer, merged};
use aircache::{Role, Roles};
use ndarray::{ArrayD, Axis, s};
use std::time::Instant;

/// Of every `TEXT` rows of a prompt, one is a text row before the visual rows, and one is a text row after them.
pub const TEXT: usize = 20;

/// The measurements of one cell.
pub struct Measured {
    pub policy: String,
    /// The kind of the method, as the command `policies` groups them.
    pub kind: &'static str,
    /// The kind in a word.
    pub when: &'static str,
    pub retain: String,
    pub prompt: usize,
    pub batch: usize,
    pub prefill_s: f64,
    /// Multiply-adds of the prefill.
    pub multiply_adds: f64,
    pub compress_s: f64,
    pub decode_ms: f64,
    pub step_weight_bytes: usize,
    pub kv_bytes: usize,
}

impl Measured {
    /// Tokens per second, of all sequences together.
    pub fn tokens_s(&self) -> f64 {
        self.batch as f64 * 1e3 / self.decode_ms
    }

    /// Operations of the prefill in 10⁹ per second; a multiply-add counts as two.
    pub fn prefill_gflops(&self) -> f64 {
        2.0 * self.multiply_adds / self.prefill_s / 1e9
    }

    /// The time of a decode step that only reads weights and cache, in ms.
    pub fn roofline_ms(&self, machine: &Machine) -> f64 {
        (self.step_weight_bytes + self.kv_bytes) as f64 / machine.read_gb_s / 1e6
    }
}

/// A prompt of random tokens, 90 % of which count as visual.
pub struct Prompts<'m> {
    model: &'m Model,
    ids: Vec<u32>,
    roles: Roles,
}

impl<'m> Prompts<'m> {
    /// A prompt of `n` tokens.
    pub fn new(model: &'m Model, n: usize) -> Result<Self> {
        let text = n / TEXT;
        let role = |i: usize| if i < text || i >= n - text { Role::Text } else { Role::Visual };
        Ok(Prompts { model, ids: random(n, model.config.text().vocab), roles: Roles((0..n).map(role).collect()) })
    }

    /// Prefills the prompt as `policy` observes it.
    ///
    /// # Errors
    /// The policy does not fit the prompt or the model.
    pub fn prefill<T: Real>(&self, policy: &Policy, mut pass: Pass<'_, T>) -> Result<Timed<'_, T>> {
        let (decoder, n) = (&self.model.decoder, self.ids.len());
        let scorer = Scorer::new(policy, &self.roles)?;
        let cache = decoder.cache_in(pass.stored_in_cache());
        let observer = Observer::new(scorer.rows().to_vec(), policy.needs_received()).expecting(policy.needs_future());
        let mut pruning = Pruning::of(std::slice::from_ref(policy), decoder.config.layers, &self.roles)?;
        let (x, visual) = (decoder.embed(&self.ids), self.roles.visual());
        let start = Instant::now();
        if let Some(by) = pruning.rater() {
            self.model.rates(by)?;
            // No tower reads these tokens: it would give its votes and keys beside the features.
            let rows = x.select(Axis(0), &visual);
            let metric = rows.slice(s![.., ..rows.ncols().min(64)]);
            let told = Told { rows: rows.view(), votes: &vec![T::ZERO; visual.len()], metric };
            pruning.rate(&mut pass, &self.roles, told, |pass, into| merged(rows.view(), into, pass.grid));
        }
        pruning.choose_raters(&mut pass, &self.roles, x.view());
        let rate_s = start.elapsed().as_secs_f64();
        let mut sequence = Sequence { observer, pruning, roles: self.roles.clone(), ..Sequence::new(cache) };

        let start = Instant::now();
        let prompt = (x, &Positions::in_order(n));
        decoder.prefill(&mut pass, &[prompt], std::slice::from_mut(&mut sequence), AT_ONCE);
        Ok(Timed { model: self.model, sequence, rate_s, prefill_s: start.elapsed().as_secs_f64() })
    }
}

/// A prefilled prompt, and the time of its prefill.
pub struct Timed<'m, T> {
    model: &'m Model,
    sequence: Sequence<T>,
    /// The time in which distances of visual rows choose those that enter the decoder, or text rows are chosen that rate.
    rate_s: f64,
    prefill_s: f64,
}

impl<T: Real> Timed<'_, T> {
    /// Measures one retention of the policy, decoded in a batch.
    pub fn cell(&self, wanted: &Cell, batch: usize, steps: usize, pass: &mut Pass<'_, T>) -> Result<Measured> {
        let (decoder, n) = (&self.model.decoder, self.sequence.roles.len());
        let mut sequence = self.sequence.clone();
        let start = Instant::now();
        let plan = self.sequence.plan(&wanted.policy.at(wanted.fraction), wanted.fraction)?;
        sequence.evict(&plan, pass.grid);
        let compress_s = self.rate_s + start.elapsed().as_secs_f64();

        let heads = self.sequence.cache.layers.iter();
        let rows: Vec<usize> = heads.map(|heads| heads.first().map_or(0, HeadCache::len)).collect();
        // One sequence for each place in the batch; each sequence has its own cache.
        let mut sequences = vec![sequence.with_cache(sequence.cache.clone()); batch];
        let tokens = random(batch, self.model.config.text().vocab);
        let mut times: Vec<f64> = (0..=steps)
            .map(|step| {
                let start = Instant::now();
                decoder.step(pass, step, &tokens, &mut sequences.iter_mut().collect::<Vec<_>>());
                start.elapsed().as_secs_f64() * 1e3
            })
            .skip(1) // the first step runs with cold CPU caches
            .collect();
        times.sort_by(f64::total_cmp);
        Ok(Measured {
            policy: wanted.name.clone(),
            kind: wanted.policy.kind(),
            when: wanted.policy.when(),
            retain: wanted.retain.clone(),
            prompt: n,
            batch,
            prefill_s: self.prefill_s,
            multiply_adds: multiply_adds(&decoder.config, &rows),
            compress_s,
            decode_ms: times[times.len() / 2],
            step_weight_bytes: decoder.step_bytes(),
            kv_bytes: sequences.iter().map(|s| s.cache.bytes()).sum(),
        })
    }
}

/// The time in seconds that the vision tower needs for one image of about one tile.
///
/// # Errors
/// A loaded model causes no error here.
pub fn vision<T: Real>(model: &Model, pass: &mut Pass<'_, T>) -> Result<f64> {
    let family = &*model.config;
    let Profile { pixels: layout, tower, image_token, .. } = family.profile();
    let (side, grid) = match layout {
        PixelLayout::Padded(side) | PixelLayout::Tiles(side) => (side, None),
        PixelLayout::Patches(_) => (36 * tower.patch, Some([1, 36, 36])),
    };
    let outline = Outline { size: (side, side), grid, of: 1, frames: None, most: None };
    let count = grid.map_or(family.packing(&outline)?.tiles, |grid| grid.iter().product());
    let pixels = ArrayD::from_elem(layout.shape(count), 0.5);
    let image = GivenImage { pixels, size: outline.size, grid };
    let prompt = Prepared::from_ids(family, &[image_token], vec![image])?;
    let start = Instant::now();
    model.encode(pass, &prompt, None);
    Ok(start.elapsed().as_secs_f64())
}

/// Multiply-adds of linear layers and attention in a prefill; rows: of each layer.
fn multiply_adds(c: &DecoderConfig, rows: &[usize]) -> f64 {
    let (d, q, kv) = (c.hidden as f64, (c.heads * c.head_dim) as f64, (c.kv_heads * c.head_dim) as f64);
    let row = d * (2.0 * q + 2.0 * kv) + 3.0 * d * c.intermediate as f64;
    // A row sees itself and the rows before it; scores and mix take as many multiply-adds.
    let layer = |n: f64| n * row + n * (n + 1.0) / 2.0 * 2.0 * q;
    rows.iter().map(|&n| layer(n as f64)).sum::<f64>() + d * c.vocab as f64
}

/// `n` random tokens of a vocabulary; the same `n` gives the same tokens.
fn random(n: usize, vocab: usize) -> Vec<u32> {
    let mut random = Random::new(0);
    (0..n).map(|_| (random.bits() % vocab as u64) as u32).collect()
}
