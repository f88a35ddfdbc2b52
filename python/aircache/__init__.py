"""aircache: which number of a vision-language model is wrong, and which is only rounded.

    import aircache
    aircache.kernel("attention", q=q, k=k, v=v, causal=True, out=out)
    aircache.assert_honest({"decoder.02.mix": mix}, golden="golden.safetensors")
    aircache.assert_honest("candidate.safetensors", model=DIR, image="page.png", prompt="What is the total?")

`Bundle` writes stages, `read` reads them, `check` gives the verdict as an object, `record` makes goldens. Recorders:
`aircache.transformers`, `aircache.jax`. Importers: `python -m aircache import FORMAT`.
"""

from .arrays import round_bf16
from .bundle import Bundle, read
from .errors import Error, LayoutError
from .kernels import check_kernel, kernel
from .recording import compress, record
from .verdict import StageVerdict, Verdict, assert_honest, check

__all__ = [
    "Bundle", "Error", "LayoutError", "StageVerdict", "Verdict", "assert_honest", "check", "check_kernel",
    "compress", "kernel", "read", "record", "round_bf16",
]  # fmt: skip
