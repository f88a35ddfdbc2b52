//! The stages that a stage is computed from, for a model of some size. Not here: which program has which stage.

use super::name::Stage;
use super::row::{From, Place, Row, Site};
use super::table::TABLE;

impl From {
    /// In words, for tables.
    pub fn words(self) -> String {
        let name = |site: Site| format!("`{}`", TABLE[site as usize].pattern());
        match self {
            From::Here(site) => name(site),
            From::Before(site, first) => format!("{} of the layer before, else {}", name(site), name(first)),
            From::Last(site, _) => format!("{} of the last layer", name(site)),
            From::Every(site) => format!("{} of all layers", name(site)),
            From::Earlier(site) => format!("{} of earlier steps", name(site)),
            From::Placed(site) => format!("{} (M-RoPE)", name(site)),
            From::Visual(site) => format!("{} (images)", name(site)),
            From::Tapped(site) => format!("{} of one layer", name(site)),
            From::Added(site) => format!("{} of the layer before (DeepStack)", name(site)),
            From::Valued(site) => format!("{} (scores of values)", name(site)),
            From::Expected(site) => format!("{} (`score=expected`)", name(site)),
            From::Chosen(site) => format!("{} of this or an earlier layer (`prune`)", name(site)),
            From::ChosenBefore(site) => format!("{} of an earlier layer (`prune`)", name(site)),
            From::Asked(site) => format!("{} of the layer before", name(site)),
            From::Polled(site) => format!("{} (`prune`)", name(site)),
            From::Rated => "what rates rows before layer 0 (`prune`)".into(),
            From::Zipped(site) => format!("{} (`prune=zip`)", name(site)),
            From::Summed => "`vision.features` or `projector.out`".into(),
            From::Lie => "`input.sizes` or `input.grid`".into(),
        }
    }
}

/// The facts of a model and a prompt that decide from which stages a stage is computed.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Decoder layers.
    pub layers: usize,
    /// The number of vision layers that are computed.
    pub vision_layers: usize,
    /// The tower layers whose features DeepStack adds after the first decoder layers, in order.
    pub deepstack: &'a [usize],
    /// The layers before which rows are dropped, ascending (D9.9).
    pub cuts: &'a [usize],
    /// Those of them before which text rows rate (D9.11).
    pub polled: &'a [usize],
    /// The stages that the votes before layer 0 are computed from; empty if nobody votes there (D9.10).
    pub rated: &'a [Stage],
    /// The stages that merged rows are computed from; empty if none are merged before the decoder (D9.12).
    pub summed: &'a [Stage],
    /// The stage that gives the arrangement of pixels.
    pub lie: Site,
    /// Whether images decide the positions of rows (M-RoPE).
    pub placed: bool,
    /// Whether the prompt has visual rows.
    pub visual: bool,
    /// Whether the policy's score reads values.
    pub values: bool,
    /// Whether the policy's score expects later queries.
    pub expects: bool,
    /// Whether the tiles are known although their arrangement is not: the tower reads each tile alone.
    pub tiles: bool,
}

