//! The largest drift of a stage along a direction. Spec: E10.10

use super::fit::{Drift, Fit, Products};
use super::measure::{Errors, Layout};
use super::rulers::{DRIFT, constant};
use crate::pass::{Aside, Branch, Precision};

/// The drift of another way counts as far as it is larger than this many of its standard errors. Spec: E10.10
const BY_CHANCE: f64 = 3.0;
/// A drift is a finding if it is at least this share of the noise: for all columns together, for one column.
/// Spec: E10.10
pub(super) const LEAST: [f64; 2] = [1.0 / 128.0, 1.0 / 8.0];

/// Whether a drift is larger than a type's usual drift: in itself, and compared with the noise of this many numbers.
/// Spec: E10.10
pub(super) fn large((a, size): (f64, f64), least: f64, share: f64, numbers: f64) -> bool {
    a.abs() >= least && a.abs() * (size / numbers).sqrt() >= share
}

/// The largest drift along the truth, ε, attention or MLP: in all columns together, or in one column. What the other
/// ways drift by in the same columns is allowed for. Spec: E10.10
pub(super) fn strongest(
    aside: Option<Aside>,
    precision: Precision,
    layout: Layout,
    noise: &Errors,
    sums: &Products<'_>,
    others: &[Products<'_>],
) -> Option<Drift> {
    let u = constant(precision);
    let (name, least) = match aside {
        None => ("the truth", u),
        Some(Aside::Branch(Branch::Attention)) => ("the output of attention", u),
        Some(Aside::Branch(Branch::Mlp)) => ("the output of the MLP", u),
        Some(_) => ("1 / (size of a row): does a norm have another ε?", u / 4.0),
    };
    let rows = layout.rows as f64;
    let drift = |along: String, fit: Fit, other: &dyn Fn(&Products<'_>) -> Option<Fit>| {
        let beyond = |fit: Fit| (fit.a.abs() - BY_CHANCE * fit.ruler()).max(0.0);
        let habit = others.iter().filter_map(other).map(beyond).fold(0.0, f64::max);
        Drift { along, error: fit.a.abs(), ruler: fit.ruler() + habit / DRIFT }
    };
    let all = sums.all(&noise.scale).filter(|fit| large((fit.a, fit.size), least, LEAST[0], rows * sums.width as f64));
    let columns = if aside == Some(Aside::Epsilon) { vec![] } else { sums.columns(&noise.scale) };
    let columns = columns.into_iter().enumerate().filter(|(_, column)| large(*column, least, LEAST[1], rows));
    let one = columns.filter_map(|(c, _)| {
        let fit = sums.column(c, noise.scale[c])?;
        let words = format!("{name}, in column {}: {:.4} times", c % layout.width, 1.0 + fit.a);
        Some(drift(words, fit, &|other| other.column(c, noise.scale[c])))
    });
    let all = all.map(|fit| drift(name.to_string(), fit, &|other| other.all(&noise.scale)));
    all.into_iter().chain(one).max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
}
