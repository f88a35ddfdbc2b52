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
    numbers = {k: v for k, v in given.items() if isinstance(v, (bool, int, float, str))}
    stored = {k: arrays.stored(v, k) for k, v in given.items() if v is not None and k not in numbers}
    if "out" not in stored:
        raise Error(message(f"kernel {name}", "out=…, what the kernel computed", "none"))
    kind = known_precision(precision) if precision is not None else OF_TYPE.get(stored["out"].dtype, "f32")
    return _judged(name, kind, stored, numbers, html)


def _judged(name, kind, stored, numbers, html=None):
    file = Bundle(kind)
    file._stages = dict(stored)
    file.metadata |= {k: str(v).lower() if isinstance(v, bool) else repr(v) if isinstance(v, float) else str(v) for k, v in numbers.items()}
    with tempfile.TemporaryDirectory(prefix="aircache-") as folder:
        path = file.save(Path(folder) / f"{name}.safetensors")
        try:
            told = binary.answer("check", "--kernel", name, path, *binary.options({"html": html}), accept=(0, 1))
        except Error as e:
            raise Error(str(e).replace(str(path), name)) from None
    return from_json(told, html)


def kernel(name, *, out, **given):
    """Asserts that one kernel is honest: takes what `check_kernel` takes, raises what `assert_honest` raises.

    aircache.kernel("attention", q=q, k=k, v=v, causal=True, out=out)
    """
    __tracebackhide__ = True
    return judged(check_kernel, name, out=out, **given)
