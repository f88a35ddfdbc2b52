//! The kinds of stages, each judged in its own file from plain data: numbers, integers, sets, and what follows from a decision.
//!
//! A decision may differ from the truth's where honest noise could have made it so. That is shown, not guessed: numbers are
//! moved by at most their margin in the candidate's direction, and the rule has to give what the candidate has. Spec: D10.5

pub(super) mod copies;
pub(super) mod integers;
pub(super) mod kept;
pub(super) mod numbers;
mod place;
pub(super) mod shares;
pub(super) mod tokens;
pub(super) mod windows;
