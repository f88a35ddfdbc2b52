"""Goldens and decisions from the binary: `record` and `compress`."""

import tempfile
from pathlib import Path

from . import binary
from .bundle import Bundle, read
from .verdict import _file


def record(out, **options):
    """Runs `aircache record` and returns the golden's path. Keywords are its options: `model`, `image`, `prompt`, `sample`,
    `retain`, `policy`, `precision`, `stages`, `max_new_tokens`, …"""
    binary.run("record", "--quiet", *binary.options(options), "--out", out)
    return Path(out)


def compress(bundle, **options):
    """The eviction alone: a bundle (or a file) with `decoder.LL.query`, `decoder.LL.key` and `input.roles` gives a bundle of
    `policy.*` stages. Keywords are options of `aircache compress`: `policy`, `retain`, `precision`, …"""
    with tempfile.TemporaryDirectory(prefix="aircache-") as folder:
        seen = _file(bundle, Path(folder) / "seen.safetensors")
        out = Path(folder) / "plan.safetensors"
        binary.run("compress", "--quiet", seen, *binary.options(options), "--out", out)
        plan = read(out)
        whole = Bundle()
        whole.metadata = plan.metadata
        # Copied, since the file goes away.
        whole._stages = {name: type(v)(v.dtype, v.bits.copy()) for name, v in plan._stages.items()}
        return whole
