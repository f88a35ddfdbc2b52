//! The kinds of stages. Each file judges one kind from plain data: numbers, integers, sets, and stages that follow from
//! a decision.
//!
//! A decision may differ from the truth's if honest noise could have caused the difference. This is shown, not guessed:
//! numbers move by at most their margin in the candidate's direction, and the rule then has to give the candidate's
//! decision. Spec: D10.5

pub(super) mod copies;
mod decide;
pub(super) mod integers;
pub(super) mod kept;
mod merges;
pub(super) mod numbers;
mod place;
pub(super) mod pruned;
pub(super) mod raters;
pub(super) mod scores;
pub(super) mod shares;
mod spread;
pub(super) mod tokens;
pub(super) mod windows;
pub(super) mod zip;
