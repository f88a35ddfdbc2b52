"""What the makers of toy checkpoints share: pictures, and a folder for each case. Run by make_*.py, not by itself."""
import json
import pathlib
import shutil
import sys
import zlib

import torch
from PIL import Image

import resample_twin
from record import write

DTYPE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
HUB_DTYPE = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
MISSING = object()  # a key to leave out


def picture(height, width, seed):
    """Smooth blobs and hard edges, from the twin's noise: not flat, not only noise."""
    small = Image.fromarray(resample_twin.noise(3, 4, seed)).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.fromarray(resample_twin.noise(height, width, seed + 1)).convert("L").point(lambda v: 255 * (v > 150))
    return Image.composite(small, Image.fromarray(resample_twin.gradient(height, width, seed)), mask)


def make(folder, case, options, checkpoint, record, mark, demo):
    """checkpoint(folder, options, seed, demo) writes the model; record is that of the family, mark its placeholder, or all its marks."""
    for attempt in range(50):  # until no greedy choice is close
        shutil.rmtree(folder, ignore_errors=True)
        seed = zlib.crc32(folder.name.encode()) % 100000 + attempt
        checkpoint(folder / "model", options, seed, demo)
        files = []
        for i, (h, w) in enumerate(case["images"]):
            picture(h, w, seed + i).save(folder / f"image{i}.png", optimize=True)
            files.append(folder / f"image{i}.png")
        rendered, text, tensors, metadata, facts = record(folder / "model", case["prompt"], case.get("system"), files)
        if facts["margin"] > 0.05:
            break
    info = facts.pop("info")
    write(folder / "expected.safetensors", tensors, metadata)
    described = {
        "prompt": case["prompt"], "system": case.get("system"), "rendered": rendered, "text": text,
        "what": case["what"], "images": [f.name for f in files],
    }  # fmt: skip
    (folder / "case.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    for m in [mark] if isinstance(mark, str) else mark:
        text, rendered = text.replace(m, ""), rendered.replace(m, "")
    assert text == rendered, (text, rendered)
    assert facts["margin"] > 0.05, facts
    for f in folder.rglob("*"):
        f.chmod(0o755 if f.is_dir() else 0o644)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) // 1024
    loose = {k: v for k, v in info.items() if v}
    print(f"{folder.name:28} n={facts['n']:4} visual={facts['visual']:4} margin={facts['margin']:.3f} spread={facts['spread']:.2f} {size} KB {loose or ''}", flush=True)


def main(root, base, cases, checkpoint, record, mark):
    """Usage of every maker: DEMO_MODEL_FOLDER [CASE ...]"""
    demo = pathlib.Path(sys.argv[1])
    failed = []
    for name in sys.argv[2:] or cases:
        try:
            make(root / name, cases[name], {**base, **cases[name]["config"]}, checkpoint, record, mark, demo)
        except Exception as e:
            failed.append(name)
            print(f"{name}: {type(e).__name__}: {str(e)[:300]}", flush=True)
    sys.exit(f"failed: {failed}" if failed else 0)
