"""Runs a checkpoint folder of the Qwen-VL families with transformers (eager, CPU, float64) and returns every stage.

The checkpoint is loaded as float32 and then doubled. transformers keeps parts in float32 all the same: the RMS norms'
inside, both softmaxes, both rotary tables, and the whole rotation of the vision tower's queries and keys.
"""
from itertools import zip_longest

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from transformers.models.qwen2_vl import modeling_qwen2_vl

from record import Stages, bundle, clip, decoder, read
from record import run as watched_run


def load(folder, model_class):
    # The classes keep what the last min_pixels and max_pixels said as the default of the next.
    Qwen2VLImageProcessor.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
    Qwen2VLVideoProcessor.size = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
    model, info = model_class.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return model.double().eval(), AutoProcessor.from_pretrained(folder), info


def messages(prompt, system, images, film=False):
    """Images come first, or in the places of "<image>"; a film comes first."""
    pieces = prompt.split("<image>")
    parts = [{"type": "video"}] if film else [{"type": "image"}] * (images if len(pieces) == 1 else 0)
    places = [{"type": "image"}] * (len(pieces) - 1)
    for piece, place in zip_longest(pieces, places):
        parts += [{"type": "text", "text": piece}] * bool(piece) + ([place] if place else [])
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system is not None else []
    return first + [{"role": "user", "content": parts}]


class PatchStages(Stages):
    def __init__(self, model, module, attention):
        self.text, tower = model.model.language_model, model.model.visual
        super().__init__(self.text, module, attention)
        for i, layer in enumerate(tower.blocks):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(tower.merger, "vision.features", before=True)
        rotary = lambda m, args, kwargs: self.put("input.positions", (list(args) + list(kwargs.values()))[1])
        self.handles.append(self.text.rotary_emb.register_forward_pre_hook(rotary, with_kwargs=True))


class Qwen2VLStages(PatchStages):
    def __init__(self, model):
        super().__init__(model, modeling_qwen2_vl, modeling_qwen2_vl.Qwen2VLAttention)


@torch.no_grad()
def run(model, inputs, tokens):
    """As of the other families, and held against `generate`."""
    seen, logits, ids = watched_run(model, inputs, tokens, Qwen2VLStages)
    given = {k: v.double() if k.startswith("pixel_values") else v for k, v in inputs.items()}
    whole = model.generate(**given, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, eos_token_id=None)
    assert whole[0, given["input_ids"].shape[1] :].tolist() == ids, "generate says otherwise"
    return seen, logits, ids


def recorder(family, model_class, stages, run=None):
    """The function that records a prompt of a family: returns (rendered, expanded text, tensors, metadata, facts)."""

    @torch.no_grad()
    def record(folder, prompt, system, image_files, tokens=16, steps=2, film=False, fps=None, choose=None):
        model, processor, info = load(folder, model_class)
        images = [Image.open(f) for f in image_files]
        rendered = processor.apply_chat_template(messages(prompt, system, len(images), film), add_generation_prompt=True, tokenize=False)
        given = clip(images, fps, choose) if film else {"images": images} if images else {}
        inputs = processor(text=[rendered], return_tensors="pt", **given)
        seen, logits, ids = run(model, inputs, tokens) if run else watched_run(model, inputs, tokens, stages)
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
                if name.startswith(("vision.", "projector.")):
                    keep[name] = tensor.numpy().astype(np.float32)
            keep["projector.out"] = seen["decoder.embed"][0][torch.from_numpy(visual)].numpy().astype(np.float32)
        decoder(keep, seen, logits, steps)
        return bundle(family, rendered, text, keep, logits, visual, image_files, info, "torchvision" if images else "")

    return record


record = recorder("qwen2_vl", Qwen2VLForConditionalGeneration, Qwen2VLStages, run)
