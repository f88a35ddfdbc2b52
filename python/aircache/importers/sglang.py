"""SGLang's dump files (`DUMPER_ENABLE=1`, `dumper.dump(name, x, dims="t h[tp] d")`): one torch.save file for each dump,
whose name says `step=…___rank=…___dump_index=…___name=…`, and which holds {"value", "meta"}.

`dims` names the axes. `h[tp]` is split over the tensor-parallel ranks, `t[cp:zigzag]` over the context-parallel ranks, where
rank r has parts r and 2·size − 1 − r of the rows; `d[tp:partial]` holds partial sums. An axis `t`, or `b` and `s`, are rows.
A dump whose name is a stage with its layer left out (`layer_id` says it) needs no `--map`.
"""

import re
from pathlib import Path

import numpy as np

from ..arrays import Stored
from ..errors import Error, LayoutError, message
from . import common, pt

HELP = "the folder of one run's .pt files"
AXES = ("tp", "cp", "ep", "sp")


def options(parser):
    parser.add_argument("--map", action="append", default=[], metavar="NAME=STAGE", help="the stage of a dump: q_rope=decoder.LL.query")
    parser.add_argument("--tp", type=int, help="tensor-parallel ranks [default: as the dumps say]")
    parser.add_argument("--padded", action="store_true", help="rows behind the prompt's are padding")
    parser.add_argument("--cp", type=int, help="context-parallel ranks [default: as the dumps say]")


def load(args):
    folder = Path(args.path)
    files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
    if not files:
        raise Error(message(folder, "a folder of .pt files", "none"))
    rows = len(common.ids(args))
    names = dict(one.split("=", 1) for one in args.map if "=" in one)
    if len(names) < len(args.map):
        raise Error(message("--map", "NAME=STAGE", next(one for one in args.map if "=" not in one)))
    dumps = {}
    for file in files:
        tags = dict(tag.split("=", 1) for tag in file.stem.split("___") if "=" in tag)
        stage = names.get(tags.get("name"), tags.get("name", ""))
        if not re.match(r"(vision|projector|decoder|step|cache|policy)\.", stage):
            continue
        if "LL" in stage:
            if "layer_id" not in tags:
                raise Error(message(file.name, "a tag layer_id", "none", "dump with layer_id=…, or map to a stage with its layer"))
            stage = stage.replace("LL", f"{int(tags['layer_id']):02}")
        dump = pt.load(file)
        if not isinstance(dump, dict) or not isinstance(dump.get("value"), Stored):
            raise Error(message(file.name, '{"value": tensor, "meta": …}', type(dump).__name__))
        dumps.setdefault((stage, int(tags.get("step", 0))), {})[int(tags.get("rank", 0))] = dump
    missing = set(names) - {tag.split("=", 1)[1] for f in files for tag in f.stem.split("___") if tag.startswith("name=")}
    if missing:
        raise Error(message("--map", f"a dump named {sorted(missing)[0]}", "none in this folder"))
    if not dumps:
        remedy = "--map NAME=STAGE says which dump is which stage"
        raise Error(message(folder, "a dump that is named as a stage, or mapped to one", "none", remedy))
    pieces = {}
    for (stage, step), ranks in sorted(dumps.items()):
        pieces.setdefault(stage, []).append((step, whole(stage, ranks, args)))
    stages = {}
    for stage, steps in pieces.items():
        stages |= split(stage, steps, rows, args.padded)
    return stages | common.generated([], stages)


def parsed(dims, stage):
    """[(name, {axis: qualifiers})] of a `dims` annotation."""
    out = []
    for token in dims.split("#")[0].split():
        m = re.fullmatch(r"([\w*]+)(?:\[([^\]]*)\])?", token)
        if not m:
            raise Error(message(f"{stage}: dims", "names such as t h[tp] d", repr(token)))
        modifiers = {}
        for one in filter(None, (m[2] or "").split(",")):
            axis, _, rest = one.strip().partition(":")
            if axis not in AXES:
                raise Error(message(f"{stage}: dims", f"one of {', '.join(AXES)}", repr(axis)))
            modifiers[axis] = {q for q in rest.split("+") if q}
        out.append((m[1], modifiers))
    return out


def sizes(meta, axis):
    """(rank, size) of a process along an axis, wherever the dump keeps it."""
    for info in (meta, *(v for v in meta.values() if isinstance(v, dict))):
        if f"{axis}_rank" in info and f"{axis}_size" in info:
            return int(info[f"{axis}_rank"]), int(info[f"{axis}_size"])
    return None


