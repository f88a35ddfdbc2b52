//! The methods that drop visual rows before the decoder or inside prefill, for the table of methods.

use super::preset::{Preset, table};
use super::{Budget, Decimal, Policy, Prune, Rater, Retain, Score, Window};

/// Nothing is evicted after prefill.
pub(super) const WHOLE: Policy =
    Policy { window: Window::Nobody, score: Score::Position, budget: Budget::Full, ..Policy::AIRCACHE };

/// A share of the visual rows.
const fn share(digits: u64, places: u32) -> Retain {
    Retain::Fraction(Decimal::new(digits, places))
}

pub(super) const FASTV_PRUNE: Preset = table(
    "fastv-prune",
    Policy { prune: Prune::once(2), ..WHOLE },
    "before layer 2, the visual rows that the last row looks at least are dropped; as many stay as the retention says",
    "FastV, arXiv 2403.06764",
    "its R is the share of rows that are dropped, here the retention is the share that stays (A9.8); the paper's K = 2 \
     and R = 50 % are fastv-prune at a retention of 0.5; its code ranks by the last row's attention in the layer \
     before, as here, its paper by that of all rows, as EffiVLM-Bench does unless origin is set; its original code \
     chooses rows again for every new token, its later code chooses once, as here (A9.9)",
);

pub(super) const PYRAMIDDROP: Preset = table(
    "pyramiddrop",
    Policy {
        prune: Prune::stages(Rater::LastRow, [(25, share(5, 1)), (50, share(25, 2)), (75, share(125, 3))]),
        ..WHOLE
    },
    "after each quarter of the layers, half of the visual rows that are left are dropped",
    "PyramidDrop, arXiv 2410.17247",
    "its code ranks by queries and keys that the layer after the cut makes of the rows, here by those of the layer \
     before it, as FastV does; its code counts positions anew from 0 after a cut, here rows keep their positions; its \
     scripts cut after layers 8, 16 and 24 of every model, here after each quarter of the layers (A9.9); its code \
     rounds the number of rows down (A9.8); the shares are those of its scripts, and the retention does not change them",
);

pub(super) const SPARSEVLM: Preset = table(
    "sparsevlm",
    Policy {
        prune: Prune::stages(Rater::Text, [(10, share(521, 3)), (22, share(347, 3)), (50, share(191, 3))]),
        ..WHOLE
    },
    "three times, the visual rows that the raters look at least are dropped; raters are the text rows that the image is \
     most like",
    "SparseVLM, arXiv 2410.04417",
    "its code also merges three tenths of the dropped rows into clusters, and counts positions anew; here dropped rows are \
     gone and rows keep their positions, as in its version 2.0 (A9.15); that version also divides attention by the effect of \
     rotary and lets 14 heads rank; its code cuts after layers 2, 6 and 15 of every model, here at the same shares of the \
     layers; the shares are those of its table for 192 tokens, and the retention does not change them (A9.16)",
);

pub(super) const FASTERVLM: Preset = table(
    "fastervlm",
    Policy { prune: Prune::before_decoder(Rater::Class), ..WHOLE },
    "before the decoder, the visual rows that the vision tower's class token looks at least are dropped",
    "FasterVLM, arXiv 2412.01818",
    "only for towers with a class token (CLIP, InternViT); its code keeps the same number of rows of each tile, here the \
     rows of all tiles and images compete (A9.10); its packing of tiles has no newline rows, here they are the first to \
     be dropped (A9.10); positions are counted anew, as in its code (A9.12)",
);

pub(super) const VISIONZIP: Preset = table(
    "visionzip",
    Policy { prune: Prune::before_decoder(Rater::Zip), ..WHOLE },
    "before the decoder, the visual rows that the vision tower looks at most stay, and the others are merged into a few rows \
     by the likeness of their keys",
    "VisionZip, arXiv 2412.04467",
    "54 dominant rows to 10 contextual rows, as in its code (A9.17); the class token's own row is not computed, and contextual \
     rows stand in the places of their targets (A9.13); its code keeps the same number of rows of each tile, here the rows of \
     all tiles and images compete (A9.10); where rows do not reach the projector one by one, sums are of visual rows, as in \
     EffiVLM-Bench (A9.18); EffiVLM-Bench reads the layer before the last of every tower, here the layer whose output the \
     projector reads, and for InternViT it averages scores before the softmax (A9.11)",
);

pub(super) const DOMINANT: Preset = table(
    "visionzip-dominant",
    Policy { prune: Prune::before_decoder(Rater::Dominant), ..WHOLE },
    "before the decoder, the visual rows that the vision tower looks at least are dropped: its class token, or all rows",
    "VisionZip, arXiv 2412.04467",
    "the dominant tokens of VisionZip without contextual tokens (A9.13); otherwise as visionzip",
);

pub(super) const DIVPRUNE: Preset = table(
    "divprune",
    Policy { prune: Prune::before_decoder(Rater::Diverse), ..WHOLE },
    "before the decoder, visual rows stay that are far from each other: each is the farthest from those chosen before it",
    "DivPrune, arXiv 2503.02175",
    "the same choice as its code; its code takes the rows of the first image only, here the rows of all images compete \
     (A9.10); it rounds a half to even (A9.8), and may choose a row twice if all other rows are copies of chosen ones",
);
