//! Chapter 01: names.

use aircache::roles::{Role, Roles};
use aircache::stage::{From, Row, Site, Stage, TABLE};

/// T1.1: every field or function in the table exists in the file that the table names.
#[test]
fn t1_1_every_symbol_is_where_the_table_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = std::fs::read_to_string(root.join("spec/01-symbols.md")).unwrap();
    let mut seen = 0;
    for line in chapter.lines().filter(|l| l.contains("| `src/")) {
        let place = line.split('|').nth_back(1).unwrap();
        let mut quoted = place.split('`').skip(1).step_by(2);
        let path = quoted.next().unwrap();
        let file = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let words: Vec<&str> = file.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for name in quoted {
            assert!(words.contains(&name), "{path} does not name {name}");
            seen += 1;
        }
    }
    assert!(seen >= 25, "the table is there");
}

#[test]
fn d1_2_worked_example() {
    use Role::*;
    let roles = Roles(vec![Text, Visual, Visual, Text]);
    assert_eq!((roles.visual(), roles.text()), (vec![1, 2], vec![0, 3]));
    assert_eq!((Text as u8, Visual as u8), (0, 1));
}

#[test]
fn c1_2a_visual_and_text_rows_together_are_all_rows() {
    for pattern in 0u32..256 {
        let role = |i: u32| if pattern >> i & 1 == 1 { Role::Visual } else { Role::Text };
        let roles = Roles((0..8).map(role).collect());
        let mut all = [roles.visual(), roles.text()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
    }
}

#[test]
fn d1_3_worked_examples() {
    assert_eq!(Stage::layer(Site::Mix, 7).to_string(), "decoder.07.mix");
    assert_eq!(Stage::step(Site::StepLogits, 7).to_string(), "step.0007.logits");
    assert_eq!(Stage::of_step(Site::StepMix, 7, 3).to_string(), "step.0007.03.mix");
    assert_eq!(Stage::once(Site::Norm).to_string(), "decoder.norm");
}

/// The rows of T1.2, from the table of stages.
fn rows() -> Vec<String> {
    let row = |row: &Row| {
        let from: Vec<String> = row.from.iter().map(|from| From::words(*from)).collect();
        format!(
            "| `{}` | {}{} | {} | {} | {} | {} | {} |",
            row.pattern(),
            row.stored.map_or(String::new(), |stored| format!("{stored} ")),
            row.shape,
            row.kind.name(),
            if from.is_empty() { "outside".into() } else { from.join(", ") },
            if row.sampled { "yes" } else { "no" },
            row.since,
            row.what
        )
    };
    TABLE.iter().map(row).collect()
}

#[test]
fn t1_2_the_specification_shows_the_table_of_stages() {
    let chapter = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/01-symbols.md"));
    let chapter = chapter.unwrap();
    let section = chapter.split("### T1.2 ").nth(1).unwrap().split("\n### ").next().unwrap();
    let found: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(found, rows(), "write these lines into T1.2:\n{}", rows().join("\n"));
}

/// T1.2, T1.3: the tables list every stage and every metadata key of a recording, under the same names.
#[cfg(feature = "input")]
#[test]
fn t1_2_t1_3_a_recording_is_what_the_tables_say() {
    use aircache::golden::{Bundle, BundleWriter, Recording, Selection, record};
    use aircache::{
        demo, generate::Until, input::Image, model::Model, pass::Precision, policy::Policy, processor::Processor,
    };
    let chapter = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/01-symbols.md"));
    let chapter = chapter.unwrap();
    let table = |label: &str| -> Vec<String> {
        let section =
            chapter.split(&format!("### {label} ")).nth(1).unwrap().split("\n### ").next().unwrap().to_string();
        let firsts = section.lines().filter_map(|l| l.strip_prefix("| `")?.split('|').next().map(String::from));
        firsts.flat_map(|cell| cell.split('`').step_by(2).map(String::from).collect::<Vec<_>>()).collect()
    };
    let (stages, keys) = (table("T1.2"), table("T1.3"));
    let model = Model::load(&demo::files()).unwrap();
    let processor = Processor::load(&demo::files(), &model.config).unwrap();
    let image = Image::from_bytes(demo::samples()[0].png, "sample").unwrap();
    let prompt = processor.prepare(&[image], "What does the top right box say?", None).unwrap();
    let how = Recording {
        precision: Precision::Fast,
        way: aircache::pass::Way::default(),
        kv: aircache::num::Grid::Native,
        policy: Policy::AIRCACHE,
        retain: "0.3".parse().unwrap(),
        sampling: aircache::sample::Sampling::Greedy,
        until: Until { stop: vec![], max_new_tokens: 3 },
        stages: Selection::default(),
        noise: false,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    record(&model, &prompt, &how, BundleWriter::create(&path).unwrap(), |_| std::ops::ControlFlow::Continue(()))
        .unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let blot = |name: &str| -> String {
        let word = |w: &str| match (w.len(), w.bytes().all(|b| b.is_ascii_digit())) {
            (2, true) => "LL".to_string(),
            (4, true) => "TTTT".into(),
            _ => w.into(),
        };
        name.split('.').map(word).collect::<Vec<_>>().join(".")
    };
    let names: std::collections::BTreeSet<String> = bundle.names().map(blot).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in &names {
        assert!(stages.contains(name), "{name} has no row in T1.2");
    }
    // Those of other families and policies.
    let others = ["input.grid", "projector.LL.deepstack", "decoder.LL.votes", "decoder.LL.rows"];
    let zipped = ["decoder.LL.metric", "decoder.LL.into", "decoder.LL.merged"];
    let expected = ["decoder.LL.query-mean", "decoder.LL.query-covariance"];
    let others = [&others[..], &["decoder.relevance", "decoder.raters"], &zipped, &expected].concat();
    for stage in stages.iter().filter(|stage| !others.contains(&stage.as_str())) {
        assert!(names.contains(stage), "{stage} is in T1.2 and not in a recording");
    }
    for key in ["format", "version", "producer", "family", "model", "precision", "policy", "retain", "prompt", "images"]
    {
        assert!(bundle.metadata(key).is_some() && keys.iter().any(|k| k == key), "{key}");
    }
}
