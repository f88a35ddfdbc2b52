//! The settings in the processor's two files.

use super::*;
use aircache::family;
use aircache::files::Files;
use aircache::input::settings::Settings;

/// The demo model's small files, with changes in one of them.
pub fn folder(changes: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let Files::Embedded(files) = aircache::demo::files() else { panic!() };
    for (name, bytes) in files.iter().filter(|(n, _)| *n != "model.safetensors") {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    for (name, text) in changes {
        match text.is_empty() {
            true => std::fs::remove_file(dir.path().join(name)).unwrap(),
            false => std::fs::write(dir.path().join(name), text).unwrap(),
        }
    }
    let files = Files::Folder(dir.path().into());
    (dir, files)
}

fn edited(file: &str, section: Option<&str>, key: &str, value: &str) -> aircache::Result<Settings> {
    let Files::Embedded(files) = aircache::demo::files() else { panic!() };
    let bytes = files.iter().find(|(n, _)| *n == file).unwrap().1;
    let mut doc: Value = serde_json::from_slice(bytes).unwrap();
    let place = if let Some(s) = section { &mut doc[s] } else { &mut doc };
    match value {
        "" => drop(place.as_object_mut().unwrap().remove(key)),
        _ => place[key] = serde_json::from_str(value).unwrap(),
    }
    let (_dir, files) = folder(&[(file, &doc.to_string())]);
    load(&files)
}

fn load(files: &Files) -> aircache::Result<Settings> {
    Ok(family::load(files).unwrap().reader(files)?.settings().clone())
}

#[test]
fn t4_4_missing_settings_take_the_defaults_of_transformers() {
    let inner = |key: &str| edited("processor_config.json", Some("image_processor"), key, "").unwrap();
    assert_eq!(inner("image_mean").pixels.mean, [0.48145466, 0.4578275, 0.40821073]);
    assert_eq!(inner("image_std").pixels.std, [0.26862954, 0.26130258, 0.27577711]);
    assert_eq!(inner("resample").pixels.filter, Filter::Bicubic);
    assert_eq!(inner("rescale_factor").pixels.rescale, Some(1.0 / 255.0));
    let null = edited("processor_config.json", Some("image_processor"), "image_mean", "null").unwrap();
    assert_eq!(null.pixels.mean[0], 0.48145466);
}

#[test]
fn t4_4_the_nested_settings_win() {
    let flat = r#"{"resample": 2, "size": {"shortest_edge": 64}, "image_mean": 0.25, "do_rescale": false}"#;
    let pinpoints = &json_of("preprocessor_config.json")["image_grid_pinpoints"];
    let flat = flat.replacen('{', &format!("{{\"image_grid_pinpoints\": {pinpoints}, "), 1);
    let (_dir, files) = folder(&[("preprocessor_config.json", &flat)]);
    assert_eq!(load(&files).unwrap().pixels.filter, Filter::Bicubic);
    let (_dir, files) = folder(&[("preprocessor_config.json", &flat), ("processor_config.json", "")]);
    let flat = load(&files).unwrap().pixels;
    assert_eq!((flat.filter, flat.mean, flat.rescale), (Filter::Bilinear, [0.25; 3], None));
    let (_dir, files) = folder(&[("preprocessor_config.json", ""), ("processor_config.json", "{}")]);
    assert!(load(&files).unwrap_err().to_string().contains("preprocessor_config.json"));
}

fn json_of(name: &str) -> Value {
    let Files::Embedded(files) = aircache::demo::files() else { panic!() };
    serde_json::from_slice(files.iter().find(|(n, _)| *n == name).unwrap().1).unwrap()
}

#[test]
fn c4_12_disagreements_and_unsupported_settings_name_the_place() {
    let inner =
        |k: &str, v: &str| edited("processor_config.json", Some("image_processor"), k, v).unwrap_err().to_string();
    let outer = |k: &str, v: &str| edited("processor_config.json", None, k, v).unwrap_err().to_string();
    let both = |e: String, what: &str| {
        assert!(e.contains("processor_config.json") && e.contains("/config.json") && e.contains(what), "{e}");
    };
    both(inner("size", r#"{"height": 32, "width": 32}"#), "64");
    both(inner("size", ""), "384");
    both(inner("image_grid_pinpoints", "[[64, 64]]"), "of 13");
    both(inner("image_grid_pinpoints", ""), "[384, 384]");
    both(outer("num_image_tokens", "63"), "64");
    both(outer("vision_aspect_ratio", r#""anyres_max_4""#), "anyres_max_4");
    both(outer("vision_feature_select_strategy", r#""default""#), "full");
    for (key, value) in [
        ("size", r#"{"height": 64, "width": 32}"#),
        ("do_center_crop", "true"),
        ("crop_size", "64"),
        ("resample", "1"),
        ("resample", "\"bicubic\""),
        ("image_std", "[0.5, 0, 0.5]"),
        ("image_mean", "[0.5, 0.5]"),
        ("rescale_factor", "0"),
        ("do_resize", "1"),
        ("image_processor_type", "\"SiglipImageProcessor\""),
        ("image_grid_pinpoints", "[[64]]"),
    ] {
        let e = inner(key, value);
        assert!(e.contains("processor_config.json") && e.contains(key), "{e}");
    }
}
