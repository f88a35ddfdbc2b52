//! What the table says of a stage: which it is, its name, shape and kind, and what it is computed from.

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
    Embed,
    Query,
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

/// How many stages a row of the table has, and which numbers stand in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One: `decoder.norm`.
    Once,
    /// One a layer of the vision tower: `vision.03.out`.
    VisionLayer,
    /// One a decoder layer: `decoder.07.mix`.
    Layer,
    /// One a decode step: `step.0007.logits`.
    Step,
    /// One a decode step and decoder layer: `step.0007.03.mix`.
    StepLayer,
}

/// How a stage's values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Real numbers, by the errors that honest computations show.
    Numbers,
    /// Whole numbers, which have to be the same.
    Integers,
    /// Rows or tokens that a rule chose, by the choices that honest computations allow.
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

/// A part of what a stage is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The other stage of the same layer and step.
    Here(Site),
    /// The stage one layer before; in the first layer the other one.
    Before(Site, Site),
    /// The stage of the last layer; without layers the other one.
    Last(Site, Site),
    /// The stage of every layer.
    Every(Site),
    /// The stage, where images decide where rows stand (M-RoPE).
    Placed(Site),
    /// The stage, where the prompt has visual rows.
    Visual(Site),
    /// The stage that tells how pixels lie: sizes, or grids.
    Lie,
}

/// What is known of a stage.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The row's own place in the table.
    pub site: Site,
    /// The first word of the name.
    pub part: &'static str,
    /// The last word of the name.
    pub name: &'static str,
    /// How many there are, and so which numbers stand in the name.
    pub place: Place,
    /// The shape in the symbols of T1.1, slowest index first; other shapes of the same stage after it.
    pub shape: &'static str,
    /// The type in a bundle; none: the type of the run.
    pub stored: Option<&'static str>,
    /// How a value is compared.
    pub kind: Kind,
    /// What the stage is computed from; nothing: it comes from outside.
    pub from: &'static [From],
    /// Whether a golden may hold some of the rows only (D10.10).
    pub sampled: bool,
    /// The version of this library that recorded it first.
    pub since: &'static str,
    /// What it is.
    pub what: &'static str,
}

impl Row {
    /// The name with its numbers left open: `step.TTTT.LL.mix`.
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

    /// The same row, of which a golden may hold some rows only.
    pub(super) const fn sampled(self) -> Row {
        Row { sampled: true, ..self }
    }

    /// The same row in a type of its own.
    pub(super) const fn stored(self, stored: &'static str, kind: Kind) -> Row {
        Row { stored: Some(stored), kind, ..self }
    }

    /// The same row, recorded since a later version.
    pub(super) const fn since(self, since: &'static str) -> Row {
        Row { since, ..self }
    }
}
