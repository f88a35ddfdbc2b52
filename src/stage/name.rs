//! One stage and its name.

use super::row::{Kind, Place, Row, Site};
use super::table::TABLE;
use std::cmp::Ordering;
use std::fmt;

/// One stage: a row of the table, with its layer and its step. Stages compare in causal order.
///
/// ```
/// use aircache::stage::{Site, Stage};
/// assert_eq!(Stage::layer(Site::Mix, 7).to_string(), "decoder.07.mix");
/// assert_eq!(Stage::step(Site::StepLogits, 7).to_string(), "step.0007.logits");
/// assert_eq!(Stage::of_step(Site::StepMix, 7, 3).to_string(), "step.0007.03.mix");
/// assert_eq!(Stage::once(Site::Norm).to_string(), "decoder.norm");
/// assert_eq!(Stage::parse("decoder.07.mix"), Some(Stage::layer(Site::Mix, 7)));
/// assert_eq!(Stage::parse("decoder.7.mix"), None); // layers have two digits
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Its row of the table.
    pub site: Site,
    /// The layer; 0 where there is none.
    pub layer: usize,
    /// The decode step; 0 where there is none.
    pub step: usize,
}

impl Stage {
    /// A stage that exists once.
    pub fn once(site: Site) -> Stage {
        Stage { site, layer: 0, step: 0 }
    }

    /// A stage of a layer.
    pub fn layer(site: Site, layer: usize) -> Stage {
        Stage { site, layer, step: 0 }
    }

    /// A stage of a decode step.
    pub fn step(site: Site, step: usize) -> Stage {
        Stage { site, layer: 0, step }
    }

    /// A stage of a layer in a decode step.
    pub fn of_step(site: Site, step: usize, layer: usize) -> Stage {
        Stage { site, layer, step }
    }

    /// The stage of this name; none if no stage has exactly this name.
    pub fn parse(name: &str) -> Option<Stage> {
        let words: Vec<&str> = name.split('.').collect();
        let [part, numbers @ .., last] = &words[..] else { return None };
        let places: &[Place] = match numbers.len() {
            0 => &[Place::Once],
            1 => &[Place::VisionLayer, Place::Layer, Place::Step],
            2 => &[Place::StepLayer],
            _ => return None,
        };
        let row = TABLE.iter().find(|r| r.part == *part && r.name == *last && places.contains(&r.place))?;
        let mut parsed = numbers.iter().map(|n| n.parse::<usize>().ok());
        let mut number = || parsed.next().flatten();
        let (step, layer) = match row.place {
            Place::Once => (0, 0),
            Place::VisionLayer | Place::Layer => (0, number()?),
            Place::Step => (number()?, 0),
            Place::StepLayer => (number()?, number()?),
        };
        // Each number has only one valid spelling.
        Some(Stage { site: row.site, layer, step }).filter(|stage| stage.to_string() == name)
    }

