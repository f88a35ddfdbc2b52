"""What the makers of toy checkpoints share: pictures, and a folder for each case. Run by make_*.py, not by itself."""
import json
import pathlib
import re
import shutil
import sys
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import resample_twin
from record import write

DTYPE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
HUB_DTYPE = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
MISSING = object()  # a key to leave out


def split(options):
    """Options by the object of config.json to which they go: the outermost, text_config, vision_config."""
    config, text, vision = {}, {}, {}
    for key, value in options.items():
        if not key.startswith("@") and value is not MISSING:
            part, _, name = key.rpartition(".")
            {"": config, "text": text, "vision": vision}[part][name] = value
    return config, text, vision


def fresh(folder, config, model_class, config_class):
    """A folder with this config.json, and a model as it says."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return model_class(config_class.from_pretrained(folder))


def picture(height, width, seed):
    """Smooth blobs and hard edges, from the twin's noise: not flat, not only noise."""
    small = Image.fromarray(resample_twin.noise(3, 4, seed)).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.fromarray(resample_twin.noise(height, width, seed + 1)).convert("L").point(lambda v: 255 * (v > 150))
    return Image.composite(small, Image.fromarray(resample_twin.gradient(height, width, seed)), mask)


def weights(model, seed, norms, wide, sharp=r"[qk]_proj|lm_head"):
    """Random, wide enough that logits spread and attention is not even; by parts of names, `sharp` a pattern."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        r = torch.randn(p.shape, generator=g)
        if any(part in name for part in norms):
            r = 0.2 * r if name.endswith("bias") else 1 + 0.25 * r
        elif name.endswith("bias"):
            r = 0.3 * r
        elif any(part in name for part in wide):
            r = 0.7 * r
        else:
            r = (1.6 if re.search(sharp, name) else 1.2) * r / (p[0].numel() ** 0.5)
        p.data.copy_(r)


def save(folder, model, rename, options, more=None):
    """The weights of a model as a checkpoint has them, in as many files as the options say; `more`: tensors in the place of its own."""
    tied = model.config.tie_word_embeddings
    tensors = {
        rename(k, options["@names"]): v.detach().to(DTYPE[options["@dtype"]]).contiguous().clone()
        for k, v in model.state_dict().items()
        if not (tied and k == "lm_head.weight")
    } | (more or {})
    parts = options["@shards"]
    if parts == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    where = {n: f"model-{i * parts // len(names) + 1:05}-of-{parts:05}.safetensors" for i, n in enumerate(names)}
    for file in sorted(set(where.values())):
        save_file({n: tensors[n] for n in names if where[n] == file}, folder / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def tokenizer(folder, demo, special, first, **more):
    """The demo's words, and special tokens from id `first` on, the padding token the first of them."""
    words = json.loads((demo / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    words["added_tokens"] = [{"id": first + i, "content": t, **flags} for i, t in enumerate(special)]
    (folder / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False, separators=(",", ":")))
    settings = {
        "added_tokens_decoder": {str(first + i): {"content": t, **flags} for i, t in enumerate(special)},
        "additional_special_tokens": special[1:], "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "errors": "replace", **more, "model_max_length": 32768, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def make(folder, case, options, checkpoint, record, mark, demo):
    """checkpoint(folder, options, seed, demo) writes the model; record is that of the family, mark its placeholder, all its marks, or a pattern of them.

    A case with "frames" is a film of frames of those sizes; one with "model" uses a checkpoint that is there, its path relative to the case.
    """
    for attempt in range(50):  # until no greedy choice is close
        shutil.rmtree(folder, ignore_errors=True)
        seed = zlib.crc32(folder.name.encode()) % 100000 + attempt
        model, film = case.get("model", "model"), "frames" in case
        if "model" in case:
            folder.mkdir(parents=True)
        else:
            checkpoint(folder / model, options, seed, demo)
        files = []
        for i, (h, w) in enumerate(case["frames" if film else "images"]):
            files.append(folder / f"{'frame' if film else 'image'}{i}.png")
            picture(h, w, seed + i).save(files[-1], optimize=True)
        given = {"film": True} if film else {}
        given |= {key: case[key] for key in ("fps", "choose") if key in case}
        rendered, text, tensors, metadata, facts = record(folder / model, case["prompt"], case.get("system"), files, **given)
        if facts["margin"] > 0.05:
            break
    info = facts.pop("info")
    if film:  # what is after the merged rows is what images show already
        tensors = {k: v for k, v in tensors.items() if not k.endswith((".query", ".value", ".mix", ".embed", ".norm"))}
        tensors = {k: v.astype(np.float32) if k.endswith(".key") else v for k, v in tensors.items()}
    write(folder / "expected.safetensors", tensors, metadata)
    described = {
        "prompt": case["prompt"], "system": case.get("system"), "rendered": rendered, "text": text,
        "what": case["what"], "frames" if film else "images": [f.name for f in files],
    }  # fmt: skip
    if "model" in case:
        described["model"] = model
    described |= {key: case[key] for key in ("fps", "choose") if key in case}
    (folder / "case.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    if isinstance(mark, re.Pattern):
        text, rendered = mark.sub("", text), mark.sub("", rendered)
    else:
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
