//! The activations by the names that Hugging Face configurations give them.

use super::json::{Scope, kind};
use crate::error::{Error, Result};
use serde_json::Value;

/// An elementwise function of an MLP or projector. Spec: T3.6, E3.6–E3.9
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
    /// `relu`
    Relu,
}

/// Names and what they mean; names on one function differ in how transformers computes it, not in what.
/// `gelu_fast` is left out: it rounds √(2/π) to ten digits.
const NAMES: [(&str, Activation); 10] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::GeluErf),
    ("gelu_python", Activation::GeluErf),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
];

impl Activation {
    /// The activation that a field names, `default` if the field is absent.
    ///
    /// # Errors
    /// The field is no string, or names a function that is not here.
    pub(crate) fn read(scope: &Scope<'_>, key: &str, default: Activation) -> Result<Activation> {
        let Some(value) = scope.get(key) else { return Ok(default) };
        let known = || format!("one of {}", NAMES.map(|(name, _)| name).join(", "));
        match value {
            Value::String(s) => NAMES.iter().find(|(name, _)| name == s).map(|(_, a)| *a),
            _ => None,
        }
        .ok_or_else(|| Error::new(scope.at(key), known(), kind(value)))
    }
}
