//! Pictures that are hostile by what their formats allow: bombs, scans without end, chunks that lie, kinds that are rare.

use crate::pictures::{ASK, bad, encoded, runs, small};
use crate::{Case, Want, case};
use image::{ImageFormat, Rgb, RgbImage};

const P: &[&str] = &["p: "];

/// Four rows of four grey pixels, unfiltered.
const ROWS: [u8; 20] = [0, 7, 7, 7, 7, 0, 7, 7, 7, 7, 0, 7, 7, 7, 7, 0, 7, 7, 7, 7];

/// A PNG chunk with a right checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let crc = !body.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
}

/// zlib of stored blocks, and of one run of zeros as a fixed block may say it: a megabyte in a kilobyte.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks: Vec<&[u8]> = data.chunks(65_535).collect();
    for (i, block) in blocks.iter().enumerate() {
        out.push(u8::from(i + 1 == blocks.len()));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(*block);
    }
    let (a, b) =
        data.iter().fold((1u32, 0u32), |(a, b), &d| ((a + u32::from(d)) % 65_521, (b + a + u32::from(d)) % 65_521));
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn header(width: u32, height: u32, depth: u8, colour: u8, interlace: u8) -> Vec<u8> {
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&sizes[..], &[depth, colour, 0, 0, interlace]].concat())
}

fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// A grey picture of 4 × 4 with other chunks before its pixels.
fn grey(before: &[Vec<u8>]) -> Vec<u8> {
    png(&[header(4, 4, 8, 0, 0), before.concat(), chunk(b"IDAT", &zlib(&ROWS))])
}

/// A PNG of zeros at this size, its pixels compressed by the crate's own encoder.
fn bomb(what: &str, image: image::DynamicImage) -> Case {
    runs(what, encoded(image, ImageFormat::Png))
}

/// Segments put into a JPEG behind its start.
fn jpeg_with(segments: &[u8]) -> Vec<u8> {
    let good = small(ImageFormat::Jpeg);
    [&good[..2], segments, &good[2..]].concat()
}

/// A JPEG whose first marker of this kind is changed.
fn jpeg_changed(marker: u8, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = small(ImageFormat::Jpeg);
    let at = bytes.windows(2).position(|w| w == [0xff, marker]).unwrap();
    change(&mut bytes[at..]);
    bytes
}

