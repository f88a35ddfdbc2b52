"""A bundle refuses a wrong name, layout or type at the line that wrote it, and gives back what it was given."""

import aircache
import numpy as np
import pytest
from aircache import stages
from aircache.arrays import round_bf16


def test_the_table_is_the_binarys():
    assert len(stages.table()) > 30
    assert all(row.shapes or row.pattern == "input.pixels" for row in stages.table())


LAYOUTS = [  # name, how a stage of the demo model is turned wrong, what the message has to say
    ("decoder.02.query", lambda x: x.transpose(1, 0, 2), "x.transpose(1, 0, 2)"),
    ("decoder.02.query", lambda x: x.transpose(1, 0, 2).reshape(507, 192), "x.reshape(507, 6, 32).transpose(1, 0, 2)"),
    ("decoder.02.key", lambda x: np.repeat(x, 3, 0), "repeated for the query heads: x[::3]"),
    ("decoder.02.mix", lambda x: x.reshape(507, 6, 32), "x.reshape(507, 192)"),
    ("decoder.02.mix", lambda x: x.reshape(507, 6, 32).transpose(1, 0, 2), "x.transpose(1, 0, 2).reshape(507, 192)"),
    ("decoder.02.out", lambda x: np.stack([x, x]), "x[i]"),
    ("decoder.02.out", lambda x: x[:-1], "found [506, 192]"),
    ("decoder.logits", lambda x: np.stack([x, x]), "x[-1]"),
    ("decoder.logits", lambda x: np.pad(x, (0, 16)), "the vocabulary is padded: x[:496]"),
    ("decoder.logits", lambda x: x.astype(int), "floating-point"),
    ("input.ids", lambda x: x + 0.5, "whole numbers"),
    ("input.roles", lambda x: np.roll(x, 1)[:-1], "found [506]"),
    ("input.roles", lambda x: x * 0, "visual rows"),
    ("step.0000.02.key", lambda x: x[:, None], "found [2, 1, 32]"),
    ("policy.budget", lambda x: x[:-1], "[L] = [6]"),
]


@pytest.mark.parametrize("name, change, says", LAYOUTS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_wrong_layout_fails_at_its_line(demo, name, change, says):
    golden = aircache.read(demo)
    bundle = aircache.Bundle("f32", like=demo)
    bundle[name] = golden[name]
    with pytest.raises(aircache.LayoutError) as e:
        bundle[name] = change(golden[name])
    assert str(e.value).startswith(name) and says in str(e.value), e.value


def test_sizes_come_from_a_model_or_from_other_stages():
    bundle = aircache.Bundle(model="demo")
    with pytest.raises(aircache.LayoutError, match=r"by the demo model.*transpose\(1, 0, 2\)"):
        bundle["decoder.00.query"] = np.zeros((507, 6, 32), np.float32)
    bundle = aircache.Bundle()
    bundle["input.ids"] = np.arange(5)
    with pytest.raises(aircache.LayoutError, match="by input.ids"):
        bundle["decoder.embed"] = np.zeros((4, 8), np.float32)


def test_names_that_are_nearly_stages_are_told():
    for name, meant in [("decoder.3.mix", "decoder.03.mix"), ("decoder.03.querry", "decoder.03.query"), ("step.12.logits", "step.0012.logits")]:
        with pytest.raises(aircache.LayoutError, match=f"did you mean {meant}"):
            aircache.Bundle()[name] = np.zeros(3, np.float32)
    with pytest.raises(aircache.LayoutError, match="aircache stages"):
        aircache.Bundle()["model.layers.3"] = np.zeros(3, np.float32)


def test_a_batch_of_one_is_no_batch():
    bundle = aircache.Bundle(model="demo")
    bundle["decoder.02.query"] = np.zeros((1, 6, 9, 32), np.float32)
    assert bundle["decoder.02.query"].shape == (6, 9, 32)


def test_a_bundle_is_read_back(tmp_path, demo):
    golden = aircache.read(demo)
    bundle = aircache.Bundle("torch.bfloat16", like=demo, policy={"name": "aircache"}, retain="0.3")
    bundle.update({name: golden[name] for name in ("decoder.norm", "input.ids", "input.roles")})
    bundle["decoder.02.out"] = round_bf16(golden["decoder.02.out"])
    again = aircache.read(bundle.save(tmp_path / "b.safetensors"))
    assert set(again) == set(bundle) and again.metadata == {**bundle.metadata}
    assert again.metadata["precision"] == "bf16" and again.metadata["policy"] == '{"name": "aircache"}'
    assert again.stored("decoder.02.out").dtype == "BF16" and again["decoder.02.out"].dtype == np.float32
    assert all(np.array_equal(again[name], bundle[name]) for name in bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def test_the_precision_is_the_arrays_or_has_to_be_said(tmp_path):
    bundle = aircache.Bundle()
    bundle["decoder.00.out"] = np.zeros((2, 4), np.float16)
    assert bundle.precision == "f16"
    bundle["decoder.01.out"] = np.zeros((2, 4), np.float32)
    with pytest.raises(aircache.Error, match=r"f16 \(decoder.00.out\), f32 \(decoder.01.out\)"):
        bundle.save(tmp_path / "b.safetensors")
    with pytest.raises(aircache.Error, match="'int4'"):
        aircache.Bundle("int4")


def test_files_that_are_no_bundles_are_told(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    for path, says in [(tmp_path / "none.safetensors", "no such file"), (tmp_path / "x.safetensors", "a safetensors file")]:
        with pytest.raises(aircache.Error, match=says):
            aircache.read(path)
