//! Tuples, `cycler` and `joiner` of a chat template, which the engine lacks.
//!
//! Source: jinja2 3.1 `utils.Cycler`, `utils.Joiner`; Python's `str` of a tuple. Spec: T4.5

use super::bounds::wrong;
use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Value};
use minijinja::{Error, ErrorKind, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A tuple: a list that prints in round brackets.
#[derive(Debug)]
pub(super) struct Tuple(pub Vec<Value>);

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// The tuple of these values.
pub(super) fn tuple(items: Rest<Value>) -> Value {
    Value::from_object(Tuple(items.0))
}

/// A list of lists as a list of tuples.
pub(super) fn pairs(list: &Value) -> Result<Value, Error> {
    let pair = |pair: Value| Ok(Value::from_object(Tuple(pair.try_iter()?.collect())));
    list.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>().map(Value::from)
}

/// Gives its values in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

/// `cycler("odd", "even")`
pub(super) fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    match items.is_empty() {
        true => Err(wrong("at least one item has to be provided")),
        false => Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) })),
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.items[self.at.load(Ordering::Relaxed)].clone())
    }

    fn call_method(self: &Arc<Self>, _: &State<'_, '_>, name: &str, _: &[Value]) -> Result<Value, Error> {
        match name {
            "next" => {
                let at = self.at.load(Ordering::Relaxed);
                self.at.store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Gives nothing at the first call, then its text.
#[derive(Debug)]
struct Joiner {
    text: Value,
    used: AtomicBool,
}

/// `joiner(", ")`
pub(super) fn joiner(text: Option<Value>) -> Value {
    let text = text.unwrap_or_else(|| Value::from(", "));
    Value::from_object(Joiner { text, used: AtomicBool::new(false) })
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(if self.used.swap(true, Ordering::Relaxed) { self.text.clone() } else { Value::from("") })
    }
}

/// The name of the function that makes a tuple, in a rewritten template.
pub(super) const NAME: &str = "aircache_tuple";

/// The text of a tag with each tuple in round brackets as a call: `(a, b)` becomes `aircache_tuple(a, b)`. Brackets of a
/// call, and those around the targets of `set` and `for`, stay.
pub(super) fn written(tag: &str) -> String {
    let says = tag.trim_start_matches(['{', '%', '-', '+']).trim_start();
    let targets = match says.get(..3) {
        Some("set") => tag.find('='),
        Some("for") => tag.find(" in "),
        _ => None,
    };
    let (targets, tag) = tag.split_at(targets.unwrap_or(0));
    let bytes = tag.as_bytes();
    let mut open: Vec<(usize, bool)> = Vec::new(); // the place in `out` of each bracket; whether it may begin a tuple
    let mut commas: Vec<bool> = Vec::new();
    let mut out = String::with_capacity(tag.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => {
                let mut end = i + 1;
                while end < bytes.len() && bytes[end] != quote {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                let end = (end + 1).min(bytes.len());
                out.push_str(&tag[i..end]);
                i = end;
                continue;
            }
            b'(' | b'[' | b'{' => {
                let before = out.trim_end();
                let word = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
                let operator = matches!(word, "in" | "not" | "and" | "or" | "if" | "elif" | "else" | "is" | "");
                let value = before.ends_with([')', ']', '"', '\'']);
                open.push((out.len(), bytes[i] == b'(' && operator && !value));
                commas.push(false);
            }
            b',' => {
                if let Some(comma) = commas.last_mut() {
                    *comma = true;
                }
            }
            b')' | b']' | b'}' => {
                if let (Some((start, may)), Some(true)) = (open.pop(), commas.pop())
                    && may
                    && bytes[i] == b')'
                {
                    out.insert_str(start, NAME);
                    let inside = out.trim_end();
                    if inside.ends_with(',') {
                        out.truncate(inside.len() - 1); // a call takes no comma at its end
                    }
                }
            }
            _ => {}
        }
        let width = tag[i..].chars().next().map_or(1, char::len_utf8);
        out.push_str(&tag[i..i + width]);
        i += width;
    }
    targets.to_owned() + &out
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn t4_5_tuples_become_calls() {
        assert_eq!(written("{{ (1, 2) }}"), "{{ aircache_tuple(1, 2) }}");
        assert_eq!(written("{{ (1,) }}"), "{{ aircache_tuple(1) }}");
        assert_eq!(
            written("{% if x in ('a, (b', (2), f(1, 2)) %}"),
            "{% if x in aircache_tuple('a, (b', (2), f(1, 2)) %}"
        );
        for same in [
            "{{ f(1, 2) }}",
            "{{ (1) }}",
            "{% set (a, b) = x %}",
            "{% set a, (b, c) = x %}",
            "{% for a, (b, c) in x %}",
            "{% for (a, b) in x %}",
            "{{ [f(1, 2), '('] }}",
        ] {
            assert_eq!(written(same), same);
        }
    }
}
