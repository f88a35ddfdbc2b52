"""Drives the public code of methods that drop rows inside prefill, on CPU tensors: `methods/pruning.json`.

    make_pruning.py REPOSITORIES

REPOSITORIES holds a checkout of each repository of `PINNED` under its own name. Their forward passes run with layers that
only record: a layer gives the attention of the case's queries and keys, and says which rows reached it. Nothing of their
code is stored. Made with torch 2.15.0 and einops 0.8.2.
"""
import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from make_methods import DIM, HEADS, KV_HEADS, arrays, causal, method, module

PINNED = {
    "FastV": "d1659729b5bf1be225e99ee15783deeea80f63b1",
    "PyramidDrop": "6444f304aee4b7edcb022839fb9e8cd07859704a",
    "EffiVLM-Bench": "ab3ee1837a5539fe6ec5aac84456a43e7288200b",
    "SparseVLMs": "26a5f48813c46cd1c7364160354e7fdd3febaa67",
}
LLAMA = "src/transformers/src/transformers/models/llama/modeling_llama.py"
HF_LLAMA = "FastV/src/FastV/llava-hf/transformers/src/transformers/models/llama/modeling_llama.py"
BEFORE, AFTER = 3, 8


class Layer:
    """A layer that records the rows that reach it, and gives the attention of its queries and keys."""

    def __init__(self, layer, q, k):
        self.q, self.k = q[layer], k[layer]
        self.self_attn = SimpleNamespace(layer_idx=layer, last_attention=None)

    def __call__(self, hidden, attention_mask=None, position_ids=None, **_):
        rows = hidden[0, :, 0].long()
        self.positions_kept = torch.equal(position_ids[0], rows)
        attention = causal(self.q[:, rows], self.k[:, rows])[None]
        self.self_attn.last_attention = attention
        # A mask that hides rows says as much as rows that are gone.
        self.reached = rows if attention_mask is None else rows[attention_mask[0]]
        return hidden, attention, None


def model(layers, n, seed, kv_heads=KV_HEADS, **more):
    """What stands for a decoder: its layers, and the options that a forward pass reads."""
    q, k, _ = arrays(seed, layers, n, DIM, kv_heads)
    same = lambda x: x
    told = SimpleNamespace(output_attentions=True, output_hidden_states=False, use_cache=False, use_return_dict=False)
    made = SimpleNamespace(config=told, gradient_checkpointing=False, training=False, norm=same, device="cpu", **more)
    made.layers = [Layer(l, q, k) for l in range(layers)]
    return made, torch.arange(n, dtype=torch.float32)[None, :, None]


def visual(made, layer, count):
    """The visual rows that reached a layer, counted from the first. All text rows did."""
    rows = made.layers[layer].reached.tolist()
    text = [row for row in rows if not BEFORE <= row < BEFORE + count]
    assert text == [*range(BEFORE), *range(BEFORE + count, BEFORE + count + AFTER)]
    return [row - BEFORE for row in rows if BEFORE <= row < BEFORE + count]


def case(made, name, policy, count, seed, cuts, **more):
    """cuts: (layer, the layer that ranks). Stored: which visual rows reach the layer, and whether rows keep positions."""
    layers = len(made.layers)
    cuts = [{"layer": layer, "ranks": ranks, "rows": visual(made, layer, count),
             "positions_kept": made.layers[layer].positions_kept} for layer, ranks in cuts]
    return {"name": name, "policy": policy, "before": BEFORE, "visual": count, "after": AFTER, "seed": seed,
            "layers": layers, "cuts": cuts, **more}


def fastv():
    count, n = 21, BEFORE + 21 + AFTER
    forward = method(f"FastV/{LLAMA}", "forward", "LlamaModel")
    for inplace in (True, False):
        for tokens in (1, 5, 13):
            made, hidden = model(4, n, 11, use_fast_v=True, fast_v_sys_length=BEFORE, fast_v_image_token_length=count,
                                 fast_v_attention_rank=tokens, fast_v_agg_layer=2, fast_v_inplace=inplace)
            # The mask of all rows is the one that hides nothing.
            made._prepare_decoder_attention_mask = lambda mask, *_: mask
            forward(made, inputs_embeds=hidden)
            how = "drops" if inplace else "masks"
            share = {"tokens": tokens}
            yield case(made, f"FastV {how}, {tokens}", "fastv-prune", count, 11, [(2, 1)], **share)

    later = method(HF_LLAMA, "fastv_forward", "LlamaModel")
    for cache in (False, True):
        for drop, label in ((0.3, None), (0.5, "A9.8")):
            names = {"DynamicCache": SimpleNamespace(from_legacy_cache=lambda _: SimpleNamespace(get_seq_length=lambda: 0)),
                     "StaticCache": int, "Cache": int}
            later.__globals__.update(names)
            made, hidden = model(4, n, 12, _update_causal_mask=lambda *_: None)
            made.config.use_cache = cache
            asked = {"fastv_k": 3, "fastv_r": drop, "image_token_start_index": BEFORE, "image_token_length": count}
            later(made, inputs_embeds=hidden, fastv_config=asked)
            name = f"fastv_forward, R {drop}" + (", cache" if cache else "")
            policy = f"full,prune=3:{1 - drop:.1f}"
            yield case(made, name, policy, count, 12, [(3, 2)], rounds=label)


