//! InternVL2: grids of tiles, rows, conversation templates, marks.

use super::*;
use aircache::family::internvl::{InternVlConfig, InternVlReader};
use aircache::family::{self, Family, Reader};
use aircache::files::Files;
use aircache::input::tiling::Tiling;

fn tiling(tile: usize, tiles: (usize, usize)) -> Tiling {
    Tiling { tile, unit: tile / 2, along: 2, transposed: false, tiles: Some(tiles), thumbnail: true }
}

/// C4.17a: an image without pixels is an error, and so is a grid of extreme size.
#[test]
fn e4_15_c4_17a_worked_example() {
    let t = tiling(56, (1, 6));
    assert_eq!(t.grid((120, 120)).unwrap(), (2, 2));
    assert_eq!(t.grid((70, 70)).unwrap(), (1, 1));
    assert_eq!(t.grid((60, 190)).unwrap(), (1, 3));
    assert_eq!(Tiling { tiles: None, ..t.clone() }.grid((60, 190)).unwrap(), (1, 1));
    assert!(t.grid((0, 5)).unwrap_err().to_string().contains("at least one pixel"));
    assert!(tiling(1 << 14, (200, 256)).grid((5, 5)).unwrap_err().at.contains("max_dynamic_patch"));
}

/// The grids of both programs, from a plain search in the same order: every pair of sides up to 130, with three limits.
#[test]
fn e4_15_every_grid_is_that_of_a_plain_search() {
    for (few, most) in [(1, 6), (1, 12), (3, 9)] {
        let mut shapes: Vec<(usize, usize)> = (1..=most).flat_map(|i| (1..=most).map(move |j| (i, j))).collect();
        shapes.retain(|(i, j)| (few..=most).contains(&(i * j)));
        shapes.sort_by_key(|(i, j)| i * j);
        for (h, w) in (1..130).flat_map(|h| (1..130).map(move |w| (h, w))) {
            let off = |(i, j): (usize, usize)| (w as f64 / h as f64 - i as f64 / j as f64).abs();
            let least = shapes.iter().map(|&s| off(s)).fold(f64::INFINITY, f64::min);
            let closest: Vec<_> = shapes.iter().copied().filter(|&s| off(s) == least).collect();
            let large = |(i, j): &&(usize, usize)| 2 * w * h > 40 * 40 * i * j;
            let (i, j) = closest[1..].iter().rfind(large).copied().unwrap_or(closest[0]);
            assert_eq!(tiling(40, (few, most)).grid((h, w)).unwrap(), (j, i), "{h} × {w}");
        }
    }
}

#[test]
fn e4_16_worked_example() {
    let p = tiling(56, (1, 6)).packing((56, 112)).unwrap();
    assert_eq!((p.tiles, p.rows.len()), (3, 12));
    assert_eq!(p.region(5), Some([0.0, 84.0, 28.0, 112.0]));
    assert_eq!(p.region(8), Some([0.0, 0.0, 28.0, 56.0]));
    let down = Tiling { transposed: true, ..tiling(56, (1, 6)) }.packing((56, 112)).unwrap();
    assert_eq!(down.region(5), Some([28.0, 56.0, 56.0, 84.0]), "v1 goes down the columns");
    // No row covers the remaining pixels at the right and at the bottom of a tile.
    let odd = Tiling { tile: 17, unit: 5, along: 3, ..tiling(17, (1, 1)) }.packing((34, 34)).unwrap();
    assert_eq!(odd.region(8), Some([20.0, 20.0, 30.0, 30.0]));
}

proptest! {
    /// C4.17a: the rows of a grid lie in the image and cover it, except for the margins of patches.
    #[test]
    fn c4_17a_no_size_panics(h in 1usize..100_000, w in 1usize..100_000, tile in 1usize..600, most in 1usize..40) {
        let t = tiling(2 * tile, (1, most));
        let p = t.packing((h, w)).unwrap();
        let whole = if p.tiles > 1 { 4 } else { 0 };
        let area: f64 = (0..p.rows.len() - whole).map(|r| p.region(r).unwrap()).map(|[t, l, b, r]| (b - t) * (r - l)).sum();
        prop_assert!((area / (h as f64 * w as f64) - 1.0).abs() < 1e-9);
        let inside = |[t, l, b, r]: [f64; 4]| t >= 0.0 && l >= 0.0 && b <= h as f64 * (1.0 + 1e-12) && r <= w as f64 * (1.0 + 1e-12);
        prop_assert!((0..p.rows.len()).all(|row| inside(p.region(row).unwrap())));
    }
}

fn toy(case: &str) -> (Files, std::sync::Arc<dyn Family>) {
    let files = Files::Folder(golden(case).join("model"));
    let family = family::load(&files).unwrap();
    (files, family)
}

