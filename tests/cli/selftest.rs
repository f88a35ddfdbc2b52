//! The table of hashes: this machine reproduces it by every instruction set, and a difference is named.

use crate::common::cli::Cli;
use aircache::kernel::simd::Isa;
use aircache::selftest::{SAMPLES, TABLE, differences, read};
use serde_json::{Value, json};

/// The command by one instruction set; none where this machine lacks it.
fn by(isa: &str, options: &[&str]) -> Option<Value> {
    let cli = Cli::new();
    if !Isa::ALL.into_iter().any(|known| known.name() == isa && known.available()) {
        return None;
    }
    let output = cli.command(&[&["selftest", "--json"], options].concat()).env("AIRCACHE_ISA", isa).output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &result["verdict"]), (Some(0), &json!("pass")), "{result:#}");
    Some(result)
}

/// Every run by the instruction sets that are fast.
#[test]
fn this_machine_reproduces_the_table() {
    for result in ["avx512", "avx2"].into_iter().filter_map(|isa| by(isa, &[])) {
        let (tiles, cells) = result["cells"].as_array().and_then(|cells| cells.split_last()).unwrap();
        assert!(!cells.is_empty() && cells.iter().all(|c| c["runs"] == 240), "{cells:?}");
        let name = if aircache::kernel::tiles::available() { "amx" } else { "tiles" };
        assert!(tiles["isa"] == name && tiles["runs"] == 24, "{tiles}"); // C3.16a
    }
}

/// By the portable kernels the runs on one image: without an instruction for it, each multiply-add is a call into the C library.
#[test]
fn the_portable_kernels_reproduce_the_table() {
    let result = by("portable", &["--samples", SAMPLES[0], "--threads", "1"]).expect("every machine has them");
    let cells = result["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &cells[0]["isa"], &cells[0]["runs"]), (1, &json!("portable"), &json!(24)));
}

/// The same on all images and threads.
#[test]
#[ignore = "takes minutes"]
fn the_portable_kernels_reproduce_the_whole_table() {
    by("portable", &[]).expect("every machine has them");
}

#[test]
fn what_differs_is_named_by_its_first_stage() {
    let table = read(TABLE).unwrap();
    assert_eq!(table.len(), 240);
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
    // A precision, a policy, a sample and a family each change something.
    let hashes = |i: usize| table.iter().map(|l| &l.hashes[i]).collect::<std::collections::BTreeSet<_>>().len();
    // Families that read patches of one size get the same input.
    assert_eq!((hashes(0), hashes(1)), (8, 40));
    assert!(hashes(2) > 16 && hashes(3) > 90);
}