def fastv_of_576():
    """The later code for lmms-eval, whose numbers are fixed: 35 rows, then 576 visual rows."""
    global BEFORE
    path = "FastV/src/FastV/lmms-eval/fastv_kvcache.py"
    forward = method(path, "forward", "FastVLlamaModel", _prepare_4d_causal_attention_mask=lambda *_: None)
    before, BEFORE = BEFORE, 35
    n = BEFORE + 576 + AFTER
    made, hidden = model(4, n, 13, last_attention=None, _use_flash_attention_2=False, _use_sdpa=False)
    forward(made, inputs_embeds=hidden)
    yield case(made, "fastv_kvcache", "full,prune=3:0.5", 576, 13, [(3, 2)])
    BEFORE = before


def effivlm():
    count, n = 21, BEFORE + 21 + AFTER
    path = "EffiVLM-Bench/kv_cache_compression/qwen_model.py"
    forward = method(path, "qwen_model_forward_fastv")
    for origin in (True, False):
        for share, label in ((0.1, None), (0.5, "A9.8")):
            made, hidden = model(4, n, 14, target_layer_idx=2, budgets=share, origin=origin, rotary_emb=lambda *_: None)
            made._update_causal_mask = lambda *_: None
            made.text_image_mask = [[True] * BEFORE + [False] * count + [True] * AFTER]
            forward(made, inputs_embeds=hidden)
            voters = {} if origin else {"voters": "all"}
            name = f"effivlm fastv {share}" + (" origin" if origin else "")
            yield case(made, name, f"full,prune=2:{share}", count, 14, [(2, 1)], rounds=label, **voters)


def pyramiddrop():
    path = "PyramidDrop/llava/model/modeling_llama_pdrop.py"
    mask = lambda mask, shape, hidden, **_: torch.full((1, 1, shape[1], shape[1]), float("-inf")).triu(1)
    rotate = method(path, "apply_rotary_pos_emb", rotate_half=method(path, "rotate_half"))
    rank = method(path, "pdrop_rank_drop", apply_rotary_pos_emb=rotate, IGNORE_INDEX=-100, _prepare_4d_causal_attention_mask=mask)
    forward = method(path, "pdrop_forward", _prepare_4d_causal_attention_mask=lambda *_: None)
    cuts, layers = [2, 4, 6], 8
    for count, label in ((24, None), (21, "A9.8")):
        n = BEFORE + count + AFTER
        # Its code has no groups of query heads: every head has its own keys.
        made, hidden = model(layers, n, 15, HEADS, _use_flash_attention_2=False, _use_sdpa=False)
        made.layer_list, made.image_token_ratio_list = cuts, [1.0, 0.5, 0.25, 0.125]
        made.image_tokens, made.prompt_len, made.image_token_posi = [count], [BEFORE + AFTER], [BEFORE]
        made.pdrop_rank_drop = lambda **given: rank(made, **given)
        for layer in made.layers:
            flat = lambda x: x.transpose(0, 1).reshape(1, x.shape[1], -1)
            take = lambda x: lambda hidden, x=x: flat(x[:, hidden[0, :, 0].long()])
            layer.input_layernorm = lambda x: x
            layer.self_attn = SimpleNamespace(
                num_heads=HEADS, num_key_value_heads=HEADS, head_dim=DIM, q_proj=take(layer.q), k_proj=take(layer.k),
                v_proj=take(layer.k), rotary_emb=lambda v, seq_len: (torch.ones(seq_len, DIM), torch.zeros(seq_len, DIM)))
        forward(made, inputs_embeds=hidden)
        asked = [(cut, cut) for cut in cuts]
        yield case(made, f"PyramidDrop, {count} rows", "pyramiddrop", count, 15, asked, kv_heads=HEADS, rounds=label)


