"""Drives kvpress (its press modules alone, in an environment of its own) on the random cases and compares with the twin.

SnapKV: `SnapKVPress.score`, given float64 attention and the same window, must equal the twin's pooled score of every
position before the window. StreamingLLM: its kept set at scope all must equal first 4 + most recent. PyramidKV: its layer
budgets are printed beside the twin's; they differ by rounding each layer by itself, by counting the window and
by falling back to uniform where the smallest budget is below the window. Nothing is stored.
"""
import importlib
import importlib.util
import sys
import types
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import policy_twin as twin


def presses():
    """kvpress.presses.* without kvpress/__init__, which imports far more than is needed."""
    folder = Path(importlib.util.find_spec("kvpress").submodule_search_locations[0])
    for name, path in (("kvpress", folder), ("kvpress.presses", folder / "presses")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    return [importlib.import_module(f"kvpress.presses.{m}_press") for m in ("snapkv", "pyramidkv", "streaming_llm")]


def check(cases):
    import torch
    torch.set_num_threads(1)
    snapkv, pyramidkv, streaming = presses()
    for case in cases:
        q, k, roles = case.q.astype(np.float64), case.k.astype(np.float64), case.roles.astype(int)
        if case.name.startswith(("error", "no-")):
            continue
        (heads, n, _), groups = q.shape[1:], k.shape[1]
        t = twin.text_rows(roles, "after")[-32:]
        w, rows = len(t), np.arange(n)
        worst = 0.0
        for l in range(len(q)):
            attention = np.stack([twin.attention(q[l, h], k[l, h // (heads // groups)], rows, rows, "causal") for h in range(heads)])
            module = SimpleNamespace(config=SimpleNamespace(num_attention_heads=heads, num_key_value_heads=groups, num_hidden_layers=len(q)), layer_idx=l)
            keys = torch.from_numpy(k[l])[None]
            got = snapkv.SnapKVPress(0.5, w, 5).score(module, torch.zeros(1, n, 1), keys, keys, torch.from_numpy(attention)[None], {})[0].numpy()
            for g in range(groups):
                members = range(g * heads // groups, (g + 1) * heads // groups)
                a = np.stack([attention[h][t] for h in members])
                ours = twin.pooled(a, rows, t)
                before = rows < t[0]
                assert (got[g][~before] > got[g][before].max()).all()
                worst = max(worst, np.abs(got[g][before] - ours[before]).max())
                score = np.where(before, ours, np.inf)
                for b in range(w, n, 5):        # whole prompt: kvpress's own top b, window included
                    top = set(torch.from_numpy(got[g]).topk(b).indices.tolist())
                    mine = set(sorted(rows, key=lambda i: (-score[i], i))[:b])
                    if top != mine:     # only where scores tie
                        assert np.allclose(sorted(got[g][list(top - mine)]), sorted(got[g][list(mine - top)]), rtol=1e-12), (case.name, b)
            if n > 8:
                press = streaming.StreamingLLMPress(0.5, 4)
                kept = np.flatnonzero(press.score(module, torch.zeros(1, n, 1), keys, keys, None, {})[0, 0].numpy())
                b = int(n * 0.5)
                assert list(kept) == twin.kept(twin.PRESETS["streaming"], None, b, n, None)
        lines = []
        for r in (Fraction(1, 2), Fraction(3, 10), Fraction(1, 10)):
            press = pyramidkv.PyramidKVPress(1 - float(r), 1, 5, 20)
            theirs = []
            for l in range(len(q)):
                module = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=len(q)), layer_idx=l)
                theirs.append(press.get_layer_budget(module, n))
            ours = [float(s * r * n) for s in twin.pyramid(r, n, len(q))]
            lines.append(f"r {float(r)}: kvpress {theirs} twin {[round(x, 2) for x in ours]}")
        print(case.name, f"SnapKV score differs by {worst:.1e};", "; ".join(lines))
