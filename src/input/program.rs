//! A chat template as a program that cannot make a value beyond bounds in one step.
//!
//! The engine counts steps (fuel), not what a step makes: thirty doublings of a text fill any memory, thirty-three of a
//! list ask for 200 GB at once. So `+`, `*` and `~` are exchanged, after compiling, for calls that look at their operands
//! first, and filters that take sizes look at them. What grows by many small steps is [`crate::foreign`]'s business.
//! The exchange needs the engine's machinery, whose form no version promises: hence the exact version in `Cargo.toml`.
//! Spec: C4.13

use super::jinja::{Short, wrong};
use super::template::MAX_BYTES;
use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Vm, WhitespaceConfig, make_string_output, parse};
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, State, filters};
use std::fmt::Write as _;

/// Items that a list may have, and numbers that filters take as sizes.
const MAX_ITEMS: usize = 1 << 20;
/// Names that no template can write, so none can take their place.
const ADD: &str = "checked +";
const MUL: &str = "checked *";
const CONCAT: &str = "checked ~";

/// Gives `env` the checked operators and filters.
pub(super) fn prepare(env: &mut Environment<'static>) {
    env.add_global(ADD, Value::from_function(|a: &Value, b: &Value| add(a, b)));
    env.add_global(MUL, Value::from_function(|a: &Value, b: &Value| multiply(a, b)));
    env.add_global(CONCAT, Value::from_function(|a: &Value, b: &Value| concatenate(a, b)));
    let sized = [
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("indent", Value::from_function(filters::indent)),
        ("format", Value::from_function(filters::format)),
    ];
    for (name, filter) in sized {
        env.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            args.iter().try_for_each(|arg| sizes(arg, name == "format"))?;
            filter.call(state, &args)
        });
    }
}

/// What a template renders; `source` is compiled anew, which takes no longer than rendering it does.
pub(super) fn render(env: &Environment<'_>, source: &str, context: Value) -> Result<String, Error> {
    let (instructions, blocks) = compile(source)?;
    let mut out = String::new();
    Vm::new(env).eval(&instructions, context, &blocks, &mut make_string_output(&mut out), AutoEscape::None)?;
    Ok(out)
}

type Compiled<'a> = (Instructions<'a>, std::collections::BTreeMap<&'a str, Instructions<'a>>);

/// Fails where the source is no template.
pub(super) fn compile(source: &str) -> Result<Compiled<'_>, Error> {
    const NAME: &str = "chat_template";
    let white_space = WhitespaceConfig { trim_blocks: true, lstrip_blocks: true, keep_trailing_newline: false };
    let tree = parse(source, NAME, Default::default(), white_space)?;
    let mut code = CodeGenerator::new(NAME, source);
    code.compile_stmt(&tree);
    let (mut all, mut blocks) = code.finish();
    check(&mut all)?;
    blocks.values_mut().try_for_each(check)?;
    Ok((all, blocks))
}

/// Puts the checked operators in place of the engine's; both take two values off the stack and leave one.
fn check(code: &mut Instructions<'_>) -> Result<(), Error> {
    let mut i = 0;
    while let Some(instruction) = code.get_mut(i) {
        let checked = match instruction {
            Instruction::Add => ADD,
            Instruction::Mul => MUL,
            Instruction::StringConcat => CONCAT,
            // What the compiler has worked out already.
            Instruction::LoadConst(value) => {
                bounded(size(value))?;
                i += 1;
                continue;
            }
            _ => {
                i += 1;
                continue;
            }
        };
        *instruction = Instruction::CallFunction(checked, Some(2));
        i += 1;
    }
    Ok(())
}

/// Bytes of a text, items of a list, as far as they are known.
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

/// Fails where a text of so many bytes would be too large.
pub(super) fn bounded_text(bytes: usize) -> Result<(), Error> {
    bounded(Size::Bytes(bytes))
}

/// The engine's own operator, which it exports only as an expression.
fn plain(expression: &'static str, a: &Value, b: &Value) -> Result<Value, Error> {
    let env = Environment::empty();
    env.compile_expression(expression)?.eval(minijinja::context! { a, b })
}

fn add(a: &Value, b: &Value) -> Result<Value, Error> {
    match (size(a), size(b)) {
        (Size::Bytes(m), Size::Bytes(n)) => bounded(Size::Bytes(m.saturating_add(n)))?,
        (Size::Items(m), Size::Items(n)) => {
            bounded(Size::Items(m.saturating_add(n)))?;
            // The engine would chain the two and walk down every sum of sums for every item.
            return Ok(a.try_iter()?.chain(b.try_iter()?).collect());
        }
        _ => {}
    }
    plain("a + b", a, b)
}

fn multiply(a: &Value, b: &Value) -> Result<Value, Error> {
    for (a, b) in [(a, b), (b, a)] {
        let times = |n: usize| n.saturating_mul(b.as_usize().unwrap_or(0));
        match size(a) {
            Size::Bytes(n) => bounded(Size::Bytes(times(n)))?,
            Size::Items(n) => bounded(Size::Items(times(n)))?,
            Size::None => {}
        }
    }
    plain("a * b", a, b)
}

/// Both as the engine prints them, one behind the other.
fn concatenate(a: &Value, b: &Value) -> Result<Value, Error> {
    let mut text = String::new();
    match write!(Short(&mut text), "{a}{b}") {
        Ok(()) => Ok(Value::from(text)),
        Err(_) => Err(wrong(format!("a text too large: over {MAX_BYTES} bytes"))),
    }
}

/// Fails on numbers beyond any size, alone, among named arguments, or in a text that says how to print.
fn sizes(arg: &Value, formats: bool) -> Result<(), Error> {
    let large = || wrong("a size too large");
    match arg.kind() {
        ValueKind::Number if arg.as_usize().is_some_and(|n| n > MAX_ITEMS) => Err(large()),
        ValueKind::Map if arg.is_kwargs() => arg.try_iter()?.try_for_each(|key| sizes(&arg.get_item(&key)?, false)),
        ValueKind::String if formats => {
            let digits = arg.as_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
            if digits.map(str::len).max().unwrap_or(0) > 6 { Err(large()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}
