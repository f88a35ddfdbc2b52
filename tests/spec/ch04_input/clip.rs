//! The squares of LLaVA-1.5 and the tiles of LLaVA-NeXT.

use aircache::family::{self, Outline};
use aircache::files::Files;
use aircache::input::Crop;

#[test]
fn e4_28_worked_example() {
    let crop = Crop { edge: Some(2), cut: true, side: 2, patch: 1, class: false };
    assert_eq!(crop.size(true, (6, 4)).unwrap(), (3, 2));
    let rows = crop.packing(true, (6, 4)).unwrap();
    assert_eq!(
        (rows.rows.len(), rows.region(0), rows.region(3)),
        (4, Some([0.0, 0.0, 2.0, 2.0]), Some([2.0, 2.0, 4.0, 4.0]))
    );
    let zeros = Crop { side: 4, class: true, ..crop.clone() }.packing(true, (2, 2)).unwrap();
    assert_eq!((zeros.rows.len(), zeros.base, zeros.region(0)), (17, 1, Some([0.0, 0.0, 2.0, 2.0])));
    assert_eq!((zeros.region(1), zeros.region(1 + 5)), (None, Some([0.0, 0.0, 1.0, 1.0])));
    let squeezed = Crop { edge: None, ..crop.clone() }.packing(true, (8, 4)).unwrap();
    assert_eq!(squeezed.region(3), Some([4.0, 2.0, 8.0, 4.0]));
    assert!(crop.size(true, (0, 3)).is_err() && crop.size(true, (1, usize::MAX / 4)).is_err());
}

fn files(model: &str, images: &str, processor: &str) -> Files {
    let config = format!(
        r#"{{"model_type": "{model}", "image_grid_pinpoints": [[4, 4], [2, 4]], "image_token_index": 3,
            "text_config": {{"vocab_size": 8}}, "vision_config": {{"image_size": 2, "patch_size": 1}}}}"#
    );
    let all = [
        ("config.json", config),
        ("preprocessor_config.json", images.into()),
        ("processor_config.json", processor.into()),
    ];
    Files::Embedded(Box::leak(Box::new(all.map(|(name, text): (_, String)| (name, text.into_bytes().leak() as &[u8])))))
}

/// The number of images changes nothing.
#[test]
fn e4_29_worked_example() {
    let family = family::load(&files("llava_next", "{}", "{}")).unwrap();
    for of in [1, 2] {
        let rows = family.packing(&Outline { size: (4, 4), grid: None, of, frames: None, most: None }).unwrap();
        assert_eq!((rows.rows.len(), rows.base, rows.tiles), (24, 4, 5));
    }
}

#[test]
fn t4_12_files_have_to_agree() {
    let load = |model: &str, images: &str, processor: &str| {
        let files = files(model, images, processor);
        family::load(&files).unwrap().reader(&files).map(|_| ()).map_err(|e| e.to_string())
    };
    let square = r#""size": {"shortest_edge": 2}, "crop_size": {"height": 2, "width": 2}"#;
    let pinpoints = r#""image_grid_pinpoints": [[4, 4], [2, 4]]"#;
    let ours = r#"{"patch_size": 1, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"}"#;
    load("llava", &format!("{{{square}}}"), ours).unwrap();
    load("llava_next", &format!("{{{square}, {pinpoints}}}"), ours).unwrap();
    let refused = |model: &str, images: &str, processor: &str, at: &str| {
        let e = load(model, images, processor).unwrap_err();
        assert!(e.contains(at), "{e}");
    };
    refused("llava", "{}", ours, "crop_size");
    refused("llava", r#"{"size": {"height": 3, "width": 3}}"#, ours, "size");
    refused("llava", r#"{"image_processor_type": "SiglipImageProcessor"}"#, ours, "image_processor_type");
    refused("llava_next", &format!("{{{square}}}"), ours, "image_grid_pinpoints");
    let images = format!("{{{square}}}");
    refused("llava", &images, r#"{"patch_size": 14}"#, "patch_size");
    refused("llava", &images, r#"{"num_additional_image_tokens": 0}"#, "num_additional_image_tokens");
    refused("llava", &images, r#"{"vision_feature_select_strategy": "full"}"#, "vision_feature_select_strategy");
}
