"""Results of every policy on the prefill of a toy, and the tokens it writes after eviction. Run by policy_*.py, not by itself."""
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

import policy_demo as demo
import policy_make as make_
import policy_twin as twin

HERE = pathlib.Path(__file__).parent.parent
RETAIN, OTHERS = ["0.5", "0.3", "0.1"], ["0.2"]
TOKENS = 16


def loader(model_class):
    """What `main` loads a toy with, if its recorder has no function for that."""

    def load(folder):
        model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        return model.double().eval(), AutoProcessor.from_pretrained(folder), None

    return SimpleNamespace(load=load)


def by_kind(vision):
    """An attention in place of a module's own: that of the tower in layers of the class `vision`, that of text in others."""
    return lambda layer, *args, **kwargs: (demo.vision_attention if isinstance(layer, vision) else demo.text_attention)(layer, *args, **kwargs)


def prepare(model, processor, folder, about):
    """What the family's processor reads, and how many rows the template puts after the question."""
    images = [Image.open(folder / name) for name in about["images"]]
    inputs = dict(processor(text=[about["rendered"]], images=images, return_tensors="pt"))
    inputs["pixel_values"] = inputs["pixel_values"].double()
    tail = processor.tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    assert inputs["input_ids"][0, -len(tail) :].tolist() == tail
    return inputs, len(tail)


@torch.no_grad()
def main(case, family, record, patch, prepare=prepare):
    """case: the toy's folder below tests/golden/FAMILY; record: that of the family; patch(model): double where it is float."""
    folder, target = HERE / family / case, HERE / "policy" / family
    target.mkdir(parents=True, exist_ok=True)
    about = json.loads((folder / "case.json").read_text())
    model, processor, _ = record.load(folder / "model")
    patch(model)
    inputs, tail = prepare(model, processor, folder, about)
    ids = inputs["input_ids"][0].numpy()
    roles = (ids == model.config.image_token_id).astype(np.uint8)
    demo.TOKENS = TOKENS
    tensors, notes, undecided = {"input.ids": ids, "input.roles": roles}, {}, []
    _, _, q, k = demo.prefill(model, inputs)
    seen = SimpleNamespace(q=q, k=k, roles=roles, tail=tail)
    for name in ["aircache"] + demo.VARIANTS + make_.METHODS:
        retain = RETAIN if name == "aircache" else OTHERS
        tensors.update(make_.variant(seen, name, notes, undecided, retain, 1e-9, np.int64))
    full, gap = demo.write(model, inputs, None, set())
    tensors["full/output.ids"], written = np.array(full), {"full": gap}
    for name, r in demo.DECODE:
        policy = twin.parse(name)
        layers = [twin.observe(policy, q[l], k[l], roles.astype(int)) for l in range(len(q))]
        _, kept = twin.plan(policy, r, layers, int(roles.sum()), k.shape[1])
        out, gap = demo.write(model, inputs, demo.evicted_rows(kept, roles, k.shape[1]), set())
        tensors[f"{name}@{r}/output.ids"], written[f"{name}@{r}"] = np.array(out), gap
    metadata = {
        "format": "aircache-bundle", "tail": str(tail), "retain": json.dumps(RETAIN), "retain.others": json.dumps(OTHERS),
        "rules": json.dumps(make_.RULES), "variants": json.dumps(["aircache"] + demo.VARIANTS), "methods": json.dumps(make_.METHODS),
        "undecided": json.dumps(undecided), "margins": json.dumps(notes), "written": json.dumps(written),
    }  # fmt: skip
    make_.save_file(tensors, target / f"{case}.safetensors", metadata)
    print(len(ids), int(roles.sum()), {a: f"{b:.1e}" for a, b in notes.items()}, undecided, written)

