#!/usr/bin/env python3
"""Records what a transformers LLaVA-OneVision model computes, as a candidate that `aircache check` judges.

Needs torch and transformers, nothing else. As a module:

    with Recorder(model) as recorder:
        ids = generate(model, inputs, recorder, tokens=8, retention="0.1")
    recorder.save("candidate.safetensors", precision="bf16", prompt=rendered)

As a program:

    python record_candidate.py --model DIR --image page.png --prompt 'What is the total?' \
        --dtype bf16 --attention sdpa --device cuda --retain 0.1 --out candidate.safetensors
    aircache check --model DIR candidate.safetensors

Stages are named and shaped as in the bundle contract: decoder.07.query is [heads, rows, head size] after rotary.
"""

import argparse
import json

import aircache  # the file beside this one
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.qwen2 import modeling_qwen2

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}


def first(x):
    return x[0] if isinstance(x, tuple) else x


class Recorder:
    """Hooks on a model's parts; what they see during the prefill is kept on the CPU, in the type it was computed in."""

    def __init__(self, model):
        self.model, self.stages, self.handles, self.on = model, {}, [], True
        self.queries = []  # of each layer, where they were computed: what AirCache reads

    def put(self, name, tensor):
        if self.on:
            # A copy: the model may go on in place.
            self.stages[name] = tensor.detach().to("cpu", copy=True).contiguous()

    def after(self, module, name, shape=lambda x: x):
        self.handles.append(module.register_forward_hook(lambda m, args, out: self.put(name, shape(first(out)))))

    def before(self, module, name, shape=lambda x: x):
        def hook(m, args, kwargs):
            self.put(name, shape(first(args) if args else next(iter(kwargs.values()))))

        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def __enter__(self):
        core = self.model.model
        needed = self.model.config.vision_feature_layer
        needed = [needed] if isinstance(needed, int) else needed
        layers = core.vision_tower.encoder.layers
        last = max(k if k >= 0 else len(layers) + 1 + k for k in needed)  # hidden state k is after layer k
        for i, layer in enumerate(layers[:last]):
            self.after(layer, f"vision.{i:02}.out")
        self.before(core.multi_modal_projector, "vision.features")
        text = core.language_model
        self.before(text.layers[0], "decoder.embed", lambda x: x[0])
        for i, layer in enumerate(text.layers):
            self.before(layer.self_attn.o_proj, f"decoder.{i:02}.mix", lambda x: x[0])
            self.after(layer, f"decoder.{i:02}.out", lambda x: x[0])
        self.after(text.norm, "decoder.norm", lambda x: x[0])

        # Queries exist nowhere but between rotary and attention; rotary is called once a layer, in order.
        self.rotary = modeling_qwen2.apply_rotary_pos_emb

        def rotary(*args, **kwargs):
            q, k = self.rotary(*args, **kwargs)
            if self.on:
                self.put(f"decoder.{len(self.queries):02}.query", q[0])
                self.queries.append(q[0])
            return q, k

        modeling_qwen2.apply_rotary_pos_emb = rotary
        self.pack = core.pack_image_features

        def pack(*args, **kwargs):
            rows, counts = self.pack(*args, **kwargs)
            self.put("projector.out", torch.cat(list(rows), 0))
            return rows, counts

        core.pack_image_features = pack
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()
        modeling_qwen2.apply_rotary_pos_emb = self.rotary
        del self.model.model.pack_image_features

    def save(self, path, precision, **metadata):
        """Writes the candidate. `precision` is the type of the computation: it selects the ruler."""
        producer = f"torch {torch.__version__} transformers {transformers.__version__}"
        metadata = {"precision": precision, "producer": producer, "family": "llava_onevision", **metadata}
        metadata = {"format": "aircache-bundle", "version": "1", **metadata}
        save_file(self.stages, path, metadata={k: str(v) for k, v in metadata.items()})


