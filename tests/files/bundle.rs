//! Bundles: what is written is read back, also by others; nothing partial is left; bad ones are refused.

use crate::common::raw;
use aircache::Result;
use aircache::files::atomic_write;
use aircache::golden::{Bundle, BundleWriter};
use aircache::weights::Dtype;
use half::{bf16, f16};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn every_type_makes_the_round_trip() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    let mut w = BundleWriter::create(&path)?;
    w.put_u8("input.roles", &[3], &[0, 1, 1])?;
    w.put_f16("a.f16", &[2], &[f16::from_f32(0.5), f16::NAN])?;
    w.put_i64("input.ids", &[3], &[i64::MIN, 0, i64::MAX])?;
    w.put_bf16("a.bf16", &[1, 1], &[bf16::from_f32(-3.0)])?;
    w.put_f32("a.f32", &[2, 2], &[0.1, f32::INFINITY, -0.0, 1e-45])?;
    w.put_f64("a.f64", &[1], &[0.1])?;
    w.put_f64("empty", &[0, 5], &[])?;
    w.put_f32("scalar", &[], &[7.0])?;
    w.put("i32", Dtype::I32, &[1], &(-5i32).to_le_bytes())?;
    w.finish([("precision", "f64"), ("prompt", "a \"quoted\"\nline – \u{1F600}")])?;
    assert_eq!(names(folder.path()), ["b.safetensors"]);

    let b = Bundle::open(&path)?;
    assert_eq!(b.names().count(), 9);
    assert_eq!(b.metadata("prompt"), Some("a \"quoted\"\nline – \u{1F600}"));
    assert_eq!((b.required("precision")?, b.metadata("retain")), ("f64", None));
    assert_eq!(b.i64("input.ids")?.as_slice().unwrap(), [i64::MIN, 0, i64::MAX]);
    assert_eq!(b.i64("input.roles")?.as_slice().unwrap(), [0, 1, 1]);
    assert_eq!(b.i64("i32")?[[0]], -5);
    assert_eq!(b.f64("a.f32")?.as_slice().unwrap(), [f64::from(0.1f32), f64::INFINITY, -0.0, f64::from(1e-45f32)]);
    assert_eq!((b.f64("a.f64")?[[0]], b.f32("a.f64")?[[0]]), (0.1, 0.1));
    assert_eq!((b.f64("a.bf16")?[[0, 0]], b.f64("a.f16")?[[0]]), (-3.0, 0.5));
    assert!(b.f32("a.f16")?[[1]].is_nan());
    assert_eq!((b.f64("empty")?.shape(), b.f64("scalar")?.len()), ([0, 5].as_slice(), 1));

    for (error, words) in [
        (b.f64("nothing").unwrap_err(), "b.safetensors: nothing: expected this stage"),
        (b.f64("input.ids").unwrap_err(), "input.ids: expected dtype F64, F32, BF16 or F16, found I64"),
        (b.i64("a.f32").unwrap_err(), "a.f32: expected dtype I64"),
        (b.required("retain").unwrap_err(), "metadata retain"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
    Ok(())
}

/// Aligned, headed and ordered so that any reader may use the numbers in place.
#[test]
fn other_readers_find_every_tensor_aligned() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    let mut w = BundleWriter::create(&path)?;
    for i in 0..7u8 {
        w.put_u8(&format!("u{i}"), &[usize::from(i)], &vec![i; usize::from(i)])?;
        w.put_f32(&format!("f{i}"), &[1], &[f32::from(i)])?;
        w.put_f64(&format!("d{i}"), &[1], &[f64::from(i)])?;
        w.put_bf16(&format!("h{i}"), &[1], &[bf16::from_f32(i.into())])?;
    }
    w.finish([("precision", "bf16")])?;
    let bytes = fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 28);
    for (name, t) in theirs.iter() {
        let offset = t.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(offset % (t.dtype().bitsize() / 8), 0, "{name}");
    }
    assert_eq!(theirs.tensor("u6").unwrap().data(), [6; 6]);
    Ok(())
}

#[test]
fn nothing_is_left_unless_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    fs::write(&path, "before").unwrap();
    let mut w = BundleWriter::create(&path).unwrap();
    w.put_f64("a", &[100_000], &vec![0.0; 100_000]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before", "untouched until the end");
    #[cfg(unix)]
    assert_eq!(names(folder.path()), ["b.safetensors"], "not even a name while it waits");
    drop(w);
    assert_eq!(names(folder.path()), ["b.safetensors"]);
    let w = BundleWriter::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap(); // meanwhile
    assert!(w.finish([("precision", "f64")]).is_err());
    assert_eq!(names(folder.path()), ["b.safetensors"]);
}

