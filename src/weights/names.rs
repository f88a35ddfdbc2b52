//! Our names of tensors → the names that checkpoints of a family use.
//!
//! LLaVA-OneVision (Hugging Face's form): transformers up to 4.51 and again from 5 writes the older names
//! (`language_model.model.…`), some versions between wrote the newer ones (`model.language_model.…`); `vision_model.`
//! in the tower's names was dropped in 5. All are read. Source: transformers 5.17, `conversion_mapping.py`
//! (`llava_next`), and the names in checkpoints on the hub.

/// The names that LLaVA-OneVision checkpoints may use for `ours`, in order of preference.
///
/// `decoder.X` is the language model without its head, `head.X` the head, `vision.X` the tower, `projector.X` the
/// projector, `newline` the newline row.
///
/// ```
/// let names = aircache::weights::names::llava_onevision("decoder.norm.weight");
/// assert_eq!(names[..2], ["language_model.model.norm.weight", "model.language_model.norm.weight"]);
/// ```
pub fn llava_onevision(ours: &str) -> Vec<String> {
    const PREFIXES: [(&str, &[&str]); 5] = [
        (
            "decoder.",
            &["language_model.model.", "model.language_model.", "language_model.", "model.language_model.model."],
        ),
        ("head.", &["language_model.lm_head.", "lm_head.", "model.language_model.lm_head."]),
        (
            "vision.",
            &["vision_tower.vision_model.", "model.vision_tower.vision_model.", "vision_tower.", "model.vision_tower."],
        ),
        ("projector.", &["multi_modal_projector.", "model.multi_modal_projector."]),
        ("newline", &["image_newline", "model.image_newline"]),
    ];
    accepted(&PREFIXES, ours)
}

/// The names that Qwen2-VL checkpoints may use for `ours`, in order of preference: the hub's (`model.layers.…`,
/// `visual.…`), which transformers writes again from 5 on, then those of its modules (`model.language_model.…`).
///
/// ```
/// let names = aircache::weights::names::qwen2_vl("vision.merger.mlp.0.weight");
/// assert_eq!(names, ["visual.merger.mlp.0.weight", "model.visual.merger.mlp.0.weight"]);
/// ```
pub fn qwen2_vl(ours: &str) -> Vec<String> {
    const PREFIXES: [(&str, &[&str]); 3] = [
        ("decoder.", &["model.", "model.language_model."]),
        ("head.", &["lm_head."]),
        ("vision.", &["visual.", "model.visual."]),
    ];
    accepted(&PREFIXES, ours)
}

/// The names in InternVL2's own checkpoints, with Qwen2's or Llama's decoder.
///
/// ```
/// let names = aircache::weights::names::internvl_chat;
/// assert_eq!(names("vision.layers.3.qkv.weight"), ["vision_model.encoder.layers.3.attn.qkv.weight"]);
/// assert_eq!(names("projector.fc1.bias"), ["mlp1.1.bias"]);
/// ```
pub fn internvl_chat(ours: &str) -> Vec<String> {
    const PARTS: [(&str, &str); 9] = [
        ("decoder.", "language_model.model."),
        ("head.", "language_model.lm_head."),
        ("vision.class", "vision_model.embeddings.class_embedding"),
        ("vision.patch.", "vision_model.embeddings.patch_embedding."),
        ("vision.positions", "vision_model.embeddings.position_embedding"),
        ("vision.layers.", "vision_model.encoder.layers."),
        ("projector.norm.", "mlp1.0."),
        ("projector.fc1.", "mlp1.1."),
        ("projector.fc2.", "mlp1.3."),
    ];
    const LAYER: [(&str, &str); 6] = [
        (".qkv.", ".attn.qkv."),
        (".q_norm.", ".attn.q_norm."),
        (".k_norm.", ".attn.k_norm."),
        (".out.", ".attn.proj."),
        (".scale1", ".ls1"),
        (".scale2", ".ls2"),
    ];
    replaced(
        &PARTS.map(|(ours, theirs)| (ours, [theirs])),
        if ours.starts_with("vision.") { &LAYER } else { &[] },
        ours,
    )
}

