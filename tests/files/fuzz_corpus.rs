//! Every seed of the fuzz targets, and every input that once broke something, through the same bodies as the fuzzer runs:
//! `fuzz/seeds/TARGET/*`. No nightly compiler is needed for it.

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

use std::path::Path;

#[test]
fn seeds_and_past_crashes() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, _) in bodies::TARGETS {
        let mut files: Vec<_> = std::fs::read_dir(seeds.join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no seeds");
        for path in files {
            println!("{}", path.display());
            bodies::run(name, &std::fs::read(&path).unwrap());
        }
    }
}

/// Every target has its file for the fuzzer.
#[test]
fn every_target_can_be_fuzzed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in bodies::TARGETS {
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("bodies::run(\"{name}\"")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
