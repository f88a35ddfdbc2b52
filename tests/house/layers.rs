//! The tree: imports only go down the layers that `src/lib.rs` tells of, never in a circle, and a file holds one thing.

mod circles;

use aircache::stage::{Stage, TABLE};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines a file of `src` may have; past that it has a second noun in it.
const LONGEST: usize = 300;
/// What the file in the middle may have.
const MEDIAN: usize = 130;
/// Files that are longer, and why. None may grow.
const LONGER: [(&str, usize, &str); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Every file of `src`: its path, its module at the top, its text.
fn sources() -> Vec<(String, String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let module = shown.split('/').nth(1).unwrap().trim_end_matches(".rs").to_string();
        (shown, module, std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Module → (layer, place in the row), from the table in `src/lib.rs`.
fn layers() -> BTreeMap<String, (usize, usize)> {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let Ok(layer) = cells[0].parse() {
            for (place, module) in cells[1].split('`').skip(1).step_by(2).enumerate() {
                let twice = found.insert(module.to_string(), (layer, place));
                assert!(twice.is_none(), "{module} stands twice in the table");
            }
        }
    }
    assert!(found.len() >= 20, "the table is there");
    found
}

/// The modules that a text names as `crate::module`, comments left out; `crate::Error` and its like are `error` and `roles`.
fn imports(text: &str) -> impl Iterator<Item = String> + '_ {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match name.as_str() {
            "Error" | "Result" => "error".into(),
            "Role" | "Roles" => "roles".into(),
            _ => name,
        }
    })
}

#[test]
fn every_module_has_a_layer() {
    let layers = layers();
    for (path, module, _) in sources() {
        let known = layers.contains_key(&module) || ["lib", "main"].contains(&module.as_str());
        assert!(known, "{path}: give `{module}` a place in the table of src/lib.rs");
    }
}

#[test]
fn imports_go_down_the_layers() {
    let layers = layers();
    let mut problems = Vec::new();
    for (path, module, text) in sources().into_iter().filter(|(_, m, _)| !["lib", "main"].contains(&m.as_str())) {
        for import in imports(&text).filter(|i| *i != module) {
            match layers.get(&import) {
                Some(at) if *at < layers[&module] => {}
                Some(_) => problems.push(format!("{path}: `{module}` imports `{import}`, which stands no deeper")),
                None => problems.push(format!("{path}: `{import}` has no place in the table of src/lib.rs")),
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Files that need each other, directly or by way of others, cannot be read one after the other.
#[test]
fn imports_make_no_circles() {
    let sources: Vec<_> = sources().into_iter().map(|(path, _, text)| (path, text)).collect();
    let found = circles::circles(&sources);
    let arrows: Vec<_> = found.iter().map(|(_, arrows)| arrows).collect();
    assert!(
        found.is_empty(),
        "files that need each other: {arrows:#?}; move what both sides need into a file below both"
    );
}

/// The parts that must stay testable without a model.
#[test]
fn policies_and_kernels_know_no_model() {
    for (path, module, text) in sources() {
        let forbidden: &[&str] = match module.as_str() {
            "policy" | "cache" => &["weights", "pass", "input", "layer", "decoder", "model", "config"],
            "kernel" => &["weights", "files", "roles"],
            _ => continue,
        };
        for import in imports(&text) {
            assert!(!forbidden.contains(&import.as_str()), "{path} imports `{import}`");
        }
    }
}

/// Whoever needs a stage asks the table for it: no name of a stage stands in the code as text.
#[test]
fn stages_are_named_by_the_table_alone() {
    let parts: BTreeSet<&str> = TABLE.iter().map(|row| row.part).collect();
    // Towers and decoders name the tensors of checkpoints, some of which read alike.
    let tensors = ["stage", "decoder", "vision", "family", "model", "weights"];
    for (path, module, text) in sources().into_iter().filter(|(_, module, _)| !tensors.contains(&module.as_str())) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for word in code.split('"').skip(1).step_by(2) {
            let pieced = parts.iter().any(|part| word.starts_with(&format!("{part}.{{")));
            assert!(Stage::parse(word).is_none() && !pieced, "{path} ({module}) names the stage {word:?}");
        }
    }
}

/// A family is a folder, a short one, and its line in the registry: no other code names it. Comments and examples of the
/// command line may.
#[test]
fn families_stand_in_their_folders() {
    const LINES: usize = 600;
    let squeezed = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let sources = sources();
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, _, text) in &sources {
        let Some((family, _)) = path.strip_prefix("src/family/").and_then(|path| path.split_once('/')) else {
            continue;
        };
        *folders.entry(family).or_default() += text.lines().count();
    }
    assert!(folders.len() >= 3, "{folders:?}");
    for (family, lines) in &folders {
        println!("{family}: {lines} lines");
        assert!(*lines < LINES, "{family} has {lines} lines, {LINES} are too many: what can families share of it?");
        for (path, _, text) in sources.iter().filter(|(path, ..)| !path.starts_with("src/family/")) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.contains("aircache "));
            // InternViT, which is a part, has this `model_type`.
            let named = code.filter(|line| squeezed(&line.replace("internvl_vision", "")).contains(&squeezed(family)));
            let named: Vec<&str> = named.collect();
            assert!(named.is_empty(), "{path} names {family}: {named:#?}");
        }
    }
}

