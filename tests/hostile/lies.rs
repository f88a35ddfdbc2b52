//! Bundles of a toy, recorded whole, of which one stage or one word of the metadata then lies: as candidates of a replay and of
//! a golden, and as goldens.

use crate::common::cli::{Cli, edit_weights, toy_of};
use crate::{Case, Place, Want, case};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

const REPLAY: &[&str] = &["check", "--quiet", "--model", "model", "b"];
const CHECK: &[&str] = &["check", "--quiet", "g", "b"];
const GOLDEN: &[&str] = &["check", "--quiet", "b", "g"];

/// A recording of a toy with two tokens, with its noise: made once.
fn recorded() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let cli = Cli::new();
        toy_of(&cli, "llava/wide");
        let ask = ["--model", "model", "--image", "image.png", "--prompt", "What?", "--ignore-eos"];
        let rest = ["record", "--quiet", "--retain", "0.5", "--max-new-tokens", "2", "--out", "g"];
        cli.ok(&[&rest[..], &ask].concat());
        std::fs::read(cli.path("g")).unwrap()
    })
}

fn place(p: &Place, change: impl FnOnce(&mut Map<String, Value>, &mut [u8])) {
    p.toy("llava/wide");
    p.write("g", recorded());
    p.write("b", recorded());
    edit_weights(&p.path("b"), change);
}

type Change = fn(&mut Map<String, Value>, &mut [u8]);

/// The three commands on a lying bundle; what comes back is a refusal with these words, or, without words, a verdict.
fn lies(what: &str, wants: [Option<&'static [&'static str]>; 3], change: Change) -> Vec<Case> {
    let one = |(args, want): (&&[&str], Option<&'static [&'static str]>)| {
        case(what, args, want.map_or(Want::Judged, Want::Refused), move |p| place(p, change))
    };
    [REPLAY, CHECK, GOLDEN].iter().zip(wants).map(one).collect()
}

/// The bytes of a stage.
fn bytes<'a>(head: &Map<String, Value>, data: &'a mut [u8], name: &str) -> &'a mut [u8] {
    let at = |i: usize| head[name]["data_offsets"][i].as_u64().unwrap() as usize;
    &mut data[at(0)..at(1)]
}

fn integers(head: &Map<String, Value>, data: &mut [u8], name: &str, value: i64) {
    bytes(head, data, name).as_chunks_mut::<8>().0.iter_mut().for_each(|b| *b = value.to_le_bytes());
}

fn said(head: &mut Map<String, Value>, key: &str, value: &str) {
    head["__metadata__"].as_object_mut().unwrap().insert(key.into(), json!(value));
}

