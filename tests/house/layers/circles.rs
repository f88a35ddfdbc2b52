//! Import circles: files of `src` that need each other, directly or by way of others.
//!
//! A file needs another if a path in its code ends there: `use super::x`, `crate::folder::x`, `super::x::y`, `child::y`. A name that
//! a file only passes on (`pub use`) counts for whoever takes it, and leads to the file that defines it. So a `mod.rs`
//! needs its children only if its own code names them.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path from the crate's root: `["kernel", "simd"]`.
type Module = Vec<String>;

/// A path that stands in a file's code.
struct Named {
    /// From the crate's root.
    path: Module,
    /// What it is called in this file.
    name: String,
    /// Whether it stands in a `use`, and in a public one.
    used: bool,
    passed_on: bool,
}

/// Groups of files that can reach each other, each with the arrows inside it. sources: path and text of each file.
pub fn circles(sources: &[(String, String)]) -> Vec<(Vec<String>, Vec<String>)> {
    let modules: BTreeMap<Module, usize> = sources.iter().enumerate().map(|(i, (path, _))| (module(path), i)).collect();
    let tokens: Vec<Vec<&str>> = sources.iter().map(|(_, text)| tokens(text)).collect();
    let named: Vec<Vec<Named>> =
        sources.iter().zip(&tokens).map(|((path, _), tokens)| named(tokens, &module(path), &modules)).collect();
    let n = sources.len();
    let mut reach = vec![vec![false; n]; n];
    for (from, named_here) in named.iter().enumerate() {
        for named_one in named_here.iter().filter(|one| !one.passed_on || speaks_of(&tokens[from], &one.name)) {
            let to = file_of(&named_one.path, &modules, &named, 0);
            reach[from][to] |= from != to;
        }
    }
    let arrows = reach.clone();
    for by in 0..n {
        for from in 0..n {
            if reach[from][by] {
                let through = reach[by].clone();
                reach[from].iter_mut().zip(through).for_each(|(to, through)| *to |= through);
            }
        }
    }
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut found = Vec::new();
    for (from, reached) in reach.iter().enumerate() {
        if reached[from] && !seen.contains(&from) {
            let group: Vec<usize> = (0..n).filter(|&to| reached[to] && reach[to][from]).collect();
            seen.extend(&group);
            let pairs = group.iter().flat_map(|&a| group.iter().map(move |&b| (a, b)));
            let inside = pairs.filter(|&(a, b)| arrows[a][b]);
            found.push((
                group.iter().map(|&i| sources[i].0.clone()).collect(),
                inside.map(|(a, b)| format!("{} → {}", sources[a].0, sources[b].0)).collect(),
            ));
        }
    }
    found
}

/// `src/kernel/simd.rs` → `["kernel", "simd"]`; `mod.rs` is its folder, `lib.rs` and `main.rs` the root.
fn module(path: &str) -> Module {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).map(String::from).collect()
}

/// Whether a file's code, its `use`s left out, takes a name: as a type, a function or a module.
fn speaks_of(tokens: &[&str], name: &str) -> bool {
    let mut in_use = false;
    (0..tokens.len()).any(|i| {
        in_use = tokens[i] == "use" || in_use && tokens[i] != ";";
        let (before, after) = (i.checked_sub(1).map_or("", |b| tokens[b]), tokens.get(i + 1).copied().unwrap_or(""));
        let taken = name.starts_with(char::is_uppercase) || ["(", "::"].contains(&after);
        !in_use && tokens[i] == name && taken && ![".", "fn", "::", "mod"].contains(&before)
    })
}

/// The file where a path ends; names that a file has from elsewhere are followed.
fn file_of(path: &[String], modules: &BTreeMap<Module, usize>, named: &[Vec<Named>], depth: usize) -> usize {
    let known = (0..=path.len()).rev().find(|&k| modules.contains_key(&path[..k])).expect("the root is a module");
    let file = modules[&path[..known]];
    let next = path.get(known).and_then(|name| named[file].iter().find(|one| one.used && one.name == *name));
    match next {
        Some(one) if depth < 8 => file_of(&one.path, modules, named, depth + 1),
        _ => file,
    }
}