/// What the library neither looks at nor keeps, the words that tell, and the files that are let off, each with its reason.
type World = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);
const WORLD: [World; 5] = [
    (
        "a clock",
        &["Instant", "SystemTime"],
        &[("src/foreign.rs", "work of other people's code is given up after a time")],
    ),
    ("the environment", &["std::env", "env::var", "temp_dir"], &[]),
    ("what the system says", &["\"/proc", "\"/sys"], &[("src/foreign.rs", "and once it has taken too much memory")]),
    (
        "state of the process",
        &["Mutex<", "RwLock<", "OnceLock<", "LazyLock<", "Atomic", "Cell<"],
        &[
            ("src/demo/questions.rs", "a bundled file, read once"),
            ("src/foreign.rs", "whether a panic on this thread becomes an error, for a panic hook"),
            ("src/kernel/tiles/amx.rs", "what processor and system say of the matrix unit, asked once"),
            ("src/kernel/isa.rs", "the instruction set, the one setting of the process"),
            ("src/kernel/pairs.rs", "what the processor says of itself, asked once"),
            ("src/kernel/scratch.rs", "memory of a thread that is used again"),
            ("src/kernel/team.rs", "which threads of a pool wait for work without sleeping"),
        ],
    ),
    ("signals", &["libc::", "signal_hook", "ctrlc::"], &[]),
];

/// The library computes; the binary looks at the world and guards.
#[test]
fn the_library_looks_at_nothing_but_its_arguments() {
    let mut problems = Vec::new();
    let sources = sources();
    for (what, words, let_off) in WORLD {
        let tells = |text: &str| {
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            // State is only what is static: a lock inside a value is that value's.
            let kept = |line: &str| what != "state of the process" || line.trim_start().contains("static ");
            lines.filter(|line| kept(line)).any(|line| words.iter().any(|word| line.contains(word)))
        };
        let library = sources.iter().filter(|(_, module, _)| !["cli", "main"].contains(&module.as_str()));
        let found: Vec<&str> = library.filter(|(.., text)| tells(text)).map(|(path, ..)| path.as_str()).collect();
        let known: Vec<&str> = let_off.iter().map(|(path, _)| *path).collect();
        problems.extend(found.iter().filter(|path| !known.contains(path)).map(|path| format!("{path}: {what}")));
        let idle = known.iter().filter(|path| !found.contains(path));
        problems.extend(idle.map(|path| format!("{path} is let off and does not look at {what}")));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Outputs must not take the place of what is read: `files::NAMES` has to name all of it.
#[test]
fn files_of_a_checkpoint_are_known() {
    let known = aircache::files::NAMES;
    for (path, module, text) in sources() {
        if !["config", "family", "input", "processor", "weights", "model"].contains(&module.as_str()) {
            continue;
        }
        for word in text.split('"').filter(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b))) {
            let read =
                [".json", ".jinja", ".txt", ".model"].iter().any(|end| word.len() > end.len() && word.ends_with(end));
            assert!(!read || known.contains(&word), "{path}: {word} is missing in files::NAMES");
        }
    }
}

#[test]
fn files_are_short() {
    let mut lengths = Vec::new();
    for (path, _, text) in sources() {
        let lines = text.lines().count();
        let allowed = LONGER.iter().find(|(file, ..)| *file == path).map_or(LONGEST, |(_, most, _)| *most);
        assert!(lines <= allowed, "{path} has {lines} lines, {allowed} are allowed: what is its second noun?");
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    println!("{} files, median {median} lines, longest {}", lengths.len(), lengths[lengths.len() - 1]);
    assert!(median <= MEDIAN, "median {median}");
}