pub(super) fn cases() -> Vec<Case> {
    const B: Option<&[&str]> = Some(&["b"]); // the bundle or its stage is named
    const NO: Option<&[&str]> = None;
    let mut all = Vec::new();
    let mut add = |what: &str, wants, change: Change| all.extend(lies(what, wants, change));
    add("a bundle that tells the truth", [NO, NO, NO], |_, _| {});
    add("ids of −1", [B, NO, NO], |h, d| integers(h, d, "input.ids", -1));
    add("ids of 2⁶³ − 1", [B, NO, NO], |h, d| integers(h, d, "input.ids", i64::MAX));
    add("positions of −2⁶³", [NO, NO, NO], |h, d| integers(h, d, "input.positions", i64::MIN));
    add("positions of 2⁵³", [NO, NO, NO], |h, d| integers(h, d, "input.positions", 1 << 53));
    add("roles that are all visual", [NO, NO, NO], |h, d| bytes(h, d, "input.roles").fill(1));
    add("roles that are all text", [NO, NO, NO], |h, d| bytes(h, d, "input.roles").fill(0));
    add("roles of 255", [NO, NO, NO], |h, d| bytes(h, d, "input.roles").fill(255));
    add("an image of −1 × −1", [B, NO, NO], |h, d| integers(h, d, "input.sizes", -1));
    add("an image of 2⁶² × 2⁶²", [B, NO, NO], |h, d| integers(h, d, "input.sizes", 1 << 62));
    add("an image of 0 × 0", [B, NO, NO], |h, d| integers(h, d, "input.sizes", 0));
    add("pixels of NaN", [NO, NO, NO], |h, d| bytes(h, d, "input.pixels").fill(0xff));
    add("queries of NaN", [NO, NO, NO], |h, d| bytes(h, d, "decoder.00.query").fill(0xff));
    add("kept tokens of −1", [NO, NO, NO], |h, d| integers(h, d, "policy.00.kept", -1));
    add("kept tokens beyond all", [NO, NO, NO], |h, d| integers(h, d, "policy.00.kept", 1 << 40));
    add("the same token kept again and again", [NO, NO, NO], |h, d| integers(h, d, "policy.00.kept", 0));
    add("budgets of −2⁶³", [NO, NO, NO], |h, d| integers(h, d, "policy.budget", i64::MIN));
    add("budgets of 2⁶²", [NO, NO, NO], |h, d| integers(h, d, "policy.budget", 1 << 62));
    add("a window of −1", [NO, NO, NO], |h, d| integers(h, d, "policy.00.window", -1));
    add("a window beyond the prompt", [NO, NO, NO], |h, d| integers(h, d, "policy.00.window", i64::MAX));
    add("strengths of NaN", [NO, NO, NO], |h, d| bytes(h, d, "policy.strength").fill(0xff));
    add("importances of NaN", [NO, NO, NO], |h, d| bytes(h, d, "policy.00.importance").fill(0xff));
    add("cached positions of −1", [NO, NO, NO], |h, d| integers(h, d, "cache.00.positions", -1));
    add("tokens of −1", [NO, NO, NO], |h, d| integers(h, d, "output.ids", -1));
    add("tokens of 2⁴⁰", [NO, NO, NO], |h, d| integers(h, d, "output.ids", 1 << 40));
    add("logits of NaN", [NO, NO, NO], |h, d| bytes(h, d, "decoder.logits").fill(0xff));
    add("every number 0xff", [B, NO, B], |_, d| d.fill(0xff));
    add("every number 0", [NO, NO, B], |_, d| d.fill(0));
    add("a precision of bf17", [B, B, B], |h, _| said(h, "precision", "bf17"));
    add("a policy that is no JSON", [B, B, B], |h, _| said(h, "policy", "{"));
    add("a policy of an unknown name", [B, B, B], |h, _| said(h, "policy", r#"{"name": "evil"}"#));
    add("a policy of a window of 10³⁰", [B, B, B], |h, _| {
        said(h, "policy", r#"{"name": "aircache", "window": "last-text:1000000000000000000000000000000"}"#)
    });
    add("a retention of nan", [B, B, B], |h, _| said(h, "retain", "nan"));
    add("a retention of 10⁹⁹⁹", [B, B, B], |h, _| said(h, "retain", "1e999"));
    add("another family", [B, B, B], |h, _| said(h, "family", "qwen2_vl"));
    add("a version of a million", [NO, NO, NO], |h, _| said(h, "version", "1000000"));
    add("images that are no hashes", [NO, B, B], |h, _| said(h, "images", "\u{1b}[2J"));
    add("a prompt of 8 MB", [NO, B, B], |h, _| said(h, "prompt", &"x".repeat(8 << 20)));
    add("noise of NaN", [NO, NO, B], |h, d| noises(h, d, 0xff, 0));
    add("noise of 0", [NO, NO, B], |h, d| noises(h, d, 0, 0));
    add("noise of another type", [NO, NO, B], |h, _| {
        for (_, info) in h.iter_mut().filter(|(name, info)| name.starts_with("noise.") && info["dtype"] == "F32") {
            info["dtype"] = json!("U32");
        }
    });
    // The other side then tells the truth, and differs.
    add("a wrong mix, with noise whose rows are NaN", [NO, NO, B], |h, d| {
        noises(h, d, 0xff, 16);
        bytes(h, d, "decoder.00.mix").fill(0);
    });
    add("a wrong mix, with noise whose rows are infinite", [NO, NO, NO], |h, d| {
        noises(h, d, 0x7f, 16);
        bytes(h, d, "decoder.00.mix").fill(0);
    });
    all
}

/// Bytes of every stage's noise, all but the first.
fn noises(head: &Map<String, Value>, data: &mut [u8], byte: u8, from: usize) {
    let names: Vec<&String> = head.keys().filter(|name| name.starts_with("noise.")).collect();
    assert!(!names.is_empty());
    names.into_iter().for_each(|name| bytes(head, data, name).iter_mut().skip(from).for_each(|b| *b = byte));
}
