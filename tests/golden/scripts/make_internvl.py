"""Makes tests/golden/internvl/: tiny random checkpoints of transformers' InternVL and what transformers makes of them.

Usage: make_internvl.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)

The cases qwen3-… were made by transformers 5.24.0, torch 2.15.0, torchvision 0.29.2.
"""
import json
import pathlib
import re

from transformers import InternVLConfig, InternVLForConditionalGeneration

import record_internvl as record
import toys
from toys import HUB_DTYPE, MISSING, save, tokenizer, weights

HERE = pathlib.Path(__file__).parent.parent / "internvl"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
FIRST, CONTEXT = 486, 491
# What the hub's -hf checkpoints write around turns and images.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'video' %}"
    "{{ '<video>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# config keys are paths; "@..." are ours: dtype, names, shards, processor file, image processor
BASE = {
    "text.model_type": "qwen2", "text.hidden_size": 24, "text.intermediate_size": 32, "text.num_hidden_layers": 1,
    "text.num_attention_heads": 2, "text.num_key_value_heads": 1, "text.hidden_act": "silu", "text.max_position_embeddings": 2048,
    "text.rms_norm_eps": 1e-6, "text.vocab_size": 496, "text.rope_theta": 1000000.0,
    "vision.hidden_size": 16, "vision.num_hidden_layers": 2, "vision.num_attention_heads": 2, "vision.intermediate_size": 24,
    "vision.image_size": [16, 16], "vision.patch_size": [4, 4], "vision.attention_bias": True, "vision.hidden_act": "gelu",
    "image_token_id": CONTEXT, "image_seq_length": 4, "downsample_ratio": 0.5, "tie_word_embeddings": False,
    "@dtype": "bf16", "@names": "modules", "@shards": 1, "@file": "preprocessor_config.json", "@image": {"max_patches": 4},
}  # fmt: skip

