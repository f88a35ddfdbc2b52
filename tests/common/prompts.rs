//! Small prompts for the policy chapters: roles from a pattern, queries and keys by hand or at random.

use aircache::num::Real;
use aircache::policy::{Future, LayerScores, Observed, Plan, Policy, Retain, SINKS, Scorer, skewness, strength};
use aircache::{Result, Role, Roles};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;

/// `"TVVT"` → roles.
pub fn roles(pattern: &str) -> Roles {
    Roles(pattern.chars().map(|c| if c == 'V' { Role::Visual } else { Role::Text }).collect())
}

pub fn policy(written: &str) -> Policy {
    written.parse().unwrap_or_else(|e| panic!("{written}: {e}"))
}

pub fn retain(written: &str) -> Retain {
    written.parse().unwrap()
}

/// A prompt with all its queries and keys.
#[derive(Debug, Clone)]
pub struct Prompt<T = f64> {
    pub roles: Roles,
    /// [L] of [H, n, d]
    pub q: Vec<Array3<T>>,
    /// [L] of [G, n, d]
    pub k: Vec<Array3<T>>,
    /// [L] of [G, n, d]
    pub v: Vec<Array3<T>>,
}

impl<T: Real> Prompt<T> {
    /// One layer, one head of size 1.
    pub fn one(pattern: &str, q: &[f64], k: &[f64]) -> Self {
        let array = |v: &[f64]| Array3::from_shape_vec((1, v.len(), 1), v.iter().map(|&x| T::of(x)).collect()).unwrap();
        Prompt::of(roles(pattern), vec![array(q)], vec![array(k)])
    }

    /// A prompt whose values are its keys, with rows in reverse order.
    pub fn of(roles: Roles, q: Vec<Array3<T>>, k: Vec<Array3<T>>) -> Self {
        let v = k.iter().map(|k| k.slice(ndarray::s![.., ..;-1, ..]).to_owned()).collect();
        Prompt { roles, q, k, v }
    }

    /// The scores of each layer, computed from only the queries that the policy needs.
    pub fn observe(&self, policy: &Policy) -> Result<Vec<LayerScores>> {
        let scorer = Scorer::new(policy, &self.roles)?;
        let rows = scorer.rows().to_vec();
        let layers = self.q.iter().zip(&self.k).zip(&self.v).enumerate();
        layers
            .map(|(l, ((q, k), v))| {
                let received = policy.needs_received().then(|| aircache::policy::received(q.view(), k.view()));
                let few = q.select(Axis(1), &rows);
                let received = received.as_ref().map(|r| r.view());
                let future = policy.needs_future().map(|_| self.future(l));
                let (v, future) = (Some(v.view()), future.as_ref());
                scorer.observe(l, &Observed { q: few.view(), rows: &rows, k: k.view(), received, v, future })
            })
            .collect()
    }

    /// The mean and the covariance of a layer's queries from row 4 on, by the definition, without a turn.
    pub fn future(&self, l: usize) -> Future<T> {
        let (heads, n, d) = self.q[l].dim();
        let m = n.saturating_sub(SINKS).max(1) as f64;
        let q = |h: usize, i: usize, c: usize| self.q[l][[h, i, c]].to_f64();
        let over = |f: &dyn Fn(usize) -> f64| (SINKS.min(n)..n).map(f).sum::<f64>() / m;
        let mean = Array2::from_shape_fn((heads, d), |(h, c)| over(&|i| q(h, i, c)));
        let off = |h: usize, i: usize, c: usize| q(h, i, c) - mean[[h, c]];
        let covariance =
            Array3::from_shape_fn((heads, d, d), |(h, a, b)| T::of(over(&|i| off(h, i, a) * off(h, i, b))));
        Future { mean: mean.mapv(T::of), covariance }
    }

    pub fn plan(&self, policy: &Policy, retain: Retain) -> Result<Plan> {
        Ok(Scorer::new(policy, &self.roles)?.decide(retain, &self.observe(policy)?))
    }
}

