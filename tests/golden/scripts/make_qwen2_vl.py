"""Makes tests/golden/qwen2_vl/: tiny random Qwen2-VL checkpoints and what transformers makes of them.

Usage: make_qwen2_vl.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
"""
import json
import pathlib
import re

from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

import record_qwen2_vl as record
import toys
from toys import HUB_DTYPE, MISSING, save, tokenizer, weights

HERE = pathlib.Path(__file__).parent.parent / "qwen2_vl"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
START, END, IMAGE, VIDEO = 489, 490, 492, 493
# The template of Qwen/Qwen2-VL-*-Instruct.
TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# config keys are paths; "@..." are ours: dtype, names, config form, template place, shards, image and video processor
BASE = {
    "text.hidden_size": 32, "text.intermediate_size": 48, "text.num_hidden_layers": 2,
    "text.num_attention_heads": 2, "text.num_key_value_heads": 1, "text.hidden_act": "silu",
    "text.max_position_embeddings": 2048, "text.rms_norm_eps": 1e-6, "text.vocab_size": 496,
    "text.bos_token_id": 486, "text.eos_token_id": 488, "text.use_sliding_window": False,
    "text.sliding_window": 32768, "text.max_window_layers": 2,
    "vision.depth": 2, "vision.embed_dim": 16, "vision.mlp_ratio": 2, "vision.num_heads": 2, "vision.hidden_size": 32,
    "vision.patch_size": 4, "vision.spatial_merge_size": 2, "vision.temporal_patch_size": 2,
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END,
    "tie_word_embeddings": True,
    "@theta": 1000000.0, "@sections": [2, 3, 3], "@dtype": "bf16", "@names": "hub", "@form": "4", "@template": "chat_template.json", "@shards": 1,
    "@image": {"min_pixels": 256, "max_pixels": 2048},
}  # fmt: skip
SMALL = {  # where the decoder is not the point
    "text.hidden_size": 16, "text.intermediate_size": 24, "text.num_hidden_layers": 1, "text.num_attention_heads": 1,
    "vision.hidden_size": 16, "vision.depth": 1,
}  # fmt: skip
VIDEO_SETTINGS = {  # for make_video.py
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "resample": 2, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 2,
    "size": {"shortest_edge": 256, "longest_edge": 1024},
}  # fmt: skip
FORM5 = {"@form": "5", "@template": "chat_template.jinja", "@image": {"size": {"shortest_edge": 256, "longest_edge": 2048}}}

