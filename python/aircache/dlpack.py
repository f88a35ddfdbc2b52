"""Reads a DLPack capsule on the CPU. numpy does this too, but refuses bfloat16."""

import ctypes

import numpy as np

from .errors import LayoutError

CPU, PINNED, MANAGED = 1, 3, 13  # devices whose memory the CPU reads
# (code, bits) of a DLPack type: its name in a bundle and the numpy type of its bits
TYPES = {
    (0, 8): ("I8", np.int8), (0, 16): ("I16", np.int16), (0, 32): ("I32", np.int32), (0, 64): ("I64", np.int64),
    (1, 8): ("U8", np.uint8), (1, 16): ("U16", np.uint16), (1, 32): ("U32", np.uint32), (1, 64): ("U64", np.uint64),
    (2, 16): ("F16", np.float16), (2, 32): ("F32", np.float32), (2, 64): ("F64", np.float64),
    (4, 16): ("BF16", np.uint16), (6, 8): ("BOOL", np.bool_),
}  # fmt: skip


class Tensor(ctypes.Structure):
    """`DLTensor` of dlpack.h, the beginning of a `DLManagedTensor`."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def read(x, name):
    """The type of `x`, and a copy of its bits as a numpy array."""
    device = x.__dlpack_device__()[0]
    if device not in (CPU, PINNED, MANAGED):
        raise LayoutError(f"{name}: expected an array in the CPU's memory, found DLPack device {device}; copy it to the host first")
    capsule = x.__dlpack__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # The capsule keeps its name and so stays the owner: its destructor frees the tensor after the copy below.
    tensor = Tensor.from_address(pointer(capsule, b"dltensor"))
    known = TYPES.get((tensor.code, tensor.bits))
    if known is None or tensor.lanes != 1:
        raise LayoutError(f"{name}: DLPack type {tensor.code} of {tensor.bits} bits × {tensor.lanes} is not known")
    dtype, bits = known[0], np.dtype(known[1])
    shape = tuple(tensor.shape[: tensor.ndim])
    if 0 in shape:
        return dtype, np.empty(shape, bits)
    steps = tensor.strides[: tensor.ndim] if tensor.strides else None
    if steps is not None and min(steps, default=0) < 0:
        raise LayoutError(f"{name}: negative strides in a DLPack array; make it contiguous first")
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, steps)) if steps is not None else int(np.prod(shape))
    memory = (ctypes.c_char * (reach * bits.itemsize)).from_address(tensor.data + tensor.byte_offset)
    flat = np.frombuffer(memory, bits)
    if steps is None:
        return dtype, flat.reshape(shape).copy()
    view = np.lib.stride_tricks.as_strided(flat, shape, [s * bits.itemsize for s in steps], writeable=False)
    return dtype, np.array(view, order="C")