@torch.no_grad()
def generate(model, inputs, recorder, tokens, retention=None, kept=None):
    """Prefill and greedy decoding by hand, so that every step's logits are seen; with a retention AirCache evicts between.
    kept: what each layer keeps, if AirCache does not decide it. Returns the token ids."""
    inputs = {k: v.to(model.device) for k, v in inputs.items()}
    prompt = inputs["input_ids"][0]
    roles = (prompt == model.config.image_token_id).to(torch.uint8)
    recorder.put("input.ids", prompt)
    recorder.put("input.roles", roles)
    recorder.put("input.positions", torch.arange(len(prompt)))
    if "pixel_values" in inputs:
        recorder.put("input.pixels", inputs["pixel_values"].float())
        recorder.put("input.sizes", inputs["image_sizes"].long())
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    out = model(**inputs, use_cache=True)
    cache = out.past_key_values
    for i, layer in enumerate(cache.layers):
        recorder.put(f"decoder.{i:02}.key", layer.keys[0])
        recorder.put(f"decoder.{i:02}.value", layer.values[0])
    recorder.put("decoder.logits", out.logits[0, -1])
    if retention:
        compress(cache, recorder, roles, retention, kept)
    recorder.on = False
    logits, ids = out.logits[0, -1], []
    stop = model.generation_config.eos_token_id
    stop = set(stop if isinstance(stop, list) else [stop])
    while True:
        ids.append(int(logits.argmax()))
        if len(ids) == tokens or ids[-1] in stop:
            break
        # Layers may hold different numbers of entries: no mask (one row sees all of them), and the position said aloud.
        position = torch.tensor([[next_position(len(prompt), len(ids) - 1, cache)]], device=model.device)
        step = model.model.language_model(
            input_ids=torch.tensor([ids[-1:]], device=model.device),
            position_ids=position,
            attention_mask={"full_attention": None},
            past_key_values=cache,
            use_cache=True,
        )
        logits = model.lm_head(step.last_hidden_state)[0, -1]
        recorder.stages[f"step.{len(ids) - 1:04}.logits"] = logits.cpu()
    recorder.stages["output.ids"] = torch.tensor(ids)
    return ids


def next_position(prompt, fed, cache):
    """Where the next token stands: after the prompt as it was, not as what is left of it in the cache. D7.3"""
    return prompt + fed


def compress(cache, recorder, roles, retention, kept=None):
    """AirCache on the device, and what it decided and kept as stages; with kept it goes on from these sets."""
    keys = [layer.keys[0] for layer in cache.layers]
    plan = aircache.compress(recorder.queries, keys, roles, retention)
    if kept:
        plan.kept, plan.budget = [k.to(roles.device) for k in kept], [len(k) for k in kept]
    for i, layer in enumerate(cache.layers):
        key, value = aircache.evict(layer.keys[0], layer.values[0], plan.rows(i))
        layer.keys, layer.values = key[None], value[None]
        recorder.put(f"cache.{i:02}.key", key)
        recorder.put(f"cache.{i:02}.value", value)
        recorder.put(f"cache.{i:02}.positions", plan.rows(i))
    recorder.stages.update(plan.stages())


def load(directory, dtype, attention, device):
    """The model of a checkpoint folder."""
    kind = transformers.LlavaOnevisionForConditionalGeneration
    model = kind.from_pretrained(directory, dtype=TYPES[dtype], attn_implementation=attention)
    return model.to(device).eval()


def ask(directory, images, prompt, system=None):
    """What the model's own processor makes of images and a question, and the prompt as its template rendered it."""
    from PIL import Image  # transformers' own image reader

    processor = transformers.AutoProcessor.from_pretrained(directory)
    parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": prompt}]
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    rendered = processor.apply_chat_template(turns + [{"role": "user", "content": parts}], add_generation_prompt=True)
    pictures = {"images": [[Image.open(f) for f in images]]} if images else {}
    return processor(text=[rendered], return_tensors="pt", **pictures), rendered


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--system")
    parser.add_argument("--dtype", choices=TYPES, default="bf16")
    parser.add_argument("--attention", default="sdpa", help="eager, sdpa, flash_attention_2, …")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--retain", help="evict with AirCache: a fraction such as 0.1")
    parser.add_argument("--kept-of", help="a golden: evict what it evicts, so that it judges the steps in every type")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    model = load(args.model, args.dtype, args.attention, args.device)
    inputs, rendered = ask(args.model, args.image, args.prompt, args.system)
    with Recorder(model) as recorder:
        ids = generate(model, inputs, recorder, args.tokens, args.retain, kept_of(args.kept_of))
    said = policy(args.retain) | ({"eviction": "given"} if args.kept_of else {})
    recorder.save(args.out, args.dtype, prompt=rendered, attention=args.attention, **said)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    print(json.dumps({"out": args.out, "stages": len(recorder.stages), "text": tokenizer.decode(ids)}))


def kept_of(golden):
    """The visual tokens that each layer of a golden keeps."""
    if not golden:
        return None
    stages = load_file(golden)
    return [stages[name] for name in sorted(stages) if name.startswith("policy.") and name.endswith(".kept")]


def policy(retention):
    """The metadata that says how the cache was evicted."""
    return {"policy": json.dumps({"name": "aircache"}), "retain": retention} if retention else {}


if __name__ == "__main__":
    main()
