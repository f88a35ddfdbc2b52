"""Results of every policy on the prefill of an InternVL toy (`internvl/qwen2-bf16`), and the tokens it writes after eviction.

As `policy_qwen2_vl.py`: transformers computes, with everything in float64 that it keeps in float32 even in a doubled
model, but for the rotary angles: frequency and angle are float32, cosine and sine float64. Queries, keys and values of the
own form's Qwen2 are computed by the same modules, so that one toy stands for both.
"""
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers.models.internvl import modeling_internvl as vision
from transformers.models.qwen2 import modeling_qwen2 as module

import policy_demo as demo
import policy_make as make_
import policy_twin as twin
import record_internvl as record

HERE = pathlib.Path(__file__).parent.parent
CASE = HERE / "internvl" / "qwen2-bf16"
TARGET = HERE / "policy" / "internvl"
RETAIN, OTHERS = ["0.5", "0.3", "0.1"], ["0.2"]
TOKENS = 16


def patch():
    module.Qwen2RMSNorm.forward = demo.norm
    module.eager_attention_forward = demo.text_attention
    vision.eager_attention_forward = demo.vision_attention


@torch.no_grad()
def main():
    TARGET.mkdir(parents=True, exist_ok=True)
    about = json.loads((CASE / "case.json").read_text())
    model, processor, _ = record.load(CASE / "model")
    patch()
    rotary = model.model.language_model.rotary_emb
    rotary.forward = demo.rotary("f32-angle", model.config.text_config, rotary.inv_freq.float())
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
    make_.save_file(tensors, TARGET / "qwen2-bf16.safetensors", metadata)
    print(len(ids), int(roles.sum()), {a: f"{b:.1e}" for a, b in notes.items()}, undecided, written)


if __name__ == "__main__":
    main()
