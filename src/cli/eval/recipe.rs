//! Recipes: how a benchmark asks its questions. A recipe is a TOML file, bundled or the user's own.

use aircache::eval::Questions;
use aircache::files::read_text;
use aircache::input::Limits;
use aircache::{Error, Result};
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The largest size of a recipe.
const MAX_BYTES: u64 = 1 << 20;
/// The steps that a prompt's template may take.
const FUEL: u64 = 1_000_000;

macro_rules! bundled {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("recipes/", $name, ".toml")))),*] };
}
const BUNDLED: [(&str, &str); 14] = bundled! {
    "lmms-eval/docvqa-val" "lmms-eval/infovqa-val" "lmms-eval/chartqa" "lmms-eval/textvqa-val" "lmms-eval/ocrbench"
    "lmms-eval/mme" "lmms-eval/mmbench-en-dev" "vlmevalkit/docvqa-val" "vlmevalkit/infovqa-val" "vlmevalkit/chartqa"
    "vlmevalkit/textvqa-val" "vlmevalkit/ocrbench" "vlmevalkit/mme" "vlmevalkit/mmbench-en-dev"
};

/// A recipe as its file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a recipe")]
struct File {
    /// What the recipe is, and where it comes from.
    about: String,
    /// The names of the metrics.
    metrics: Vec<String>,
    /// How every family is asked.
    ask: Asked,
    /// What is different for a family, by `model_type`.
    #[serde(default)]
    family: BTreeMap<String, Asked>,
}

/// How a question is asked. Fields of a family replace those of the recipe.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "settings of a recipe")]
pub struct Asked {
    /// A Jinja template of the prompt; it sees the fields of the question's line. Without it, the question is asked as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// The system turn, for questions that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// The largest number of tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_pixels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_pixels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tiles: Option<usize>,
}

/// A recipe, for one family.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name, or the path of its file.
    pub name: String,
    /// What it is, and where it comes from.
    pub about: String,
    /// The names of its metrics, separated by commas.
    pub metrics: String,
    /// How questions are asked.
    pub asked: Asked,
}

