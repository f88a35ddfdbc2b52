"""Runs a LLaVA-OneVision checkpoint folder with transformers (eager, CPU, float64) and returns every stage.

The checkpoint is loaded as float32 and then doubled. transformers keeps parts in float32 all the same:
the RMS norms' inside, both softmaxes of attention, and the rotary tables (angle, cosine, sine).
Stage names and shapes are those of the project's bundle.
"""
import hashlib
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.numpy import save
from tokenizers import Tokenizer
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration
from transformers.models.qwen2 import modeling_qwen2

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def load(folder):
    model, info = LlavaOnevisionForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return model.double().eval(), AutoProcessor.from_pretrained(folder), info


def messages(prompt, system, images, film=False):
    parts = [{"type": "video"} if film else {"type": "image"} for _ in range(1 if film else images)] + [{"type": "text", "text": prompt}]
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system is not None else []
    return first + [{"role": "user", "content": parts}]


def frames(images):
    """What a processor takes as a list of videos: one, of these frames."""
    return {"videos": [torch.stack([torch.from_numpy(np.array(im.convert("RGB"))).permute(2, 0, 1) for im in images])]}


def clip(images, fps, choose=None):
    """What a processor takes as a video of these frames. It reads every one, or those that it chooses: `choose` is {"fps": …} or {"num_frames": …}."""
    metadata = {"total_num_frames": len(images), "fps": fps, "frames_indices": list(range(len(images)))}
    return {**frames(images), "do_sample_frames": bool(choose), **(choose or {}), **({"video_metadata": [metadata]} if fps else {})}


def prepare(processor, prompt, system, images, film=False, fps=None, choose=None):
    """images: list of PIL images of one prompt, or the frames of a film. Returns (rendered prompt, processor output)."""
    if processor.chat_template is None:  # transformers refuses a template that lies in tokenizer_config.json only
        processor.chat_template = processor.tokenizer.chat_template
    rendered = processor.apply_chat_template(messages(prompt, system, len(images), film), add_generation_prompt=True, tokenize=False)
    given = clip(images, fps, choose) if film else {"images": [images]} if images else {}  # nested: a flat list would be a batch
    return rendered, processor(text=[rendered], return_tensors="pt", **given)


class Stages:
    """Hooks that copy every stage of the prefill: the decoder's here, what is before it in each family's own."""

    def __init__(self, text, modeling, attention):
        self.seen, self.handles, self.on = {}, [], True
        for i, layer in enumerate(text.layers):
            self.hook(layer, f"decoder.{i:02}.out")
        self.hook(text.layers[0], "decoder.embed", before=True)
        self.hook(text.norm, "decoder.norm")
        self.modeling, self.eager = modeling, modeling.eager_attention_forward

        def eager(module, query, key, value, *args, **kwargs):
            out = self.eager(module, query, key, value, *args, **kwargs)
            if isinstance(module, attention):
                name = f"decoder.{module.layer_idx:02}."
                self.put(name + "query", query[0])
                self.put(name + "key", key[0])
                self.put(name + "value", value[0])
                self.put(name + "mix", out[0][0].flatten(1))
            return out

        modeling.eager_attention_forward = eager

    def put(self, name, tensor):
        if self.on:
            assert name not in self.seen, name
            self.seen[name] = tensor.detach().clone()

    def hook(self, module, name, before=False):
        def first(x):
            return x[0] if isinstance(x, tuple) else x

        if before:
            call = lambda m, args, kwargs: self.put(name, first(args) if args else next(iter(kwargs.values())))
            self.handles.append(module.register_forward_pre_hook(call, with_kwargs=True))
        else:
            self.handles.append(module.register_forward_hook(lambda m, args, out: self.put(name, first(out))))

    def close(self):
        for h in self.handles:
            h.remove()
        self.modeling.eager_attention_forward = self.eager


class LlavaStages(Stages):
    def __init__(self, model):
        super().__init__(model.model.language_model, modeling_qwen2, modeling_qwen2.Qwen2Attention)
        tower = model.model.vision_tower
        for i, layer in enumerate(tower.encoder.layers):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(tower.encoder.layers[0], "vision.embed", before=True)
        self.hook(model.model.multi_modal_projector, "vision.features", before=True)
        self.model, self.pack = model, model.model.pack_image_features

        def pack(*args, **kwargs):
            features, lens = self.pack(*args, **kwargs)
            self.put("projector.out", torch.cat(list(features), 0))
            return features, lens

        model.model.pack_image_features = pack

    def close(self):
        super().close()
        del self.model.model.pack_image_features


@torch.no_grad()
def run(model, inputs, tokens, watch=LlavaStages):
    """Prefill and greedy decoding (end of sequence ignored). Returns (stages, logits per generated token, tokens)."""
    stages = watch(model)
    try:
        given = {k: v.double() if k.startswith("pixel_values") else v for k, v in inputs.items()}
        out = model(**given, use_cache=True)
        stages.on = False
        logits = [out.logits[0, -1]]
        ids = [int(logits[0].argmax())]
        while len(ids) < tokens:
            out = model(input_ids=torch.tensor([[ids[-1]]]), past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits[0, -1])
            ids.append(int(logits[-1].argmax()))
    finally:
        stages.close()
    return stages.seen, torch.stack(logits), ids


