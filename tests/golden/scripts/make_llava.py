"""Makes tests/golden/llava/: tiny random LLaVA-OneVision checkpoints and what transformers makes of them.

Usage: make_llava.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives tokenizer and chat template)
"""
import json
import pathlib
import re
import shutil

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

import record
import toys
from toys import DTYPE, HUB_DTYPE, MISSING, save, weights

HERE = pathlib.Path(__file__).parent.parent / "llava"


def grids(tile, most, side):
    return [[tile * a, tile * b] for a in range(1, side + 1) for b in range(1, side + 1) if a * b <= most]


# ---------------------------------------------------------------- the cases
# config keys are paths; "@..." are ours: dtype, names, config form, processor form, template place, shards, video processor
BASE = {
    "text.hidden_size": 32, "text.intermediate_size": 48, "text.num_hidden_layers": 2,
    "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "text.hidden_act": "silu",
    "text.max_position_embeddings": 2048, "text.rms_norm_eps": 1e-6, "text.tie_word_embeddings": True,
    "text.vocab_size": 496, "text.bos_token_id": 486, "text.eos_token_id": 488,
    "text.use_sliding_window": False, "text.max_window_layers": 2,
    "vision.hidden_size": 32, "vision.intermediate_size": 40, "vision.num_hidden_layers": 2,
    "vision.num_attention_heads": 2, "vision.num_channels": 3, "vision.image_size": 24, "vision.patch_size": 8,
    "vision.hidden_act": "gelu_pytorch_tanh", "vision.layer_norm_eps": 1e-6, "vision.vision_use_head": False,
    "image_token_index": 489, "video_token_index": 490, "projector_hidden_act": "gelu",
    "multimodal_projector_bias": True, "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
    "vision_aspect_ratio": "anyres_max_9", "image_grid_pinpoints": grids(24, 4, 4), "tie_word_embeddings": False,
    "@theta": 10000.0, "@dtype": "bf16", "@names": "saved5", "@form": "5", "@processor": "processor_config",
    "@template": "chat_template.jinja", "@shards": 1, "@mean": [0.5, 0.5, 0.5], "@std": [0.5, 0.5, 0.5],
}
FORM4 = {"@form": "4", "@names": "hub4", "@processor": "preprocessor_config", "@template": "chat_template.json", "@theta": 1000000.0}
SMALL = {  # where the decoder is not the point
    "text.hidden_size": 16, "text.intermediate_size": 24, "text.num_attention_heads": 2, "text.num_key_value_heads": 1,
    "vision.hidden_size": 16, "vision.intermediate_size": 24, "vision.num_hidden_layers": 1,
}
CLIP = {"@mean": [0.48145466, 0.4578275, 0.40821073], "@std": [0.26862954, 0.26130258, 0.27577711]}

VIDEO_SETTINGS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "size": {"height": 24, "width": 24}}  # for make_video.py

