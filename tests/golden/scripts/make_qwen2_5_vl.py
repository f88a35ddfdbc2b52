"""Makes tests/golden/qwen2_5_vl/: tiny random Qwen2.5-VL checkpoints and what transformers makes of them.

Usage: make_qwen2_5_vl.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
Made by transformers 5.24.0, torch 2.15.0, torchvision 0.29.2, Pillow 13.0.0. Images only: no version's slip is on their path
(up to 5.4, positions of still images were scaled as those of videos).
"""
import json
import pathlib

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

import toys
from make_qwen2_vl import END, IMAGE, SPECIAL, START, TEMPLATE, VIDEO, rename
from record_qwen2_vl import PatchStages, recorder
from toys import HUB_DTYPE, MISSING, save, tokenizer, weights

HERE, FIRST = pathlib.Path(__file__).parent.parent / "qwen2_5_vl", 486
BASE = {
    "text.hidden_size": 32, "text.intermediate_size": 48, "text.num_hidden_layers": 1, "text.num_attention_heads": 2, "text.num_key_value_heads": 1,
    "text.hidden_act": "silu", "text.max_position_embeddings": 2048, "text.rms_norm_eps": 1e-6, "text.vocab_size": 496, "text.use_sliding_window": False,
    "text.sliding_window": 32768, "text.max_window_layers": 1,
    "vision.depth": 3, "vision.hidden_size": 16, "vision.intermediate_size": 20, "vision.num_heads": 2, "vision.out_hidden_size": 32, "vision.patch_size": 4,
    "vision.spatial_merge_size": 2, "vision.temporal_patch_size": 2, "vision.window_size": 16, "vision.fullatt_block_indexes": [1], "vision.tokens_per_second": 2,
    "vision.hidden_act": "silu",
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END, "tie_word_embeddings": True,
    "@theta": 1000000.0, "@sections": [2, 3, 3], "@dtype": "bf16", "@names": "hub", "@form": "4", "@shards": 1, "@image": {"min_pixels": 256, "max_pixels": 4096},
}  # fmt: skip
FORM5 = {"@form": "5", "@image": {"size": {"shortest_edge": 256, "longest_edge": 4096}}}
CASES = {
    "hub-bf16": dict(
        what="The folder as the hub's lie: flat config, old names, tied; 5 x 7 squares in windows of 2 x 2, cut at both edges; three layers of 4 heads over 2 KV heads, for the policies",
        config={"text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "@sections": [1, 1, 2]}, images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "two-images": dict(what="Two images, text_config, untied, names as modules have them, float32", config={**FORM5, "tie_word_embeddings": False, "@dtype": "f32", "@names": "modules"}, images=[(30, 44), (61, 17)], prompt="Which image is blue?"),
    "whole-windows": dict(what="4 x 6 squares: no window is cut; windows of 3 x 3 pixels more than 2 squares; float16, three shards, 2 full layers", config={**FORM5, "vision.window_size": 23, "vision.fullatt_block_indexes": [0, 2], "@dtype": "f16", "@shards": 3}, images=[(32, 48)], prompt="Count."),
    "one-window": dict(what="A window larger than the image, GELU in the tower, squares of 3 x 3 patches, no full layer", config={"vision.window_size": 112, "vision.fullatt_block_indexes": [], "vision.hidden_act": "gelu", "vision.spatial_merge_size": 3}, images=[(36, 25)], prompt="Read."),
    "text-only-system": dict(what="No image, a system message", config=FORM5, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "defaults": dict(
        what="Numbers left out: windows, full layers (none of these), patches, merge, frames, activations, theta and sections",
        config={
            "text.hidden_size": 128, "text.num_attention_heads": 1, "text.rms_norm_eps": MISSING, "text.hidden_act": MISSING, "text.max_position_embeddings": MISSING, "text.intermediate_size": 32,
            "vision.out_hidden_size": 128, "vision.window_size": MISSING, "vision.fullatt_block_indexes": MISSING, "vision.patch_size": MISSING, "vision.spatial_merge_size": MISSING,
            "vision.temporal_patch_size": MISSING, "vision.hidden_act": MISSING, "vision.depth": 1, "@theta": MISSING, "@sections": MISSING, "@image": {"min_pixels": 256},
        },
        images=[(150, 90)], prompt="Which row?",
    ),
}  # fmt: skip


def nested(options):
    config, text, vision = toys.split(options)
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"} | config
    dtype, theta, sections = HUB_DTYPE[options["@dtype"]], options["@theta"], options["@sections"]
    if options["@form"] == "4":
        vision.update({"in_chans": 3, "model_type": "qwen2_5_vl"})
        text.update({"torch_dtype": dtype, "transformers_version": "4.41.2", "use_cache": True})
        if theta is not MISSING:
            text["rope_theta"] = theta
        if sections is not MISSING:
            text["rope_scaling"] = {"type": "mrope", "mrope_section": sections}
        return {**config, **text, "vision_config": vision}
    text.update({"model_type": "qwen2_5_vl_text", "rope_parameters": {"rope_type": "default", "rope_theta": theta, "mrope_section": sections}})
    vision.update({"model_type": "qwen2_5_vl_vision", "in_channels": 3})
    return {**config, "dtype": dtype, "transformers_version": "5.24.0", "text_config": text, "vision_config": vision}


def checkpoint(folder, options, seed, demo):
    model = toys.fresh(folder, nested(options), Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig)
    weights(model, seed, ("norm", "ln_q"), ("embed_tokens",), r"[qk]_proj|attn\.qkv|lm_head")
    save(folder, model, rename, options)
    tokenizer(folder, demo, SPECIAL, FIRST)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}) + "\n")
    vision = model.config.vision_config
    image = {
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor", "patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size,
        "temporal_patch_size": vision.temporal_patch_size, "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], **options["@image"],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(image, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [488, 486], "pad_token_id": 486}) + "\n")


class WindowStages(PatchStages):
    def __init__(self, model):
        super().__init__(model, modeling_qwen2_5_vl, modeling_qwen2_5_vl.Qwen2_5_VLAttention)


record = recorder("qwen2_5_vl", Qwen2_5_VLForConditionalGeneration, WindowStages)

if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record, "<|image_pad|>")