CASES = {
    "qwen2-bf16": dict(
        what="As the hub's checkpoints lie: Qwen2, layer norms, no norm of queries and keys; three layers of 4 heads over 2 KV heads, for the policies",
        config={"text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "text.hidden_size": 32},
        images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "qwen3-bf16": dict(
        what="InternVL3.5: Qwen3, queries and keys normed head by head, no biases, heads of 16 where the width divided by their number is 8; dynamic NTK scaling as InternVL3 has it, not reached; three layers of 4 heads over 2 KV heads, for the policies",
        config={"text.model_type": "qwen3", "text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "text.hidden_size": 32, "text.head_dim": 16, "text.rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "qwen3-biases": dict(
        what="Qwen3 with biases in all four projections, tied, an epsilon that queries and keys feel, fewer numbers in all heads than the width; two images",
        config={"text.model_type": "qwen3", "text.attention_bias": True, "text.head_dim": 6, "text.rms_norm_eps": 1e-2, "tie_word_embeddings": True, "@dtype": "f32"},
        images=[(30, 44), (61, 17)], prompt="Which image is blue?",
    ),
    "qwen3-defaults": dict(
        what="Qwen3 with numbers left out: heads of 128, epsilon, theta, positions, biases",
        config={"text.model_type": "qwen3", "text.rms_norm_eps": MISSING, "text.rope_theta": MISSING, "text.hidden_act": MISSING, "text.max_position_embeddings": MISSING},
        images=[(20, 31)], prompt="Which row?",
    ),
    "llama-two-images": dict(
        what="Llama (which InternLM2 becomes in this form), untied, no biases in the tower's attention, two images; names of transformers 4.52",
        config={"text.model_type": "llama", "vision.attention_bias": False, "@names": "old", "@dtype": "f32"},
        images=[(30, 44), (61, 17)], prompt="Which image is blue?",
    ),
    "rms-qk-norm": dict(
        what="RMS norms, queries and keys normed, an epsilon of the layers' norms that the norms of queries and keys do not take; tied; settings in processor_config.json",
        config={"vision.norm_type": "rms_norm", "vision.use_qk_norm": True, "vision.layer_norm_eps": 1e-3, "tie_word_embeddings": True, "@dtype": "f16", "@file": "processor_config.json"},
        images=[(33, 26)], prompt="Read all text.",
    ),
    "three-images-placed": dict(
        what="Three images where the prompt says <image>, one tile each, the last of them at its end; three shards",
        config={"@image": {"max_patches": 1}, "@shards": 3}, images=[(24, 24), (9, 40), (50, 31)], prompt="First <image>, then <image> and at last<image>",
    ),
    "dynamic": dict(
        what="A prompt longer than the positions that the model was trained for, which dynamic NTK scaling stretches; Llama",
        config={"text.model_type": "llama", "text.max_position_embeddings": 16, "text.rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "text.num_hidden_layers": 2},
        images=[(20, 60)], prompt="Read.",
    ),
    "dynamic-grows": dict(
        what="The answer grows past the trained positions; Qwen2",
        config={"text.max_position_embeddings": 32, "text.rope_scaling": {"type": "dynamic", "factor": 4.0}}, images=[(16, 16)], prompt="Read all the text in the picture, please.",
    ),
    "layer-1": dict(
        what="The state after the first of three layers; a last norm that is not asked for",
        config={"vision.num_hidden_layers": 3, "vision_feature_layer": 1, "vision.use_mean_pooling": False}, images=[(20, 31)], prompt="Which row?",
    ),
    "last-norm": dict(what="The last layer's state with a last norm", config={"vision.use_mean_pooling": False, "vision.layer_norm_eps": 1e-2}, images=[(20, 31)], prompt="Which row?"),
    "no-downsampling": dict(
        what="A row for each patch; a patch that does not divide the tile: its last pixels are not seen",
        config={"vision.image_size": 17, "vision.patch_size": 5, "downsample_ratio": 1.0, "image_seq_length": 9, "@image": {"max_patches": 2}}, images=[(41, 55)], prompt="Count.",
    ),
    "quarter": dict(
        what="A row of 4 x 4 patches; min_patches, quick_gelu in the projector, another activation in the tower",
        config={"downsample_ratio": 0.25, "image_seq_length": 1, "projector_hidden_act": "quick_gelu", "vision.hidden_act": "gelu_pytorch_tanh", "@image": {"min_patches": 3, "max_patches": 6}},
        images=[(10, 12)], prompt="Count.",
    ),
    "text-only-system": dict(what="No image, a system message", config={}, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "bilinear": dict(
        what="Another filter, means, deviations and factor", images=[(30, 50)], prompt="Which row?",
        config={"@image": {"max_patches": 3, "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "rescale_factor": 0.004}},
    ),
    "defaults": dict(
        what="Numbers left out: tied, downsampling, layer, strategy, norm, epsilons, theta (10000), activations, patches, max_patches",
        config={
            "tie_word_embeddings": MISSING, "downsample_ratio": MISSING, "vision.patch_size": MISSING, "vision.image_size": 28, "image_seq_length": 1,
            "vision.hidden_act": MISSING, "vision.attention_bias": MISSING, "text.rms_norm_eps": MISSING, "text.rope_theta": MISSING,
            "text.hidden_act": MISSING, "text.max_position_embeddings": MISSING, "text.model_type": MISSING, "@image": {},
        },
        images=[(50, 90)], prompt="Which row?",
    ),
}  # fmt: skip


def nested(options):
    config = {"architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl"}
    config |= {"dtype": HUB_DTYPE[options["@dtype"]], "transformers_version": "5.17.0"}
    config |= {"text_config": {}, "vision_config": {"model_type": "internvl_vision"}}
    outer, text, vision = toys.split(options)
    config["text_config"] |= text
    config["vision_config"] |= vision
    return config | outer


def rename(name, style):
    """From the names modules have in transformers 5.17 to those of a checkpoint."""
    if style == "old":
        name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
        name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
        name = re.sub(r"^model\.", "", name)
    return name


def checkpoint(folder, options, seed, demo):
    model = toys.fresh(folder, nested(options), InternVLForConditionalGeneration, InternVLConfig)
    weights(model, seed, ("norm", "lambda"), ("embed_tokens", "cls_token", "position_embeddings"))
    save(folder, model, rename, options)
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer(folder, demo, SPECIAL, FIRST, extra_special_tokens=named, **named)
    (folder / "chat_template.jinja").write_text(TEMPLATE)

    side = model.config.vision_config.image_size[0]
    image = {
        "image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": False, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "size": {"height": side, "width": side}, **options["@image"],
    }  # fmt: skip
    processor = {"processor_class": "InternVLProcessor", "image_seq_length": model.config.image_seq_length}
    if options["@file"] == "processor_config.json":
        processor |= {"image_processor": image, "video_processor": {"video_processor_type": "InternVLVideoProcessor", "size": image["size"]}}
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps({**image, "processor_class": "InternVLProcessor"}, indent=2) + "\n")
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    generation = {"eos_token_id": [488, 486], "pad_token_id": 486, "transformers_version": "5.17.0"}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record.record, ["<IMG_CONTEXT>", "<img>", "</img>"])
