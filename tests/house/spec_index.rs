//! The specification, the code and the tests, joined: every label is defined once and cited by both, every citation has its
//! label, every section has its parts. How to read labels: spec/00-reading.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// `E3.5`, or `C3.5a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    chapter: u32,
    number: u32,
    kind: char,
    letter: Option<char>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = self.letter.map_or(String::new(), String::from);
        write!(f, "{}{}.{}{letter}", self.kind, self.chapter, self.number)
    }
}

impl Label {
    /// The label at the start of `text`, and what follows it. `dot` stands between chapter and number.
    fn at(text: &str, kinds: &str, dot: char) -> Option<(Label, usize)> {
        let bytes = text.as_bytes();
        let kind = *bytes.first()? as char;
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let chapter = digits(1);
        let number = digits((1 + chapter + 1).min(bytes.len()));
        let ok = kinds.contains(kind) && (1..=2).contains(&chapter) && (1..=3).contains(&number);
        if !ok || bytes[1 + chapter] as char != dot {
            return None;
        }
        let mut end = 2 + chapter + number;
        let mut letter = bytes.get(end).map(|&b| b as char).filter(char::is_ascii_lowercase);
        end += usize::from(letter.is_some());
        if bytes.get(end).is_some_and(|b| b.is_ascii_alphanumeric()) {
            letter.take();
            return None;
        }
        let parse = |s: &str| s.parse().ok();
        let label = Label {
            chapter: parse(&text[1..1 + chapter])?,
            number: parse(&text[2 + chapter..2 + chapter + number])?,
            kind: kind.to_ascii_uppercase(),
            letter,
        };
        Some((label, end))
    }

    /// All labels that `text` mentions; `E3.6–E3.9` means four, `R3.5a–R3.5d` too.
    fn mentioned(text: &str) -> Vec<Label> {
        let mut found: Vec<Label> = Vec::new();
        let (mut at, mut before, mut range) = (0, ' ', false);
        while let Some(c) = text[at..].chars().next() {
            let start = !before.is_alphanumeric() && before != '.' && before != '_';
            if let Some((label, length)) = Label::at(&text[at..], "EDCRTA", '.').filter(|_| start) {
                match found.last().copied().filter(|_| range) {
                    Some(first) if first.letter.is_some() => {
                        let letters = first.letter.into_iter().chain(label.letter);
                        let (low, high) = (letters.clone().min(), letters.max());
                        found.extend(
                            ('a'..='z')
                                .filter(|c| Some(*c) > low && Some(*c) < high)
                                .map(|c| Label { letter: Some(c), ..label }),
                        );
                    }
                    Some(first) => {
                        found.extend((first.number + 1..label.number).map(|number| Label { number, ..label }));
                    }
                    None => {}
                }
                found.push(label);
                at += length;
                range = text[at..].starts_with('–');
                before = 'x';
            } else {
                range &= c == '–';
                before = c;
                at += c.len_utf8();
            }
        }
        found
    }

    /// The labels at the start of a test's name: `c3_3b_c3_3c_equals_its_twin`.
    fn named(name: &str) -> Vec<Label> {
        let (mut rest, mut found) = (name, Vec::new());
        while let Some((label, length)) = Label::at(rest, "edcrta", '_') {
            found.push(label);
            rest = rest[length..].trim_start_matches('_');
        }
        found
    }
}

/// A section: its label, where it stands, the parts that it has.
struct Section {
    label: Label,
    place: String,
    parts: BTreeSet<String>,
    /// The chapter names the source of all its sections.
    sourced: bool,
}

/// Labels with every place that defines them, and sections.
#[derive(Default)]
struct Spec {
    defined: BTreeMap<Label, Vec<String>>,
    sections: Vec<Section>,
}

/// The words that stand in bold in a line.
fn bold(line: &str) -> impl Iterator<Item = &str> {
    line.split("**").skip(1).step_by(2)
}

