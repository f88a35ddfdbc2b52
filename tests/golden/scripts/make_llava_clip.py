"""Makes tests/golden/llava_clip/: tiny random checkpoints of LLaVA-1.5 and LLaVA-NeXT and what transformers makes of them.

Usage: make_llava_clip.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
Made by transformers 5.24.0, torch 2.15.0, torchvision 0.29.2, Pillow 13.0.0.
"""
import json
import pathlib
import re

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaNextConfig, LlavaNextForConditionalGeneration,
)  # fmt: skip
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2

import toys
from record import Stages, bundle, decoder, needed_layers, prepare, read
from record import run as watched_run
from toys import HUB_DTYPE, MISSING, save, tokenizer, weights

HERE = pathlib.Path(__file__).parent.parent / "llava_clip"
SPECIAL, FIRST, IMAGE = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"], 486, 489
# What the hub's checkpoints write: images first, then text.
VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' }}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}{{' [/INST]' }}{% endif %}{% endfor %}"
)
BASE = {
    "model_type": "llava", "text.model_type": "llama", "text.hidden_size": 24, "text.intermediate_size": 32, "text.num_hidden_layers": 1,
    "text.num_attention_heads": 2, "text.num_key_value_heads": 2, "text.max_position_embeddings": 4096, "text.rms_norm_eps": 1e-5, "text.vocab_size": 496,
    "vision.model_type": "clip_vision_model", "vision.hidden_size": 16, "vision.num_hidden_layers": 3, "vision.num_attention_heads": 2,
    "vision.intermediate_size": 24, "vision.image_size": 16, "vision.patch_size": 4, "vision.projection_dim": 16,
    "image_token_index": IMAGE, "image_seq_length": 16, "ignore_index": -100, "projector_hidden_act": "gelu",
    "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "tie_word_embeddings": False,
    "@dtype": "f16", "@names": "hub", "@shards": 1, "@template": VICUNA, "@image": {}, "@processor": {"patch_size": 4, "num_additional_image_tokens": 1},
}  # fmt: skip
NEXT = {
    "model_type": "llava_next", "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]], "use_image_newline_parameter": True,
    "@template": MISTRAL, "@dtype": "bf16",
}  # fmt: skip
POLICIES = {"text.num_hidden_layers": 3, "text.num_attention_heads": 4, "text.num_key_value_heads": 2, "text.hidden_size": 32}
CASES = {
    "vicuna-f16": dict(
        what="LLaVA-1.5 as the hub's lies: Llama, the class token dropped, the state before the last layer, the square in the middle",
        config={}, images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "full-two-layers": dict(
        what="LLaVA-1.5: two images, the class token a row, two states, no biases in the projector, tied, exact GELU in the tower; names as modules have them",
        config={"vision_feature_select_strategy": "full", "vision_feature_layer": [-1, 1], "multimodal_projector_bias": False, "tie_word_embeddings": True, "vision.hidden_act": "gelu", "@dtype": "f32", "@names": "modules"},
        images=[(30, 44), (61, 17)], prompt="Which image is blue?",
    ),
    "zeros-around": dict(
        what="LLaVA-1.5: a shortest side below the square's: zeros around; Mistral; another filter, means and factor",
        config={"text.model_type": "mistral", "text.sliding_window": None, "text.num_key_value_heads": 1, "@dtype": "bf16", "@image": {"size": {"shortest_edge": 11}, "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "rescale_factor": 0.004}},
        images=[(25, 20)], prompt="Read all text.",
    ),
    "squeezed": dict(
        what="LLaVA-1.5: the whole image squeezed, no cutting; Qwen2; fields left out: strategy, layer, activations, epsilon",
        config={
            "text.model_type": "qwen2", "vision_feature_layer": MISSING, "vision_feature_select_strategy": MISSING, "projector_hidden_act": MISSING,
            "text.rms_norm_eps": MISSING, "@image": {"size": {"height": 16, "width": 16}, "do_center_crop": False},
        },
        images=[(50, 31)], prompt="Count.",
    ),
    "text-only-system": dict(what="No image, a system message", config={}, images=[], system="You read documents.", prompt="Hello ✓ ünï"),
    "next-mistral-bf16": dict(
        what="LLaVA-NeXT as the hub's lies: Mistral with a wide window, anyres, unpad and newlines, no shrinking; three layers of 4 heads over 2 KV heads, for the policies",
        config={**NEXT, **POLICIES, "text.model_type": "mistral", "text.sliding_window": None}, images=[(40, 56)], prompt="What is the value of Age?",
    ),
    "next-two-images": dict(
        what="LLaVA-NeXT with Vicuna: two images, both tiled, one with fewer tiles; three shards",
        config={**NEXT, "@template": VICUNA, "@dtype": "f16", "@shards": 3}, images=[(15, 50), (61, 47)], prompt="Which image is blue?",
    ),
    "next-many-tiles": dict(
        what="LLaVA-NeXT: more tiles than OneVision would keep; a patch that does not divide the tile; layer list; sliding_window as wide as the positions",
        config={**NEXT, "text.model_type": "mistral", "text.sliding_window": 4096, "vision.image_size": 17, "vision.patch_size": 5, "image_grid_pinpoints": [[85, 68], [17, 34]], "vision_feature_layer": [1, 2], "@dtype": "f32", "@names": "modules", "@processor": {"patch_size": 5, "num_additional_image_tokens": 1}},
        images=[(90, 70)], prompt="Read.",
    ),
    "next-thin": dict(what="LLaVA-NeXT: 40 times as wide as high", config=NEXT, images=[(2, 80)], prompt="What does it say?"),
}  # fmt: skip


def nested(options):
    config = {"architectures": ["LlavaForConditionalGeneration" if options["model_type"] == "llava" else "LlavaNextForConditionalGeneration"]}
    config |= {"torch_dtype": HUB_DTYPE[options["@dtype"]], "transformers_version": "4.36.0", "text_config": {}, "vision_config": {}}
    outer, text, vision = toys.split(options)
    config["text_config"] |= text
    config["vision_config"] |= vision
    return config | outer


def rename(name, style):
    """From the names modules have in transformers 5 to those of a checkpoint."""
    if style == "hub":
        name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
        name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
        name = re.sub(r"^model\.vision_tower\.", "vision_tower.vision_model.", name)
        name = re.sub(r"^model\.", "", name)
    return name


def checkpoint(folder, options, seed, demo):
    following = options["model_type"] == "llava_next"
    made = (LlavaNextForConditionalGeneration, LlavaNextConfig) if following else (LlavaForConditionalGeneration, LlavaConfig)
    model = toys.fresh(folder, nested(options), *made)
    weights(model, seed, ("norm", "layrnorm"), ("embed_tokens", "class_embedding", "position_embedding", "image_newline"))
    save(folder, model, rename, options)
    tokenizer(folder, demo, SPECIAL, FIRST)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": options["@template"]}) + "\n")
    side = model.config.vision_config.image_size
    image = {
        "image_processor_type": "LlavaNextImageProcessor" if following else "CLIPImageProcessor", "crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side},
        "do_center_crop": True, "do_resize": True, "do_normalize": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "LlavaNextProcessor" if following else "LlavaProcessor", **options["@image"],
    }  # fmt: skip
    if following:
        image["image_grid_pinpoints"] = model.config.image_grid_pinpoints
    (folder / "preprocessor_config.json").write_text(json.dumps(image, indent=2) + "\n")
    strategy = model.config.vision_feature_select_strategy
    processor = {"image_token": "<image>", "processor_class": image["processor_class"], "vision_feature_select_strategy": strategy, **options["@processor"]}
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 488, "pad_token_id": 486}) + "\n")


