//! Chapter 01: names.

use aircache::pass::{Part, Stage};
use aircache::roles::{Role, Roles};

/// T1.1: every field or function that the table names stands in the file that it names.
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
    assert_eq!(Stage::layer(Part::Decoder, 7, "mix").to_string(), "decoder.07.mix");
    assert_eq!(Stage::layer(Part::Step, 7, "logits").to_string(), "step.0007.logits");
    assert_eq!(Stage::at(Part::Decoder, "norm").to_string(), "decoder.norm");
}
