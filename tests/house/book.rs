//! The README and the book in docs/ do what they say: commands run and print what is shown, links lead somewhere, every chapter
//! is listed, included code is there, pictures come out as they lie there, tables are the code's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The README and every page of the book: name, text.
fn pages() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    paths.sort();
    paths.push(root().join("README.md"));
    assert!(paths.len() > 8, "the book is there");
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// A fenced block: its language, its lines, why it is not run if the comment before it says so.
struct Block {
    place: String,
    language: String,
    body: String,
    skipped: bool,
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let (mut open, mut before) = (false, "");
    for (i, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                let skipped = before.starts_with("<!-- not run: ") && before.ends_with("-->");
                let place = format!("{page}:{}", i + 1);
                found.push(Block { place, language: language.into(), body: String::new(), skipped });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => found.last_mut().unwrap().body += &format!("{line}\n"),
            (None, false) => {}
        }
        before = line;
    }
    assert!(!open, "{page}: a block without an end");
    found
}

/// The words of a command line; single quotes keep spaces, what follows ` #` is a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap();
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        match i % 2 {
            1 => words.push(part.to_string()),
            _ => words.extend(part.split_whitespace().map(String::from)),
        }
    }
    words
}

fn aircache(args: &[String], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aircache")).args(args).current_dir(folder).output().unwrap()
}

/// Runs a command line in `folder`; gives its stdout. A line that ends in `# exit code N` has to end with that code.
fn run(line: &str, folder: &Path, place: &str) -> String {
    let code = line.split_once("# exit code ").map_or(0, |(_, code)| code.parse().unwrap());
    let line = line.replace("cargo run --release -- ", "aircache ");
    let mut words = words(&line);
    assert_eq!(words.first().map(String::as_str), Some("aircache"), "{place}: {line}");
    for word in &mut words {
        if ["src/", "tests/", "docs/"].iter().any(|own| word.starts_with(own)) {
            *word = root().join(&word).display().to_string();
        }
    }
    let done = aircache(&words[1..], folder);
    assert_eq!(done.status.code(), Some(code), "{place}: {line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Whether a line names something of the reader's own.
fn has_placeholder(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| ["DIR", "FILE", "COMMAND", "GOLDEN"].contains(&word))
}

#[test]
fn every_command_runs_and_prints_what_is_shown() {
    let mut ran = BTreeMap::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = pages()
            .into_iter()
            .map(|(page, text)| {
                scope.spawn(move || {
                    let folder = tempfile::tempdir().unwrap();
                    let count = blocks(&page, &text).iter().map(|block| execute(block, folder.path())).sum::<usize>();
                    (page, count)
                })
            })
            .collect();
        ran.extend(runs.into_iter().map(|run| run.join().unwrap()));
    });
    println!("commands run: {ran:?}");
    assert!(ran["README.md"] >= 7 && ran["docs/tour.md"] >= 8 && ran["docs/aircache.md"] >= 4);
}

/// Runs a block's commands; gives how many.
fn execute(block: &Block, folder: &Path) -> usize {
    let Block { place, body, .. } = block;
    if block.skipped {
        return 0;
    }
    let joined = body.replace("\\\n", " ");
    match block.language.as_str() {
        "sh" => {
            let lines: Vec<&str> = joined.lines().filter(|l| !l.trim().is_empty() && !has_placeholder(l)).collect();
            lines.iter().for_each(|line| drop(run(line, folder, place)));
            lines.len()
        }
        "console" => {
            let commands: Vec<&str> = joined.split("$ ").skip(1).collect();
            assert!(joined.starts_with("$ ") && !commands.is_empty(), "{place}: a console block begins with $");
            let mut count = 0;
            for command in commands {
                let (line, shown) = command.split_once('\n').unwrap();
                if line == "cargo test --release" {
                    continue; // which is what runs this
                }
                let printed = run(line, folder, place);
                // A first line of `…` stands for the lines that are left out.
                let same = match shown.strip_prefix("…\n") {
                    Some(end) => printed.ends_with(&format!("\n{end}")),
                    None => shown.is_empty() || printed == shown,
                };
                assert!(same, "{place}: {line} prints\n{printed}not\n{shown}");
                count += 1;
            }
            count
        }
        language => {
            let known = ["text", "python", "json", "diff", "rust", "rust,ignore"];
            assert!(known.contains(&language), "{place}: a block in {language:?}");
            let command = |l: &str| l.starts_with("$ ") || l.starts_with("aircache ") && !has_placeholder(l);
            assert!(language != "text" || !joined.lines().any(command), "{place}: commands belong into sh or console");
            0
        }
    }
}

