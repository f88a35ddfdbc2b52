"""Verdicts as objects, and the one assertion: honest arrays pass, planted bugs are named."""

import aircache
import numpy as np
import pytest
from conftest import attention


@pytest.fixture(scope="module")
def inputs(demo):
    golden = aircache.read(demo)
    q, k, v = (golden[f"decoder.02.{site}"].astype(np.float32) for site in ("query", "key", "value"))
    return golden, q, k, v


def test_an_honest_kernel_passes(demo, inputs):
    _, q, k, v = inputs
    verdict = aircache.assert_honest({"decoder.02.mix": attention(q, k, v)}, golden=demo)
    assert verdict and verdict.mode == "golden" and verdict.precision == "f32"
    assert verdict.counts["pass"] == 1 and verdict.ratios["decoder.02.mix"] < 3
    assert "pass" in str(verdict) and len(verdict.missing) > 50


BUGS = {
    "a mask left out": (lambda q, k, v: attention(q, k, v, causal=False), "decoder.02.mix"),
    "a scale of 1/d": (lambda q, k, v: attention(q, k, v, scale=1 / 32), "decoder.02.mix"),
    "the KV heads of another group": (lambda q, k, v: attention(q, k[::-1], v[::-1]), "decoder.02.mix"),
    "one head 2 % too large": (lambda q, k, v: attention(q, k, v) * np.repeat(np.float32([1, 1, 1.02, 1, 1, 1]), 32), "head 2"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_named(demo, inputs, bug):
    broken, says = BUGS[bug]
    with pytest.raises(AssertionError, match="first divergence: decoder.02.mix") as e:
        aircache.assert_honest({"decoder.02.mix": broken(*inputs[1:])}, golden=demo)
    assert says in str(e.value) and "worst at [" in str(e.value)


def test_a_replay_judges_by_the_candidates_own_inputs(inputs, tmp_path):
    golden, q, k, v = inputs
    candidate = {name: golden[name] for name in ("input.ids", "input.roles")}
    candidate |= {"decoder.02.query": q, "decoder.02.key": k, "decoder.02.value": v, "decoder.02.mix": attention(q, k, v)}
    verdict = aircache.check(candidate, model="demo", html=tmp_path / "v.html")
    assert verdict and verdict.mode == "replay" and verdict["decoder.02.mix"].verdict == "pass"
    assert verdict.html.read_text().startswith("<!")
    candidate["decoder.02.mix"] = attention(q, k, v, causal=False)
    verdict = aircache.check(candidate, model="demo")
    assert not verdict and verdict.first.stage == "decoder.02.mix" and verdict.first.ratio > 100


def test_bad_usage_says_what_to_do(demo, tmp_path):
    mix = {"decoder.02.mix": np.zeros((507, 192), np.float32)}
    for how, says in [
        ({}, "golden=… or model=…"),
        ({"golden": demo, "model": "demo"}, "both"),
        ({"golden": tmp_path / "none.safetensors"}, "no such file"),
        ({"model": tmp_path}, "config.json"),
        ({"model": "demo"}, "the candidate: input.ids"),
        ({"golden": demo, "colour": "red"}, "--colour"),
    ]:
        with pytest.raises(aircache.Error, match=says):
            aircache.check(mix, **how)
    with pytest.raises(aircache.LayoutError, match="507, 192"):
        aircache.check({"decoder.02.mix": np.zeros((192, 507), np.float32)}, golden=demo)


def test_an_eviction_alone(demo):
    golden = aircache.read(demo)
    seen = aircache.Bundle("f64", like=demo)
    seen.update({name: golden[name] for name in golden if name == "input.roles" or name.endswith((".query", ".key")) and name.startswith("decoder.")})
    plan = aircache.compress(seen, policy="aircache", retain=0.3)
    assert all(np.array_equal(plan[f"policy.{layer:02}.kept"], golden[f"policy.{layer:02}.kept"]) for layer in range(6))
