"""The recorder as a program:

    python -m aircache.transformers --model DIR --image page.png --prompt 'What is the total?' \\
        --dtype bf16 --attention sdpa --device cuda --retain 0.1 --out candidate.safetensors
    aircache check --model DIR --image page.png --prompt 'What is the total?' candidate.safetensors
"""

import argparse
import json
import sys

from ..errors import Error
from .run import TYPES, ask, load, record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--system")
    parser.add_argument("--dtype", choices=TYPES, default="bf16")
    parser.add_argument("--attention", default="sdpa", help="eager, sdpa, flash_attention_2, …")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--chunk", type=int, help="rows of a piece of the prefill")
    parser.add_argument("--retain", help="evict with AirCache: a fraction such as 0.1")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    model = load(args.model, args.dtype, args.attention, args.device)
    if args.compile:
        model.compile()
    inputs, rendered = ask(args.model, args.image, args.prompt, args.system)
    bundle = record(model, inputs, tokens=args.tokens, retain=args.retain, chunk=args.chunk, prompt=rendered)
    bundle.save(args.out)
    print(json.dumps({"out": args.out, "stages": len(bundle), "ids": bundle["output.ids"].tolist()}))


if __name__ == "__main__":
    try:
        main()
    except Error as e:
        sys.exit(f"aircache: {e}")
