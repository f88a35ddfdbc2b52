"""Importers: what an engine dumps becomes a candidate. `python -m aircache import FORMAT PATH … --out FILE`.

They live in Python, because engines dump what Python writes (`torch.save`), and because a new engine is a page of numpy. The
binary knows bundles only; `aircache import` says so and names this command.
"""

import argparse
import sys

from ..errors import Error
from . import common, llama_cpp, paged, sglang, tensorrt_edge_llm, vllm

FORMATS = {"llama.cpp": llama_cpp, "sglang": sglang, "tensorrt-edge-llm": tensorrt_edge_llm, "vllm": vllm, "paged": paged}


def parser():
    top = argparse.ArgumentParser(prog="python -m aircache import", description="Turns an engine's dump into a candidate.")
    formats = top.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, module in FORMATS.items():
        first = module.__doc__.split("\n\n")[0].replace("\n", " ")
        sub = formats.add_parser(name, help=first.split(":")[0], description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument("path", metavar="PATH", help=module.HELP)
        module.options(sub)
        common.options(sub)
    return top


def bundle(format, path, **options):
    """The candidate as a `Bundle`; options are those of the command, with underscores."""
    words = [format, str(path), "--out", "-"]
    from ..binary import options as spelled

    return imported(parser().parse_args(words + spelled(options)))


def imported(args):
    return common.bundle(args, FORMATS[args.format].load(args), args.format)


def main(words=None):
    args = parser().parse_args(words)
    try:
        out = imported(args)
        out.save(args.out)
    except Error as e:
        print(f"aircache: {e}", file=sys.stderr)
        return 2
    print(f"{len(out)} stages of {args.format} in {args.out}")
    return 0
