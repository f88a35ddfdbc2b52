//! What a checkpoint says of itself: `config.json` and `generation_config.json`, checked, with transformers' defaults.
//!
//! One struct a family, whose fields are plain numbers: whoever holds one need not check again. Spec: chapter 05, 06

mod decoder;
mod llava_onevision;
mod siglip;

pub use decoder::DecoderConfig;
pub use llava_onevision::LlavaOnevisionConfig;
pub use siglip::SiglipConfig;

/// An elementwise function of an MLP or projector. Spec: E3.6–E3.9
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu`
    Silu,
    /// `gelu`: with the error function.
    GeluErf,
    /// `gelu_pytorch_tanh`
    GeluTanh,
    /// `quick_gelu`
    QuickGelu,
}

/// The model families this library knows, with their configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum FamilyConfig {
    /// LLaVA-OneVision: SigLIP, two-layer projector, Qwen2.
    LlavaOnevision(LlavaOnevisionConfig),
}