impl Spec {
    fn read(text: &str, file: &str, spec: &mut Spec) {
        let sourced = text.contains("Source of the whole chapter");
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", number + 1);
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            if let Some(heading) = line.strip_prefix("### ") {
                let Some((label, _)) = Label::at(heading, "EDTA", '.') else { continue };
                spec.defined.entry(label).or_default().push(place.clone());
                spec.sections.push(Section { label, place, parts: BTreeSet::new(), sourced });
                continue;
            }
            if line.starts_with("## ") {
                continue;
            }
            for word in bold(line) {
                match Label::at(word, "CR", '.') {
                    Some((label, length)) if length == word.len() => {
                        spec.defined.entry(label).or_default().push(place.clone());
                        let part = if label.kind == 'C' { "Constraints" } else { "Rounding sites" };
                        if let Some(section) = spec.sections.last_mut() {
                            section.parts.insert(part.into());
                        }
                    }
                    _ => {
                        if let Some(section) = spec.sections.last_mut() {
                            section.parts.insert(word.trim_end_matches('.').to_string());
                        }
                    }
                }
            }
        }
    }

    fn all() -> Spec {
        let mut spec = Spec::default();
        let mut chapters = files(&root().join("spec"), "md");
        chapters.sort();
        assert!(chapters.len() >= 8, "the chapters are there");
        for path in chapters {
            Spec::read(&read(&path), &shown(&path), &mut spec);
        }
        spec
    }

    /// Whether a citation of `label` is one of a label that is defined; R3.5 is R3.5a and all its brothers.
    fn covers(&self, cited: Label) -> impl Iterator<Item = Label> + '_ {
        self.defined
            .keys()
            .copied()
            .filter(move |l| *l == cited || cited.letter.is_none() && (Label { letter: None, ..*l }) == cited)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of a folder with this ending, and of the folders in it.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found
}

/// Labels that a folder of code cites, with the first place of each.
fn cited(folder: &str, names_only: bool) -> BTreeMap<Label, String> {
    let mut found = BTreeMap::new();
    for path in files(&root().join(folder), "rs") {
        if ["spec_index.rs", "layers.rs"].iter().any(|own| path.ends_with(own)) {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let name = line.trim_start().strip_prefix("fn ").unwrap_or_default();
            let mut labels = Label::named(name);
            if !names_only {
                labels.extend(Label::mentioned(line));
            }
            for label in labels {
                found.entry(label).or_insert_with(|| format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    found
}

fn fail(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_label_is_defined_once() {
    let twice = Spec::all().defined.into_iter().filter(|(_, places)| places.len() > 1);
    fail(twice.map(|(label, places)| format!("{label} is defined at {}", places.join(" and "))).collect());
}

#[test]
fn every_label_is_cited_by_code_and_by_a_test() {
    let spec = Spec::all();
    let mut problems = Vec::new();
    let code = cited("src", false);
    let mut tests = cited("tests", false);
    tests.extend(cited("src", true)); // tests beside the code, by name
    for (what, by) in [("code", code), ("test", tests)] {
        let found: BTreeSet<Label> = by.keys().flat_map(|&l| spec.covers(l)).collect();
        let missing = spec.defined.iter().filter(|(l, _)| !found.contains(l));
        problems.extend(missing.map(|(l, places)| format!("{}: no {what} cites {l}", places[0])));
    }
    fail(problems);
}

#[test]
fn every_citation_has_its_label() {
    let spec = Spec::all();
    let chapters: BTreeSet<u32> = spec.defined.keys().map(|l| l.chapter).collect();
    let all = cited("src", false).into_iter().chain(cited("tests", false));
    let lost = all.filter(|(l, _)| chapters.contains(&l.chapter) && spec.covers(*l).next().is_none());
    fail(lost.map(|(label, place)| format!("{place}: {label} is not in spec/")).collect());
}

#[test]
fn every_section_has_its_parts() {
    let mut problems = Vec::new();
    for section in Spec::all().sections {
        let needed: &[&str] = match section.label.kind {
            'E' => &["Meaning", "Inputs", "Result", "Equation", "Constraints", "Rounding sites", "Example", "Source"],
            'D' | 'T' => &["Meaning", "Source"],
            _ => &["Source's words", "Our reading", "Other reading", "Measured"],
        };
        for part in needed {
            let has = |p: &str| section.parts.iter().any(|have| have.trim_end_matches('s') == p.trim_end_matches('s'));
            let inherited = *part == "Source" && section.sourced;
            if !has(part) && !inherited {
                problems.push(format!("{}: {} lacks **{part}**", section.place, section.label));
            }
        }
    }
    fail(problems);
}

#[test]
fn the_index_reads_labels() {
    let all = |text: &str| Label::mentioned(text).iter().map(Label::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(all("Spec: E3.6–E3.9, (C3.5a); not DE3.5, x.E3.5, E3, E3.5xy, E3."), "E3.6 E3.7 E3.8 E3.9 C3.5a");
    assert_eq!(all("R3.5a–R3.5d and A8.10"), "R3.5a R3.5b R3.5c R3.5d A8.10");
    let named = |name: &str| Label::named(name).iter().map(Label::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(named("c3_3b_c3_3c_equals_its_twin"), "C3.3b C3.3c");
    assert_eq!(named("e8_10_example"), "E8.10");
    assert_eq!(named("every_section"), "");
}
