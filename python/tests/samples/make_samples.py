"""Makes the samples beside this file: one run of transformers, written as five engines dump their tensors.

    python make_samples.py          (torch 2.15.0, transformers 5.24.0, CPU; the package aircache)

No engine ran here: the files have the forms that the engines document (SGLang's dumper.py and its dims annotations,
TensorRT-Edge-LLM's layerDebugger.h, vLLM's (hidden, residual) layers seen through `aircache.importers.vllm.watch`, llama.cpp's
graph names, vLLM's and FlashInfer's cache layouts). The numbers are a toy's, in float32, with 3 tokens generated.
"""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from aircache.importers import vllm
from aircache.transformers import ask, load, record
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
TOY = HERE.parents[2] / "tests/golden/llava/shrink-anyres-max-2"
LAYERS, HEADS, GROUPS, D_H = 2, 4, 2, 8


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def rows(seen, stage, step=None):
    """A stage with rows first, and heads apart where it has heads: [n, …]."""
    layer, site = stage
    x = torch.from_numpy(seen[f"decoder.{layer:02}.{site}" if step is None else f"step.{step:04}.{layer:02}.{site}"].copy())
    if step is not None:
        return x[None]
    return x.transpose(0, 1).contiguous() if site in ("query", "key", "value") else x


def sglang(seen, n):
    """Two tensor-parallel ranks for heads, two context-parallel ranks in a zigzag for the residual stream (padded to 44 rows)."""
    out, index = folder("sglang"), [0]

    def dump(name, value, dims, rank, step, info, **tags):
        index[0] += 1
        tags = {"step": step, "rank": rank, "dump_index": index[0], "name": name, "recompute_status": "disabled", **tags}
        meta = {**tags, "dims": dims, "sglang_parallel_info": info}
        torch.save({"value": value.clone(), "meta": meta}, out / ("___".join(f"{k}={v}" for k, v in tags.items()) + ".pt"))

    for step in range(3):  # the prefill and two decode steps
        at = None if step == 0 else step - 1
        for layer in range(LAYERS):
            for name, site in (("q_rope", "query"), ("k_rope", "key"), ("v", "value"), ("attn_out", "mix")):
                x = rows(seen, (layer, site), at)
                dims = "t h[tp]" if site == "mix" else "t num_heads[tp] head_dim"
                for rank, part in enumerate(x.chunk(2, 1)):
                    dump(name, part, dims, rank, step, {"tp_rank": rank, "tp_size": 2}, layer_id=layer)
            x = rows(seen, (layer, "out"), at)
            if step:
                dump("layer_out", x, "t h", 0, step, {"tp_rank": 0, "tp_size": 1}, layer_id=layer)
                continue
            quarters = torch.cat([x, torch.zeros(-n % 4, x.shape[1])]).chunk(4)
            for rank in range(2):
                part = torch.cat([quarters[rank], quarters[3 - rank]])
                dump("layer_out", part, "t[cp:zigzag] h", rank, 0, {"cp_rank": rank, "cp_size": 2}, layer_id=layer)
    logits = [seen["decoder.logits"], *(seen[f"step.{t:04}.logits"] for t in range(2))]
    for step, x in enumerate(logits):
        dump("logits", torch.from_numpy(x.copy())[None], "t vocab", 0, step, {"tp_rank": 0, "tp_size": 1})


def edge_llm(seen, n):
    """A batch of two: the run, and a longer one of noise before it."""
    out, rng = folder("tensorrt-edge-llm"), np.random.default_rng(0)
    tensors, longest = {}, 64
    for r in range(3):
        logits = seen["decoder.logits"] if r == 0 else seen[f"step.{r - 1:04}.logits"]
        tensors[f"round_{r}.logits"] = np.stack([rng.standard_normal(len(logits), np.float32), logits])
        tensors[f"round_{r}.context_lengths"] = np.array([50 + r, n + r], np.int32)
        tensors[f"round_{r}.generated_token_ids"] = np.array([7, seen["output.ids"][r]], np.int32)
        for layer in range(LAYERS):
            kv = rng.standard_normal((2, 2, GROUPS, longest, D_H), np.float32)
            for which, site in enumerate(("key", "value")):
                entries = [seen[f"decoder.{layer:02}.{site}"]]
                entries += [seen[f"step.{t:04}.{layer:02}.{site}"][:, None] for t in range(r)]
                kv[1, which, :, : n + r] = np.concatenate(entries, 1)
            tensors[f"round_{r}.layer_{layer}.kv"] = kv
    save_file(tensors, out / "request0.safetensors")


class Layer(torch.nn.Module):
    """A layer as vLLM's: gives (hidden, residual), whose sum is the stream, and has the parts that `watch` hooks."""

    def __init__(self, run, layer):
        super().__init__()
        self.run, self.layer = run, layer
        self.self_attn = torch.nn.Module()
        self.self_attn.rotary_emb, self.self_attn.attn = Given(run, layer, "qk"), Given(run, layer, "mix")

    def forward(self, positions):
        self.self_attn.rotary_emb(positions)
        self.self_attn.attn(positions)
        out = self.run(self.layer, "out")
        residual = torch.round(out)  # so that hidden + residual is `out` again, nearly
        return out - residual, residual


