//! Checkpoints: what is read from good ones, and what is said about bad ones.

use crate::common::raw;
use aircache::Result;
use aircache::family::{self, llava_onevision::LlavaOnevisionConfig, llava_onevision::names};
use aircache::files::Files;
use aircache::kernel::Elements;
use aircache::weights::{Checkpoint, Names};

/// Asks for every tensor that the forward pass needs, as the model wiring does.
fn read_all(files: &Files) -> Result<Checkpoint> {
    let family = family::load(files)?;
    let c = family.as_a::<LlavaOnevisionConfig>().unwrap();
    let ck = Checkpoint::open(files)?;
    let n = Names::new(&ck, names);
    let (t, v) = (&c.text, &c.vision);
    n.embedding_and_head(t.vocab, t.hidden, t.tied)?;
    n.vector("decoder.norm.weight", t.hidden)?;
    for l in 0..t.layers {
        let at = |name: &str| format!("decoder.layers.{l}.{name}");
        for (name, rows) in [("q", t.heads), ("k", t.kv_heads), ("v", t.kv_heads)] {
            n.matrix(&at(&format!("self_attn.{name}_proj.weight")), rows * t.head_dim, t.hidden)?;
            n.vector(&at(&format!("self_attn.{name}_proj.bias")), rows * t.head_dim)?;
        }
        n.matrix(&at("self_attn.o_proj.weight"), t.hidden, t.heads * t.head_dim)?;
        n.matrix(&at("mlp.gate_proj.weight"), t.intermediate, t.hidden)?;
        n.matrix(&at("mlp.up_proj.weight"), t.intermediate, t.hidden)?;
        n.matrix(&at("mlp.down_proj.weight"), t.hidden, t.intermediate)?;
        n.vector(&at("input_layernorm.weight"), t.hidden)?;
        n.vector(&at("post_attention_layernorm.weight"), t.hidden)?;
    }
    n.kernel("vision.embeddings.patch_embedding.weight", v.hidden, v.channels, v.patch)?;
    n.vector("vision.embeddings.patch_embedding.bias", v.hidden)?;
    n.matrix("vision.embeddings.position_embedding.weight", v.side() * v.side(), v.hidden)?;
    for l in 0..v.layers {
        let at = |name: &str| format!("vision.encoder.layers.{l}.{name}");
        for name in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"] {
            n.matrix(&at(&format!("{name}.weight")), v.hidden, v.hidden)?;
            n.vector(&at(&format!("{name}.bias")), v.hidden)?;
        }
        for (name, rows, cols) in [("mlp.fc1", v.intermediate, v.hidden), ("mlp.fc2", v.hidden, v.intermediate)] {
            n.matrix(&at(&format!("{name}.weight")), rows, cols)?;
            n.vector(&at(&format!("{name}.bias")), rows)?;
        }
        for name in ["layer_norm1.weight", "layer_norm1.bias", "layer_norm2.weight", "layer_norm2.bias"] {
            n.vector(&at(name), v.hidden)?;
        }
    }
    n.matrix("projector.linear_1.weight", t.hidden, v.hidden * c.feature_layers.len())?;
    n.matrix("projector.linear_2.weight", t.hidden, t.hidden)?;
    if c.projector_bias {
        n.vector("projector.linear_1.bias", t.hidden)?;
        n.vector("projector.linear_2.bias", t.hidden)?;
    }
    n.vector("newline", t.hidden)?;
    Ok(ck)
}

#[test]
fn the_toy_checkpoints_load() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/llava");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path().join("model")).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        let ck = read_all(&Files::Folder(folder.clone())).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let known = |name: &&str| name.contains(".post_layernorm.") || name.contains(".head.");
        let strange: Vec<&str> = ck.unused().filter(|name| !known(name)).collect();
        assert!(strange.is_empty(), "{}: {strange:?}", folder.display());
    }
}

