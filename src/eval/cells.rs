//! The grid of an evaluation: pairs of policy and retention.

use crate::error::{Error, Result, ensure};
use crate::policy::{Policy, Retain};

/// A policy at a retention.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The policy as written.
    pub name: String,
    /// The policy.
    pub policy: Policy,
    /// The retention as written; `1` for the full cache.
    pub retain: String,
    /// The retention.
    pub fraction: Retain,
}

/// The largest number of cells of a grid; each question is answered once for each cell.
const MOST: usize = 4096;

/// All cells, grouped by policy. The full cache has one cell, at retention 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// The cells, policies in the order given, retentions likewise.
    pub all: Vec<Cell>,
}

impl Cells {
    /// All pairs of a policy and a retention; `full` has one cell only.
    ///
    /// `policies`: names or parts, separated by commas. A part belongs to the policy before it (`snapkv,heads=mean,h2o`
    /// is a list of two policies). A policy that consists of parts alone is separated by semicolons
    /// (`aircache;window=last-text:32,budget=uniform;h2o`). `retain`: decimals separated by commas.
    ///
    /// ```
    /// let cells = aircache::eval::Cells::parse("full,aircache,snapkv,heads=mean", "0.5,0.1")?;
    /// let names: Vec<_> = cells.all.iter().map(|c| format!("{}@{}", c.name, c.retain)).collect();
    /// assert_eq!(names, ["full@1", "aircache@0.5", "aircache@0.1", "snapkv,heads=mean@0.5", "snapkv,heads=mean@0.1"]);
    /// # Ok::<(), aircache::Error>(())
    /// ```
    ///
    /// # Errors
    /// A policy or a retention cannot be read, or occurs twice; there are more than 4096 cells.
    pub fn parse(policies: &str, retain: &str) -> Result<Cells> {
        let retains: Vec<&str> = retain.split(',').map(str::trim).collect();
        let (many, names) = (retains.len(), names(policies));
        let most = format!("at most {MOST} pairs of policy and retention");
        ensure!(many.saturating_mul(names.len()) <= MOST, "--policies, --retain", most, names.len() * many);
        let mut all: Vec<Cell> = Vec::new();
        let full = &crate::policy::preset("full")?.policy;
        for name in names {
            let policy: Policy = name.parse().map_err(|e: Error| e.within("--policies"))?;
            let retains = if policy == *full { &["1"][..] } else { &retains[..] };
            for &retain in retains {
                let fraction = retain.parse().map_err(|e: Error| e.within("--retain"))?;
                let cell = Cell { name: name.clone(), policy: policy.clone(), retain: retain.to_string(), fraction };
                let twice = all.iter().any(|c| c.fraction == fraction && c.policy == policy);
                ensure!(
                    !twice,
                    "--policies, --retain",
                    "each policy and retention once",
                    format!("{name} at {retain} twice")
                );
                all.push(cell);
            }
        }
        ensure!(!all.is_empty(), "--policies", "at least one policy", "none");
        Ok(Cells { all })
    }

    /// The policies, each with the indices of its cells.
    pub(super) fn policies(&self) -> Vec<(Policy, Vec<usize>)> {
        let mut policies: Vec<(Policy, Vec<usize>)> = Vec::new();
        for (i, cell) in self.all.iter().enumerate() {
            match policies.iter_mut().find(|(p, _)| *p == cell.policy) {
                Some((_, places)) => places.push(i),
                None => policies.push((cell.policy.clone(), vec![i])),
            }
        }
        policies
    }
}

/// The policies of a list. A part belongs to the policy before it.
fn names(list: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for group in list.split(';') {
        let mut first = true;
        for word in group.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match names.last_mut() {
                Some(policy) if word.contains('=') && !first => *policy = format!("{policy},{word}"),
                _ => names.push(word.to_string()),
            }
            first = false;
        }
    }
    names
}
