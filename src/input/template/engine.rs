//! The template engine with transformers' jinja2 settings, with a limit on steps (fuel) and bounds on the result of
//! each step.
//!
//! Source: transformers 5.17 `chat_template_utils._cached_compile_jinja_template`. Spec: T4.5, C4.13

use super::bounds::{forecast, known, taken, wrong};
use super::namespace::namespace;
use super::rewrite::rewritten;
use super::{methods, python, tuple};
use minijinja::value::{Rest, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, filters};
use std::io::Write;

/// The most steps of a template: hundreds of times the steps of a real template for a few turns. They take
/// milliseconds. Spec: C4.13
pub(super) const FUEL: u64 = 100_000;

/// The template's name in messages.
const NAME: &str = "chat_template";

/// Bounds the engine's filters whose result may be much larger than their input, or that read a whole list in one step.
macro_rules! bounded {
    ($env:ident: $($name:ident)*) => { $(
        let filter = Value::from_function(filters::$name);
        $env.add_filter(stringify!($name), move |state: &State<'_, '_>, args: Rest<Value>| {
            args.iter().try_for_each(known)?;
            forecast(stringify!($name), &args)?;
            filter.call(state, &args)
        });
    )* };
}

/// The engine's filters that give pairs of key and value, which are tuples in Python.
macro_rules! paired {
    ($env:ident: $($name:ident)*) => { $(
        let filter = Value::from_function(filters::$name);
        $env.add_filter(stringify!($name), move |state: &State<'_, '_>, args: Rest<Value>| {
            tuple::pairs(&filter.call(state, &args)?)
        });
    )* };
}

/// An engine with the compiled `source`; `strftime_now` returns `date`.
pub(super) fn compiled(source: &str, date: (i32, u32, u32)) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(python::print);
    env.set_unknown_method_callback(methods::call);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    env.add_filter("tojson", python::tojson);
    env.add_filter("bounded", taken);
    paired!(env: items dictsort);
    bounded!(env: batch chain format indent join list max min replace reverse slice sort sum unique zip);
    env.add_function("namespace", namespace);
    env.add_function(tuple::NAME, tuple::tuple);
    env.add_function("cycler", tuple::cycler);
    env.add_function("joiner", tuple::joiner);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(wrong(message)) });
    env.add_function("strftime_now", move |format: &str| python::strftime(format, date));
    env.add_template_owned(NAME, rewritten(source))?;
    Ok(env)
}

/// The output of a template; `None` if the output has more than `most` bytes.
pub(super) fn render(env: &Environment<'_>, context: Value, most: usize) -> Result<Option<String>, Error> {
    let mut out = Bounded { text: Vec::new(), most };
    let done = env.get_template(NAME)?.render_captured_to(context, &mut out).map(|_| ());
    if out.text.len() > most {
        return Ok(None);
    }
    done?;
    let text = String::from_utf8(out.text);
    text.map(Some).map_err(|e| Error::new(ErrorKind::WriteFailure, e.to_string()))
}

/// Collects output up to one byte more than the limit.
struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = (self.most + 1).saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend(&bytes[..room]);
        Ok(room) // 0 if there is no room; the writer then reports an error
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
