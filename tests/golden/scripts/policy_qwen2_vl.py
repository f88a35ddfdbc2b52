"""Results of every policy on the prefill of a Qwen2-VL toy (`qwen2_vl/hub-bf16`), and the tokens it writes after eviction.

As `policy_demo.py`: transformers computes, with everything in float64 that it keeps in float32 even in a doubled model,
but for the rotary angles: frequency and angle are float32, cosine and sine float64. The vision tower's rotation is float64.
"""
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers.models.qwen2_vl import modeling_qwen2_vl as module

import policy_demo as demo
import policy_make as make_
import policy_twin as twin
import record_qwen2_vl as record

HERE = pathlib.Path(__file__).parent.parent
CASE = HERE / "qwen2_vl" / "hub-bf16"
TARGET = HERE / "policy" / "qwen2_vl"
RETAIN, OTHERS = ["0.5", "0.3", "0.1"], ["0.2"]
TOKENS = 16


def attention(layer, *args, **kwargs):
    vision = isinstance(layer, module.VisionAttention)
    return (demo.vision_attention if vision else demo.text_attention)(layer, *args, **kwargs)


def text_rotary(self, x, position_ids):
    angle = (position_ids[..., None].float() * self.inv_freq.float()).double()  # [3, batch, n, d_h / 2]
    parts = angle.split(self.mrope_section, dim=-1)
    angle = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def vision_rotary(self, x, position_ids):
    angle = (position_ids[..., None].float() * self.inv_freq.float()).double().flatten(1)  # [n, d_h / 2]: rows, then columns
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def vision_turn(q, k, cos, sin):
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return q * cos + module.rotate_half(q) * sin, k * cos + module.rotate_half(k) * sin


def patch():
    module.Qwen2VLRMSNorm.forward = demo.norm
    module.eager_attention_forward = attention
    module.apply_rotary_pos_emb_vision = vision_turn
    module.Qwen2VLRotaryEmbedding.forward = text_rotary
    module.Qwen2VLVisionRotaryEmbedding.forward = vision_rotary


@torch.no_grad()
def main():
    TARGET.mkdir(parents=True, exist_ok=True)
    about = json.loads((CASE / "case.json").read_text())
    model, processor, _ = record.load(CASE / "model")
    patch()
    images = [Image.open(CASE / name) for name in about["images"]]
    inputs = dict(processor(text=[about["rendered"]], images=images, return_tensors="pt"))
    inputs["pixel_values"] = inputs["pixel_values"].double()
    ids = inputs["input_ids"][0].numpy()
    roles = (ids == model.config.image_token_id).astype(np.uint8)
    tail = processor.tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    assert list(ids[-len(tail) :]) == tail
    demo.TOKENS = TOKENS
    tensors, notes, undecided = {"input.ids": ids, "input.roles": roles}, {}, []
    _, _, q, k = demo.prefill(model, inputs)
    case = SimpleNamespace(q=q, k=k, roles=roles, tail=len(tail))
    for name in ["aircache"] + demo.VARIANTS + make_.METHODS:
        retain = RETAIN if name == "aircache" else OTHERS
        tensors.update(make_.variant(case, name, notes, undecided, retain, 1e-9, np.int64))
    full, gap = demo.write(model, inputs, None, set())
    tensors["full/output.ids"], written = np.array(full), {"full": gap}
    for name, r in demo.DECODE:
        policy = twin.parse(name)
        layers = [twin.observe(policy, q[l], k[l], roles.astype(int)) for l in range(len(q))]
        _, kept = twin.plan(policy, r, layers, int(roles.sum()), k.shape[1])
        out, gap = demo.write(model, inputs, demo.evicted_rows(kept, roles, k.shape[1]), set())
        tensors[f"{name}@{r}/output.ids"], written[f"{name}@{r}"] = np.array(out), gap
    metadata = {
        "format": "aircache-bundle", "tail": str(len(tail)), "retain": json.dumps(RETAIN), "retain.others": json.dumps(OTHERS),
        "rules": json.dumps(make_.RULES), "variants": json.dumps(["aircache"] + demo.VARIANTS), "methods": json.dumps(make_.METHODS),
        "undecided": json.dumps(undecided), "margins": json.dumps(notes), "written": json.dumps(written),
    }  # fmt: skip
    make_.save_file(tensors, TARGET / "hub-bf16.safetensors", metadata)
    print(len(ids), int(roles.sum()), {a: f"{b:.1e}" for a, b in notes.items()}, undecided, written)


if __name__ == "__main__":
    main()