/// What a heading is called in an address, as GitHub and mdBook do it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Links and pictures of a page.
fn links(text: &str) -> Vec<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let inline = outside.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_string());
    let pictures = outside.split("<img src=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
    inline.chain(pictures).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for (page, text) in pages() {
        let own = root().join(&page);
        for link in links(&text).into_iter().filter(|l| !l.starts_with("https://")) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { own.clone() } else { own.parent().unwrap().join(file) };
            if !target.exists() {
                problems.push(format!("{page}: {link}"));
                continue;
            }
            if heading.is_empty() {
                continue;
            }
            let there = std::fs::read_to_string(&target).unwrap();
            let headings =
                there.lines().filter_map(|l| l.strip_prefix('#')).map(|l| slug(l.trim_start_matches('#').trim()));
            if !headings.collect::<BTreeSet<_>>().contains(heading) {
                problems.push(format!("{page}: {link}: no such heading"));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_chapter_is_listed_once() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed = links(&summary);
    listed.sort();
    let chapters: Vec<String> = pages()
        .into_iter()
        .filter_map(|(page, _)| page.strip_prefix("docs/").map(String::from))
        .filter(|page| page != "SUMMARY.md")
        .collect();
    assert_eq!(listed, chapters);
    // The README, too, says where the book begins.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(links(&readme).iter().any(|l| l.starts_with("docs/SUMMARY.md")));
}

#[test]
fn included_code_is_there() {
    let mut count = 0;
    for (page, text) in pages() {
        for include in text.split("{{#include ").skip(1) {
            let what = include.split("}}").next().unwrap();
            let (file, anchor) = what.split_once(':').unwrap_or_else(|| panic!("{page}: {what}: an anchor"));
            let code = std::fs::read_to_string(root().join(&page).parent().unwrap().join(file)).unwrap();
            let lines: Vec<&str> = code.lines().map(str::trim).collect();
            let at = |mark: &str| lines.iter().position(|l| *l == format!("// {mark}: {anchor}"));
            let (begin, end) = (at("ANCHOR"), at("ANCHOR_END"));
            assert!(begin.is_some() && begin < end, "{page}: {what} is not in {file}");
            count += 1;
        }
    }
    assert!(count >= 8, "{count} pieces of code");
}

#[test]
#[cfg(unix)]
fn pictures_come_out_as_they_lie_there() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_aircache")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut script = Command::new("sh");
    let done = script.arg(root().join("docs/pictures.sh")).arg(folder.path()).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let names = |folder: &Path| -> BTreeSet<String> {
        let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().to_string_lossy().into_owned();
        std::fs::read_dir(folder).unwrap().map(name).collect()
    };
    let committed = root().join("docs/pictures");
    assert_eq!(names(folder.path()), names(&committed));
    for name in names(&committed) {
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert!(read(folder.path()) == read(&committed), "docs/pictures/{name}: run sh docs/pictures.sh docs/pictures");
    }
}

#[test]
fn the_table_of_methods_is_the_codes() {
    use aircache::policy::{Policy, presets};
    let page = std::fs::read_to_string(root().join("docs/methods.md")).unwrap();
    let shown: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
    let parts = |policy: &Policy| policy.parts().into_iter().collect::<BTreeMap<_, _>>();
    let own = parts(&Policy::AIRCACHE);
    let row = |p: &aircache::policy::Preset| {
        let all = parts(&p.policy);
        let of = |part: &str| all[part].clone();
        let differs =
            ["scope", "text", "mask", "split", "evict", "prune"].into_iter().filter(|part| all[part] != own[part]);
        let other = differs.map(|part| format!("`{part}={}`", of(part))).collect::<Vec<_>>().join(" ");
        let or_dash = |text: &str| if text.is_empty() { "–".to_string() } else { text.to_string() };
        format!(
            "| `{}` | `{}` | `{}` | `{}` | `{}` | `{}` | `{}` | {} | {} |",
            p.name,
            of("window"),
            of("score"),
            of("budget"),
            of("keep"),
            of("heads"),
            of("keys"),
            or_dash(&other),
            or_dash(p.source)
        )
    };
    let table: Vec<String> = presets().iter().map(row).collect();
    assert_eq!(shown, table);
    for p in presets().iter().filter(|p| !p.notes.is_empty()) {
        let (name, notes) = (format!(" (`{}`) | ", p.name), format!(" | {} |", p.notes));
        let row = page.lines().find(|line| line.contains(&name) && line.ends_with(&notes));
        let row = row.unwrap_or_else(|| panic!("docs/methods.md has no row |{name}…{notes}"));
        assert!(p.source.split(", ").all(|part| row.contains(part)), "{row}: {}", p.source);
    }
}

/// The shapes of the stages, as a recording of the bundled question has them.
#[test]
fn stages_have_the_shapes_that_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        "aircache record --quiet --no-noise --precision fast --retain 0.1 --max-new-tokens 2 --out b.safetensors";
    run(line, folder.path(), "docs/forward.md");
    let file = std::fs::read(folder.path().join("b.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let page = std::fs::read_to_string(root().join("docs/forward.md")).unwrap();
    let mut compared = 0;
    for row in page.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let told: Vec<Option<usize>> = cells[3].split([';', '×']).map(|n| n.trim().parse().ok()).collect();
        for stage in cells[1].split('`').skip(1).step_by(2) {
            let layer = if stage.starts_with("vision") { "03" } else { "05" };
            let name = stage.replace("LL", layer).replace("TTTT", "0000");
            let tensor = tensors.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
            let shape = tensor.shape().strip_prefix(&[1]).filter(|_| name == "input.pixels").unwrap_or(tensor.shape());
            if told.len() == shape.len() {
                let fits = told.iter().zip(shape).all(|(told, n)| told.is_none_or(|told| told == *n));
                assert!(fits, "{name}: {} is told, {shape:?} is there", cells[3]);
                compared += 1;
            }
        }
    }
    assert!(compared >= 16, "{compared} stages compared");
}

/// The list of open choices is the specification's.
#[test]
fn every_open_choice_of_the_paper_is_listed() {
    let spec = std::fs::read_to_string(root().join("spec/08-aircache.md")).unwrap();
    let label = |line: &str, before: &str| {
        line.strip_prefix(before).filter(|l| l.starts_with("A8.")).map(|l| l.split(' ').next().unwrap().to_string())
    };
    let defined: Vec<String> = spec.lines().filter_map(|l| label(l, "### ")).collect();
    let page = std::fs::read_to_string(root().join("docs/choices.md")).unwrap();
    let listed: Vec<String> = page.lines().filter_map(|l| label(l, "| ")).collect();
    assert!(defined.len() == 13 && listed == defined, "{listed:?}");
}
