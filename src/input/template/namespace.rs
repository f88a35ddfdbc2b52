//! `namespace()` of a chat template. [`super::rewrite`]'s `{% do n.set("x", value) %}` sets the fields of a namespace.
//!
//! The engine's own namespace accepts any value, even the namespace itself. Printing, comparing or sorting such a value
//! never ends. Spec: C4.13

use super::bounds::{at, finite, wrong};
use minijinja::value::{Enumerator, Object, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A dict that can change.
#[derive(Debug, Default)]
struct Namespace(Mutex<BTreeMap<String, Value>>);

/// `namespace(x=value)`, or `namespace({"x": value})`.
pub(super) fn namespace(defaults: Option<Value>) -> Result<Value, Error> {
    let new = Namespace::default();
    if let Some(defaults) = defaults {
        if defaults.kind() != ValueKind::Map {
            return Err(wrong(format!("namespace takes names with values, not a {}", defaults.kind())));
        }
        for key in defaults.try_iter()? {
            new.fields().extend(key.as_str().map(|name| (name.to_owned(), at(&defaults, &key))));
        }
    }
    Ok(Value::from_object(new))
}

impl Namespace {
    fn fields(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object for Namespace {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.fields().get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields().keys().map(Value::from).collect())
    }

    fn call_method(self: &Arc<Self>, _: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        if name != "set" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        let (field, value): (String, Value) = from_args(args)?;
        self.fields().insert(field, value.clone());
        finite(&value)?; // checked after the insert: the value may now contain this namespace
        Ok(Value::from(()))
    }
}
