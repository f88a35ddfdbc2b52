//! Layouts that programs dump stages in. Those that lose nothing are accepted, with a note; the others are named where
//! their shape fails. Spec: D11.12

use super::Bundle;
use super::formats::{SCALE, dequantised};
use crate::stage::{Kind, Site, Stage};
use std::collections::BTreeMap;

/// The candidate with its stages in the layout of T1.2, and a note for each kind of layout that was accepted. vocab: V,
/// if it is known.
pub(super) fn accepted(candidate: &Bundle, vocab: Option<usize>) -> (Bundle, Vec<String>) {
    let (mut bundle, mut notes) = (candidate.again(), vec![]);
    notes.extend(batches(&mut bundle));
    notes.extend(vocabulary(&mut bundle, vocab));
    notes.extend(slots(&mut bundle));
    notes.extend(dequantised(&mut bundle));
    (bundle, notes)
}

/// The number of axes of a stage, where it is one number for every family.
fn axes(bundle: &Bundle, at: Stage) -> Option<usize> {
    let step = |n: usize| if at.is_step() { n - 1 } else { n };
    Some(match at.site {
        Site::Ids | Site::Roles | Site::OutputIds | Site::Logits | Site::StepLogits => 1,
        Site::Query | Site::Key | Site::Value | Site::StepQuery | Site::StepKey | Site::StepValue => step(3),
        Site::Mix | Site::Out | Site::StepMix | Site::StepOut => step(2),
        Site::Embed | Site::Norm | Site::Projected => 2,
        Site::CacheKey | Site::CacheValue => 3,
        // [1, n], or [3, 1, n] of M-RoPE.
        Site::Positions => match bundle.get(&at.name())?.shape {
            [1, _] => 1,
            [3, 1, _] => 2,
            _ => return None,
        },
        _ => return None,
    })
}

/// A batch of 1 in front.
fn batches(bundle: &mut Bundle) -> Option<String> {
    let mut first = None;
    for at in Stage::sorted(bundle.names()) {
        let (name, due) = (at.name(), axes(bundle, at));
        let Some(shape) = bundle.get(&name).map(|t| t.shape.to_vec()) else { continue };
        let batch = usize::from(at.site == Site::Positions && shape.len() == 3);
        if due == Some(shape.len().wrapping_sub(1)) && shape.get(batch) == Some(&1) {
            let mut plain = shape.clone();
            plain.remove(batch);
            bundle.lay(&name, &plain, None);
            first = first.or(Some(format!("a batch of 1 is one sequence: {name} {shape:?} is read as {plain:?}")));
        }
    }
    first
}

/// Logits of a vocabulary that is padded.
fn vocabulary(bundle: &mut Bundle, vocab: Option<usize>) -> Option<String> {
    let vocab = vocab?;
    let mut note = None;
    for at in Stage::sorted(bundle.names()).into_iter().filter(|at| matches!(at.site, Site::Logits | Site::StepLogits))
    {
        let Some(t) = bundle.get(&at.name()) else { continue };
        if let [all] = *t.shape
            && all > vocab
        {
            let kept = t.data[..t.data.len() / all * vocab].to_vec();
            bundle.lay(&at.name(), &[vocab], Some((t.dtype, kept)));
            note = Some(format!(
                "logits of {all} tokens: the {} beyond the vocabulary of {vocab} are padding",
                all - vocab
            ));
        }
    }
    note
}

