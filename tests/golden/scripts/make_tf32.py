"""Makes `tf32/`: attention and a linear layer whose products read TF32, honest and with planted bugs, for `check --kernel`.

`numpy.safetensors` comes from here on any machine (numpy 2.4.6, safetensors 0.8.0): operands are narrowed to 10 bits of mantissa, by
rounding to nearest or by dropping bits, and products add in float32. `h200.safetensors` needs a GPU: it is what the calls of `by_gpu` gave
on an NVIDIA H200 with torch 2.11.0+cu130 and `allow_tf32` on, on 2026-12-01; `make_tf32.py --gpu` repeats them. There cuBLAS read of 1 + x · 2⁻¹⁰ the
nearest number, ties to even, in `mm`, `linear` and larger `bmm`; a `bmm` of 16 × 16 and a patch embedding read all bits.
"""

import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tf32"
HEADS, GROUPS, ROWS, SIZE = 4, 2, 40, 32


def inputs():
    rng = np.random.default_rng(7)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    q, k, v = normal(HEADS, ROWS, SIZE), normal(GROUPS, ROWS, SIZE), normal(GROUPS, ROWS, SIZE)
    x, weight, bias = normal(ROWS, 128), normal(48, 128) * np.float32(0.1), normal(48)
    return {"q": q, "k": k, "v": v, "x": x, "weight": weight, "bias": bias}


def nearest(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)) & np.uint32(0xFFFFE000)).view(np.float32)


def truncated(x):
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def attention(q, k, v, read, scale=SIZE**-0.5, hidden=None):
    k, v = (np.repeat(x, HEADS // GROUPS, 0) for x in (k, v))
    scores = read(q) @ read(k).transpose(0, 2, 1) * np.float32(scale)
    sees = np.tril(np.ones((ROWS, ROWS), bool))
    if hidden is not None:
        sees[hidden + 1 :, hidden] = False
    p = np.exp(np.where(sees, scores, -np.inf) - np.where(sees, scores, -np.inf).max(-1, keepdims=True), dtype=np.float32)
    return read(p) @ read(v) / p.sum(-1, keepdims=True)


def linear(x, weight, bias, read):
    return read(x) @ read(weight).T + bias


def norm(x, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))


def by_numpy(a):
    qkv, layer = (a["q"], a["k"], a["v"]), (a["x"], a["weight"], a["bias"])
    return {
        "attention.nearest": attention(*qkv, nearest),
        "attention.truncated": attention(*qkv, truncated),
        "attention.bug-scale": attention(*qkv, nearest, scale=1.02 * SIZE**-0.5),
        "attention.bug-key": attention(*qkv, nearest, hidden=9),
        "linear.nearest": linear(*layer, nearest),
        "linear.truncated": linear(*layer, truncated),
        "linear.bug-bias": linear(*layer[:2], 0, nearest),
        "norm.honest": norm(a["x"], 1e-6),
        "norm.bug-eps": norm(a["x"], 1e-4),
    }


def by_gpu(a):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import linear, scaled_dot_product_attention

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    ulp = 2.0**-10
    probe = torch.tensor([1 + part * ulp for part in (0.5, 0.625, 0.375, 0.875, 1.5)], device="cuda")
    for side in (16, 64, 256, 1024, 4096):
        one, own = torch.eye(side, device="cuda"), torch.diag(probe.repeat(side // 5 + 1)[:side])
        print(side, [(float(v) - 1) / ulp for v in (own @ one).diagonal()[:5]])
    t = {name: torch.tensor(value).cuda() for name, value in a.items()}
    k, v = (t[site].repeat_interleave(HEADS // GROUPS, 0) for site in "kv")
    hides = torch.ones(ROWS, ROWS, device="cuda").tril() == 0
    eager = ((t["q"] @ k.mT) * SIZE**-0.5).masked_fill(hides, -torch.inf).softmax(-1) @ v
    out = {"attention.eager": eager, "linear.cublas": linear(t["x"], t["weight"], t["bias"])}
    for backend in (SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION):
        with sdpa_kernel(backend):
            mix = scaled_dot_product_attention(t["q"][None], k[None], v[None], is_causal=True)[0]
        out[f"attention.{backend.name.lower()}"] = mix
    return {name: value.contiguous().cpu().numpy() for name, value in out.items()}


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    arrays, gpu = inputs(), "--gpu" in sys.argv
    made = {**arrays, **(by_gpu if gpu else by_numpy)(arrays)}
    made = {name: np.ascontiguousarray(value, np.float32) for name, value in made.items()}
    about = {"format": "aircache-bundle", "precision": "tf32"}
    save_file(made, OUT / ("h200.safetensors" if gpu else "numpy.safetensors"), metadata=about)