/// The names in InternVL2's own checkpoints, with InternLM2's decoder.
///
/// ```
/// let names = aircache::weights::names::internvl_internlm2;
/// assert_eq!(names("decoder.layers.3.mlp.up_proj.weight"), ["language_model.model.layers.3.feed_forward.w3.weight"]);
/// ```
pub fn internvl_internlm2(ours: &str) -> Vec<String> {
    const PARTS: [(&str, [&str; 1]); 3] = [
        ("decoder.embed_tokens.", ["language_model.model.tok_embeddings."]),
        ("decoder.", ["language_model.model."]),
        ("head.", ["language_model.output."]),
    ];
    const LAYER: [(&str, &str); 7] = [
        (".self_attn.qkv_proj.", ".attention.wqkv."),
        (".self_attn.o_proj.", ".attention.wo."),
        (".input_layernorm.", ".attention_norm."),
        (".post_attention_layernorm.", ".ffn_norm."),
        (".mlp.gate_proj.", ".feed_forward.w1."),
        (".mlp.down_proj.", ".feed_forward.w2."),
        (".mlp.up_proj.", ".feed_forward.w3."),
    ];
    if PARTS.iter().any(|(own, _)| ours.starts_with(own)) {
        replaced(&PARTS, &LAYER, ours)
    } else {
        internvl_chat(ours)
    }
}

/// The names that InternVL checkpoints of transformers may use, in order of preference.
///
/// ```
/// let names = aircache::weights::names::internvl;
/// assert_eq!(
///     names("vision.layers.3.out.weight"),
///     ["vision_tower.encoder.layer.3.attention.projection_layer.weight",
///      "model.vision_tower.encoder.layer.3.attention.projection_layer.weight"]
/// );
/// ```
pub fn internvl(ours: &str) -> Vec<String> {
    const PARTS: [(&str, [&str; 2]); 10] = [
        ("decoder.", ["language_model.model.", "model.language_model."]),
        ("head.", ["language_model.lm_head.", "lm_head."]),
        ("vision.class", ["vision_tower.embeddings.cls_token", "model.vision_tower.embeddings.cls_token"]),
        (
            "vision.patch.",
            [
                "vision_tower.embeddings.patch_embeddings.projection.",
                "model.vision_tower.embeddings.patch_embeddings.projection.",
            ],
        ),
        (
            "vision.positions",
            ["vision_tower.embeddings.position_embeddings", "model.vision_tower.embeddings.position_embeddings"],
        ),
        ("vision.layers.", ["vision_tower.encoder.layer.", "model.vision_tower.encoder.layer."]),
        ("vision.norm.", ["vision_tower.layernorm.", "model.vision_tower.layernorm."]),
        ("projector.norm.", ["multi_modal_projector.layer_norm.", "model.multi_modal_projector.layer_norm."]),
        ("projector.fc1.", ["multi_modal_projector.linear_1.", "model.multi_modal_projector.linear_1."]),
        ("projector.fc2.", ["multi_modal_projector.linear_2.", "model.multi_modal_projector.linear_2."]),
    ];
    const LAYER: [(&str, &str); 10] = [
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
    replaced(&PARTS, if ours.starts_with("vision.") { &LAYER } else { &[] }, ours)
}

/// `ours` with its first part replaced by each of theirs, and then the first of `within` that it holds.
fn replaced<const N: usize>(parts: &[(&str, [&str; N])], within: &[(&str, &str)], ours: &str) -> Vec<String> {
    let found = parts.iter().find_map(|(own, theirs)| Some((ours.strip_prefix(own)?, theirs)));
    let Some((rest, theirs)) = found else { return vec![ours.to_string()] };
    let part = within.iter().find(|(own, _)| rest.contains(own));
    let rest = part.map_or(rest.to_string(), |(own, their)| rest.replacen(own, their, 1));
    theirs.iter().map(|their| format!("{their}{rest}")).collect()
}

/// `ours` with each prefix of theirs that stands for its own.
fn accepted(prefixes: &[(&str, &[&str])], ours: &str) -> Vec<String> {
    prefixes
        .iter()
        .find_map(|(ours_prefix, theirs)| Some((ours.strip_prefix(ours_prefix)?, theirs)))
        .map(|(rest, theirs)| theirs.iter().map(|prefix| format!("{prefix}{rest}")).collect())
        .unwrap_or_else(|| vec![ours.to_string()])
}
