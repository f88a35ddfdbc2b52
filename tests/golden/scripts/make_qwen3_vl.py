"""Makes tests/golden/qwen3_vl/: tiny random Qwen3-VL checkpoints and what transformers makes of them.

Usage: make_qwen3_vl.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
Made by transformers 5.24.0, torch 2.15.0, torchvision 0.29.2, Pillow 13.0.0; no version's slip is on the path of images.
`decoder.LL.out` is what a layer gives, before DeepStack adds to it.
"""
import json
import pathlib

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl import modeling_qwen3_vl

import toys
from make_qwen2_vl import END, IMAGE, SPECIAL, START, VIDEO
from record_qwen2_vl import PatchStages, recorder
from toys import HUB_DTYPE, MISSING, save, tokenizer, weights

HERE, FIRST = pathlib.Path(__file__).parent.parent / "qwen3_vl", 486
# It writes what the hub's template writes for system, user and assistant.
TEMPLATE = """{%- macro said(content) %}
    {%- if content is string %}{{- content }}
    {%- else %}{%- for part in content %}
        {%- if part.type == 'image' or 'image' in part or 'image_url' in part %}<|vision_start|><|image_pad|><|vision_end|>
        {%- elif part.type == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>
        {%- elif 'text' in part %}{{- part.text }}
        {%- endif %}
    {%- endfor %}{%- endif %}
{%- endmacro %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + said(message.content) + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
BASE = {
    "text.hidden_size": 32, "text.intermediate_size": 48, "text.num_hidden_layers": 2, "text.num_attention_heads": 2, "text.num_key_value_heads": 1, "text.head_dim": 12,
    "text.hidden_act": "silu", "text.max_position_embeddings": 2048, "text.rms_norm_eps": 1e-6, "text.vocab_size": 496, "text.attention_bias": False,
    "vision.depth": 3, "vision.hidden_size": 16, "vision.intermediate_size": 20, "vision.num_heads": 2, "vision.out_hidden_size": 32, "vision.patch_size": 4,
    "vision.spatial_merge_size": 2, "vision.temporal_patch_size": 2, "vision.num_position_embeddings": 49, "vision.deepstack_visual_indexes": [0, 1],
    "vision.hidden_act": "gelu_pytorch_tanh",
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END, "tie_word_embeddings": True,
    "@theta": 5000000, "@sections": [2, 2, 2], "@dtype": "bf16", "@names": "modules", "@form": "4", "@shards": 1, "@image": {"size": {"shortest_edge": 256, "longest_edge": 4096}},
}  # fmt: skip
FORM5 = {"@form": "5"}
CASES = {
    "hub-bf16": dict(
        what="The folder as the hub's lie: rope_scaling with mrope_interleaved, tied; a grid of 10 x 14 patches from 7 x 7 positions; three layers of 4 heads over 2 KV heads, for the policies",
        config={"text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "text.tie_word_embeddings": True}, images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "two-images": dict(
        what="Two images, rope_parameters, untied, float32; 30 positions, of which 5 x 5 are a grid; more height and width than thirds of a head",
        config={**FORM5, "tie_word_embeddings": False, "@dtype": "f32", "vision.num_position_embeddings": 30, "@sections": [0, 3, 3]}, images=[(30, 44), (61, 17)], prompt="Which image is blue?",
    ),
    "deepstack-order": dict(
        what="Layers in another order than the tower's, one listed twice, one that does not exist, and more of them than decoder layers; float16, three shards",
        config={**FORM5, "vision.deepstack_visual_indexes": [2, 0, 2, 9, 1], "@dtype": "f16", "@shards": 3}, images=[(32, 48)], prompt="Count.",
    ),
    "no-deepstack": dict(what="No DeepStack; squares of 3 x 3 patches of 3 px in one frame, GELU in the tower, a theta of its own, biases in the attention, 8 query heads of 6", config={
        "vision.deepstack_visual_indexes": [], "vision.spatial_merge_size": 3, "vision.patch_size": 3, "vision.temporal_patch_size": 1, "vision.hidden_act": "gelu", "vision.depth": 2,
        "vision.rope_parameters": {"rope_type": "axial", "rope_theta": 500.0}, "text.attention_bias": True, "text.num_attention_heads": 8, "text.num_key_value_heads": 2, "text.head_dim": 6, "@sections": [1, 1, 1]},
        images=[(36, 25)], prompt="Read."),
    "merge-1": dict(what="A row for each patch, one row of patches, one learned position on each side more than patches", config={**FORM5, "vision.spatial_merge_size": 1, "vision.patch_size": 8, "vision.num_position_embeddings": 16}, images=[(5, 33)], prompt="Count."),
    "text-only-system": dict(what="No image, a system message", config=FORM5, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "defaults": dict(
        what="Numbers left out: patch, merge, frames, positions, layers of DeepStack (none of these), activations, head size, theta and sections",
        config={
            "text.hidden_size": 64, "text.num_attention_heads": 1, "text.head_dim": MISSING, "text.rms_norm_eps": MISSING, "text.hidden_act": MISSING, "text.max_position_embeddings": MISSING, "text.attention_bias": MISSING,
            "text.num_key_value_heads": None, "text.num_hidden_layers": 1, "vision.out_hidden_size": 64, "vision.patch_size": MISSING, "vision.spatial_merge_size": MISSING, "vision.temporal_patch_size": MISSING,
            "vision.num_position_embeddings": MISSING, "vision.deepstack_visual_indexes": MISSING, "vision.hidden_act": MISSING, "vision.depth": 1, "@theta": MISSING, "@sections": MISSING,
            "@image": {"size": {"shortest_edge": 4096, "longest_edge": 65536}},
        },
        images=[(150, 90)], prompt="Which row?",
    ),
}  # fmt: skip


def nested(options):
    config, text, vision = toys.split(options)
    config, text, vision = {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl"} | config, {"model_type": "qwen3_vl_text"} | text, {"in_channels": 3} | vision
    dtype, theta, sections = HUB_DTYPE[options["@dtype"]], options["@theta"], options["@sections"]
    given = {} if sections is MISSING else {"mrope_section": sections}
    if options["@form"] == "4":
        vision["model_type"] = "qwen3_vl"
        text["dtype"], config["transformers_version"] = dtype, "4.57.0.dev0"
        text["rope_scaling"] = {"mrope_interleaved": True, **given, "rope_type": "default"}
        if theta is not MISSING:
            text["rope_theta"] = theta
    else:
        vision["model_type"] = "qwen3_vl_vision"
        config["dtype"], config["transformers_version"] = dtype, "5.24.0"
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": theta, **given}
    return {**config, "text_config": text, "vision_config": vision}


def checkpoint(folder, options, seed, demo):
    model = toys.fresh(folder, nested(options), Qwen3VLForConditionalGeneration, Qwen3VLConfig)
    weights(model, seed, ("norm",), ("embed_tokens", "pos_embed"), r"[qk]_proj|attn\.qkv|lm_head")
    save(folder, model, lambda name, _: name, options)
    tokenizer(folder, demo, SPECIAL, FIRST)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}, indent=2) + "\n")
    vision = model.config.vision_config
    sizes = {"patch_size": vision.patch_size, "temporal_patch_size": vision.temporal_patch_size, "merge_size": vision.spatial_merge_size}
    level = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    image = {**options["@image"], **sizes, **level, "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"}
    (folder / "preprocessor_config.json").write_text(json.dumps(image, indent=2) + "\n")
    video = {"size": {"shortest_edge": 1024, "longest_edge": 8192}, **sizes, **level, "processor_class": "Qwen3VLProcessor", "video_processor_type": "Qwen3VLVideoProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [488, 486], "pad_token_id": 486}) + "\n")


class DeepStages(PatchStages):
    def __init__(self, model):
        super().__init__(model, modeling_qwen3_vl, modeling_qwen3_vl.Qwen3VLTextAttention)
        added, self.layers = self.text._deepstack_process, 0

        def process(hidden, mask, rows):
            self.put(f"projector.{self.layers:02}.deepstack", rows)
            self.layers += 1
            return added(hidden, mask, rows)

        self.text._deepstack_process = process

    def close(self):
        super().close()
        del self.text._deepstack_process


record = recorder("qwen3_vl", Qwen3VLForConditionalGeneration, DeepStages)

if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record, "<|image_pad|>")
