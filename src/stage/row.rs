//! The contents of the table: for each stage its site, name, shape and kind, and the stages that it is computed from.

/// Which row of the table a stage belongs to.
#[allow(missing_docs, reason = "the table says what each is")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    Sizes,
    Grid,
    Pixels,
    Ids,
    Roles,
    Positions,
    VisionOut,
    Features,
    Projected,
    Deepstack,
    Embed,
    Relevance,
    Raters,
    Votes,
    Metric,
    Into,
    Rows,
    Merged,
    Query,
    QueryMean,
    QueryCovariance,
    Key,
    Value,
    Mix,
    Out,
    Norm,
    Logits,
    Attention,
    Window,
    Importance,
    Strength,
    Skewness,
    Budget,
    Kept,
    CachePositions,
    CacheKey,
    CacheValue,
    StepQuery,
    StepKey,
    StepValue,
    StepMix,
    StepOut,
    StepLogits,
    OutputIds,
}

/// How often a stage of this row exists, and which numbers stand in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Once: `decoder.norm`.
    Once,
    /// Once for each layer of the vision tower: `vision.03.out`.
    VisionLayer,
    /// Once for each decoder layer: `decoder.07.mix`.
    Layer,
    /// Once for each decode step: `step.0007.logits`.
    Step,
    /// Once for each decode step and decoder layer: `step.0007.03.mix`.
    StepLayer,
}

/// How a stage's values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Real numbers, compared by the errors of honest computations.
    Numbers,
    /// Whole numbers, which have to be equal.
    Integers,
    /// Rows or tokens that a rule chose, compared by the choices that honest computations allow.
    Set,
}

impl Kind {
    /// The word for it in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Numbers => "numbers",
            Kind::Integers => "integers",
            Kind::Set => "set",
        }
    }
}

/// One input of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The other stage of the same layer and step.
    Here(Site),
    /// The first stage, of the layer before; in the first layer the second stage.
    Before(Site, Site),
    /// The first stage, of the last layer; the second stage if there are no layers.
    Last(Site, Site),
    /// The stage of every layer.
    Every(Site),
    /// The stage of the same layer in every earlier step.
    Earlier(Site),
    /// The stage, if images decide the positions of rows (M-RoPE).
    Placed(Site),
    /// The stage, if the prompt has visual rows.
    Visual(Site),
    /// The stage of the tower layer whose features these are (DeepStack).
    Tapped(Site),
    /// The stage of the layer before, if that layer's result has visual rows added to it (DeepStack).
    Added(Site),
    /// The stage, if the policy's score reads values.
    Valued(Site),
    /// The stage, if the policy's score expects later queries.
    Expected(Site),
    /// The stage of the last layer, up to this one, before which rows are dropped (D9.9).
    Chosen(Site),
    /// The same, before this layer.
    ChosenBefore(Site),
    /// The stage of the layer before, if there is one.
    Asked(Site),
    /// The stage, if text rows rate before this layer (D9.11).
    Polled(Site),
    /// In the first layer: what a rater before the decoder reads (D9.10).
    Rated,
    /// In the first layer: the stage, if rows are merged before the decoder (D9.12). Merged rows come with the places that
    /// they take.
    Zipped(Site),
    /// In the first layer: the rows that are summed before the decoder (D9.12).
    Summed,
    /// The stage that gives the arrangement of pixels: sizes, or grids.
    Lie,
}

/// Everything known about a stage.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The row's own place in the table.
    pub site: Site,
    /// The first word of the name.
    pub part: &'static str,
    /// The last word of the name.
    pub name: &'static str,
    /// How often the stage exists; this decides which numbers stand in the name.
    pub place: Place,
    /// The shape in the symbols of T1.1, slowest index first; other shapes of the same stage follow.
    pub shape: &'static str,
    /// The type in a bundle; none if the stage has the type of the run.
    pub stored: Option<&'static str>,
    /// How a value is compared.
    pub kind: Kind,
    /// The stages that the stage is computed from; empty if the stage is an input.
    pub from: &'static [From],
    /// Whether a golden may hold only some of the rows (D10.10).
    pub sampled: bool,
    /// The first version of this library that recorded the stage.
    pub since: &'static str,
    /// A description of the stage.
    pub what: &'static str,
}

impl Row {
    /// The name with placeholders for its numbers: `step.TTTT.LL.mix`.
    pub fn pattern(&self) -> String {
        let numbers = match self.place {
            Place::Once => "",
            Place::VisionLayer | Place::Layer => "LL.",
            Place::Step => "TTTT.",
            Place::StepLayer => "TTTT.LL.",
        };
        format!("{}.{numbers}{}", self.part, self.name)
    }

    /// Whether the slowest index of the stage counts heads or KV heads.
    pub fn by_head(&self) -> bool {
        self.kind == Kind::Numbers && (self.shape.starts_with("[H, ") || self.shape.starts_with("[G, "))
    }

    /// The same row; a golden may hold only some rows of the stage.
    pub(super) const fn sampled(self) -> Row {
        Row { sampled: true, ..self }
    }

    /// The same row, stored in a type of its own.
    pub(super) const fn stored(self, stored: &'static str, kind: Kind) -> Row {
        Row { stored: Some(stored), kind, ..self }
    }

    /// The same row, first recorded by a later version.
    pub(super) const fn since(self, since: &'static str) -> Row {
        Row { since, ..self }
    }
}
