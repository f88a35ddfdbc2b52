"""llama.cpp: tensors that an eval callback wrote, one raw file for each, named

    NNNNNN_NAME_TYPE_ne0xne1xne2xne3.bin        000012_Qcur-0_f32_64x14x507x1.bin

in the order of evaluation. `docs/kernels.md` has the callback in C++ and in Python (llama-cpp-python). llama.cpp names several
tensors alike while it builds one value (`Qcur-0` before and after rotary): the last one counts. A prompt that is longer than a
micro-batch is evaluated in pieces; they are joined. ne0 is the axis that is contiguous.
"""

import re
from pathlib import Path

import numpy as np

from ..arrays import Stored
from ..errors import Error, LayoutError, message
from . import common

HELP = "the folder of .bin files"
TYPES = {"f32": ("F32", np.float32), "f16": ("F16", np.float16), "bf16": ("BF16", np.uint16), "i32": ("I32", np.int32)}
NAMES = {
    "inp_embd": "decoder.embed",
    "Qcur-L": "decoder.LL.query",
    "Kcur-L": "decoder.LL.key",
    "Vcur-L": "decoder.LL.value",
    "kqv_out-L": "decoder.LL.mix",
    "l_out-L": "decoder.LL.out",
    "result_norm": "decoder.norm",
    "result_output": "decoder.logits",
}


def options(parser):
    parser.add_argument("--interleaved", action="store_true", help="undo the order of q and k that the converter makes for Llama's rotary (InternLM2, Llama; not Qwen2)")
    parser.add_argument("--vision", metavar="NAME", help="the tensor after a vision layer, L for its number: layer_out-L")
    parser.add_argument("--class-token", choices=("first", "last"), default="first", help="where the tower has its class token [default: first]")
    parser.add_argument("--patches", metavar="HxW", help="vision rows are in raster order of HxW patches; Qwen2-VL goes block by block")
    parser.add_argument("--merge", type=int, default=2, help="side of a block of patches [default: 2]")


def load(args):
    evaluations = read(Path(args.path))
    ids = common.ids(args)
    stages, at, fed, tokens_fed = {}, 0, 0, []
    last = {}
    for seen in evaluations:
        vision = towers(seen, args)
        stages |= vision
        rows = next((seen[n].shape[-1 if n == "inp_tokens" else -2] for n in ("inp_tokens", "inp_embd", "l_out-0") if n in seen), None)
        if rows is None:
            continue
        tokens = seen.get("inp_tokens")
        if tokens is not None and at < len(ids) and not np.array_equal(tokens.values().reshape(-1)[:rows], ids[at : at + rows]):
            if at == 0:
                continue  # the warm-up
            raise Error(message("inp_tokens", f"the prompt's ids from row {at} on", "others"))
        if at >= len(ids):
            if rows != 1:
                raise LayoutError(message("a decode step", "1 row", rows))
            stages |= step(seen, fed, args)
            fed += 1
            tokens_fed += [int(tokens.values().reshape(-1)[0])] if tokens is not None else []
            continue
        if at + rows > len(ids):
            raise LayoutError(message("the prompt's rows", len(ids), at + rows, "another prompt, or the warm-up: delete its files"))
        for name, stage in sites(seen):
            stages.setdefault(stage, []).append(shaped(seen[name], stage, args, name, rows))
            last[stage] = at + rows
        at += rows
    if at < len(ids):
        raise Error(message(args.path, f"the prompt's {len(ids)} rows", at, "is this the prompt of --input?"))
    for stage, pieces in list(stages.items()):
        if isinstance(pieces, list):
            axis = 1 if stage.endswith((".query", ".key", ".value")) else 0
            if stage == "decoder.logits":
                stages[stage] = pieces[-1]
            elif last[stage] < at or sum(p.shape[axis] for p in pieces) < at:
                # llama.cpp computes the last layer's output only for the rows whose logits are wanted.
                del stages[stage]
            else:
                stages[stage] = common.joined(pieces, axis, stage)
    if len(tokens_fed) == fed:
        stages |= common.generated(tokens_fed, stages)
    return stages