CASES = {
    "hub4-gqa-tied-bf16": dict(
        what="The folder as the hub's 4.x checkpoints lie: old names, rope_theta on top, torch_dtype, tied by text_config only, "
        "patch size that does not divide the tile (28 = 3 x 8 + 4), as 384 and 14 do",
        config={**FORM4, "vision.image_size": 28, "image_grid_pinpoints": grids(28, 4, 3)},
        images=[(50, 70)], prompt="What is the value of Age?",
    ),
    "mqa-f32": dict(
        what="1 KV head, float32 weights, separate head", config={"@dtype": "f32", "text.hidden_size": 24, "text.intermediate_size": 32, "text.num_key_value_heads": 1, "text.tie_word_embeddings": False},
        images=[(31, 47)], prompt="Read the image carefully. What's in the 2nd row?",
    ),
    "mha-untied-f16": dict(
        what="As many KV heads as heads, separate head, float16, names as transformers 4.52 to 4.57 wrote them, template in tokenizer_config.json",
        config={"@dtype": "f16", "@names": "saved452", "text.num_key_value_heads": 4, "text.tie_word_embeddings": False, "@template": "tokenizer_config.json"},
        images=[(60, 40)], prompt="Which field has value 17?",
    ),
    "two-images-bf16": dict(
        what="Two images in one prompt, neither square: padded with the mean colour, not tiled; unequal means; a pooling head that is stored and unused",
        config={**FORM4, **CLIP, "vision.vision_use_head": MISSING}, images=[(20, 37), (41, 9)], prompt="Which image is blue?",
    ),
    "three-images-square": dict(
        what="Three images, one of them square and of the tile's own size (neither padded nor resized)", config={**SMALL, **CLIP},
        images=[(24, 24), (13, 13), (40, 80)], prompt="Count the boxes.",
    ),
    "shrink-anyres-max-2": dict(
        what="More tiles than anyres_max_2 allows: the bilinear shrink acts (ratio > 1.1)",
        config={"vision_aspect_ratio": "anyres_max_2", "image_grid_pinpoints": grids(24, 9, 3)}, images=[(71, 66)], prompt="Read all text.",
    ),
    "shrink-wide": dict(
        what="The bilinear shrink on a wide, unpadded grid, 4.x form", config={**SMALL, **FORM4, "vision_aspect_ratio": "anyres_max_1", "image_grid_pinpoints": grids(24, 6, 4)},
        images=[(40, 95)], prompt="Read all text.",
    ),
    "no-shrink-at-limit": dict(
        what="More tiles than anyres_max_1, but the unpadded grid of 10 x 3 gives ratio 1.095 <= 1.1: no shrink", config={**SMALL, "vision_aspect_ratio": "anyres_max_1", "vision.image_size": 40, "image_grid_pinpoints": grids(40, 4, 2)},
        images=[(80, 24)], prompt="Read all text.",
    ),
    "tall": dict(what="Tall and narrow: unpadding cuts columns", config=SMALL, images=[(190, 21)], prompt="What does it say?"),
    "wide": dict(what="Wide and flat: unpadding cuts rows", config=SMALL, images=[(17, 170)], prompt="What does it say?"),
    "wide-no-rows": dict(
        what="So flat that unpadding leaves no row: only the base tile's tokens remain", config={**SMALL, "vision.image_size": 32, "image_grid_pinpoints": grids(32, 4, 4)}, images=[(1, 150)], prompt="What does it say?",
    ),
    "tiny-5x3": dict(what="A tiny image, upscaled into the grid", config=SMALL, images=[(5, 3)], prompt="What color is it?"),
    "one-pixel": dict(what="One pixel", config=SMALL, images=[(1, 1)], prompt="What color is it?"),
    "exact-fit": dict(what="An image of exactly the size of a grid: no resize for the tiles, downscale for the base", config={**SMALL, **CLIP}, images=[(24, 48)], prompt="What color is it?"),
    "feature-layer-minus2": dict(what="vision_feature_layer -2: before the last layer", config={"vision_feature_layer": -2, "vision.num_hidden_layers": 3}, images=[(30, 30)], prompt="Count."),
    "feature-layer-1": dict(what="vision_feature_layer 1: after one layer (0 would be the embeddings)", config={"vision_feature_layer": 1, "vision.num_hidden_layers": 3}, images=[(30, 30)], prompt="Count."),
    "feature-layers-list": dict(what="vision_feature_layer [-1, -2]: concatenated in this order", config={"vision_feature_layer": [-1, -2]}, images=[(30, 30)], prompt="Count."),
    "feature-layers-0-and-last": dict(what="vision_feature_layer [0, -1]: embeddings, then the last layer", config={"vision_feature_layer": [0, -1]}, images=[(30, 30)], prompt="Count."),
    "select-default-two-images": dict(
        what="Select strategy 'default' (drops each tile's first token), which transformers only accepts for several images",
        config={**SMALL, "vision_feature_select_strategy": "default"}, images=[(20, 20), (30, 20)], prompt="Count.",
    ),
    "sharded": dict(
        what="Three shards with an index, names as modules have them now, image_token_id in the config",
        config={"@names": "state5", "@shards": 3, "@form": "5id"}, images=[(33, 26)], prompt="What is the total?",
    ),
    "text-only": dict(what="No image", config=SMALL, images=[], prompt="You are a helpful assistant. What is 2 + 2?\nAnswer only."),
    "text-only-system": dict(what="No image, a system message", config={**SMALL, **FORM4, "@video": VIDEO_SETTINGS}, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "system": dict(what="A system message before the image", config=SMALL, images=[(25, 30)], system="You are a helpful document reader.\nAnswer shortly.", prompt="Which row?"),
    "head-dim-12": dict(what="head_dim given, not hidden size / heads", config={"text.head_dim": 12}, images=[(30, 22)], prompt="Which row?"),
    "no-projector-bias": dict(what="Projector without bias, exact gelu replaced by relu", config={**SMALL, "multimodal_projector_bias": False, "projector_hidden_act": "relu"}, images=[(30, 22)], prompt="Which row?"),
    "defaults": dict(
        what="Numbers left out: heads and KV heads (32), rms_norm_eps, rope (theta 10000), max_position_embeddings, activations, "
        "vision heads (12), patch size (16), channels, layer_norm_eps, feature layer, strategy, aspect ratio, projector bias, act",
        config={
            "text.hidden_size": 64, "text.num_attention_heads": MISSING, "text.num_key_value_heads": MISSING, "text.hidden_act": MISSING,
            "text.rms_norm_eps": MISSING, "text.max_position_embeddings": MISSING, "text.use_sliding_window": MISSING, "text.max_window_layers": MISSING,
            "@theta": MISSING, "vision.hidden_size": 24, "vision.num_attention_heads": MISSING, "vision.patch_size": MISSING, "vision.image_size": 48,
            "vision.num_channels": MISSING, "vision.hidden_act": MISSING, "vision.layer_norm_eps": MISSING, "vision.vision_use_head": MISSING,
            "vision.num_hidden_layers": 1, "text.num_hidden_layers": 1, "vision_feature_layer": MISSING, "vision_feature_select_strategy": MISSING, "vision_aspect_ratio": MISSING,
            "multimodal_projector_bias": MISSING, "projector_hidden_act": MISSING, "image_grid_pinpoints": grids(48, 2, 2), "tie_word_embeddings": MISSING,
        },
        images=[(40, 55)], prompt="Which row?",
    ),
    "tied-config-stored-head": dict(
        what="The config says tied, the file holds another head: transformers 5 takes the stored one",
        config={**SMALL, "@stored_head": True}, images=[(30, 22)], prompt="Which row?",
    ),
    "kv-heads-null": dict(what="num_key_value_heads null: as many as heads; tied by the top level only", config={**SMALL, "text.num_key_value_heads": None, "tie_word_embeddings": True, "text.tie_word_embeddings": False}, images=[(30, 22)], prompt="Which row?"),
    "eps-and-theta": dict(
        what="Unusual numbers: rms_norm_eps 1e-2, layer_norm_eps 1e-1, theta 500, 4.x form", images=[(30, 22)], prompt="Which row?",
        config={**SMALL, **FORM4, "text.rms_norm_eps": 1e-2, "vision.layer_norm_eps": 1e-1, "@theta": 500.0},
    ),
}

# ---------------------------------------------------------------- making a checkpoint


def nested(options):
    config, text, vision = toys.split(options)
    config = {"architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision"} | config
    text, vision = {"model_type": "qwen2"} | text, {"model_type": "siglip_vision_model"} | vision
    theta, form = options["@theta"], options["@form"]
    dtype = HUB_DTYPE[options["@dtype"]]
    if form == "4":
        config["torch_dtype"] = text["torch_dtype"] = dtype
        config["transformers_version"] = "4.45.0.dev0"
        config["ignore_index"] = -100
        config["use_image_newline_parameter"] = True
        text.update({"_name_or_path": "Qwen/Qwen2-0.5B-Instruct", "rope_theta": theta, "sliding_window": 32768, "use_cache": True})
    else:
        config["dtype"] = dtype
        config["transformers_version"] = "5.17.0"
        if theta is not MISSING:
            text["rope_parameters"] = {"rope_theta": theta, "rope_type": "default"}
        text["sliding_window"] = None
        if form == "5id":
            config["image_token_id"] = config.pop("image_token_index")
            config["video_token_id"] = config.pop("video_token_index")
    return {**config, "text_config": text, "vision_config": vision}


def rename(name, style):
    """From the names modules have in transformers 5.17 to those of a checkpoint."""
    if style in ("hub4", "saved452"):
        name = name.replace("model.vision_tower.", "model.vision_tower.vision_model.")
    if style in ("hub4", "saved5"):
        name = re.sub(r"^lm_head", "language_model.lm_head", name)
        name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
        name = re.sub(r"^model\.", "", name)
    return name


def checkpoint(folder, options, seed, demo):
    config = nested(options)
    model = toys.fresh(folder, config, LlavaOnevisionForConditionalGeneration, LlavaOnevisionConfig)
    weights(model, seed, ("norm",), ("embed_tokens", "image_newline", "probe", "position_embedding"))
    more = {}
    if options.get("@stored_head"):
        head = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(seed + 1))
        more[rename("lm_head.weight", options["@names"])] = head.to(DTYPE[options["@dtype"]])
    save(folder, model, rename, options, more)

    # tokenizer, template, processor
    shutil.copy(demo / "tokenizer.json", folder)
    template = (demo / "chat_template.jinja").read_text()
    tokenizer = json.loads((demo / "tokenizer_config.json").read_text())
    tokenizer.pop("chat_template", None)
    if options["@form"] == "4":
        tokenizer = {
            "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                                     for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"], 486)},
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None, "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 32768, "pad_token": "<|endoftext|>",
            "processor_class": "LlavaOnevisionProcessor", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
        }  # fmt: skip
        template = re.sub(r"\{% (end)?generation %\}", "", template)
    place = options["@template"]
    if place == "chat_template.jinja":
        (folder / place).write_text(template)
    elif place == "chat_template.json":
        (folder / place).write_text(json.dumps({"chat_template": template}, indent=2) + "\n")
    else:
        tokenizer["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n")
    tile, patch = config["vision_config"].get("image_size", 224), config["vision_config"].get("patch_size", 16)
    image = {
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
        "image_grid_pinpoints": config["image_grid_pinpoints"], "image_mean": options["@mean"], "image_processor_type": "LlavaOnevisionImageProcessor",
        "image_std": options["@std"], "resample": 3, "rescale_factor": 1 / 255, "size": {"height": tile, "width": tile},
    }  # fmt: skip
    processor = {
        "image_token": "<image>", "num_image_tokens": (tile // patch) ** 2, "processor_class": "LlavaOnevisionProcessor",
        "video_token": "<video>", "vision_feature_select_strategy": options["vision_feature_select_strategy"],
    }  # fmt: skip
    if options["vision_aspect_ratio"] is not MISSING:
        processor["vision_aspect_ratio"] = options["vision_aspect_ratio"]
    if processor["vision_feature_select_strategy"] is MISSING:
        processor["vision_feature_select_strategy"] = "full"
    if options["@processor"] == "processor_config":
        processor["image_processor"] = image
        video = {k: v for k, v in image.items() if k not in ("do_pad", "image_grid_pinpoints", "image_processor_type")}
        processor["video_processor"] = {**video, "do_sample_frames": False, "video_processor_type": "LlavaOnevisionVideoProcessor"}
    else:  # two files, as on the hub
        (folder / "preprocessor_config.json").write_text(json.dumps({**image, "processor_class": "LlavaOnevisionProcessor"}, indent=2) + "\n")
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    if "@video" in options:
        (folder / "video_preprocessor_config.json").write_text(json.dumps(options["@video"], indent=2) + "\n")
    generation = {"bos_token_id": 486, "do_sample": False, "eos_token_id": [488, 486] if options["@form"] != "4" else 488, "pad_token_id": 486}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record.record, "<image>")
