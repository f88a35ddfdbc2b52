//! Methods of Python's `str`, `dict` and `list` for chat templates. The engine calls this file for methods that it
//! lacks.
//!
//! Only methods that real chat templates use are here; any other method gives the engine's own error. Source: Python
//! 3.11. Spec: T4.5

use super::bounds::{self, at, wrong};
use super::tuple::Tuple;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Methods of Python's `str`, `dict` and `list`. Spec: T4.5
pub(super) fn call(_: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("{} has no method {name}", value.kind()));
    match value.kind() {
        ValueKind::String => {
            string_method(value.as_str().unwrap_or_default(), name, args).unwrap_or_else(|| Err(unknown()))
        }
        ValueKind::Map => {
            let keys = || -> Result<Vec<Value>, Error> { Ok(value.try_iter()?.collect()) };
            match name {
                "get" => {
                    let (key, default): (Value, Option<Value>) = from_args(args)?;
                    let found = at(value, &key);
                    Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
                }
                "keys" => Ok(Value::from(keys()?)),
                "values" => Ok(keys()?.iter().map(|k| at(value, k)).collect()),
                "items" => {
                    let pair = |k: Value| Value::from_object(Tuple(vec![k.clone(), at(value, &k)]));
                    Ok(keys()?.into_iter().map(pair).collect())
                }
                _ => Err(unknown()),
            }
        }
        ValueKind::Seq if name == "count" => {
            let (item,): (Value,) = from_args(args)?;
            Ok(Value::from(value.try_iter()?.filter(|v| *v == item).count()))
        }
        _ => Err(unknown()),
    }
}

/// Calls a method of `str`. `None` if this file lacks the method, whether Python's `str` has it or not.
fn string_method(s: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let run = || -> Result<Option<Value>, Error> {
        let strip = |left: bool, right: bool| -> Result<Value, Error> {
            let (chars,): (Option<String>,) = from_args(args)?;
            let gone = |c: char| chars.as_ref().map_or_else(|| is_space(c), |set| set.contains(c));
            let s = if left { s.trim_start_matches(gone) } else { s };
            Ok(Value::from(if right { s.trim_end_matches(gone) } else { s }))
        };
        let affix = |test: &dyn Fn(&str) -> bool| -> Result<Value, Error> {
            let (what,): (Value,) = from_args(args)?;
            Ok(Value::from(match what.as_str() {
                Some(one) => test(one),
                None => what.try_iter()?.any(|v| v.as_str().is_some_and(test)),
            }))
        };
        let all = |test: &dyn Fn(char) -> bool| Value::from(!s.is_empty() && s.chars().all(test));
        let cased = |same: String, other: String| Value::from(s == same && s != other);
        Ok(Some(match name {
            "strip" => strip(true, true)?,
            "lstrip" => strip(true, false)?,
            "rstrip" => strip(false, true)?,
            "startswith" => affix(&|p| s.starts_with(p))?,
            "endswith" => affix(&|p| s.ends_with(p))?,
            "removeprefix" => from_args(args).map(|(p,): (&str,)| Value::from(s.strip_prefix(p).unwrap_or(s)))?,
            "removesuffix" => from_args(args).map(|(p,): (&str,)| Value::from(s.strip_suffix(p).unwrap_or(s)))?,
            "upper" => Value::from(s.to_uppercase()),
            "lower" => Value::from(s.to_lowercase()),
            "title" => Value::from(title(s, true)),
            "capitalize" => Value::from(title(s, false)),
            "split" => split(s, args)?,
            "rsplit" => rsplit(s, args)?,
            "splitlines" => s.lines().map(Value::from).collect(),
            "replace" => {
                let (from, to, times): (&str, &str, Option<i64>) = from_args(args)?;
                let times = times.and_then(|n| usize::try_from(n).ok());
                bounds::replaced(s, from, to, times.unwrap_or(usize::MAX))?;
                Value::from(times.map_or_else(|| s.replace(from, to), |n| s.replacen(from, to, n)))
            }
            "find" => position(s, s.find(from_args::<(&str,)>(args)?.0)),
            "rfind" => position(s, s.rfind(from_args::<(&str,)>(args)?.0)),
            "count" => Value::from(s.matches(from_args::<(&str,)>(args)?.0).count()),
            "join" => {
                let (parts,): (Value,) = from_args(args)?;
                let mut text = String::new();
                for (i, part) in parts.try_iter()?.enumerate() {
                    bounds::append(&mut text, format_args!("{}{part}", if i > 0 { s } else { "" }))?;
                }
                Value::from(text)
            }
            "isdigit" => all(&|c| c.is_ascii_digit()),
            "isalpha" => all(&char::is_alphabetic),
            "isalnum" => all(&char::is_alphanumeric),
            "isspace" => all(&is_space),
            "isupper" => cased(s.to_uppercase(), s.to_lowercase()),
            "islower" => cased(s.to_lowercase(), s.to_uppercase()),
            _ => return Ok(None),
        }))
    };
    run().transpose()
}

/// The white space of `str.strip` and `str.split`: Unicode's, and the four separators 0x1c–0x1f.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Makes the first letter of each word (`every`) or of the text upper case, and all other letters lower case.
fn title(s: &str, every: bool) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = if every { c.is_alphabetic() } else { true };
    }
    out
}

fn position(s: &str, byte: Option<usize>) -> Value {
    byte.map_or(Value::from(-1), |b| Value::from(s[..b].chars().count()))
}

/// The separator (`None`: runs of white space) and the largest number of splits.
fn split_args(args: &[Value]) -> Result<(Option<String>, usize), Error> {
    let (sep, most): (Option<Option<String>>, Option<i64>) = from_args(args)?;
    let sep = sep.flatten();
    if sep.as_deref() == Some("") {
        return Err(wrong("split: empty separator"));
    }
    Ok((sep, most.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX - 1)))
}

fn split(s: &str, args: &[Value]) -> Result<Value, Error> {
    let (sep, most) = split_args(args)?;
    if let Some(sep) = sep {
        return Ok(s.splitn(most + 1, &sep).map(Value::from).collect());
    }
    let mut parts = Vec::new();
    let mut rest = s.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = if parts.len() < most { rest.find(is_space).unwrap_or(rest.len()) } else { rest.len() };
        parts.push(Value::from(&rest[..end]));
        rest = rest[end..].trim_start_matches(is_space);
    }
    Ok(Value::from(parts))
}

fn rsplit(s: &str, args: &[Value]) -> Result<Value, Error> {
    let (Some(sep), most) = split_args(args)? else { return split(s, &[]) };
    let mut parts: Vec<Value> = s.rsplitn(most + 1, &sep).map(Value::from).collect();
    parts.reverse();
    Ok(Value::from(parts))
}
