"""What a failed kernel may have computed instead: other inputs with which the same output would be honest.

A suspect is named only if the whole output passes with it, so a cause is never a guess. Not here: judging.
"""

import numpy as np

from .arrays import Stored


def of(name, arrays, numbers):
    """(words, arrays, numbers) of each suspect. arrays: `Stored` by name; numbers: what was said beside them."""
    for words, change in KINDS.get(name, lambda *_: ())(arrays, numbers):
        changed = {**arrays, **{k: v for k, v in change.items() if isinstance(v, Stored)}}
        said = {**numbers, **{k: v for k, v in change.items() if not isinstance(v, Stored)}}
        yield words, {k: v for k, v in changed.items() if k not in change or change[k] is not None}, {k: v for k, v in said.items() if v is not None}


def attention(arrays, numbers):
    q, k, v = (arrays[name] for name in "qkv")
    d, heads, groups, n, m = q.shape[-1], q.shape[-3] if len(q.shape) > 2 else 1, k.shape[-3] if len(k.shape) > 2 else 1, q.shape[-2], k.shape[-2]
    for words, scale in (("1/d", 1 / d), ("1/√d", d**-0.5), ("1", 1.0)):
        if scale != float(numbers.get("scale", d**-0.5)):
            yield f"the scale {words}", {"scale": scale}
    for words, offset in (("no mask", m), ("a causal mask that is aligned at the first entry", 0), ("a causal mask that lets a row see one entry more", m - n + 1)):
        seen = np.arange(m) <= np.arange(n)[:, None] + offset
        if numbers.get("causal") in (True, "true") or "mask" in arrays:
            yield words, {"mask": Stored("BOOL", seen), "causal": False}
    if numbers.get("causal") in (False, "false") and n <= m:
        yield "a causal mask", {"causal": True}
    if 1 < groups < heads:
        turned = [h % groups for h in range(heads)]
        pick = lambda x: Stored(x.dtype, np.ascontiguousarray(np.take(x.bits, turned, -3)))
        yield f"query head h on KV head h mod {groups}", {"k": pick(k), "v": pick(v)}


def norm(arrays, numbers):
    for eps in (0.0, 1e-12, 1e-6, 1e-5, 1e-3):
        if eps != float(numbers.get("eps", -1)):
            yield f"ε = {eps:g}", {"eps": eps}
    plus = Stored("F32", arrays["weight"].values().astype(np.float32) + 1)
    yield "1 + weight in place of the weight", {"weight": plus}
    if "bias" in arrays:
        yield "the bias left out", {"bias": Stored(arrays["bias"].dtype, np.zeros_like(arrays["bias"].bits))}


def linear(arrays, numbers):
    if "bias" in arrays:
        yield "the bias left out", {"bias": None}
    rows, columns = arrays["weight"].shape
    if rows == columns:
        yield "the weight transposed", {"weight": Stored(arrays["weight"].dtype, np.ascontiguousarray(arrays["weight"].bits.T))}


def rotary(arrays, numbers):
    x, out, positions = arrays["x"], arrays["out"], arrays["positions"]
    order = np.arange(x.shape[-1]).reshape(-1, 2).T.reshape(-1)
    halves = lambda a: Stored(a.dtype, np.ascontiguousarray(a.bits[..., order]))
    yield "neighbours turned together in place of halves", {"x": halves(x), "out": halves(out)}
    for words, moved in (("positions that are one too large", positions.bits + 1), ("positions that are one too small", positions.bits - 1), ("a turn in the other direction", -positions.bits)):
        yield words, {"positions": Stored("I64", moved.astype(np.int64))}


KINDS = {"attention": attention, "norm": norm, "linear": linear, "rotary": rotary}
