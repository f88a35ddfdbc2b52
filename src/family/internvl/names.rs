//! InternVL2's tensor names: in its own form with either kind of decoder, and in transformers' form.
//! Source: the names in checkpoints on the hub; transformers 5.17, `conversion_mapping.py`.

use crate::weights::names::renamed;

/// The names in InternVL2's own checkpoints with Qwen2's or Llama's decoder.
///
/// ```
/// let names = aircache::family::internvl::names::own;
/// assert_eq!(names("vision.layers.3.qkv.weight"), ["vision_model.encoder.layers.3.attn.qkv.weight"]);
/// assert_eq!(names("projector.fc1.bias"), ["mlp1.1.bias"]);
/// ```
pub fn own(ours: &str) -> Vec<String> {
    const PARTS: &[(&str, &[&str])] = &[
        ("decoder.", &["language_model.model."]),
        ("head.", &["language_model.lm_head."]),
        ("vision.class", &["vision_model.embeddings.class_embedding"]),
        ("vision.patch.", &["vision_model.embeddings.patch_embedding."]),
        ("vision.positions", &["vision_model.embeddings.position_embedding"]),
        ("vision.layers.", &["vision_model.encoder.layers."]),
        ("projector.norm.", &["mlp1.0."]),
        ("projector.fc1.", &["mlp1.1."]),
        ("projector.fc2.", &["mlp1.3."]),
    ];
    const LAYER: &[(&str, &str)] = &[
        (".qkv.", ".attn.qkv."),
        (".q_norm.", ".attn.q_norm."),
        (".k_norm.", ".attn.k_norm."),
        (".out.", ".attn.proj."),
        (".scale1", ".ls1"),
        (".scale2", ".ls2"),
    ];
    renamed(PARTS, if ours.starts_with("vision.") { LAYER } else { &[] }, ours)
}

/// The names in InternVL2's own checkpoints with InternLM2's decoder.
pub fn own_internlm2(ours: &str) -> Vec<String> {
    const PARTS: &[(&str, &[&str])] = &[
        ("decoder.embed_tokens.", &["language_model.model.tok_embeddings."]),
        ("decoder.", &["language_model.model."]),
        ("head.", &["language_model.output."]),
    ];
    const LAYER: &[(&str, &str)] = &[
        (".self_attn.qkv_proj.", ".attention.wqkv."),
        (".self_attn.o_proj.", ".attention.wo."),
        (".input_layernorm.", ".attention_norm."),
        (".post_attention_layernorm.", ".ffn_norm."),
        (".mlp.gate_proj.", ".feed_forward.w1."),
        (".mlp.down_proj.", ".feed_forward.w2."),
        (".mlp.up_proj.", ".feed_forward.w3."),
    ];
    if PARTS.iter().any(|(own, _)| ours.starts_with(own)) { renamed(PARTS, LAYER, ours) } else { own(ours) }
}

/// The names that InternVL checkpoints in transformers' form may use, in order of preference.
pub fn transformers(ours: &str) -> Vec<String> {
    const DECODER: &[(&str, &[&str])] = &[
        ("decoder.", &["language_model.model.", "model.language_model."]),
        ("head.", &["language_model.lm_head.", "lm_head."]),
    ];
    const PARTS: &[(&str, &[&str])] = &[
        ("vision.class", &["vision_tower.embeddings.cls_token"]),
        ("vision.patch.", &["vision_tower.embeddings.patch_embeddings.projection."]),
        ("vision.positions", &["vision_tower.embeddings.position_embeddings"]),
        ("vision.layers.", &["vision_tower.encoder.layer."]),
        ("vision.norm.", &["vision_tower.layernorm."]),
        ("projector.norm.", &["multi_modal_projector.layer_norm."]),
        ("projector.fc1.", &["multi_modal_projector.linear_1."]),
        ("projector.fc2.", &["multi_modal_projector.linear_2."]),
    ];
    const LAYER: &[(&str, &str)] = &[
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".query.", ".attention.q_proj."),
        (".key.", ".attention.k_proj."),
        (".value.", ".attention.v_proj."),
        (".q_norm.", ".attention.q_norm."),
        (".k_norm.", ".attention.k_norm."),
        (".out.", ".attention.projection_layer."),
        (".scale1", ".lambda_1"),
        (".scale2", ".lambda_2"),
    ];
    if DECODER.iter().any(|(own, _)| ours.starts_with(own)) {
        return renamed(DECODER, &[], ours);
    }
    let theirs = renamed(PARTS, if ours.starts_with("vision.") { LAYER } else { &[] }, ours);
    theirs.into_iter().flat_map(|name| [name.clone(), format!("model.{name}")]).collect()
}
