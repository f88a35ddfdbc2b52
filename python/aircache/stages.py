"""The table of stages, as the binary prints it, and whether a shape fits a row of it.

No name and no shape is written here: both come from `aircache stages --json`. A shape has symbols: `[H, n, d_h]`. A symbol
has one value in a bundle, whichever stage says it first.
"""

import difflib
import functools
import itertools
import math
import re
from dataclasses import dataclass

from . import binary
from .errors import LayoutError, message

# Symbols that have one value in a stage, and others in other stages.
OWN = ("b", "w", "text rows", "…")


@dataclass(frozen=True)
class Row:
    """A row of the table. shapes: tuples of symbols, numbers and products such as `H·d_h`; none if any shape will do."""

    pattern: str
    kind: str
    dtype: str | None
    shapes: tuple
    shape_in_words: str
    what: str

    @property
    def is_whole(self):
        """Whether the stage holds whole numbers."""
        return self.kind != "numbers"


@functools.lru_cache
def table():
    """The rows, in causal order."""
    rows = []
    for row in binary.answer("stages"):
        shapes = re.findall(r"\[([^\]]*)\]", row["shape"])
        shapes = tuple(tuple(side.strip() for side in shape.split(",")) for shape in shapes)
        rows.append(Row(row["stage"], row["kind"], row["type"], shapes, row["shape"], row["what"]))
    return tuple(rows)


def pattern(name):
    """A name with its numbers as the table writes them: `decoder.07.mix` → `decoder.LL.mix`."""
    return re.sub(r"(?<=\.)\d{2}(?=\.)", "LL", re.sub(r"(?<=\.)\d{4}(?=\.)", "TTTT", name))


def find(name):
    """The row of a stage; a name that no stage has is an error that says which name was probably meant."""
    want = pattern(name)
    for row in table():
        if row.pattern == want:
            return row
    known = [row.pattern for row in table()]
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    near = difflib.get_close_matches(re.sub(r"(?<=\.)\d+(?=\.)", "LL", name).replace("step.LL", "step.TTTT"), known, 1, 0.7)
    meant = near[0] if near else ""
    for mark, width in (("TTTT", 4), ("LL", 2)):
        if mark in meant and numbers:
            meant = meant.replace(mark, numbers.pop(0).lstrip("0").rjust(width, "0"))
    remedy = f"did you mean {meant}?" if meant else "`aircache stages` lists them"
    raise LayoutError(message(name, "the name of a stage", "no such stage", remedy))


class Sizes:
    """What the symbols of shapes are in one bundle, and which stage or model said so."""

    def __init__(self, known=None, source=""):
        self.values = dict(known or {})
        self.said_by = dict.fromkeys(self.values, source)

    def key(self, name, symbol):
        """A cache's length belongs to a layer; what the projector reads has a width of its own."""
        if symbol == "len":
            return name.rpartition(".")[0], symbol
        if name == "vision.features" or symbol in OWN:
            return name, symbol
        return symbol

    def side(self, name, symbol):
        """The length that is expected, or none if nothing said it yet."""
        if symbol.isdigit():
            return int(symbol)
        sides = [self.values.get(self.key(name, part)) for part in symbol.split("·")]
        return None if None in sides else math.prod(sides)

    def fits(self, name, want, shape):
        if len(want) != len(shape):
            return False
        return all(self.side(name, symbol) in (None, found) for symbol, found in zip(want, shape))

    def learn(self, name, shape, row):
        """Checks a shape and keeps what it says. Returns the shape without a batch axis of 1."""
        shape = tuple(shape)
        if not row.shapes or any("…" in want for want in row.shapes):
            return shape
        for found in (shape, shape[1:]) if shape[:1] == (1,) else (shape,):
            for want in row.shapes:
                if self.fits(name, want, found):
                    for symbol, side in zip(want, found):
                        if "·" not in symbol and not symbol.isdigit():
                            self.set(self.key(name, symbol), side, name)
                    return found
        raise LayoutError(self.complaint(name, shape, row))

    def set(self, key, value, source):
        if key not in self.values:
            self.values[key], self.said_by[key] = value, source

    def complaint(self, name, shape, row):
        want = min(row.shapes, key=lambda want: abs(len(want) - len(shape)))
        sides = [self.side(name, symbol) for symbol in want]
        symbols = f"[{', '.join(want)}]"
        expected = symbols if all(s is None for s in sides) else (
            f"{symbols} = [{', '.join(symbol if s is None else str(s) for s, symbol in zip(sides, want))}]"
        )  # fmt: skip
        said = {self.key(name, part) for symbol in want for part in symbol.split("·")} & self.values.keys()
        sources = sorted({self.said_by[key] for key in said})
        told = f" (by {', '.join(sources)})" if sources else ""
        return message(name, expected + told, list(shape), remedy(want, sides, shape))


def remedy(want, sides, shape):
    """What to do with an array of this shape, if that can be said."""
    fits = lambda order: all(side in (None, shape[i]) for side, i in zip(sides, order))
    orders = [order for order in itertools.permutations(range(len(shape))) if len(shape) == len(sides) and fits(order)]
    if len(orders) == 1:
        return f"the axes are in another order: x.transpose({', '.join(map(str, orders[0]))})"
    if None in sides:
        return ""
    if want == ("V",) and len(shape) == 2 and shape[-1] == sides[0]:
        return "these are the logits of several rows: x[-1]"
    if len(shape) == len(sides) + 1 and list(shape[1:]) == sides:
        return "this is a batch: one bundle holds one sequence, x[i]"
    if len(sides) == 3 and list(shape) == [sides[1], sides[0] * sides[2]]:
        return f"the heads lie side by side: x.reshape({sides[1]}, {sides[0]}, {sides[2]}).transpose(1, 0, 2)"
    if len(sides) == 2 and "·" in want[1] and len(shape) == 3 and shape[0] * shape[2] == sides[1] and shape[1] == sides[0]:
        return f"put the heads side by side: x.transpose(1, 0, 2).reshape({sides[0]}, {sides[1]})"
    if len(sides) == 2 and "·" in want[1] and len(shape) == 3 and shape[1] * shape[2] == sides[1] and shape[0] == sides[0]:
        return f"put the heads side by side: x.reshape({sides[0]}, {sides[1]})"
    if want == ("V",) and len(shape) == 1 and shape[0] > sides[0]:
        return f"the vocabulary is padded: x[:{sides[0]}]"
    if want[0] == "G" and len(shape) == len(sides) and list(shape[1:]) == sides[1:] and shape[0] % sides[0] == 0:
        return f"the KV heads are repeated for the query heads: x[::{shape[0] // sides[0]}]"
    return ""
