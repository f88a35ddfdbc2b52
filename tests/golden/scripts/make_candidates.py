"""Makes `candidates/`: what transformers computes of a toy's prompt, honest and with planted bugs, as candidates for `check`.

The `cpu-*` files come from here, with the recorder of the package in `python/` (`pip install ./python`), which then wrote no layers of steps. The `h100-*` files were kept by `examples/pytorch/gpu_matrix.py --keep` on an H100 80GB with
torch 2.11.0+cu130 and transformers 5.17.0 on 2026-11-24 (cases-2.json, the toy at a retention of 0.1), and cannot be remade without one.
"""

import contextlib
import json
import pathlib
import sys

GOLDEN = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(GOLDEN.parent.parent / "examples" / "pytorch"))

import gpu_matrix as matrix  # noqa: E402
import torch  # noqa: E402
from aircache import policy  # noqa: E402
from aircache.transformers import run as rc  # noqa: E402

TOY = GOLDEN / "llava" / "shrink-anyres-max-2"
HONEST = [("f32", "eager"), ("f32", "sdpa"), ("bf16", "eager"), ("bf16", "sdpa"), ("f16", "sdpa")]
BUGS = {
    "one-head": ("f32", lambda model: matrix.scaled_head(model, layer=1, head=1)),
    "no-mask": ("bf16", matrix.no_mask),
    "entries-late": ("bf16", lambda _: matrix.instead(policy, "evict", matrix.late_evict)),
    "cache-length": ("f16", lambda _: matrix.instead(rc, "next_position", matrix.cache_length)),
}


def in_order(path):
    """The same file with its metadata sorted: safetensors writes them in any order."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def main():
    torch.set_num_threads(1)
    out = GOLDEN / "candidates"
    out.mkdir(exist_ok=True)
    inputs, rendered = rc.ask(str(TOY / "model"), [str(TOY / "image0.png")], "Read all text.")
    todo = [(f"cpu-{kind}-{attention}", kind, attention, lambda _: contextlib.nullcontext()) for kind, attention in HONEST]
    todo += [(f"cpu-{kind}-bug-{bug}", kind, "sdpa", change) for bug, (kind, change) in BUGS.items()]
    for name, kind, attention, change in todo:
        model = rc.load(str(TOY / "model"), kind, attention, "cpu")
        path = out / f"{name}.safetensors"
        with change(model):
            about = {"precision": kind, "prompt": rendered, "attention": attention}
            rc.record(model, inputs, tokens=8, retain="0.1", steps=False, **about).save(path)
        in_order(path)
        print(name)


if __name__ == "__main__":
    main()
