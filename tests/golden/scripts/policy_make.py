"""Makes tests/golden/policy: random cases and results on the demo model, judged by policy_twin.py.

    python policy_make.py random                       # needs numpy, safetensors
    python policy_make.py demo --model DEMO_MODEL_DIR  # needs torch and transformers too
    python policy_make.py kvpress                      # cross-check of SnapKV and StreamingLLM against kvpress (prints)

The format is described in tests/golden/policy/README.md.
"""
import argparse
import json
from copy import copy
from itertools import product
from pathlib import Path

import numpy as np

import policy_twin as twin

HERE = Path(__file__).resolve().parent.parent / "policy"
RETAIN = ["1", "0.8", "0.5", "0.3", "0.1", "0.02"]
RULES = ["uniform", "pyramid", "prefix", "sparsity", "strength", "skewness", "both"]
METHODS = ["full", "h2o", "snapkv", "pyramidkv", "prefixkv", "vl-cache", "streaming"]
NEAR = 1e-10    # no decision of a random case may be nearer than this, unless it is an exact tie


TYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "uint8": "U8"}


def save_file(tensors, path, metadata):
    """Safetensors with a header in fixed order (the package's own orders metadata at random), so that remaking gives the same bytes."""
    header, at = {"__metadata__": metadata}, 0
    for name in sorted(tensors, key=lambda x: (-tensors[x].itemsize, x)):
        a = tensors[name]
        header[name] = {"dtype": TYPES[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in list(header)[1:])
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


# ---------------------------------------------------------------- variants

def named(**parts):
    """A policy string with the parts that differ from AirCache's, in the contract's order."""
    default = twin.Policy()
    given = [f"{k}={parts[k]}" for k in ("window", "heads", "keys", "mask", "text") if k in parts and parts[k] != getattr(default, k)]
    return ",".join(given) or "aircache"


def long_list():
    out = [named(heads=h, keys=k, mask=m, text=t)
           for h, k, m, t in product(("mean", "union", "kv"), ("elite", "all"), ("none", "causal"), ("after", "all"))]
    out += [named(heads=h, keys="causal") for h in ("mean", "union", "kv")]
    windows = ["elite:0", "elite:0.5", "elite:1", "last-text:2", "last-text:16", "last-text:32", "all-text", "last-visual:4",
               "last-visual:32", "all-queries"]
    out += [named(window=w, heads=h) for w in windows for h in ("mean", "kv")]
    out += [named(window="all-text", text="all"), named(window="last-text:16", text="all"), named(window="elite:0", text="all"),
            named(window="all-queries", keys="all", mask="causal"), named(window="all-queries", keys="causal"),
            named(window="last-visual:4", mask="causal"), named(window="last-visual:4", keys="all")]
    return list(dict.fromkeys(out))


def short_list():
    return ["aircache", "heads=union", "heads=kv", "keys=all", "keys=causal", "mask=causal", "text=all",
            "heads=kv,keys=all,mask=causal,text=all", "window=elite:0", "window=elite:1", "window=last-text:2", "window=all-text",
            "window=last-visual:4", "window=last-visual:32", "window=all-queries", "window=all-queries,keys=causal"]


# ---------------------------------------------------------------- random cases

def roles_of(pattern):
    """'5t 24v 11t' -> roles."""
    out = []
    for part in pattern.split():
        out += [1 if part[-1] == "v" else 0] * int(part[:-1])
    return np.array(out, np.uint8)


class Case:
    """q [L, H, n, d], k [L, G, n, d] as float32; scale[l] is about the deviation of a layer's logits."""

    tail = None     # nobody knows where a random prompt's template tail begins: no text=question

    def __init__(self, name, seed, pattern, heads, groups, dim, scale, why, change=None, variants=short_list):
        rng = np.random.default_rng(seed)
        self.name, self.why, self.roles, self.variants = name, why, roles_of(pattern), variants
        n, count = len(self.roles), len(scale)
        q = rng.standard_normal((count, heads, n, dim)) * np.array(scale)[:, None, None, None]
        k = rng.standard_normal((count, groups, n, dim))
        if change:
            change(q, k, np.flatnonzero(self.roles == 1), np.flatnonzero(self.roles == 0))
        self.q, self.k = q.astype(np.float32), k.astype(np.float32)


def tie(q, k, v, t):
    k[:, :, v[1::3]] = k[:, :, v[0]][:, :, None]        # every third visual key is the same
    k[:, :, v[5]] = k[:, :, v[2]]
    k[:, :, t[-4]] = k[:, :, t[-2]]                     # two text keys are the same
    q[2], k[2] = q[1], k[1]                             # two layers are the same
    q[3], k[3] = q[1], k[1]


def equal(q, k, v, t):
    k[:, :, v] = k[:, :, v[:1]]


def one_layer(q, k, v, t):
    for l in (0, 2, 3):
        k[l][:, v] = k[l][:, v[:1]]


def faint(q, k, v, t):
    depth, dim = 280.0, q.shape[-1]
    q[..., 0] = 20.0
    k[..., 0] = 0.0
    k[:, :, v, 0] = -depth * np.sqrt(dim) / 20.0


def strong(q, k, v, t):
    q[..., 0] = 2.0
    k[..., 0] = 0.0
    for l, lift in enumerate((6.0, -8.0, 4.0, -2.0, 1.0)):
        k[l][:, v, 0] = lift


def saturated(q, k, v, t):
    q[:], k[:] = 500 * np.rint(q), np.rint(k)           # logits are multiples of 500 / sqrt(16); exp(-750) is 0


def nan(q, k, v, t):
    k[1, 0, v[2], 3] = np.nan


def cases():
    return [
        Case("plain-g2", 2, "5t 24v 11t", 4, 2, 16, [0.1, 0.6, 1.5, 3.0], "the ordinary case", variants=long_list),
        Case("grouped-g4", 2, "3t 30v 15t", 8, 4, 8, [0.05, 0.5, 2.0], "four KV heads of two query heads", variants=long_list),
        Case("two-images", 3, "4t 22v 6t 20v 12t", 4, 2, 8, [0.2, 1.0, 0.4, 2.0], "text between two images is not after the last", variants=long_list),
        Case("ties", 4, "3t 25v 10t", 4, 2, 8, [0.3, 1.0, 1.0, 1.0, 0.2], "equal visual keys, equal text keys, equal layers", tie, long_list),
        Case("one-kv-head", 5, "4t 26v 10t", 4, 1, 8, [0.3, 1.0, 2.5], "G = 1"),
        Case("all-kv-heads", 6, "2t 20v 8t", 4, 4, 32, [0.3, 1.0, 2.5], "G = H"),
        Case("long-text", 7, "2t 28v 50t", 4, 2, 8, [0.1, 0.8, 2.0], "more than 32 text tokens after the image"),
        Case("six-layers", 8, "1t 40v 7t", 4, 2, 8, [0.1, 0.4, 0.8, 1.2, 2.0, 3.0], "six layers, few text tokens"),
        Case("capped", 9, "3t 20v 9t", 4, 2, 8, [0.5, 2.0, 1.0, 1.5, 0.7], "layers of very unequal strength: caps of A8.8, empty layers of A8.9", strong),
        Case("one-layer", 10, "3t 20v 7t", 4, 2, 8, [0.5, 1.5, 1.0, 0.7], "skewness 0 in all layers but one", one_layer),
        Case("equal-keys", 11, "3t 21v 7t", 4, 2, 8, [0.5, 1.5, 1.0], "all visual keys of a layer and KV head are equal: skewness 0 everywhere", equal),
        Case("saturated", 12, "4t 24v 8t", 4, 2, 16, [1.0, 1.0, 1.0], "logits are multiples of 125: probabilities are 0, 1, 1/2 ... or below 1e-54", saturated),
        Case("faint", 13, "4t 24v 8t", 4, 2, 16, [0.5, 1.0, 0.7], "importances near 1e-120: sigma^3 underflows where it is formed", faint),
        Case("one-visual", 14, "3t 1v 6t", 4, 2, 8, [0.5, 1.0, 2.0, 1.0, 0.3], "n_v = 1"),
        Case("two-visual", 15, "3t 2v 6t", 4, 2, 8, [0.5, 1.0, 2.0, 1.0, 0.3], "n_v = 2"),
        Case("smallest", 16, "3v 1t", 4, 4, 8, [1.0, 2.0, 0.5], "n = 4: three visual tokens, one text token"),
        Case("no-visual", 17, "24t", 4, 2, 8, [0.5, 1.0, 2.0], "n_v = 0: nothing to do, no error"),
        Case("error-no-text", 18, "4t 12v", 4, 2, 8, [0.5, 1.0, 2.0], "no text after the image: an error (with text=all it is none)"),
        Case("error-nan", 19, "4t 12v 6t", 4, 2, 8, [0.5, 1.0, 2.0], "a NaN in one visual key: an error wherever it is scored", nan,
             lambda: ["aircache", "heads=union", "heads=kv", "keys=all", "window=all-text", "window=all-queries"]),
    ]


def bundle(case):
    out = {"input.roles": case.roles}
    for l in range(len(case.q)):
        out[f"decoder.{l:02}.query"] = case.q[l]
        out[f"decoder.{l:02}.key"] = case.k[l]
    return out


def mask(rows, n):
    out = np.zeros(n, np.uint8)
    out[np.asarray(rows, int)] = 1
    return out


def kept_mask(kept, n_v):
    """Index lists of a plan -> U8 [L, n_v] or [L, G, n_v]."""
    return np.stack([np.stack([mask(head, n_v) for head in layer]) if layer and isinstance(layer[0], list) else mask(layer, n_v)
                     for layer in kept])


def observed_tensors(name, layers, n, policy):
    out = {}
    if layers[0].window is None:
        return out
    out[f"{name}/window"] = np.stack([np.stack([mask(w, n) for w in l.window]) if policy.heads == "kv" else mask(l.window, n) for l in layers])
    out[f"{name}/importance"] = np.stack([l.importance for l in layers])
    out[f"{name}/strength"] = np.array([l.strength for l in layers])
    out[f"{name}/skewness"] = np.array([l.skewness for l in layers])
    return out


def shuffled(case):
    """The same case with head dimensions, and query heads within their group, in another order: other sums, same mathematics."""
    rng = np.random.default_rng(99)
    other = copy(case)
    heads, groups, dim = case.q.shape[1], case.k.shape[1], case.q.shape[3]
    order = np.concatenate([g * (heads // groups) + rng.permutation(heads // groups) for g in range(groups)])
    dims = rng.permutation(dim)
    other.q, other.k = case.q[:, order][..., dims], case.k[..., dims]
    return other


def check(policy, r, n_v, budget, kept):
    """What must hold of every plan."""
    assert policy.keep == "all" or sum(budget) == int(twin.Fraction(r) * n_v * len(budget) + twin.Fraction(1, 2))
    for b, layer in zip(budget, kept):
        assert 0 <= b <= n_v and (b == n_v or r != "1")
        for head in (layer if layer and isinstance(layer[0], list) else [layer]):
            assert len(head) == b and head == sorted(set(head)) and all(0 <= i < n_v for i in head)
    assert sum(budget) < len(budget) or min(budget) > 0


def variant(case, name, notes, undecided, retain=RETAIN, near=NEAR, whole=np.uint8):
    """Every expected tensor of one policy on one case. A decision nearer than rounding is noted as undecided, not a failure."""
    policy = twin.parse(name)
    n_v = int(case.roles.sum())
    groups = case.k.shape[1]
    layers, others = ([twin.observe(policy, q.astype(np.float64), k.astype(np.float64), c.roles.astype(int), tail=c.tail, note=notes if c is case else None)
                       for q, k in zip(c.q, c.k)] for c in (case, shuffled(case)))

    def decide(policy, r):
        note = {}
        out = twin.plan(policy, r, layers, n_v, groups, note)
        check(policy, r, n_v, *out)
        if min(note.values(), default=np.inf) < near or out != twin.plan(policy, r, others, n_v, groups):
            undecided.append([name, policy.budget, r])
        else:
            for what, gap in note.items():
                notes[what] = min(notes.get(what, np.inf), gap)
        return out

    out = observed_tensors(name, layers, len(case.roles), policy)
    again = observed_tensors(name, others, len(case.roles), policy)
    if out and not (out[f"{name}/window"] == again[f"{name}/window"]).all():
        undecided.append([name, "window", ""])
    for l in layers:
        if l.importance is not None:
            i = np.asarray(l.importance)
            assert not ((i > 0) & (i < 1e-300)).any(), "an importance near the subnormals depends on exp's own underflow"
    if name in METHODS:
        plans = [decide(policy, r) for r in retain]
        out[f"{name}/budget"] = np.array([b for b, _ in plans], whole)
        out[f"{name}/kept"] = np.stack([kept_mask(k, n_v) for _, k in plans])
    else:
        by_rule = [[decide(twin.replace(policy, budget=rule), r) for r in retain] for rule in RULES]
        out[f"{name}/budget"] = np.array([[b for b, _ in plans] for plans in by_rule], whole)
        out[f"{name}/kept"] = np.stack([kept_mask(k, n_v) for _, k in by_rule[RULES.index("both")]])
    return out


def make_random():
    folder = HERE / "random"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    for case in cases():
        tensors, errors, notes, undecided = {}, {}, {}, []
        names = case.variants() + METHODS
        for name in names:
            try:
                tensors.update(variant(case, name, notes, undecided))
            except twin.PolicyError as error:
                errors[name] = str(error)
        head = {"format": "aircache-bundle", "version": "1", "precision": "f32", "producer": "policy_make.py"}
        save_file(bundle(case), folder / f"{case.name}.safetensors", head)
        save_file(tensors, folder / f"{case.name}.expected.safetensors", {
            "why": case.why, "retain": json.dumps(RETAIN), "rules": json.dumps(RULES),
            "variants": json.dumps([x for x in names if x not in METHODS and x not in errors]),
            "methods": json.dumps([x for x in METHODS if x not in errors]),
            "errors": json.dumps(errors), "undecided": json.dumps(undecided), "margins": json.dumps(notes)})
        print(case.name, len(tensors), "tensors", {k: f"{v:.1e}" for k, v in notes.items()}, f"{len(errors)} errors", undecided)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["random", "demo", "kvpress"])
    arguments.add_argument("--model", type=Path)
    given = arguments.parse_args()
    if given.what == "random":
        make_random()
    elif given.what == "demo":
        import policy_demo
        policy_demo.make(given.model, HERE / "demo")
    else:
        import policy_kvpress
        policy_kvpress.check(cases())
