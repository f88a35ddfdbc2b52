"""The recorder on a model of every family that transformers has: every stage is judged, and passes, in every type, by every
attention, in one piece and in several, whole and evicted."""

from pathlib import Path

import aircache
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from aircache.transformers import Recorder, ask, load, record  # noqa: E402

GOLDENS = Path(__file__).parents[2] / "tests/golden"
TOYS = {
    "llava_onevision": "llava/shrink-anyres-max-2", "llava": "llava_clip/vicuna-f16", "llava_next": "llava_clip/next-mistral-bf16",
    "qwen2_vl": "qwen2_vl/hub-bf16", "qwen2_5_vl": "qwen2_5_vl/hub-bf16", "qwen3_vl": "qwen3_vl/hub-bf16",
    "internvl": "internvl/qwen2-bf16", "internvl-qwen3": "internvl/qwen3-bf16", "internvl-llama": "internvl/llama-two-images",
}  # fmt: skip
DEMO = Path(__file__).parents[2] / "src/demo"


@pytest.fixture(scope="module", params=TOYS)
def toy(request):
    folder = GOLDENS / TOYS[request.param]
    inputs, rendered = ask(str(folder / "model"), [str(folder / "image0.png")], "Read all text.")
    return folder, inputs, rendered


def judged(bundle, folder):
    verdict = aircache.assert_honest(bundle, model=folder / "model", image=folder / "image0.png", prompt="Read all text.")
    assert {s.verdict for s in verdict.stages} <= {"pass", "admissible"}, verdict
    assert not verdict.unknown and len(verdict.stages) == len(bundle)
    return verdict


HOW = [("f32", "eager", {}), ("f16", "eager", {"chunk": 16}), ("bf16", "sdpa", {"retain": "0.3"})]


@pytest.mark.parametrize("kind, attention, how", HOW, ids=lambda x: x if isinstance(x, str) else "".join(x))
def test_every_stage_is_recorded_and_passes(toy, kind, attention, how, tmp_path):
    folder, inputs, rendered = toy
    model = load(str(folder / "model"), kind, attention, "cpu")
    bundle = record(model, inputs, tokens=4, prompt=rendered, **how)
    assert bundle.precision == kind
    judged(bundle, folder)
    # Every stage that the binary records of the same run is there.
    asked = {"model": folder / "model", "image": folder / "image0.png", "prompt": "Read all text."}
    whole = aircache.record(tmp_path / "b.safetensors", **asked, **how_of(how), max_new_tokens=len(bundle["output.ids"]), no_noise=True)
    missing = set(aircache.read(whole)) - set(bundle)
    # The attention behind a window is the binary's own stage; where nothing is evicted, it says that everything is kept.
    parts = () if "retain" in how else ("cache.", "policy.")
    assert all(name.startswith(parts) or name.endswith(".attention") for name in missing), missing


def how_of(how):
    return {k: v for k, v in how.items() if k == "retain"}


def test_a_compiled_model_is_recorded():
    folder = GOLDENS / TOYS["llava_onevision"]
    inputs, rendered = ask(str(folder / "model"), [str(folder / "image0.png")], "Read all text.")
    model = load(str(folder / "model"), "f32", "sdpa", "cpu")
    model.compile(backend="eager")  # hooks break graphs by any backend
    bundle = record(model, inputs, tokens=3, prompt=rendered)
    assert "vision.01.out" in bundle and "step.0001.01.query" in bundle
    judged(bundle, folder)


def test_every_stage_of_the_demo_model_passes():
    image, question = DEMO / "samples/01.png", "What does the text say?"
    inputs, rendered = ask(str(DEMO / "model"), [str(image)], question)
    bundle = record(load(str(DEMO / "model"), "bf16", "sdpa", "cpu"), inputs, tokens=4, retain="0.3", prompt=rendered)
    verdict = aircache.assert_honest(bundle, model="demo", image=image, prompt=question)
    assert {s.verdict for s in verdict.stages} <= {"pass", "admissible"} and len(verdict.stages) == len(bundle)


def test_generate_of_transformers_can_be_recorded(toy):
    folder, inputs, rendered = toy
    model = load(str(folder / "model"), "f32", "sdpa", "cpu")
    given = {k: v for k, v in inputs.items() if not k.startswith("input.")}
    with Recorder(model, inputs) as recorder:
        ids = model.generate(**given, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    recorder.stages["output.ids"] = ids[0, inputs["input_ids"].shape[1] :]
    bundle = recorder.bundle(prompt=rendered)
    assert "step.0001.00.query" in bundle
    judged(bundle, folder)


def test_a_planted_bug_is_named(toy):
    folder, inputs, rendered = toy
    model = load(str(folder / "model"), "f32", "eager", "cpu")
    from aircache.transformers import parts

    layer = parts.module(model, parts.family(model).layers)[0]
    attention = parts.module(layer, parts.ATTENTION)
    attention.scaling = attention.scaling * 1.02
    bundle = record(model, inputs, tokens=2, prompt=rendered)
    with pytest.raises(AssertionError, match="first divergence: decoder.00.mix"):
        judged(bundle, folder)


def test_a_model_of_another_family_is_told(toy):
    folder, inputs, _ = toy
    model = load(str(folder / "model"), "f32", "eager", "cpu")
    model.config.model_type = "other"
    with pytest.raises(aircache.Error, match="parts=Family"):
        Recorder(model, inputs)