/// A GIF of `frames` frames of a pixel each.
fn frames(frames: usize) -> Vec<u8> {
    let frame = [0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0].as_slice();
    let frame = &frame[..1]
        .iter()
        .chain(&frame[1..5])
        .chain(&[1, 0, 1, 0, 0])
        .chain(&[2, 2, 0x44, 1, 0])
        .copied()
        .collect::<Vec<u8>>();
    let head = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    [head, frame.repeat(frames), vec![0x3b]].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        bomb("a PNG of 13000 × 13000 in colour", RgbImage::new(13_000, 13_000).into()),
        bomb("a PNG of 9000 × 9000 in 16 bits and colour", image::ImageBuffer::<Rgb<u16>, _>::new(9_000, 9_000).into()),
        runs("a PNG in 16 bits with alpha", encoded(image::DynamicImage::new_rgba16(40, 30), ImageFormat::Png)),
        runs("a PNG with a profile of colours that is junk", grey(&[chunk(b"iCCP", b"x\0\0junk")])),
        runs(
            "a PNG with a profile of 30 MB of zeros",
            grey(&[chunk(b"iCCP", &[b"x\0\0".to_vec(), zlib(&vec![0; 30_000_000])].concat())]),
        ),
        runs(
            "a PNG with a text of 30 MB",
            grey(&[chunk(b"zTXt", &[b"x\0\0".to_vec(), zlib(&vec![b'x'; 30_000_000])].concat())]),
        ),
        runs("a PNG with 100 000 texts", grey(&[chunk(b"tEXt", b"a\0b").repeat(100_000)])),
        runs("a PNG with a gamma of 0", grey(&[chunk(b"gAMA", &[0; 4])])),
        bad(
            "a PNG with two heads",
            P,
            png(&[header(4, 4, 8, 0, 0), header(9, 9, 8, 0, 0), chunk(b"IDAT", &zlib(&ROWS))]),
        ),
        bad("a PNG without pixels", P, png(&[header(4, 4, 8, 0, 0)])),
        bad("a PNG of too few pixels", P, png(&[header(4, 4, 8, 0, 0), chunk(b"IDAT", &zlib(&ROWS[..9]))])),
        bad("a PNG of 3 bits a channel", P, png(&[header(4, 4, 3, 0, 0), chunk(b"IDAT", &zlib(&ROWS))])),
        bad("a PNG of colour type 5", P, png(&[header(4, 4, 8, 5, 0), chunk(b"IDAT", &zlib(&ROWS))])),
        bad("a PNG of interlacing 7", P, png(&[header(4, 4, 8, 0, 7), chunk(b"IDAT", &zlib(&ROWS))])),
        bad("a PNG of filter 99", P, png(&[header(4, 4, 8, 0, 0), chunk(b"IDAT", &zlib(&[99; 20]))])),
        bad(
            "a PNG with colours of a palette that is not there",
            P,
            png(&[header(4, 4, 8, 3, 0), chunk(b"IDAT", &zlib(&ROWS))]),
        ),
        bad("a PNG chunk of 4 GB", P, [b"\x89PNG\r\n\x1a\n".to_vec(), header(4, 4, 8, 0, 0), vec![0xff; 8]].concat()),
        bad(
            "a PNG of a million empty chunks of pixels",
            P,
            png(&[header(4, 4, 8, 0, 0), chunk(b"IDAT", b"").repeat(1_000_000)]),
        ),
        runs("an animated PNG that claims 2³¹ frames", grey(&[chunk(b"acTL", &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])])),
        runs("a PNG in Adam7, of one pixel", png(&[header(1, 1, 8, 0, 1), chunk(b"IDAT", &zlib(&[0, 7]))])),
        bad("a JPEG that is all start markers", P, [0xff, 0xd8].repeat(1_000_000)),
        bad("a JPEG segment of length 0", P, jpeg_with(&[0xff, 0xe1, 0, 0])),
        runs(
            "a JPEG with 16 MB of EXIF",
            jpeg_with(&[&[0xff, 0xe1, 0xff, 0xff][..], &[0x45; 65_533]].concat().repeat(250)),
        ),
        runs(
            "a JPEG with an EXIF directory that is its own next",
            jpeg_with(b"\xff\xe1\0\x1eExif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\x08\0"),
        ),
        bad("a JPEG of 12 bits", P, jpeg_changed(0xc0, |b| b[4] = 12)),
        bad("a JPEG of 0 components", P, jpeg_changed(0xc0, |b| b[9] = 0)),
        bad("a JPEG of 255 components", P, jpeg_changed(0xc0, |b| b[9] = 255)),
        bad("a JPEG whose samples are 0 wide", P, jpeg_changed(0xc0, |b| b[11] = 0)),
        bad("a JPEG whose samples are 15 wide", P, jpeg_changed(0xc0, |b| b[11] = 0xff)),
        bad("a JPEG with a quantization table that is not there", P, jpeg_changed(0xc0, |b| b[12] = 3)),
        bad("a JPEG in arithmetic coding", P, jpeg_changed(0xc0, |b| b[1] = 0xc9)),
        bad("a JPEG without loss", P, jpeg_changed(0xc0, |b| b[1] = 0xc3)),
        runs(
            "a JPEG whose scan is of junk",
            jpeg_changed(0xda, |b| {
                let end = b.len() - 2;
                b[20..end].fill(0x55);
            }),
        ),
        runs("a GIF of 200 000 frames", frames(200_000)),
        runs(
            "a GIF of one frame that is all clear codes",
            [
                b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\x01\0\x01\0\0\x08".to_vec(),
                [vec![255], vec![0; 255]].concat().repeat(100),
                vec![0, 0x3b],
            ]
            .concat(),
        ),
        bad("a WebP of VP8X alone", P, &b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff"[..]),
        bad(
            "a WebP of 16384 × 16384 in 40 bytes",
            P,
            &b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..],
        ),
        bad("a HEIC", P, &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..]),
        bad("an AVIF", P, &b"\0\0\0\x18ftypavif\0\0\0\0mif1avif"[..]),
        bad("an icon", P, &b"\0\0\x01\0\x01\0\xff\xff\0\0\x01\0\x20\0\xff\xff\xff\xff\x16\0\0\0"[..]),
        bad("a PNM of 10⁹ × 10⁹", P, "P6 1000000000 1000000000 255\n"),
        bad("a farbfeld of 2³² − 1 squared", P, [&b"farbfeld"[..], &[0xff; 8]].concat()),
        bad("a gzip", P, &b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"[..]),
    ];
    all.push(case(
        "an image named like an option",
        &["run", "--quiet", "--prompt", "x", "--max-new-tokens", "1", "--image=--version"],
        Want::Runs,
        |p| {
            p.write("--version", small(ImageFormat::Png));
        },
    ));
    all.push(case(
        "an image of no name",
        &["run", "--quiet", "--prompt", "x", "--image", ""],
        Want::Refused(&["image"]),
        |_| {},
    ));
    all.push(
        case("the same image 100 times", ASK, Want::Refused(&["max_position_embeddings"]), |p| {
            p.write("p", small(ImageFormat::Png))
        })
        .around("exec \"$0\" \"$@\" $(for i in $(seq 100); do echo --image p; done)"),
    );
    all
}
