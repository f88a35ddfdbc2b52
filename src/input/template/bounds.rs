//! Bounds on the values of a chat template. They are checked before a method or a filter makes a value, and when a
//! variable receives a value.
//!
//! [`crate::foreign`] limits the memory that many small steps take together. Spec: C4.13

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};

/// The most bytes of a template's output, and of any text during rendering.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The most items of a list, and the largest number that filters accept as a size.
const MAX_ITEMS: usize = 1 << 20;
/// The deepest nesting of lists and dicts in a namespace.
const MAX_DEPTH: usize = 300;
/// The largest width and precision that Rust can print with.
const MAX_WIDTH: usize = u16::MAX as usize;

/// An error of the template.
pub(super) fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// The value of a dict under `key`; undefined if the dict has no such key.
pub(super) fn at(map: &Value, key: &Value) -> Value {
    map.get_item(key).unwrap_or_default()
}

/// A text that returns an error instead of growing too long. Without it, `Display` of the engine's lazy lists would
/// fill the memory.
pub(super) struct Short<'a>(pub &'a mut String);

impl std::fmt::Write for Short<'_> {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if self.0.len() + piece.len() > MAX_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

/// The number of bytes of a text or of items of a list, if the number is known.
#[derive(Clone, Copy)]
enum Size {
    Bytes(usize),
    Items(usize),
    None,
}

fn size(value: &Value) -> Size {
    match value.kind() {
        ValueKind::String => Size::Bytes(value.as_str().map_or(0, str::len)),
        ValueKind::Seq | ValueKind::Iterable => Size::Items(value.len().unwrap_or(0)),
        _ => Size::None,
    }
}

fn bounded(size: Size) -> Result<(), Error> {
    match size {
        Size::Bytes(n) if n > MAX_BYTES => Err(wrong(format!("a text too large: {n} bytes"))),
        Size::Items(n) if n > MAX_ITEMS => Err(wrong(format!("a list too large: {n} items"))),
        _ => Ok(()),
    }
}

/// Fails if a value is too large.
pub(super) fn known(value: &Value) -> Result<(), Error> {
    bounded(size(value))
}

/// The value that a variable receives. An iterable becomes a list, as Python's `+` and slices return lists.
pub(super) fn taken(value: Value) -> Result<Value, Error> {
    known(&value)?;
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let items: Vec<Value> = value.try_iter()?.take(MAX_ITEMS + 1).collect();
    bounded(Size::Items(items.len())).map(|()| Value::from(items))
}

/// Prints `what` at the end of `text`, which must not become too large.
pub(super) fn append(text: &mut String, what: Arguments<'_>) -> Result<(), Error> {
    Short(text).write_fmt(what).map_err(|_| wrong(format!("a text too large: over {MAX_BYTES} bytes")))
}

/// A text, or the printed form of another value.
fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    let mut text = String::new();
    append(&mut text, format_args!("{value}"))?;
    Ok(text.into())
}

/// Fails if a value that was set in a namespace contains itself through the namespace, is nested too deeply, or has no
/// end.
pub(super) fn finite(value: &Value) -> Result<(), Error> {
    let contains = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map);
    let mut rest: Vec<(Value, usize)> = contains(value).then(|| (value.clone(), 1)).into_iter().collect();
    let mut items = 0;
    while let Some((value, depth)) = rest.pop() {
        if depth > MAX_DEPTH {
            return Err(wrong(format!(
                "a value set in a namespace that holds itself, or over {MAX_DEPTH} in one another"
            )));
        }
        let map = value.kind() == ValueKind::Map;
        for item in value.try_iter()? {
            items += 1;
            bounded(Size::Items(items))?;
            // A lookup compares keys, and comparing a key that contains itself never ends.
            if map && contains(&item) {
                return Err(wrong("a list or dict as the key of a dict in a namespace"));
            }
            let item = if map { at(&value, &item) } else { item };
            rest.extend(contains(&item).then_some((item, depth + 1)));
        }
    }
    Ok(())
}

/// Fails if a filter would make too large a text or list. The first of `args` is the filter's input.
pub(super) fn forecast(name: &str, args: &[Value]) -> Result<(), Error> {
    let Some((value, options)) = args.split_first() else { return Ok(()) };
    match (name, options) {
        ("format", _) => formatted(&text(value)?, options),
        ("replace", [from, to, ..]) => replaced(&text(value)?, &text(from)?, &text(to)?, usize::MAX),
        ("join", _) => joined(value, options.first()),
        _ => {
            let width = options.iter().map(largest).try_fold(0, |most, n| Ok::<_, Error>(most.max(n?)))?;
            if width > MAX_ITEMS {
                return Err(wrong(format!("a size too large: {width}")));
            }
            let lines = if name == "indent" { text(value)?.split('\n').count() } else { 0 };
            bounded(Size::Bytes(lines.saturating_mul(width)))
        }
    }
}

/// A number, or the largest number of named arguments.
fn largest(arg: &Value) -> Result<usize, Error> {
    if !arg.is_kwargs() {
        return Ok(arg.as_usize().unwrap_or(0));
    }
    let values = arg.try_iter()?.map(|key| at(arg, &key).as_usize().unwrap_or(0));
    Ok(values.max().unwrap_or(0))
}

/// Fails if this many replacements would make too large a text.
pub(super) fn replaced(text: &str, from: &str, to: &str, times: usize) -> Result<(), Error> {
    let found = text.matches(from).take(times).count();
    bounded(Size::Bytes(text.len().saturating_add(found.saturating_mul(to.len()))))
}

fn joined(parts: &Value, between: Option<&Value>) -> Result<(), Error> {
    let between = between.map(text).transpose()?.map_or(0, |text| text.len());
    let mut all = 0usize;
    for part in parts.try_iter().into_iter().flatten() {
        all = all.saturating_add(between + part.as_str().map_or(0, str::len));
        bounded(Size::Bytes(all.saturating_sub(between)))?;
    }
    Ok(())
}

/// Fails if the formatted text may be too large. Each place may have its full width and hold the longest argument.
fn formatted(places: &str, args: &[Value]) -> Result<(), Error> {
    let mut all = places.len();
    for place in places.split('%').skip(1) {
        let place = place.split_once(')').filter(|_| place.starts_with('(')).map_or(place, |(_, place)| place);
        let sizes = place.split(|c: char| c.is_ascii_alphabetic()).next().unwrap_or_default();
        for digits in sizes.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
            let width = digits.parse().unwrap_or(usize::MAX);
            if width > MAX_WIDTH {
                return Err(wrong(format!("a size too large to be printed: {digits:.20}")));
            }
            all = all.saturating_add(width);
        }
    }
    let mut longest = 0;
    for arg in args {
        let inside =
            if arg.kind() == ValueKind::Map { arg.try_iter()?.map(|key| at(arg, &key)).collect() } else { vec![] };
        let texts = inside.iter().chain([arg]).filter_map(Value::as_str);
        longest = texts.map(str::len).fold(longest, usize::max);
    }
    bounded(Size::Bytes(all.saturating_add(places.matches('%').count().saturating_mul(longest))))
}
