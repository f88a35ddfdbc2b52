//! The table of hashes: this machine reproduces it by every instruction set, and a difference is named.
#![cfg(feature = "cli")]

#[path = "common/cli.rs"]
mod cli;

use aircache::selftest::{TABLE, differences, read};
use cli::Cli;

#[test]
fn this_machine_reproduces_the_table() {
    let result = Cli::new().json(&["selftest", "--json"]);
    assert_eq!(result["verdict"], "pass", "{result:#}");
    let cells = result["cells"].as_array().unwrap();
    assert!(cells.iter().any(|c| c["isa"] == "portable") && cells.iter().all(|c| c["runs"] == 96), "{cells:?}");
}

#[test]
fn what_differs_is_named_by_its_first_stage() {
    let table = read(TABLE).unwrap();
    assert_eq!(table.len(), 96);
    assert_eq!(differences(&table, &table), []);
    let mut other = table.clone();
    other[5].hashes[2] = "x".into();
    other[5].hashes[3] = "y".into();
    other.remove(9);
    let found = differences(&table, &other);
    let (first, second) = (&found[0], &found[1]);
    assert_eq!(
        (found.len(), first.run.as_str(), first.stage, first.got.as_str()),
        (2, table[5].run.as_str(), "kept", "x")
    );
    assert_eq!((second.run.as_str(), second.stage, second.got.as_str()), (table[9].run.as_str(), "input", "none"));
    assert!(read("00 full 1 f32 a b c").is_err());
    // A precision, a policy and a sample each change something.
    let hashes = |i: usize| table.iter().map(|l| &l.hashes[i]).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((hashes(0), hashes(1)), (4, 16));
    assert!(hashes(2) > 16 && hashes(3) > 90);
}
