"""Runs a Qwen2-VL checkpoint folder with transformers (eager, CPU, float64) and returns every stage.

The checkpoint is loaded as float32 and then doubled. transformers keeps parts in float32 all the same: the RMS norms'
inside, both softmaxes, both rotary tables, and the whole rotation of the vision tower's queries and keys.
"""
from itertools import zip_longest

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from transformers.models.qwen2_vl import modeling_qwen2_vl

from record import Stages, bundle, decoder, frames, read
from record import run as watched_run


def load(folder):
    # The classes keep what the last min_pixels and max_pixels said as the default of the next.
    Qwen2VLImageProcessor.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
    Qwen2VLVideoProcessor.size = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
    model, info = Qwen2VLForConditionalGeneration.from_pretrained(
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


def clip(images, fps):
    """What a processor takes as a video of these frames, every one of which is read."""
    metadata = {"total_num_frames": len(images), "fps": fps, "frames_indices": list(range(len(images)))}
    return {**frames(images), "do_sample_frames": False, **({"video_metadata": [metadata]} if fps else {})}


class Qwen2VLStages(Stages):
    def __init__(self, model):
        text, tower = model.model.language_model, model.model.visual
        super().__init__(text, modeling_qwen2_vl, modeling_qwen2_vl.Qwen2VLAttention)
        for i, layer in enumerate(tower.blocks):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(tower.merger, "vision.features", before=True)
        self.hook(tower.merger, "projector.out")
        rotary = lambda m, args, kwargs: self.put("input.positions", (list(args) + list(kwargs.values()))[1])
        self.handles.append(text.rotary_emb.register_forward_pre_hook(rotary, with_kwargs=True))


@torch.no_grad()
def run(model, inputs, tokens):
    """As of the other families, and held against `generate`."""
    seen, logits, ids = watched_run(model, inputs, tokens, Qwen2VLStages)
    given = {k: v.double() if k.startswith("pixel_values") else v for k, v in inputs.items()}
    whole = model.generate(**given, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, eos_token_id=None)
    assert whole[0, given["input_ids"].shape[1] :].tolist() == ids, "generate says otherwise"
    return seen, logits, ids


def record(folder, prompt, system, image_files, tokens=16, steps=2, film=False):
    """Returns (rendered, expanded text, tensors, metadata, facts) of one prompt."""
    model, processor, info = load(folder)
    images = [Image.open(f) for f in image_files]
    rendered = processor.apply_chat_template(messages(prompt, system, len(images), film), add_generation_prompt=True, tokenize=False)
    given = frames(images) if film else {"images": images} if images else {}
    inputs = processor(text=[rendered], return_tensors="pt", **given)
    seen, logits, ids = run(model, inputs, tokens)
    config = model.config
    n, visual, text = read(folder, processor, inputs, config)

    keep = {
        "input.ids": inputs["input_ids"][0].numpy(),
        "input.roles": visual.astype(np.uint8),
        "input.positions": seen["input.positions"][-3:, 0].numpy(),
        "output.ids": np.array(ids),
    }
    assert keep["input.positions"].shape == (3, n)
    if images:
        keep["input.pixels"] = inputs["pixel_values_videos" if film else "pixel_values"].numpy()
        keep["input.grid"] = inputs["video_grid_thw" if film else "image_grid_thw"].numpy()
        keep["input.sizes"] = np.array([[im.height, im.width] for im in (images[:1] if film else images)])
        for name, tensor in seen.items():
            if name.startswith(("vision.", "projector.")):
                keep[name] = tensor.numpy().astype(np.float32)
        assert keep["projector.out"].shape[0] == visual.sum()
        assert torch.equal(seen["decoder.embed"][0][torch.from_numpy(visual)], seen["projector.out"])
    decoder(keep, seen, logits, steps)
    preprocess = "torchvision" if images else ""
    return bundle("qwen2_vl", rendered, text, keep, logits, visual, image_files, info, preprocess)
