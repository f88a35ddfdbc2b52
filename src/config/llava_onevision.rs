//! LLaVA-OneVision's `config.json`, in the 4.x and the 5.x form.

use super::{Activation, DecoderConfig, SiglipConfig};

/// The whole model's configuration. Spec: T5.2
#[derive(Debug, Clone, PartialEq)]
pub struct LlavaOnevisionConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: SiglipConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// Resolutions (height, width) that an image may be tiled at, in the file's order.
    pub pinpoints: Vec<(usize, usize)>,
    /// N of `anyres_max_N`: past 1.1² · N tiles' worth of tokens the grid is shrunk.
    pub max_tiles: usize,
    /// The vision layers whose outputs the projector reads, concatenated: index into the hidden states, 0 = embeddings,
    /// k = after layer k; resolved from negative numbers.
    pub feature_layers: Vec<usize>,
    /// Whether the first token of each tile is dropped (`vision_feature_select_strategy` = `default`).
    pub drop_first: bool,
    /// The projector's activation.
    pub projector_activation: Activation,
    /// Whether the projector's layers have biases.
    pub projector_bias: bool,
}
