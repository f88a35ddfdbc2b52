//! The orientation that an image file asks for: the tag of EXIF, or the property of XMP if EXIF has no tag.
//!
//! Source: Pillow 13 `Image.getexif`, `ImageOps.exif_transpose`; EXIF 2.32, table 4. Spec: D4.10

/// The tag of the orientation in an image file directory.
const TAG: u16 = 0x0112;
/// The most entries of a directory that are read; real ones have a few dozen.
const MAX_ENTRIES: usize = 4096;

/// The orientation, 1 to 8; 1 if the file names none.
pub(super) fn orientation(bytes: &[u8]) -> u8 {
    let (mut exif, mut xmp): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    match bytes {
        [0xFF, 0xD8, ..] => jpeg(bytes, |segment| {
            exif = exif.or(segment.strip_prefix(b"Exif\0\0"));
            xmp = xmp.or(segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0"));
        }),
        [0x89, b'P', b'N', b'G', ..] => chunks(&bytes[8..], true, |kind, data| match kind {
            b"eXIf" => exif = exif.or(Some(data)),
            b"iTXt" => xmp = xmp.or(data.strip_prefix(b"XML:com.adobe.xmp\0\0\0\0\0")),
            _ => {}
        }),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            chunks(&bytes[12..], false, |kind, data| match kind {
                b"EXIF" => exif = exif.or(Some(data.strip_prefix(b"Exif\0\0").unwrap_or(data))),
                b"XMP " => xmp = xmp.or(Some(data)),
                _ => {}
            })
        }
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => exif = Some(bytes),
        _ => {}
    }
    let found = exif.and_then(of_exif).or_else(|| xmp.and_then(of_xmp));
    found.filter(|n| (1..=8).contains(n)).map_or(1, |n| n as u8)
}

/// Shows the content of each application segment of a JPEG file.
fn jpeg<'a>(bytes: &'a [u8], mut show: impl FnMut(&'a [u8])) {
    let mut at = 2;
    while let Some(&[0xFF, code, high, low]) = bytes.get(at..at + 4) {
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let Some(segment) = bytes.get(at + 4..end).filter(|_| code != 0xDA) else { return };
        if code == 0xE1 {
            show(segment);
        }
        at = end;
    }
}

/// Shows each chunk of a PNG file (its length comes first, and a checksum last) or of a RIFF file.
fn chunks<'a>(mut rest: &'a [u8], png: bool, mut show: impl FnMut(&[u8; 4], &'a [u8])) {
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, e, f, g, h] = *head;
        let (kind, length) = match png {
            true => ([e, f, g, h], u32::from_be_bytes([a, b, c, d]) as usize),
            false => ([a, b, c, d], u32::from_le_bytes([e, f, g, h]) as usize),
        };
        let Some(data) = tail.get(..length) else { return };
        show(&kind, data);
        let behind = if png { 4 } else { length % 2 };
        rest = tail.get(length + behind..).unwrap_or_default();
    }
}

/// The orientation in a block of EXIF, which is a TIFF file.
fn of_exif(tiff: &[u8]) -> Option<u16> {
    let big = tiff.starts_with(b"MM");
    let short = |at: usize| {
        let b = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    };
    let long = |at: usize| {
        let b = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    };
    let first = long(4)? as usize;
    let entries = usize::from(short(first)?).min(MAX_ENTRIES);
    let entry = (0..entries).map(|i| first + 2 + 12 * i).find(|&at| short(at) == Some(TAG))?;
    match short(entry + 2)? {
        4 => u16::try_from(long(entry + 8)?).ok(),
        _ => short(entry + 8),
    }
}

/// The orientation in XMP: an attribute or an element.
fn of_xmp(xml: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"tiff:Orientation";
    let places = xml.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let number = |rest: &[u8]| match rest {
        [b'=', b'"', digit, ..] | [b'>', digit, ..] => char::from(*digit).to_digit(10).map(|d| d as u16),
        _ => None,
    };
    places.filter_map(|(at, _)| number(&xml[at + NAME.len()..])).next()
}
