//! Toys that no one has looked at, made by `scripts/held_out.py`. Only with `--ignored`.

use crate::common::held;
use crate::common::toys::{all_equal, toys_in};
use aircache::pass::Precision;
use std::path::Path;

#[test]
#[ignore = "needs toys: tests/golden/scripts/held_out.py"]
fn toys_that_no_one_has_looked_at_equal_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/held_out");
    let mut families: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    families.sort();
    for family in families {
        let cases = || toys_in(&family);
        let padded = |name: &str| ["llava_onevision", "llava_clip"].contains(&name);
        let name = family.file_name().unwrap().to_string_lossy().to_string();
        // The pictures of these families stand in an array that empty tiles fill up.
        let read = cases().into_iter().filter(|case| !padded(&name) || case.prompt.images.len() < 2);
        read.for_each(|case| held::reads_what_transformers_reads(&case));
        all_equal::<f64>(cases(), 1e-5);
        all_equal::<f32>(cases(), 1e-4);
        held::a_prefill_is_one_row_less_and_a_step(&cases());
        held::chunks_and_batches_change_no_bit(&cases());
        held::honest_candidates_pass(&cases(), &[Precision::Bf16]);
        println!("{name}: {} toys", cases().len());
    }
}
