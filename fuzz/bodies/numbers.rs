//! Policies on arbitrary scores, retentions, rounding to a type, and kernels against their naive twins.

use super::Bytes;
use aircache::eval::Cells;
use aircache::kernel::{
    Elements, HeadView, MatrixView, Visible, attention, linear, naive, push_key, rms_norm, softmax,
};
use aircache::num::{Grid, Real};
use aircache::policy::{Decimal, Observed, Plan, Policy, Retain, apportion, compress};
use aircache::{Role, Roles};
use half::{bf16, f16};
use ndarray::{Array2, Array3};

const GRIDS: [Grid; 3] = [Grid::Native, Grid::Bf16, Grid::F16];

/// Checks the promises of every plan: rows of the prompt in ascending order, and budgets that the plan respects.
pub fn lawful(plan: &Plan) {
    for rows in plan.kept.iter().flatten() {
        assert!(rows.windows(2).all(|r| r[0] < r[1]) && rows.last().is_none_or(|&r| r < plan.rows), "{rows:?}");
    }
    let Some(d) = &plan.decisions else { return };
    for (budget, sets) in d.budget.iter().zip(&d.kept) {
        assert!(sets.iter().all(|set| set.windows(2).all(|s| s[0] < s[1])));
        let union = d.policy.heads == aircache::policy::Heads::Union;
        let even = d.policy.split == aircache::policy::Split::Even;
        assert!(union || !even || sets.iter().all(|set| set.len() == *budget), "{budget} of {sets:?}");
        assert_eq!(sets.iter().map(Vec::len).sum::<usize>(), budget * sets.len(), "{budget} in the mean of {sets:?}");
    }
}

/// Any valid policy, on queries and keys with arbitrary bits.
pub fn policy(data: &[u8]) {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (text, rest) = (String::from_utf8_lossy(&data[..at]), data.get(at + 1..).unwrap_or_default());
    let Ok(policy) = text.parse::<Policy>() else { return };
    assert_eq!(policy.to_string().parse::<Policy>().as_ref().ok(), Some(&policy), "written and read again: {policy}");
    let mut bytes = Bytes(rest);
    let (n, heads, kv, d, layers) =
        (1 + bytes.below(24), 1 + bytes.below(3), 1 + bytes.below(2), 1 + bytes.below(5), 1 + bytes.below(3));
    let role = |b: &mut Bytes<'_>| if b.u8().is_multiple_of(3) { Role::Text } else { Role::Visual };
    let roles = Roles((0..n).map(|_| role(&mut bytes)).collect());
    let tame = bytes.u8() % 4 > 0;
    let array = |b: &mut Bytes<'_>, heads: usize| {
        Array3::from_shape_vec((heads, n, d), b.f32s(heads * n * d, tame)).expect("as many numbers")
    };
    let qk: Vec<_> = (0..layers).map(|_| (array(&mut bytes, heads * kv), array(&mut bytes, kv))).collect();
    let rows: Vec<usize> = (0..n).collect();
    let seen: Vec<_> = qk
        .iter()
        .map(|(q, k)| Observed {
            q: q.view(),
            rows: &rows,
            k: k.view(),
            received: None,
            v: Some(k.view()),
            future: None,
        })
        .collect();
    let retain = match bytes.u8() % 2 {
        0 => Retain::tokens(1 + bytes.below(30)),
        _ => format!("0.{:03}", 1 + bytes.below(999)).parse(),
    };
    let retain = retain.expect("a retention");
    let Ok(plan) = compress(&policy, retain, &seen, &roles) else { return };
    assert_eq!(plan.kept.len(), layers);
    lawful(&plan);
    let text = roles.text();
    if policy.scope == aircache::policy::Scope::Visual {
        for rows in plan.kept.iter().flatten() {
            assert!(text.iter().all(|row| rows.binary_search(row).is_ok()), "text stays");
        }
    }
}

/// Grids of policies and retentions as text; exact shares of arbitrary weights.
pub fn grid(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (policies, retain) = text.split_once('\n').unwrap_or((&text, "0.5"));
    if let Ok(cells) = Cells::parse(policies, retain) {
        assert!(!cells.all.is_empty());
        let again = Cells::parse(policies, retain).expect("read once");
        assert_eq!(cells, again);
    }
    if let Ok(retain) = text.parse::<Retain>() {
        let total = retain.total(464, 6);
        assert!(total <= 464 * 6, "{text} keeps {total}");
        let shown: Retain = retain.to_string().parse().expect("written as it is read");
        assert_eq!(shown.total(464, 6), total);
    }
    if let Ok(decimal) = text.parse::<Decimal>() {
        assert!(decimal.denominator() > 0);
    }
    let mut bytes = Bytes(data);
    let weights: Vec<f64> = (0..1 + bytes.below(9)).map(|_| f64::from(bytes.f32(true).abs())).collect();
    let candidates = 1 + bytes.below(300);
    let retain: Retain = format!("0.{:04}", 1 + bytes.below(9999)).parse().expect("a retention");
    let given = apportion(&weights, retain, candidates);
    let total = retain.total(candidates, weights.len());
    assert!(given.iter().all(|&n| n <= candidates), "{weights:?}, {retain} of {candidates}: {given:?}");
    assert_eq!(given.iter().sum::<usize>(), total, "{weights:?}, {retain} of {candidates}: {given:?}");
}

