//! The known methods, by name: one table. The command `policies` prints the table, and the tests go through it.

use super::preset::{OURS, Preset, table};
use super::pruning::{DIVPRUNE, DOMINANT, FASTERVLM, FASTV_PRUNE, PYRAMIDDROP, SPARSEVLM, VISIONZIP, WHOLE};
use super::{Budget, Decimal, Evict, Heads, Keep, Keys, Policy, Scope, Score, Split, Window};
use crate::error::{Error, Result};

const AIRCACHE: Policy = Policy::AIRCACHE;
/// The model's own attention; all older methods use it.
const CAUSAL: Policy = Policy { keys: Keys::Causal, budget: Budget::Uniform, ..AIRCACHE };
/// Spec: A9.1, A9.2
const SNAPKV: Policy = Policy {
    window: Window::LastText(32),
    score: Score::Pool(5),
    heads: Heads::Kv,
    keep: Keep { window: true, ..Keep::TOP },
    ..CAUSAL
};
const PYRAMID: Budget = Budget::Pyramid { beta: Decimal::new(20, 0) };
const SPARSITY: Budget = Budget::Sparsity { p: 0.01 };
const RECEIVED: Policy = Policy { window: Window::AllQueries, score: Score::Sum, ..CAUSAL };
const UNATTENDED: Policy =
    Policy { window: Window::Nobody, score: Score::Position, budget: Budget::Uniform, ..AIRCACHE };

/// A row of the paper's ablations: AirCache with one part exchanged.
const fn ablation(name: &'static str, policy: Policy, line: &'static str) -> Preset {
    table(name, policy, line, OURS, "")
}