    /// The stage's name, which is the tensor's name in a bundle.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// The stage's row of the table.
    pub fn row(self) -> &'static Row {
        &TABLE[self.site as usize]
    }

    /// The stage that was probably meant by an unknown name: numbers are written differently, or one or two letters
    /// differ.
    ///
    /// ```
    /// use aircache::stage::Stage;
    /// let meant = |name| Stage::meant(name).map(Stage::name);
    /// assert_eq!(meant("decoder.3.mix").unwrap(), "decoder.03.mix");
    /// assert_eq!(meant("decoder.03.queries").unwrap(), "decoder.03.query");
    /// assert_eq!(meant("model.layers.3"), None);
    /// ```
    pub fn meant(name: &str) -> Option<Stage> {
        let words: Vec<&str> = name.split('.').collect();
        let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let letters = |text: &str| -> Vec<char> { text.chars().filter(|c| c.is_alphabetic() || *c == '.').collect() };
        let blotted =
            letters(&words.iter().filter(|w| w.parse::<usize>().is_err()).copied().collect::<Vec<_>>().join("."));
        let near = TABLE.iter().filter_map(|row| {
            let stage = match (row.place, &numbers[..]) {
                (Place::Once, []) => Stage::once(row.site),
                (Place::VisionLayer | Place::Layer, &[layer]) => Stage::layer(row.site, layer),
                (Place::Step, &[step]) => Stage::step(row.site, step),
                (Place::StepLayer, &[step, layer]) => Stage::of_step(row.site, step, layer),
                _ => return None,
            };
            let off = distance(&blotted, &letters(&format!("{}.{}", row.part, row.name)));
            (off <= 3).then_some((off, stage))
        });
        near.min_by_key(|(off, _)| *off).map(|(_, stage)| stage)
    }

    /// Whether a pass computes the stage as numbers of one shape: a stage of tower, projector, decoder or decode step.
    pub fn is_computed(self) -> bool {
        let Row { part, kind, .. } = self.row();
        matches!(*part, "vision" | "projector" | "decoder" | "step") && *kind == Kind::Numbers
    }

    /// Whether the stage belongs to a decode step. The shape of such a stage has no axis for the prompt's rows.
    pub fn is_step(self) -> bool {
        matches!(self.row().place, Place::Step | Place::StepLayer)
    }

    /// The stages of these names in causal order, each once; names that are no stages are skipped.
    pub fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Stage> {
        let mut stages: Vec<Stage> = names.filter_map(Stage::parse).collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// The key of the causal order: runs of rows that repeat together, then steps, layers, rows.
    fn rank(self) -> (usize, usize, usize, Site) {
        let run = |r: &Row| (r.part, r.place == Place::Step || r.place == Place::StepLayer, r.place == Place::Once);
        let rows = &TABLE[..=self.site as usize];
        let group = rows.windows(2).filter(|pair| run(&pair[0]) != run(&pair[1])).count();
        let layer = if self.row().place == Place::Step { usize::MAX } else { self.layer };
        (group, self.step, layer, self.site)
    }
}

impl Ord for Stage {
    fn cmp(&self, other: &Stage) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Stage {
    fn partial_cmp(&self, other: &Stage) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stage { layer, step, .. } = self;
        let Row { part, name, place, .. } = self.row();
        match place {
            Place::Once => write!(f, "{part}.{name}"),
            Place::VisionLayer | Place::Layer => write!(f, "{part}.{layer:02}.{name}"),
            Place::Step => write!(f, "{part}.{step:04}.{name}"),
            Place::StepLayer => write!(f, "{part}.{step:04}.{layer:02}.{name}"),
        }
    }
}

/// The number of letters to add, remove or change.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = before + usize::from(x != y);
            let least = changed.min(row[j] + 1).min(row[j + 1] + 1);
            before = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_2_rows_stand_at_their_sites_and_names_are_read_back() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.site as usize, i, "{}", row.pattern());
            let stage = match row.place {
                Place::Once => Stage::once(row.site),
                Place::VisionLayer | Place::Layer => Stage::layer(row.site, 5),
                Place::Step => Stage::step(row.site, 123),
                Place::StepLayer => Stage::of_step(row.site, 10_000, 100),
            };
            assert_eq!(Stage::parse(&stage.to_string()), Some(stage));
        }
        for none in ["", "decoder", "decoder.07", "decoder.7.mix", "step.7.logits", "decoder.007.mix", "a.b.c.d.e"] {
            assert_eq!(Stage::parse(none), None, "{none}");
        }
    }

    #[test]
    fn d10_4_the_order_is_causal() {
        let names = "step.0001.logits step.0000.logits step.0001.00.query step.0000.01.out step.0000.00.out decoder.01.query \
                     decoder.00.out decoder.norm policy.01.kept policy.budget policy.01.window output.ids cache.00.key input.ids";
        let found: Vec<String> = Stage::sorted(names.split_whitespace()).iter().map(Stage::to_string).collect();
        let want = "input.ids decoder.00.out decoder.01.query decoder.norm policy.01.window policy.budget policy.01.kept \
                    cache.00.key step.0000.00.out step.0000.01.out step.0000.logits step.0001.00.query step.0001.logits output.ids";
        assert_eq!(found, want.split_whitespace().collect::<Vec<_>>());
    }
}
