"""Records values inside jitted JAX code.

    from aircache.jax import recording, tap

    @jax.jit
    def layer(i, x):
        q, k, v = …
        tap("decoder.{:02}.query", q, i)        # i may be traced: lax.scan over layers works
        …

    with recording("bf16", model=DIR) as bundle:
        forward(…)
    aircache.assert_honest(bundle, model=DIR)

Outside `recording` a tap costs a call to the host and keeps nothing. Under `vmap` a stage has no single value: tap outside of it.
"""

import contextlib

import jax
from jax.experimental import io_callback

from .bundle import Bundle

_bundles = []


@contextlib.contextmanager
def recording(precision=None, **about):
    """A `Bundle` that takes what is tapped; the arguments are those of `Bundle`. It is complete when the block ends."""
    bundle = Bundle(precision, **about)
    # Values arrive while code runs, and their layouts are checked when all are there: an error in a callback would only end up
    # in the log of the runtime.
    seen = {}
    _bundles.append(seen)
    try:
        yield bundle
        jax.effects_barrier()
    finally:
        _bundles.remove(seen)
    bundle.update(seen)


def tap(name, x, *numbers):
    """Records `x` under a stage's name, and returns it. numbers: what fills the `{}` of the name, such as a layer's number."""

    def keep(value, *numbers):
        for seen in _bundles:
            seen[name.format(*map(int, numbers))] = value

    io_callback(keep, None, x, *numbers)
    return x
