//! The table of stages, in causal order: one line for each row. Spec: T1.2

use super::row::From::{
    Added, Asked, Before, Chosen, ChosenBefore, Earlier, Every, Expected, Here, Last, Lie, Placed, Polled, Rated,
    Summed, Tapped, Valued, Visual, Zipped,
};
use super::row::Kind::{Integers, Numbers, Set};
use super::row::Place::{Layer, Once, Step, StepLayer, VisionLayer};
use super::row::{From, Place, Row, Site, Site as S};

/// A row of numbers in the type of the run.
const fn numbers(
    site: Site,
    (part, name): (&'static str, &'static str),
    place: Place,
    shape: &'static str,
    from: &'static [From],
    what: &'static str,
) -> Row {
    Row { site, part, name, place, shape, stored: None, kind: Numbers, from, sampled: false, since: "0.1", what }
}

/// Every stage. The index of a row is the number of its site (tested).
#[rustfmt::skip]
pub const TABLE: [Row; 44] = [
    numbers(S::Sizes, ("input", "sizes"), Once, "[images, 2]", &[], "height and width of each image as decoded").stored("I64", Integers),
    numbers(S::Grid, ("input", "grid"), Once, "[images, 3]", &[], "t, h, w in patches, in families that read images of any size").stored("I64", Integers),
    numbers(S::Pixels, ("input", "pixels"), Once, "as the family's processor gives them", &[], "normalised pixels").stored("F32", Numbers),
    numbers(S::Ids, ("input", "ids"), Once, "[n]", &[], "token ids, placeholders expanded").stored("I64", Integers),
    numbers(S::Roles, ("input", "roles"), Once, "[n]", &[], "0 text, 1 visual (D1.2)").stored("U8", Integers),
    numbers(S::Positions, ("input", "positions"), Once, "[n] or [3, n] (M-RoPE)", &[Placed(S::Ids), Lie], "rotary positions").stored("I64", Integers),
    numbers(S::VisionOut, ("vision", "out"), VisionLayer, "[tiles, tokens, d_v] or [patches, d_v]", &[Before(S::VisionOut, S::Pixels), Lie], "after each vision layer").sampled(),
    numbers(S::Features, ("vision", "features"), Once, "[tiles, tokens, d_v] or [patches, d_v]", &[Last(S::VisionOut, S::Pixels), Lie], "what the projector reads").sampled(),
    numbers(S::Projected, ("projector", "out"), Once, "[n_v, d]", &[Here(S::Features), Lie], "visual rows in prompt order").sampled(),
    numbers(S::Deepstack, ("projector", "deepstack"), Layer, "[n_v, d]", &[Tapped(S::VisionOut)], "what DeepStack adds to the visual rows after the decoder layer").sampled().since("0.2"),
    numbers(S::Embed, ("decoder", "embed"), Once, "[n, d]", &[Here(S::Ids), Visual(S::Projected)], "merged embeddings").sampled(),
    numbers(S::Relevance, ("decoder", "relevance"), Once, "[text rows that count]", &[Here(S::Embed)], "where `prune` has raters: what the visual rows give the text rows (E9.33)").since("0.3"),
    numbers(S::Raters, ("decoder", "raters"), Once, "[w]", &[Here(S::Relevance)], "where `prune` has raters: the text rows that rate, ascending").stored("I64", Set).since("0.3"),
    numbers(S::Votes, ("decoder", "votes"), Layer, "[visual rows that are left]", &[Asked(S::Query), Asked(S::Key), Polled(S::Raters), Rated, ChosenBefore(S::Rows)], "where `prune` drops rows before the layer: what the last row (E9.19) or the raters (E9.34) give the visual rows, or before layer 0 what the rater does (D9.10)").since("0.3"),
    numbers(S::Metric, ("decoder", "metric"), Layer, "[n_v, d_v / heads]", &[Rated], "where `prune=zip`, in layer 0: the mean of a visual row's keys over the tower's heads; zeros for a newline row (E9.35)").since("0.3"),
    numbers(S::Into, ("decoder", "into"), Layer, "[n_v]", &[Here(S::Votes), Here(S::Metric)], "where `prune=zip`, in layer 0: the visual row into which each visual row is merged; a target's is its own, −1 if the row is not merged (E9.35)").stored("I64", Set).since("0.3"),
    numbers(S::Rows, ("decoder", "rows"), Layer, "[n′]", &[Here(S::Votes), Zipped(S::Into), ChosenBefore(S::Rows)], "where `prune` drops rows before the layer: the prompt rows that are left, ascending; later stages have n′ rows").stored("I64", Set).since("0.3"),
    numbers(S::Merged, ("decoder", "merged"), Layer, "[targets, d]", &[Here(S::Into), Summed], "where `prune=zip`, in layer 0: the contextual rows, which enter the decoder in the places of their targets (E9.36)").since("0.3"),
    numbers(S::Query, ("decoder", "query"), Layer, "[H, n, d_h]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Placed(S::Positions), Chosen(S::Rows), Zipped(S::Merged)], "after rotary").sampled(),
    numbers(S::QueryMean, ("decoder", "query-mean"), Layer, "[H, d_h]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Placed(S::Positions)], "where `score=expected`: the mean of the prompt's queries before rotary, turned to the next positions (E9.37)").since("0.3"),
    numbers(S::QueryCovariance, ("decoder", "query-covariance"), Layer, "[H, d_h, d_h]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Placed(S::Positions)], "where `score=expected`: their covariance, turned likewise (E9.37)").since("0.3"),
    numbers(S::Key, ("decoder", "key"), Layer, "[G, n, d_h]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Placed(S::Positions), Chosen(S::Rows), Zipped(S::Merged)], "after rotary, as prefill caches it").sampled(),
    numbers(S::Value, ("decoder", "value"), Layer, "[G, n, d_h]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Chosen(S::Rows), Zipped(S::Merged)], "as prefill caches it").sampled(),
    numbers(S::Mix, ("decoder", "mix"), Layer, "[n, H·d_h]", &[Here(S::Query), Here(S::Key), Here(S::Value)], "attention output before the output projection").sampled(),
    numbers(S::Out, ("decoder", "out"), Layer, "[n, d]", &[Before(S::Out, S::Embed), Added(S::Deepstack), Here(S::Mix), Chosen(S::Rows), Zipped(S::Merged)], "residual stream after the layer, before DeepStack adds to it").sampled(),
    numbers(S::Norm, ("decoder", "norm"), Once, "[n, d]", &[Last(S::Out, S::Embed), Added(S::Deepstack)], "after the final norm").sampled(),
    numbers(S::Logits, ("decoder", "logits"), Once, "[V]", &[Here(S::Norm)], "logits of the last prompt token"),
    numbers(S::Attention, ("policy", "attention"), Layer, "[1, text rows], [H, …] (`heads=union`) or [G, …] (`heads=kv`)", &[Here(S::Query), Here(S::Key)], "where `window=elite`: what the last text row gives the text rows (E8.1)").stored("F64", Numbers),
    numbers(S::Window, ("policy", "window"), Layer, "[w], or U8 [G, n] (`heads=kv`)", &[Here(S::Query), Here(S::Key)], "prompt rows that vote").stored("I64", Set),
    numbers(S::Importance, ("policy", "importance"), Layer, "[n_v] or [G, n_v]", &[Here(S::Query), Here(S::Key), Valued(S::Value), Expected(S::QueryMean), Expected(S::QueryCovariance)], "E8.3, E8.4").stored("F64", Numbers),
    numbers(S::Strength, ("policy", "strength"), Once, "[L]", &[Every(S::Importance)], "before clamp and ′").stored("F64", Numbers),
    numbers(S::Skewness, ("policy", "skewness"), Once, "[L]", &[Every(S::Importance)], "before clamp and ′").stored("F64", Numbers),
    numbers(S::Budget, ("policy", "budget"), Once, "[L], or [L, G] (`split=ada`, `heads`)", &[Every(S::Importance)], "visual entries kept").stored("I64", Integers),
    numbers(S::Kept, ("policy", "kept"), Layer, "[b] or [G, b], or U8 [G, n_v] (`split=ada`, `heads`)", &[Every(S::Importance)], "kept visual tokens, ascending").stored("I64", Set),
    numbers(S::CachePositions, ("cache", "positions"), Layer, "[len], [3, len] or [G, len]", &[Here(S::Key), Here(S::Value), Here(S::Kept)], "where the kept entries stood").stored("I64", Integers),
    numbers(S::CacheKey, ("cache", "key"), Layer, "[G, len, d_h]", &[Here(S::Key), Here(S::Value), Here(S::Kept)], "after eviction, before the first step"),
    numbers(S::CacheValue, ("cache", "value"), Layer, "[G, len, d_h]", &[Here(S::Key), Here(S::Value), Here(S::Kept)], "after eviction, before the first step"),
    numbers(S::StepQuery, ("step", "query"), StepLayer, "[H, d_h]", &[Before(S::StepOut, S::OutputIds), Placed(S::Positions)], "of the token fed, after rotary").since("0.2"),
    numbers(S::StepKey, ("step", "key"), StepLayer, "[G, d_h]", &[Before(S::StepOut, S::OutputIds), Placed(S::Positions)], "what the step appends to the cache, after rotary").since("0.2"),
    numbers(S::StepValue, ("step", "value"), StepLayer, "[G, d_h]", &[Before(S::StepOut, S::OutputIds)], "what the step appends to the cache").since("0.2"),
    numbers(S::StepMix, ("step", "mix"), StepLayer, "[H·d_h]", &[Here(S::StepQuery), Here(S::StepKey), Here(S::StepValue), Here(S::CacheKey), Here(S::CacheValue), Earlier(S::StepKey), Earlier(S::StepValue)], "attention output before the output projection").since("0.2"),
    numbers(S::StepOut, ("step", "out"), StepLayer, "[d]", &[Before(S::StepOut, S::OutputIds), Here(S::StepMix)], "residual stream after the layer").since("0.2"),
    numbers(S::StepLogits, ("step", "logits"), Step, "[V]", &[Last(S::StepOut, S::OutputIds)], "after feeding generated token TTTT"),
    numbers(S::OutputIds, ("output", "ids"), Once, "[T]", &[Here(S::Logits)], "generated tokens").stored("I64", Integers),
];