class Rated(Layer):
    """As Layer, for rows of any embeddings: a row that is no row of the prompt is a merged row."""

    def __init__(self, layer, q, k, x):
        super().__init__(layer, q, k)
        self.x, self.mlp = x, SimpleNamespace(up_proj=SimpleNamespace(out_features=1))
        self.self_attn = SimpleNamespace(num_heads=len(self.q), head_dim=DIM, rotary_emb=lambda *_, **__: (None, None))

    def __call__(self, hidden_states, position_ids=None, **_):
        same = (hidden_states[0][:, None] == self.x[None]).all(-1)
        known, rows = same.any(-1), same.float().argmax(-1)
        self.positions_kept = bool((position_ids[0][: len(rows)] == rows)[known].all())
        self.reached = rows[known]
        return hidden_states, None, causal(self.q[:, rows], self.k[:, rows])[None]


class Clock:
    """What stands for an event of a GPU."""

    record = elapsed_time = lambda self, *_: 0.0


def sparsevlm():
    """Its numbers of rows are fixed for 576 visual rows and for 14 heads. Version 1.0 merges dropped rows, so that only its
    first cut can be compared."""
    count, heads, layers, n = 576, 14, 17, BEFORE + 576 + AFTER
    code = "SparseVLMs/llava/model/language_model"
    utils = module("sparse_utils", *f"{code}/utils.py".split("/"))
    for version, tokens, shares, seed in (
        ("2_0", 192, "0.521 0.347 0.205", 16), ("2_0", 64, "0.115 0.059 0.035", 17),
        ("1_0", 192, "0.521 0.347 0.191", 16), ("1_0", 128, "0.526 0.191 0.062", 18), ("1_0", 96, "0.413 0.083 0.045", 19),
    ):  # fmt: skip
        os.environ |= {"USE_VERSION": version, "RETAIN_TOKN": str(tokens)}
        score = module("score", *f"{code}/score.py".split("/"))
        rated = []

        def ranks(attention, *rest):
            rated.append(rest[3][1] + BEFORE + count)
            return score.attn_postprocess_topk(attention, *rest)

        shim = SimpleNamespace(**{**torch.__dict__, "cuda": SimpleNamespace(Event=lambda **_: Clock(), synchronize=lambda: None)})
        forward = method(
            f"{code}/modelling_sparse_llama.py", "forward", "LlamaDynamicvitModel", torch=shim, V2_0=score.V2_0,
            batch_index_select=utils.batch_index_select, cluster_and_merge=utils.cluster_and_merge,
            select_attn_head_by_sum=score.select_attn_head_by_sum, attn_postprocess_topk=ranks, prefix="",
            loggerinfo=SimpleNamespace(info=lambda _: None), apply_rotary_pos_emb=lambda q, k, *_: (q, k))  # fmt: skip
        q, k, _ = arrays(seed, layers, n, heads=heads)
        x = arrays(seed + 100, 1, n, heads=1)[0][0, 0]
        made, _ = model(1, n, seed, pruning_loc=[2, 6, 15], init_token_total_shape=n, generate_process_count=0, all_FLOPs=0,
                        num_forward=0, num_token_pool=0, total_cuda_time=0, num_layers=layers, _use_sdpa=False,
                        _use_flash_attention_2=True)  # fmt: skip
        made.layers = [Rated(l, q, k, x) for l in range(layers)]
        forward(made, inputs_embeds=x[None], image_shape=count, pre_prompt_length_list=[BEFORE])
        cuts = [(3, 2), (7, 6), (16, 15)] if score.V2_0 else [(3, 2)]
        policy = "full,prune=" + "+".join(f"raters@{cut}:{share}" for (cut, _), share in zip([(3, 2), (7, 6), (16, 15)], shares.split()))
        yield case(made, f"SparseVLM {version}, {tokens}", policy, count, seed, cuts, heads=heads, raters=rated[0].tolist(),
                   merges=None if score.V2_0 else "A9.15")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [c for make in (fastv, fastv_of_576, effivlm, pyramiddrop, sparsevlm) for c in make()]
    target = Path(__file__).parents[1] / "methods" / "pruning.json"
    answers = {"pinned": PINNED, "heads": HEADS, "kv_heads": KV_HEADS, "dim": DIM}
    lines = ",\n".join(json.dumps({k: v for k, v in c.items() if v is not None}) for c in cases)
    target.write_text(json.dumps(answers)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(f"{target}: {len(cases)} cases")
