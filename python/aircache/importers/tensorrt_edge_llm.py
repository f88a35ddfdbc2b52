"""TensorRT-Edge-LLM's layer dumps: the file that the runtime writes with EDGELLM_DUMP_LOGITS_KVCACHE_LAYERS and
EDGELLM_DUMP_LOGITS_KVCACHE_DIR. Round 0 is the prefill, round r is decode step r − 1.

    round_{r}.logits               [batch, V]
    round_{r}.layer_{i}.kv         [batch, 2, G, longest, d_h]: keys and values, padded
    round_{r}.context_lengths      [batch]
    round_{r}.generated_token_ids  [batch]
"""

import re

import numpy as np

from ..bundle import read
from ..errors import Error, LayoutError, message
from . import common

HELP = "the safetensors file of a request"


def options(parser):
    parser.add_argument("--row", type=int, default=0, help="which sequence of the batch [default: 0]")


def load(args):
    dump = read(args.path)
    rounds = sorted({int(m[1]) for name in dump if (m := re.match(r"round_(\d+)\.", name))})
    if not rounds:
        raise Error(message(args.path, "tensors round_0.logits, round_0.layer_0.kv, …", ", ".join(list(dump)[:3]) or "none"))
    if rounds[0] != 0:
        raise Error(message(args.path, "round 0, the prefill", f"rounds from {rounds[0]}"))
    lengths = [dump[f"round_{r}.context_lengths"] for r in rounds]
    batch = len(lengths[0])
    if not 0 <= args.row < batch:
        raise Error(message("--row", f"0 to {batch - 1}", args.row))
    n = int(lengths[0][args.row])
    if args.input and len(common.ids(args)) != n:
        raise Error(message(f"{args.path}: round_0.context_lengths", f"{len(common.ids(args))} rows, as in {args.input}", n))
    stages, generated = {}, []
    for r, length in zip(rounds, lengths):
        if len(length) != batch:
            break  # a sequence of the batch has ended, and rows have moved
        grown = int(length[args.row])
        if grown != n + r:
            remedy = "a round of speculative decoding commits several tokens: dump without it"
            raise Error(message(f"round_{r}.context_lengths[{args.row}]", n + r, grown, remedy))
        name = "decoder.logits" if r == 0 else f"step.{r - 1:04}.logits"
        stages[name] = common.part(dump.stored(f"round_{r}.logits"), args.row)
        if f"round_{r}.generated_token_ids" in dump:
            generated.append(int(dump[f"round_{r}.generated_token_ids"][args.row]))
        for tensor in dump:
            if m := re.fullmatch(rf"round_{r}\.layer_(\d+)\.kv", tensor):
                stages |= entries(dump.stored(tensor), tensor, args.row, r, n, int(m[1]))
    if generated:
        stages["output.ids"] = np.array(generated)
    return stages


def entries(kv, name, row, r, n, layer):
    """The prompt's keys and values, or those that a step appended."""
    if len(kv.shape) != 5 or kv.shape[1] != 2:
        raise LayoutError(message(name, "[batch, 2, G, longest, d_h]", list(kv.shape)))
    if kv.shape[3] < n + r:
        raise LayoutError(message(name, f"room for {n + r} entries", kv.shape[3]))
    parts = {}
    for which, site in enumerate(("key", "value")):
        if r == 0:
            parts[f"decoder.{layer:02}.{site}"] = common.part(kv, (row, which, slice(None), slice(0, n)))
        else:
            parts[f"step.{r - 1:04}.{layer:02}.{site}"] = common.part(kv, (row, which, slice(None), n + r - 1))
    return parts