/// T4.8, E4.17, A4.7: an image with the size of its tiles is cut and not resampled; its levels are computed in f64.
#[test]
fn e4_17_t4_8_a4_7_worked_example() {
    let (files, family) = toy("internvl2/qwen2");
    let mut reader = InternVlReader::load(&files, family.as_a().unwrap()).unwrap();
    reader.tiling = Tiling { tile: 2, unit: 1, along: 2, thumbnail: false, ..reader.tiling };
    let bytes: Vec<u8> = (0..24).map(|i| i * 10).collect();
    let image = aircache::input::Image::from_rgb(2, 4, bytes).unwrap();
    let (pixels, _) = reader.pixels(&image, 1).unwrap();
    assert_eq!(pixels.shape(), [2, 3, 2, 2]);
    // The green value of the second tile at row 1, column 0: pixel (1, 2), byte (4 + 2) · 3 + 1.
    assert_eq!(pixels[[1, 1, 1, 0]], ((190.0 / 255.0 - 0.456) / 0.224) as f32);
    let no = reader.tiling.packing((2, 4)).unwrap();
    assert_eq!((no.tiles, no.rows.len()), (2, 8), "no tile of the whole image");
}

/// If config.json and the processor's files disagree, the error names both.
#[test]
fn c4_12_files_have_to_agree() {
    let (files, family) = toy("internvl/qwen2-bf16");
    let changed = |change: &dyn Fn(&mut InternVlConfig)| {
        let mut c = family.as_a::<InternVlConfig>().unwrap().clone();
        change(&mut c);
        InternVlReader::load(&files, &c).unwrap_err().to_string()
    };
    let e = changed(&|c| c.vision.image = 32);
    assert!(e.contains("preprocessor_config.json: size") && e.contains("config.json"), "{e}");
    let e = changed(&|c| c.merge = 1);
    assert!(e.contains("processor_config.json: image_seq_length"), "{e}");
}

#[cfg(feature = "input")]
mod text {
    use super::*;
    use aircache::family::internvl::{CONVERSATIONS, conversation};
    use aircache::input::sentencepiece::Pieces;
    use aircache::input::{Image, Tokenizer};
    use aircache::processor::Processor;

    /// D4.6: templates; images that the user places and images on their own lines; a system text that replaces the
    /// message.
    #[test]
    fn d4_6_t4_9_prompts_are_written_as_the_code_does() {
        let hermes = conversation("Hermes-2", "here").unwrap();
        let two = hermes.render(2, "Read.", Some("Be short."));
        let want = "<|im_start|>system\nBe short.<|im_end|><|im_start|>user\n<image>\n<image>\nRead.<|im_end|><|im_start|>assistant\n";
        assert_eq!(two, want);
        let placed = hermes.render(1, "Is <image> a cat?", None);
        assert!(
            placed.contains("user\nIs <image> a cat?<|im_end|>") && placed.contains("书生多模态大模型"),
            "{placed}"
        );
        assert!(!hermes.render(0, "Hello", None).contains("image"));
        let phi = conversation("phi3-chat", "here").unwrap().render(0, "Hi", Some("S"));
        assert_eq!(phi, "<|system|>\nS<|end|><|user|>\nHi<|end|><|assistant|>\n");
        let e = conversation("vicuna", "config.json: template").unwrap_err().to_string();
        assert!(CONVERSATIONS.iter().all(|c| e.contains(c.name)), "{e}");
    }

    fn processor(case: &str) -> Processor {
        let (files, family) = toy(case);
        Processor::load(&files, &family).unwrap()
    }

    /// D4.6, E4.8: marks around each image, and one placeholder for each row; without images no text is replaced.
    #[test]
    fn d4_6_marks_stand_around_every_image() {
        let grey = |h, w| Image::from_rgb(h, w, vec![128; 3 * h * w]).unwrap();
        for case in ["internvl2/qwen2", "internvl2/internlm2-two-images", "internvl/qwen2-bf16"] {
            let p = processor(case);
            let id = |token: &str| p.tokenizer().id(token).unwrap();
            let (start, end, context) = (id("<img>"), id("</img>"), id("<IMG_CONTEXT>"));
            let prompt = p.prepare(&[grey(30, 30), grey(20, 90)], "A <image> and <image>.", None).unwrap();
            let rows: Vec<usize> = prompt.images.iter().map(|i| i.packing.rows.len()).collect();
            let at = |token: u32| {
                prompt.ids.iter().enumerate().filter(|(_, id)| **id == token).map(|(i, _)| i).collect::<Vec<_>>()
            };
            let (starts, ends) = (at(start), at(end));
            assert_eq!(starts.iter().zip(&ends).map(|(s, e)| e - s - 1).collect::<Vec<_>>(), rows, "{case}");
            assert_eq!(at(context).len(), rows.iter().sum::<usize>());
            let text = p.prepare(&[], "Only text, no picture", None).unwrap();
            assert!(!text.ids.contains(&start) && !text.ids.contains(&context), "{case}");
            let e = p.prepare(&[grey(9, 9)], "<image> and <image>", None).unwrap_err().to_string();
            assert!(e.contains("2"), "{e}");
        }
    }

