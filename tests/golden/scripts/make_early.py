"""Drives the public code of methods that drop visual rows before the decoder, and stores what it answers: `early/answers.json`.

    make_early.py REPOSITORIES

REPOSITORIES holds a checkout of each repository of `PINNED` under its own name. Nothing of their code is stored. The code
gets the states and attention weights that transformers computes of the toy checkpoints beside this folder, eager and in
float64, and the visual rows that their goldens have. An answer is the tokens of each tile, or the visual rows, that the code keeps.
Made with torch 2.15.0, transformers 5.24.0 and safetensors 0.8.0.
"""
import ast
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl import modeling_qwen2_vl

PINNED = {
    "FasterVLM": "f5d5f12037e105a51865ecb4b28a73cd86eb4921",
    "VisionZip": "3151f6df4fca36a4cd1c985e5956e725b1f9ad02",
    "EffiVLM-Bench": "ab3ee1837a5539fe6ec5aac84456a43e7288200b",
    "divprune": "799e2d950aa01ba7860907f5a6d86061f885dca6",
}
REPOSITORIES = Path(sys.argv[1])
GOLDEN = Path(__file__).parent.parent
# Toys whose towers are read: LLaVA-1.5 and LLaVA-NeXT with one state, LLaVA-OneVision, Qwen2-VL with one image.
CLIP = ["vicuna-f16", "squeezed", "zeros-around", "next-mistral-bf16", "next-thin", "next-two-images"]
SIGLIP = ["one-pixel", "feature-layers-list"]
SHARES = [0.5, 0.25, 0.1]


def methods(path, *names, torch=torch):
    """Methods of a file whose imports are of another time, by name."""
    tree = ast.parse(REPOSITORIES.joinpath(path).read_text())
    space = {"torch": torch, "nn": nn, "math": math, "F": nn.functional}
    for found in ast.walk(tree):
        if isinstance(found, ast.FunctionDef) and found.name in names:
            found.decorator_list, found.returns = [], None
            for argument in found.args.args:
                argument.annotation = None
            exec(compile(ast.Module([found], []), str(path), "exec"), space)
    return [space[name] for name in names]


