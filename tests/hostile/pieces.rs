//! InternVL2's files: `tokenizer.model`, a protocol buffer, and the tables beside it.

use crate::common::cli::edit;
use crate::{Case, Want, toy_case};
use serde_json::json;
use std::path::Path;

const TOY: &str = "internvl2/internlm2-two-images";
const MODEL: &str = "tokenizer.model";

fn broken(what: &str, words: &'static [&'static str], change: impl Fn(&Path) + Sync + 'static) -> Case {
    toy_case(what, TOY, Want::Refused(words), change)
}

fn pieces(what: &str, bytes: impl AsRef<[u8]> + Sync + 'static) -> Case {
    broken(what, &[MODEL], move |m| std::fs::write(m.join(MODEL), bytes.as_ref()).unwrap())
}

fn changed(what: &str, change: fn(&mut Vec<u8>)) -> Case {
    broken(what, &[], move |m| {
        let mut bytes = std::fs::read(m.join(MODEL)).unwrap();
        change(&mut bytes);
        std::fs::write(m.join(MODEL), bytes).unwrap();
    })
}

/// Leaves `added_tokens.json` as the only file that names the added tokens.
fn alone(model: &Path) {
    edit(&model.join("tokenizer_config.json"), |c| {
        c.remove("added_tokens_decoder");
    });
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        pieces("an empty tokenizer.model", ""),
        pieces("a text", "not a model"),
        pieces("a field of 2⁶³ bytes", [&[0x0a][..], &[0xff; 8], &[0x7f]].concat()),
        pieces("a varint without end", [0xff; 64]),
        pieces("a megabyte of opened groups", vec![0x0b; 1 << 20]),
        pieces("a million empty pieces", [0x0a, 0x00].repeat(1_000_000)),
        pieces("a piece that is no UTF-8", [0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe]),
        pieces("a piece of a byte <0xZZ>", [&[0x0a, 0x0a, 0x0a, 0x06][..], b"<0xZZ>", &[0x18, 0x06]].concat()),
        changed("half of a tokenizer.model", |b| b.truncate(b.len() / 2)),
        changed("every hundredth byte of it turned over", |b| b.iter_mut().step_by(100).for_each(|b| *b = !*b)),
        broken("added_tokens.json of negative ids", &["added_tokens.json"], |m| {
            alone(m);
            std::fs::write(m.join("added_tokens.json"), json!({"<img>": -1}).to_string()).unwrap();
        }),
        // tokenizer_config.json lists the tokens, so nobody reads this file.
        toy_case("added_tokens.json is a list", TOY, Want::Runs, |m| {
            std::fs::write(m.join("added_tokens.json"), "[]").unwrap();
        }),
        toy_case("added_tokens.json of 300 000 tokens", TOY, Want::Runs, |m| {
            let tokens: Vec<String> = (0..300_000).map(|i| format!("\"t{i:x}\":{}", 7 + i % 3)).collect();
            let path = m.join("added_tokens.json");
            let text = std::fs::read_to_string(&path).unwrap_or("{}".into());
            let rest = text.trim().strip_prefix('{').unwrap().to_string();
            let comma = if rest.trim() == "}" { "" } else { "," };
            std::fs::write(path, format!("{{{}{comma}{rest}", tokens.join(","))).unwrap();
        }),
        toy_case("added_tokens.json of 17 MB", TOY, Want::Runs, |m| {
            std::fs::write(m.join("added_tokens.json"), vec![b' '; 17_000_000]).unwrap();
        }),
        broken("no added tokens", &["<IMG_CONTEXT>"], |m| {
            alone(m);
            std::fs::remove_file(m.join("added_tokens.json")).unwrap();
        }),
        broken("a template of conversation that is unknown", &["template"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("template".into(), json!("{{ x }}"));
            });
        }),
        broken("a downsample_ratio of 0", &["downsample_ratio"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("downsample_ratio".into(), json!(0));
            });
        }),
        broken("a downsample_ratio of 1e-300", &["downsample_ratio"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("downsample_ratio".into(), json!(1e-300));
            });
        }),
        broken("max_dynamic_patch of 2⁴⁰", &["max_dynamic_patch"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("max_dynamic_patch".into(), json!(1u64 << 40));
            });
        }),
        broken("force_image_size of 2³⁰", &["force_image_size"], |m| {
            edit(&m.join("config.json"), |c| {
                c.insert("force_image_size".into(), json!(1 << 30));
            });
        }),
    ]
}
