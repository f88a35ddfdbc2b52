"""A bundle: the stages of one run, each checked against the table when it is put in. Not here: whether a number is right."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from . import arrays, binary, stages
from .arrays import Stored
from .errors import Error, LayoutError, message

PRECISIONS = {
    "f64": "f64", "float64": "f64", "f32": "f32", "float32": "f32", "bf16": "bf16", "bfloat16": "bf16",
    "f16": "f16", "float16": "f16", "tf32": "tf32",
}  # fmt: skip
OF_TYPE = {"F64": "f64", "F32": "f32", "BF16": "bf16", "F16": "f16"}


class Bundle(Mapping):
    """The stages of one run of a model, by name; `bundle[name]` is a numpy array.

        bundle = aircache.Bundle("bf16", model=DIR)
        bundle["decoder.03.query"] = q          # [H, n, d_h]: torch, jax, numpy, DLPack
        bundle.save("candidate.safetensors")

    `bundle[name] = x` raises a `LayoutError` if no stage has this name, or if the shape or type does not fit the name. The
    sizes come from `model` (a checkpoint folder, or `demo`), from `like` (a golden), or from the stages put in before.
    """

    def __init__(self, precision=None, *, model=None, like=None, **metadata):
        """precision: the type of the computation (`bf16`, `torch.bfloat16`, …): it selects the ruler. Left out, the type of
        the arrays says it. Further keywords are metadata: `policy`, `retain`, `prompt`, `family`, …"""
        self._stages = {}
        self.sizes = stages.Sizes()
        self.metadata = {"format": "aircache-bundle", "version": "1", "producer": "aircache (Python)"}
        if precision is not None:
            self.metadata["precision"] = known_precision(precision)
        for key, value in metadata.items():
            self.metadata[key] = value if isinstance(value, str) else json.dumps(value)
        if like is not None:
            self.sizes = _sizes_of_bundle(like if isinstance(like, Bundle) else read(like))
        elif model is not None:
            self.sizes = sizes_of_model(model)

    def __setitem__(self, name, x):
        row = stages.find(name)
        value = arrays.stored(x, name)
        value = _whole(name, value, row) if row.is_whole else _number(name, value)
        shape = self.sizes.learn(name, value.shape, row)
        if name == "input.roles":
            visual = int(value.bits.sum())
            if self.sizes.values.get("n_v", visual) != visual:
                told = self.sizes.values["n_v"], self.sizes.said_by["n_v"]
                raise LayoutError(message(name, "{} visual rows (by {})".format(*told), visual))
            self.sizes.set("n_v", visual, name)
        self._stages[name] = value.reshape(shape)

    put = __setitem__

    def update(self, values):
        """Puts several stages, in the causal order of the table, so that ids and sizes come first."""
        order = [row.pattern for row in stages.table()]
        for name in sorted(values, key=lambda name: order.index(stages.find(name).pattern)):
            self[name] = values[name]
        return self

    def __getitem__(self, name):
        return self._stages[name].values()

    def __delitem__(self, name):
        del self._stages[name]

    def __iter__(self):
        return iter(self._stages)

    def __len__(self):
        return len(self._stages)

    def __repr__(self):
        kind = self.metadata.get("precision", "no precision yet")
        return f"<Bundle of {len(self)} stages, {kind}>"

    def stored(self, name):
        """A stage as it lies in the file, with its type and bits."""
        return self._stages[name]

    @property
    def precision(self):
        """The declared type, else the one type of all stages of numbers that a run computes."""
        if declared := self.metadata.get("precision"):
            return declared
        computed = {
            name: OF_TYPE.get(value.dtype)
            for name, value in self._stages.items()
            if name.startswith(("vision.", "projector.", "decoder.", "step.", "cache.")) and value.dtype in OF_TYPE
        }
        kinds = set(computed.values())
        if len(kinds) == 1:
            return kinds.pop()
        found = ", ".join(f"{kind} ({next(n for n, k in computed.items() if k == kind)})" for kind in sorted(kinds)) or "no stage of numbers"
        raise Error(message("precision", "one type of all stages of numbers", found, 'say it: precision="bf16", "f16" or "f32"'))

    def save(self, path):
        """Writes the bundle; the file appears whole or not at all."""
        path = Path(path)
        metadata = {**self.metadata, "precision": self.precision}
        tensors = {name: _tensor(value) for name, value in self._stages.items()}
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            safetensors.serialize_file(tensors, beside, metadata=metadata)
            os.chmod(beside, 0o666 & ~_umask())
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
        return path


def _tensor(value):
    """What `safetensors.serialize_file` takes: since version 0.8 a pointer, before it the bytes."""
    about = {"dtype": arrays.TYPES[value.dtype][0], "shape": list(value.shape)}
    if hasattr(safetensors, "TensorSpec"):
        return safetensors.TensorSpec(**about, data_ptr=value.bits.ctypes.data, data_len=value.bits.nbytes)
    return {**about, "data": value.bits.tobytes()}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def known_precision(precision):
    """`bf16` for `torch.bfloat16`, `jnp.bfloat16`, `bfloat16` and `bf16`."""
    if isinstance(precision, dict):
        return json.dumps(precision)
    name = getattr(precision, "__name__", None) or str(precision)
    known = PRECISIONS.get(name.rpartition(".")[2])
    if known is None and name.startswith("{"):
        return name
    if known is None:
        raise Error(message("precision", "f32, bf16, f16 or f64", repr(name)))
    return known


def _whole(name, value, row):
    """Whole numbers in the type of the table."""
    if value.dtype in arrays.FLOATS:
        raise LayoutError(message(name, "whole numbers", value.dtype))
    dtypes = {row.dtype, "U8"} if "U8" in row.shape_in_words else {row.dtype}
    if value.dtype in dtypes:
        return value
    if value.dtype == "BOOL" and "U8" in dtypes:
        return Stored("U8", value.bits.astype(np.uint8))
    cast = value.bits.astype(arrays.TYPES[row.dtype][1])
    if not np.array_equal(cast, value.bits):
        raise LayoutError(message(name, f"whole numbers that fit {row.dtype}", f"{value.dtype} up to {value.bits.max()}"))
    return Stored(row.dtype, cast)


def _number(name, value):
    if value.dtype not in arrays.FLOATS:
        raise LayoutError(message(name, "floating-point numbers", value.dtype))
    return value


def read(path):
    """Reads a bundle. Arrays are mapped from the file when they are asked for; bfloat16 is widened to float32."""
    path = Path(path)
    if not path.is_file():
        raise Error(message(path, "a bundle", "no such file"))
    try:
        with safetensors.safe_open(path, framework="numpy") as file:  # checks header and offsets
            metadata = file.metadata() or {}
    except Exception as e:
        raise Error(message(path, "a safetensors file", e)) from None
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    bundle = Bundle()
    bundle.metadata = dict(metadata)
    for name, tensor in header.items():
        if tensor["dtype"] not in arrays.TYPES:
            continue
        bits, (begin, end) = np.dtype(arrays.TYPES[tensor["dtype"]][1]), tensor["data_offsets"]
        if begin == end:
            data = np.empty(tensor["shape"], bits)
        else:
            data = np.memmap(path, bits, "r", 8 + length + begin, tuple(tensor["shape"]))
        bundle._stages[name] = Stored(tensor["dtype"], data)
    return bundle


def sizes_of_model(model):
    """The symbols that a checkpoint gives."""
    told = binary.answer("inspect", *([] if str(model) == "demo" else ["--model", model]))
    if not told.get("decoder"):
        raise Error(message(model, "a checkpoint that aircache reads", "; ".join(map(str, told.get("problems", [])))))
    text, tower = told["decoder"], told.get("vision") or {}
    sizes = {"L": text["layers"], "H": text["heads"], "G": text["kv_heads"], "d_h": text["head_dim"], "d": text["hidden"]}
    sizes |= {"V": text["vocab"]} | ({"d_v": tower["hidden"]} if "hidden" in tower else {})
    return stages.Sizes(sizes, "the demo model" if str(model) == "demo" else str(model))


def _sizes_of_bundle(golden):
    sizes = stages.Sizes()
    patterns = {row.pattern: row for row in stages.table()}
    order = list(patterns)
    known = [name for name in golden if stages.pattern(name) in patterns]
    for name in sorted(known, key=lambda name: order.index(stages.pattern(name))):
        try:
            sizes.learn(name, golden.stored(name).shape, patterns[stages.pattern(name)])
        except LayoutError:
            continue  # a golden may hold a sample of the rows
        if name == "input.roles":
            sizes.set("n_v", int(golden[name].sum()), name)
    sizes.said_by = {key: f"the golden's {source}" for key, source in sizes.said_by.items()}
    return sizes
