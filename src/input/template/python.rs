//! The parts of Python that Hugging Face's templates expect: printing of values, `tojson`, `strftime_now`. Methods are
//! in [`super::methods`].
//!
//! Only parts that real chat templates use are here; any other use gives the engine's own error. Source: transformers
//! 5.17 `chat_template_utils._cached_compile_jinja_template`, Python's `json.dumps` and `str`. Spec: T4.5

use super::bounds::{MAX_BYTES, Short, at, wrong};
use super::tuple::Tuple;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, State};
use std::fmt::Write as _;

/// Prints a value as Python's `str` does. Spec: T4.5
pub(super) fn print(out: &mut minijinja::Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut text = String::new();
    if !value.is_undefined() {
        python(value, false, 0, &mut text)?;
    }
    std::fmt::Write::write_str(out, &text).map_err(Error::from)
}

/// Fails if a text is longer than a template may print, or if lists are nested without end. The engine stores
/// `[1] * 10 ** 10` as a small value; only printing makes the value large.
fn bounded(text: &str, depth: usize) -> Result<(), Error> {
    match text.len() <= MAX_BYTES && depth <= 1000 {
        true => Ok(()),
        false => Err(too_large()),
    }
}

fn too_large() -> Error {
    wrong("a value too large to be printed")
}

/// `str(value)`, or `repr(value)` inside a container.
fn python(value: &Value, inside: bool, depth: usize, out: &mut String) -> Result<(), Error> {
    bounded(out, depth)?;
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String if inside => out.push_str(&quoted(&value.to_string())),
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.downcast_object_ref::<Tuple>().map(|tuple| tuple.0.len());
            out.push(if tuple.is_some() { '(' } else { '[' });
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                python(&item, true, depth + 1, out)?;
            }
            out.push_str(match tuple {
                Some(1) => ",)",
                Some(_) => ")",
                None => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                python(&key, true, depth + 1, out)?;
                out.push_str(": ");
                python(&at(value, &key), true, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => write!(Short(out), "{value}").map_err(|_| too_large())?,
    }
    Ok(())
}

/// `repr` of a string. Printable characters stay as they are.
fn quoted(s: &str) -> String {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 32 || c as u32 == 127 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The filter `tojson`: `json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. Spec: T4.5
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(v) if !v.is_none() => Some(match v.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(v.as_usize().filter(|&n| n <= 64).ok_or_else(|| wrong("tojson: indent"))?),
        }),
        _ => None,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(wrong("tojson: separators are two strings")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut out = String::new();
    Dump { indent, item, key, ascii, sort }.value(value, 0, &mut out)?;
    Ok(out)
}

struct Dump {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

impl Dump {
    fn value(&self, v: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > 64 {
            return Err(wrong("tojson: nested too deeply"));
        }
        bounded(out, depth)?;
        match v.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if v.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&v.to_string()),
            ValueKind::String => self.string(v.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                self.items('[', ']', v.try_iter()?, depth, out, |v, out| self.value(&v, depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = v.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.items('{', '}', keys.into_iter(), depth, out, |k, out| {
                    match k.kind() {
                        ValueKind::None => self.string("null", out),
                        ValueKind::Bool => self.string(if k.is_true() { "true" } else { "false" }, out),
                        _ => self.string(&k.to_string(), out),
                    }
                    out.push_str(&self.key);
                    self.value(&at(v, &k), depth + 1, out)
                })?;
            }
            kind => return Err(wrong(format!("tojson: an object of kind {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn items(
        &self,
        open: char,
        close: char,
        items: impl Iterator<Item = Value>,
        depth: usize,
        out: &mut String,
        mut put: impl FnMut(Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        let mut any = false;
        for item in items {
            if any {
                out.push_str(&self.item);
            }
            any = true;
            line(out, depth + 1);
            put(item, out)?;
        }
        if any {
            line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, s: &str, out: &mut String) {
        out.push('"');
        for c in s.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 32 || (self.ascii && c as u32 > 126) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|u| out.push_str(&format!("\\u{u:04x}")));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// `datetime.strftime` at midnight of a given day, for the codes that templates use. Spec: A4.1
pub(super) fn strftime(format: &str, (year, month, day): (i32, u32, u32)) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let month_name =
        MONTHS.get((month as usize).wrapping_sub(1)).ok_or_else(|| wrong("strftime_now: no such month"))?;
    // Sakamoto's algorithm for the day of the week.
    let y = i64::from(year) - i64::from(month < 3);
    let shift = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][month as usize - 1];
    let weekday = (y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + shift + i64::from(day)).rem_euclid(7);
    let day_name = DAYS[weekday as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let bare = code == Some('-');
        if bare {
            code = chars.next();
        }
        let two = |n: u32| if bare { n.to_string() } else { format!("{n:02}") };
        out.push_str(&match code {
            Some('Y') => year.to_string(),
            Some('y') => two(year.rem_euclid(100) as u32),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('B') => (*month_name).into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('H' | 'M' | 'S') => two(0),
            Some('I') => two(12),
            Some('p') => "AM".into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => "00:00:00".into(),
            Some('%') => "%".into(),
            other => return Err(wrong(format!("strftime_now: the code %{} is not known", other.unwrap_or(' ')))),
        });
    }
    Ok(out)
}
