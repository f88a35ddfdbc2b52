"""Drives the public code of eviction methods on CPU tensors and stores what it answers: `methods/answers.json`.

    make_methods.py REPOSITORIES

REPOSITORIES holds a checkout of each repository of `PINNED` under its own name. Nothing of their code is stored: a case
is a seed and sizes, from which queries, keys and values follow, the policy that should give the same answer, and the
answer (kept rows, scores, what budgets follow from). Made with torch 2.15.0 and transformers 5.24.0.
"""
import __future__
import ast
import importlib.util
import json
import math
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import torch

PINNED = {
    "EffiVLM-Bench": "ab3ee1837a5539fe6ec5aac84456a43e7288200b",
    "kvpress": "8bb29b9c3078452a86d692f29123fa6c793e2b05",
    "MixKV": "850ec26f09c60888931ef5885ecbcd7f47628f03",
    "MEDA": "0e1a53be9bec31e88a23b0c0fc7ddac3cbd3847c",
    "ElasticCache": "3138e03fc8894231d98a2e5353f27a59af854cc3",
    "TGV-KV": "228ce29fdd54f5f73e7f101623867eea8ce3dc28",
}
HEADS, KV_HEADS, DIM = 4, 2, 8
GROUP = HEADS // KV_HEADS
ROLES = "T" * 3 + "V" * 21 + "T" * 8
REPOSITORIES = Path(sys.argv[1])


def numbers(seed):
    """The stream that the test has too: multiples of 1/64 in -3 ... 3, exact in every type."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield ((state >> 40) % 385 - 192) / 64


def arrays(seed, layers, n, dim=DIM, kv_heads=KV_HEADS, heads=HEADS):
    """q [L, H, n, d], k and v [L, G, n, d], in float32; layer l's queries are (1 + l) / 2 as large."""
    stream = numbers(seed)
    take = lambda *shape: torch.tensor([next(stream) for _ in range(math.prod(shape))]).reshape(shape)
    each = [(take(heads, n, dim) * (1 + l) / 2, take(kv_heads, n, dim), take(kv_heads, n, dim)) for l in range(layers)]
    return [torch.stack(x) for x in zip(*each)]


def module(name, *path, stubs=()):
    """A file of a checkout as a module. stubs: modules that the file imports and that these functions do not use."""
    for stub in stubs:
        sys.modules.setdefault(stub, types.ModuleType(stub))
    spec = importlib.util.spec_from_file_location(name, REPOSITORIES.joinpath(*path))
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def method(path, name, owner=None, **names):
    """One method of a file whose imports are of another time. owner: its class; names: what it calls besides torch."""
    tree = ast.parse(REPOSITORIES.joinpath(path).read_text())
    owners = [c for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name == owner] or [tree]
    found = [f for f in ast.walk(owners[0]) if isinstance(f, ast.FunctionDef) and f.name == name]
    found[0].decorator_list = []
    space = {"torch": torch, "math": math, "nn": torch.nn, **names}
    lazy = __future__.annotations.compiler_flag
    exec(compile(ast.Module([found[0]], []), path, "exec", flags=lazy, dont_inherit=True), space)
    return space[name]


