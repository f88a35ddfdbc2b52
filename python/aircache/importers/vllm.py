"""vLLM's activations: files of `aircache.importers.vllm.watch(model, folder)`, which hooks the modules of a worker's model and
writes one torch.save file for each forward pass: {"input_ids", "positions", module name: output}.

vLLM's layers give (hidden, residual) apart; the residual stream is their sum. Passes are padded to a captured size, and
the first passes are profiling runs. The prompt's ids say which passes are its own, and how many of their rows.
"""

import re
from pathlib import Path

import numpy as np

from ..arrays import Stored
from ..errors import Error, LayoutError, message
from . import common, pt

HELP = "the folder of pass*.pt files"


def options(parser):
    parser.add_argument("--passes", help="the prompt's own passes, as numbers: 2,3 [default: those with the prompt's ids]")


def watch(model, folder):
    """Hooks on a model of vLLM (or of its conventions): each forward pass becomes a file. With vLLM, run eagerly:

    llm = LLM(…, enforce_eager=True); llm.apply_model(functools.partial(watch, folder="passes"))
    """
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seen, count = {}, [0]

    def copied(x):
        if isinstance(x, torch.Tensor):
            return x.detach().to("cpu", copy=True)
        return [copied(one) for one in x] if isinstance(x, (tuple, list)) else None

    for name, module in model.named_modules():
        if re.search(r"layers\.\d+(\.self_attn\.(rotary_emb|attn))?$|(^|\.)(norm|embed_tokens)$", name):
            # The next layer's fused norm adds into these arrays: they are copied at once.
            module.register_forward_hook(lambda m, args, out, name=name: seen.__setitem__(name, copied(out)))

    def begin(module, args, kwargs):
        seen.clear()
        names = ("input_ids", "positions")
        given = dict(zip(names, args)) | {k: v for k, v in kwargs.items() if k in names}
        seen.update({k: copied(v) for k, v in given.items() if v is not None})

    def end(module, args, out):
        torch.save(dict(seen), folder / f"pass{count[0]:05}.pt")
        count[0] += 1

    model.register_forward_pre_hook(begin, with_kwargs=True)
    model.register_forward_hook(end)


def load(args):
    files = sorted(Path(args.path).glob("pass*.pt"))
    if not files:
        raise Error(message(args.path, "a folder of pass*.pt files", "none", "watch(model, folder) writes them"))
    ids = common.ids(args)
    passes = [pt.load(file) for file in files]
    if args.passes:
        try:
            wanted = [int(one) for one in args.passes.split(",")]
            passes = [passes[i] for i in wanted]
        except (ValueError, IndexError):
            raise Error(message("--passes", f"numbers from 0 to {len(files) - 1}", args.passes)) from None
    prefill, steps = own(passes, ids, args.passes)
    sites = {}
    for seen, count in prefill:
        for stage, rows in read(seen, count).items():
            sites.setdefault(stage, []).append(rows)
    stages = {stage: common.joined(pieces, 0, stage) for stage, pieces in sites.items()}
    for stage in list(stages):
        if stage.endswith((".query", ".key", ".value")):
            stages[stage] = turned_heads(stages[stage], stage, args)
    for t, seen in enumerate(steps):
        for stage, rows in read(seen, 1).items():
            m = re.fullmatch(r"decoder\.(\d+)\.(\w+)", stage)
            if m:
                row = turned_heads(rows, stage, args) if m[2] in ("query", "key", "value") else rows
                at = (slice(None), 0) if m[2] in ("query", "key", "value") else 0
                stages[f"step.{t:04}.{m[1]}.{m[2]}"] = common.part(row, at)
    if steps and all("input_ids" in seen for seen in steps):
        stages |= common.generated([int(seen["input_ids"].values().reshape(-1)[0]) for seen in steps], stages)
    return stages


def own(passes, ids, chosen):
    """The prompt's passes with their numbers of rows, and its decode steps."""
    at, prefill, steps = 0, [], []
    for i, seen in enumerate(passes):
        given = seen.get("input_ids")
        rows = given if given is not None else seen.get("positions")
        if rows is None:
            raise Error(message(f"pass {i}", "input_ids or positions", ", ".join(list(seen)[:3])))
        values = rows.values()
        values = values[..., :].reshape(-1, values.shape[-1])[0]
        if at == len(ids):
            steps.append(seen)
            continue
        count = min(len(values), len(ids) - at)
        expected = ids[at : at + count] if given is not None else np.arange(at, at + count)
        if not chosen and not np.array_equal(values[:count], expected):
            if at:
                raise Error(message(f"pass {i}", f"the prompt's ids from row {at} on", "others", "is another request in this run?"))
            continue  # a profiling run, or another request
        prefill.append((seen, count))
        at += count
    if at < len(ids):
        remedy = "--input with the prompt of this run; --passes chooses by hand" if at == 0 else "the run stopped early"
        raise Error(message("passes", f"the prompt's {len(ids)} ids", f"{at} of them", remedy))
    return prefill, steps


def read(seen, count):
    """The stages of a pass: its first `count` rows."""
    stages = {}
    for name, value in seen.items():
        layer = re.search(r"layers\.(\d+)(\..*)?$", name)
        if layer and not layer[2]:
            stages[f"decoder.{int(layer[1]):02}.out"] = stream(value, name)
        elif layer and layer[2] == ".self_attn.rotary_emb":
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise LayoutError(message(name, "queries and keys", type(value).__name__))
            for site, x in zip(("query", "key"), value):
                stages[f"decoder.{int(layer[1]):02}.{site}"] = x
        elif layer and layer[2] == ".self_attn.attn":
            stages[f"decoder.{int(layer[1]):02}.mix"] = value.reshape((value.shape[0], -1))
        elif re.search(r"(^|\.)norm$", name):
            stages["decoder.norm"] = value[0] if isinstance(value, (list, tuple)) else value
    for stage, x in stages.items():
        if x.shape[0] < count:
            raise LayoutError(message(stage, f"at least {count} rows", x.shape[0]))
    return {stage: common.part(x, slice(0, count)) for stage, x in stages.items()}


def stream(value, name):
    """hidden + residual; a layer of some models gives the sum itself."""
    if isinstance(value, Stored):
        return value
    value = [x for x in value if isinstance(x, Stored)]
    if len(value) != 2:
        raise LayoutError(message(name, "(hidden, residual)", f"{len(value)} arrays"))
    return common.added(value, name)


def turned_heads(x, stage, args):
    if not args.model:
        raise Error(message("--model", "the checkpoint's folder", "nothing", f"it says how many heads {stage} has"))
    from ..bundle import sizes_of_model

    count = sizes_of_model(args.model).values["H" if stage.endswith("query") else "G"]
    return common.heads(x, count, stage)
