//! Files of a checkpoint, bundles and question files with arbitrary bytes.

use aircache::demo;
use aircache::eval::Questions;
use aircache::family;
use aircache::files::Files;
use aircache::golden::{self, Bundle, BundleWriter};
use aircache::model::{Model, Survey};
use aircache::weights::{Checkpoint, bytes_of};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::OnceLock;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("a folder for the files"));
}

/// A folder with these files and no others.
fn folder(files: &[(&str, &[u8])]) -> PathBuf {
    FOLDER.with_borrow(|folder| {
        for entry in std::fs::read_dir(folder.path()).expect("the folder").flatten() {
            std::fs::remove_file(entry.path()).expect("a file of ours");
        }
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("a file of ours");
        }
        folder.path().to_path_buf()
    })
}

/// A file of weights. If it can be read, its tensors lie inside the file, fill the file, and have the bytes of their
/// shapes.
pub fn header(data: &[u8]) {
    let files = Files::Folder(folder(&[("model.safetensors", data)]));
    let Ok(checkpoint) = Checkpoint::open(&files) else { return };
    let length = u64::from_le_bytes(*data.first_chunk().expect("a length")) as usize;
    assert_eq!(checkpoint.bytes() as usize, data.len() - 8 - length, "the tensors fill the file");
    for t in checkpoint.tensors() {
        assert_eq!(bytes_of(t.dtype, t.shape), Some(t.data.len()), "{}", t.name);
        let names = [t.name.to_string()];
        assert_eq!(checkpoint.find(&names).map(|found| found.data.as_ptr()), Some(t.data.as_ptr()));
        let [rows, cols] = *t.shape else { continue };
        if let Ok(matrix) = checkpoint.matrix(&names, rows, cols) {
            let mut row = vec![0f32; cols];
            (0..rows.min(9)).for_each(|r| matrix.view().row_into(r, &mut row));
        }
    }
    assert_eq!(checkpoint.digest(), Checkpoint::open(&files).expect("read once, read again").digest());
}

/// An index and two shards. If they open, the checkpoint has the tensors of the index, and no name reaches beyond the
/// folder.
pub fn index(data: &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (json, shard) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    const GOOD: &[u8] = b"\x36\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}} ab";
    let files = [("model.safetensors.index.json", json), ("a.safetensors", GOOD), ("b.safetensors", shard)];
    let Ok(checkpoint) = Checkpoint::open(&Files::Folder(folder(&files))) else { return };
    let index: serde_json::Value = serde_json::from_slice(json).expect("what opened is JSON");
    for (name, file) in index["weight_map"].as_object().expect("what opened has a map") {
        let file = file.as_str().expect("a file name");
        assert!(!file.contains('/'), "{file} is no plain name");
        let found = checkpoint.find(std::slice::from_ref(name)).expect("a tensor that the index lists");
        assert!(found.file.ends_with(file));
    }
}

/// A `config.json`: loading and surveying agree; if it loads, its sizes fit each other.
pub fn config(data: &[u8]) {
    let files = Files::Folder(folder(&[("config.json", data), ("generation_config.json", data)]));
    let loaded = family::load(&files);
    let survey = Survey::of(&files);
    assert_eq!(survey.config.is_some(), loaded.is_ok(), "{loaded:?}");
    if let Err(e) = &loaded {
        assert!(survey.problems.contains(e), "{e} is not in {:?}", survey.problems);
        assert!(e.to_string().len() < 10_000, "a message of {} bytes", e.to_string().len());
    }
    let Ok(config) = loaded else { return };
    let c = config.text();
    assert_eq!(c.heads % c.kv_heads, 0);
    assert_eq!(c.axes().len(), c.head_dim / 2);
    assert!((config.image_token() as usize) < c.vocab);
    let _ = (config.profile(), config.vision_json());
}

/// A `processor_config.json` of the demo model: an accepted file turns levels into finite numbers.
pub fn processor(data: &[u8]) {
    let config = family::load(&demo::files()).expect("the demo model");
    for name in ["processor_config.json", "preprocessor_config.json"] {
        let Ok(reader) = config.reader(&Files::Folder(folder(&[(name, data)]))) else { continue };
        let pixels = &reader.settings().pixels;
        let sane = pixels.std.iter().all(|s| s.abs() > 1e-6) && pixels.rescale.is_none_or(|r| r.abs() > 1e-6);
        let tame = pixels.mean.iter().chain(&pixels.std).chain(&pixels.rescale).all(|v| v.abs() < 1e6);
        if sane && tame {
            assert!(pixels.levels().iter().flatten().all(|v| v.is_finite()), "{pixels:?}");
        }
        for size in [(1, 1), (30, 700), (900, 50)] {
            if let Ok(packing) = reader.packing(size, 1) {
                assert!(packing.rows.len() > packing.base);
            }
        }
    }
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::load(&demo::files()).expect("the demo model"))
}

/// A bundle: the algorithm runs on it, and the bundle is checked against itself and replayed. A plan keeps the rows
/// that the policy chooses, in order.
pub fn bundle(data: &[u8]) {
    let path = folder(&[("b", data)]).join("b");
    let Ok(bundle) = Bundle::open(&path) else { return };
    for policy in ["aircache", "snapkv", "streaming"] {
        let policy = policy.parse().expect("a policy");
        let retain = "0.3".parse().expect("a retention");
        if let Ok(plan) = golden::compress::<f64>(&bundle, &policy, retain) {
            super::numbers::lawful(&plan);
            let again = golden::compress::<f64>(&bundle, &policy, retain).expect("once, and again");
            assert_eq!(plan.kept, again.kept);
        }
    }
    if let Ok(verdict) = golden::check(&bundle, &bundle) {
        assert!(!verdict.lines().is_empty());
        assert_eq!(verdict.json()["verdict"], if verdict.passes() { "pass" } else { "fail" });
    }
    let truth = BundleWriter::create(&path.with_file_name("replay")).expect("a folder of ours");
    if let Ok(verdict) = golden::replay(model(), None, &bundle, truth) {
        assert!(!verdict.lines().is_empty());
    }
}

/// A question file: an accepted file has questions; each question has an answer and existing images.
pub fn questions(data: &[u8]) {
    let path = folder(&[("q.jsonl", data), ("p.png", b"")]).join("q.jsonl");
    let Ok(questions) = Questions::read(&path) else { return };
    assert!(!questions.items.is_empty());
    for item in &questions.items {
        assert!(!item.answers.is_empty() && item.images.iter().all(|image| image.is_file()));
    }
}