/// Rounding to bf16 and f16 equals the rounding of the crate `half`; one number at a time equals all numbers at once.
pub fn rounding(data: &[u8]) {
    let mut bytes = Bytes(data);
    let all = bytes.f32s(data.len().div_ceil(4).min(64), false);
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for grid in GRIDS {
        let mut at_once = all.clone();
        grid.round_all(&mut at_once);
        for (&x, &rounded) in all.iter().zip(&at_once) {
            let want = match grid {
                Grid::Native => x,
                Grid::Bf16 => bf16::from_f32(x).to_f32(),
                Grid::F16 => f16::from_f32(x).to_f32(),
            };
            assert!(
                same(grid.round(x), want) && same(rounded, want),
                "{x:e} to {grid:?}: {} or {rounded}",
                grid.round(x)
            );
        }
    }
}

/// Kernels and their twins give the same bits.
pub fn kernels(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (rows, inputs, outputs) = (1 + bytes.below(28), 1 + bytes.below(70), 1 + bytes.below(20));
    let tame = bytes.u8() % 8 > 0;
    let x = Array2::from_shape_vec((rows, inputs), bytes.f32s(rows * inputs, tame)).expect("as many numbers");
    let w = bytes.f32s(outputs * inputs, tame);
    let bias = bytes.f32s(outputs, tame);
    let stored: Vec<bf16> = w.iter().map(|&w| bf16::from_f32(w)).collect();
    let wide: Vec<f32> = stored.iter().map(|w| w.to_f32()).collect();
    for (values, wide) in [(Elements::F32(&w), &w), (Elements::Bf16(&stored), &wide)] {
        let fast = linear(x.view(), MatrixView { values, rows: outputs, cols: inputs }, Some(&bias));
        let matrix = Array2::from_shape_vec((outputs, inputs), wide.clone()).expect("as many numbers");
        same(fast.iter(), naive::linear(x.view(), matrix.view(), Some(&bias)).iter(), tame, "linear");
    }
    for row in x.outer_iter() {
        let mut p = row.to_vec();
        softmax(&mut p);
        same(p.iter(), naive::softmax(&row.to_vec()).iter(), tame, "softmax");
    }
    let norm = &w[..inputs];
    for grid in GRIDS {
        let fast = rms_norm(x.view(), norm, 1e-6, [grid, Grid::Native]);
        for (fast, row) in fast.outer_iter().zip(x.outer_iter()) {
            same(fast.iter(), naive::rms_norm(&row.to_vec(), norm, 1e-6, grid).iter(), tame, "rms_norm");
        }
    }
    attends(&mut bytes, tame);
}

fn attends(bytes: &mut Bytes<'_>, tame: bool) {
    let (d, kv, group) = (1 + bytes.below(20), 1 + bytes.below(2), 1 + bytes.below(3));
    let (rows, before) = (1 + bytes.below(12), bytes.below(40));
    let len = rows + before;
    let width = kv * group * d;
    let q = Array2::from_shape_vec((rows, width), bytes.f32s(rows * width, tame)).expect("as many numbers");
    let head = |b: &mut Bytes<'_>| Array2::from_shape_vec((len, d), b.f32s(len * d, tame)).expect("as many numbers");
    let heads: Vec<_> = (0..kv).map(|_| (head(bytes), head(bytes))).collect();
    let keys: Vec<Vec<f32>> = heads
        .iter()
        .map(|(k, _)| {
            let mut keys = Vec::new();
            k.outer_iter().enumerate().for_each(|(i, row)| push_key(&mut keys, i, row.iter().copied()));
            keys
        })
        .collect();
    let views: Vec<_> = keys
        .iter()
        .zip(&heads)
        .map(|(keys, (_, v))| HeadView { keys, values: v.as_slice().expect("in one piece") })
        .collect();
    let causal = bytes.u8().is_multiple_of(2);
    let visible = if causal { Visible::Causal } else { Visible::All };
    for grid in GRIDS {
        let flat = q.as_slice().expect("in one piece");
        let mix = attention(flat, kv * group, &views, d, visible, grid, None);
        let (want, _) = naive::attention(q.view(), &heads, causal, grid);
        same(mix.iter(), want.iter(), tame, "attention");
    }
}

/// Checks that the bits are the same; only the sign of a NaN may differ, because wild inputs may give NaN of another
/// sign.
fn same<'a, T: Real>(a: impl Iterator<Item = &'a T>, b: impl Iterator<Item = &'a T>, tame: bool, what: &str) {
    for (a, b) in a.zip(b) {
        let (a, b) = (a.to_f64(), b.to_f64());
        assert!(a.to_bits() == b.to_bits() || !tame, "{what}: {a:e} or {b:e}");
    }
}