class Given(torch.nn.Module):
    def __init__(self, run, layer, site):
        super().__init__()
        self.run, self.layer, self.site = run, layer, site

    def forward(self, positions):
        if self.site == "qk":
            return tuple(self.run(self.layer, site).flatten(1) for site in ("query", "key"))
        return self.run(self.layer, self.site)


class Model(torch.nn.Module):
    """The skeleton of a model in vLLM's conventions that plays back a run, padded to 8 rows."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.rows = seen, None
        self.model = torch.nn.Module()
        self.model.layers = torch.nn.ModuleList(Layer(self.part, i) for i in range(LAYERS))

    def part(self, layer, site):
        begin, end, step = self.rows
        x = rows(self.seen, (layer, site), step)[begin:end]
        return torch.cat([x, torch.full((-len(x) % 8, *x.shape[1:]), 7.0)])

    def forward(self, input_ids, positions):
        for layer in self.model.layers:
            layer(positions)


def vllm_passes(seen, n):
    out = folder("vllm")
    model = Model(seen)
    vllm.watch(model, out)

    def run(ids, first, rows):
        model.rows = rows
        padded = torch.cat([ids, torch.zeros(-len(ids) % 8, dtype=ids.dtype)])
        model(padded, torch.arange(first, first + len(padded)))

    ids = torch.from_numpy(seen["input.ids"].copy())
    run(torch.zeros(16, dtype=ids.dtype), 0, (0, 16, None))  # the profiling run
    run(ids[:24], 0, (0, 24, None))
    run(ids[24:], 24, (24, n, None))
    for t in range(2):
        run(torch.from_numpy(seen["output.ids"][t : t + 1].copy()), n + t, (0, 1, t))


def llama_cpp(seen, n):
    """Micro-batches of 16 rows after a warm-up; `Qcur` twice, before rotary (here: zeros) and after it."""
    out, index = folder("llama.cpp"), [0]

    def dump(name, x):
        x = np.ascontiguousarray(x)
        kind = {"float32": "f32", "int32": "i32"}[x.dtype.name]
        sides = "x".join(str(s) for s in [*x.shape[::-1], 1, 1, 1, 1][:4])
        x.tofile(out / f"{index[0]:06}_{name}_{kind}_{sides}.bin")
        index[0] += 1

    def evaluate(ids, part, step, last):
        dump("inp_tokens", ids.astype(np.int32))
        if step is None:
            dump("inp_embd", seen["decoder.embed"][part])
        for layer in range(LAYERS):
            for name, site in (("Qcur", "query"), ("Kcur", "key"), ("Vcur", "value"), ("kqv_out", "mix"), ("l_out", "out")):
                x = rows(seen, (layer, site), step)[part].numpy()
                if name in ("Qcur", "Kcur"):
                    dump(f"{name}-{layer}", np.zeros((len(x), x.shape[1] * x.shape[2]), np.float32))
                if name == "l_out" and layer == LAYERS - 1:
                    x = x[-1:] if last else x[:0]
                if len(x):
                    dump(f"{name}-{layer}", x)
        if last:
            dump("result_output", (seen["decoder.logits"] if step is None else seen[f"step.{step:04}.logits"])[None])

    evaluate(np.array([1, 2]), slice(0, 2), None, False)
    for begin in range(0, n, 16):
        evaluate(seen["input.ids"][begin : begin + 16], slice(begin, begin + 16), None, begin + 16 >= n)
    for t in range(2):
        evaluate(seen["output.ids"][t : t + 1], slice(0, 1), t, True)


def paged(seen, n):
    """Blocks of 16 entries, in the order 5, 2, 7 of a pool of 8; the same cache in three layouts."""
    out, rng, size = folder("paged"), np.random.default_rng(1), 16
    table = np.array([5, 2, 7], np.int32)
    for layout in ("NHD", "HND", "split"):
        tensors = {"block_table": table}
        for layer in range(LAYERS):
            for site in ("key", "value"):
                pool = rng.standard_normal((8, size, GROUPS, D_H), np.float32)
                entries = seen[f"decoder.{layer:02}.{site}"].transpose(1, 0, 2)
                for i, block in enumerate(table):
                    part = entries[i * size : (i + 1) * size]
                    pool[block, : len(part)] = part
                if layout == "HND":
                    pool = pool.transpose(0, 2, 1, 3)
                if layout == "split" and site == "key":
                    pool = pool.reshape(8, size, GROUPS, D_H // 4, 4).transpose(0, 2, 3, 1, 4)
                elif layout == "split":
                    pool = pool.transpose(0, 2, 3, 1)
                tensors[f"layers.{layer}.{site}"] = np.ascontiguousarray(pool)
        save_file(tensors, out / f"{layout}.safetensors")


def main():
    torch.set_num_threads(1)
    model = load(str(TOY / "model"), "f32", "eager", "cpu")
    inputs, rendered = ask(str(TOY / "model"), [str(TOY / "image0.png")], "Read all text.")
    seen = record(model, inputs, tokens=3, prompt=rendered)
    seen.save(HERE / "run.safetensors")
    n = len(seen["input.ids"])
    for make in (sglang, edge_llm, vllm_passes, llama_cpp, paged):
        make(seen, n)
    for name in ("sglang", "vllm", "llama.cpp"):
        packed(HERE / name)


def packed(path):
    """A folder of many small files as one archive, the same bytes every time."""
    with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    shutil.rmtree(path)


if __name__ == "__main__":
    main()
