"""Every importer gives back the stages of the run that its sample was made of, `check` passes them, and a wrong option fails
with words. How the samples were made: samples/make_samples.py."""

import pickle
import zipfile

import aircache
import numpy as np
import pytest
from aircache.importers import FORMATS, bundle, main, pt
from conftest import SAMPLES, TOY
from safetensors.numpy import save_file

MODEL = TOY / "model"
SITES = ("query", "key", "value", "mix", "out")
MAPS = [
    "q_rope=decoder.LL.query", "k_rope=decoder.LL.key", "v=decoder.LL.value", "attn_out=decoder.LL.mix",
    "layer_out=decoder.LL.out", "logits=decoder.logits",
]  # fmt: skip


def stages(sites, steps=2):
    """The names of these sites in both layers, in the prefill and in the steps."""
    prefill = {f"decoder.{layer:02}.{site}" for layer in range(2) for site in sites}
    return prefill | {f"step.{t:04}.{layer:02}.{site}" for t in range(steps) for layer in range(2) for site in sites}


LOGITS = {"decoder.logits", "step.0000.logits", "step.0001.logits"}
# format: (path below the sample, options, the stages that come out, beside the prompt's)
GOOD = {
    "sglang": ("", {"map": MAPS, "padded": True}, stages(SITES) | LOGITS | {"output.ids"}),
    "tensorrt-edge-llm": ("request0.safetensors", {"row": 1}, stages(("key", "value")) | LOGITS | {"output.ids"}),
    "vllm": ("", {}, stages(("query", "key", "mix", "out")) | {"output.ids"}),
    "llama.cpp": ("", {}, (stages(SITES) - {"decoder.01.out"}) | LOGITS | {"decoder.embed", "output.ids"}),
    "paged": ("NHD.safetensors", {"block_size": 16}, stages(("key", "value"), 0)),
}


def imported(sample, format, path=None, **options):
    asked = {"input": SAMPLES / "run.safetensors", "model": MODEL, **options}
    below, _, _ = GOOD[format]
    return bundle(format, sample(format) / (path or below), **asked)


def test_every_format_has_a_sample():
    assert set(GOOD) == set(FORMATS)


@pytest.mark.parametrize("format", GOOD)
def test_a_sample_is_the_run_that_it_was_made_of(sample, run, format):
    _, options, expected = GOOD[format]
    got = imported(sample, format, **options)
    assert {name for name in got if not name.startswith("input.")} == expected
    for name in expected:
        if format == "vllm" and name.endswith(".out"):  # the sum of two parts, rounded
            assert np.allclose(got[name], run[name], rtol=0, atol=1e-6)
        elif format == "vllm" and name == "output.ids":  # the tokens that were fed: the last one was not
            assert np.array_equal(got[name], run[name][:-1])
        else:
            assert np.array_equal(got[name], run[name]), name
    verdict = aircache.assert_honest(got, model=MODEL, image=TOY / "image0.png", prompt="Read all text.")
    judged = {s.stage for s in verdict.stages if s.verdict == "pass"}
    assert judged >= expected


@pytest.mark.parametrize("layout", ["HND", "split"])
def test_other_layouts_of_a_paged_cache(sample, run, layout):
    got = imported(sample, "paged", f"{layout}.safetensors", layout=layout, block_size=16)
    assert all(np.array_equal(got[name], run[name]) for name in stages(("key", "value"), 0))


