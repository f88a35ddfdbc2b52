//! Chat templates, compared with jinja2 in the configuration of transformers.

use super::*;
use aircache::input::template::{DEFAULT_DATE, Template, Turn};

fn render(source: &str) -> Result<String, String> {
    let turns = [Turn::new("system", 0, " Be brief. "), Turn::new("user", 1, "What's this?")];
    let special = [("bos_token".to_owned(), "<s>".to_owned())];
    let template = Template::new(source, "t", DEFAULT_DATE).map_err(|e| e.to_string())?;
    template.render(&turns, &special).map_err(|e| e.to_string())
}

#[test]
fn t4_5_extensions_print_as_jinja2_prints() {
    let cases = json("template/cases.json");
    for case in cases.as_array().unwrap() {
        let got = render(case["template"].as_str().unwrap());
        match case["rendered"].as_str() {
            Some(want) => assert_eq!(got.as_deref(), Ok(want), "{}", case["template"]),
            None => assert!(got.is_err(), "{}: {got:?}", case["template"]),
        }
    }
}

/// The toys' template writes what the template of the public Qwen3-VL checkpoints writes.
#[test]
fn t4_5_toys_of_qwen3_vl_write_what_the_hubs_template_writes() {
    use aircache::input::template::Part;
    let toy = json("qwen3_vl/hub-bf16/model/chat_template.json");
    let template = Template::new(toy["chat_template"].as_str().unwrap(), "t", DEFAULT_DATE).unwrap();
    let part = |part: &'static Value| match part["type"].as_str().unwrap() {
        "text" => Part::Text(part["text"].as_str().unwrap()),
        "image" => Part::Image,
        _ => Part::Video,
    };
    let cases: &'static Value = Box::leak(Box::new(json("template/qwen3_vl.json")));
    for case in cases["cases"].as_array().unwrap() {
        let turn = |message: &'static Value| Turn {
            role: message["role"].as_str().unwrap(),
            content: match message["content"].as_str() {
                Some(text) => vec![Part::Text(text)],
                None => message["content"].as_array().unwrap().iter().map(part).collect(),
            },
        };
        let turns: Vec<Turn<'_>> = case["messages"].as_array().unwrap().iter().map(turn).collect();
        assert_eq!(template.render(&turns, &[]).unwrap(), case["rendered"].as_str().unwrap());
    }
}

#[test]
fn a4_2_generation_blocks_are_scopes_that_print() {
    let source = "{% set x = 1 %}{% generation %}{% set x = 2 %}[{{ x }}]{% endgeneration %}{{ x }}";
    assert_eq!(render(source).unwrap(), "[2]1");
    assert_eq!(render("{{ '{% generation %}' }}").unwrap(), "{% generation %}");
}

#[test]
fn a4_1_the_date_is_fixed_or_given() {
    let source = "{{ strftime_now('%d %b %Y, %A') }}";
    assert_eq!(render(source).unwrap(), "26 Jul 2024, Friday");
    let other = Template::new(source, "t", (2000, 2, 29)).unwrap();
    assert_eq!(other.render(&[], &[]).unwrap(), "29 Feb 2000, Tuesday");
    assert!(render("{{ strftime_now('%Q') }}").is_err());
}

#[test]
fn c4_13_endless_templates_end_within_a_second() {
    let loops = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(10000) %}{% for b in range(10000) %}{{ 'x' * 10000 }}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% set x = 'y' * 100000 %}{% endfor %}{% endfor %}",
    ];
    for source in loops {
        let start = std::time::Instant::now();
        assert!(render(source).is_err(), "{source}");
        // The limit is generous, because tests share the machine; alone, the template takes less than a fifth of a
        // second.
        assert!(start.elapsed().as_secs() < 10, "{source}: {:?}", start.elapsed());
    }
    assert!(render("{{ raise_exception('no pictures, please') }}").unwrap_err().contains("no pictures, please"));
    assert!(render(&format!("{}x{}", "{{ (".repeat(5000), ") }}".repeat(5000))).is_err());
}

proptest! {
    #[test]
    fn c4_13_no_template_panics(source in ".{0,60}", parts in prop::collection::vec(prop::sample::select(vec![
        "{%", "%}", "{{", "}}", "{#", "#}", "generation", "endgeneration", "raw", "endraw", "-", "+", "'", "\"", "\\", " ",
        "if x", "endif", "for m in messages", "endfor", "m", "messages", "[0]", "['content']", ".role", ".strip()",
        "|tojson", "|length", "(", ")", "[", "]", "é", "\n",
    ]), 0..14)) {
        let _ = render(&source);
        let _ = render(&parts.concat());
    }
}
