"""One kernel by itself: honest ones pass in every type, a bug is named, bad arrays fail with words."""

import aircache
import numpy as np
import pytest
from aircache.arrays import round_bf16

RNG = np.random.default_rng(7)


def store(x, kind):
    return {"f32": np.float32, "f16": np.float16, "bf16": round_bf16}[kind](x)


def given(*shape, kind):
    stored = store(RNG.standard_normal(shape, np.float32), kind)
    return stored, np.asarray(getattr(stored, "values", lambda: stored)(), np.float32)


def attention(q, k, v, scale=None, mask=None):
    heads = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, heads, -3), np.repeat(v, heads, -3)
    s = q @ np.swapaxes(k, -1, -2) * np.float32(q.shape[-1] ** -0.5 if scale is None else scale)
    s = np.where(mask, s, -np.inf) if mask is not None else s
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def norm(x, w, b=None, eps=1e-6):
    x = x - x.mean(-1, keepdims=True) if b is not None else x
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * w
    return y if b is None else y + b


def rotate(x, positions, theta):
    half = x.shape[-1] // 2
    angles = positions[:, None] * theta ** (-np.arange(half) / half)
    c, s = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def cases(kind):
    """name: (kernel, arrays, honest output, broken output)"""
    (q, q_), (k, k_), (v, v_) = (given(*s, kind=kind) for s in [(6, 33, 16), (2, 40, 16), (2, 40, 16)])
    causal = np.tril(np.ones((33, 40), bool), 7)
    yield "attention", {"q": q, "k": k, "v": v, "causal": True}, attention(q_, k_, v_, mask=causal), attention(q_, k_, v_)
    mask = RNG.random((33, 40)) < 0.5
    mask[:, 0] = True
    scaled = {"q": q, "k": k, "v": v, "mask": mask, "scale": 0.2}
    yield "attention", scaled, attention(q_, k_, v_, 0.2, mask), attention(q_, k_, v_, 0.25, mask)
    (bq, bq_), (bk, bk_) = given(3, 4, 20, 8, kind=kind), given(3, 2, 20, 8, kind=kind)
    batch = {"q": bq, "k": bk, "v": bk, "causal": False}
    yield "attention", batch, attention(bq_, bk_, bk_), attention(bq_, bk_, bk_[::-1])
    (x, x_), (w, w_), (b, b_) = (given(*s, kind=kind) for s in [(5, 20, 48), (48,), (48,)])
    yield "norm", {"x": x, "weight": w, "eps": 1e-6}, norm(x_, w_), norm(x_, w_) * np.float32(1.05)
    yield "norm", {"x": x, "weight": w, "bias": b, "eps": 1e-5}, norm(x_, w_, b_, 1e-5), norm(x_, w_, b_ * 0)
    (m, m_), (bias, bias_) = given(24, 48, kind=kind), given(24, kind=kind)
    yield "linear", {"x": x, "weight": m, "bias": bias}, x_ @ m_.T + bias_, x_ @ m_.T
    yield "softmax", {"x": x}, softmax(x_), softmax(x_[..., ::-1])
    positions = np.arange(20) * 3
    yield "rotary", {"x": x, "positions": positions, "theta": 10000}, rotate(x_, positions, 1e4), rotate(x_, positions + 1, 1e4)


@pytest.mark.parametrize("kind", ["f32", "bf16", "f16"])
def test_honest_kernels_pass_and_broken_ones_do_not(kind):
    for name, arrays, honest, broken in cases(kind):
        verdict = aircache.kernel(name, **arrays, out=store(honest, kind))
        assert verdict.mode == "kernel" and verdict.precision == kind and verdict.counts["pass"] == 1
        with pytest.raises(AssertionError, match="first divergence: out"):
            aircache.kernel(name, **arrays, out=store(broken, kind))


