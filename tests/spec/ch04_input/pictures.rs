//! Pictures as cameras, phones and editors write them, compared with Pillow.

use super::*;

/// Checks the size and the values of an image.
fn same(name: &str, image: &Image, want: &Value, wrong: &mut Vec<String>) {
    let size = pair(&want["size"]);
    let values: Vec<u8> = image.rgb().iter().copied().collect();
    if image.size() != size || hash(&values) != want["sha256"].as_str().unwrap() {
        wrong.push(format!("{name}: {:?} {size:?}", image.size()));
    }
}

/// D4.10, D4.11, E4.24–E4.27
#[test]
fn t4_6_d4_10_pictures_are_read_as_pillow_reads_them() {
    let bytes = std::fs::read(golden("pictures/files.safetensors")).unwrap();
    let files = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (mut wrong, mut kinds) = (vec![], std::collections::BTreeMap::new());
    let expected = json("pictures/expected.json");
    for (name, want) in expected.as_object().unwrap() {
        *kinds.entry(name.split('/').next().unwrap()).or_insert(0) += 1;
        let image = match Image::from_bytes(files.tensor(name).unwrap().data(), name) {
            Ok(image) => image,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        same(name, &image, &want["stored"], &mut wrong);
        assert_eq!(image.has_alpha(), want["mode"] == "RGBA", "{name}");
        let upright = image.upright();
        same(&format!("{name}, upright"), &upright, &want["upright"], &mut wrong);
        same(&format!("{name}, on white"), &upright.over([255; 3]), &want["white"], &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let counts: Vec<_> = kinds.into_iter().collect();
    assert_eq!(counts, [("alpha", 7), ("bmp", 3), ("jpeg", 145), ("turned", 40)]);
}