impl Facts<'_> {
    /// How many layers have a stage of this row; none if the stage belongs to no layer.
    pub fn layers_of(&self, row: &Row) -> Option<usize> {
        match row.place {
            Place::Once | Place::Step => None,
            _ if row.site == Site::Deepstack => Some(self.deepstack.len()),
            Place::VisionLayer => Some(self.vision_layers),
            Place::Layer | Place::StepLayer => Some(self.layers),
        }
    }

    /// The last of the layers below `end` before which rows are dropped.
    fn cut(&self, end: usize) -> Option<usize> {
        self.cuts.iter().copied().rfind(|&layer| layer < end)
    }

    /// The stages that a stage is computed from; none if the stage is an input, or if the model does not have its
    /// layer.
    pub fn origins(&self, stage: Stage) -> Option<Vec<Stage>> {
        let row = stage.row();
        let outside = row.from.is_empty() || (row.site == Site::Positions && !self.placed);
        if outside || self.layers_of(row).is_some_and(|layers| stage.layer >= layers) {
            return None;
        }
        let at = |site: Site, layer: usize| match Stage::once(site).row().place {
            // A step is computed from one of the tokens: the token of its own number.
            Place::Once if site == Site::OutputIds => Stage::step(site, stage.step),
            Place::Once => Stage::once(site),
            Place::VisionLayer | Place::Layer => Stage::layer(site, layer),
            Place::Step => Stage::step(site, stage.step),
            Place::StepLayer => Stage::of_step(site, stage.step, layer),
        };
        let origins = row.from.iter().flat_map(|from| match *from {
            From::Here(site) => vec![at(site, stage.layer)],
            From::Before(site, first) => match stage.layer {
                0 => vec![at(first, 0)],
                layer => vec![at(site, layer - 1)],
            },
            From::Last(site, none) => match self.layers_of(Stage::once(site).row()) {
                None | Some(0) => vec![at(none, 0)],
                Some(layers) => vec![at(site, layers - 1)],
            },
            From::Every(site) => (0..self.layers).map(|layer| at(site, layer)).collect(),
            From::Earlier(site) => (0..stage.step).map(|step| Stage::of_step(site, step, stage.layer)).collect(),
            From::Placed(site) if self.placed => vec![at(site, 0)],
            From::Visual(site) if self.visual => vec![at(site, 0)],
            From::Valued(site) if self.values => vec![at(site, stage.layer)],
            From::Expected(site) if self.expects => vec![at(site, stage.layer)],
            From::Placed(_) | From::Visual(_) | From::Valued(_) | From::Expected(_) => vec![],
            From::Asked(site) => stage.layer.checked_sub(1).map(|layer| at(site, layer)).into_iter().collect(),
            From::Polled(site) if self.polled.contains(&stage.layer) => vec![at(site, 0)],
            From::Polled(_) => vec![],
            From::Rated | From::Summed | From::Zipped(_) if stage.layer > 0 => vec![],
            From::Rated => self.rated.to_vec(),
            From::Summed => self.summed.to_vec(),
            From::Zipped(Site::Merged) if !self.summed.is_empty() => vec![at(Site::Into, 0), at(Site::Merged, 0)],
            From::Zipped(site) if !self.summed.is_empty() => vec![at(site, 0)],
            From::Zipped(_) => vec![],
            From::Chosen(site) => self.cut(stage.layer + 1).map(|layer| at(site, layer)).into_iter().collect(),
            From::ChosenBefore(site) => self.cut(stage.layer).map(|layer| at(site, layer)).into_iter().collect(),
            From::Tapped(site) => vec![at(site, self.deepstack[stage.layer])],
            From::Added(site) => {
                let layers = if row.place == Place::Once { self.layers } else { stage.layer };
                let before = layers.checked_sub(1).filter(|&layer| self.visual && layer < self.deepstack.len());
                before.map(|layer| at(site, layer)).into_iter().collect()
            }
            // Later layers of a tower follow the first layer, which already depends on the arrangement of pixels.
            From::Lie if row.place == Place::VisionLayer && stage.layer > 0 => vec![],
            From::Lie if row.site == Site::Features && self.vision_layers > 0 => vec![],
            From::Lie if self.tiles && row.part == "vision" => vec![],
            From::Lie => vec![Stage::once(self.lie)],
        });
        Some(origins.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_7_origins() {
        let facts = Facts {
            layers: 2,
            vision_layers: 1,
            deepstack: &[],
            cuts: &[],
            polled: &[],
            rated: &[],
            summed: &[],
            lie: Site::Grid,
            placed: true,
            visual: true,
            values: false,
            expects: false,
            tiles: false,
        };
        let of = |facts: Facts<'_>, name: &str| {
            let origins = facts.origins(Stage::parse(name).unwrap());
            origins.map(|o| o.iter().map(Stage::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of(facts, "decoder.01.query").unwrap(), "decoder.00.out input.positions");
        assert_eq!(of(facts, "decoder.00.out").unwrap(), "decoder.embed decoder.00.mix");
        assert_eq!(of(facts, "vision.00.out").unwrap(), "input.pixels input.grid");
        assert_eq!(of(facts, "vision.features").unwrap(), "vision.00.out");
        assert_eq!(of(facts, "policy.00.kept").unwrap(), "policy.00.importance policy.01.importance");
        assert_eq!(of(facts, "step.0003.logits").unwrap(), "step.0003.01.out");
        assert_eq!(of(facts, "step.0003.00.query").unwrap(), "output.ids input.positions");
        let mix = of(facts, "step.0001.00.mix").unwrap();
        assert!(mix.ends_with("step.0000.00.key step.0000.00.value"), "{mix}");
        let rated = Facts { cuts: &[0, 1], rated: &[Stage::once(Site::Projected)], ..facts };
        assert_eq!(of(rated, "decoder.00.votes").unwrap(), "projector.out");
        assert_eq!(of(rated, "decoder.01.votes").unwrap(), "decoder.00.query decoder.00.key decoder.00.rows");
        assert_eq!(of(rated, "decoder.00.out").unwrap(), "decoder.embed decoder.00.mix decoder.00.rows");
        let zipped = Facts { summed: &[Stage::once(Site::Features)], ..rated };
        assert_eq!(of(zipped, "decoder.00.merged").unwrap(), "decoder.00.into vision.features");
        let value = of(zipped, "decoder.00.value").unwrap();
        assert_eq!(value, "decoder.embed decoder.00.rows decoder.00.into decoder.00.merged");
        assert_eq!(of(zipped, "decoder.01.value").unwrap(), "decoder.00.out decoder.01.rows");
        let polled = Facts { cuts: &[1], polled: &[1], ..facts };
        assert_eq!(of(polled, "decoder.01.votes").unwrap(), "decoder.00.query decoder.00.key decoder.raters");
        let deep = Facts { vision_layers: 3, deepstack: &[0, 2], ..facts };
        assert_eq!(of(deep, "projector.01.deepstack").unwrap(), "vision.02.out");
        assert_eq!(of(deep, "decoder.01.value").unwrap(), "decoder.00.out projector.00.deepstack");
        assert_eq!(of(deep, "decoder.norm").unwrap(), "decoder.01.out projector.01.deepstack");
        assert_eq!(of(Facts { visual: false, ..deep }, "decoder.norm").unwrap(), "decoder.01.out");
        assert_eq!([of(deep, "projector.02.deepstack"), of(facts, "projector.00.deepstack")], [None, None]);
        assert_eq!(
            [of(facts, "input.ids"), of(facts, "decoder.02.mix"), of(facts, "vision.01.out")],
            [None, None, None]
        );
    }
}
