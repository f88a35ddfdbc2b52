"""Drives more public code of eviction methods on CPU tensors, as `make_methods.py` does: `methods/factory.json`.

    make_factory.py REPOSITORIES

REPOSITORIES holds a checkout of each repository of `PINNED` under its own name. Nothing of their code is stored. Made with
torch 2.15.0 and transformers 5.24.0.
"""
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from make_methods import DIM, GROUP, HEADS, KV_HEADS, REPOSITORIES, ROLES, arrays, case, causal, method, module, presses, rows, start

PINNED = {
    "KVCache-Factory": "c97f9d706d63d1b56e980f8b81b2a924c21162b3",
    "SparseMM": "f52655b624d2c2114c59d9e48a1cb545feaea0dd",
    "LOOK-M": "ecf0f51a9c416c2d85e47faf2638502f01a6d748",
    "ElasticCache": "3138e03fc8894231d98a2e5353f27a59af854cc3",
    "kvpress": "8bb29b9c3078452a86d692f29123fa6c793e2b05",
}
N, LAYERS = len(ROLES), 4


def heads(flat, lengths):
    """Entries [Σ len, d] that lie one head after another → [G][len, d]."""
    return list(flat.split([int(length) for length in lengths]))


def factory():
    code = module("factory", "KVCache-Factory", "pyramidkv", "pyramidkv_utils.py")
    q, k, v = arrays(21, LAYERS, N)
    windows = {"window_size": 6, "kernel_size": 5}

    def kept(cluster, l=0):
        return rows(cluster.update_kv(k[l][None], q[l][None], v[l][None], None, GROUP)[0][0], k[l])

    for pooling, score in (("avgpool", "pool:5"), ("maxpool", "max-pool:5")):
        for agg, of in (("mean", "kv"), ("max", "kv-max")):
            cluster = code.SnapKVCluster(max_capacity_prompt=16, pooling=pooling, gqa_score_agg=agg, **windows)
            policy = f"snapkv,window=last:6,scope=all,score={score},heads={of}"
            yield case(f"factory snapkv {pooling} {agg}", policy, 16, 21, kept=[kept(cluster)])

    cluster = code.H2OKVCluster(max_capacity_prompt=16, window_size=5)
    yield case("factory h2o", "h2o,heads=kv,scope=all,keep=top+last:5", 16, 21, kept=[kept(cluster)])
    cluster = code.StreamingLLMKVCluster(max_capacity_prompt=16, window_size=12)
    yield case("factory streaming", "streaming,scope=all,keep=top+first:4", 16, 21, kept=[kept(cluster)])
    # Of the visual rows alone, because a policy of all rows keeps the last one (C9.5a).
    visual, text = ([i for i, role in enumerate(ROLES) if role == of] for of in "VT")
    cluster = code.L2NormCluster(max_capacity_prompt=8, layer_idx=0)
    seen = cluster.update_kv(k[:1, :, visual], q[:1, :, visual], v[:1, :, visual], None, GROUP)[0][0]
    yield case("factory l2norm", "knorm", 8, 21, kept=[[sorted(text + head) for head in rows(seen, k[0])]])

    # Budgets in whole-number steps (A9.4); the window is on top of them.
    for capacity in (11, 20):
        made = [code.PyramidKVCluster(LAYERS, max_capacity_prompt=capacity, layer_idx=l, **windows) for l in range(LAYERS)]
        found = [kept(cluster, l) for l, cluster in enumerate(made)]
        policy = "pyramidkv,window=last:6,scope=all,keep=top+window+on-top"
        budgets = [len(heads[0]) for heads in found]
        yield case(f"factory pyramidkv {capacity}", policy, capacity - 6, 21, LAYERS, kept_of_budgets=found, budgets=budgets)

    # The heads' counts are mixed with the floor and rounded (E9.18).
    for floor in (0.0, 0.2, 0.5):
        for pooling, score in (("avgpool", "pool:5"), ("maxpool", "max-pool:5")):
            cluster = code.AdaKVCluster(max_capacity_prompt=16, floor=floor, normalize=False, pooling=pooling, **windows)
            flat = cluster.update_kv(k[0][None], q[0][None], v[0][None])[0]
            found = rows(heads(flat, cluster.head_lens), k[0])
            policy = f"adakv,window=last:6,scope=all,split=ada:0,score={score},keep=top+window"
            yield case(f"factory adakv {floor} {pooling}", policy, 16, 21, kept_of_counts=found, floor=floor)

    # Merging by the likest key; its entries are put in the order of their rows.
    plain = code.SnapKVCluster(max_capacity_prompt=16, **windows)
    pivot = code.SnapKVCluster(max_capacity_prompt=16, merge="pivot", **windows)
    order, merged = (c.update_kv(k[:1], q[:1], v[:1], None, GROUP) for c in (plain, pivot))
    place = [sorted(range(16), key=lambda e: next(j for j in range(N) if torch.equal(k[0, g, j], order[0][0, g, e])))
             for g in range(KV_HEADS)]
    keys, values = (torch.stack([x[0, g, place[g]] for g in range(KV_HEADS)]) for x in merged)
    policy = "snapkv,window=last:6,scope=all,evict=merge:pivot"
    yield case("factory snapkv pivot", policy, 16, 21, kept=[rows(order[0][0], k[0])], keys=start(keys), values=start(values),
               stored="f32")