def whole(stage, ranks, args):
    """One array of the arrays of all ranks, [rows, …]."""
    first = next(iter(ranks.values()))
    dims = first["meta"].get("dims") if isinstance(first.get("meta"), dict) else None
    if dims is None:
        if len(ranks) > 1:
            raise Error(message(stage, "a dims annotation", f"none, and {len(ranks)} ranks", 'dump with dims="t h[tp] d"'))
        return first["value"]
    axes = parsed(dims, stage)
    if len(axes) != len(first["value"].shape):
        raise LayoutError(message(stage, f"an array with axes {dims!r}", list(first["value"].shape)))
    parts = {}  # (place along each parallel axis): array
    used = [axis for axis in AXES if any(axis in modifiers for _, modifiers in axes)]
    for rank, dump in sorted(ranks.items()):
        place = []
        for axis in used:
            at = sizes(dump["meta"], axis)
            if at is None:
                asked = getattr(args, axis, None)
                if asked is None or len(used) > 1:
                    raise Error(message(stage, f"{axis}_rank and {axis}_size in the dump's meta", "none", f"--{axis} gives the number of ranks"))
                at = rank, asked
            asked = getattr(args, axis, None)
            if asked is not None and asked != at[1]:
                raise Error(message(f"--{axis}", f"{at[1]}, as the dumps say", asked))
            place.append(at)
        parts.setdefault(tuple(r for r, _ in place), dump["value"])
        counts = [size for _, size in place]
    if used and len(parts) != int(np.prod(counts)):
        raise Error(message(stage, f"dumps of {int(np.prod(counts))} ranks ({' × '.join(used)})", len(parts), "a rank's files are missing"))
    for i, axis in reversed(list(enumerate(used))):
        where = next(k for k, (_, modifiers) in enumerate(axes) if axis in modifiers)
        groups = {}
        for place, value in sorted(parts.items()):
            groups.setdefault(place[:i] + place[i + 1 :], []).append(value)
        how = axes[where][1][axis]
        parts = {place: together(values, where, how, f"{stage} ({axis})") for place, values in groups.items()}
    (value,) = parts.values()
    return rows_first(value, [name for name, _ in axes], stage)


def together(values, axis, how, where):
    if "partial" in how:
        return common.added(values, where)
    if "zigzag" not in how:
        return common.joined(values, axis, where)
    # Rank r has parts r and 2·size − 1 − r of the rows.
    size = len(values)
    halves = {}
    for r, value in enumerate(values):
        if value.shape[axis] % 2:
            raise LayoutError(message(where, "an even number of rows in a zigzag", value.shape[axis]))
        halves[r], halves[2 * size - 1 - r] = (Stored(value.dtype, half) for half in np.split(value.bits, 2, axis))
    return common.joined([halves[i] for i in range(2 * size)], axis, where)


def rows_first(value, names, stage):
    """Batch and sequence become rows, and rows stand first."""
    keep = [i for i, name in enumerate(names) if name != "1"]
    value, names = value.reshape([value.shape[i] for i in keep]), [names[i] for i in keep]
    if "b" in names and "s" in names:
        b = names.index("b")
        if value.shape[b] != 1:
            raise LayoutError(message(stage, "a batch of 1", value.shape[b], "one bundle holds one sequence"))
        value, names = value.reshape(value.shape[:b] + value.shape[b + 1 :]), [n for n in names if n != "b"]
    token = next((i for i, name in enumerate(names) if name in ("t", "s")), None)
    if token is None:
        return value
    return common.turned(value, token, *(i for i in range(len(names)) if i != token))


def split(stage, steps, rows, padded):
    """The prompt's pieces and the decode steps of a stage of the decoder."""
    if not stage.startswith("decoder."):
        if len(steps) > 1:
            raise Error(message(stage, "one dump", f"{len(steps)}, of steps {[s for s, _ in steps]}"))
        return {stage: steps[0][1]}
    heads = stage.endswith((".query", ".key", ".value"))
    shaped = lambda x: common.turned(x, 1, 0, 2) if heads and len(x.shape) == 3 else x
    if stage == "decoder.logits":
        last = [common.part(x, -1) if len(x.shape) == 2 else x for _, x in steps]
        return {stage if i == 0 else f"step.{i - 1:04}.logits": x for i, x in enumerate(last)}
    prefill, at, out = [], 0, {}
    for step, x in steps:
        if at < rows:
            if at + x.shape[0] > rows and not padded:
                remedy = f"step {step} holds other rows too: --padded drops the rows behind the prompt's"
                raise LayoutError(message(stage, f"{rows} rows, as the prompt has", at + x.shape[0], remedy))
            prefill.append(common.part(x, slice(0, rows - at)))
            at += prefill[-1].shape[0]
        elif stage.startswith("decoder.embed") or stage == "decoder.norm":
            continue
        elif x.shape[0] != 1:
            raise LayoutError(message(f"{stage}, step {step}", "1 row of a decode step", x.shape[0]))
        else:
            _, layer, site = stage.split(".")
            out[f"step.{len(out):04}.{layer}.{site}"] = common.part(x, 0)
    if at < rows:
        raise LayoutError(message(stage, f"{rows} rows, as the prompt has", at))
    out[stage] = shaped(common.joined(prefill, 0, stage))
    return out