#[test]
fn bad_targets_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, slashed) = (folder.path().join("no/such/folder/b"), folder.path().join("new/"));
    for (path, words) in [
        (folder.path(), "regular file"),
        (missing.as_path(), "no/such/folder/b"),
        (Path::new("/dev/null"), "regular file"),
        (Path::new("/"), "found a folder"),
        (Path::new(""), "file name"),
        (Path::new(".."), "found a folder"),
        (slashed.as_path(), "file name"),
    ] {
        for e in [BundleWriter::create(path).map(drop).unwrap_err(), atomic_write(path, b"x").unwrap_err()] {
            assert!(e.to_string().contains(words), "{e}");
        }
    }
    assert!(Path::new("/dev/null").metadata().is_ok_and(|m| !m.is_file()));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn small_files_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    atomic_write(&path, b"one").unwrap();
    atomic_write(&path, b"two").unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), names(folder.path()).len()), (b"two".as_slice(), 1));
    let long = folder.path().join("n".repeat(250));
    atomic_write(&long, b"x").unwrap();
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn bad_bundles_are_refused() {
    let open = |bytes: &[u8]| {
        let folder = raw::folder(&[("b.safetensors", bytes)]);
        Bundle::open(&folder.path().join("b.safetensors")).unwrap_err().to_string()
    };
    for (head, data, words) in raw::bad_heads() {
        let e = open(&raw::file(&head, data));
        assert!(words.iter().all(|w| e.contains(w)) && e.contains("b.safetensors") && e.len() < 2000, "{e}");
    }
    for (head, words) in [
        ("{}", "found none"),
        (r#"{"__metadata__":null}"#, "found none"),
        (r#"{"__metadata__":{"format":"pt"}}"#, "found \"pt\""),
        (r#"{"__metadata__":{"format":"aircache-bundles"}}"#, "aircache-bundles"),
    ] {
        let e = open(&raw::file(head, 0));
        assert!(e.contains("metadata format") && e.contains(words), "{e}");
    }
    assert!(Bundle::open(Path::new("/nowhere/b")).unwrap_err().to_string().contains("/nowhere/b"));
    assert!(Bundle::open(Path::new("/dev/zero")).unwrap_err().to_string().contains("regular file"));
}

/// A shape that holds nothing and still cannot be counted.
#[test]
fn shapes_that_overflow_are_refused() {
    let head = format!(
        r#"{{"__metadata__":{{"format":"aircache-bundle"}},"a":{{"dtype":"F32","shape":[0,{0},{0}],"data_offsets":[0,0]}}}}"#,
        1u64 << 62
    );
    let folder = raw::folder(&[("b", &raw::file(&head, 0))]);
    let bundle = Bundle::open(&folder.path().join("b")).unwrap();
    let e = bundle.f64("a").unwrap_err().to_string();
    assert!(e.contains("b: a: expected a shape of countable size"), "{e}");
}

proptest! {
    /// What is put is got, for any bits, in any order.
    #[test]
    fn any_numbers_make_the_round_trip(stages in proptest::collection::vec(
        proptest::collection::vec(any::<u64>(), 0..20), 0..6,
    )) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let mut w = BundleWriter::create(&path).unwrap();
        for (i, bits) in stages.iter().enumerate() {
            w.put(&format!("s{i}"), Dtype::U64, &[bits.len()], bytemuck::cast_slice(bits)).unwrap();
            let bytes: Vec<u8> = bits.iter().map(|&b| b as u8).collect();
            w.put_u8(&format!("b{i}"), &[bytes.len(), 1], &bytes).unwrap();
        }
        w.finish([("precision", "f32")]).unwrap();
        let b = Bundle::open(&path).unwrap();
        for (i, bits) in stages.iter().enumerate() {
            let back: Vec<u64> = b.stage(&format!("s{i}")).unwrap().data
                .chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
            prop_assert_eq!(&back, bits);
            let ids = b.i64(&format!("b{i}")).unwrap();
            prop_assert!(ids.iter().zip(bits).all(|(&id, &b)| id == i64::from(b as u8)));
        }
    }
}
