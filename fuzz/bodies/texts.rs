//! Templates, tokenizers and prompts.

use aircache::demo;
use aircache::family;
use aircache::input::template::{DEFAULT_DATE, Template, Turn};
use aircache::input::{Image, Tokenizer};
use aircache::processor::Processor;
use std::sync::OnceLock;

/// A template renders, or fails within its bounds; two runs give the same result.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(template) = Template::new(source, "template", DEFAULT_DATE) else { return };
    let turns = [Turn::new("system", 0, "Be brief."), Turn::new("user", 2, "What is <that>?")];
    let special = [("bos_token".to_string(), "<s>".to_string())];
    let first = template.render(&turns, &special);
    assert_eq!(first, template.render(&turns, &special), "rendered twice");
    match first {
        Ok(text) => assert!(text.len() <= 16 << 20),
        Err(e) => assert!(!e.got.contains("no end") && !e.got.contains("its reader does not expect"), "{e}"),
    }
}

/// A `tokenizer.json` decodes its own encoding, in pieces and at once.
pub fn tokenizer(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(data, "tokenizer.json".into(), Vec::new()) else { return };
    for text in ["", "What is it?", "émigré 東京 🙂\u{0}\n"] {
        let Ok(ids) = tokenizer.encode(text) else { continue };
        pieces(&tokenizer, &ids);
    }
    pieces(&tokenizer, &[0, 1, 2, 3, u32::MAX]);
}

/// Ids decoded one by one give the text of all ids.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) {
    let Ok(whole) = tokenizer.decode(ids) else { return };
    let mut stream = tokenizer.stream();
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    text.extend(stream.finish());
    // A decoder whose text changes as ids arrive (it strips or joins at the end) does not stream pieces.
    assert!(text == whole || !whole.starts_with(&text) || text.is_empty(), "{text:?} of {whole:?}");
}

fn processor() -> &'static Processor {
    static PROCESSOR: OnceLock<Processor> = OnceLock::new();
    PROCESSOR.get_or_init(|| {
        let config = family::load(&demo::files()).expect("the demo model");
        Processor::load(&demo::files(), &config).expect("the demo model")
    })
}

/// A prompt, with and without an image: the number of visual rows equals the image's number, ids lie inside the
/// vocabulary, and the tail of the template lies within the prompt.
pub fn prompt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (question, system) = text.split_once('\0').map_or((&*text, None), |(q, s)| (q, Some(s)));
    let image = Image::from_rgb(20, 30, vec![99; 1800]).expect("an image");
    // Pixels take fifty times as long as text.
    let pictures = if data.len() % 8 == 1 { vec![vec![image.clone()], vec![image.clone(), image]] } else { vec![] };
    for images in std::iter::once(vec![]).chain(pictures) {
        let Ok(prepared) = processor().prepare(&images, question, system) else { continue };
        let rows: usize = prepared.images.iter().map(|i| i.packing.rows.len()).sum();
        assert_eq!(prepared.roles.visual().len(), rows);
        assert_eq!(prepared.roles.len(), prepared.ids.len());
        assert!(prepared.ids.iter().all(|&id| (id as usize) < 496 && processor().tokenizer().token(id).is_some()));
        assert!(processor().tail(&prepared, question) <= prepared.ids.len());
        let text_ids: Vec<u32> = prepared.roles.text().into_iter().map(|row| prepared.ids[row]).collect();
        pieces(processor().tokenizer(), &text_ids);
    }
}
