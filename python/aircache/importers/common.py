"""What importers share: arrays that are joined and turned without rounding, and the bundle that comes out."""

import numpy as np

from ..arrays import Stored, round_bf16
from ..bundle import Bundle, read
from ..errors import Error, LayoutError, message


def options(parser):
    """Options of every importer."""
    parser.add_argument("--input", metavar="BUNDLE", help="a bundle that has the prompt: its input.* stages are copied")
    parser.add_argument("--model", metavar="DIR", help="the checkpoint; it gives the sizes, so that layouts are checked")
    parser.add_argument("--precision", help="the type of the computation [default: the type of the arrays]")
    parser.add_argument("--out", metavar="FILE", required=True, help="the candidate")


def prompt(args):
    """The bundle of `--input`; none if it is not given."""
    return read(args.input) if args.input else None


def ids(args):
    """The prompt's ids, which say how many rows it has, and which passes of a dump are its own."""
    given = prompt(args)
    if given is None or "input.ids" not in given:
        remedy = "`aircache record --stages 'input.*' --no-noise --out FILE` with the same image and prompt makes one"
        raise Error(message("--input", "a bundle with input.ids", args.input or "nothing", remedy))
    return given["input.ids"]


def bundle(args, stages, source):
    """The candidate: what was imported, and the prompt."""
    if not stages:
        raise Error(message(source, "at least one stage", "none", "its names are listed by `aircache stages`"))
    given = prompt(args)
    known = {name: given.stored(name) for name in given if name.startswith("input.")} if given else {}
    out = Bundle(args.precision, model=args.model, producer=f"imported from {source}")
    return out.update({**known, **stages})


def generated(fed, stages):
    """The tokens: those that were fed; of steps whose token is not known, the largest logit's."""
    tokens, logits = list(fed), "decoder.logits" if not fed else f"step.{len(fed) - 1:04}.logits"
    while logits in stages:
        tokens.append(int(np.argmax(stages[logits].values())))
        logits = f"step.{len(tokens) - 1:04}.logits"
    return {"output.ids": np.array(tokens)} if tokens else {}


def turned(x, *axes):
    return Stored(x.dtype, np.ascontiguousarray(x.bits.transpose(axes)))


def part(x, index):
    return Stored(x.dtype, np.ascontiguousarray(x.bits[index]))


def joined(pieces, axis, where):
    """Pieces one after the other along an axis."""
    shapes = [list(p.shape[:axis]) + list(p.shape[axis + 1 :]) for p in pieces]
    if any(p.dtype != pieces[0].dtype for p in pieces) or any(s != shapes[0] for s in shapes):
        found = ", ".join(f"{p.dtype} {list(p.shape)}" for p in pieces)
        raise LayoutError(message(where, f"pieces that fit together along axis {axis}", found))
    return Stored(pieces[0].dtype, np.concatenate([p.bits for p in pieces], axis))


def added(pieces, where):
    """The sum, rounded once to the type of the pieces."""
    if any(p.dtype != pieces[0].dtype or p.shape != pieces[0].shape for p in pieces):
        raise LayoutError(message(where, "arrays of one shape", ", ".join(f"{p.dtype} {list(p.shape)}" for p in pieces)))
    wide = np.float64 if pieces[0].dtype == "F64" else np.float32
    total = sum(p.values().astype(wide) for p in pieces)
    return round_bf16(total) if pieces[0].dtype == "BF16" else Stored(pieces[0].dtype, total.astype(pieces[0].bits.dtype))


def heads(x, count, where):
    """[n, heads · d_h] or [n, heads, d_h] → [heads, n, d_h]."""
    if len(x.shape) == 2:
        if not count or x.shape[1] % count:
            raise LayoutError(message(where, f"rows of {count or '?'} heads", list(x.shape), "give --model, which says how many heads there are"))
        x = x.reshape((x.shape[0], count, x.shape[1] // count))
    if len(x.shape) != 3:
        raise LayoutError(message(where, "[n, heads, d_h]", list(x.shape)))
    return turned(x, 1, 0, 2)