/// Entries of a cache in the order of their slots, as `cache.LL.positions` tells them.
fn slots(bundle: &mut Bundle) -> Option<String> {
    let mut note = None;
    let prompt = Stage::once(Site::Positions).name();
    let linear = bundle.get(&prompt).map(|t| t.shape.len() == 1);
    let prompt: Option<Vec<i64>> =
        linear.and_then(|_| bundle.i64(&prompt).ok()).map(|positions| positions.into_iter().collect());
    for at in Stage::sorted(bundle.names()).into_iter().filter(|at| at.site == Site::CachePositions) {
        let name = at.name();
        let Ok(positions) = bundle.i64(&name) else { continue };
        let shape = positions.shape().to_vec();
        let Some(&len) = shape.last() else { continue };
        let heads = [Site::CacheKey, Site::CacheValue]
            .iter()
            .find_map(|&site| bundle.get(&Stage::layer(site, at.layer).name())?.shape.first().copied());
        let lists = positions.len() / len.max(1);
        let axes = match (shape.len(), linear, heads) {
            (1, ..) => 1,
            (2, Some(true), _) => 1,
            (2, Some(false), _) => 3,
            (2, None, Some(heads)) if heads == lists && lists != 3 => 1,
            (2, None, _) if lists == 3 && heads != Some(3) => 3,
            (3, ..) => 3,
            _ => continue,
        };
        let own = lists / axes; // lists of entries: 1, or one a head
        let all: Vec<i64> = positions.into_iter().collect();
        let place = |list: usize, e: usize| (0..axes).map(|a| all[(a * own + list) * len + e]).collect::<Vec<i64>>();
        // Positions of M-RoPE need not rise from row to row: text may stand beside a clip that has not ended.
        let rows = prompt.as_ref().and_then(|prompt| {
            let n = prompt.len() / axes;
            let rows = (0..n).map(|r| ((0..axes).map(|a| prompt[a * n + r]).collect::<Vec<i64>>(), r as i64));
            Some(rows.collect::<BTreeMap<_, _>>()).filter(|rows| rows.len() == n)
        });
        if rows.is_none() && axes > 1 {
            continue;
        }
        let key = |list: usize, e: usize| match &rows {
            Some(rows) => rows.get(&place(list, e)).copied().unwrap_or(i64::MAX),
            None => place(list, e)[0],
        };
        let order: Vec<Vec<usize>> = (0..own)
            .map(|list| {
                let mut order: Vec<usize> = (0..len).collect();
                order.sort_by_key(|&e| key(list, e));
                order
            })
            .collect();
        let distinct =
            |(list, order): (usize, &Vec<usize>)| order.windows(2).all(|w| key(list, w[0]) != key(list, w[1]));
        if own == 0 || order.iter().all(|o| o.is_sorted()) || !order.iter().enumerate().all(distinct) {
            continue;
        }
        reorder(bundle, &name, true, &order, len);
        for site in [Site::CacheKey, Site::CacheValue] {
            let name = Stage::layer(site, at.layer).name();
            reorder(bundle, &name, false, &order, len);
            reorder(bundle, &format!("{name}{SCALE}"), false, &order, len);
        }
        note = note.or(Some(format!("{name} are not in order: entries are read in the order of their positions")));
    }
    note
}

/// Puts the entries of one tensor in order. order: for each list of entries, or one for all.
fn reorder(bundle: &mut Bundle, name: &str, is_positions: bool, order: &[Vec<usize>], len: usize) {
    let Some(t) = bundle.get(name) else { return };
    let (dtype, shape) = (t.dtype, t.shape.to_vec());
    let lists = if is_positions { t.numbers() / len } else { shape.first().copied().unwrap_or(1) };
    if lists == 0 || len == 0 || (!is_positions && (shape.len() < 2 || shape[1] != len)) {
        return;
    }
    let size = t.data.len() / (lists * len);
    let data: Vec<u8> = (0..lists)
        .flat_map(|list| {
            let at = move |e: usize| (list * len + e) * size;
            order[list % order.len()].iter().flat_map(move |&e| t.data[at(e)..at(e) + size].iter().copied())
        })
        .collect();
    bundle.lay(name, &shape, Some((dtype, data)));
}