/// The paths of a file that lead into this crate.
fn named(tokens: &[&str], module: &Module, modules: &BTreeMap<Module, usize>) -> Vec<Named> {
    let mut found = Vec::new();
    // Modules written inside the file: their names, and the depth of braces that they end at.
    let (mut inner, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    let (mut used, mut passed_on) = (false, false);
    let mut i = 0;
    while i < tokens.len() {
        let here: Module = module.iter().chain(inner.iter().map(|(name, _)| name)).cloned().collect();
        let child = [&here[..], &[tokens[i].to_string()]].concat();
        let root = match tokens[i] {
            "{" => {
                depth += 1;
                None
            }
            "}" => {
                depth -= 1;
                inner.retain(|(_, at)| *at <= depth);
                None
            }
            "mod" if tokens.get(i + 2) == Some(&"{") => {
                inner.push((tokens[i + 1].to_string(), depth + 1));
                None
            }
            "use" => {
                (used, passed_on) = (true, i > 0 && ["pub", ")"].contains(&tokens[i - 1]));
                None
            }
            ";" => {
                (used, passed_on) = (false, false);
                None
            }
            "crate" => Some(vec![]),
            "self" => Some(here),
            "super" => Some(here[..here.len() - 1].to_vec()),
            _ if modules.contains_key(&child) => Some(child),
            _ => None,
        };
        match root.filter(|_| tokens.get(i + 1) == Some(&"::") && (i == 0 || tokens[i - 1] != "::")) {
            Some(root) => {
                let mut paths = Vec::new();
                i = tree(tokens, i + 1, root, &mut paths);
                // What modules inside the file import, only they know.
                let used = used && inner.is_empty();
                found.extend(paths.into_iter().map(|(path, name)| Named { path, name, used, passed_on }));
            }
            None => i += 1,
        }
    }
    found
}

/// Follows a path from a `::` on, through braces; gives back where it ends.
fn tree(tokens: &[&str], mut i: usize, mut path: Module, found: &mut Vec<(Module, String)>) -> usize {
    while tokens.get(i) == Some(&"::") {
        match tokens.get(i + 1).copied().unwrap_or("") {
            "{" => {
                i += 2;
                while tokens[i] != "}" {
                    if tokens[i] == "," {
                        i += 1;
                        continue;
                    }
                    let path =
                        if tokens[i] == "self" { path.clone() } else { [&path[..], &[tokens[i].into()]].concat() };
                    i = tree(tokens, i + 1, path, found);
                }
                return i + 1;
            }
            "super" => {
                path.pop();
            }
            name if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push(name.to_string()),
            _ => break, // `::<T>`, `::*`
        }
        i += 2;
    }
    if tokens.get(i..i + 2).is_some_and(|t| t == ["::", "*"]) {
        i += 2;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if tokens.get(i) == Some(&"as") {
        name = tokens[i + 1].to_string();
        i += 2;
    }
    found.push((path, name));
    i
}

/// Words, `::`, and single signs; comments, texts, letters and lifetimes left out.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let raw = rest.strip_prefix('r').or(rest.strip_prefix("br")).filter(|r| r.starts_with(['"', '#']));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(quoted) = raw {
            let signs = quoted.find('"').unwrap_or(0);
            let end = format!("\"{}", &quoted[..signs]);
            let start = rest.len() - quoted.len() + signs + 1;
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if first == '"' {
            let mut escaped = false;
            let close = rest[1..].find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            close.map_or(rest.len(), |at| at + 2)
        } else if first == '\'' {
            // A letter: one sign, or an escape; else a lifetime.
            let mut signs = rest.char_indices().skip(2).map(|(at, _)| at);
            match rest[1..].starts_with('\\') {
                true => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
                false => signs.next().filter(|&at| rest[at..].starts_with('\'')).map_or(1, |at| at + 1),
            }
        } else if word > 0 {
            found.push(&rest[..word]);
            word
        } else if rest.starts_with("::") {
            found.push("::");
            2
        } else {
            if !first.is_whitespace() {
                found.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

#[test]
fn a_circle_is_found_through_names_that_are_passed_on() {
    let file = |path: &str, text: &str| (format!("src/{path}.rs"), text.to_string());
    let sources = [
        file("lib", "pub mod a;"),
        file("a/mod", "mod b;\nmod c;\nmod d;\npub use b::{B, other as thing};\npub(crate) use c::C;"),
        file("a/b", "use super::C;\npub struct B(C);\nmod inside { use super::B; }"),
        file("a/c", "// use super::thing;\npub struct C;\nfn f(x: char) -> bool { x == '\"' && super::d::g::<u8>() }"),
        file("a/d", "pub fn g<'a>() { let _ = r#\"super::nothing\"#; super::thing() }"),
    ];
    let found = circles(&sources);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, ["src/a/b.rs", "src/a/c.rs", "src/a/d.rs"]);
    let mut straight = sources;
    straight[4].1 = "pub fn g() {}".into();
    assert!(circles(&straight).is_empty());
}