DECODERS = {
    "llama": (modeling_llama, modeling_llama.LlamaAttention),
    "mistral": (modeling_mistral, modeling_mistral.MistralAttention),
    "qwen2": (modeling_qwen2, modeling_qwen2.Qwen2Attention),
}


class ClipStages(Stages):
    def __init__(self, model):
        super().__init__(model.model.language_model, *DECODERS[model.config.text_config.model_type])
        tower = model.model.vision_tower
        for i, layer in enumerate(tower.encoder.layers):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(tower.encoder.layers[0], "vision.embed", before=True)
        self.hook(model.model.multi_modal_projector, "vision.features", before=True)


@torch.no_grad()
def record(folder, prompt, system, image_files, tokens=16, steps=2):
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    cls = LlavaForConditionalGeneration if kind == "llava" else LlavaNextForConditionalGeneration
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model, processor = model.double().eval(), AutoProcessor.from_pretrained(folder)
    images = [Image.open(f) for f in image_files]
    rendered, inputs = prepare(processor, prompt, system, images)
    seen, logits, ids = watched_run(model, inputs, tokens, ClipStages)
    config = model.config
    n, visual, text = read(folder, processor, inputs, config)
    keep = {
        "input.ids": inputs["input_ids"][0].numpy(), "input.roles": visual.astype(np.uint8), "input.positions": np.arange(n), "output.ids": np.array(ids),
    }  # fmt: skip
    if images:
        keep["input.pixels"] = inputs["pixel_values"].numpy()
        keep["input.sizes"] = np.array([[im.height, im.width] for im in images])
        depth, states = needed_layers(config)
        hidden = [seen["vision.embed"]] + [seen[f"vision.{i:02}.out"] for i in range(config.vision_config.num_hidden_layers)]
        features = torch.cat([hidden[k] for k in states], -1)
        features = features[:, 1:] if config.vision_feature_select_strategy == "default" else features
        assert torch.equal(features, seen["vision.features"]), "hidden state numbering"
        for i in range(depth):
            keep[f"vision.{i:02}.out"] = seen[f"vision.{i:02}.out"].numpy().astype(np.float32)
        keep["vision.features"] = seen["vision.features"].numpy().astype(np.float32)
        keep["projector.out"] = seen["decoder.embed"][0][torch.from_numpy(visual)].numpy().astype(np.float32)
    decoder(keep, seen, logits, steps)
    return bundle(kind, rendered, text, keep, logits, visual, image_files, info, "torchvision" if images else "")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record, "<image>")
