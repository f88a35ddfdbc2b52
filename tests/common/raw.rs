//! Safetensors files made by hand, valid and invalid, for the tests of readers.

use aircache::files::Files;
use std::path::Path;

/// A file with this header (the JSON is not changed) and `data` zero bytes.
pub fn file(head: &str, data: usize) -> Vec<u8> {
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

/// A file that claims a header of `length` bytes and contains `rest`.
pub fn claiming(length: u64, rest: &[u8]) -> Vec<u8> {
    [length.to_le_bytes().as_slice(), rest].concat()
}

/// A folder with these files.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The checkpoint in a folder.
pub fn checkpoint(folder: &Path) -> Files {
    Files::Folder(folder.into())
}

/// A checkpoint of these files that lives until the tests end.
pub fn embedded(files: &[(&'static str, &str)]) -> Files {
    let leak = |s: &str| -> &'static [u8] { Box::leak(s.as_bytes().to_vec().into_boxed_slice()) };
    let list: Vec<(&'static str, &'static [u8])> = files.iter().map(|(name, text)| (*name, leak(text))).collect();
    Files::Embedded(Box::leak(list.into_boxed_slice()))
}

/// Headers that the format forbids: the header, the bytes of data, and words that the message must contain.
pub fn bad_heads() -> Vec<(String, usize, &'static [&'static str])> {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"w":{{"dtype":"F32","shape":[2],"data_offsets":{a}}},"x":{{"dtype":"F32","shape":[2],"data_offsets":{b}}}}}"#
        )
    };
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    vec![
        (one(r#""F32""#, "[2]", "[0,8]"), 7, &["a file of"]),
        (one(r#""F32""#, "[2]", "[0,8]"), 0, &["a file of", "incomplete"]),
        (one(r#""F32""#, "[2]", "[0,8]"), 9, &["a file of"]),
        (one(r#""F32""#, "[2]", "[0,7]"), 7, &["w", "8 bytes", "[0, 7]"]),
        (one(r#""F32""#, "[2]", "[8,0]"), 8, &["w", "[8, 0]"]),
        (one(r#""F32""#, "[2]", "[4,12]"), 12, &["w", "a gap"]),
        (one(r#""F32""#, "[4294967296,4294967296]", "[0,8]"), 8, &["w", "counted"]),
        (one(r#""U8""#, "[18446744073709551615]", "[0,18446744073709551615]"), 8, &["w"]),
        (one(r#""U8""#, "[1152921504606846976]", "[18446744073709551608,8]"), 8, &["w"]),
        (one(r#""F4""#, "[3]", "[0,1]"), 1, &["w", "counted"]),
        (one(r#""F31""#, "[2]", "[0,8]"), 8, &["w", "dtype", "F31"]),
        (one("7", "[2]", "[0,8]"), 8, &["w"]),
        (one(r#""F32""#, "[-2]", "[0,8]"), 8, &["w"]),
        (one(r#""F32""#, "[2.0]", "[0,8]"), 8, &["w"]),
        (one(r#""F32""#, "[1e400]", "[0,8]"), 8, &["header"]),
        (one(r#""F32""#, "null", "[0,8]"), 8, &["w"]),
        (one(r#""F32""#, r#""2""#, "[0,8]"), 8, &["w"]),
        (one(r#""F32""#, "[2]", "[0]"), 8, &["w"]),
        (one(r#""F32""#, "[2]", "[0,8,9]"), 8, &["w"]),
        (one(r#""F32""#, &format!("[{}2]", "1,".repeat(70)), "[0,8]"), 8, &["w", "64 sides"]),
        (two("[0,8]", "[4,12]"), 12, &["x", "an overlap"]),
        (two("[0,8]", "[0,8]"), 8, &["an overlap"]),
        (two("[0,8]", "[12,20]"), 20, &["x", "a gap"]),
        (two("[0,8]", "[8,16]").replace("\"x\"", "\"w\""), 16, &["w", "two"]),
        (r#"{"w":{"dtype":"F32","shape":[2]}}"#.into(), 8, &["w", "data_offsets"]),
        (r#"{"w":[]}"#.into(), 0, &["w"]),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, &["__metadata__"]),
        ("[]".into(), 0, &["header"]),
        ("{".into(), 0, &["header"]),
        ("".into(), 0, &["header"]),
        ("{}x".into(), 0, &["header"]),
        ("\u{feff}{}".into(), 0, &["header"]),
        (format!(r#"{{"w":{}"#, "[".repeat(100_000)), 0, &["w"]),
        (format!(r#"{{"w":{{"x":{}"#, "[".repeat(100_000)), 0, &["w"]),
        (format!(r#"{{"{}":1}}"#, "n".repeat(1_000_000)), 0, &["nnn…"]),
    ]
}
