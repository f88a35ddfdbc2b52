"""Prefill and greedy decoding by hand, so that every step is seen; AirCache may evict between them."""

import inspect
import json
import sys

import torch
import transformers
from transformers import DynamicCache

from .. import policy
from ..errors import Error, message
from . import parts as at
from .recorder import Recorder

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}


def record(model, inputs, *, tokens=8, retain=None, chunk=None, steps=True, parts=None, **metadata):
    """Runs a prompt and returns its bundle; `bundle["output.ids"]` are the tokens.

    inputs: what the model's processor gave. tokens: how many to generate at most. retain: a fraction such as "0.1" of the
    visual entries that AirCache keeps. chunk: the rows of a piece, if the prefill comes in pieces.
    """
    if len(inputs["input_ids"]) != 1:
        raise Error(message("input_ids", "one sequence", len(inputs["input_ids"]), "record one bundle for each sequence"))
    with Recorder(model, inputs, parts=parts, steps=steps) as recorder:
        ids = generate(model, inputs, recorder, tokens, retain, chunk)
    recorder.stages["output.ids"] = torch.tensor(ids)
    if retain:
        metadata |= {"policy": json.dumps({"name": "aircache"}), "retain": str(retain)}
    return recorder.bundle(**metadata)


@torch.no_grad()
def generate(model, inputs, recorder, tokens, retain=None, chunk=None):
    """The generated token ids."""
    parts = recorder.parts
    text, head = at.module(model, parts.text), at.module(model, parts.head)
    # `ask` adds stages for the bundle.
    given = {k: v.to(model.device) for k, v in inputs.items() if not k.startswith("input.")}
    for pixels in ("pixel_values", "pixel_values_videos"):
        if given.get(pixels) is not None:
            given[pixels] = given[pixels].to(model.dtype)
    if chunk is None:
        cache = DynamicCache(config=model.config.get_text_config())
        model(**given, **taking(model, cache), use_cache=True, logits_to_keep=1)
    else:
        cache = in_pieces(model, text, head, given, chunk)
    logits = recorder.stages["decoder.logits"]
    positions = recorder.positions()
    if retain and recorder.roles.any():
        compress(cache, recorder, retain)
    # One row sees all entries, and layers may hold different numbers of them: steps have no mask.
    code = sys.modules[type(text).__module__]
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        if hasattr(code, name):
            recorder.replace(code, name, lambda *args, **kwargs: None)
    ids, stop = [], stops(model)
    while True:
        ids.append(int(logits.argmax()))
        if len(ids) == tokens or ids[-1] in stop:
            return ids
        position = torch.full((1, 1), next_position(positions, len(ids) - 1, cache), device=model.device)
        step = text(
            input_ids=torch.tensor([ids[-1:]], device=model.device),
            position_ids=position if positions.dim() == 1 else position.expand(3, 1, 1),
            use_cache=True,
            **taking(text, cache),
        )
        logits = head(step.last_hidden_state)[0, -1]


def taking(module, cache):
    """The cache under the name that this version of transformers has for it."""
    takes = inspect.signature(module.forward).parameters
    return {"cache" if "cache" in takes else "past_key_values": cache}


def next_position(positions, fed, cache):
    """Where the next token stands: after the prompt as it was, not as what is left of it in the cache. D7.3"""
    return int(positions.max()) + 1 + fed


class Merged(Exception):
    """The decoder's input is there: what it was called with."""


def in_pieces(model, text, head, given, chunk):
    """A prefill of `chunk` rows at a time: the vision side in one pass, then the decoder piece by piece."""

    def stop(module, args, kwargs):
        raise Merged(kwargs)

    # In front of the recorder's hooks, which count the rows that the decoder reads.
    hook = text.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
    try:
        model(**given, use_cache=True)
    except Merged as merged:
        (kwargs,) = merged.args
    finally:
        hook.remove()
    rows, positions = kwargs["inputs_embeds"], kwargs.get("position_ids")
    if positions is None:
        positions = torch.arange(rows.shape[1], device=rows.device)[None]
    cache = DynamicCache(config=model.config.get_text_config())
    for start in range(0, rows.shape[1], chunk):
        piece = slice(start, start + chunk)
        more = {**taking(text, cache), **deepstack(kwargs, piece)}
        out = text(inputs_embeds=rows[:, piece], position_ids=positions[..., piece], use_cache=True, **more)
    head(out.last_hidden_state[:, -1:])
    return cache


def deepstack(kwargs, piece):
    """What DeepStack adds to the visual rows of a piece, if the decoder was given any."""
    mask, added = kwargs.get("visual_pos_masks"), kwargs.get("deepstack_visual_embeds")
    if mask is None or not added:
        return {}
    before, own = int(mask[:, : piece.start].sum()), mask[:, piece]
    rows = slice(before, before + int(own.sum()))
    return {"visual_pos_masks": own, "deepstack_visual_embeds": [rows_of[rows] for rows_of in added]}


def compress(cache, recorder, retain):
    """AirCache on the device; what it decided and kept are stages."""
    device = recorder.model.device
    keys = [layer.keys[0] for layer in cache.layers]
    plan = policy.compress(recorder.queries(), keys, recorder.roles.to(device), retain)
    for i, layer in enumerate(cache.layers):
        key, value = policy.evict(layer.keys[0], layer.values[0], plan.rows(i))
        layer.keys, layer.values = key[None], value[None]
        positions = recorder.positions()[plan.rows(i).cpu()]
        kept = {"key": key, "value": value, "positions": positions.mT if positions.dim() == 2 else positions}
        recorder.stages |= {f"cache.{i:02}.{name}": x.cpu().clone() for name, x in kept.items()}
    recorder.stages |= plan.stages()


def stops(model):
    stop = model.generation_config.eos_token_id
    return set(stop if isinstance(stop, list) else [stop])


def load(directory, dtype, attention, device):
    """The model of a checkpoint folder. dtype: f32, bf16, f16 or f64."""
    kind = transformers.AutoModelForImageTextToText
    model = kind.from_pretrained(directory, dtype=TYPES[dtype], attn_implementation=attention)
    return model.to(device).eval()


def ask(directory, images, prompt, system=None):
    """What the model's own processor makes of images and a question, and the prompt as its template rendered it."""
    from PIL import Image  # transformers' own image reader

    processor = transformers.AutoProcessor.from_pretrained(directory)
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": prompt}]
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    rendered = processor.apply_chat_template(turns + [{"role": "user", "content": parts}], add_generation_prompt=True)
    opened = [Image.open(f) for f in images]
    inputs = processor(text=[rendered], return_tensors="pt", **({"images": [opened]} if images else {}))
    if images and "image_sizes" not in inputs:
        inputs["input.sizes"] = torch.tensor([[image.height, image.width] for image in opened])
    return inputs, rendered
