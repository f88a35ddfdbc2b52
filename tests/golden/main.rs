//! Our numbers against the numbers of outside programs. The goldens lie beside the tests; README.md names the programs
//! that made them.

#[path = "../common/mod.rs"]
mod common;

/// The tests that the toys of a family pass, in addition to how they are read. cases: the function that makes them; but: the
/// cases whose first rows depend on the length of the prompt; policies: the toys with a golden in `policy/FOLDER`; honest:
/// the precisions of honest recordings.
#[cfg(feature = "input")]
macro_rules! toys_pass {
    ($cases:ident, but: $but:expr, policies: [$($toy:literal),*] of $folder:literal, honest: $honest:expr) => {
        #[test]
        fn toys_equal_their_golden_in_f64() {
            crate::common::toys::all_equal::<f64>($cases(), 1e-5);
        }

        #[test]
        fn toys_equal_their_golden_in_f32() {
            crate::common::toys::all_equal::<f32>($cases(), 1e-4);
        }

        /// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are equal.
        #[test]
        fn policies_on_a_prefill_equal_the_twin() {
            let toys: &[&str] = &[$($toy),*];
            for case in $cases().into_iter().filter(|case| toys.contains(&case.name.as_str())) {
                crate::common::evicted::equals_its_golden(&case, $folder);
            }
        }

        #[test]
        fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
            let mut cases = $cases();
            cases.retain(|case| !$but.contains(&case.name.as_str()));
            crate::common::held::a_prefill_is_one_row_less_and_a_step(&cases);
        }

        #[test]
        fn c6_1a_c6_18a_chunks_and_batches_change_no_bit() {
            let mut cases = $cases();
            cases.retain(|case| !$but.contains(&case.name.as_str()));
            crate::common::held::chunks_and_batches_change_no_bit(&cases);
        }

        #[test]
        fn e10_5_d10_7_honest_candidates_pass() {
            crate::common::held::honest_candidates_pass(&$cases(), $honest);
        }
    };
}

#[cfg(feature = "input")]
mod candidates;
#[cfg(feature = "input")]
mod demo;
#[cfg(feature = "input")]
mod held_out;
#[cfg(feature = "input")]
mod internvl;
#[cfg(feature = "input")]
mod internvl2;
#[cfg(feature = "input")]
mod llava;
#[cfg(feature = "input")]
mod llava_clip;
mod methods;
#[cfg(feature = "input")]
mod patches;
mod policy;
#[cfg(feature = "input")]
mod qwen2_vl;
#[cfg(feature = "input")]
mod sentencepiece;
#[cfg(feature = "input")]
mod video;
