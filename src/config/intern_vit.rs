//! InternViT's configuration, in the form of its makers' own code (`intern_vit_6b`) and in transformers' form
//! (`internvl_vision`).
//!
//! Source: OpenGVLab's `configuration_intern_vit.py`; transformers 5.17, `InternVLVisionConfig`.

use super::activation::Activation;
use super::json::{Scope, integer, kind};
use super::norm::NormKind;
use crate::error::{Error, Result, ensure};
use serde_json::Value;

/// Sizes and constants of an InternViT. Spec: T5.5
#[derive(Debug, Clone, PartialEq)]
pub struct InternVitConfig {
    /// d_v: width of the residual stream.
    pub hidden: usize,
    /// Number of layers in the checkpoint.
    pub layers: usize,
    /// Number of heads; divides `hidden`.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// S: side of a tile in pixels.
    pub image: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// ε of the layers' norms.
    pub norm_eps: f64,
    /// The kind of the layers' norms.
    pub norm: NormKind,
    /// ε of the norms of queries and keys, over all heads together; none if queries and keys have no norms.
    pub qk_norm: Option<f64>,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the three projections are one matrix: first the query rows, then the key rows, then the value rows.
    pub fused: bool,
    /// Whether a layer norm follows the last layer.
    pub last_norm: bool,
    /// The MLP's activation.
    pub activation: Activation,
}

/// The field names and the defaults of one of the two forms.
struct Form {
    model_type: &'static str,
    hidden: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
    image: usize,
    norm: &'static str,
    qk_norm: (&'static str, bool),
    qkv_bias: &'static str,
    fused: bool,
}

const OWN: Form = Form {
    model_type: "intern_vit_6b",
    hidden: 3200,
    layers: 48,
    heads: 25,
    intermediate: 12800,
    image: 224,
    norm: "rms_norm",
    qk_norm: ("qk_normalization", true),
    qkv_bias: "qkv_bias",
    fused: true,
};

const TRANSFORMERS: Form = Form {
    model_type: "internvl_vision",
    hidden: 1024,
    layers: 24,
    heads: 16,
    intermediate: 4096,
    image: 448,
    norm: "layer_norm",
    qk_norm: ("use_qk_norm", false),
    qkv_bias: "attention_bias",
    fused: false,
};

impl InternVitConfig {
    /// Reads a `vision_config` of the makers' own code.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    pub(crate) fn own(scope: &Scope<'_>) -> Result<InternVitConfig> {
        Self::read(scope, &OWN)
    }

    /// Reads a `vision_config` of transformers.
    ///
    /// # Errors
    /// A field has the wrong type or size, or asks for something that is not supported.
    pub(crate) fn transformers(scope: &Scope<'_>) -> Result<InternVitConfig> {
        let at = scope.at("use_absolute_position_embeddings");
        ensure!(scope.boolean("use_absolute_position_embeddings", true)?, at, "true (learned positions)", "false");
        let config = Self::read(scope, &TRANSFORMERS)?;
        // The norms of queries and keys ignore `layer_norm_eps` and use transformers' default.
        let qk_norm = config.qk_norm.map(|_| 1e-6);
        Ok(InternVitConfig { qk_norm, last_norm: !scope.boolean("use_mean_pooling", true)?, ..config })
    }

    fn read(scope: &Scope<'_>, form: &Form) -> Result<InternVitConfig> {
        scope.model_type(form.model_type, &[form.model_type])?;
        let hidden = scope.size("hidden_size", form.hidden, (1, 1 << 20))?;
        let heads = scope.heads("num_attention_heads", form.heads)?;
        let at = scope.at("num_attention_heads");
        ensure!(hidden % heads == 0, at, format!("a divisor of hidden_size {hidden}"), heads);
        let image = side(scope, "image_size", form.image, 1 << 14)?;
        scope.size("num_channels", 3, (3, 3))?;
        let norm_eps = scope.number("layer_norm_eps", 1e-6, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")?;
        let norm = match scope.string("norm_type", form.norm)? {
            "layer_norm" => NormKind::Layer,
            "rms_norm" => NormKind::Rms,
            other => {
                let got = kind(&Value::from(other));
                return Err(Error::new(scope.at("norm_type"), "layer_norm or rms_norm", got));
            }
        };
        let (key, otherwise) = form.qk_norm;
        Ok(InternVitConfig {
            hidden,
            layers: scope.size("num_hidden_layers", form.layers, (1, 1024))?,
            heads,
            intermediate: scope.size("intermediate_size", form.intermediate, (1, 1 << 22))?,
            image,
            patch: side(scope, "patch_size", 14, image)?,
            norm_eps,
            norm,
            qk_norm: scope.boolean(key, otherwise)?.then_some(norm_eps),
            qkv_bias: scope.boolean(form.qkv_bias, false)?,
            fused: form.fused,
            last_norm: false,
            activation: Activation::read(scope, "hidden_act", Activation::GeluErf)?,
        })
    }

    /// Number of patches along a side of a tile. The strided convolution ignores pixels after the last whole patch.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }
}

/// A side in pixels. The field is a number, or a pair of two equal numbers.
fn side(scope: &Scope<'_>, key: &str, default: usize, most: usize) -> Result<usize> {
    let Some(Value::Array(pair)) = scope.get(key) else { return scope.size(key, default, (1, most)) };
    let sides = pair.iter().map(|v| integer(v, &scope.at(key), (1, most))).collect::<Result<Vec<_>>>()?;
    match sides[..] {
        [h, w] if h == w => Ok(h),
        _ => Err(Error::new(scope.at(key), "a square: a number, or the same number twice", format!("{sides:?}"))),
    }
}