def needed_layers(config):
    """How many vision layers must run, and which hidden states (0 = embeddings, k = after k layers) are read."""
    total = config.vision_config.num_hidden_layers
    want = config.vision_feature_layer
    states = [k if k >= 0 else total + 1 + k for k in ([want] if isinstance(want, int) else want)]
    return max(states), states


def read(folder, processor, inputs, config):
    """What the model reads: its length, which rows are visual, its text; and that tokenizer.json alone reads it so."""
    ids = inputs["input_ids"][0]
    text = processor.tokenizer.decode(ids, skip_special_tokens=False)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    assert plain == ids.tolist(), "tokenizer.json alone says otherwise"
    film = any(k.startswith("pixel_values_videos") for k in inputs)
    return len(ids), (ids == (config.video_token_id if film else config.image_token_id)).numpy(), text


def decoder(keep, seen, logits, steps):
    """The decoder's stages and the logits into `keep`: keys, values and logits as they are, the rest in float32."""
    for name, tensor in seen.items():
        if name.startswith("decoder."):
            exact = name.endswith((".key", ".value"))
            tensor = tensor[0] if name.endswith((".out", ".embed", ".norm")) else tensor
            keep[name] = tensor.numpy() if exact else tensor.numpy().astype(np.float32)
    keep["decoder.logits"] = logits[0].numpy()
    for t in range(steps):
        keep[f"step.{t:04}.logits"] = logits[t + 1].numpy()


def bundle(family, rendered, text, keep, logits, visual, image_files, info, preprocess):
    """What every `record` returns: (rendered, expanded text, tensors, metadata, facts)."""
    best = torch.topk(logits, 2, -1).values
    metadata = {
        "format": "aircache-bundle",
        "version": "1",
        "producer": f"transformers {transformers.__version__} torch {torch.__version__.split('+')[0]}",
        "family": family,
        "precision": "f64",
        "prompt": rendered,
        "preprocess": preprocess,
        "images": json.dumps([sha(open(f, "rb").read()) for f in image_files]),
    }
    facts = {
        "n": len(visual), "visual": int(visual.sum()), "margin": float((best[:, 0] - best[:, 1]).min()),
        "spread": float(logits[0].std()), "info": info,
    }  # fmt: skip
    return rendered, text, {k: np.ascontiguousarray(v) for k, v in keep.items()}, metadata, facts


def record(folder, prompt, system, image_files, tokens=16, steps=4, film=False, fps=None, choose=None):
    """Returns (rendered, expanded text, tensors, metadata, facts) of one prompt."""
    model, processor, info = load(folder)
    images = [Image.open(f) for f in image_files]
    rendered, inputs = prepare(processor, prompt, system, images, film, fps, choose)
    seen, logits, ids = run(model, inputs, tokens)
    config = model.config
    n, visual, text = read(folder, processor, inputs, config)

    keep = {
        "input.ids": inputs["input_ids"][0].numpy(),
        "input.roles": visual.astype(np.uint8),
        "input.positions": np.arange(n),
        "output.ids": np.array(ids),
    }
    if images:
        keep["input.pixels"] = inputs["pixel_values_videos" if film else "pixel_values"].numpy()
        keep["input.sizes"] = np.array([[images[0].height, images[0].width]]) if film else inputs["image_sizes"].numpy()
        if film:  # what is packed has no function of its own
            seen["projector.out"] = seen["decoder.embed"][0][torch.from_numpy(visual)]
        depth, states = needed_layers(config)
        hidden = [seen["vision.embed"]] + [seen[f"vision.{i:02}.out"] for i in range(config.vision_config.num_hidden_layers)]
        features = torch.cat([hidden[k] for k in states], -1)
        if config.vision_feature_select_strategy == "default":
            features = features[:, 1:]
        assert torch.equal(features, seen["vision.features"]), "hidden state numbering"
        for i in range(depth):
            keep[f"vision.{i:02}.out"] = seen[f"vision.{i:02}.out"].numpy().astype(np.float32)
        keep["vision.features"] = seen["vision.features"].numpy().astype(np.float32)
        keep["projector.out"] = seen["projector.out"].numpy().astype(np.float32)
        assert keep["projector.out"].shape[0] == visual.sum()
        assert torch.equal(seen["decoder.embed"][0][torch.from_numpy(visual)], seen["projector.out"])
    decoder(keep, seen, logits, steps)

    H, G = config.text_config.num_attention_heads, config.text_config.num_key_value_heads
    for i in range(config.text_config.num_hidden_layers):
        q, k, mix = (keep[f"decoder.{i:02}.{s}"] for s in ("query", "key", "mix"))
        d_h = q.shape[2]
        assert q.shape == (H, n, d_h) and k.shape == (G, n, d_h) and mix.shape == (n, H * d_h), (q.shape, k.shape, mix.shape)
        assert keep[f"decoder.{i:02}.out"].shape == (n, config.text_config.hidden_size)
    return bundle("llava_onevision", rendered, text, keep, logits, visual, image_files, info, "torchvision")


def write(path, tensors, metadata):
    """A safetensors file whose bytes depend on its content only (the library shuffles the metadata)."""
    data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
    size = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
