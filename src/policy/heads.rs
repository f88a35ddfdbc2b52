//! Scores of attention heads that are known before the prompt, and how they share a budget. Not here: reading files.

use crate::error::{Error, Result, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Scores of all heads of a model: \[L\]\[H\], or \[L\]\[G\] of KV heads; finite, not negative, not all 0. Written
/// `0.2/0.1|0.3/0.4`: heads by `/`, layers by `|`. Spec: E9.22
#[derive(Debug, Clone, PartialEq)]
pub struct HeadScores(Arc<[Vec<f64>]>);

/// What a file holds, in messages.
const KEY: &str = "an object of \"LAYER-HEAD\": [numbers], as SparseMM and HeadKV write it";

impl HeadScores {
    /// Reads the JSON of SparseMM and HeadKV, `{"0-0": [0.5, 0.1], "0-1": [0.2], …}`: a head's score is the mean of its
    /// numbers.
    ///
    /// # Errors
    /// The text is no such object; a head is missing or has no score. The error names the head. Spec: C9.22a
    ///
    /// ```
    /// use aircache::policy::HeadScores;
    /// let scores = HeadScores::from_json(r#"{"0-0": [0.5, 0.3], "0-1": [0.1], "1-0": [0], "1-1": [0.3]}"#)?;
    /// assert_eq!(scores.to_string(), "0.4/0.1|0/0.3");
    /// # Ok::<(), aircache::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        let named: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|e| Error::new("head scores", KEY, e))?;
        let mut heads: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (key, numbers) in named {
            let place = key.split_once('-').and_then(|(l, h)| Some((l.parse().ok()?, h.parse().ok()?)));
            let place = place.ok_or_else(|| Error::new("head scores", KEY, format!("the key {key:?}")))?;
            let list: Option<Vec<f64>> =
                numbers.as_array().and_then(|list| list.iter().map(serde_json::Value::as_f64).collect());
            let mean = list.filter(|list| !list.is_empty()).map(|list| list.iter().sum::<f64>() / list.len() as f64);
            let at = format!("head scores: {key:?}");
            let mean = mean.ok_or_else(|| Error::new(&at, "a list of at least one number", numbers))?;
            heads.insert(place, mean);
        }
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for ((layer, head), score) in heads {
            let due = match rows.last() {
                Some(row) if rows.len() == layer + 1 => (layer, row.len()),
                _ => (rows.len(), 0),
            };
            let missing = format!("the head \"{}-{}\": layers and heads count from 0", due.0, due.1);
            ensure!((layer, head) == due, "head scores", missing, format!("\"{layer}-{head}\""));
            if head == 0 {
                rows.push(Vec::new());
            }
            if let Some(row) = rows.last_mut() {
                row.push(score);
            }
        }
        Self::new(rows)
    }

    /// Scores as they are kept: rounded to six digits.
    fn new(rows: Vec<Vec<f64>>) -> Result<Self> {
        let of_each = rows.first().map_or(0, Vec::len);
        for (l, row) in rows.iter().enumerate() {
            let at = format!("head scores: layer {l}");
            ensure!(row.len() == of_each && of_each > 0, at, format!("{of_each} heads, as layer 0 has"), row.len());
            if let Some(bad) = row.iter().find(|score| !score.is_finite() || **score < 0.0) {
                ensure!(false, at, "scores of at least 0", bad);
            }
        }
        let rounded = |score: f64| format!("{score:.5e}").parse().unwrap_or(score);
        let rows: Vec<Vec<f64>> = rows.into_iter().map(|row| row.into_iter().map(rounded).collect()).collect();
        let some = rows.iter().flatten().any(|&score| score > 0.0);
        ensure!(some, "head scores", "a head with a score above 0", "none");
        Ok(HeadScores(rows.into()))
    }

    /// Whether the scores are those of a model of `layers` layers of `kv_heads` KV heads.
    ///
    /// # Errors
    /// Another number of layers; a number of heads that is no multiple of the KV heads. Spec: C9.22b
    pub(super) fn fit(&self, layers: usize, kv_heads: usize) -> Result<()> {
        let at = "policy: split=heads";
        let remedy = "take scores that were measured with this model";
        ensure!(
            self.0.len() == layers,
            at,
            format!("scores of {layers} layers, as the model has"),
            self.0.len(),
            remedy
        );
        let heads = self.0.first().map_or(0, Vec::len);
        let want = format!("scores of the query heads or of the {kv_heads} KV heads of a layer");
        ensure!(heads > 0 && heads.is_multiple_of(kv_heads.max(1)), at, want, format!("{heads} heads"), remedy);
        Ok(())
    }

    /// The weights of a layer's KV heads, 1 in the mean over the model: floor + (1 − floor) times the head's share of all
    /// scores, times the number of heads; none if the scores are of another model. → \[G\]. Spec: E9.22
    pub(super) fn weights(&self, layer: usize, kv_heads: usize, floor: f64) -> Option<Vec<f64>> {
        let row = self.0.get(layer).filter(|row| kv_heads > 0 && row.len().is_multiple_of(kv_heads))?;
        let all: f64 = self.0.iter().flatten().sum();
        let count = (self.0.len() * kv_heads) as f64;
        let of = |group: &[f64]| floor + (1.0 - floor) * (group.iter().sum::<f64>() / all * count);
        Some(row.chunks(row.len() / kv_heads).map(of).collect())
    }
}

impl FromStr for HeadScores {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let row = |row: &str| row.split('/').map(|score| score.parse().ok()).collect::<Option<Vec<f64>>>();
        let rows: Option<Vec<Vec<f64>>> = text.split('|').map(row).collect();
        let expected = "numbers joined by / in a layer, layers joined by |, as in 0.2/0.1|0.3/0.4";
        Self::new(rows.ok_or_else(|| Error::new("head scores", expected, format!("{text:?}")))?)
    }
}

impl fmt::Display for HeadScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (l, row) in self.0.iter().enumerate() {
            let scores: Vec<String> = row.iter().map(f64::to_string).collect();
            write!(f, "{}{}", if l > 0 { "|" } else { "" }, scores.join("/"))?;
        }
        Ok(())
    }
}
