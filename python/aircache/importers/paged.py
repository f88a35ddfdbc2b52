"""Paged caches: blocks of entries, and a table that says which blocks a sequence has.

The file (safetensors, or torch.save of a dict) holds, for each layer, `layers.L.key` and `layers.L.value`, or `layers.L.kv`
with both; and `block_table`, [blocks of the sequence], or `block_tables.L` where layers differ. After an eviction, `positions.L`
says where the entries stood. `--layout` names the axes of a pool of keys or values:

    NHD   [blocks, block size, G, d_h]       (vLLM with FlashAttention, SGLang)
    HND   [blocks, G, block size, d_h]       (FlashInfer, TensorRT-LLM)
    split [blocks, G, d_h/x, block size, x] for keys, [blocks, G, d_h, block size] for values (vLLM's own paged attention)
"""

import re

import numpy as np

from ..bundle import read
from ..errors import Error, LayoutError, message
from . import common, pt

HELP = "a file with the pools and the block table"
LAYOUTS = ("NHD", "HND", "split")


def options(parser):
    parser.add_argument("--layout", choices=LAYOUTS, default="NHD", help="the axes of a pool [default: NHD]")
    parser.add_argument("--block-size", type=int, required=True, help="entries of a block")
    parser.add_argument("--length", type=int, help="entries of the sequence [default: the prompt's rows]")
    parser.add_argument(
        "--evicted", action="store_true", help="the cache after an eviction: stages cache.LL.*; give positions.L where they stood"
    )


def load(args):
    tensors = pt.load(args.path) if str(args.path).endswith((".pt", ".pth")) else read(args.path)
    get = tensors.stored if hasattr(tensors, "stored") else tensors.__getitem__
    length = args.length or (None if args.evicted else len(common.ids(args)))
    stages = {}
    for name in tensors:
        m = re.fullmatch(r"layers\.(\d+)\.(key|value|kv)", name)
        if not m:
            continue
        layer, what, pool = int(m[1]), m[2], get(name)
        if args.evicted:
            if f"positions.{layer}" not in tensors:
                raise Error(message(args.path, f"a tensor positions.{layer}", "none", "say where the kept entries stood"))
            positions = get(f"positions.{layer}").values()
            length = positions.shape[-1]
            stages[f"cache.{layer:02}.positions"] = positions
        table = block_table(tensors, get, layer, args.path)
        for site, pool in (both(pool, name) if what == "kv" else {what: pool}).items():
            where = f"{name} ({site})" if what == "kv" else name
            part = "cache" if args.evicted else "decoder"
            stages[f"{part}.{layer:02}.{site}"] = gathered(pool, table, length, args.block_size, args.layout, site, where)
    return stages


def block_table(tensors, get, layer, path):
    """The blocks of the sequence in a layer."""
    name = f"block_tables.{layer}" if f"block_tables.{layer}" in tensors else "block_table"
    if name not in tensors:
        raise Error(message(path, "a tensor block_table", ", ".join(list(tensors)[:4])))
    table = get(name).values()
    table = table[0] if table.ndim == 2 and table.shape[0] == 1 else table
    if table.ndim != 1:
        raise LayoutError(message(name, "[blocks] of one sequence", list(table.shape)))
    return table


def both(pool, name):
    """Keys and values of one array: [2, blocks, …] or [blocks, 2, …]."""
    axes = [axis for axis in (0, 1) if pool.shape[axis] == 2]
    if len(axes) != 1:
        raise LayoutError(message(name, "[2, blocks, …] or [blocks, 2, …]", list(pool.shape), "store key and value apart"))
    index = lambda which: (slice(None),) * axes[0] + (which,)
    return {"key": common.part(pool, index(0)), "value": common.part(pool, index(1))}


def gathered(pool, table, length, block_size, layout, site, where):
    """The entries of a sequence in order: a pool of blocks → [G, length, d_h]."""
    if layout == "split":
        if site == "key":
            if len(pool.shape) != 5:
                raise LayoutError(message(where, "[blocks, G, d_h/x, block size, x]", list(pool.shape), "--layout"))
            blocks, groups, parts, size, x = pool.shape
            pool = common.turned(pool, 0, 3, 1, 2, 4).reshape((blocks, size, groups, parts * x))
        else:
            if len(pool.shape) != 4:
                raise LayoutError(message(where, "[blocks, G, d_h, block size]", list(pool.shape), "--layout"))
            pool = common.turned(pool, 0, 3, 1, 2)
    if len(pool.shape) != 4:
        raise LayoutError(message(where, f"four axes ({layout})", list(pool.shape), "--layout names the axes"))
    if layout == "HND":
        pool = common.turned(pool, 0, 2, 1, 3)
    blocks, size = pool.shape[:2]
    if size != block_size:
        axis = {"NHD": 1, "HND": 2}.get(layout, -2 if site == "key" else -1)
        remedy = "--block-size or --layout is another one in this engine"
        raise LayoutError(message(where, f"blocks of {block_size} entries (axis {axis} of {layout})", size, remedy))
    need = -(-length // block_size)
    if len(table) < need:
        remedy = f"a table of {len(table)} blocks holds {len(table) * block_size} entries"
        raise LayoutError(message("block_table", f"{need} blocks for {length} entries", len(table), remedy))
    table = np.asarray(table[:need], np.int64)
    if (table < 0).any() or (table >= blocks).any():
        raise LayoutError(message("block_table", f"blocks 0 to {blocks - 1}", int(table[(table < 0) | (table >= blocks)][0])))
    if len(set(table.tolist())) != need:
        raise LayoutError(message("block_table", "each block once", "a block twice", "is this the table of one sequence?"))
    rows = common.part(pool, table)
    rows = rows.reshape((need * block_size, *rows.shape[2:]))
    return common.turned(common.part(rows, slice(0, length)), 1, 0, 2)
