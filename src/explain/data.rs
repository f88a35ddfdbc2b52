//! The data of the page as JSON: small enough to embed, exact enough to read values.

use super::{Explained, Told};
use crate::policy::NOWHERE;
use crate::roles::Role;
use base64::{Engine, prelude::BASE64_STANDARD};
use ndarray::Array2;
use serde_json::{Value, json};
use std::ops::Range;

/// A visual token in its image.
pub(super) struct Spot {
    /// The indices of the pictures that show the token: one image, or the frames of a video that the token covers.
    pub pictures: Range<usize>,
    /// [top, left, bottom, right] in the image's pixels; none for newline rows and padding.
    pub region: Option<[f64; 4]>,
    /// True if the token shows a much larger part of the image than most tokens do: the token is from a tile of the
    /// whole image, and other tiles show parts of the image.
    pub coarse: bool,
}

impl Explained {
    /// The place of every visual token, in prompt order. Spec: D4.1
    pub(super) fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<Spot> = Vec::new();
        for (image, prepared) in self.prompt.images.iter().enumerate() {
            let regions: Vec<_> = (0..prepared.packing.rows.len()).map(|r| prepared.packing.region(r)).collect();
            let area = |[top, left, bottom, right]: [f64; 4]| (bottom - top) * (right - left);
            let mut areas: Vec<f64> = regions.iter().flatten().map(|&r| area(r)).collect();
            areas.sort_by(f64::total_cmp);
            let usual = areas.get(areas.len() / 2).copied().unwrap_or(0.0);
            let coarse = |region: Option<[f64; 4]>| region.is_some_and(|r| area(r) > 1.8 * usual);
            spots.extend(regions.into_iter().enumerate().map(|(row, region)| {
                let frames = prepared.packing.frames(row);
                let last = self.images.len();
                let pictures = (image + frames.start).min(last)..(image + frames.end).min(last);
                Spot { pictures, region, coarse: coarse(region) }
            }));
        }
        spots
    }

    /// All data of the page except the pictures.
    pub(super) fn json(&self) -> Value {
        let round = |x: f64| (x * 100.0).round() / 100.0;
        let spots = self.spots();
        let token = |spot: &Spot| {
            let (first, count) = (spot.pictures.start, spot.pictures.len());
            match spot.region.map(|r| r.map(round)) {
                Some([t, l, b, r]) => json!([first, t, l, b, r, i32::from(spot.coarse), count]),
                None => json!([first]),
            }
        };
        let tokens: Vec<Value> = spots.iter().map(token).collect();
        let sizes: Vec<_> = self.images.iter().map(|i| json!([i.size().0, i.size().1])).collect();
        let policies: Vec<Value> = self.told.iter().map(|told| self.told(told)).collect();
        json!({ "images": sizes, "tokens": tokens, "prompt": self.runs(), "policies": policies })
    }

    /// The prompt: text rows as [row, text], runs of visual rows as [first row, count, true].
    fn runs(&self) -> Vec<Value> {
        let mut runs = Vec::new();
        let roles = &self.prompt.roles.0;
        let mut row = 0;
        while row < roles.len() {
            let count = roles[row..].iter().take_while(|&&r| r == Role::Visual).count();
            runs.push(if count > 0 { json!([row, count, true]) } else { json!([row, self.words[row]]) });
            row += count.max(1);
        }
        runs
    }

    fn told(&self, told: &Told) -> Value {
        let importance = self.importance(told);
        let layers = told.plan.kept.len();
        let decisions = told.plan.decisions.as_ref();
        let of = |f: fn(&crate::policy::LayerScores) -> f64| -> Vec<f64> {
            decisions.map_or(vec![], |d| d.layers.iter().map(f).collect())
        };
        let windows: Vec<Vec<usize>> = decisions.map_or(vec![], |d| {
            let union = |l: &crate::policy::LayerScores| {
                let mut rows: Vec<usize> = l.window.iter().flatten().copied().collect();
                rows.sort_unstable();
                rows.dedup();
                rows
            };
            d.layers.iter().map(union).collect()
        });
        let peaks: Vec<f64> = importance.outer_iter().map(|l| l.iter().copied().fold(0.0, f64::max)).collect();
        let scaled = importance.indexed_iter().map(|((l, _), x)| match peaks[l] {
            peak if peak > 0.0 => (255.0 * x / peak).round() as u8,
            _ => 0,
        });
        json!({
            "name": told.cell.name,
            "retain": told.cell.retain,
            "answer": told.answer,
            "votes": windows.iter().any(|rows| !rows.is_empty()),
            "measures": decisions.is_some_and(|d| d.policy.measures()),
            "layers": layers,
            "budget": decisions.map_or(vec![], |d| d.budget.clone()),
            "strength": of(|l| l.strength),
            "skewness": of(|l| l.skewness),
            "window": windows,
            "into": decisions.map_or(vec![], |d| d.into.iter().map(|&v| if v == NOWHERE { -1 } else { v as i64 }).collect()),
            "peak": peaks,
            "importance": BASE64_STANDARD.encode(scaled.collect::<Vec<u8>>()),
            "kept": BASE64_STANDARD.encode(self.kept(told).iter().map(|x| (255.0 * x).round() as u8).collect::<Vec<u8>>()),
        })
    }

    /// The share of KV heads that keep each visual token: [L, n_v], 0 … 1.
    pub(super) fn kept(&self, told: &Told) -> Array2<f64> {
        let visual = self.prompt.roles.visual();
        let mut share = Array2::zeros((told.plan.kept.len(), visual.len()));
        for (mut share, heads) in share.outer_iter_mut().zip(&told.plan.kept) {
            for kept in heads {
                for (share, row) in share.iter_mut().zip(&visual) {
                    *share += f64::from(u8::from(kept.binary_search(row).is_ok())) / heads.len() as f64;
                }
            }
        }
        share
    }

    /// The importance of each visual token, the mean over kept sets: [L, n_v]; zeros if the policy measures none.
    fn importance(&self, told: &Told) -> Array2<f64> {
        let visual = self.prompt.roles.visual();
        let mut all = Array2::zeros((told.plan.kept.len(), visual.len()));
        let Some(decisions) = told.plan.decisions.as_ref().filter(|d| d.policy.measures()) else { return all };
        for (mut all, layer) in all.outer_iter_mut().zip(&decisions.layers) {
            let (sets, candidates) = layer.importance.dim();
            for (v, x) in all.iter_mut().enumerate() {
                // Under scope all, every prompt row is a candidate.
                let candidate = if candidates == visual.len() { v } else { visual[v] };
                *x = layer.importance.column(candidate).sum() / sets as f64;
            }
        }
        all
    }
}