static PRESETS: [Preset; 44] = [
    table("full", WHOLE, "the whole cache: nothing is evicted", "", ""),
    table(
        "aircache",
        AIRCACHE,
        "elite text rows vote; layers share by strength and skewness",
        OURS,
        "no public code exists; A8.1 to A8.13 are our readings of the paper",
    ),
    table(
        "snapkv",
        SNAPKV,
        "the last 32 text rows vote, pooled over 5 positions, for each KV head; equal layers",
        "SnapKV, arXiv 2404.14469",
        "the window has 32 rows here and in the paper, 64 in kvpress; SnapKV's own code pools by average or maximum, \
         and keeps a set for each query head, because its cache holds repeated keys; here the query heads of a group \
         are averaged, as in kvpress; on visual entries, the window is at most the text after the image (A9.1)",
    ),
    table(
        "h2o",
        Policy { keep: Keep { recent: Decimal::new(5, 1), ..Keep::TOP }, ..RECEIVED },
        "attention from all queries; the most recent entries get half of the budget; equal layers",
        "H2O, arXiv 2306.14048",
        "H2O's own code keeps a set for each head and also evicts while decoding; here heads are averaged \
         (h2o,heads=kv keeps a set for each KV head), and eviction happens once, after prefill; kvpress and \
         EffiVLM-Bench do not reserve half of the budget for recent entries (h2o,keep=top), and kvpress divides by the \
         number of queries that see a key",
    ),
    table(
        "pyramidkv",
        Policy { budget: PYRAMID, ..SNAPKV },
        "SnapKV's votes; budgets fall linearly from the first layer to the last",
        "PyramidKV, arXiv 2406.02069",
        "public codes step from layer to layer in whole numbers, so totals differ, and put the window on top of the \
         budget; if the first layer would exceed all tokens, all versions lower it and raise the last; below twice the \
         mean budget they are uniform; kvpress uses equal budgets if the last layer's budget is below the window; \
         KVCache-Factory keeps everything if the prompt is shorter than the capacity",
    ),
    table(
        "prefixkv",
        Policy { budget: Budget::Prefix, keep: Keep { first: 4, last: 1, ..Keep::TOP }, ..RECEIVED },
        "attention from all queries; one cumulative share for all layers",
        "PrefixKV, arXiv 2412.03409",
        "its code searches the share by bisection and stops within 5 entries of the total, on profiles averaged over \
         samples; it puts the protected entries on top of the budget, then rescales and truncates the budgets; here \
         the share is exact, it is that of the prompt, and protected entries count in the budget (A9.3)",
    ),
    table(
        "vl-cache",
        Policy {
            window: Window::AllText,
            score: Score::Sum,
            budget: SPARSITY,
            keep: Keep { recent: Decimal::new(1, 1), ..Keep::TOP },
            ..CAUSAL
        },
        "all text after the image votes; layers share by the density of their attention; 10 % to the most recent",
        "VL-Cache, arXiv 2410.23317",
        "public code is in EffiVLM-Bench: it has the same densities and the same ranking, clips the budgets without \
         giving the rest to other layers, and its window is 10 % of the mean budget; the paper clips budgets to 1 % to \
         100 % of the tokens; here the densities are clipped, and caps follow A8.8 (A9.5)",
    ),
    table(
        "streaming",
        Policy { keep: Keep { first: 4, ..Keep::TOP }, ..UNATTENDED },
        "the first 4 and the most recent entries; no row votes",
        "StreamingLLM, arXiv 2309.17453",
        "its own code moves the kept entries to new positions; here they keep their positions; EffiVLM-Bench gives \
         90 % of the budget to the first entries",
    ),
    table(
        "random",
        Policy { score: Score::Random(0), ..UNATTENDED },
        "a seeded random choice: the control for every other method",
        "",
        "random:SEED is a score, so score=random:1 gives another random choice",
    ),
    table(
        "observed",
        Policy { score: Score::ReceivedMean, heads: Heads::Kv, ..RECEIVED },
        "attention from all queries, divided by the number of queries that see the entry, for each KV head; equal layers",
        "ObservedAttention, kvpress",
        "the same scores as kvpress; with scope=all the last row of the prompt always stays here (C9.5a)",
    ),
    table(
        "adakv",
        Policy { split: Split::Ada { floor: Decimal::new(2, 1) }, ..SNAPKV },
        "SnapKV's votes; the heads of a layer share its budget by their best entries, each has at least a fifth of it",
        "AdaKV, arXiv 2407.11550",
        "the same choice as kvpress, whose floor is a fifth; AdaKV's own code counts each head's entries among the best, \
         mixes the counts with the floor (a half) and rounds, and pools by the maximum of 7 \
         (adakv,split=ada:0.5,score=max-pool:7); its prompt's window comes on top of the budget",
    ),
    table(
        "look-m",
        Policy {
            heads: Heads::Kv,
            keep: Keep { recent: Decimal::new(1, 1), ..Keep::TOP },
            evict: Evict::Pivot,
            ..RECEIVED
        },
        "attention from all queries, for each KV head; evicted entries are merged into the kept ones with the likest keys",
        "LOOK-M, arXiv 2406.18139",
        "its code keeps text because it lowers the scores of an image by 65516, which leaves nothing of them in float16; here \
         text always stays; it also has merges by mean and by weight; in EffiVLM-Bench's merge_kv keys stand in another order than values, so that values go into other entries",
    ),
    table(
        "elastic-cache",
        Policy { keep: Keep { first: 4, last: 1, ..Keep::TOP }, evict: Evict::Nearest, ..RECEIVED },
        "attention from all queries; evicted entries are merged into the nearest kept ones; equal layers",
        "Elastic Cache, arXiv 2407.18121",
        "its code keeps the rows where the permutation of a sort, not the rank, exceeds the number to evict, and counts \
         evicted rows without the first rows that it protects, so that other rows are merged; here both follow the paper; \
         elastic-code does as the code",
    ),
    table(
        "elastic-code",
        Policy { keep: Keep { first: 4, last: 1, ..Keep::TOP }, evict: Evict::ElasticCode, ..RECEIVED },
        "Elastic Cache with the two slips of its public code: other entries stay, and other entries are merged",
        "Elastic Cache, arXiv 2407.18121",
        "the same kept entries and merges as the code (E9.21); its code keeps one entry less than its share says, here the \
         budget counts, and it evicts again while it decodes",
    ),
    table(
        "keydiff",
        Policy { score: Score::KeyDiff, heads: Heads::Kv, ..UNATTENDED },
        "keys that differ most from the mean direction of all keys, for each KV head; no row votes; equal layers",
        "KeyDiff, arXiv 2504.15364",
        "the same ranking as kvpress, which scores by the negative cosine; the paper evicts block by block while it \
         reads the prompt, here eviction happens once, after prefill",
    ),
    table(
        "knorm",
        Policy { score: Score::KeyNorm, heads: Heads::Kv, ..UNATTENDED },
        "the shortest keys, for each KV head; no row votes; equal layers",
        "Knorm, arXiv 2406.11430",
        "the same ranking as kvpress, which scores by the negative norm",
    ),
    table(
        "mixkv",
        Policy { score: Score::Mix(5), ..SNAPKV },
        "SnapKV's votes and the norms of values, mixed with the diversity of keys by how alike a head's keys are",
        "MixKV, arXiv 2510.20707",
        "its code reads how alike the keys of a head are from a file made of other prompts; here it is that of the \
         prompt, by the formula with which the file is made (A9.7); its code moves norms to 0 to 1 with a division by \
         zero if all are equal; here they count 0",
    ),
    table(
        "meda",
        Policy { budget: Budget::Entropy, keep: Keep { recent: Decimal::new(5, 1), ..Keep::TOP }, ..RECEIVED },
        "attention from all queries; layers share by e to the entropy of their attention; half to the most recent",
        "MEDA, arXiv 2502.17599",
        "its code takes the entropy of all rows, as here; its paper that between text and image; its code clips budgets \
         to 1 % to 100 % without giving the rest to other layers, and merges evicted entries",
    ),
    table(
        "tgv-kv",
        Policy { window: Window::AllText, score: Score::TextWeighted, budget: Budget::Votes, ..CAUSAL },
        "all text after the image votes, weighted by the attention that it receives; layers share by votes",
        "TGV-KV, arXiv 2606.03075",
        "its code keeps the first 4 and the last rows of the prompt and all text, and takes budgets over the whole \
         prompt; it rounds each layer alone and clips without giving the rest to other layers (A9.5)",
    ),
    table(
        "expected",
        Policy { score: Score::Expected(512), heads: Heads::Kv, ..UNATTENDED },
        "what queries at the next 512 positions are expected to give a key, times its value's norm, for each KV head",
        "Expected Attention, arXiv 2510.00636",
        "the same scores as kvpress, which evicts from the whole prompt; here text always stays, and with scope=all its last \
         row (C9.5a); kvpress counts the next positions from the number of rows, here they follow the prompt's largest \
         position (A9.19)",
    ),
    FASTV_PRUNE,
    PYRAMIDDROP,
    SPARSEVLM,
    FASTERVLM,
    VISIONZIP,
    DOMINANT,
    DIVPRUNE,
    ablation("last16", Policy { window: Window::LastText(16), ..AIRCACHE }, "AirCache, the last 16 text rows vote"),
    ablation("last32", Policy { window: Window::LastText(32), ..AIRCACHE }, "AirCache, the last 32 text rows vote"),
    ablation("all-text", Policy { window: Window::AllText, ..AIRCACHE }, "AirCache, all text after the image votes"),
    ablation(
        "last32-visual",
        Policy { window: Window::LastVisual(32), ..AIRCACHE },
        "AirCache, the last 32 visual rows vote",
    ),
    ablation("aircache-h2o", Policy { budget: Budget::Both, ..RECEIVED }, "AirCache's budgets, all queries vote"),
    ablation(
        "aircache-uniform",
        Policy { budget: Budget::Uniform, ..AIRCACHE },
        "AirCache, equal budgets in all layers",
    ),
    ablation("aircache-pyramid", Policy { budget: PYRAMID, ..AIRCACHE }, "AirCache, budgets falling linearly"),
    ablation(
        "aircache-prefix",
        Policy { budget: Budget::Prefix, ..AIRCACHE },
        "AirCache, one cumulative share for all layers",
    ),
    ablation("aircache-sparsity", Policy { budget: SPARSITY, ..AIRCACHE }, "AirCache, budgets by density"),
    ablation(
        "aircache-strength",
        Policy { budget: Budget::Strength, ..AIRCACHE },
        "AirCache, budgets by strength only",
    ),
    ablation(
        "aircache-skewness",
        Policy { budget: Budget::Skewness, ..AIRCACHE },
        "AirCache, budgets by skewness only",
    ),
    ablation(
        "aircache-union",
        Policy { heads: Heads::Union, ..AIRCACHE },
        "AirCache, the union of the elites of all heads (A8.2)",
    ),
    ablation("aircache-kv", Policy { heads: Heads::Kv, ..AIRCACHE }, "AirCache, a kept set for each KV head (A8.2)"),
    ablation(
        "aircache-masked",
        Policy { mask: super::Mask::Causal, ..AIRCACHE },
        "AirCache under a causal mask (A8.3)",
    ),
    ablation("aircache-all-keys", Policy { keys: Keys::All, ..AIRCACHE }, "AirCache, normalised over all keys (A8.4)"),
    ablation(
        "aircache-text-all",
        Policy { text: super::Text::All, ..AIRCACHE },
        "AirCache, text before the image votes too (A8.1)",
    ),
    ablation("aircache-evict-text", Policy { scope: Scope::All, ..AIRCACHE }, "AirCache, text may be evicted too"),
];

/// All known methods: the paper's comparisons first, then its ablations.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The method of that name.
///
/// # Errors
/// The name is unknown. The message lists the known names.
pub fn preset(name: &str) -> Result<&'static Preset> {
    PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
        Error::new(
            "policy",
            format!("parts such as budget=uniform, or one of {}", known.join(", ")),
            format!("{name:?}"),
        )
    })
}