impl Recipe {
    /// A bundled recipe by its name, or a file whose name ends in `.toml`, for a family.
    ///
    /// # Errors
    /// No recipe has this name; the file cannot be read, or has another form.
    pub fn load(name: &str, family: &str) -> Result<Recipe> {
        let text = match BUNDLED.iter().find(|(bundled, _)| *bundled == name) {
            Some((_, text)) => text.to_string(),
            None if name.ends_with(".toml") => {
                let bytes = read_text(Path::new(name), "a readable recipe", MAX_BYTES)?;
                String::from_utf8(bytes).map_err(|e| Error::new(name, "a recipe in UTF-8", e))?
            }
            None => {
                let names: Vec<&str> = BUNDLED.iter().map(|(name, _)| *name).collect();
                let expected = format!("one of {}, or a file.toml", names.join(", "));
                return Err(Error::new("--recipe", expected, format!("{name:?}")));
            }
        };
        let file: File = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Error::new(format!("{name}: line {line}"), "a recipe in TOML", e.message())
                .remedy("a recipe has about and metrics, and in [ask] and [family.NAME] any of prompt, system, max_new_tokens, min_pixels, max_pixels, max_tiles")
        })?;
        let (asked, own) = (file.ask, file.family.get(family).cloned().unwrap_or_default());
        let asked = Asked {
            prompt: own.prompt.or(asked.prompt),
            system: own.system.or(asked.system),
            max_new_tokens: own.max_new_tokens.or(asked.max_new_tokens),
            min_pixels: own.min_pixels.or(asked.min_pixels),
            max_pixels: own.max_pixels.or(asked.max_pixels),
            max_tiles: own.max_tiles.or(asked.max_tiles),
        };
        Ok(Recipe { name: name.into(), about: file.about, metrics: file.metrics.join(","), asked })
    }

    /// The limits of pictures.
    pub fn limits(&self) -> Limits {
        let Asked { min_pixels, max_pixels, max_tiles, .. } = self.asked;
        Limits { min_pixels, max_pixels, max_tiles }
    }

    /// Asks every question as the recipe says. Conversations stay as they are.
    ///
    /// # Errors
    /// The template fails on a question, for example because its line lacks a field.
    pub fn ask(&self, questions: &mut Questions) -> Result<()> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        engine.set_fuel(Some(FUEL));
        engine.set_trim_blocks(true);
        engine.set_keep_trailing_newline(true);
        let at = format!("{}: prompt", self.name);
        let wrong = |at: &str, e: minijinja::Error| {
            Error::new(
                at,
                "a Jinja template over the fields of a question",
                e.detail().map_or(e.to_string(), str::to_string),
            )
        };
        let template = self.asked.prompt.as_deref().map(|prompt| engine.template_from_str(prompt));
        let template = template.transpose().map_err(|e| wrong(&at, e))?;
        for (q, item) in questions.items.iter_mut().enumerate().filter(|(_, item)| item.messages.is_none()) {
            item.system = item.system.take().or_else(|| self.asked.system.clone());
            let Some(template) = &template else { continue };
            let options: BTreeMap<String, &String> =
                item.options.iter().map(|(c, text)| (c.to_string(), text)).collect();
            let fields = Value::from_serialize(&item.fields);
            let prompt = template.render(context! { options, ..fields });
            item.question = prompt.map_err(|e| wrong(&format!("{at}: question {}", q + 1), e))?;
        }
        Ok(())
    }

    /// The settings as they hold, for the journal and the results.
    pub fn settings(&self) -> serde_json::Value {
        let mut settings = serde_json::to_value(&self.asked).unwrap_or_default();
        settings["name"] = self.name.clone().into();
        settings["about"] = self.about.clone().into();
        settings
    }

    /// The settings as they hold, for people.
    pub fn words(&self) -> String {
        let settings = serde_json::to_value(&self.asked).unwrap_or_default();
        let fields = settings.as_object().into_iter().flatten();
        let lines = fields.map(|(key, value)| format!("\n          {key} = {value}"));
        format!(
            "recipe    {}: {}{}\n          metrics = {}",
            self.name,
            self.about,
            lines.collect::<String>(),
            self.metrics
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_recipe_can_be_read_and_its_metrics_exist() {
        for (name, text) in BUNDLED {
            let file: File = toml::from_str(text).unwrap();
            let known = aircache::family::toys().unwrap().into_iter().map(|(family, _)| family);
            known.for_each(|family| assert!(file.family.contains_key(family), "{name} says nothing about {family}"));
            assert!(file.family.len() >= 8, "{name}: some families have two model types");
            for family in file.family.keys().map(String::as_str).chain(["another"]) {
                let recipe = Recipe::load(name, family).unwrap();
                aircache::eval::Metric::list(&recipe.metrics).unwrap();
                assert!(recipe.asked.max_new_tokens.is_some() || family == "another", "{name}, {family}");
            }
        }
    }

    /// The prompts of VLMEvalKit's own code: tests/golden/metrics/prompts.json.
    #[test]
    fn multiple_choice_is_asked_as_vlmevalkit_asks_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read(root.join("tests/golden/metrics/prompts.json")).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&golden).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for case in &cases {
            let mut line = case["line"].as_object().unwrap().clone();
            let letters: Vec<String> = line.keys().filter(|key| key.len() == 1).cloned().collect();
            let options = letters.iter().map(|letter| (letter.clone(), line.remove(letter).unwrap())).collect();
            line.insert("options".into(), serde_json::Value::Object(options));
            let file = folder.path().join("q.jsonl");
            std::fs::write(&file, serde_json::Value::Object(line).to_string()).unwrap();
            for (family, asked) in case["asked"].as_object().unwrap() {
                let mut questions = Questions::read_open(&file).unwrap();
                Recipe::load("vlmevalkit/mmbench-en-dev", family).unwrap().ask(&mut questions).unwrap();
                assert_eq!(questions.items[0].question, asked.as_str().unwrap(), "{family}");
            }
        }
    }
}