    /// D4.7: `<s>` comes first; added tokens are cut out, the longest token at each place; a text with `<s>` gets no
    /// second `<s>`.
    #[test]
    fn d4_7_a4_6_a_tokenizer_model_is_enough() {
        let t = processor("internvl2/internlm2-two-images").tokenizer().clone();
        let ids = t.encode("<|im_start|>user\n<img>").unwrap();
        assert_eq!((ids[0], ids[1], *ids.last().unwrap()), (1, 420, 422));
        assert_eq!(t.encode("<s>a").unwrap().iter().filter(|&&id| id == 1).count(), 1);
        assert_eq!(t.decode(&ids).unwrap(), "user\n", "special tokens are left out");
        assert_eq!(t.decode(&t.encode("Wait , what ?").unwrap()).unwrap(), "Wait , what ?", "A4.6");
        let mut stream = t.stream();
        let ids = t.encode("Grüße, 你好 🙂!").unwrap();
        let said: String = ids.iter().filter_map(|&id| stream.push(id)).collect::<Vec<_>>().concat();
        assert_eq!(said + &stream.finish().unwrap_or_default(), "Grüße, 你好 🙂!", "E4.11 for bytes");
        let e = Tokenizer::load(&Files::Embedded(&[("tokenizer.model", b"nothing")])).unwrap_err();
        assert!(e.at.contains("tokenizer.model"), "{e}");
    }

    /// A field of a protocol buffer.
    fn field(number: u8, kind: u8, value: &[u8]) -> Vec<u8> {
        let head = [number << 3 | kind];
        let length = (kind == 2).then_some(value.len() as u8);
        head.into_iter().chain(length).chain(value.iter().copied()).collect()
    }

    fn pieces(all: &[(&str, f32, u8)], bpe: bool) -> Pieces {
        let piece = |(text, score, kind): &(&str, f32, u8)| {
            let inner =
                [field(1, 2, text.as_bytes()), field(2, 5, &score.to_le_bytes()), field(3, 0, &[*kind])].concat();
            field(1, 2, &inner)
        };
        let trainer = field(2, 2, &field(3, 0, &[1 + u8::from(bpe)]));
        // Extra spaces are removed, and no space is added in front: T4.10.
        let normalizer = field(3, 2, &field(3, 0, &[0]));
        let all: Vec<u8> = all.iter().flat_map(piece).chain(trainer).chain(normalizer).collect();
        Pieces::read(&all, "by hand").unwrap()
    }

    /// E4.18, E4.19, E4.20, E4.21 and T4.10 by hand.
    #[test]
    fn e4_18_e4_19_e4_20_e4_21_t4_10_worked_examples() {
        let unk = ("<unk>", 0.0, 2);
        let letters = [unk, ("a", -9.0, 1), ("b", -9.0, 1), ("c", -9.0, 1)];
        let merged = pieces(&[&letters[..], &[("ab", -1.0, 1), ("bc", -2.0, 1), ("abc", -3.0, 1)]].concat(), true);
        assert_eq!(merged.encode("abc"), [6]);
        assert_eq!(merged.encode("abcbc"), [6, 5]);
        let unused = pieces(&[&letters[..], &[("ab", -1.0, 5), ("abc", -3.0, 1)]].concat(), true);
        assert_eq!((unused.encode("abc"), unused.encode("ab")), (vec![5], vec![1, 2]), "ab is only passed through");
        let scored = pieces(&[unk, ("a", -1.0, 1), ("b", -1.0, 1), ("ab", -1.5, 1)], false);
        assert_eq!(scored.encode("ab"), [3]);
        let spaces = pieces(&[unk, ("\u{2581}", -1.0, 1), ("x", -1.0, 1)], false);
        assert_eq!(spaces.encode("  x   x "), [2, 1, 2], "E4.18: trimmed");
        assert_eq!(spaces.encode(" "), [0u32; 0]);
        assert_eq!(spaces.encode("x??y"), [2, 0], "a run of what is unknown");
        let mut all = vec![unk];
        let names: Vec<String> = (0..=255u8).map(|b| format!("<0x{b:02X}>")).collect();
        all.extend(names.iter().map(|n| (n.as_str(), 0.0, 6)));
        let bytes = pieces(&all, true);
        let id = |b: u8| u32::from(b) + 1;
        assert_eq!(bytes.decode(&[id(0xe4), id(0xbd), id(0xa0)]), "你");
        assert_eq!(bytes.decode(&[id(0xe4), id(0xbd)]), "\u{fffd}\u{fffd}");
    }
}