CASES = {
    "hub-bf16": dict(
        what="The folder as the hub's checkpoints lie: flat config, old names, rope_scaling of type mrope, min_pixels and max_pixels, tied; "
        "three layers of 4 heads over 2 KV heads, for the policies",
        config={"text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "@sections": [1, 1, 2]}, images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "two-images": dict(
        what="Two images of different sizes, text_config, rope_parameters, size with two edges, untied",
        config={**SMALL, **FORM5, "tie_word_embeddings": False}, images=[(30, 44), (61, 17)], prompt="Which image is blue?",
    ),
    "three-images-placed": dict(
        what="Three images where the prompt says <image>, the last of them at its end; names as modules have them; float32",
        config={**SMALL, **FORM5, "@dtype": "f32", "@names": "modules"},
        images=[(24, 24), (9, 40), (50, 31)], prompt="First <image>, then <image> and at last<image>",
    ),
    "untied-f16-sharded": dict(
        what="float16, a head of its own, three shards, 2 heads of 12 over 2 KV heads: sections of 1, 2, 3",
        config={**SMALL, "text.num_attention_heads": 2, "@dtype": "f16", "@shards": 3, "tie_word_embeddings": False, "text.hidden_size": 24, "vision.hidden_size": 24, "text.num_key_value_heads": 2, "@sections": [1, 2, 3]},
        images=[(33, 26)], prompt="Read all text.",
    ),
    "merge-3-frames-1": dict(
        what="Squares of 3 x 3 patches of 3 px in one frame, heads of 4",
        config={**SMALL, "vision.spatial_merge_size": 3, "vision.patch_size": 3, "vision.temporal_patch_size": 1, "vision.depth": 2, "vision.num_heads": 4, "@sections": [6, 1, 1]},
        images=[(40, 70)], prompt="Count the boxes.",
    ),
    "merge-1": dict(
        what="A row for each patch; more sections than three, one of them empty: they go round time, height, width, time; a vision theta of its own",
        config={**SMALL, **FORM5, "vision.spatial_merge_size": 1, "vision.patch_size": 8, "vision.rope_parameters": {"rope_type": "axial", "rope_theta": 500.0}, "@sections": [1, 2, 0, 3, 2]}, images=[(41, 55)], prompt="Count.",
    ),
    "patch-14": dict(
        what="Patches of 14 px as in the real checkpoints, made smaller by max_pixels", config={**SMALL, "vision.patch_size": 14, "@image": {"min_pixels": 784, "max_pixels": 3136}},
        images=[(70, 126)], prompt="Read.",
    ),
    "tall": dict(what="150 times as tall as wide: enlarged to min_pixels", config={**SMALL, **FORM5}, images=[(150, 1)], prompt="What does it say?"),
    "one-pixel": dict(what="One pixel", config={**SMALL}, images=[(1, 1)], prompt="What color is it?"),
    "text-only": dict(what="No image", config=SMALL, images=[], prompt="You are a helpful assistant. What is 2 + 2?\nAnswer only."),
    "text-only-system": dict(what="No image, a system message, text_config", config={**SMALL, **FORM5}, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "system": dict(what="A system message before the image; no resize: an image of whole squares", config={**SMALL, "@image": {"min_pixels": 256, "max_pixels": 512, "do_resize": False}, "@video": VIDEO_SETTINGS}, images=[(24, 48)], system="You are a document reader.\nBe short.", prompt="Which row?"),
    "bilinear": dict(
        what="Another filter, means, deviations and factor", images=[(30, 50)], prompt="Which row?",
        config={**SMALL, **FORM5, "@image": {"size": {"shortest_edge": 256, "longest_edge": 1024}, "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "rescale_factor": 0.004}},
    ),
    "defaults": dict(
        what="Numbers left out: rms_norm_eps, theta (1000000), sections (16, 24, 24), positions, activation, ratio, merge, frames, max_pixels",
        config={
            "text.hidden_size": 128, "text.num_attention_heads": 1, "text.num_hidden_layers": 1, "text.intermediate_size": 32, "vision.hidden_size": 128,
            "text.hidden_act": MISSING, "text.rms_norm_eps": MISSING, "text.max_position_embeddings": MISSING, "text.use_sliding_window": MISSING,
            "text.sliding_window": MISSING, "text.max_window_layers": MISSING, "vision.mlp_ratio": MISSING, "vision.depth": 1,
            "vision.spatial_merge_size": MISSING, "vision.temporal_patch_size": MISSING, "@theta": MISSING, "@sections": MISSING, "@image": {"min_pixels": 256},
            "text.num_key_value_heads": None, "tie_word_embeddings": True,
        },
        images=[(10, 12)], prompt="Which row?",
    ),
    "eps-and-theta": dict(
        what="Unusual numbers: rms_norm_eps 1e-2, theta 500, exact gelu in the tower; text_config says tied", images=[(30, 22)], prompt="Which row?",
        config={**SMALL, **FORM5, "text.rms_norm_eps": 1e-2, "@theta": 500.0, "vision.hidden_act": "gelu", "tie_word_embeddings": MISSING, "text.tie_word_embeddings": True},
    ),
}  # fmt: skip


def nested(options):
    config, text, vision = toys.split(options)
    config = {"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl"} | config
    dtype, theta, sections = HUB_DTYPE[options["@dtype"]], options["@theta"], options["@sections"]
    if options["@form"] == "4":
        vision.update({"in_chans": 3, "spatial_patch_size": vision["patch_size"]})
        text.update({"torch_dtype": dtype, "transformers_version": "4.41.2", "use_cache": True})
        if theta is not MISSING:
            text["rope_theta"] = theta
        if sections is not MISSING:
            text["rope_scaling"] = {"type": "mrope", "mrope_section": sections}
        return {**config, **text, "vision_config": vision}
    config.update({"dtype": dtype, "transformers_version": "5.17.0"})
    rope = {"rope_type": "default", "rope_theta": theta, "mrope_section": sections}
    text.update({"model_type": "qwen2_vl_text", "rope_parameters": rope})
    vision.update({"model_type": "qwen2_vl_vision", "in_channels": 3})
    return {**config, "text_config": text, "vision_config": vision}


def rename(name, style):
    """From the names modules have in transformers 5.17 to those of a checkpoint."""
    if style == "hub":
        name = re.sub(r"^model\.visual\.", "visual.", name)
        name = re.sub(r"^model\.language_model\.", "model.", name)
    return name


def checkpoint(folder, options, seed, demo):
    config = nested(options)
    model = toys.fresh(folder, config, Qwen2VLForConditionalGeneration, Qwen2VLConfig)
    weights(model, seed, ("norm", "ln_q"), ("embed_tokens",), r"[qk]_proj|qkv|lm_head")
    save(folder, model, rename, options)
    tokenizer(folder, demo, SPECIAL, 486)
    place = options["@template"]
    text = TEMPLATE if place.endswith("jinja") else json.dumps({"chat_template": TEMPLATE}, indent=2) + "\n"
    (folder / place).write_text(text)

    v = model.config.vision_config
    image = {
        "image_processor_type": "Qwen2VLImageProcessor", "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "patch_size": v.patch_size, "temporal_patch_size": v.temporal_patch_size, "merge_size": v.spatial_merge_size, **options["@image"],
    }  # fmt: skip
    if options["@form"] == "5":
        processor = {"image_processor": image, "processor_class": "Qwen2VLProcessor"}
        processor["video_processor"] = {"video_processor_type": "Qwen2VLVideoProcessor", "patch_size": v.patch_size, "merge_size": v.spatial_merge_size}
        (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps({**image, "processor_class": "Qwen2VLProcessor"}, indent=2) + "\n")
    if "@video" in options:
        (folder / "video_preprocessor_config.json").write_text(json.dumps(options["@video"], indent=2) + "\n")
    generation = {
        "bos_token_id": 486, "do_sample": True, "eos_token_id": [488, 486], "pad_token_id": 486, "temperature": 0.01, "top_k": 1, "top_p": 0.001,
        "transformers_version": config["transformers_version"],
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record.record, "<|image_pad|>")
