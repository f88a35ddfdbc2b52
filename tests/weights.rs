//! Checkpoints: what is read from good ones, and what is said about bad ones.

use aircache::Result;
use aircache::config::FamilyConfig;
use aircache::files::Files;
use aircache::weights::{Checkpoint, Names, names};

/// Asks for every tensor that the forward pass needs, as the model wiring does.
fn read_all(files: &Files) -> Result<Checkpoint> {
    let FamilyConfig::LlavaOnevision(c) = FamilyConfig::load(files)?;
    let ck = Checkpoint::open(files)?;
    let n = Names::new(&ck, names::llava_onevision);
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
