"""Taps in jitted JAX code: values arrive, bfloat16 keeps its bits, and a whole attention passes."""

import aircache
import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy
from aircache.jax import recording, tap  # noqa: E402


def test_a_scan_over_layers_is_recorded():
    def layer(x, i):
        x = x * 2
        tap("decoder.{:02}.out", x, i)
        return x, None

    run = jax.jit(lambda x: jax.lax.scan(layer, x, jnp.arange(3))[0])
    x = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)
    run(x)  # compiled before anything is recorded
    with recording() as bundle:
        run(x)
    assert set(bundle) == {f"decoder.{i:02}.out" for i in range(3)} and bundle.precision == "bf16"
    assert all(np.array_equal(bundle[f"decoder.{i:02}.out"], np.float32(x) * 2 ** (i + 1)) for i in range(3))
    run(x * 3)
    assert np.array_equal(bundle["decoder.00.out"], np.float32(x) * 2)


def test_a_wrong_layout_is_told():
    with pytest.raises(aircache.LayoutError, match=r"transpose\(1, 0, 2\)"):
        with recording(model="demo"):
            jax.jit(lambda x: tap("decoder.00.query", x))(jnp.zeros((9, 6, 32)))


@pytest.mark.parametrize("causal", [True, False])
def test_an_attention_is_judged(demo, causal):
    golden = aircache.read(demo)
    q, k, v = (jnp.asarray(golden[f"decoder.02.{site}"], jnp.float32) for site in ("query", "key", "value"))

    @jax.jit
    def attention(q, k, v):
        k, v = (jnp.repeat(x, 3, 0) for x in (k, v))
        scores = jnp.einsum("hnd,hmd->hnm", q, k) * 32**-0.5
        scores = jnp.where(jnp.tri(507, dtype=bool) | (not causal), scores, -jnp.inf)
        mix = jnp.einsum("hnm,hmd->nhd", jax.nn.softmax(scores), v)
        return tap("decoder.02.mix", mix.reshape(507, 192))

    with recording("f32", like=demo) as bundle:
        attention(q, k, v)
    verdict = aircache.check(bundle, golden=demo)
    assert bool(verdict) is causal, verdict
