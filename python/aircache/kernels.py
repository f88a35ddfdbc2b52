"""One kernel by itself, from its arrays: no model, no stages. The binary knows the kernels (`aircache check --help`)."""

import tempfile
from pathlib import Path

from . import arrays, binary
from .bundle import OF_TYPE, Bundle, known_precision
from .errors import Error, message
from .verdict import from_json, judged


def check_kernel(name, *, precision=None, html=None, **given):
    """The verdict on one kernel: what it read and what it made of it (`out`).

    attention: q [H, n, d], k, v [G, m, d], and `mask` or `causal=True|False`, `scale`. norm: x, weight, eps (with `bias` a
    layer norm). linear: x, weight, bias. rotary: x [n, d], positions, theta. softmax: x. topk: x. Leading axes are free.
    precision: the type of the computation, by default the type of `out`.
    """
    file = Bundle()
    for key, value in given.items():
        if value is None:
            continue
        if isinstance(value, (bool, int, float, str)):
            file.metadata[key] = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
        else:
            file._stages[key] = arrays.stored(value, key)
    if "out" not in file:
        raise Error(message(f"kernel {name}", "out=…, what the kernel computed", "none"))
    kind = OF_TYPE.get(file.stored("out").dtype, "f32")
    file.metadata["precision"] = known_precision(precision) if precision is not None else kind
    with tempfile.TemporaryDirectory(prefix="aircache-") as folder:
        path = file.save(Path(folder) / f"{name}.safetensors")
        words = binary.options({"html": html})
        try:
            told = binary.answer("check", "--kernel", name, path, *words, accept=(0, 1))
        except Error as e:
            raise Error(str(e).replace(str(path), name)) from None
    return from_json(told, html)


def kernel(name, *, out, **given):
    """Asserts that one kernel is honest: takes what `check_kernel` takes, raises what `assert_honest` raises.

    aircache.kernel("attention", q=q, k=k, v=v, causal=True, out=out)
    """
    __tracebackhide__ = True
    return judged(check_kernel, name, out=out, **given)
