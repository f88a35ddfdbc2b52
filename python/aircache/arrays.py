"""Arrays of any library as bytes with a type: numpy, torch, jax (ml_dtypes), and whatever speaks DLPack.

numpy has no bfloat16 and no 8-bit floats. Their bits travel as whole numbers, so that no value changes and neither torch nor
ml_dtypes is needed. Not here: which array belongs under which name.
"""

from dataclasses import dataclass

import numpy as np

from . import dlpack
from .errors import LayoutError

# name in a bundle: (name in numpy, torch and ml_dtypes; numpy type of the bits)
TYPES = {
    "F64": ("float64", np.float64),
    "F32": ("float32", np.float32),
    "F16": ("float16", np.float16),
    "BF16": ("bfloat16", np.uint16),
    "F8_E4M3": ("float8_e4m3fn", np.uint8),
    "F8_E5M2": ("float8_e5m2", np.uint8),
    "I64": ("int64", np.int64),
    "I32": ("int32", np.int32),
    "I16": ("int16", np.int16),
    "I8": ("int8", np.int8),
    "U64": ("uint64", np.uint64),
    "U32": ("uint32", np.uint32),
    "U16": ("uint16", np.uint16),
    "U8": ("uint8", np.uint8),
    "BOOL": ("bool", np.bool_),
}
NAMES = {name: dtype for dtype, (name, _) in TYPES.items()}
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Stored:
    """An array as a bundle stores it. bits: C-contiguous, of the numpy type that `TYPES` gives for `dtype`."""

    dtype: str
    bits: np.ndarray

    @property
    def shape(self):
        return self.bits.shape

    def values(self):
        """The array in numpy; bfloat16 is widened to float32, which is exact."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        if self.dtype in ("F8_E4M3", "F8_E5M2"):
            raise LayoutError(f"numpy has no {self.dtype}; `.stored(name).bits` has its bits")
        return self.bits

    def reshape(self, shape):
        return Stored(self.dtype, self.bits.reshape(shape))


def stored(x, name="array"):
    """Any array as `Stored`: values are copied to the CPU where needed, and never rounded."""
    if isinstance(x, Stored):
        return x
    module = type(x).__module__.partition(".")[0]
    if module == "torch":
        return _torch(x)
    if module in ("jax", "jaxlib") or isinstance(x, (np.ndarray, np.generic, int, float, bool, list, tuple)):
        return _numpy(np.asarray(x), name)
    if hasattr(x, "__dlpack__"):
        dtype, bits = dlpack.read(x, name)
        return Stored(dtype, bits)
    if hasattr(x, "__array__"):
        return _numpy(np.asarray(x), name)
    raise LayoutError(f"{name}: expected an array of numpy, torch, jax or DLPack, found {type(x).__qualname__}")


def _numpy(x, name):
    dtype = NAMES.get(x.dtype.name)
    if dtype is None:
        raise LayoutError(f"{name}: expected numbers of a type among {', '.join(NAMES)}, found {x.dtype}")
    x = np.ascontiguousarray(x).reshape(x.shape)  # a scalar would become [1]
    bits = np.dtype(TYPES[dtype][1])
    return Stored(dtype, x.view(bits) if x.dtype != bits else x)


def _torch(x):
    import torch

    x = x.detach().to("cpu").contiguous()
    dtype = NAMES.get(str(x.dtype).removeprefix("torch."))
    if dtype is None:
        raise LayoutError(f"expected numbers of a type among {', '.join(NAMES)}, found {x.dtype}")
    same = {"BF16": torch.int16, "F8_E4M3": torch.uint8, "F8_E5M2": torch.uint8}.get(dtype)
    # A copy: the model may write into the tensor again.
    bits = (x.view(same) if same else x).numpy().copy()
    return Stored(dtype, bits.view(TYPES[dtype][1]))


def round_bf16(x):
    """float32 numbers rounded to bfloat16, to nearest even, as `Stored`. NaN stays NaN."""
    x = np.ascontiguousarray(x, np.float32)
    bits = x.view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return Stored("BF16", np.where(np.isnan(x), 0x7FC0, bits).astype(np.uint16))
