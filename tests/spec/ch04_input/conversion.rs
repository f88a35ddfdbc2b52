//! Image files, compared with Pillow.

use super::*;

#[test]
fn t4_6_files_become_rgb_as_in_pillow() {
    let bytes = std::fs::read(golden("convert/expected.safetensors")).unwrap();
    let want = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut wrong = vec![];
    for file in json("convert/files.json").as_array().unwrap() {
        let name = file["file"].as_str().unwrap();
        let image = match Image::open(golden("convert").join(name)) {
            Ok(image) => image,
            Err(e) => {
                wrong.push(e.to_string());
                continue;
            }
        };
        let tensor = want.tensor(name).unwrap();
        assert_eq!(&[image.size().0, image.size().1, 3], tensor.shape(), "{name}");
        let most = image.rgb().iter().zip(tensor.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        if most > 0 {
            wrong.push(format!("{name}: off by up to {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn t4_6_a_gif_frame_smaller_than_its_canvas_lies_on_one_colour() {
    // A canvas of 10 × 8 with a frame of 4 × 3 at (1, 2); Pillow 13 gave the colours of the free pixels.
    let gif = |background: u8, transparent: Option<u8>| {
        let mut b = b"GIF89a\x0a\0\x08\0\x81".to_vec();
        b.extend([background, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30]);
        if let Some(t) = transparent {
            b.extend([0x21, 0xF9, 4, 1, 0, 0, t, 0]);
        }
        b.extend([0x2C, 2, 0, 1, 0, 4, 0, 3, 0, 0, 2, 10]);
        // Three times the indices 0 1 3 1, with a clear code before every index, so the code table never grows.
        let codes = [0, 1, 3, 1, 0, 1, 3, 1, 0, 1, 3, 1].into_iter().flat_map(|i| [4u128, i]).chain([5]);
        let bits = codes.enumerate().fold(0u128, |all, (n, code)| all | code << (3 * n));
        b.extend(&bits.to_le_bytes()[..10]);
        b.extend([0, 0x3B]);
        b
    };
    for (file, free) in [
        (gif(0, None), [255, 0, 0]),
        (gif(2, None), [255, 0, 0]),
        (gif(2, Some(1)), [0, 255, 0]),
        (gif(1, Some(3)), [10, 20, 30]),
    ] {
        let image = Image::from_bytes(&file, "gif").unwrap();
        let at = |y: usize, x: usize| [0, 1, 2].map(|c| image.rgb()[(y, x, c)]);
        assert_eq!((image.size(), at(0, 0), at(7, 9)), ((8, 10), free, free));
        assert_eq!([2, 3, 4, 5].map(|x| at(3, x)), [[255, 0, 0], [0, 255, 0], [10, 20, 30], [0, 255, 0]]);
    }
}

#[test]
fn c4_14b_files_beyond_the_limit_are_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((1 << 30) + 1).unwrap();
    let error = Image::open(file.path()).unwrap_err().to_string();
    assert!(error.contains("1073741824") && error.contains("1073741825"), "{error}");
}

#[test]
fn c4_14c_a_jpeg_cut_short_is_an_error() {
    let bytes = std::fs::read(golden("convert/rgb-progressive.jpg")).unwrap();
    for end in [bytes.len() / 2, bytes.len() - 20, bytes.len() - 2] {
        assert!(Image::from_bytes(&bytes[..end], "cut.jpg").is_err(), "{end}");
    }
    let longer = [&bytes[..], b"trailing bytes"].concat();
    assert_eq!(Image::from_bytes(&longer, "a").unwrap().rgb(), Image::from_bytes(&bytes, "a").unwrap().rgb());
}

#[test]
fn c4_14d_what_is_no_image_is_an_error() {
    for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0"] {
        assert!(Image::from_bytes(bytes, "x").unwrap_err().to_string().starts_with("x: expected"));
    }
    assert!(Image::open("/").is_err() && Image::open("/no/such/file").is_err());
}

#[test]
fn c4_14a_bombs_are_refused_before_they_are_decoded() {
    // A PNG header that claims 60000 × 60000 pixels, with a correct checksum.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    png.extend(crc(&png[12..]).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    let e = Image::from_bytes(&png, "bomb.png").unwrap_err().to_string();
    assert!(e.contains("60000 × 60000") && e.contains("178956970"), "{e}");
}

#[test]
fn c4_14e_more_images_than_any_prompt_has_are_refused_by_their_number() {
    let none = std::path::PathBuf::from("/no/such/file");
    let of = |n: usize| Image::all(&vec![none.clone(); n]).unwrap_err().to_string();
    assert!(of(4097).contains("at most 4096 images, found 4097"), "{}", of(4097));
    assert!(of(4096).contains("/no/such/file"), "{}", of(4096));
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xEDB88320 & !(c & 1).wrapping_sub(1)))
    })
}

proptest! {
    #[test]
    fn c4_14d_broken_files_never_panic(at in 0usize..600, v: u8, cut in 0usize..3000) {
        for file in ["palette-trns.png", "rgb.jpg", "palette.gif", "cmyk.jpg", "lossy.webp", "rgb-lzw.tiff", "bit1.bmp"] {
            let mut bytes = std::fs::read(golden("convert").join(file)).unwrap();
            let n = bytes.len();
            bytes[at % n] = v;
            bytes.truncate(cut.max(1));
            let _ = Image::from_bytes(&bytes, file);
        }
    }
}