def sparsemm():
    """Its copies of SnapKV and AdaKV, which expand keys for the scores alone."""
    code = module("sparsemm", "SparseMM", "sparsemm", "sparsemm_utils.py")
    q, k, v = arrays(22, 1, N)
    for func, of in (("mean", "kv"), ("max", "kv-max")):
        cluster = code.SnapKVCluster(6, 16, 5, "avgpool", num_key_value_groups=GROUP, gqa_func=func)
        kept = rows(cluster.update_kv(k, q, v)[0][0], k[0])
        yield case(f"sparsemm snapkv {func}", f"snapkv,window=last:6,scope=all,heads={of}", 16, 22, kept=[kept])
        cluster = code.AdaKVCluster(6, 5, "avgpool", 16, 0.0, 0, False, 0, 1, num_key_value_groups=GROUP, gqa_func=func)
        flat = cluster.update_kv(k, q, v)[0]
        kept = rows(heads(flat, cluster.head_lens), k[0])
        yield case(f"sparsemm adakv {func}", f"adakv,window=last:6,scope=all,split=ada:0,heads={of}", 16, 22, kept=[kept])


def head_scores():
    """SparseMM's and HeadKV's shares by head scores: every head's count is rounded alone (E9.22)."""
    roles, window, base = "V" * 24 + "T" * 8, 8, 8
    scores = {f"{l}-{h}": [((7 * l + 5 * h) % 11) / 11, ((3 * l + 4 * h) % 7) / 7] for l in range(LAYERS) for h in range(HEADS)}
    means = torch.tensor([sum(both) / 2 for both in scores.values()]).reshape(LAYERS, HEADS)
    written = "|".join("/".join(f"{x:.6g}" for x in row) for row in means.tolist())
    q, k, v = arrays(27, LAYERS, N)
    code = module("sparsemm", "SparseMM", "sparsemm", "sparsemm_utils.py")
    code.load_head_score = lambda _: scores
    found, ratio = [], 0.25
    for l in range(LAYERS):
        cluster = code.SparseMM(window, 5, "avgpool", base + window, ratio, None, l, LAYERS, "visual", HEADS, GROUP, "mean")
        found.append(rows(heads(cluster.update_kv(k[l][None], q[l][None], v[l][None])[0], cluster.head_lens), k[l]))
    policy = f"snapkv,window=all-text,budget=heads,split=heads:{ratio}:{written}"
    yield case("sparsemm heads", policy, base, 27, LAYERS, roles=roles, kept_of_heads=found)

    # HeadKV's rule with beta = 2, as KVCache-Factory's main program has it: a half of the budget is shared evenly.
    code = module("factory", "KVCache-Factory", "pyramidkv", "pyramidkv_utils.py")
    capacity = torch.round(means / means.sum() * (base // 2) * LAYERS * HEADS + base - base // 2).int()
    found = []
    for l in range(LAYERS):
        cluster = code.HeadKVCluster(window, 5, "avgpool", base + window, l, LAYERS, capacity)
        found.append(rows(heads(cluster.update_kv(k[l][None], q[l][None], v[l][None])[0], cluster.head_lens), k[l]))
    policy = f"snapkv,window=all-text,budget=heads,split=heads:0.5:{written}"
    yield case("factory headkv", policy, base, 27, LAYERS, roles=roles, kept_of_heads=found)


def kvpress():
    of = presses()
    q, k, v = arrays(23, LAYERS, N)
    told = SimpleNamespace(num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, num_hidden_layers=LAYERS)
    hidden = torch.zeros(1, N, 1)
    snapkv, pyramid = of("snapkv").SnapKVPress(0.5, 6, 5), of("pyramidkv").PyramidKVPress
    layer = lambda l: SimpleNamespace(config=told, head_dim=DIM, layer_idx=l)
    score = snapkv.score(layer(0), hidden, k[:1], v[:1], causal(q[0], k[0])[None], {})[0]
    best = [sorted(score[g].topk(16).indices.tolist()) for g in range(KV_HEADS)]
    yield case("kvpress snapkv", "snapkv,window=last:6,scope=all", 16, 23, kept=[best])
    # Budgets are rounded layer by layer, and are those of all rows: the window is not on top of them. Where the last layer's
    # is below the window, all layers have the same (A9.4).
    for beta, window, label in ((4, 2, None), (20, 2, "A9.4")):
        press = pyramid(0.625, window, 5, beta)
        budgets = [press.get_layer_budget(layer(l), N) for l in range(LAYERS)]
        found = [rows(press.compress(layer(l), hidden, k[l:l + 1], v[l:l + 1], causal(q[l], k[l])[None], {})[0][0], k[l])
                 for l in range(LAYERS)]
        policy = f"pyramidkv,window=last:{window},scope=all,budget=pyramid:{beta}"
        more = {"even": label} if label else {}
        yield case(f"kvpress pyramidkv {beta}", policy, 12, 23, LAYERS, kept_of_budgets=found, budgets=budgets, **more)


def lookm():
    """Heads of 128 and no groups, as its code has them."""
    path = "LOOK-M/LLaVA-mix_merge_v1/llava/model/kv_token_merge/modify_llama.py"

    def run(name, q, k, v, **more):
        press, count = method(path, "__call__", name), method(path, "_update_hh_score", name)
        told = SimpleNamespace(k_seq_dim=2, hh_score=None, **more)
        told._update_hh_score = lambda attention: count(told, attention)
        return told, press(told, (k, v), causal(q[0] / 16, k[0])[None])

    # A quarter of 32 rows by score, the first 4 among them, and the last tenth.
    q, k, v = arrays(24, 1, N, 128, HEADS)
    _, (keys, values) = run("PivotKVCache_LayerWise", q, k, v, hh_ratio=0.25, recent_ratio=0.1)
    scaled = {"dim": 128, "kv_heads": HEADS, "queries": 1 / 16}
    policy = "look-m,scope=all,keep=top+first:4+last:3"
    yield case("look-m pivot", policy, 11, 24, keys=start(keys[0]), values=start(values[0]), stored="f32", **scaled)

    # An image has 576 rows in its code. The 58 rows by score are 3 of text and 55 of the image; of the last 58, 8 are text.
    before, after = 3, 8
    q, k, v = (x.double() for x in arrays(25, 1, before + 576 + after, 128, HEADS))
    told, _ = run("TextPivotMerge_LayerWise", q, k, v, hh_ratio=0.1, recent_ratio=0.1, image_position=torch.tensor([before]))
    kept = [torch.where(head >= 0)[0].tolist() for head in told.hh_score]
    # In float16 the number by which it lowers the scores of an image leaves nothing of them.
    half = told.hh_score.new_tensor([-65516.0]).half() + torch.tensor([0.0, 15.0]).half()
    assert half[0] == half[1]
    shape = {"roles": "T" * before + "V" * 576 + "T" * after, "n": before + 576 + after}
    yield case("look-m text", "look-m,keep=top+last:50", 105, 25, kept=[kept], **scaled, **shape)


def elastic():
    """With the first 4 rows protected, as its code is called: rows are kept and merged with its slips (E9.21)."""
    torch.Tensor.cuda = lambda x: x
    code = module("elastic", "ElasticCache", "kv_cache.py")
    q, k, v = arrays(26, 1, N)
    for ratio in (0.5, 0.75):
        cache = code.ElasticCache(start_size=4, recent_size=N, ratio=ratio, layer_num=1)
        (keys, values), = cache([(k[0][None], v[0][None])], N, [causal(q[0], k[0])[None]])
        order = torch.argsort(cache.score_sum[0, 4 : N - 1])
        kept = [*range(4), *(torch.where(order > int(N * ratio))[0] + 4).tolist(), N - 1]
        assert len(kept) == keys.shape[2] == N - int(N * ratio) - 1
        merged = {"keys": start(keys[0]), "values": start(values[0]), "stored": "f32"}
        yield case(f"elastic-code {ratio}", "elastic-code,scope=all", len(kept), 26, kept=[[kept] * KV_HEADS], **merged)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [c for make in (factory, sparsemm, head_scores, kvpress, lookm, elastic) for c in make()]
    target = Path(__file__).parents[1] / "methods" / "factory.json"
    answers = {"pinned": PINNED, "heads": HEADS, "kv_heads": KV_HEADS, "dim": DIM, "roles": ROLES}
    lines = ",\n".join(json.dumps(c) for c in cases)
    target.write_text(json.dumps(answers)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(f"{target}: {len(cases)} cases")