def causes():
    """(kernel, what it read, a broken output, the words of the cause)"""
    q, k, v = (RNG.standard_normal((h, 30, 16), np.float32) for h in (6, 2, 2))
    seen = np.tril(np.ones((30, 30), bool))
    mask = {"q": q, "k": k, "v": v, "causal": True}
    yield "attention", mask, attention(q, k, v, 1 / 16, seen), "= 1/d_h;"
    yield "attention", mask, attention(q, k, v, 1.0, seen), "= 1;"
    yield "attention", mask, attention(q, k, v), "no mask"
    yield "attention", mask, attention(q, k, v, mask=np.tril(np.ones((30, 30), bool), 1)), "lets a row see the next"
    yield "attention", mask, attention(q, np.tile(k, (3, 1, 1)), np.tile(v, (3, 1, 1)), mask=seen), "h mod 2"
    yield "attention", {**mask, "causal": False}, attention(q, k, v, mask=seen), "a causal mask"
    later = {"q": q[:, 10:], "k": k, "v": v, "causal": True}
    yield "attention", later, attention(q[:, 10:], k, v, mask=seen[:20]), "aligned at the first entry"
    x, w, b = (RNG.standard_normal(s, np.float32) for s in [(30, 16), (16,), (16,)])
    yield "norm", {"x": x, "weight": w, "eps": 1e-6}, norm(x, w, eps=1e-3), "ε is 1e-3"
    yield "norm", {"x": x, "weight": w, "eps": 1e-6}, norm(x, 1 + w), "1 + weight"
    yield "norm", {"x": x, "weight": w, "bias": b, "eps": 1e-6}, norm(x, w, 0 * b), "the bias is left out"
    m = RNG.standard_normal((16, 16), np.float32)
    yield "linear", {"x": x, "weight": m, "bias": b}, x @ m.T, "the bias is left out"
    yield "linear", {"x": x, "weight": m, "bias": b}, x @ m + b, "transposed"
    positions = np.arange(30)
    turn = {"x": x, "positions": positions, "theta": 10000}
    order = np.arange(16).reshape(2, 8).T.reshape(-1)
    yield "rotary", turn, rotate(x[:, np.argsort(order)], positions, 1e4)[:, order], "neighbours"
    yield "rotary", turn, rotate(x, positions + 1, 1e4), "one too large"
    yield "rotary", turn, rotate(x, -positions, 1e4), "in the other direction"


@pytest.mark.parametrize("name, arrays, broken, says", [pytest.param(*c, id=c[3]) for c in causes()])
def test_a_cause_is_named_if_the_output_is_honest_with_it(name, arrays, broken, says):
    verdict = aircache.check_kernel(name, **arrays, out=broken)
    assert not verdict and says in verdict.cause, verdict
    # With one more mistake nothing explains the output, and no cause is named.
    broken = np.array(broken)
    broken[..., 3, 5] += np.float32(0.5)
    verdict = aircache.check_kernel(name, **arrays, out=broken)
    assert not verdict and not verdict.cause


def test_a_wrong_head_and_a_wrong_row_are_named():
    q, k, v = (RNG.standard_normal((h, 40, 16), np.float32) for h in (6, 2, 2))
    out = attention(q, k, v)
    out[4] *= np.float32(1.001)
    with pytest.raises(AssertionError, match="head 4"):
        aircache.kernel("attention", q=q, k=k, v=v, causal=False, out=out)
    # The same heads side by side.
    with pytest.raises(AssertionError, match="head 4"):
        aircache.kernel("attention", q=q, k=k, v=v, causal=False, out=out.transpose(1, 0, 2).reshape(40, 96))
    x = RNG.standard_normal((30, 8), np.float32)
    out = softmax(x)
    out[17] = 1 / 8
    with pytest.raises(AssertionError, match="row 17"):
        aircache.kernel("softmax", x=x, out=out)


def test_topk():
    x = np.float32([[5, 1, 3, 3], [0, 2, 2, 9]])
    for out, verdict in [
        ([[0, 2], [3, 1]], "pass"),
        ([[0, 3], [3, 1]], "admissible"),
        ([[0, 1], [3, 1]], "fail"),
        ([[0, 0], [3, 1]], "fail"),
        ([[0, 4], [3, 1]], "fail"),
    ]:
        assert aircache.check_kernel("topk", x=x, out=np.array(out)).stages[0].verdict == verdict, out


def test_bad_arrays_fail_with_words():
    q, k = (np.zeros((h, 5, 8), np.float32) for h in (4, 2))
    for arrays, says in [
        ({"q": q, "k": k, "v": k, "out": q}, "causal"),
        ({"q": q, "k": k, "v": k, "out": q, "causal": "maybe"}, "true or false"),
        ({"q": q, "k": k[..., :4], "v": k, "out": q, "causal": True}, "a last axis of 8"),
        ({"q": q, "k": k.transpose(1, 0, 2), "v": k.transpose(1, 0, 2), "out": q, "causal": True}, "transposed"),
        ({"q": q, "k": k, "v": k, "out": q[:, :3], "causal": True}, "heads side by side"),
        ({"q": q, "v": k, "out": q, "causal": True}, "attention: k"),
        ({"q": q, "k": k, "v": k, "mask": np.ones((5, 4), bool), "out": q}, r"\[5, 5\]"),
        ({"q": q, "k": k, "v": k, "causal": True}, "out="),
    ]:
        with pytest.raises(aircache.Error, match=says):
            aircache.check_kernel("attention", **arrays)
    with pytest.raises(aircache.Error, match="eps"):
        aircache.check_kernel("norm", x=q, weight=np.ones(8, np.float32), out=q)
    with pytest.raises(aircache.Error, match="attention"):
        aircache.check_kernel("convolution", x=q, out=q)


def test_inputs_that_the_type_cannot_hold_are_told():
    x = np.float32(RNG.standard_normal((20, 8)))
    verdict = aircache.check_kernel("softmax", x=x, out=round_bf16(softmax(x)))
    assert any("x has numbers that bf16 cannot hold" in note for note in verdict.notes)
