//! Pictures that claim sizes, break off, lead in circles, or are none.

use crate::common::cli::{claiming_png, golden};
use crate::{Case, Place, Want, case};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use std::io::Cursor;

pub(super) const ASK: &[&str] =
    &["run", "--quiet", "--image", "p", "--prompt", "What does it say?", "--max-new-tokens", "2", "--out", "f"];
const P: &[&str] = &["p: "];

pub(super) fn bad(what: &str, words: &'static [&'static str], bytes: impl AsRef<[u8]> + Sync + 'static) -> Case {
    case(what, ASK, Want::Refused(words), move |place| place.write("p", bytes.as_ref()))
}

pub(super) fn runs(what: &str, bytes: impl AsRef<[u8]> + Sync + 'static) -> Case {
    case(what, ASK, Want::Runs, move |place| place.write("p", bytes.as_ref()))
}

pub(super) fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(super) fn small(format: ImageFormat) -> Vec<u8> {
    encoded(RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 7])).into(), format)
}

/// The bytes of a good file with some of them exchanged.
fn patched(format: ImageFormat, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = small(format);
    for (at, new) in patches {
        bytes[*at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

/// A little-endian TIFF of one directory: (tag, type, count, value) each; it says that the next one lies at `next`.
fn tiff(tags: &[(u16, u16, u32, u32)], next: u32) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in tags {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend(next.to_le_bytes());
    bytes
}

/// The tags of an uncompressed grey TIFF of this size, one strip of `length` bytes at `at`.
fn grey(width: u32, height: u32, at: u32, length: u32) -> Vec<(u16, u16, u32, u32)> {
    vec![
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, at),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, length),
    ]
}

fn gif(width: u16, height: u16, frame: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    bytes.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255, 0x2c]);
    frame.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes.push(0);
    bytes.extend(rest);
    bytes
}

