//! Rewrites a chat template's source before the engine compiles it.
//!
//! ```text
//! {% generation %} … {% endgeneration %}   {% with %} … {% endwith %}
//! {% set x = value %}                      {% set x = (value)|bounded %}
//! {% set n.x = value %}                    {% set aircache_0 = (value)|bounded %}{% do n.set("x", aircache_0) %}
//! {% set n.x %} … {% endset %}             {% set aircache_0 %} … {% endset %}{% do n.set("x", aircache_0) %}
//! (value, value)                           aircache_tuple(value, value)
//! ```
//! `{% generation %}` opens a scope and prints its body, as `{% with %}` does (A4.2). Values have bounds (C4.13).
//! If this file misses an assignment to a field, the engine refuses the assignment: [`super::namespace`].

use super::tuple::written;

/// A tag: its first delimiter with the sign (`{%-`), its content, and its last delimiter (`-%}`).
struct Tag<'a> {
    open: &'a str,
    says: &'a str,
    close: &'a str,
}

impl<'a> Tag<'a> {
    /// The parts of a block tag's text; `None` if the tag does not end.
    fn new(text: &'a str) -> Option<Tag<'a>> {
        let signed = |byte: Option<&u8>| usize::from(matches!(byte, Some(b'-' | b'+')));
        let start = 2 + signed(text.as_bytes().get(2));
        let inside = text.get(start..)?.strip_suffix("%}")?;
        let end = start + inside.len() - signed(inside.as_bytes().last());
        Some(Tag { open: &text[..start], says: &text[start..end], close: &text[end..] })
    }

    /// Replaces this tag by statements. The first statement keeps the sign for the white space before the tag, the last
    /// statement the sign for the white space after the tag.
    fn replaced(&self, statements: &[String]) -> String {
        format!("{} {} {}", self.open, statements.join(" %}{% "), self.close)
    }
}

/// The text that the engine compiles instead of `source`. Spec: A4.2, C4.13
pub(super) fn rewritten(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    // For each open `{% set … %}` block, innermost last: the statements to add after the block's end.
    let mut behind: Vec<Vec<String>> = Vec::new();
    let opens = |text: &str, i: usize| matches!(text.as_bytes().get(i + 1), Some(b'%' | b'{' | b'#'));
    while let Some((start, _)) = rest.match_indices('{').find(|&(i, _)| opens(rest, i)) {
        out += &rest[..start];
        rest = &rest[start..];
        let end = match &rest[..2] {
            "{#" => rest.find("#}").map_or(rest.len(), |end| end + 2),
            "{{" => end_of(rest, "}}"),
            _ => end_of(rest, "%}"),
        };
        let tuples = if rest.starts_with("{#") { rest[..end].to_owned() } else { written(&rest[..end]) };
        let text = tuples.as_str();
        rest = &rest[end..];
        let Some(tag) = Tag::new(text).filter(|_| text.starts_with("{%")) else {
            out += text;
            continue;
        };
        match tag.says.trim() {
            "generation" => out += &text.replacen("generation", "with", 1),
            "endgeneration" => out += &text.replacen("endgeneration", "endwith", 1),
            "raw" => {
                let ends = |i: usize| rest[i + 2..].trim_start_matches(['-', '+']).trim_start().starts_with("endraw");
                let end = rest.match_indices("{%").find(|&(i, _)| ends(i)).map_or(rest.len(), |(i, _)| i);
                out += text;
                out += &rest[..end];
                rest = &rest[end..];
            }
            "endset" => {
                let mut statements = vec!["endset".to_owned()];
                statements.extend(behind.pop().into_iter().flatten());
                out += &tag.replaced(&statements);
            }
            says => {
                match says.strip_prefix("set").filter(|says| says.starts_with(|c: char| c.is_whitespace() || c == '('))
                {
                    Some(assignment) => out += &tag.replaced(&set(assignment, &mut behind)),
                    None => out += text,
                }
            }
        }
    }
    out + rest
}

/// The statements that replace `set` and `assignment`. `assignment` is `targets = value`, `targets` or
/// `targets | filter`.
fn set(assignment: &str, behind: &mut Vec<Vec<String>>) -> Vec<String> {
    let (targets, value) = assignment.split_at(assignment.find(['=', '|']).unwrap_or(assignment.len()));
    let (mut head, mut fields) = ("set".to_owned(), Vec::new());
    for target in targets.split_inclusive([',', '(', ')']) {
        let name = target.trim_matches(|c: char| c.is_whitespace() || ",()".contains(c));
        match name.rsplit_once('.') {
            None => head += target,
            Some((namespace, field)) => {
                let variable = format!("aircache_{}", fields.len());
                head += &target.replacen(name, &variable, 1);
                fields.push(format!("do {namespace}.set(\"{}\", {variable})", field.trim()));
            }
        }
    }
    match value.strip_prefix('=').filter(|value| !value.trim().is_empty()) {
        Some(value) => [vec![format!("{head}= ({value})|bounded")], fields].concat(),
        None => {
            behind.push(fields);
            vec![head + value]
        }
    }
}

/// The end of the tag at the start of `text`: after the first `close` outside strings and brackets.
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
