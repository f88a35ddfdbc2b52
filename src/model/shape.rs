//! The shapes of public models, for measuring without their weights.
//!
//! Source: each model's `config.json` on the Hugging Face hub; what is left out is transformers' default.

use super::{Model, parts};
use crate::config::{FamilyConfig, GenerationConfig};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::num::Grid;
use crate::weights::Checkpoint;
use serde_json::{Value, json};

/// The names of the shapes.
pub const SHAPES: [&str; 6] =
    ["llava-ov-0.5b", "llava-ov-7b", "qwen2-vl-2b", "qwen2-vl-7b", "internvl2-1b", "internvl2-8b"];

/// The sizes of a language model: hidden, MLP, layers, heads, KV heads, vocabulary, and whether the head is tied.
type Text = (usize, usize, usize, usize, usize, usize, bool);

impl FamilyConfig {
    /// The configuration of a public model, its vocabulary cut to `vocab` if given.
    ///
    /// # Errors
    /// No shape of this name; a vocabulary that cannot be.
    ///
    /// ```
    /// let config = aircache::config::FamilyConfig::shape("llava-ov-0.5b", Some(32000))?;
    /// assert_eq!((config.text().layers, config.text().vocab), (24, 32000));
    /// # Ok::<(), aircache::Error>(())
    /// ```
    pub fn shape(name: &str, vocab: Option<usize>) -> Result<FamilyConfig> {
        let text: Text = match name {
            "llava-ov-0.5b" => (896, 4864, 24, 14, 2, 152_000, true),
            "llava-ov-7b" => (3584, 18_944, 28, 28, 4, 152_128, false),
            "qwen2-vl-2b" => (1536, 8960, 28, 12, 2, 151_936, true),
            "qwen2-vl-7b" => (3584, 18_944, 28, 28, 4, 152_064, false),
            "internvl2-1b" => (896, 4864, 24, 14, 2, 151_655, false),
            "internvl2-8b" => (4096, 14_336, 32, 32, 8, 92_553, false),
            other => return Err(Error::new("--shape", SHAPES.join(", "), format!("{other:?}"))),
        };
        let (hidden, mlp, layers, heads, kv_heads, whole, tied) = text;
        let vocab = vocab.unwrap_or(whole);
        let image_token = 151_646.min(vocab.saturating_sub(1));
        let text = json!({
            "model_type": if name == "internvl2-8b" { "llama" } else { "qwen2" }, "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
            "rope_theta": 1e6, "max_position_embeddings": 131_072,
        });
        let family = name.split('-').next().unwrap_or_default();
        let config = match family {
            "llava" => json!({
                "model_type": "llava_onevision", "text_config": text, "tie_word_embeddings": tied,
                "image_token_index": image_token, "image_grid_pinpoints": [[384, 384], [384, 768], [768, 384], [768, 768]],
            }),
            // In transformers' arrangement; InternLM2 computes what Llama does, its three projections in one matrix.
            "internvl2" => json!({
                "model_type": "internvl", "text_config": text, "tie_word_embeddings": tied,
                "image_token_id": image_token, "vision_config": {"attention_bias": true},
            }),
            _ => {
                let mut flat = text;
                flat["model_type"] = "qwen2_vl".into();
                flat["tie_word_embeddings"] = tied.into();
                flat["image_token_id"] = image_token.into();
                flat["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
                flat["vision_config"] = json!({"hidden_size": hidden});
                flat
            }
        };
        let Value::Object(map) = config else { unreachable!("an object was written") };
        FamilyConfig::read(&Files::Embedded(&[]), name, &map)
    }
}

impl Model {
    /// A model of this configuration whose weights nobody trained, stored in f32 (native) or a type of 16 bits.
    ///
    /// # Errors
    /// None that a configuration that was read can cause.
    pub fn invented(config: FamilyConfig, stored: Grid) -> Result<Model> {
        let checkpoint = Checkpoint::empty("weights that nobody trained");
        let (decoder, vision) = parts(&config, &Self::names(&config, &checkpoint).inventing(stored))?;
        let generation = GenerationConfig::load(&Files::Embedded(&[]))?;
        Ok(Model { config, generation, decoder, checkpoint, vision })
    }

    /// Bytes of the weights that [`invented`](Self::invented) would make.
    ///
    /// # Errors
    /// None that a configuration that was read can cause.
    pub fn invented_bytes(config: &FamilyConfig, stored: Grid) -> Result<u64> {
        let checkpoint = Checkpoint::empty("weights that nobody trained");
        parts(config, &Self::names(config, &checkpoint).counting(stored))?;
        Ok(checkpoint.bytes())
    }
}
