//! Accuracy against retention: every question under every policy at every retention, from one prefill a question.
//!
//! ```text
//! data      the question file
//! metric    exact match, ANLS, and their 95 % intervals
//! grid      which policies at which retentions
//! answer    one question: a prefill, a plan a cell, a batch of decodes
//! batch     many questions under one policy, side by side
//! journal   answers as they come, so that a killed run goes on where it stopped, and shards merge
//! results   from answers to figures, JSON and a table
//! ```
//!
//! Figures are computed from the answers in the journal alone, in the order of the questions, so that an undisturbed
//! run, a resumed one and merged shards give the same bytes.

mod answer;
mod batch;
mod data;
mod grid;
mod journal;
mod metric;
mod results;

pub use answer::Examiner;
pub use batch::Batch;
pub use data::{Item, Questions};
pub use grid::{Cell, Grid};
pub use journal::{Header, Journal};
pub use metric::{anls, exact_match, mean_interval, wilson};
pub use results::{CellResult, Results};
