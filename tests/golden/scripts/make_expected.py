"""Drives kvpress's ExpectedAttentionPress on CPU tensors and stores what it answers: `methods/expected.json`.

    make_expected.py KVPRESS

KVPRESS is a checkout of NVIDIA/kvpress at `PINNED`. Nothing of its code is stored: a case is a seed and sizes, from which
queries before rotary, keys and values follow as in make_methods.py, and the answer: the mean and the covariance after the
mean rotation, the scores of all rows, and the rows that each KV head keeps. Everything is computed in float64; cosines and
sines are those of transformers, which computes angles in float32. Made with torch 2.11.0 and transformers 5.17.0.
"""
import importlib
import json
import math
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

PINNED = {"kvpress": "8bb29b9c3078452a86d692f29123fa6c793e2b05"}
ROLES = "T" * 3 + "V" * 21 + "T" * 8
# name, seed, heads, KV heads, head size, theta, next positions, what the press is told, entries that stay.
CASES = [
    ("one head for each KV head", 11, 2, 2, 8, 10000.0, 512, {}, 12),
    ("two heads for each KV head", 12, 4, 2, 8, 10000.0, 512, {}, 16),
    ("few positions", 13, 4, 2, 8, 10000.0, 3, {}, 9),
    ("heads of 16, another base", 14, 6, 2, 16, 1000000.0, 512, {}, 10),
    ("one position", 15, 2, 1, 8, 10000.0, 1, {}, 20),
]


def press():
    """The press, without what kvpress's package imports."""
    folder = Path(sys.argv[1]) / "kvpress"
    for name, path in (("kvpress", folder), ("kvpress.presses", folder / "presses")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    return importlib.import_module("kvpress.presses.expected_attention_press").ExpectedAttentionPress


def numbers(seed):
    """The stream that the test has too: multiples of 1/64 in -3 ... 3, exact in every type."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield ((state >> 40) % 385 - 192) / 64


def rounded(values):
    return [rounded(v) for v in values] if isinstance(values, list) else float(f"{values:.12g}")


def answer(name, seed, heads, kv_heads, dim, theta, positions, told, tokens):
    n, stream = len(ROLES), numbers(seed)
    take = lambda *shape: torch.tensor([next(stream) for _ in range(math.prod(shape))], dtype=torch.float64).reshape(1, *shape)
    # As the first layer of make_methods.py: queries are half as large.
    q, k, v = take(heads, n, dim) / 2, take(kv_heads, n, dim), take(kv_heads, n, dim)
    config = LlamaConfig(hidden_size=heads * dim, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=dim)
    config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
    module = SimpleNamespace(
        config=config, head_dim=dim, q_proj=torch.nn.Identity(), rotary_emb=LlamaRotaryEmbedding(config))
    hidden = q[0].transpose(0, 1).reshape(1, n, heads * dim)
    made = press()(1 - tokens / n - 1e-9, n_future_positions=positions, **told)
    mean, covariance = made.get_query_statistics(module, hidden)
    scores = made.score(module, hidden, k, v, None, {})
    keys, _ = made.compress(module, hidden, k, v, None, {})
    kept = [sorted(next(j for j in range(n) if torch.equal(k[0, g, j], e)) for e in keys[0, g]) for g in range(kv_heads)]
    assert mean.dtype == scores.dtype == torch.float64
    return {
        "name": name, "seed": seed, "sizes": [heads, kv_heads, dim], "theta": theta, "positions": positions, "tokens": tokens,
        "mean": rounded(mean[0].tolist()), "covariance": rounded(covariance[0].tolist()),
        "scores": rounded(scores[0].tolist()), "kept": kept,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [answer(*case) for case in CASES]
    target = Path(__file__).parents[1] / "methods" / "expected.json"
    lines = ",\n".join(json.dumps(c) for c in cases)
    target.write_text(json.dumps({"pinned": PINNED, "roles": ROLES})[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(f"{target}: {len(cases)} cases")
