//! Templates that never end or never stop growing, tokenizers and processors that are none or lie.

use crate::common::cli::edit;
use crate::{Case, Want, broken, toy_case};
use serde_json::{Value, json};
use std::path::Path;

fn template(what: &'static str, words: &'static [&'static str], source: impl Into<String>) -> Case {
    let source = source.into();
    broken(what, words, move |m| std::fs::write(m.join("chat_template.jinja"), &source).unwrap())
}

fn tokenizer(what: &'static str, words: &'static [&'static str], change: fn(&mut Value)) -> Case {
    broken(what, words, move |m| {
        let path = m.join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        let whole = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        std::fs::write(path, whole).unwrap();
    })
}

fn processor(model: &Path, key: &str, value: Value) {
    edit(&model.join("processor_config.json"), |c| {
        c["image_processor"].as_object_mut().unwrap().insert(key.into(), value);
    });
}

fn image_setting(key: &'static str, value: Value, words: &'static [&'static str]) -> Case {
    broken(format!("processor: {key} = {value}"), words, move |m| processor(m, key, value.clone()))
}

const NAME: &[&str] = &["chat_template.jinja"];

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        template("a loop in a loop in a loop", NAME, nested_loops()),
        template("a text doubled 40 times by ~", &["too large"], doubled("'x'", "x ~ x")),
        template("a text doubled 40 times by +", &["too large"], doubled("'x'", "x + x")),
        template("a text doubled 40 times by *", &["too large"], doubled("'x'", "x * 2")),
        template("a list doubled 40 times", &["too large"], doubled("[1]", "x + x")),
        template("a list of lists of itself, 40 deep, printed", NAME, doubled("[1]", "[x, x]")),
        template("the same, as text", NAME, doubled("[1]", "[x, x]") + "{% set y = x ~ '' %}"),
        template("the same, by a filter", NAME, doubled("[1]", "[x, x]") + "{{ (x | string) | length }}"),
        template(
            "the same, compared with itself",
            NAME,
            doubled("[1]", "[x, x]") + &doubled("[1]", "[x, x]").replace('x', "y") + "{{ x == y }}",
        ),
        template("the same, as JSON", NAME, doubled("[1]", "[x, x]") + "{{ x | tojson }}"),
        template(
            "a text doubled 40 times by set blocks",
            NAME,
            "{% set x %}x{% endset %}".to_string() + &"{% set x %}{{ x }}{{ x }}{% endset %}".repeat(40),
        ),
        template(
            "a text doubled 40 times by a macro",
            NAME,
            "{% macro d(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='x') %}{% for i in range(40) %}{% set n.x = d(n.x) %}{% endfor %}",
        ),
        template(
            "a text doubled 40 times by replace",
            NAME,
            "{% set n = namespace(x='x') %}{% for i in range(40) %}{% set n.x = n.x.replace('x', 'xx') %}{% endfor %}",
        ),
        template(
            "a text doubled 40 times by join",
            NAME,
            "{% set n = namespace(x='x') %}{% for i in range(40) %}{% set n.x = [n.x, n.x] | join %}{% endfor %}",
        ),
        template("'a' * 10¹⁰", &["too large"], "{{ 'a' * 10000000000 }}"),
        template("[1] * 10¹⁰", &["too large"], "{{ [1] * 10000000000 }}"),
        template("the largest of [1] * 10¹⁰", &["too large"], "{{ ([1] * 10000000000) | max }}"),
        template("10 ** 10 ** 10", NAME, "{{ 10 ** 10 ** 10 }}"),
        template("range(10¹⁰)", NAME, "{% for i in range(10000000000) %}x{% endfor %}"),
        template("a format of width 10¹⁰", &["too large"], "{{ '%10000000000d' | format(1) }}"),
        template("an indent of 10¹⁰", &["too large"], "{{ 'x' | indent(10000000000) }}"),
        template("an indent of width = 10¹⁰", &["too large"], "{{ 'x' | indent(width=10000000000) }}"),
        template("batches of 10¹⁰", &["too large"], "{{ [1] | batch(10000000000) }}"),
        template("10¹⁰ slices", &["too large"], "{{ [1] | slice(10000000000) }}"),
        template(
            "a list in a list, 90 000 deep",
            NAME,
            "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}",
        ),
        template(
            "a list in a list, 10 000 deep, printed",
            &["in one another"],
            "{% set n = namespace(x=[]) %}{% for i in range(10000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x ~ '' }}",
        ),
        template("a macro that calls itself", NAME, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        template("a template that includes itself", NAME, "{% include 'chat_template' %}"),
        template("a template that includes /etc/passwd", NAME, "{% include '/etc/passwd' %}"),
        template("a template that extends itself", NAME, "{% extends 'chat_template' %}"),
        template("Python's way out of a sandbox", NAME, "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        template("a million opened tags", NAME, "{% if 1 %}".repeat(1_000_000)),
        template("26 000 opened tags", NAME, "{% if 1 %}".repeat(26_000)),
        template("100 000 brackets", NAME, "{{ ".to_string() + &"(".repeat(100_000)),
        template("17 MiB", &["at most 16777216 bytes"], "x".repeat(17 << 20)),
        template(
            "200 kB of text printed ten thousand times",
            NAME,
            format!("{{% for i in range(10000) %}}{}{{% endfor %}}", "x".repeat(200_000)),
        ),
        template("a constant of 10⁸ letters, a hundred times", NAME, "{% set x = 'a' * 100000000 %}".repeat(100)),
        template("400 000 letters more than was said", &["for these messages"], "<image>{{ 'Zq' * 200000 }}"),
        template(
            "a prompt said ten thousand times",
            &["for these messages"],
            "{% for i in range(10000) %}{{ messages }}{% endfor %}",
        ),
        template(
            "a precision of 999 999",
            &["chat_template:2", "too large to be printed"],
            "\n{{ '%.999999f' | format(1.5) }}",
        ),
        template("a million widths of 60 000", &["too large"], "{{ ('%60000d' * 1000000) | format(1) }}"),
        template(
            "a long text in a million places",
            &["too large"],
            "{{ ('%(a)s' * 1000000) | format(a='a' * 1000000) }}",
        ),
        template("16 GB at once by the method join", &["too large"], "{{ ('a' * 16000000).join([1] * 1000) }}"),
        template("16 GB by the filter join", &["too large"], "{{ ([1] * 1000) | join('a' * 16000000) }}"),
        template("4 TB by the filter replace", &["too large"], "{{ ('a' * 4000000) | replace('a', 'b' * 1000000) }}"),
        template("4 TB by the method replace", &["too large"], "{{ ('a' * 4000000).replace('', 'b' * 1000000) }}"),
        template("8 TB by indent", &["too large"], "{{ ('a\\n' * 8000000) | indent(1000000, true, true) }}"),
        template("an exception", &["no way"], "{{ raise_exception('no\nway') }}"),
        template("no placeholder for the image", &["placeholders"], "{{ messages[0].role }}"),
        template("a thousand placeholders", &["placeholders"], "<image>".repeat(1000)),
        template("nothing", &["writes nothing"], ""),
        template("NUL and terminal codes", &["placeholders"], "\u{0}\u{1b}[2J\u{202e}"),
        template("an unknown filter", NAME, "{{ 'x' | nothing }}"),
        template("a division by zero", NAME, "{{ 1 // 0 }}{{ 1 % 0 }}"),
        template(
            "an integer that overflows",
            NAME,
            "{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}",
        ),
        template("a slice of step 0", NAME, "{{ 'abc'[::0] }}"),
        template(
            "slices at the ends of i64",
            &["a template that writes the question"],
            "{{ 'abc'[-9223372036854775808:9223372036854775807:-9223372036854775808] }}",
        ),
        template("splits into 10¹⁰", NAME, "{{ 'a b'.split(' ', 18446744073709551615) }}{{ 'a'.split('', 1) }}"),
        broken("a template that is no UTF-8", &["UTF-8"], |m| {
            std::fs::write(m.join("chat_template.jinja"), [0xff]).unwrap()
        }),
        broken("no template", NAME, |m| std::fs::remove_file(m.join("chat_template.jinja")).unwrap()),
    ];
    // What one expression makes is not bounded, but the process is: these ask for memory that is not there, or are given up.
    all.extend([
        template("a list doubled 45 times by with", &["memory"], doubled_by_with("[1]")),
        template("a text doubled 45 times by with", &["given up"], doubled_by_with("'x'")),
        template("10¹⁰ items turned around", &["memory"], "{{ ([1] * 10000000000)[::-1] }}"),
    ]);
    all.extend(cyclic());
    all.extend(chains());
    all.extend([
        broken("tokenizer.json cut short", &["tokenizer.json"], |m| {
            let bytes = std::fs::read(m.join("tokenizer.json")).unwrap();
            std::fs::write(m.join("tokenizer.json"), &bytes[..bytes.len() / 2]).unwrap();
        }),
        broken("tokenizer.json nested 100 000 deep", &["tokenizer.json"], |m| {
            std::fs::write(m.join("tokenizer.json"), "[".repeat(100_000)).unwrap();
        }),
        broken("tokenizer.json = {}", &["tokenizer.json"], |m| std::fs::write(m.join("tokenizer.json"), "{}").unwrap()),
        tokenizer("a tokenizer without its image token", &["tokenizer.json"], |t| {
            t["added_tokens"].as_array_mut().unwrap().retain(|a| a["content"] != "<image>");
        }),
        tokenizer("a model of an unknown kind", &["tokenizer.json"], |t| t["model"]["type"] = json!("GPT")),
        tokenizer("merges of tokens that are not there", &["tokenizer.json"], |t| t["model"]["merges"] = json!([["no", "such"]])),
        tokenizer("merges that are numbers", &["tokenizer.json"], |t| t["model"]["merges"] = json!([1, 2])),
        tokenizer("an empty vocabulary", &["tokenizer.json"], |t| {
            t["model"]["vocab"] = json!({});
            t["model"]["merges"] = json!([]);
            t["added_tokens"] = json!([]);
        }),
        tokenizer("ids of 2³² − 1", &["tokenizer.json", "vocab_size"], |t| {
            for (_, id) in t["model"]["vocab"].as_object_mut().unwrap() {
                *id = json!(u32::MAX);
            }
            t["model"]["merges"] = json!([]);
        }),
        tokenizer("an id of 2⁴⁰", &["tokenizer.json"], |t| t["model"]["vocab"]["a"] = json!(1u64 << 40)),
        tokenizer("a split by a pattern without end", &[], |t| {
            t["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(x+x+)+y|(?=(a+)+b)\\2"}, "behavior": "Isolated", "invert": false});
        }),
        tokenizer("a split by no pattern", &["tokenizer.json"], |t| {
            t["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": false});
        }),
        tokenizer("a pattern of a{100000}{100000}", &["tokenizer.json"], |t| {
            t["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "((a{1000}){1000}){1000}"}, "behavior": "Isolated", "invert": false});
        }),
        tokenizer("a normalizer that makes each letter a thousand", &["prompt"], |t| {
            let long = "What ".repeat(1000);
            let step = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": long});
            t["normalizer"] = json!({"type": "Sequence", "normalizers": [step]});
        }),
        tokenizer("the same, three times over", &[], |t| {
            let long = "What ".repeat(1000);
            let step = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": long});
            t["normalizer"] = json!({"type": "Sequence", "normalizers": [step, step, step]});
        }),
        tokenizer("a precompiled normalizer of junk", &["tokenizer.json"], |t| {
            t["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "//////////8AAAAA"});
        }),
        tokenizer("a template processor without its tokens", &["tokenizer.json"], |t| {
            t["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}});
        }),
        tokenizer("a unigram model whose unknown token is beyond it", &["tokenizer.json"], |t| {
            t["model"] = json!({"type": "Unigram", "unk_id": 99, "vocab": [["a", -1.0]], "byte_fallback": false});
        }),
        tokenizer("a word model without its unknown token", &["tokenizer.json"], |t| {
            t["model"] = json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"a": 0}});
        }),
        tokenizer("a truncation to 0", &["prompt"], |t| {
            t["truncation"] = json!({"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9});
        }),
        tokenizer("a padding to 10¹²", &[], |t| {
            t["padding"] = json!({"strategy": {"Fixed": 1_000_000_000_000u64}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
        }),
        tokenizer("a decoder that puts a thousand letters before each, six times over", &["decoder", "times longer"], |t| {
            let step = json!({"type": "Replace", "pattern": {"String": ""}, "content": "a".repeat(1000)});
            t["decoder"] = json!({"type": "Sequence", "decoders": vec![step; 6]});
        }),
        tokenizer("a decoder that replaces by a pattern", &["decoder", "Regex"], |t| {
            t["decoder"] = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaaaaaaaa"});
        }),
        tokenizer("a decoder that doubles, forty times over", &["decoder"], |t| {
            t["decoder"] = json!({"type": "Sequence", "decoders": vec![json!({"type": "BPEDecoder", "suffix": ""}); 40]});
        }),
        tokenizer("tokens of a megabyte", &["tokenizer.json: token", "at most 1024"], |t| {
            let vocab = t["model"]["vocab"].as_object_mut().unwrap();
            *vocab = vocab.iter().map(|(token, id)| (format!("{token}{}", "a".repeat(1 << 16)), id.clone())).collect();
            t["model"]["merges"] = json!([]);
        }),
        tokenizer("a model that draws lots", &["dropout"], |t| t["model"]["dropout"] = json!(0.5)),
        tokenizer("a normalizer that puts nothing before a text", &["tokenizer.json", "crate"], |t| {
            t["normalizer"] = json!({"type": "Prepend", "prepend": ""});
        }),
        tokenizer("a normalizer of 40 MB of empty objects", &["tokenizer.json"], |t| {
            t["normalizer"] = json!("X");
            let empty = "[".to_string() + &"{\"\":0},".repeat(40_000_000 / 7) + "0]";
            *t = Value::String(t.to_string().replace("\"X\"", &empty));
        }),
        broken("a tokenizer.json of 49 MiB", &["at most"], |m| {
            std::fs::write(m.join("tokenizer.json"), vec![b' '; 49 << 20]).unwrap();
        }),
        tokenizer("a decoder of an unknown kind", &["tokenizer.json"], |t| t["decoder"] = json!({"type": "Rot13"})),
        toy_case("a decoder that strips more than there is", "llava/wide", Want::Runs, |m| {
            let path = m.join("tokenizer.json");
            let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            json["decoder"] = json!({"type": "Strip", "content": "a", "start": 1000, "stop": 1000});
            std::fs::write(path, json.to_string()).unwrap();
        }),
        broken("tokenizer_config.json is a list", &["tokenizer_config.json"], |m| {
            std::fs::write(m.join("tokenizer_config.json"), "[]").unwrap();
        }),
        toy_case("tokenizer_config.json: tokens that are numbers", "llava/wide", Want::Runs, |m| {
            edit(&m.join("tokenizer_config.json"), |c| {
                c.insert("bos_token".into(), json!(7));
                c.insert("other_token".into(), json!({"content": []}));
            });
        }),
    ]);
    all.extend([
        image_setting("size", json!({"height": 1u64 << 40, "width": 1u64 << 40}), &["size"]),
        image_setting("size", json!({"height": 24, "width": 0}), &["size"]),
        image_setting("image_mean", json!([0.5, 0.5]), &["image_mean"]),
        image_setting("image_mean", json!([1e308, 0.5, 0.5]), &[]),
        image_setting("image_std", json!([0.0, 0.5, 0.5]), &["image_std"]),
        image_setting("image_std", json!("x"), &["image_std"]),
        image_setting("rescale_factor", json!(0), &["rescale_factor"]),
        image_setting("rescale_factor", json!(1e-320), &[]),
        image_setting("resample", json!(9), &["resample"]),
        image_setting("do_resize", json!("yes"), &["do_resize"]),
        image_setting("image_grid_pinpoints", json!([[24]]), &["image_grid_pinpoints"]),
        image_setting("image_processor_type", json!("os.system"), &["image_processor_type"]),
        image_setting("auto_map", json!({"AutoProcessor": "evil.py"}), &[]),
        broken("processor_config.json is null", &["processor_config.json"], |m| {
            std::fs::write(m.join("processor_config.json"), "null").unwrap();
        }),
        broken("image_processor is a text", &["image_processor"], |m| {
            std::fs::write(m.join("processor_config.json"), json!({"image_processor": "x"}).to_string()).unwrap();
        }),
        toy_case("min_pixels of 2⁶³", "qwen2_vl/hub-bf16", Want::Refused(&["pixels"]), |m| {
            edit(&m.join("preprocessor_config.json"), |c| {
                c.insert("min_pixels".into(), json!(1u64 << 63));
                c.insert("max_pixels".into(), json!(u64::MAX));
            });
        }),
        toy_case("min_pixels of 60 million", "qwen2_vl/hub-bf16", Want::Refused(&[]), |m| {
            edit(&m.join("preprocessor_config.json"), |c| {
                c.insert("min_pixels".into(), json!(60_000_000));
                c.insert("max_pixels".into(), json!(61_000_000));
            });
        }),
    ]);
    // Lawful by themselves.
    let lawful = ["auto_map", "a pattern without end", "a truncation to 0", "a padding to 10¹²"];
    all.iter_mut().filter(|c| lawful.iter().any(|l| c.what.contains(l))).for_each(|c| c.want = Want::Runs);
    all
}

/// Namespaces that hold themselves; the engine's own ways to print and compare have no end there.
fn cyclic() -> Vec<Case> {
    let itself = "{% set n = namespace(a=1) %}{% set n.a = n %}";
    let printed = [
        ("printed", "{{ n | string }}"),
        ("as text", "{{ n ~ 'x' }}"),
        ("compared", "{% set m = namespace(a=1) %}{% set m.a = m %}{{ n == m }}"),
        ("sorted", "{% set m = namespace(a=1) %}{% set m.a = m %}{{ [n, m] | sort }}"),
        ("in capitals", "{{ n | upper }}"),
        ("joined", "{{ [n] | join(',') }}"),
        ("raised", "{{ raise_exception(n) }}"),
    ];
    let printed = printed.map(|(what, end)| (format!("a namespace in itself, {what}"), format!("{itself}{end}")));
    let ways = [
        ("by a list and a dict", "{% set n.a = [{'x': n}] %}"),
        ("by one of several targets", "{% set n.a, n.b = n, 1 %}"),
        ("by a lazy merger", "{% set l = n | chain({}) %}{% set n.a = l %}"),
        ("by a slice", "{% set l = [n] | chain([n]) | reverse %}{% set n.a = l[:] %}"),
        ("by another", "{% set m = namespace(b=n) %}{% set n.a = m %}"),
        ("by a key", "{% set n.a = {n: 1} %}"),
        ("in a macro", "{% macro f(x) %}{% if x %}{% set x.a = x %}{% endif %}{% endmacro %}{{ f(n) }}"),
    ];
    let ways = ways.map(|(what, set)| {
        let source = format!("{{% set n = namespace(a=[]) %}}{set}{{{{ n | string }}}}{{{{ n == n }}}}");
        (format!("a namespace in itself {what}"), source)
    });
    let refused = |(what, source): (String, String)| {
        broken(what, &["chat_template.jinja", "namespace"], move |m| {
            std::fs::write(m.join("chat_template.jinja"), &source).unwrap();
        })
    };
    // A variable takes a copy of the pairs, so that the namespace does not hold itself: the template only lacks the image.
    let pairs =
        broken("a namespace that holds its own pairs", &["chat_template.jinja", "another number of images"], |m| {
            let source =
                "{% set n = namespace(a=[]) %}{% set l = n | items %}{% set n.a = l %}{{ n | string }}{{ n == n }}";
            std::fs::write(m.join("chat_template.jinja"), source).unwrap();
        });
    printed.into_iter().chain(ways).map(refused).chain([pairs]).collect()
}

/// Operators without end in a template of the largest size: the engine goes down a level of its stack for each.
fn chains() -> Vec<Case> {
    let chains = [
        ("{% if a %}", "{% elif a %}", "{% endif %}"),
        ("{{ ", "not ", "a }}"),
        ("{{ a", "+a", " }}"),
        ("{{ a", "~a", " }}"),
        ("{{ 1", "-1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ a", " is none", " }}"),
        ("{{ a", " if a else a", " }}"),
        ("{{ a", "|e", " }}"),
        ("{{ a", ".b", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ [1]", "[:]", " }}"),
        ("", "{%set x=[[[[[[[[x]]]]]]]]%}", "{{ x ~ '' }}"),
    ];
    let refused = |(begin, link, end): (&str, &str, &str)| {
        let most = 262_144 - begin.len() - end.len();
        let source = format!("{begin}{}{end}", link.repeat(most / link.len()));
        broken(format!("256 KiB of {}", link.trim()), &[], move |m| {
            std::fs::write(m.join("chat_template.jinja"), &source).unwrap();
        })
    };
    let mut all: Vec<Case> = chains.map(refused).into();
    all.push(template(
        "2.6 MB of {% elif a %}",
        &["at most 262144 bytes"],
        "{% if a %}".to_string() + &"{% elif a %}".repeat(200_000) + "{% endif %}",
    ));
    all.push(broken(
        "1.6 MB of +a in tokenizer_config.json",
        &["tokenizer_config.json: chat_template", "at most 262144 bytes"],
        |m| {
            std::fs::remove_file(m.join("chat_template.jinja")).unwrap();
            edit(&m.join("tokenizer_config.json"), |c| {
                let source = format!("{{{{ a{} }}}}", "+a".repeat(800_000));
                c.insert("chat_template".into(), json!([{"name": "default", "template": source}]));
            });
        },
    ));
    all
}

fn nested_loops() -> String {
    let all = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}";
    format!("{all}{{{{ b }}}}{}", "{% endfor %}".repeat(3))
}

/// `x0` begun with a value, and 45 scopes in one another in which the next is twice the last.
fn doubled_by_with(start: &str) -> String {
    let scopes: String = (0..45).map(|i| format!("{{% with x{} = x{i} + x{i} %}}", i + 1)).collect();
    format!("{{% set x0 = {start} %}}{scopes}{{{{ x45 }}}}{}", "{% endwith %}".repeat(45))
}

/// `x` begun with a value and made anew forty times.
fn doubled(start: &str, step: &str) -> String {
    format!("{{% set x = {start} %}}{}", format!("{{% set x = {step} %}}").repeat(40)) + "{{ x }}"
}