def read(folder):
    """The evaluations of a graph, in order: {name: its last value, rows first}."""
    files = sorted(folder.glob("*.bin")) if folder.is_dir() else []
    if not files:
        raise Error(message(folder, "files such as 000012_Qcur-0_f32_64x14x507x1.bin", "none"))
    evaluations, deepest = [], None
    for file in files:
        m = re.fullmatch(r"(\d+)_(.+)_(\w+)_(\d+)x(\d+)x(\d+)x(\d+)", file.stem)
        if not m:
            raise Error(message(file.name, "NUMBER_NAME_TYPE_ne0xne1xne2xne3.bin", "another name"))
        name, kind, sides = m[2], m[3], [int(s) for s in m.groups()[3:]]
        if kind not in TYPES:
            raise Error(message(file.name, f"a type among {', '.join(TYPES)}", kind, "run without quantised activations"))
        dtype, bits = TYPES[kind]
        data = np.fromfile(file, bits)
        if data.size != np.prod(sides):
            raise LayoutError(message(file.name, f"{np.prod(sides)} numbers", data.size, "copy the tensor row by row: it may be a view"))
        shape = sides[::-1][1:] if sides[3] == 1 else sides[::-1]
        layer = int(m[1]) if (m := re.search(r"-(\d+)$", name)) else None
        # A graph goes through its layers in order: a lower number, or the first tensor again, is the next evaluation.
        again = name in ("inp_embd", "inp_tokens") and deepest is not None
        if not evaluations or again or (layer is not None and deepest is not None and layer < deepest):
            evaluations.append({})
            deepest = None
        deepest = layer if layer is not None else deepest
        evaluations[-1][name] = Stored(dtype, data.reshape(shape))
    return evaluations


def sites(seen):
    """The (name, stage) pairs that are stages of the decoder."""
    for name in seen:
        m = re.fullmatch(r"(.+)-(\d+)", name)
        stage = NAMES.get(f"{m[1]}-L" if m else name)
        if stage:
            yield name, stage.replace("LL", f"{int(m[2]):02}") if m else stage


def shaped(x, stage, args, name, rows):
    """A tensor of llama.cpp, [ne2, ne1, ne0], as the stage wants it; rows stand first."""
    site = stage.rpartition(".")[2]
    if stage == "decoder.logits":
        return common.part(x.reshape((-1, x.shape[-1])), -1)
    if site not in ("query", "key", "value"):
        return x.reshape((-1, x.shape[-1]))
    # One row of several heads is [1, H, d_h]; rows whose heads lie side by side are [1, n, H · d_h].
    if x.shape[0] == 1 and x.shape[1] == rows:
        x = common.turned(common.heads(x.reshape(x.shape[1:]), count(args, site), name), 1, 0, 2)
    if args.interleaved and site != "value":
        n, h, d = x.shape
        x = common.turned(x.reshape((n, h, d // 2, 2)), 0, 1, 3, 2).reshape((n, h, d))
    return common.turned(x, 1, 0, 2)


def count(args, site):
    if not args.model:
        raise Error(message("--model", "the checkpoint's folder", "nothing", f"it says how many heads there are in {site}"))
    from ..bundle import sizes_of_model

    return sizes_of_model(args.model).values["H" if site == "query" else "G"]


def step(seen, t, args):
    out = {}
    for name, stage in sites(seen):
        x, parts = shaped(seen[name], stage, args, name, 1), stage.split(".")
        if stage == "decoder.logits":
            out[f"step.{t:04}.logits"] = x
        elif len(parts) == 3:
            site = parts[2]
            out[f"step.{t:04}.{parts[1]}.{site}"] = common.part(x, (slice(None), 0) if site in ("query", "key", "value") else 0)
    return out


def towers(seen, args):
    """The stages of the vision tower: class token first, patches in the order of the family."""
    out = {}
    if not args.vision:
        return out
    for name, x in seen.items():
        if m := re.fullmatch(re.escape(args.vision).replace("L", r"(\d+)"), name):
            if args.class_token == "last":
                x = Stored(x.dtype, np.roll(x.bits, 1, axis=-2))
            if args.patches:
                x = x.reshape((-1, x.shape[-1]))
                x = common.part(x, blocks(args, len(x.bits)))
            out[f"vision.{int(m[1]):02}.out"] = x
    return out


def blocks(args, rows):
    """The raster index of each patch, block of merge × merge by block."""
    m = re.fullmatch(r"(\d+)x(\d+)", args.patches)
    if not m:
        raise Error(message("--patches", "HxW, such as 16x20", args.patches))
    h, w, side = int(m[1]), int(m[2]), args.merge
    if h % side or w % side or h * w != rows:
        raise LayoutError(message("--patches", f"{rows} patches in blocks of {side} × {side}", args.patches))
    order = np.arange(h * w).reshape(h // side, side, w // side, side)
    return order.transpose(0, 2, 1, 3).reshape(-1)