impl Prompt {
    /// The queries, keys and values of a seed, as the scripts that drive public code have them: multiples of 1/64, exact in
    /// every type. sizes: H, G, d_h; queries: a factor of the queries.
    pub fn seeded(seed: u64, roles: Roles, layers: usize, [heads, kv_heads, dim]: [usize; 3], queries: f64) -> Self {
        let (mut state, n) = (seed, roles.len());
        let mut take = |heads: usize, scale: f64| {
            Array3::from_shape_simple_fn((heads, n, dim), || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (((state >> 40) % 385) as f64 - 192.0) / 64.0 * scale
            })
        };
        let mut prompt = Prompt { roles, q: vec![], k: vec![], v: vec![] };
        for l in 0..layers {
            prompt.q.push(take(heads, (1 + l) as f64 / 2.0 * queries));
            prompt.k.push(take(kv_heads, 1.0));
            prompt.v.push(take(kv_heads, 1.0));
        }
        prompt
    }
}

/// Example scores of a layer: these importances, one kept set, an empty window.
pub fn said(importance: &[f64]) -> LayerScores {
    LayerScores {
        kv_heads: 1,
        window: vec![vec![]],
        importance: Array2::from_shape_vec((1, importance.len()), importance.to_vec()).unwrap(),
        strength: strength(importance),
        skewness: skewness(importance),
        spread: 1.0,
        weights: vec![1.0],
    }
}

/// The plan for visual tokens whose layers have these scores, without text.
pub fn decide(written: &str, r: &str, layers: &[LayerScores]) -> Plan {
    let n = layers[0].importance.ncols();
    let roles = Roles([vec![Role::Visual; n], vec![Role::Text]].concat());
    Scorer::new(&policy(written), &roles).unwrap().decide(retain(r), layers)
}

pub fn budget(plan: &Plan) -> Vec<usize> {
    plan.decisions.as_ref().unwrap().budget.clone()
}

/// The kept candidates of layer 0, kept set 0.
pub fn kept(plan: &Plan) -> Vec<usize> {
    plan.decisions.as_ref().unwrap().kept[0][0].clone()
}

/// Random prompts: text before and after 1–14 visual tokens, 1–4 layers, 1–3 KV heads of 1–2 query heads, size 1–5;
/// some keys repeat, so that there are ties.
pub fn prompts() -> impl Strategy<Value = Prompt> {
    (0..4usize, 1..15usize, 1..12usize, 1..5usize, 1..4usize, 1..3usize, 1..6usize, any::<u64>()).prop_map(
        |(before, n_v, after, layers, kv_heads, group, d, seed)| {
            let n = before + n_v + after;
            let mut state = seed;
            let mut normal = move || {
                let mut uniform = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 11) as f64 / (1u64 << 53) as f64
                };
                (0..4).map(|_| uniform()).sum::<f64>() - 2.0
            };
            let mut array = |heads: usize, scale: f64| {
                let mut a = Array3::from_shape_simple_fn((heads, n, d), || scale * normal());
                if scale == 1.0 && n_v > 3 {
                    let first = a.index_axis(Axis(1), before).to_owned();
                    a.index_axis_mut(Axis(1), before + 3).assign(&first);
                }
                a
            };
            let q = (0..layers).map(|l| array(kv_heads * group, 0.5 + 2.0 * l as f64)).collect();
            let k = (0..layers).map(|_| array(kv_heads, 1.0)).collect();
            Prompt::of(roles(&["T".repeat(before), "V".repeat(n_v), "T".repeat(after)].concat()), q, k)
        },
    )
}

/// Retentions as a user writes them.
pub fn retentions() -> impl Strategy<Value = Retain> {
    prop_oneof![
        prop::sample::select(vec!["1", "0.9", "0.5", "1e-1", "0.3333333333333333", "0.02", "0.001"]).prop_map(retain),
        (1..20usize).prop_map(|t| Retain::tokens(t).unwrap()),
    ]
}