def toy(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", attn_implementation="eager", dtype=torch.float32)
    return model.double().eval(), load_file(folder / "expected.safetensors")


def tower(folder):
    """States and attention weights of a CLIP or SigLIP tower over all tiles, as its code returns them; its layers."""
    model, golden = toy(folder)
    pixels = golden["input.pixels"].double().flatten(0, -4)
    inner = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    layers, weights, keys = inner.encoder.layers, [], []
    hooks = [layer.self_attn.register_forward_hook(lambda m, a, out: weights.append(out[1])) for layer in layers]
    hooks += [layer.self_attn.k_proj.register_forward_hook(lambda m, a, out: keys.append(out)) for layer in layers]
    with torch.no_grad():
        out = inner(pixels, output_hidden_states=True)
    [hook.remove() for hook in hooks]
    heads = weights[0].shape[1]
    metric = [key.unflatten(-1, (heads, -1)).mean(2) for key in keys]
    layer = model.config.vision_feature_layer
    layer = layer if isinstance(layer, int) else max(layer, key=lambda l: l % (len(layers) + 1))
    layer = layer if layer < 0 else layer - len(layers) - 1
    return SimpleNamespace(out=out, weights=weights, metric=metric, layer=layer, projector=model.model.multi_modal_projector)


def listed(indices):
    return [sorted(tile) for tile in indices.tolist()]


def fastervlm():
    (select,) = methods("FasterVLM/llava/model/multimodal_encoder/clip_encoder.py", "feature_select")
    (encode,) = methods("FasterVLM/llava/model/llava_arch.py", "encode_images")
    for name in CLIP:
        t = tower(GOLDEN / "llava_clip" / name)
        tokens = t.weights[0].shape[-1] - 1
        outs = SimpleNamespace(hidden_states=t.out.hidden_states, attentions=t.weights)
        own = SimpleNamespace(select_layer=t.layer, select_feature="patch")
        for share in SHARES:
            keep = max(1, round(share * tokens))
            model = SimpleNamespace(get_vision_tower=lambda: lambda _: select(own, outs), mm_projector=lambda x: x)
            with torch.no_grad():
                _, mask, scores = encode(SimpleNamespace(get_model=lambda: model, get_visual_token_num=lambda: keep), None)
            kept = [torch.where(tile)[0].tolist() for tile in mask]
            yield {"code": "FasterVLM", "toy": f"llava_clip/{name}", "by": "class", "keep": keep, "tiles": kept,
                   "scores": [[float(f"{x:.9g}") for x in tile] for tile in scores.tolist()] if share == SHARES[0] else None}  # fmt: skip


def clip(forward, t, dominant, contextual, dtype=torch.float32):
    """What VisionZip's code makes of the tiles of a CLIP tower: its rows, and the dominant tokens of each tile."""
    layers = [SimpleNamespace(metric=m) for m in t.metric]

    class Tower:
        vision_model, _info = SimpleNamespace(encoder=SimpleNamespace(layers=layers)), {"dominant": dominant, "contextual": contextual}
        __call__ = lambda self, *a, **k: SimpleNamespace(attentions=t.weights, hidden_states=t.out.hidden_states)

    own = SimpleNamespace(vision_tower=Tower(), device="cpu", dtype=torch.float64)
    saved, indices = forward(own, torch.zeros(1, dtype=dtype))
    return saved, listed(indices[:, 1:] - 1)


def siglip(forward, t, share, dtype=torch.float32):
    """The rows that EffiVLM-Bench's code makes of the tiles of a SigLIP tower, and the tokens of each tile that stay."""
    # Its code reads the layer before the last that is loaded; here it gets the layer whose output the projector reads (A9.11).
    one = SimpleNamespace(
        self_attn=SimpleNamespace(attn_weights=t.weights[t.layer]), hidden_states=t.out.hidden_states[t.layer], metric=t.metric[t.layer])

    class Tower:
        vision_model = SimpleNamespace(encoder=SimpleNamespace(layers=[one, None]))
        __call__ = lambda self, *a, **k: None

    own = SimpleNamespace(vision_tower=Tower(), device="cpu", dtype=torch.float64, budgets=share)
    saved, indices = forward(own, torch.zeros(1, dtype=dtype))
    return saved, listed(indices)


def visionzip():
    (forward,) = methods("VisionZip/visionzip/clip_encoder.py", "forward")
    for name in CLIP:
        t = tower(GOLDEN / "llava_clip" / name)
        if t.layer != -2:
            continue  # its code reads this layer alone
        for share in SHARES:
            keep = max(1, round(share * (t.weights[0].shape[-1] - 1)))
            _, tiles = clip(forward, t, keep, 1)
            yield {"code": "VisionZip", "toy": f"llava_clip/{name}", "by": "class", "keep": keep, "tiles": tiles}


def effivlm():
    (forward,) = methods("EffiVLM-Bench/kv_cache_compression/siglip_model.py", "siglip_vision_tower_forward")
    for name in SIGLIP:
        t = tower(GOLDEN / "llava" / name)
        for share in SHARES:
            _, tiles = siglip(forward, t, share)
            yield {"code": "EffiVLM-Bench", "toy": f"llava/{name}", "by": "received", "keep": len(tiles[0]), "tiles": tiles}


def qwen_towers():
    """Each toy that EffiVLM-Bench's code for Qwen2-VL reads: its name, and attention weights, keys and rows of its last layer."""
    for folder in sorted((GOLDEN / "qwen2_vl").iterdir()):
        if not (folder / "model").is_dir() or "input.pixels" not in (shapes := load_file(folder / "expected.safetensors")):
            continue
        if len(shapes["input.grid"]) != 1 or shapes["input.grid"][0, 0] != 1:
            continue  # its code averages over the patches of all images
        if 4 * len(shapes["projector.out"]) != shapes["input.grid"].prod():
            continue  # its code knows squares of 2 x 2 patches alone
        model, golden = toy(folder)
        seen, plain = [], modeling_qwen2_vl.eager_attention_forward

        def watch(module, query, key, value, *rest, **more):
            out = plain(module, query, key, value, *rest, **more)
            seen.append((out[1][0], key[0]))
            return out

        modeling_qwen2_vl.eager_attention_forward = watch
        with torch.no_grad():
            model.model.visual(golden["input.pixels"].double(), grid_thw=golden["input.grid"])
        modeling_qwen2_vl.eager_attention_forward = plain
        weights, metric = seen[-1]
        yield folder.name, weights, metric, golden["projector.out"].double(), golden["input.grid"]


def qwen_rows(forward, weights, metric, rows, grid, share):
    """The rows that EffiVLM-Bench's code for Qwen2-VL keeps, and their indices."""
    last = lambda x, **_: x
    one = SimpleNamespace(attn=SimpleNamespace(attn_weights=weights, metric=metric.clone()))
    one_block = type("Block", (), {"attn": one.attn, "__call__": lambda self, x, **_: x})()
    own = SimpleNamespace(
        patch_embed=last, rot_pos_emb=lambda grid: None, blocks=[one_block, last], merger=lambda x: rows,
        gradient_checkpointing=False, training=False, budgets=share)
    return forward(own, torch.zeros(weights.shape[-1], 1), grid)


def effivlm_qwen():
    (forward,) = methods("EffiVLM-Bench/kv_cache_compression/qwen2vl_model.py", "qwen2vl_vision_tower_forward_visionzip")
    for name, weights, metric, rows, grid in qwen_towers():
        for share in SHARES:
            saved, indices = qwen_rows(forward, weights, metric, rows, grid, share)
            kept = [int(i) for row, i in zip(saved, indices) if torch.equal(row, rows[i])]
            yield {"code": "EffiVLM-Bench", "toy": f"qwen2_vl/{name}", "by": "received", "keep": len(kept), "rows": kept}


def divprune():
    cosine, choose = methods("divprune/LLaVA/llava/model/llava_arch.py", "pairwise_cosine_similarity", "DivPrune")
    own = SimpleNamespace(pairwise_cosine_similarity=lambda x: cosine(None, x))
    for family in ["llava", "llava_clip", "qwen2_vl", "internvl", "qwen2_5_vl", "qwen3_vl"]:
        for folder in sorted((GOLDEN / family).iterdir()):
            if not (folder / "expected.safetensors").is_file():
                continue
            golden = load_file(folder / "expected.safetensors")
            if "projector.out" not in golden:
                continue
            rows = golden["projector.out"].double()
            for share in SHARES:
                chosen, _ = choose(own, rows, len(rows), None, share)
                if len(chosen):
                    kept = sorted(set(chosen.tolist()))
                    yield {"code": "divprune", "toy": f"{family}/{folder.name}", "by": "diverse", "keep": len(chosen), "rows": kept}


def store(name, codes):
    """Writes what the codes answer."""
    cases = [{key: value for key, value in case.items() if value is not None} for code in codes for case in code()]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (GOLDEN / "early" / name).write_text(f"[\n{lines}\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    store("answers.json", (fastervlm, visionzip, effivlm, effivlm_qwen, divprune))
