//! The forward pass of families that read patches of images of any size, against the recorded results of transformers on
//! toy checkpoints: `tests/golden/FAMILY`.

/// The tests of a family: its folder, the least number of cases, and the precisions of honest recordings.
macro_rules! family {
    ($family:ident, $folder:literal, $cases:literal, $honest:expr) => {
        mod $family {
            use crate::common::held;
            use crate::common::toys::{Case, toys, toys_pass};
            use aircache::input::GivenImage;
            use aircache::pass::Precision;

            fn cases() -> Vec<Case> {
                toys($folder, $cases)
            }

            /// Ids, roles, positions, grids, sizes and pixels are equal; A4.5 with `three-images-placed`.
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

            toys_pass!(cases, but: [""], policies: ["hub-bf16"] of $folder, honest: $honest);
        }
    };
}

family!(qwen2_vl, "qwen2_vl", 15, &[Precision::Fast, Precision::Bf16, Precision::F16]);
// E5.17, E5.18.
family!(qwen2_5_vl, "qwen2_5_vl", 6, &[Precision::Bf16]);
// E5.19, E5.20, E6.17, E6.18.
family!(qwen3_vl, "qwen3_vl", 7, &[Precision::Bf16]);
