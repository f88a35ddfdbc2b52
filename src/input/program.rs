//! A chat template as a program that cannot make a value beyond bounds in one step.
//!
//! The engine counts steps (fuel), not what a step makes: thirty doublings of a text fill any memory, thirty-three of a
//! list ask for 200 GB at once. So `+`, `*` and `~` are exchanged, after compiling, for calls that look at their operands
//! first, and filters that multiply texts are called once [`super::bounds`] has looked at what they are given. What grows
//! by many small steps is [`crate::foreign`]'s business. What is set in a namespace is looked at too: nothing else can put
//! a value into itself, and the engine prints, compares and sorts such values without end.
//! The exchange needs the engine's machinery, whose form no version promises: hence the exact version in `Cargo.toml`.
//! Spec: C4.13

use super::bounds::{add, concatenate, finite, forecast, known, multiply};
use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Vm, WhitespaceConfig, make_string_output, parse};
use minijinja::value::{Rest, Value};
use minijinja::{AutoEscape, Environment, Error, State, filters};

/// Names that no template can write, so none can take their place.
const ADD: &str = "checked +";
const MUL: &str = "checked *";
const CONCAT: &str = "checked ~";
const SPREAD: &str = "what is set, twice";
const FINITE: &str = "checked set";

/// Gives `env` the checked operators and filters.
pub(super) fn prepare(env: &mut Environment<'static>) {
    env.add_global(ADD, Value::from_function(|a: &Value, b: &Value| add(a, b)));
    env.add_global(MUL, Value::from_function(|a: &Value, b: &Value| multiply(a, b)));
    env.add_global(CONCAT, Value::from_function(|a: &Value, b: &Value| concatenate(a, b)));
    env.add_global(SPREAD, Value::from_function(|value: Value, space: Value| vec![space, value.clone(), value]));
    env.add_global(FINITE, Value::from_function(|value: &Value| finite(value)));
    let sized = [
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("indent", Value::from_function(filters::indent)),
        ("format", Value::from_function(filters::format)),
        ("join", Value::from_function(filters::join)),
        ("replace", Value::from_function(filters::replace)),
    ];
    for (name, filter) in sized {
        env.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            forecast(name, &args)?;
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
    let (all, blocks) = code.finish();
    let blocks = blocks.into_iter().map(|(name, block)| Ok((name, checked(&block)?)));
    Ok((checked(&all)?, blocks.collect::<Result<_, Error>>()?))
}

/// The same with the checked operators in place of the engine's: they take two values off the stack and leave one.
fn checked<'a>(code: &Instructions<'a>) -> Result<Instructions<'a>, Error> {
    let all = || (0..).map_while(|i| code.get(i));
    let mut end = 0;
    let mut places: Vec<u32> = Vec::new();
    for instruction in all() {
        places.push(end);
        end += if matches!(instruction, Instruction::SetAttr(_)) { 5 } else { 1 };
    }
    let to = |old: u32| places.get(old as usize).copied().unwrap_or(end);
    let mut out = Instructions::new(code.name(), code.source());
    for (i, instruction) in (0..).zip(all()) {
        let line = code.get_line(i).map(|line| u16::try_from(line).unwrap_or(u16::MAX));
        let mut put = |instruction| match line {
            Some(line) => out.add_with_line(instruction, line),
            None => out.add(instruction),
        };
        match instruction {
            Instruction::Add => put(Instruction::CallFunction(ADD, Some(2))),
            Instruction::Mul => put(Instruction::CallFunction(MUL, Some(2))),
            Instruction::StringConcat => put(Instruction::CallFunction(CONCAT, Some(2))),
            // What the compiler has worked out already.
            Instruction::LoadConst(value) => {
                known(value)?;
                put(instruction.clone())
            }
            Instruction::SetAttr(_) => {
                // The value and the namespace lie on the stack: once more the value below them, for afterwards.
                put(Instruction::CallFunction(SPREAD, Some(2)));
                put(Instruction::UnpackList(3));
                put(instruction.clone());
                put(Instruction::CallFunction(FINITE, Some(1)));
                put(Instruction::DiscardTop)
            }
            Instruction::Jump(old) => put(Instruction::Jump(to(*old))),
            Instruction::JumpIfFalse(old) => put(Instruction::JumpIfFalse(to(*old))),
            Instruction::JumpIfFalseOrPop(old) => put(Instruction::JumpIfFalseOrPop(to(*old))),
            Instruction::JumpIfTrueOrPop(old) => put(Instruction::JumpIfTrueOrPop(to(*old))),
            Instruction::Iterate(old) => put(Instruction::Iterate(to(*old))),
            Instruction::BuildMacro(name, old, flags) => put(Instruction::BuildMacro(name, to(*old), *flags)),
            other => put(other.clone()),
        };
    }
    Ok(out)
}

/// `{% generation %}` … `{% endgeneration %}` become `{% with %}` … `{% endwith %}`: a block of the same scope that
/// prints its body, with the same rules for the white space around it. Spec: A4.2
pub(super) fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let opens = |text: &str, i: usize| matches!(text.as_bytes().get(i + 1), Some(b'%' | b'{' | b'#'));
    while let Some((start, _)) = rest.match_indices('{').find(|&(i, _)| opens(rest, i)) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let (open, close) = match &rest[..2] {
            "{#" => {
                let end = rest.find("#}").map_or(rest.len(), |e| e + 2);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            "{{" => ("{{", "}}"),
            _ => ("{%", "%}"),
        };
        let end = end_of(rest, close);
        let tag = &rest[..end];
        rest = &rest[end..];
        let name = tag.trim_start_matches(open).trim_end_matches(close);
        let name = name.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match name {
            "generation" if open == "{%" => out.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" if open == "{%" => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            "raw" if open == "{%" => {
                out.push_str(tag);
                let end = rest
                    .match_indices("{%")
                    .find(|(i, _)| rest[i + 2..].trim_start_matches(['-', '+']).trim_start().starts_with("endraw"));
                let end = end.map_or(rest.len(), |(i, _)| i);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => out.push_str(tag),
        }
    }
    out + rest
}

/// Where the tag at the start of `text` ends: after the first `close` outside strings and brackets.
fn end_of(text: &str, close: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut i, mut depth) = (2, 0usize);
    while i < bytes.len() {
        if depth == 0 && bytes[i..].starts_with(close.as_bytes()) {
            return i + 2;
        }
        match bytes[i] {
            quote @ (b'"' | b'\'') => {
                i += 1;
                while i < bytes.len() && bytes[i] != quote {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    text.len()
}
