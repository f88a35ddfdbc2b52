//! The table in `tests/README.md`: a row for every file of tests, and no other.

use std::collections::BTreeSet;
use std::path::Path;

/// Names of the Rust files and folders in a folder of `tests`.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_readme_lists_every_file_of_tests() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = BTreeSet::new();
    for name in names(&tests) {
        let inside = tests.join(&name).join("main.rs");
        match std::fs::read_to_string(&inside) {
            // A program of one test has parts that are no tests.
            Ok(main) if main.contains("#[test]") => drop(files.insert(format!("{name}/main.rs"))),
            Ok(_) => {
                let parts = names(&tests.join(&name)).into_iter().filter(|f| f.ends_with(".rs") && f != "main.rs");
                files.extend(parts.map(|part| format!("{name}/{part}")));
            }
            Err(_) if name.ends_with(".rs") => drop(files.insert(name)),
            Err(_) => {}
        }
    }
    let readme = std::fs::read_to_string(tests.join("README.md")).unwrap();
    let listed: Vec<String> =
        readme.lines().filter_map(|l| Some(l.strip_prefix("| `")?.split_once('`')?.0.to_string())).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), files);
    assert_eq!(listed.len(), files.len(), "a file is listed twice");
}
