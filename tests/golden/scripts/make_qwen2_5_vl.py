"""Makes tests/golden/qwen2_5_vl/: tiny random Qwen2.5-VL checkpoints and what transformers makes of them.

Usage: make_qwen2_5_vl.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
Made by transformers 5.24.0, torch 2.15.0, torchvision 0.29.2, Pillow 13.0.0. Images only: no version's slip is on their path
(up to 5.4, positions of still images were scaled as those of videos).
"""
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

import toys
from make_qwen2_vl import END, IMAGE, SPECIAL, START, TEMPLATE, VIDEO, rename
from record import Stages, bundle, decoder, read
from record import run as watched_run
from record_qwen2_vl import clip, messages
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
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
    text, vision = {}, {}
    for key, value in options.items():
        if key.startswith("@") or value is MISSING:
            continue
        where, name = (text, key[5:]) if key.startswith("text.") else (vision, key[7:]) if key.startswith("vision.") else (config, key)
        where[name] = value
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
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(nested(options), indent=2) + "\n")
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder))
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


class WindowStages(Stages):
    def __init__(self, model):
        text, tower = model.model.language_model, model.model.visual
        super().__init__(text, modeling_qwen2_5_vl, modeling_qwen2_5_vl.Qwen2_5_VLAttention)
        for i, layer in enumerate(tower.blocks):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(tower.merger, "vision.features", before=True)
        rotary = lambda m, args, kwargs: self.put("input.positions", (list(args) + list(kwargs.values()))[1])
        self.handles.append(text.rotary_emb.register_forward_pre_hook(rotary, with_kwargs=True))


@torch.no_grad()
def record(folder, prompt, system, image_files, tokens=16, steps=2, film=False, fps=None):
    Qwen2VLImageProcessor.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}  # the class keeps the last limits
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model, processor = model.double().eval(), AutoProcessor.from_pretrained(folder)
    images = [Image.open(f) for f in image_files]
    rendered = processor.apply_chat_template(messages(prompt, system, len(images), film), add_generation_prompt=True, tokenize=False)
    given = {**clip(images, fps)} if film else {"images": images} if images else {}
    inputs = processor(text=[rendered], return_tensors="pt", **given)
    seen, logits, ids = watched_run(model, inputs, tokens, WindowStages)
    n, visual, text = read(folder, processor, inputs, model.config)
    keep = {
        "input.ids": inputs["input_ids"][0].numpy(), "input.roles": visual.astype(np.uint8), "input.positions": seen["input.positions"][-3:, 0].numpy(), "output.ids": np.array(ids),
    }  # fmt: skip
    assert keep["input.positions"].shape == (3, n)
    if images:
        keep["input.pixels"] = inputs["pixel_values_videos" if film else "pixel_values"].numpy()
        keep["input.grid"] = inputs["video_grid_thw" if film else "image_grid_thw"].numpy()
        keep["input.sizes"] = np.array([[im.height, im.width] for im in images[: 1 if film else None]])
        for name, tensor in seen.items():
            if name.startswith("vision."):
                keep[name] = tensor.numpy().astype(np.float32)
        keep["projector.out"] = seen["decoder.embed"][0][torch.from_numpy(visual)].numpy().astype(np.float32)
    decoder(keep, seen, logits, steps)
    return bundle("qwen2_5_vl", rendered, text, keep, logits, visual, image_files, info, "torchvision" if images else "")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record, "<|image_pad|>")
