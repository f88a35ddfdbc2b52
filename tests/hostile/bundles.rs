//! Bundles as `compress`, `check` and replay read them: stages that are missing, of another shape or type, or not finite.

use crate::common::cli::edit_weights;
use crate::common::raw::{bad_heads, claiming, file};
use crate::{Case, Place, Want, case};
use aircache::golden::BundleWriter;
use serde_json::json;

const COMPRESS: &[&str] = &["compress", "b", "--retain", "0.5", "--out", "f", "--quiet"];
const REPLAY: &[&str] = &["check", "--model", "demo", "b", "--quiet"];
const CHECK: &[&str] = &["check", "b", "b", "--quiet"];

type Stage = (&'static str, &'static [usize]);
const Q: Stage = ("decoder.00.query", &[2, 4, 2]);
const K: Stage = ("decoder.00.key", &[1, 4, 2]);
const ROLES: [u8; 4] = [0, 1, 1, 0];

fn bundle(place: &Place, roles: &[u8], stages: &[Stage], value: f32) {
    let mut w = BundleWriter::create(&place.path("b")).unwrap();
    w.put_u8("input.roles", &[roles.len()], roles).unwrap();
    for (name, shape) in stages {
        w.put_f32(name, shape, &vec![value; shape.iter().product()]).unwrap();
    }
    w.finish([("precision", "f32")]).unwrap();
}

fn compress(what: &str, words: &'static [&'static str], roles: &'static [u8], stages: &'static [Stage]) -> Case {
    case(what, COMPRESS, Want::Refused(words), move |p| bundle(p, roles, stages, 0.5))
}

fn lawful(what: &str, roles: &'static [u8], stages: &'static [Stage]) -> Case {
    case(what, COMPRESS, Want::Runs, move |p| bundle(p, roles, stages, 0.5))
}

/// A case of all commands that read bundles.
fn any(what: &str, words: &'static [&'static str], make: impl Fn(&Place) + Clone + Sync + 'static) -> [Case; 3] {
    [COMPRESS, REPLAY, CHECK].map(|args| case(what, args, Want::Refused(words), make.clone()))
}

/// The head of a good bundle, changed.
fn head(
    what: &str,
    words: &'static [&'static str],
    change: fn(&mut serde_json::Map<String, serde_json::Value>),
) -> [Case; 3] {
    any(what, words, move |p| {
        bundle(p, &ROLES, &[Q, K], 0.5);
        edit_weights(&p.path("b"), |head, _| change(head));
    })
}

fn filled(what: &str, value: f32, args: &'static [&'static str], want: Want) -> Case {
    case(what, args, want, move |p| bundle(p, &ROLES, &[Q, K], value))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (text, data, words) in bad_heads().into_iter().step_by(4) {
        let shown: String = text.chars().take(50).collect();
        all.push(case(format!("head `{shown}`"), REPLAY, Want::Refused(words), move |p| {
            p.write("b", file(&text, data))
        }));
    }
    all.extend(any("an empty file", &["b: expected"], |p| p.write("b", "")));
    all.extend(any("a head that lies", &["header"], |p| p.write("b", claiming(1 << 40, b"{}"))));
    all.extend(any("no metadata", &["metadata format"], |p| p.write("b", file("{}", 0))));
    all.extend(any("metadata alone", &["b"], |p| {
        p.write("b", file(r#"{"__metadata__":{"format":"aircache-bundle","precision":"f32"}}"#, 0));
    }));
    all.extend(head("roles of 2⁶³ × 0", &["b"], |h| h["input.roles"]["shape"] = json!([1u64 << 63, 0])));
    all.extend(head("a precision of f8", &["b"], |h| {
        h["__metadata__"]["precision"] = json!("f8");
        h["input.roles"]["dtype"] = json!("I8");
    }));
    all.extend([
        compress("no queries", &["decoder.00.query"], &ROLES, &[]),
        compress("no keys", &["decoder.00.key"], &ROLES, &[Q]),
        compress("layer 2 without layer 1", &["decoder.01.query"], &ROLES, &[Q, K, ("decoder.02.key", &[1, 4, 2])]),
        lawful(
            "a key of layer 99999999999999999999",
            &ROLES,
            &[Q, K, ("decoder.99999999999999999999.key", &[1, 4, 2])],
        ),
        compress(
            "layer 18446744073709551615",
            &["b"],
            &ROLES,
            &[Q, K, ("decoder.18446744073709551615.key", &[1, 4, 2])],
        ),
        compress("queries of one row", &["all rows"], &ROLES, &[("decoder.00.query", &[2, 1, 2]), K]),
        compress(
            "three heads over two",
            &["multiple of 2"],
            &ROLES,
            &[("decoder.00.query", &[3, 4, 2]), ("decoder.00.key", &[2, 4, 2])],
        ),
        compress("no heads", &["b"], &ROLES, &[("decoder.00.query", &[0, 4, 2]), ("decoder.00.key", &[0, 4, 2])]),
        compress(
            "heads of size 0",
            &["b"],
            &ROLES,
            &[("decoder.00.query", &[2, 4, 0]), ("decoder.00.key", &[1, 4, 0])],
        ),
        compress("two sides", &["[H, n, d_h]"], &ROLES, &[("decoder.00.query", &[8, 2]), K]),
        compress("a role of 2", &["0 (text) or 1"], &[0, 2, 1, 0], &[Q, K]),
        compress("no text at the end", &["text after"], &[0, 1, 1, 1], &[Q, K]),
        lawful("no rows", &[], &[("decoder.00.query", &[2, 0, 2]), ("decoder.00.key", &[1, 0, 2])]),
        filled("queries and keys of NaN", f32::NAN, COMPRESS, Want::Refused(&["b: layer 0"])),
        filled("queries and keys of infinity", f32::INFINITY, COMPRESS, Want::Refused(&["b: layer 0"])),
        filled("queries and keys of 3e38", 3e38, COMPRESS, Want::Runs),
        filled("queries and keys of 1e-45", 1e-45, COMPRESS, Want::Runs),
        filled("a golden that has no noise", 0.5, CHECK, Want::Refused(&["b"])),
        filled("a replay of what the model never was", 0.5, REPLAY, Want::Refused(&["b"])),
        case(
            "compress to its own input",
            &["compress", "b", "--retain", "0.5", "--out", "b", "--quiet"],
            // As everywhere: no output takes the place of what is read.
            Want::Refused(&["--out", "b"]),
            |p| {
                bundle(p, &ROLES, &[Q, K], 0.5);
            },
        ),
        case("a bundle that is a checkpoint", COMPRESS, Want::Refused(&["metadata format"]), |p| {
            std::fs::copy(p.toy("llava/wide").join("model.safetensors"), p.path("b")).unwrap();
        }),
        case("a golden that is a picture", &["check", "image.png", "b"], Want::Refused(&["image.png"]), |p| {
            p.toy("llava/wide");
            bundle(p, &ROLES, &[Q, K], 0.5);
        }),
    ]);
    all
}
