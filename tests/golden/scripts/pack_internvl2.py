"""Usage: pack_internvl2.py FOLDER_OF_CASES TARGET

Packs what InternVL2's own modelling code (transformers 4.37.2, PyTorch on the CPU, float64) computed for toy checkpoints
into the form that tests read. The code is in no package registry; the cases came with the project, a folder each, with
model/, images, case.json and expected.safetensors (input_ids, pixel_values, logits.last, logits.tail8, hidden.N of the
last 8 rows, cache.N.k and .v, tokens). Nothing is computed here: stages get the project's names, caches and hidden states
become float32 (they are judged to 1e-5), and the checkpoint of a case in WITHOUT_WEIGHTS is left out, to save room: its
ids and pixels are kept, and are read with the files of another case.
"""
import json
import pathlib
import re
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file

from record import write

WITHOUT_WEIGHTS = {"internlm2": "internlm2-two-images"}
source, target = map(pathlib.Path, sys.argv[1:])
for case in sorted(p for p in source.iterdir() if p.is_dir()):
    name = case.name.removeprefix("internvl2-").replace("-toy", "")
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    about = json.loads((case / "case.json").read_text())
    rendered = re.sub("<img>(<IMG_CONTEXT>)*</img>", "<image>", about["text"])
    described = {
        "prompt": about["prompt"], "system": None, "rendered": rendered, "text": about["text"], "images": about["images"],
        "model": f"../{WITHOUT_WEIGHTS.get(name, name)}/model",
    }  # fmt: skip
    (folder / "case.json").write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n")
    for image in about["images"]:
        shutil.copy(case / image, folder / image)
    tensors = load_file(case / "expected.safetensors")
    stages = {"input.ids": tensors["input_ids"], "input.pixels": tensors["pixel_values"]}
    if name not in WITHOUT_WEIGHTS:
        shutil.copytree(case / "model", folder / "model", dirs_exist_ok=True)
        layers = max(int(t.split(".")[1]) for t in tensors if t.startswith("cache.")) + 1
        tail = ["decoder.embed", *(f"decoder.{i:02}.out" for i in range(layers - 1)), "decoder.norm"]
        for i, stage in enumerate(tail):
            stages[f"tail.{stage}"] = tensors[f"hidden.{i}"].astype(np.float32)
        for i in range(layers):
            stages[f"decoder.{i:02}.key"] = tensors[f"cache.{i}.k"].astype(np.float32)
            stages[f"decoder.{i:02}.value"] = tensors[f"cache.{i}.v"].astype(np.float32)
        stages["decoder.logits"] = tensors["logits.last"]
        stages["output.ids"] = tensors["tokens"]
    metadata = {"format": "aircache-bundle", "version": "1", "producer": "InternVL2's own code, transformers 4.37.2",
                "family": "internvl_chat", "precision": "f64", "preprocess": "pillow"}  # fmt: skip
    write(folder / "expected.safetensors", stages, metadata)
    for f in [folder, *folder.rglob("*")]:
        f.chmod(0o755 if f.is_dir() else 0o644)
