//! Bad checkpoints: each ends in one error that names the file and the tensor, never in a panic.

use crate::common::raw::{bad_heads, checkpoint, claiming, file, folder};
use aircache::Error;
use aircache::weights::{Checkpoint, Names};
use proptest::prelude::*;

const GOOD: &str = r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
const INDEX: &str = "model.safetensors.index.json";

/// The error of opening a folder with these files.
fn error(files: &[(&str, &[u8])]) -> Error {
    let folder = folder(files);
    Checkpoint::open(&checkpoint(folder.path())).expect_err("opened a bad checkpoint")
}

#[track_caller]
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(text.len() < 2000, "a message of {} bytes", text.len());
}

#[test]
fn bad_heads_are_refused() {
    for (head, data, words) in bad_heads() {
        let e = error(&[("model.safetensors", &file(&head, data))]);
        says(&e, words);
        says(&e, &["model.safetensors"]);
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    for (bytes, words) in [
        (vec![], "0 bytes"),
        (vec![1, 2, 3], "3 bytes"),
        (claiming(u64::MAX, b"{}"), "at most 100000000"),
        (claiming(100_000_001, b"{}"), "at most 100000000"),
        (claiming(3, b"{}"), "2 bytes"),
        (claiming(1, b"{}"), "header"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00".to_vec(), "git lfs pull"),
        (b"PK\x03\x04 a zip file, such as pytorch writes".to_vec(), "header"),
        (claiming(2, b"\xff\xfe"), "header"),
    ] {
        says(&error(&[("model.safetensors", &bytes)]), &["model.safetensors", words]);
    }
}

#[test]
fn a_folder_without_weights_says_what_to_do() {
    says(&error(&[]), &["model.safetensors", "neither"]);
    says(&error(&[("pytorch_model.bin", b"x")]), &["pytorch_model.bin", "save_pretrained"]);
    let missing = Checkpoint::open(&checkpoint("/nowhere/at/all".as_ref())).unwrap_err();
    says(&missing, &["/nowhere/at/all"]);
}

#[test]
fn bad_indices_are_refused() {
    let shard = file(GOOD, 24);
    let index = |json: &str, words: &[&str]| {
        let e = error(&[(INDEX, json.as_bytes()), ("a.safetensors", &shard), ("b.safetensors", &shard)]);
        says(&e, words);
    };
    index(r#"{"weight_map":{"w":"../evil.safetensors"}}"#, &[INDEX, "weight_map.w", "../evil", "inside"]);
    index(r#"{"weight_map":{"w":"/etc/passwd"}}"#, &[INDEX, "/etc/passwd"]);
    index(r#"{"weight_map":{"w":"sub/a.safetensors"}}"#, &[INDEX, "sub/a"]);
    index(r#"{"weight_map":{"w":".."}}"#, &[INDEX, "weight_map.w"]);
    index(r#"{"weight_map":{"w":""}}"#, &[INDEX, "weight_map.w"]);
    index("{\"weight_map\":{\"w\":\"a\\u0000b\"}}", &["a"]);
    index(r#"{"weight_map":{"w":"c.safetensors"}}"#, &["c.safetensors", "no such file", INDEX]);
    index(r#"{"weight_map":{"w":7}}"#, &[INDEX, "weight_map.w", "7"]);
    index(r#"{"weight_map":{"v":"a.safetensors"}}"#, &["a.safetensors: v", "none"]);
    index(r#"{"weight_map":{"w":"a.safetensors","v":"b.safetensors"}}"#, &["b.safetensors: v"]);
    index(r#"{"weight_map":{}}"#, &[INDEX, "at least one"]);
    index(r#"{"weight_map":[]}"#, &[INDEX, "a list"]);
    index(r#"{}"#, &[INDEX, "weight_map"]);
    index(r#"[]"#, &[INDEX, "object"]);
    index(&"[".repeat(100_000), &[INDEX, "JSON"]);
    let both = file(
        r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"v":{"dtype":"U8","shape":[1],"data_offsets":[24,25]}}"#,
        25,
    );
    let json = br#"{"weight_map":{"w":"a.safetensors","v":"b.safetensors"}}"#;
    let e = error(&[(INDEX, json), ("a.safetensors", &shard), ("b.safetensors", &both)]);
    says(&e, &["b.safetensors: w", "a.safetensors"]);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::fs::symlink;
    let at = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(&checkpoint(at.path()));
    let weights = at.path().join("model.safetensors");
    std::fs::create_dir(&weights).unwrap();
    says(&open().unwrap_err(), &["regular file"]);
    std::fs::remove_dir(&weights).unwrap();
    for device in ["/dev/zero", "/dev/null"] {
        symlink(device, &weights).unwrap();
        says(&open().unwrap_err(), &["regular file"]);
        std::fs::remove_file(&weights).unwrap();
    }
    symlink("nothing", &weights).unwrap();
    says(&open().unwrap_err(), &["model.safetensors"]);
    std::fs::remove_file(&weights).unwrap();
    // The hub's cache: names are links to blobs.
    std::fs::write(at.path().join("blob"), file(GOOD, 24)).unwrap();
    symlink("blob", &weights).unwrap();
    assert_eq!(open().unwrap().bytes(), 24);
}

#[test]
fn wrong_tensors_are_named_with_shape_and_type() {
    let head = r#"{"lm_head.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "model.image_newline":{"dtype":"I32","shape":[2],"data_offsets":[24,32]},
        "language_model.model.norm.weight":{"dtype":"F64","shape":[1],"data_offsets":[32,40]},
        "empty":{"dtype":"F32","shape":[0,3],"data_offsets":[40,40]}}"#;
    let folder = folder(&[("model.safetensors", &file(head, 40))]);
    let ck = Checkpoint::open(&checkpoint(folder.path())).unwrap();
    let n = Names::new(&ck, aircache::family::llava_onevision::names);
    says(&n.matrix("head.weight", 3, 2).unwrap_err(), &["lm_head.weight", "[3, 2]", "[2, 3]"]);
    says(&n.vector("head.weight", 6).unwrap_err(), &["lm_head.weight", "[6]", "[2, 3]"]);
    says(&n.kernel("head.weight", 2, 3, 1).unwrap_err(), &["lm_head.weight", "[2, 3, 1, 1]"]);
    says(&n.vector("newline", 2).unwrap_err(), &["model.image_newline", "BF16", "I32"]);
    says(&n.vector("decoder.norm.weight", 1).unwrap_err(), &["norm.weight", "F64"]);
    let missing = n.vector("projector.linear_1.bias", 2).unwrap_err();
    says(&missing, &["multi_modal_projector.linear_1.bias", "nor model.multi_modal_projector.linear_1.bias"]);
    says(&n.embedding_and_head(2, 3, false).unwrap_err(), &["language_model.model.embed_tokens.weight"]);
    let (embedding, head) = n.embedding_and_head(2, 3, true).unwrap();
    assert_eq!((embedding.rows(), head.cols()), (2, 3));
    assert_eq!(n.matrix("empty", 0, 3).unwrap().bytes(), 0);
}

proptest! {
    /// Where the `safetensors` crate reads a head, ours does, to the same tensors; where it refuses, ours does.
    #[test]
    fn heads_are_read_as_the_safetensors_crate_reads_them(
        tensors in proptest::collection::vec((0..4u8, proptest::collection::vec(0..4usize, 0..4), -1..2i64, -1..2i64), 0..4),
        padding in 0..9usize,
        excess in -1..2i64,
    ) {
        let mut head = String::from("{");
        let mut end = 0i64;
        for (i, (dtype, shape, from, length)) in tensors.iter().enumerate() {
            // Mostly right: two of three draws of `from` and `length` are nudged to 0 here.
            let (name, width) = [("U8", 1), ("F16", 2), ("BF16", 2), ("F64", 8)][*dtype as usize];
            let start = (end + from * i64::from(i % 3 == 2)).max(0);
            end = (start + shape.iter().product::<usize>() as i64 * width + length * i64::from(i % 4 == 3)).max(0);
            let comma = if i == 0 { "" } else { "," };
            head += &format!(r#"{comma}"t{i}":{{"dtype":"{name}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#);
        }
        head.push('}');
        head.extend(std::iter::repeat_n(' ', padding));
        let bytes = file(&head, (end + excess * i64::from(padding == 8)).max(0) as usize);
        let folder = folder(&[("model.safetensors", &bytes)]);
        let ours = Checkpoint::open(&checkpoint(folder.path()));
        match safetensors::SafeTensors::deserialize(&bytes) {
            Err(theirs) => prop_assert!(ours.is_err(), "{theirs:?}"),
            Ok(theirs) => {
                let ours = ours.unwrap();
                prop_assert_eq!(ours.tensors().count(), theirs.len());
                for t in ours.tensors() {
                    let twin = theirs.tensor(t.name).unwrap();
                    prop_assert_eq!((t.shape, t.data), (twin.shape(), twin.data()));
                    prop_assert_eq!(t.dtype.to_string(), twin.dtype().to_string());
                }
            }
        }
    }

    /// Any bytes at all: an error or a checkpoint, no panic.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0..40u64) {
        for bytes in [bytes.clone(), claiming(length, &bytes), [file(GOOD, 24), bytes].concat()] {
            let folder = folder(&[("model.safetensors", &bytes)]);
            let _ = Checkpoint::open(&checkpoint(folder.path()));
        }
    }
}
