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

#[test]
fn c4_14f_rare_forms_of_jpeg_are_refused_by_name() {
    let bytes = std::fs::read(golden("pictures/files.safetensors")).unwrap();
    let files = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let whole = files.tensor("jpeg/2x2-1x1-1x1-progressive.jpg").unwrap().data().to_vec();
    let refused = |bytes: &[u8]| Image::from_bytes(bytes, "x.jpg").unwrap_err().to_string();
    let frame = whole.windows(2).position(|w| w == [0xFF, 0xC2]).unwrap();
    let mut arithmetic = whole.clone();
    arithmetic[frame + 1] = 0xCA;
    assert!(refused(&arithmetic).contains("marker ca"), "{}", refused(&arithmetic));
    // Without the scans after the first, the other coefficients are unknown.
    let scans: Vec<usize> = whole.windows(2).enumerate().filter(|(_, w)| *w == [0xFF, 0xDA]).map(|(i, _)| i).collect();
    let first = [&whole[..scans[1]], &[0xFF, 0xD9]].concat();
    assert!(refused(&first).contains("progressive scans that give every coefficient"), "{}", refused(&first));
}

proptest! {
    /// E4.24: damaged files of every form are an image or an error.
    #[test]
    fn c4_14d_damaged_jpegs_never_panic(at in 0usize..1200, v: u8, file in 0usize..6) {
        let bytes = std::fs::read(golden("pictures/files.safetensors")).unwrap();
        let files = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let name = ["2x2-1x1-1x1-three", "1x1-2x2-2x2-interleaved", "2x2-2x1-1x2-progressive", "restart", "cmyk", "noise"][file];
        let mut bytes = files.tensor(&format!("jpeg/{name}.jpg")).unwrap().data().to_vec();
        let n = bytes.len();
        bytes[at % n] = v;
        let _ = Image::from_bytes(&bytes, name);
    }
}
