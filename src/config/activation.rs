//! The activation functions and their names in Hugging Face configurations.

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

/// Names and their functions. If two names have the same function here, transformers computes the same mathematical
/// function in two ways. `gelu_fast` is left out, because it rounds √(2/π) to ten digits.
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
    /// The activation that a field names; `default` if the field is absent.
    ///
    /// # Errors
    /// The field is not a string, or it names a function that is not in the list.
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
