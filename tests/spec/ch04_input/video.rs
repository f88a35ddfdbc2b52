//! Videos: frames to pixels and rows, settings.

use super::*;
use aircache::family::{self, Reader};
use aircache::files::Files;
use aircache::input::frames::{Chosen, Frames, Rule, Sampler};
use aircache::input::{Moment, PreparedImage, video};
use serde_json::json;

fn frame(h: usize, w: usize, value: u8) -> Image {
    Image::from_rgb(h, w, vec![value; 3 * h * w]).unwrap()
}

/// The reader of a checkpoint with these files.
fn reader(files: &[(&str, Value)]) -> aircache::Result<Box<dyn Reader>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, says) in files {
        std::fs::write(folder.path().join(name), says.to_string()).unwrap();
    }
    let files = Files::Folder(folder.path().into());
    family::load(&files)?.reader(&files)
}

fn film(reader: &dyn Reader, frames: &[Image]) -> aircache::Result<PreparedImage> {
    reader.videos().unwrap().prepare(frames)
}

fn qwen(patch: usize) -> (&'static str, Value) {
    let vision = json!({"hidden_size": 128, "patch_size": patch, "spatial_merge_size": 1, "temporal_patch_size": 2});
    let text =
        json!({"model_type": "qwen2_vl", "hidden_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1});
    let mut config = text;
    config["vision_config"] = vision;
    ("config.json", config)
}

const IMAGES: &str = "preprocessor_config.json";
const VIDEOS: &str = "video_preprocessor_config.json";

fn plain(patch: usize) -> Value {
    json!({"patch_size": patch, "merge_size": 1, "temporal_patch_size": 2, "min_pixels": 1, "max_pixels": 4096,
        "do_normalize": false, "do_rescale": false})
}

#[test]
fn e4_22_worked_example() {
    let reader = reader(&[qwen(1), (IMAGES, plain(1))]).unwrap();
    let video = film(&*reader, &[frame(1, 1, 10), frame(1, 1, 20), frame(1, 1, 30)]).unwrap();
    assert_eq!(video.grid, Some([2, 1, 1]));
    let pixels: Vec<f32> = video.pixels.iter().copied().collect();
    assert_eq!(pixels, [10., 20., 10., 20., 10., 20., 30., 30., 30., 30., 30., 30.]);
    assert_eq!((video.packing.frames(0), video.packing.frames(1)), (0..2, 2..4));
}

/// A video of equal frames repeats the patches of the image for each time step, and each row has the region of the
/// image's row.
#[test]
fn e4_22_d4_8_still_frames_are_the_image_again_and_again() {
    let reader = reader(&[qwen(2), (IMAGES, plain(2))]).unwrap();
    let still = Image::from_rgb(5, 8, bytes(&content("noise", (5, 8), 3))).unwrap();
    let image = reader.prepare(&still, 1).unwrap();
    let video = film(&*reader, &vec![still; 5]).unwrap();
    let (n, rows) = (image.pixels.len(), image.packing.rows.len());
    assert_eq!(video.pixels.len(), 3 * n);
    assert!(video.pixels.iter().zip(image.pixels.iter().cycle()).all(|(a, b)| a == b));
    assert_eq!(video.packing.moment, Some(Moment { rows, frames: 2 }));
    for row in 0..3 * rows {
        assert_eq!(video.packing.region(row), image.packing.region(row % rows));
        assert_eq!(video.packing.frames(row), row / rows * 2..row / rows * 2 + 2);
    }
}

fn anyres(tile: usize) -> Anyres {
    Anyres { tile, patch: 1, pinpoints: vec![(tile, tile)], max_tiles: 9, drop_first: false }
}

#[test]
fn e4_23_worked_example() {
    let blend = |tile: usize| match anyres(tile).video(2, (8, 6)).unwrap().rows[0] {
        PackedRow::Blend(four) => four,
        row => panic!("{row:?}"),
    };
    assert_eq!(blend(4), [0, 1, 4, 5].map(|token| (0, token, 0.25)));
    assert_eq!(blend(3), [(0, 9.), (1, 3.), (3, 3.), (4, 1.)].map(|(token, w)| (0, token, w / 16.)));
}

#[test]
fn d4_8_worked_example() {
    let packing = anyres(4).video(2, (8, 6)).unwrap();
    assert_eq!(packing.rows.len(), 9);
    assert_eq!(packing.rows[8], PackedRow::Newline);
    let frames: Vec<_> = (0..8).map(|row| packing.frames(row).start).collect();
    assert_eq!(frames, [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(packing.region(7), Some([4.0, 3.0, 8.0, 6.0]));
    assert_eq!(packing.region(8), None);
    assert_eq!(anyres(4).frames(9), 2);
}

proptest! {
    /// E4.23: the weights of a blend sum to 1, and its tokens belong to its frame; regions tile each frame. No number
    /// of frames causes a panic.
    #[test]
    fn e4_23_every_frame_is_covered(tile in 1usize..20, frames in 1usize..6, h in 1usize..50, w in 1usize..50, many: usize) {
        let packing = anyres(tile).video(frames, (h, w)).unwrap();
        let rows = packing.rows.len() - 1;
        prop_assert_eq!(rows, frames * tile.div_ceil(2).pow(2));
        let mut area = vec![0.0; frames];
        for (i, row) in packing.rows[..rows].iter().enumerate() {
            let PackedRow::Blend(four) = row else { panic!() };
            prop_assert!((four.iter().map(|c| c.2).sum::<f64>() - 1.0).abs() < 1e-12);
            let at = packing.frames(i);
            prop_assert!(at.len() == 1 && four.iter().all(|c| c.0 == at.start && c.1 < tile * tile));
            let [top, left, bottom, right] = packing.region(i).unwrap();
            area[at.start] += (bottom - top) * (right - left);
        }
        prop_assert!(area.iter().all(|a| (a - (h * w) as f64).abs() < 1e-6));
        let _ = anyres(tile).video(many, (h, w));
    }
}

/// T4.11: the settings come from a section, otherwise from a file, otherwise from the images' file, and always as a
/// whole. An error in these settings concerns videos only.
#[test]
fn t4_11_where_settings_come_from() {
    let (own, nested) = (json!({"max_pixels": 4}), json!({"max_pixels": 16}));
    let with = |mut settings: Value, more: &Value| {
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let sides = |files: &[(&str, Value)]| {
        let video = film(&*reader(files)?, &[frame(8, 8, 0)])?;
        Ok::<_, aircache::Error>(video.grid.unwrap())
    };
    let images = (IMAGES, plain(1));
    let mut files = vec![qwen(1), images];
    assert_eq!(sides(&files).unwrap(), [1, 8, 8]);
    files.push((VIDEOS, with(plain(1), &own)));
    assert_eq!(sides(&files).unwrap(), [1, 2, 2]);
    files.push(("processor_config.json", json!({"video_processor": with(plain(1), &nested)})));
    assert_eq!(sides(&files).unwrap(), [1, 4, 4]);

    for (key, value, words) in [
        ("patch_size", json!(2), "1, as for images"),
        ("temporal_patch_size", json!(1), "2, as for images"),
        ("do_center_crop", json!(true), "false"),
        ("cap_pixels_per_frame", json!(true), "false"),
        ("size", json!({"shortest_edge": 0, "longest_edge": 5}), "shortest_edge"),
    ] {
        let mut broken = plain(1);
        broken.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_pixels"));
        broken[key] = value;
        let files = [qwen(1), (IMAGES, plain(1)), (VIDEOS, broken)];
        assert!(reader(&files).unwrap().prepare(&frame(3, 3, 0), 1).is_ok(), "{key}: images are read");
        let e = sides(&files).unwrap_err().to_string();
        assert!(e.contains(VIDEOS) && e.contains(key) && e.contains(words), "{e}");
    }
    // If the setting is missing, the default of the class applies: at least 100352 pixels.
    let few = json!({"patch_size": 2, "merge_size": 1, "temporal_patch_size": 2});
    assert_eq!(sides(&[qwen(2), (IMAGES, plain(2)), (VIDEOS, few)]).unwrap(), [1, 159, 159]);
    let alone = json!({"image_processor": plain(1)});
    let e = sides(&[qwen(1), ("processor_config.json", alone)]).unwrap_err().to_string();
    assert!(e.contains(VIDEOS) && e.contains("no such file"), "{e}");
}

#[test]
fn d4_8_frames_have_one_size() {
    assert!(video::one_size(&[]).unwrap_err().to_string().contains("at least one frame"));
    assert_eq!(video::one_size(&[frame(2, 3, 0), frame(2, 3, 9)]).unwrap(), (2, 3));
    let e = video::one_size(&[frame(2, 3, 0), frame(3, 2, 0)]).unwrap_err().to_string();
    assert!(e.contains("2 × 3") && e.contains("3 × 2"), "{e}");
    assert!(anyres(4).video(1 << 60, (2, 2)).unwrap_err().to_string().contains("rows"));
    assert!(anyres(4).video(0, (2, 2)).is_err() && anyres(4).video(1, (0, 2)).is_err());
    let e = Anyres { drop_first: true, ..anyres(4) }.video(1, (2, 2)).unwrap_err().to_string();
    assert!(e.contains("vision_feature_select_strategy"), "{e}");
}

#[test]
fn e4_30_d4_15_worked_examples() {
    use aircache::input::{Positions, mrope};
    assert_eq!(video::times(&Chosen::all(3, 2.0), 2), [0.25, 1.0]);
    assert_eq!(format!("{:.1} {:.1}", 0.25, 0.35), "0.2 0.3", "half to even, of the number as it is stored");
    let placed = |t, interval| [mrope::Placed { rows: [t, 1, 1], interval }];
    let interval = 2.0 * (2.0 / 1.5) as f32;
    let time = |interval, t: usize| {
        let ids = [vec![9; t], vec![1]].concat();
        let Positions::Mrope([time, ..]) = mrope::timed(&ids, 9, &placed(t, interval)) else { panic!() };
        time
    };
    assert_eq!(time(interval, 4), [0, 2, 5, 8, 9]);
    assert_eq!(time(2.0 / 12.0, 3), [0, 0, 0, 1]);
    assert_eq!(time(1.0, 3), [0, 1, 2, 3]);
    // The product is truncated: 3 · 0.7 is 2, although 0.7 truncated is 0.
    assert_eq!(time(0.7, 4), [0, 0, 1, 2, 3]);
}

#[test]
fn e4_31_worked_example() {
    use aircache::input::Sizes;
    let sizes = Sizes { patch: 4, merge: 2, min_pixels: 1024, max_pixels: 8192 };
    assert_eq!(sizes.fit_clip(4, 2, (5, 40)).unwrap(), (8, 64));
    assert_eq!(sizes.fit((5, 40)).unwrap(), (16, 96), "an image of that size is enlarged");
    // Five frames count as four, half to even, where they are compared.
    assert_eq!(sizes.fit_clip(5, 2, (32, 64)).unwrap(), (32, 64));
    assert_eq!(sizes.fit_clip(7, 2, (32, 64)).unwrap(), (24, 48));
    let e = sizes.fit_clip(1, 2, (32, 64)).unwrap_err().to_string();
    assert!(e.contains("at least 2 frames"), "{e}");
}

/// A4.9, D4.15: what stands in the place of a video, by both readings.
#[cfg(feature = "input")]
#[test]
fn a4_9_d4_15_moments_stand_behind_their_times() {
    use aircache::input::mrope::AfterVideo;
    use aircache::processor::Processor;
    let files = Files::Folder(golden("qwen3_vl/hub-bf16/model"));
    let family = family::load(&files).unwrap();
    let frames: Vec<Image> = (0..3).map(|i| frame(17, 30, 40 * i)).collect();
    let text = |after: AfterVideo, fps: f64| {
        let processor = Processor::load(&files, &family).unwrap().with_after_video(after).with_fps(fps);
        let prompt = processor.prepare_video(&frames, "What?", None).unwrap();
        let rows = prompt.roles.visual().len() / 2;
        assert_eq!(prompt.images[0].packing.moments(), [rows; 2]);
        let words: Vec<String> = prompt.ids.iter().map(|&id| processor.tokenizer().token(id).unwrap()).collect();
        words.concat().replace(&"<|video_pad|>".repeat(rows), "*").replace('Ġ', " ")
    };
    let moments = "<0.2 seconds><|vision_start|>*<|vision_end|><1.0 seconds><|vision_start|>*<|vision_end|>";
    let trained = text(AfterVideo::Largest, 2.0);
    assert!(trained.contains(&format!("{moments}What")) && !trained.contains("<|vision_start|><0.2"), "{trained}");
    let side = text(AfterVideo::Side, 2.0);
    assert!(side.contains(&format!("<|vision_start|>{moments}<|vision_end|>What")), "{side}");
    assert!(text(AfterVideo::Largest, 24.0).contains("<0.0 seconds>"));
}

/// D4.16: a line for each frame, in both forms; a frame of any size is one tile.
#[cfg(feature = "input")]
#[test]
fn d4_16_worked_example() {
    use aircache::processor::Processor;
    let frames = [frame(40, 200, 10), frame(40, 200, 90)];
    for model in ["internvl2/qwen2", "internvl/qwen2-bf16"] {
        let files = Files::Folder(golden(&format!("{model}/model")));
        let processor = Processor::load(&files, &family::load(&files).unwrap()).unwrap();
        let prompt = processor.prepare_video(&frames, "What?", None).unwrap();
        let words: Vec<String> = prompt.ids.iter().map(|&id| processor.tokenizer().token(id).unwrap()).collect();
        let text = words.concat().replace('Ġ', " ").replace('Ċ', "\n").replace(&"<IMG_CONTEXT>".repeat(4), "*");
        assert!(text.contains("Frame1: <img>*</img>\nFrame2: <img>*</img>\nWhat?"), "{model}: {text}");
        let tiles: Vec<usize> = prompt.images.iter().map(|image| image.packing.tiles).collect();
        assert_eq!(tiles, [1, 1], "{model}");
        let image = processor.prepare(&frames[..1], "What?", None).unwrap();
        assert!(image.images[0].packing.tiles > 1, "{model}");
    }
}

/// How the toy of a family chooses frames, with these settings of videos.
fn sampler(family: &str, settings: &Value) -> aircache::Result<Sampler> {
    let toy = match family {
        "qwen2_vl" | "qwen3_vl" => format!("{family}/hub-bf16"),
        "llava_onevision" => "llava/wide".into(),
        "internvl" => "internvl/qwen2-bf16".into(),
        _ => "internvl2/qwen2".into(),
    };
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, json: &Value| std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(folder.path().join(name)).ok()?).ok();
    for entry in std::fs::read_dir(golden(&format!("{toy}/model"))).unwrap().map(|e| e.unwrap().path()) {
        if entry.extension().is_some_and(|e| e == "json") {
            std::fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
        }
    }
    let more = settings.as_object().unwrap().clone();
    match (read("processor_config.json"), read(VIDEOS).or_else(|| read(IMAGES))) {
        (Some(mut processor), _) if processor["video_processor"].is_object() => {
            processor["video_processor"].as_object_mut().unwrap().extend(more);
            put("processor_config.json", &processor);
        }
        (_, Some(mut video)) => {
            video.as_object_mut().unwrap().extend(more);
            put(VIDEOS, &video);
        }
        _ => {}
    }
    let files = Files::Folder(folder.path().into());
    family::load(&files)?.reader(&files)?.sampler().unwrap()
}

/// E4.32, T4.11, A4.10: the frames that the families' own code chooses, and nothing where it fails.
#[test]
fn e4_32_a4_10_frames_are_those_of_the_families_own_code() {
    let (mut failed, mut beside) = (0, 0);
    for case in json("video/frames.json").as_array().unwrap() {
        let wanted = match (case["wanted"].as_u64(), case["wanted"]["fps"].as_f64()) {
            (Some(count), _) => Frames::Count(count as usize),
            (_, Some(rate)) => Frames::Rate(rate),
            _ => Frames::Settings,
        };
        let (of, fps) = (case["of"].as_u64().unwrap() as usize, case["fps"].as_f64().unwrap());
        let sampler = sampler(case["family"].as_str().unwrap(), &case["settings"]);
        let got = sampler.and_then(|sampler| sampler.choose(wanted, of, fps));
        let Some(want) = case["at"].as_array() else {
            assert!(got.is_err(), "{case}: {got:?}");
            failed += 1;
            continue;
        };
        let want: Vec<usize> = want.iter().map(|frame| frame.as_u64().unwrap() as usize).collect();
        let got = got.unwrap_or_else(|e| panic!("{case}: {e}")).at;
        assert_eq!(got.len(), want.len(), "{case}");
        for (k, (got, theirs)) in got.iter().zip(&want).enumerate().filter(|(_, (got, theirs))| got != theirs) {
            // A4.10: two neighbours, between which the place lies up to the rounding of f32.
            let edge = *got.max(theirs) as f64;
            let step = of as f64 / want.len() as f64;
            let places = [0.0, step / 2.0, 2.5].map(|shift| shift + k as f64 * step);
            let near = places.iter().any(|place| (place - edge).abs() <= of as f64 / f64::from(1 << 23));
            assert!(of > 256 && got.abs_diff(*theirs) == 1 && near, "{case}: frame {k} is {got}");
            beside += 1;
        }
    }
    assert!(failed > 100 && beside < 20, "{failed} errors, {beside} on an edge");
}

#[test]
fn d4_17_e4_32_worked_examples() {
    let chosen = Sampler::fixed(Rule::Ends, 3).choose(Frames::Settings, 9, 4.0).unwrap();
    assert_eq!((&chosen.at[..], chosen.seconds().collect::<Vec<_>>()), (&[0, 4, 8][..], vec![0.0, 1.0, 2.0]));
    assert!((chosen.rate() - 4.0 / 3.0).abs() < 1e-15 && !chosen.is_all());
    assert_eq!(chosen.words(), "3 of 9 frames: 0 (0.0 s), 4 (1.0 s), 8 (2.0 s)");
    let starts = Sampler::fixed(Rule::Starts { together: 2 }, 5);
    assert_eq!(starts.choose(Frames::Settings, 10, 4.0).unwrap().at, [0, 2, 5, 7]);
    let all = starts.choose(Frames::All, 3, 4.0).unwrap();
    assert!(all.is_all() && all.rate() == 4.0);
}

proptest! {
    /// E4.32: a rule chooses frames that the film has, in order, or says why not.
    #[test]
    fn e4_32_every_frame_is_in_the_film(of in 1usize..5000, n in 0usize..5000, rate in 1e-3..1e4, fps in 1e-3..1e4) {
        for rule in [Rule::Starts { together: 3 }, Rule::Even, Rule::Ends, Rule::Shifted, Rule::Segments] {
            for frames in [Frames::Settings, Frames::Count(n), Frames::Rate(rate)] {
                if let Ok(chosen) = Sampler::fixed(rule, 32).choose(frames, of, fps) {
                    prop_assert!(!chosen.at.is_empty() && chosen.at.is_sorted());
                    prop_assert!(chosen.at.iter().all(|&frame| frame < of));
                }
            }
        }
    }
}
