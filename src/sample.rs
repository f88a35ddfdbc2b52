//! Chooses the next token from logits: the token with the greatest logit, or a random draw. Spec: E6.9

use crate::error::{Error, Result, ensure};
use crate::num::{Random, Real};

/// The rule that chooses the next token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sampling {
    /// The token with the greatest logit; among equal logits, the lowest id (C6.9a, A6.9).
    #[default]
    Greedy,
    /// A draw from the softmax of logits / temperature. The candidates are the `top_k` most probable tokens (0: all).
    /// Of these, only the smallest number of most probable tokens that together reach `top_p` stay.
    Draw {
        /// Divisor of the logits, > 0.
        temperature: f64,
        /// Number of candidates; 0 for all.
        top_k: usize,
        /// Cumulative probability of the candidates, 0 < p ≤ 1.
        top_p: f64,
        /// Start of the random sequence. The same seed draws the same tokens on every machine (C6.9c).
        seed: u64,
    },
}

/// A sampler with the state of its random sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// The temperature is not positive and finite, or `top_p` is outside 0 < p ≤ 1.
    pub fn new(sampling: Sampling) -> Result<Self> {
        let mut random = Random::new(0);
        if let Sampling::Draw { temperature, top_p, seed, .. } = sampling {
            ensure!(temperature > 0.0 && temperature.is_finite(), "temperature", "a positive number", temperature);
            ensure!(top_p > 0.0 && top_p <= 1.0, "top_p", "0 < p <= 1", top_p);
            random = Random::new(seed);
        }
        Ok(Sampler { sampling, random })
    }

    /// The next token. logits: \[V\].
    ///
    /// # Errors
    /// A logit is NaN or +∞, or all logits are −∞. The weights then hold numbers that are not finite, or a computation
    /// overflowed (C6.9b).
    pub fn next<T: Real>(&mut self, logits: &[T]) -> Result<u32> {
        let nan = |id: usize| {
            Error::new(format!("logits of token {id}"), "a number", logits[id])
                .remedy("the weights hold numbers that are not finite, or overflow; `aircache inspect` names them")
        };
        if let Some(id) = logits.iter().position(|v| !v.is_finite() && *v != T::NEG_INFINITY) {
            return Err(nan(id));
        }
        let best = (1..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
        ensure!(logits.get(best).is_some_and(|v| v.is_finite()), "logits", "a finite number", "none");
        let Sampling::Draw { temperature, top_k, top_p, .. } = self.sampling else { return Ok(best as u32) };

        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].to_f64().total_cmp(&logits[a].to_f64()).then(a.cmp(&b)));
        order.truncate(if top_k == 0 { order.len() } else { top_k });
        // This is not the softmax of E3.2: E6.9 divides by the temperature, computes in f64 and adds in the order of
        // rank.
        let top = logits[best].to_f64();
        let weights: Vec<f64> = order.iter().map(|&id| Real::exp((logits[id].to_f64() - top) / temperature)).collect();
        let total: f64 = weights.iter().sum();
        let mut mass = 0.0;
        let enough = weights.iter().position(|w| {
            mass += w / total;
            mass >= top_p
        });
        let kept = &weights[..enough.map_or(weights.len(), |last| last + 1)];
        let mut left = self.random.unit() * kept.iter().sum::<f64>();
        let drawn = kept.iter().position(|w| {
            left -= w;
            left < 0.0
        });
        // Rounding can leave a small rest of the probability mass. This rest belongs to the last candidate.
        Ok(order[drawn.unwrap_or(kept.len() - 1)] as u32)
    }
}
