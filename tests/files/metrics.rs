//! Metrics by name give what the evaluation kits' own functions give, on thousands of answers; statistics against scipy.

use aircache::eval::{Difference, Graded, Metric, Questions, Results};
use aircache::eval::{Header, Journal};
use serde_json::{Value, json};
use std::path::Path;

fn golden(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics").join(name)).unwrap()
}

/// The questions of a file's rows.
fn questions(rows: &[Value]) -> Questions {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.jsonl");
    let line = |row: &Value| {
        let mut row = row.clone();
        row["question"] = "?".into();
        row.to_string()
    };
    std::fs::write(&path, rows.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    Questions::read(&path).unwrap()
}

/// A journal of the rows' predictions.
fn journal(rows: &[Value], questions: &Questions) -> Journal {
    let header = json!({"format": Header::FORMAT, "model": "", "data": questions.sha256, "questions": rows.len(), "precision": "f32",
        "preprocess": "", "max_new_tokens": 1, "cells": [["full", "1"]]});
    let mut journal = Journal::in_memory(serde_json::from_value(header).unwrap());
    for (q, row) in rows.iter().enumerate() {
        journal.add(q, vec![row["prediction"].as_str().unwrap().into()]).unwrap();
    }
    journal
}

/// Every score of a file of goldens. Each kit divides thirds or lengths in its own order: two roundings, of numbers up to 1.
fn equal(name: &str, at_least: usize) {
    let text = golden(name);
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let metrics: Vec<String> = serde_json::from_value(lines.next().unwrap()["metrics"].clone()).unwrap();
    let rows: Vec<Value> = lines.collect();
    assert!(rows.len() >= at_least);
    let questions = questions(&rows);
    let mut wrong = Vec::new();
    for (m, name) in metrics.iter().enumerate() {
        // Both kits have one function for this name.
        let metric = Metric::list(name.strip_prefix("anls-lmms").map_or(name, |_| "anls-lmms")).unwrap()[0];
        let mut seen = std::collections::BTreeSet::new();
        for (row, item) in rows.iter().zip(&questions.items) {
            let (answer, want) = (row["prediction"].as_str().unwrap(), row["scores"][m].as_f64().unwrap());
            let got = metric.score(answer, item);
            seen.insert((want * 30.0) as u8);
            if (got - want).abs() > 4.0 * f64::EPSILON {
                wrong.push(format!("{name}: expected {want}, got {got}: {row}"));
            }
        }
        assert!(seen.len() > 1, "{name}: every case has the same score");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong[..wrong.len().min(12)].join("\n"));
}

#[test]
fn scores_of_texts_are_the_kits() {
    equal("text.jsonl", 3000);
}

#[test]
fn scores_of_yes_and_no_are_the_kits() {
    equal("yes-no.jsonl", 800);
}

#[test]
fn scores_of_choices_are_the_kits() {
    equal("choice.jsonl", 1600);
}

#[test]
fn sums_of_mme_and_circular_choices_are_the_kits() {
    let groups: Value = serde_json::from_str(&golden("groups.json")).unwrap();
    let rows = groups["mme"]["items"].as_array().unwrap();
    let asked = questions(rows);
    let results = Results::of(&journal(rows, &asked), &asked, &Metric::list("mme,mme@vlmevalkit").unwrap());
    for (name, kit) in [("mme", "lmms-eval"), ("mme@vlmevalkit", "vlmevalkit")] {
        let (got, want) = (&results.cells[0].mme[name], &groups["mme"][kit]);
        for (got, part) in [(got.perception, "perception"), (got.cognition, "cognition")] {
            assert!((got - want[part].as_f64().unwrap()).abs() < 1e-9, "{name}, {part}: {got}, expected {want}");
        }
    }
    let rows = groups["circular"]["items"].as_array().unwrap();
    let asked = questions(rows);
    for name in ["choice", "choice@vlmevalkit"] {
        let want: Vec<f64> = serde_json::from_value(groups["circular"]["hits"][name].clone()).unwrap();
        let whole = Metric::list(&name.replacen("choice", "choice+", 1)).unwrap()[0];
        let got = aircache::eval::graded(&journal(rows, &asked), &asked, whole, 0);
        assert_eq!(got.iter().map(|g| g.score).collect::<Vec<_>>(), want, "{name}");
    }
}

#[test]
fn differences_are_those_of_scipy() {
    let golden: Value = serde_json::from_str(&golden("compare.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let graded = |key: &str| -> Vec<Graded> {
            let scores: Vec<f64> = serde_json::from_value(case[key].clone()).unwrap();
            scores.into_iter().enumerate().map(|(question, score)| Graded { question, kind: None, score }).collect()
        };
        let got = Difference::of(&graded("first"), &graded("second"));
        let near = |got: f64, key: &str| {
            let want = case[key].as_f64().unwrap();
            assert!((got - want).abs() < 1e-12 + 1e-9 * want.abs(), "{key}: {got}, expected {want}");
        };
        near(got.difference, "difference");
        near(got.stderr, "stderr");
        near(got.ci95.0, "low");
        near(got.ci95.1, "high");
        near(got.sign_test, "sign_test");
    }
}
