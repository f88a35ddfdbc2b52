//! Files of head scores: `split=file:PATH` in a policy becomes `split=heads:FLOOR:SCORES`, so that nothing that is written
//! depends on the path. Not here: what the scores mean. Spec: C9.7b

use aircache::policy::{Decimal, HeadScores};
use aircache::{Error, Result, files};
use std::path::Path;

/// The floor where a policy names none: that of SparseMM's scripts. Spec: E9.22
const FLOOR: &str = "0.1";

/// The largest file of head scores, in bytes.
const MOST: u64 = 64 << 20;

/// The policies of an option, with the scores of the files that they name.
///
/// # Errors
/// A file cannot be read, or does not hold head scores; the error names the option and the file.
pub fn read(option: &str, policies: &str) -> Result<String> {
    let separators = |c| c == ',' || c == ';';
    let word = |word: &str| match word.trim().strip_prefix("split=file:") {
        Some(file) => scores(option, file),
        None => Ok(word.to_string()),
    };
    policies.split_inclusive(separators).try_fold(String::new(), |all, part| {
        let told = part.trim_end_matches(separators);
        Ok(all + &word(told)? + &part[told.len()..])
    })
}

/// `PATH` or `FLOOR:PATH` as `split=heads:FLOOR:SCORES`.
fn scores(option: &str, file: &str) -> Result<String> {
    let (floor, path) = match file.split_once(':') {
        Some((floor, path)) if floor.parse::<Decimal>().is_ok() => (floor, path),
        _ => (FLOOR, file),
    };
    let read = || {
        let text = files::read_text(Path::new(path), "a JSON of head scores", MOST)?;
        HeadScores::from_json(&String::from_utf8_lossy(&text)).map_err(|e| e.within(path))
    };
    let scores = read().map_err(|e: Error| e.within(option))?;
    Ok(format!("split=heads:{floor}:{scores}"))
}