def causal(q, k):
    """The model's own attention, [H, n, n]."""
    n = q.shape[1]
    scores = q @ k.repeat_interleave(len(q) // len(k), 0).transpose(1, 2) / math.sqrt(q.shape[2])
    return scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf")).softmax(-1)


def rows(kept, all_rows):
    """Which rows of k [G, n, d] the entries [G, len, d] are."""
    return [sorted(next(j for j in range(len(k)) if torch.equal(k[j], entry)) for entry in head) for head, k in zip(kept, all_rows)]


def case(name, policy, tokens, seed=1, layers=1, n=32, **answer):
    return {"name": name, "policy": policy, "tokens": tokens, "seed": seed, "layers": layers, "n": n, **answer}


def start(entries):
    """The first four numbers of each entry [G, len, d]."""
    return [rounded(head) for head in entries[:, :, :4].float()]


def rounded(scores):
    return [[float(f"{x:.7g}") for x in row] for row in scores.tolist()]


def effivlm():
    flash = types.ModuleType("flash_attention_softmax_n")
    flash.softmax_n = None
    sys.modules["flash_attention_softmax_n"] = flash
    code = module("effivlm", "EffiVLM-Bench", "kv_cache_compression", "kv_cache_utils.py")
    n = 32
    q, k, v = arrays(1, 1, n)

    def kept(cluster):
        return [rows(cluster.update_kv(k[:1].reshape(1, *k[0].shape), q[:1], v[:1], None, GROUP)[0][0], k[0])]

    yield case("effivlm streaming", "streaming,keep=top+first:15,scope=all", 16, kept=kept(code.StreamingLLMKVCluster(n, 0.5)))
    yield case("effivlm h2o", "h2o,keep=top+last:1,heads=kv,scope=all", 16, kept=kept(code.H2OKVCluster(n, 0.5)))
    for pooling, score in (("avgpool", "pool:5"), ("maxpool", "max-pool:5"), ("no", "mean")):
        for window in (1, 6):
            cluster = code.SnapKVCluster(n, 0.5, window / 16, pooling=pooling)
            policy = f"snapkv,window=last:{window},scope=all,score={score}"
            yield case(f"effivlm snapkv {pooling} {window}", policy, 16, kept=kept(cluster))
    layers = 4
    q4, k4, v4 = arrays(2, layers, n)
    budgets = []
    for l in range(layers):
        cluster = code.pyramidkvCluster(n, 0.4, 0.25, num_hidden_layers=layers, layer_idx=l)
        budgets.append(cluster.update_kv(k4[l][None], q4[l][None], v4[l][None], None, GROUP)[0].shape[2])
    # Its budgets are whole-number steps, ours are quotients: they differ by at most 1 (A9.4).
    yield case("effivlm pyramidkv", "pyramidkv,window=last:3,scope=all,keep=top+window+on-top", 9, 2, layers, budgets=budgets)

    # Heads of 128, as its code has them; it keeps the 11 rows of text and 12 of the image, and returns bfloat16.
    q1, k1, v1 = arrays(7, 1, n, 128)
    text = [role == "T" for role in ROLES]
    merged = code.LOOK_MCluster(budget=0.75).update_kv(
        None, q1 / 16, v1, None, GROUP, [text], 128, None, False, k1, v1)
    policy = "look-m,keep=top"
    scaled = {"dim": 128, "queries": 1 / 16, "keys": start(merged[0][0]), "values": start(merged[1][0]), "stored": "bf16"}
    yield case("effivlm look-m", policy, 12, 7, **scaled)

    cluster = code.VlCacheKVCluster(0.3, True, False, True)
    densities, scores, after = [], [], 8
    for l in range(layers):
        # In float64: the last digit of a softmax in float32 depends on the instructions of the processor.
        attention = causal(q4[l].double(), k4[l].double())[:, n - after:]
        densities.append(1 - float(cluster.get_sparsity_layer(attention[None], n, after)[0]))
        scores.append(attention.sum(0).sum(0, keepdim=True) / HEADS)
    yield case("effivlm vl-cache", "vl-cache,scope=all", 9, 2, layers, spread=densities, scores=[rounded(s) for s in scores])


def presses():
    """Gives kvpress's modules by name, without what its package imports."""
    folder = REPOSITORIES / "kvpress" / "kvpress"
    for name, path in (("kvpress", folder), ("kvpress.presses", folder / "presses")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    return lambda name: importlib.import_module(f"kvpress.presses.{name}_press")


def kvpress():
    of = presses()
    n = 32
    q, k, v = arrays(3, 1, n)
    score = lambda press, attention=None: press.score(SimpleNamespace(), None, k, v, attention, {})[0]
    difference = score(of("keydiff").KeyDiffPress(0.5))
    yield case("kvpress keydiff", "keydiff,scope=all", 16, 3, scores=[rounded(difference + 1)])
    norm = score(of("knorm").KnormPress(0.5))
    yield case("kvpress knorm", "knorm,scope=all", 16, 3, scores=[rounded(1 / (1 - norm))])
    visual = [i for i, role in enumerate(ROLES) if role == "V"]
    told = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    for floor in (0.0, 0.2, 0.6):
        for tokens in (4, 10):
            press = of("adakv").AdaKVPress(of("knorm").KnormPress(1 - tokens / len(visual) - 1e-9), floor)
            press.compress(told, None, k[:, :, visual], v[:, :, visual], None, {})
            gone = set(zip(told.masked_key_indices[1].tolist(), told.masked_key_indices[2].tolist()))
            text = [i for i in range(n) if ROLES[i] == "T"]
            kept = [sorted(text + [row for i, row in enumerate(visual) if (g, i) not in gone]) for g in range(KV_HEADS)]
            yield case(f"kvpress adakv {floor} {tokens}", f"knorm,split=ada:{floor}", tokens, 3, kept=[kept])
    observed = score(of("observed_attention").ObservedAttentionPress(0.5), causal(q[0], k[0])[None])
    yield case("kvpress observed", "observed,scope=all", 16, 3, scores=[rounded(observed)])


def mixkv():
    torch.compile = lambda f: f
    code = module("mixkv", "MixKV", "mixkv", "mixkv_utils.py")
    n, layers, window = 32, 2, 6
    q, k, v = arrays(4, layers, n)
    code.load_similarity_score = lambda: torch.zeros(layers, KV_HEADS)
    kept = []
    for l in range(layers):
        cluster = code.SnapKVCluster(window, 16, 5, "avgpool", l, layers, num_key_value_groups=GROUP, gqa_func="mean", select_method="headwisemixkv")
        cluster.key_score = torch.stack([cluster.calcul_similarity_score(k[l][None])[1].reshape(-1).clamp(min=0)] * layers)
        kept.append(rows(cluster.update_kv(k[l][None], q[l][None], v[l][None])[0][0], k[l]))
    yield case("mixkv", f"mixkv,window=last:{window},scope=all", 16, 4, layers, kept=kept)


def meda():
    entropy = method("MEDA/Dynamic-MLLMs/LLaVA-mix_merge_v1/llava/model/kv_token_merge/modify_llama.py", "compute_multimodal_entropy")
    n, layers = 32, 3
    q, k, _ = arrays(5, layers, n)
    spread = []
    for l in range(layers):
        told = SimpleNamespace()
        entropy(told, n, causal(q[l], k[l])[None])
        spread.append(math.exp(told.multimodal_entropy))
    yield case("meda", "meda,scope=all", 16, 5, layers, spread=spread)


def elastic():
    torch.Tensor.cuda = lambda x: x
    code = module("elastic", "ElasticCache", "kv_cache.py")
    n = 32
    q, k, v = arrays(8, 1, n)
    # Without protected first rows, whose number its code forgets; the kept rows are those of its code.
    cache = code.ElasticCache(start_size=0, recent_size=n, ratio=0.5, layer_num=1)
    (keys, values), = cache([(k[0][None], v[0][None])], n, [causal(q[0], k[0])[None]])
    order = torch.argsort(cache.score_sum[0, : n - 1])
    keep = torch.where(order > n // 2)[0].tolist() + [n - 1]
    merged = {"keep": keep, "keys": start(keys[0]), "values": start(values[0]), "stored": "f32"}
    yield case("elastic-cache", "elastic-cache", 16, 8, **merged)


def tgv():
    colours = types.ModuleType("colorama")
    colours.Fore = None
    sys.modules["colorama"] = colours
    code = module("tgv", "TGV-KV", "kv_caches", "tgv_kv.py")
    n, layers = len(ROLES), 3
    q, k, _ = arrays(6, layers, n)
    cache = code.TGVKVCache(layers, 1)
    assert cache.begin_online_prefill(torch.tensor([[int(role == "V") for role in ROLES]]))
    for l in range(layers):
        cache.collect_online_prefill_attention(l, causal(q[l], k[l])[None])
    stats = cache.finish_online_prefill()
    visual = [i for i, role in enumerate(ROLES) if role == "V"]
    after = n - visual[-1] - 1
    scores = [rounded(s[:, visual]) for s in stats["score_sums"]]
    yield case("tgv-kv", "tgv-kv", 16, 6, layers, scores=scores, spread=[float(s) / after for s in stats["text_image_attn_sums"]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [c for make in (effivlm, kvpress, mixkv, meda, elastic, tgv) for c in make()]
    target = Path(__file__).parents[1] / "methods" / "answers.json"
    target.parent.mkdir(exist_ok=True)
    answers = {"pinned": PINNED, "heads": HEADS, "kv_heads": KV_HEADS, "dim": DIM, "roles": ROLES}
    lines = ",\n".join(json.dumps(c) for c in cases)
    target.write_text(json.dumps(answers)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(f"{target}: {len(cases)} cases")
