"""Reads files of `torch.save` with numpy alone: a zip with a pickle of tensors. The pickle may only build tensors, lists,
dicts and numbers, so a hostile file can run nothing.
"""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

from ..arrays import TYPES, Stored
from ..errors import Error, message

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "LongStorage": "I64",
    "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
    "Float8_e4m3fnStorage": "F8_E4M3", "Float8_e5m2Storage": "F8_E5M2",
}  # fmt: skip


class Tensors(pickle.Unpickler):
    def __init__(self, file, archive, root):
        super().__init__(io.BytesIO(file))
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *rest: data
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and (name in ("device", "dtype") or name in {n for n, _ in TYPES.values()}):
            return lambda *args: None
        raise Error(message(self.archive.filename, "tensors, lists, dicts and numbers", f"{module}.{name}", "save plain tensors"))

    def persistent_load(self, pid):
        _, dtype, key, _, _ = pid
        data = self.archive.read(f"{self.root}/data/{key}")
        return dtype, np.frombuffer(data, TYPES[dtype][1])


def tensor(storage, offset, shape, strides, *rest):
    dtype, flat = storage
    if 0 in shape:
        return Stored(dtype, np.empty(shape, flat.dtype))
    strides = [s * flat.itemsize for s in strides]
    view = np.lib.stride_tricks.as_strided(flat[offset:], shape, strides, writeable=False)
    return Stored(dtype, np.array(view, order="C"))


def load(path):
    """What `torch.save` wrote: `Stored` arrays for tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            return Tensors(archive.read(name), archive, name.rpartition("/")[0]).load()
    except (zipfile.BadZipFile, StopIteration):
        raise Error(message(path, "a file of torch.save", "no zip of tensors", "save it with torch 1.6 or newer")) from None
    except (pickle.UnpicklingError, KeyError, AttributeError, TypeError, IndexError, EOFError) as e:
        raise Error(message(path, "a file of torch.save", e)) from None
