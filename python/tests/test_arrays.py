"""Arrays come in bit for bit, whatever library made them."""

import ctypes

import aircache
import numpy as np
import pytest
from aircache import arrays
from aircache.dlpack import Tensor

VALUES = np.array([[1.0, -2.5, 3.14159], [1e-30, np.inf, 65504.0]], np.float32)


class Dlpack:
    """An array that speaks DLPack and nothing else; with `bits`, a numpy array of 16-bit numbers passes for bfloat16."""

    def __init__(self, x, bf16=False, device=(1, 0)):
        self.x, self.bf16, self.device = x, bf16, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **_):
        capsule = self.x.__dlpack__()
        if self.bf16:
            pointer = ctypes.pythonapi.PyCapsule_GetPointer
            pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            Tensor.from_address(pointer(capsule, b"dltensor")).code = 4
        return capsule


def test_numpy_keeps_its_type_and_bits():
    for dtype, name in [("f8", "F64"), ("f4", "F32"), ("f2", "F16"), ("i8", "I64"), ("u1", "U8"), ("?", "BOOL")]:
        with np.errstate(all="ignore"):
            x = np.nan_to_num(VALUES, posinf=1).astype(dtype)
        stored = arrays.stored(x.T)
        assert stored.dtype == name and stored.shape == (3, 2) and np.array_equal(stored.values(), x.T)


def test_dlpack_is_read_with_strides_and_bfloat16():
    stored = arrays.stored(Dlpack(VALUES.T[::2]))
    assert stored.dtype == "F32" and np.array_equal(stored.values(), VALUES.T[::2])
    bits = arrays.round_bf16(VALUES).bits
    stored = arrays.stored(Dlpack(bits.copy(), bf16=True))
    assert stored.dtype == "BF16" and np.array_equal(stored.bits, bits)
    with pytest.raises(aircache.LayoutError, match="copy it to the host"):
        arrays.stored(Dlpack(VALUES, device=(2, 0)))


def test_bfloat16_rounds_to_nearest_even_and_widens_exactly():
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8], np.float32)
    assert arrays.round_bf16(halves).values().tolist() == [1.0, 1 + 2**-6, 1 + 2**-7, -1.0]
    assert np.isnan(arrays.round_bf16(np.float32([np.nan])).values()[0])


def test_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    stored = arrays.stored(VALUES.astype(ml_dtypes.bfloat16))
    assert stored.dtype == "BF16" and np.array_equal(stored.bits, arrays.round_bf16(VALUES).bits)


def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(VALUES).to(torch.bfloat16).mT
    stored = arrays.stored(x)
    assert stored.dtype == "BF16" and np.array_equal(stored.bits, arrays.round_bf16(VALUES).bits.T)
    assert np.array_equal(arrays.stored(x.half()).values(), x.half().numpy())
    assert arrays.stored(torch.zeros(2, requires_grad=True)).dtype == "F32"


def test_what_is_no_array_says_so():
    for x in ("text", {"a": 1}, np.array(["text"]), np.zeros(2, complex)):
        with pytest.raises(aircache.LayoutError, match="expected"):
            arrays.stored(x, "decoder.norm")
