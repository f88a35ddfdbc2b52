"""The pytest plugin: the fixture `golden`, and `--aircache-html DIR` for the page of each failure."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from . import binary, verdict
from .bundle import read
from .recording import record


def pytest_addoption(parser):
    group = parser.getgroup("aircache")
    group.addoption("--aircache-html", metavar="DIR", help="a page in DIR for each candidate that fails")
    parser.addini("aircache_goldens", "folders of goldens, besides `goldens` beside the test", type="paths", default=[])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    folder = item.config.getoption("--aircache-html")
    if folder:
        verdict.page_of_failure = Path(folder).absolute() / (re.sub(r"[^\w.=-]+", "_", item.nodeid).strip("_") + ".html")
    yield
    verdict.page_of_failure = None


class Golden(os.PathLike):
    """A golden of `aircache record`: its path, its arrays by name, and one assertion."""

    def __init__(self, path):
        self.path = Path(path)
        self._read = None

    def __fspath__(self):
        return str(self.path)

    def __getitem__(self, name):
        """A stage as a float32 array (whole numbers as they are): what a test gives to its kernel."""
        if self._read is None:
            self._read = read(self.path)
        values = self._read[name]
        return values.astype("float32") if values.dtype.kind == "f" else values

    def assert_honest(self, candidate, **how):
        __tracebackhide__ = True
        return verdict.assert_honest(candidate, golden=self, **how)


@pytest.fixture
def golden(request):
    """`golden("name")` is `goldens/name.safetensors` beside the test, or in a folder of the ini option `aircache_goldens`.
    `golden("demo", retain=0.1, …)` records the demo model once, with options of `aircache record`, and keeps it in pytest's
    cache."""

    def find(name, **options):
        if name == "demo":
            return Golden(demo(request.config, options))
        folders = [request.path.parent / "goldens", *request.config.getini("aircache_goldens")]
        for folder in folders:
            if (file := Path(folder) / f"{name}.safetensors").is_file():
                return Golden(file)
        there = sorted({f.stem for folder in folders for f in Path(folder).glob("*.safetensors")})
        pytest.fail(
            f"golden {name!r}: no such file in {', '.join(map(str, folders))}"
            f"{'; there are: ' + ', '.join(there) if there else ''}. `aircache record --out FILE` makes one",
            pytrace=False,
        )

    return find


def demo(config, options):
    """The demo model's golden, made once for each set of options and each build of the program."""
    options = {"max_new_tokens": 4, **options}
    state = os.stat(binary.path())
    key = hashlib.sha256(repr((sorted(options.items()), state.st_size, state.st_mtime_ns)).encode()).hexdigest()[:16]
    cache = getattr(config, "cache", None)
    folder = cache.mkdir("aircache") if cache else Path(config.rootpath) / ".aircache"
    path = folder / f"demo-{key}.safetensors"
    return path if path.is_file() else record(path, **options)