#[test]
fn the_demo_model_loads_in_place() -> Result<()> {
    let ck = read_all(&aircache::demo::files())?;
    let unused: Vec<&str> = ck.unused().collect();
    assert_eq!(unused, ["vision_tower.post_layernorm.bias", "vision_tower.post_layernorm.weight"]);
    assert_eq!(ck.bytes(), 7_494_016);
    assert!(ck.scan().is_empty());
    let n = Names::new(&ck, names);
    let matrix = n.matrix("decoder.layers.0.mlp.up_proj.weight", 448, 192)?;
    let Elements::Bf16(values) = matrix.view().values else { panic!("stored as bf16") };
    let info = ck.tensors().find(|t| t.name.ends_with("layers.0.mlp.up_proj.weight")).unwrap();
    assert_eq!(values.as_ptr().cast(), info.data.as_ptr(), "used in place");
    Ok(())
}

/// Values from tests/golden/scripts/digest.py.
#[test]
fn digests_are_those_of_an_independent_program() -> Result<()> {
    let demo = "e299a8a2ccfde0764afec0ee53589bb077bfd647cc96c0cc87ae6670b6c70cfc";
    assert_eq!(Checkpoint::open(&aircache::demo::files())?.digest(), demo);
    let sharded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/llava/sharded/model");
    let digest = "8d91bd28a0dae81398b04e411b60faf7695b3c813e78179b0e4109377c5588a0";
    assert_eq!(Checkpoint::open(&Files::Folder(sharded.into()))?.digest(), digest);
    Ok(())
}

/// Rows 1..3 of a 4 × 2 matrix in each type, lying aligned and misaligned in the file.
#[test]
fn matrices_are_views_at_any_place_in_each_type() -> Result<()> {
    let values: Vec<f32> = (0..8).map(|i| i as f32 - 3.5).collect();
    let types: [(&str, Vec<u8>); 3] = [
        ("F32", values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("F16", values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()),
        ("BF16", values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()),
    ];
    for (dtype, bytes) in types {
        for before in 0..5 {
            let end = before + bytes.len();
            let head = format!(
                r#"{{"a":{{"dtype":"U8","shape":[{before}],"data_offsets":[0,{before}]}},"w":{{"dtype":"{dtype}","shape":[4,2],"data_offsets":[{before},{end}]}}}}"#
            );
            let file = [raw::file(&head, before), bytes.clone()].concat();
            let folder = raw::folder(&[("model.safetensors", &file)]);
            let ck = Checkpoint::open(&raw::checkpoint(folder.path()))?;
            let matrix = ck.matrix(&["v".into(), "w".into()], 4, 2)?;
            drop(ck); // the matrix keeps the file mapped
            let rows = matrix.slice_rows(1..3);
            assert_eq!((rows.rows(), rows.cols(), rows.dtype().to_string()), (2, 2, dtype.to_string()));
            let mut row = [0f64; 2];
            rows.view().row_into(1, &mut row);
            assert_eq!(row, [0.5, 1.5], "{dtype} at {before}");
        }
    }
    Ok(())
}

#[test]
fn a_scan_counts_what_is_not_finite() -> Result<()> {
    let numbers = [1f32, f32::NAN, f32::NEG_INFINITY, f32::MAX];
    let head = r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"i":{"dtype":"I32","shape":[1],"data_offsets":[16,20]}}"#;
    let file = [raw::file(head, 0), numbers.iter().flat_map(|v| v.to_le_bytes()).collect(), vec![0xff; 4]].concat();
    let folder = raw::folder(&[("model.safetensors", &file)]);
    assert_eq!(Checkpoint::open(&raw::checkpoint(folder.path()))?.scan(), [("w".to_string(), 2)]);
    Ok(())
}

#[test]
fn the_samples_are_there_and_each_question_has_its_image() {
    let questions = aircache::demo::questions();
    assert_eq!((aircache::demo::samples().len(), questions.len()), (40, 250));
    assert_eq!(questions.iter().filter(|q| q.correct).count(), 239);
    for q in questions {
        let sample = aircache::demo::sample(q.sample()).unwrap();
        assert!(sample.png.starts_with(b"\x89PNG"), "{}", sample.name);
    }
}
