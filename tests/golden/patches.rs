//! The forward pass of families that read patches of images of any size, against the recorded results of transformers on
//! toy checkpoints: `tests/golden/FAMILY`.

/// The tests of a family: its folder, the least number of cases, and the case of the policies.
macro_rules! family {
    ($family:ident, $cases:literal, $policies:literal) => {
        mod $family {
            use crate::common::toys::{Case, all_equal, toys};
            use crate::common::{evicted, held};
            use aircache::input::GivenImage;
            use aircache::pass::Precision;

            fn cases() -> Vec<Case> {
                toys(stringify!($family), $cases)
            }

            /// Ids, roles, positions, grids, sizes and pixels are equal.
            #[test]
            fn toys_read_what_transformers_reads() {
                cases().iter().for_each(held::reads_what_transformers_reads);
            }

            /// Transformers' ids and pixels give the same prompt, with and without expanded placeholders.
            #[test]
            fn ids_and_pixels_of_transformers_pass_the_core_door() {
                held::pass_the_core_door(cases(), |image, pixels| {
                    GivenImage::patches(pixels.into_dimensionality().unwrap(), image.size, image.grid.unwrap())
                });
            }

            #[test]
            fn toys_equal_transformers_in_f64() {
                all_equal::<f64>(cases(), 1e-5);
            }

            #[test]
            fn toys_equal_transformers_in_f32() {
                all_equal::<f32>(cases(), 1e-4);
            }

            /// Elite sets, budgets and kept sets are equal, importances agree to 1e-9, and tokens after eviction are
            /// equal.
            #[test]
            fn policies_on_a_prefill_equal_the_twin() {
                let case = cases().into_iter().find(|c| c.name == $policies).unwrap();
                evicted::equals_its_golden(&case, stringify!($family));
            }

            #[test]
            fn c6_1a_a_prefill_is_one_row_less_and_a_step() {
                held::a_prefill_is_one_row_less_and_a_step(&cases());
            }

            #[test]
            fn c6_1a_c6_18a_chunks_and_batches_change_no_bit() {
                held::chunks_and_batches_change_no_bit(&cases());
            }

            #[test]
            fn e10_5_d10_7_honest_candidates_pass() {
                held::honest_candidates_pass(&cases(), &[Precision::Bf16]);
            }
        }
    };
}

// E5.17, E5.18.
family!(qwen2_5_vl, 6, "hub-bf16");
// E5.19, E5.20, E6.17, E6.18.
family!(qwen3_vl, 7, "hub-bf16");
