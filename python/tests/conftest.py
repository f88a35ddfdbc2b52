"""What several tests use. The tests run with numpy alone; those that need torch or jax skip themselves."""

import zipfile
from pathlib import Path

import aircache
import numpy as np
import pytest

pytest_plugins = ["pytester"]
SAMPLES = Path(__file__).parent / "samples"
TOY = Path(__file__).parents[2] / "tests/golden/llava/shrink-anyres-max-2"


def attention(q, k, v, *, scale=None, causal=True):
    """softmax(q·kᵀ·scale)·v in numpy: [H, n, d_h], [G, n, d_h] → [n, H·d_h]."""
    heads, n, d = q.shape
    k, v = (np.repeat(x, heads // len(x), 0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) * q.dtype.type(d**-0.5 if scale is None else scale)
    if causal:
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, -1)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo model's golden, with an eviction and three tokens."""
    return aircache.record(tmp_path_factory.mktemp("golden") / "demo.safetensors", retain=0.3, max_new_tokens=3)


@pytest.fixture(scope="session")
def run():
    """What transformers computed of the toy: the run that every sample was made of."""
    return aircache.read(SAMPLES / "run.safetensors")


@pytest.fixture
def sample(tmp_path):
    """`sample("sglang")`: the folder of an engine's dump."""

    def unpack(name):
        if (SAMPLES / name).is_dir():
            return SAMPLES / name
        with zipfile.ZipFile(SAMPLES / f"{name}.zip") as archive:
            archive.extractall(tmp_path / name)
        return tmp_path / name

    return unpack