/// What a shape that does not fit suggests. got, due: the candidate's shape and T1.2's. Spec: C10.4a, D11.12
pub(super) fn suggests(candidate: &Bundle, name: &str, got: &[usize], due: &[usize]) -> String {
    let product = |sides: &[usize]| sides.iter().product::<usize>();
    let sorted = |sides: &[usize]| {
        let mut sides = sides.to_vec();
        sides.sort_unstable();
        sides
    };
    let at = Stage::parse(name);
    if let ([a, b, c], [x, y, z]) = (got, due)
        && [a, b, c] == [y, x, z]
    {
        return "; the first two axes are exchanged: it lies as [n, heads, d_h]".into();
    }
    if let ([n, wide], [h, rows, d]) = (got, due)
        && n == rows
        && *wide == h * d
    {
        return "; the heads lie side by side, [n, heads · d_h]: reshape and transpose".into();
    }
    if let ([h, rows, d], [n, wide]) = (got, due)
        && rows == n
        && *wide == h * d
    {
        return "; the heads lie apart, [heads, n, d_h]: put them side by side".into();
    }
    if at.is_some_and(|at| at.site == Site::Logits) && got.len() == 2 && got.last() == due.last() {
        return format!("; these are the logits of {} rows: give those of the prompt's last row", got[0]);
    }
    if got.len() == due.len() + 1 && got[1..] == *due {
        return match got[0] {
            1 => "; one more size of 1: is it a batch axis?".into(),
            b => format!("; a batch of {b}: give the stages of one sequence"),
        };
    }
    if let ([blocks, sides @ .., d], [heads, rows, width]) = (got, due)
        && d == width
        && sides.len() == 2
        && sides.contains(heads)
        && blocks * product(sides) >= heads * rows
    {
        return "; these are blocks of a paged cache: gather them by their table (`python -m aircache import paged`)"
            .into();
    }
    if sorted(got) == sorted(due) {
        return "; the sizes are in another order: is it transposed?".into();
    }
    let differ: Vec<usize> = (0..due.len()).filter(|&i| got.get(i) != due.get(i)).collect();
    if let ([axis], true) = (&differ[..], got.len() == due.len()) {
        return one_side(candidate, name, *axis, got, due);
    }
    let squeezed: Vec<usize> = got.iter().copied().filter(|&s| s != 1).collect();
    if squeezed == due {
        return "; one more size of 1: is it a batch axis?".into();
    }
    if product(got) == product(due) && product(due) > 0 {
        return "; as many numbers in another shape".into();
    }
    String::new()
}

/// What it suggests that one side differs.
fn one_side(candidate: &Bundle, name: &str, axis: usize, got: &[usize], due: &[usize]) -> String {
    let (own, want) = (got[axis], due[axis]);
    let parts = |of: usize, part: usize| part > 0 && of > part && of.is_multiple_of(part) && of / part <= 16;
    let rows = axis + 2 == due.len() || due.len() == 1;
    if !rows && parts(want, own) || axis + 1 == due.len() && due.len() > 1 && parts(want, own) {
        return format!("; 1/{} of it: one rank of a tensor-parallel run? join the ranks", want / own);
    }
    if axis == 0 && due.len() == 3 && parts(own, want) {
        return format!("; every head is there {} times: keys and values repeated for their query heads", own / want);
    }
    if rows && own > want {
        let pad = own - want;
        if let Some(end) = padding(candidate, name, axis, got, pad) {
            return format!("; {pad} rows of padding at the {end}: leave them out");
        }
    }
    "; one size differs: another number of rows or heads".into()
}

/// Where rows of padding are: all equal to one another, all zeros, or NaN.
fn padding(candidate: &Bundle, name: &str, axis: usize, shape: &[usize], pad: usize) -> Option<&'static str> {
    let is_number = Stage::parse(name).is_some_and(|at| at.row().kind == Kind::Numbers);
    let values: Vec<f64> = match is_number {
        true => candidate.flat(name).ok()?,
        false => candidate.i64(name).ok()?.iter().map(|&v| v as f64).collect(),
    };
    let (n, width) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let row = |i: usize| &values[i * width..(i + 1) * width];
    let bits = |i: usize| row(i).iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
    let same = |rows: std::ops::Range<usize>| {
        let first = bits(rows.start);
        let idle = row(rows.start).iter().all(|v| v.is_nan() || *v == 0.0);
        (idle || pad > 1) && rows.clone().all(|i| bits(i) == first)
    };
    match (same(0..pad), same(n - pad..n)) {
        (true, false) => Some("start"),
        (false, true) => Some("end"),
        _ => None,
    }
}
