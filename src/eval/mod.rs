//! Accuracy against retention: every question with every policy at every retention, with one prefill for each question.
//!
//! ```text
//! data      the question file
//! metric    scores of answers, as the evaluation kits give them
//! cells     pairs of policy and retention
//! answer    one question: a prefill, a plan for each cell, a batch of decodes
//! batch     many questions with one policy, side by side
//! journal   every answer at once, so that a killed run continues where it stopped, and shards merge
//! graded    the scores of a cell, question by question or group by group
//! score     the mean of a metric, with its error, interval and kinds; stats has the formulas
//! compare   two cells on the same questions
//! results   the results of the answers; table and export write them
//! ```
//!
//! Results are computed only from the answers in the journal, in the order of the questions. So a complete run, a
//! continued run and merged shards give the same bytes.

mod answer;
mod batch;
mod cells;
mod compare;
mod data;
mod export;
mod graded;
mod journal;
mod metric;
mod results;
mod score;
mod stats;

pub use answer::Examiner;
pub use batch::Batch;
pub use cells::{Cell, Cells};
pub use compare::{Difference, sign_test};
pub use data::{Item, Questions};
pub use graded::{Graded, graded};
pub use journal::{Header, Journal};
pub use metric::{Kit, Metric, anls, anls_lmms, exact_match};
pub use results::{CellResult, Results};
pub use score::{MmeSums, Score};
pub use stats::{mean_interval, wilson};