pub(super) fn cases() -> Vec<Case> {
    use ImageFormat::{Bmp, Jpeg, Png, Tiff, WebP};
    let mut all = vec![
        bad("a PNG of a hundred bytes that claims 60000 × 60000", &["60000 × 60000"], claiming_png(60_000)),
        bad("… 2³¹ − 1 squared", P, claiming_png(u32::MAX >> 1)),
        bad("… 0 × 0", P, claiming_png(0)),
        bad("… 13000 × 13000, which is allowed", P, claiming_png(13_000)),
        bad("an empty file", P, ""),
        bad("a byte", P, "x"),
        bad("a text", P, "not a picture"),
        bad("an SVG", P, "<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>"),
        bad("a PDF", P, "%PDF-1.7 1 0 obj"),
        bad("60 MB of zeros", P, vec![0; 60_000_000]),
        case("a folder", ASK, Want::Refused(&["p"]), |p| std::fs::create_dir(p.path("p")).unwrap()),
        case("/dev/zero", ASK, Want::Refused(&["p"]), |p| {
            std::os::unix::fs::symlink("/dev/zero", p.path("p")).unwrap()
        }),
        case("a pipe", ASK, Want::Refused(&["p"]), |p| {
            assert!(std::process::Command::new("mkfifo").arg(p.path("p")).status().unwrap().success());
        }),
        case("a link to itself", ASK, Want::Refused(&["p"]), |p| std::os::unix::fs::symlink("p", p.path("p")).unwrap()),
        case("a sparse file of 2 GiB", ASK, Want::Refused(&["at most"]), |p| {
            std::fs::File::create(p.path("p")).unwrap().set_len(2 << 30).unwrap();
        }),
        runs("a PNG of 169 million grey pixels in 165 kB", encoded(GrayImage::new(13_000, 13_000).into(), Png)),
        runs("1 × 1", encoded(RgbImage::new(1, 1).into(), Png)),
        runs("1 × 20000", encoded(RgbImage::new(1, 20_000).into(), Png)),
        runs("20000 × 1", encoded(RgbImage::new(20_000, 1).into(), Png)),
        bad(
            "a grey PNG of 1 × 2000000, a side too long",
            &["1048576"],
            encoded(GrayImage::new(1, 2_000_000).into(), Png),
        ),
        bad("a BMP of width −40", P, patched(Bmp, &[(18, &(-40i32).to_le_bytes())])),
        bad("a BMP of height −2³¹", P, patched(Bmp, &[(22, &i32::MIN.to_le_bytes())])),
        bad(
            "a BMP of 60000 × 60000",
            &["60000"],
            patched(Bmp, &[(18, &60_000i32.to_le_bytes()), (22, &60_000i32.to_le_bytes())]),
        ),
        bad("a BMP of 255 bits a pixel", P, patched(Bmp, &[(28, &[255, 0])])),
        bad("a BMP of compression 99", P, patched(Bmp, &[(30, &[99, 0, 0, 0])])),
        bad("a BMP whose pixels lie at 2³² − 1", P, patched(Bmp, &[(10, &u32::MAX.to_le_bytes())])),
        bad("a JPEG of 65500 × 65500", P, jpeg_of(65_500)),
        bad("a JPEG of 0 × 0", P, jpeg_of(0)),
        runs("a WebP whose chunk claims 4 GB, the picture whole", patched(WebP, &[(16, &u32::MAX.to_le_bytes())])),
        runs("a WebP whose file claims 8 bytes, the picture whole", patched(WebP, &[(4, &8u32.to_le_bytes())])),
        bad("a GIF without a frame", P, &b"GIF89a\x01\0\x01\0\0\0\0;"[..]),
        bad("a GIF that breaks off", P, "GIF89a"),
        bad("a GIF of 65535 × 65535", &["65535"], gif(65_535, 65_535, [0, 0, 1, 1], &[2, 2, 0x44, 1, 0, 0x3b])),
        bad(
            "a GIF whose frame lies at 65535, 65535",
            &["at most"],
            gif(1, 1, [65_535, 65_535, 65_535, 65_535], &[2, 2, 0x44, 1, 0, 0x3b]),
        ),
        bad("a GIF of code size 255", P, gif(1, 1, [0, 0, 1, 1], &[255, 2, 0x44, 1, 0, 0x3b])),
        bad("a GIF frame of 0 × 0 on a canvas of 0 × 0", P, gif(0, 0, [0, 0, 0, 0], &[2, 2, 0x44, 1, 0, 0x3b])),
        bad("a TIFF without a directory", P, "II*\0\u{8}\0\0\0"),
        bad("a TIFF whose directory is the header", P, b"II*\0\0\0\0\0\0\0"),
        bad("a TIFF of 2³² − 1 squared", P, tiff(&grey(u32::MAX, u32::MAX, 8, 8), 0)),
        bad("a TIFF of 60000 × 60000", &["60000"], tiff(&grey(60_000, 60_000, 8, 8), 0)),
        bad("a TIFF of 0 × 0", P, tiff(&grey(0, 0, 8, 8), 0)),
        bad("a TIFF whose strip lies at 2³² − 1", P, tiff(&grey(8, 8, u32::MAX, 64), 0)),
        bad("a TIFF whose strip claims 4 GB", P, tiff(&grey(8, 8, 8, u32::MAX), 0)),
        bad(
            "a TIFF of 2³² − 1 strips",
            P,
            tiff(
                &{
                    let mut tags = grey(8, 8, 8, 64);
                    tags[5].2 = u32::MAX;
                    tags[8].2 = u32::MAX;
                    tags
                },
                0,
            ),
        ),
        bad(
            "a TIFF of 65535 samples a pixel",
            P,
            tiff(
                &{
                    let mut tags = grey(8, 8, 8, 64);
                    tags[6].3 = 65_535;
                    tags
                },
                0,
            ),
        ),
        bad(
            "a TIFF of 0 rows a strip",
            P,
            tiff(
                &{
                    let mut tags = grey(8, 8, 8, 64);
                    tags[7].3 = 0;
                    tags
                },
                0,
            ),
        ),
        bad("a TIFF whose next directory is itself", &["cycle"], tiff(&grey(8, 8, 8, 64), 8)),
        bad("a TIFF of floats", P, encoded(image::Rgb32FImage::new(8, 8).into(), Tiff)),
        bad("a BigTIFF whose directory lies at 2⁶⁴ − 1", P, [&b"II+\0\x08\0\0\0"[..], &[0xff; 8]].concat()),
    ];
    for (name, format) in [("PNG", Png), ("JPEG", Jpeg), ("BMP", Bmp), ("WebP", WebP), ("TIFF", Tiff)] {
        let first = |n: usize| small(format).into_iter().take(n).collect::<Vec<u8>>();
        all.push(bad(&format!("half of a {name}"), P, first(small(format).len() / 2)));
        all.push(bad(&format!("a {name} of 30 bytes"), P, first(30)));
    }
    all.push(case(
        "two pictures of 60000 × 60000",
        &["run", "--quiet", "--image", "p", "--image", "p", "--prompt", "x"],
        Want::Refused(P),
        |p: &Place| {
            p.write("p", claiming_png(60_000));
        },
    ));
    let large = |_: &str| encoded(RgbImage::new(13_000, 13_000).into(), Png);
    all.push(case(
        "20 pictures of 169 megapixels",
        &many(20),
        Want::Refused(&["megapixels", "in all pictures"]),
        move |p| {
            p.write("p", large("p"));
        },
    ));
    all.push(case("3 of them", &many(3), Want::Runs, move |p| p.write("p", large("p"))));
    let film = ["run", "--quiet", "--prompt", "x", "--video"].into_iter().chain(["p"; 14]);
    all.push(case("14 frames of them", &film.collect::<Vec<_>>(), Want::Refused(&["megapixels"]), move |p| {
        p.write("p", large("p"));
    }));
    let file = ["run", "--quiet", "--batch", "q", "--max-new-tokens", "2"];
    all.push(case("a batch of three questions about one of them each", &file, Want::Runs, move |p| {
        p.write("p", large("p"));
        p.write("q", "{\"image\": \"p\", \"question\": \"x\"}\n".repeat(3));
    }));
    all.push(case("40 good pictures at once", &many(40), Want::Runs, |p| {
        std::fs::copy(golden().join("llava/wide/image0.png"), p.path("p")).unwrap();
    }));
    all
}

fn many(n: usize) -> Vec<&'static str> {
    [vec!["run", "--quiet", "--prompt", "x"], ["--image", "p"].repeat(n)].concat()
}

/// A JPEG whose frame says it is this large.
fn jpeg_of(side: u16) -> Vec<u8> {
    let mut bytes = small(ImageFormat::Jpeg);
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}
