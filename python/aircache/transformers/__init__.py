"""Records what a model of transformers computes, as a candidate for `aircache check`. It needs torch and transformers.

    from aircache.transformers import record
    bundle = record(model, inputs, tokens=8)            # inputs: what the model's processor gave
    aircache.assert_honest(bundle, model=DIR)

`Recorder` records a loop of your own. As a program: `python -m aircache.transformers --help`.
"""

from .parts import FAMILIES, Family
from .recorder import Recorder
from .run import ask, load, record

__all__ = ["FAMILIES", "Family", "Recorder", "ask", "load", "record"]