def test_an_evicted_cache_has_another_length_in_each_layer(tmp_path, demo):
    golden, size, tensors = aircache.read(demo), 8, {}
    for layer in range(6):
        positions = golden[f"cache.{layer:02}.positions"]
        table = np.random.default_rng(layer).permutation(70)[: -(-len(positions) // size)]
        kv = np.zeros((2, 70, size, 2, 32), np.float32)
        for which, site in enumerate(("key", "value")):
            entries = np.float32(golden[f"cache.{layer:02}.{site}"]).transpose(1, 0, 2)
            for i, block in enumerate(table):
                part = entries[i * size : (i + 1) * size]
                kv[which, block, : len(part)] = part
        tensors |= {f"layers.{layer}.kv": kv, f"positions.{layer}": positions, f"block_tables.{layer}": table}
    save_file(tensors, tmp_path / "pools.safetensors")
    got = bundle("paged", tmp_path / "pools.safetensors", input=demo, model="demo", block_size=size, evicted=True)
    assert len({got[f"cache.{layer:02}.positions"].shape for layer in range(6)}) > 1
    names = [f"cache.{layer:02}.{site}" for layer in range(6) for site in ("key", "value", "positions")]
    assert all(np.array_equal(got[name], np.float32(golden[name]) if name.endswith(("key", "value")) else golden[name]) for name in names)


WRONG = [  # format, path, options, what the message has to say
    ("sglang", None, {"map": MAPS[:1]}, None),  # fewer stages are no mistake
    ("sglang", None, {"map": MAPS}, "--padded"),
    ("sglang", None, {"map": ["q_rpoe=decoder.LL.query"], "padded": True}, "a dump named q_rpoe"),
    ("sglang", None, {"map": ["q_rope"]}, "NAME=STAGE"),
    ("sglang", None, {"map": ["q_rope=decoder.LL.key"]}, r"decoder.00.key: expected \[G, n, d_h\]"),
    ("sglang", None, {"map": MAPS[:1], "tp": 4}, "2, as the dumps say"),
    ("sglang", None, {}, "mapped to one"),
    ("tensorrt-edge-llm", None, {"row": 0}, "41 rows"),
    ("tensorrt-edge-llm", None, {"row": 2}, "0 to 1"),
    ("vllm", None, {"passes": "0,1"}, "41 ids"),
    ("vllm", None, {"passes": "1,9"}, "0 to 4"),
    ("vllm", None, {"model": None}, "--model"),
    ("llama.cpp", None, {"vision": "layer_out-L", "input": None}, "--input"),
    ("paged", None, {"block_size": 8}, "--block-size or --layout"),
    ("paged", None, {"block_size": 16, "layout": "HND"}, "--block-size or --layout"),
    ("paged", None, {"block_size": 16, "layout": "split"}, "five|layout|d_h/x"),
    ("paged", None, {"block_size": 16, "length": 60}, "4 blocks for 60 entries"),
    ("paged", None, {"block_size": 16, "evicted": True}, "positions.0"),
]


@pytest.mark.parametrize("format, path, options, says", WRONG)
def test_a_wrong_option_fails_with_words(sample, format, path, options, says):
    if says is None:
        assert "decoder.00.query" in imported(sample, format, path, **options)
        return
    with pytest.raises(aircache.Error, match=says):
        imported(sample, format, path, **options)


def test_a_missing_rank_is_told(sample):
    folder = sample("sglang")
    next(folder.glob("step=0___rank=1___*q_rope*")).unlink()
    with pytest.raises(aircache.Error, match=r"dumps of 2 ranks \(tp\), found 1"):
        imported(lambda _: folder, "sglang", map=MAPS, padded=True)


def test_a_wrong_guess_that_fits_is_found_by_check(sample):
    got = imported(sample, "llama.cpp", interleaved=True)
    verdict = aircache.check(got, model=MODEL)
    assert not verdict and verdict.first.stage == "decoder.00.query"


def test_the_order_of_interleaved_heads_is_undone(tmp_path, sample, run):
    folder = sample("llama.cpp")
    for file in folder.glob("*_[QK]cur-*_f32_8x*"):  # as a converter for Llama's rotary turns them
        x = np.fromfile(file, np.float32)
        x.reshape(-1, 2, 4).transpose(0, 2, 1).tofile(file)
    got = imported(lambda _: folder, "llama.cpp", interleaved=True)
    assert all(np.array_equal(got[name], run[name]) for name in stages(("query", "key", "value")))


def test_the_class_token_and_the_order_of_patches(tmp_path, run):
    rows = np.arange(16, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    raster = rows.reshape(2, 2, 2, 2, 4).transpose(0, 2, 1, 3, 4).reshape(16, 4)  # blocks of 2 × 2 laid out as 4 × 4

    def dumped(x, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        np.ascontiguousarray(x).tofile(folder / f"000000_layer_out-0_f32_4x{len(x)}x1x1.bin")
        np.zeros((41, 32), np.float32).tofile(folder / "000001_inp_embd_f32_32x41x1x1.bin")
        path = SAMPLES / "run.safetensors"
        return bundle("llama.cpp", folder, input=path, vision="layer_out-L", **options)["vision.00.out"]

    assert np.array_equal(dumped(np.roll(rows, -1, 0), class_token="last")[0], rows)
    assert np.array_equal(dumped(raster, patches="4x4"), rows)
    with pytest.raises(aircache.Error, match="16 patches in blocks of 2 × 2"):
        dumped(raster, patches="2x4")
    with pytest.raises(aircache.Error, match="HxW"):
        dumped(raster, patches="16")


def test_the_command(sample, tmp_path, capsys):
    words = ["paged", str(sample("paged") / "NHD.safetensors"), "--input", str(SAMPLES / "run.safetensors"), "--out", str(tmp_path / "c.safetensors")]
    assert main([*words, "--block-size", "16"]) == 0
    assert "9 stages of paged" in capsys.readouterr().out
    assert main([*words, "--block-size", "8"]) == 2
    assert "--block-size" in capsys.readouterr().err
    assert "decoder.00.key" in aircache.read(tmp_path / "c.safetensors")


def test_a_hostile_pickle_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (__import__("os").system, (f"touch {tmp_path}/ran",))

    path = tmp_path / "pass00000.pt"
    for payload in (pickle.dumps(Evil()), b"no pickle", b""):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", payload)
        with pytest.raises(aircache.Error):
            pt.load(path)
    path.write_bytes(b"no zip")
    with pytest.raises(aircache.Error, match="torch.save"):
        pt.load(path)
    assert not (tmp_path / "ran").exists()


def test_torch_files_are_read_as_torch_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "f32": torch.randn(3, 4).mT, "bf16": torch.randn(5).bfloat16(), "i": torch.arange(6)[::2], "b": torch.tensor([True]),
        "list": [torch.ones(2).half(), {"x": torch.zeros(0, 3)}], "n": 3, "p": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    torch.save(tensors, tmp_path / "t.pt")
    got = pt.load(tmp_path / "t.pt")
    assert np.array_equal(got["f32"].values(), tensors["f32"].numpy()) and got["n"] == 3
    assert np.array_equal(got["bf16"].values(), tensors["bf16"].float().numpy())
    assert got["i"].values().tolist() == [0, 2, 4] and got["b"].values().tolist() == [True]
    assert got["list"][0].dtype == "F16" and got["list"][1]["x"].shape == (0, 3) and got["p"].values().tolist() == [1, 1]
