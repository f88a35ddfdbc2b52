//! Accuracy against retention: every question with every policy at every retention, with one prefill for each question.
//!
//! ```text
//! data      the question file
//! metric    exact match, ANLS, and their 95 % intervals
//! cells     pairs of policy and retention
//! answer    one question: a prefill, a plan for each cell, a batch of decodes
//! batch     many questions with one policy, side by side
//! journal   every answer at once, so that a killed run continues where it stopped, and shards merge
//! results   the results of the answers, as JSON and as a table
//! ```
//!
//! Results are computed only from the answers in the journal, in the order of the questions. So a complete run, a
//! continued run and merged shards give the same bytes.

mod answer;
mod batch;
mod cells;
mod data;
mod journal;
mod metric;
mod results;

pub use answer::Examiner;
pub use batch::Batch;
pub use cells::{Cell, Cells};
pub use data::{Item, Questions};
pub use journal::{Header, Journal};
pub use metric::{anls, exact_match, mean_interval, wilson};
pub use results::{CellResult, Results};
