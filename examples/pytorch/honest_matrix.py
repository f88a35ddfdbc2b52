#!/usr/bin/env python3
"""Runs honest transformers on checkpoints of every family, in every type and on every attention path, and has `aircache check` judge
each run: what `docs/gpu.md` reports under *Families*. None of these runs may fail.

    python honest_matrix.py --aircache target/release/aircache --models 'tests/golden/*/*/model' --images DIR --out report.jsonl
    python honest_matrix.py --tables report.jsonl

It needs the package in `python/` (`pip install ./python`), torch and transformers; with `--device cuda` PyTorch's single attention
kernels run as well. The images of DIR and the questions below are dealt out in turn, from `--first` on. A line of the report is one
candidate; `--keep DIR` keeps those that fail.
"""

import argparse
import contextlib
import glob
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from aircache.transformers.run import ask, load, record
from torch.nn.attention import SDPBackend, sdpa_kernel

QUESTIONS = [
    "Which shape is at the top left, and what colour has it?",
    "Count the circles in this picture and tell me which one is the smallest.",
    "What is written here? Read all of it, from the first line to the last.",
    "Describe the chart: its axes, its bars, and the largest value that you can find in it.",
    "Is there anything red? Answer with one word, please, and say why you think so.",
]
KERNELS = {
    "sdpa-math": SDPBackend.MATH,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
}
TYPES = ["f32", "bf16", "f16"]
RETAIN = "0.3"


def paths(device, dtype):
    """The attention paths of a type; `aircache` evicts between prefill and decode. Flash and cuDNN kernels take half types only."""
    kernels = [k for k in KERNELS if device == "cuda" and (dtype != "f32" or k in ("sdpa-math", "sdpa-efficient"))]
    return ["eager", "sdpa", *kernels, "aircache"]


class Judge:
    """The program, and a folder of goldens and candidates."""

    def __init__(self, program, folder, keep):
        self.program, self.folder, self.keep = program, Path(folder), keep

    def run(self, *words):
        done = subprocess.run([self.program, *map(str, words), "--json", "--quiet"], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def golden(self, model, image, prompt, name, *eviction):
        path = self.folder / f"{name}.golden.safetensors"
        words = ["record", "--model", model, "--image", image, "--prompt", prompt, "--max-new-tokens", 5, "--out", path]
        code, _, error = self.run(*words, *eviction)
        assert code == 0, error
        return path

    def verdict(self, row, model, golden, candidate):
        """Adds what the replay and the golden say to a row of the report."""
        for name, words in ("replay", ("--model", model, candidate)), ("golden", (golden.result(), candidate)):
            code, told, error = self.run("check", *words)
            row[name] = code
            if code == 1:
                row[f"{name}_why"] = [[s["stage"], s["statistic"], s["ratio"], s["words"]] for s in json.loads(told)["stages"] if s["verdict"] == "fail"][:3]
            elif code:
                row[f"{name}_why"] = error.strip()
        if self.keep and (row["replay"] or row["golden"]):
            shutil.copy(candidate, self.keep)
        candidate.unlink()
        return row


def candidates(args):
    """(row, model's folder, image, prompt, type, path) of every run."""
    images = sorted(glob.glob(os.path.join(args.images, "*.png")))
    models = sorted(itertools.chain.from_iterable(glob.glob(m) for m in args.models))
    for number, (model, case) in enumerate(itertools.product(models, range(args.cases)), args.first):
        image, prompt = images[number * 7 % len(images)], QUESTIONS[number % len(QUESTIONS)]
        for dtype in TYPES:
            for path in paths(args.device, dtype):
                name = "-".join([*Path(model).parts[-3:-1], str(case), dtype, path])
                yield {"candidate": name, "case": case, "dtype": dtype, "path": path}, model, image, prompt


def run(args):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool, open(args.out, "w", encoding="utf-8") as out:
        judge, goldens, waiting = Judge(args.aircache, folder, args.keep), {}, []
        for row, model, image, prompt in candidates(args):
            inputs, rendered = ask(model, [image], prompt)
            evicted = row["path"] == "aircache"
            key = (model, row["case"], evicted)
            if key not in goldens:
                eviction = ["--policy", "aircache", "--retain", RETAIN] if evicted else []
                goldens[key] = pool.submit(judge.golden, model, image, prompt, f"golden-{len(goldens)}", *eviction)
            kernel = sdpa_kernel(KERNELS[row["path"]]) if row["path"] in KERNELS else contextlib.nullcontext()
            attention = "eager" if row["path"] == "eager" else "sdpa"
            try:
                with kernel:
                    bundle = record(load(model, row["dtype"], attention, args.device), inputs, tokens=5, retain=RETAIN if evicted else None, prompt=rendered)
            except RuntimeError as error:
                if row["path"] not in KERNELS or "No available kernel" not in str(error):
                    raise
                continue  # the kernel does not take heads of this size
            candidate = Path(folder) / f"{row['candidate']}.safetensors"
            bundle.save(candidate)
            waiting.append(pool.submit(judge.verdict, row, model, goldens[key], candidate))
        for done in waiting:
            out.write(json.dumps(done.result()) + "\n")


def tables(report):
    rows = [json.loads(line) for line in open(report, encoding="utf-8")]
    print("| type | attention | candidates | fail, by replay | by golden |\n|---|---|---|---|---|")
    for dtype, path in sorted({(r["dtype"], r["path"]) for r in rows}, key=lambda k: (TYPES.index(k[0]), k[1])):
        some = [r for r in rows if (r["dtype"], r["path"]) == (dtype, path)]
        print(f"| {dtype} | {path} | {len(some)} | {sum(r['replay'] > 0 for r in some)} | {sum(r['golden'] > 0 for r in some)} |")
    for r in rows:
        if r["replay"] or r["golden"]:
            print(json.dumps(r))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", metavar="REPORT")
    parser.add_argument("--aircache", default="aircache")
    parser.add_argument("--models", nargs="+", default=["tests/golden/*/*/model"])
    parser.add_argument("--images")
    parser.add_argument("--cases", type=int, default=2, help="questions for each model")
    parser.add_argument("--first", type=int, default=0, help="where the images and questions begin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", metavar="DIR")
    parser.add_argument("--out", default="report.jsonl")
    args = parser.parse_args()
    if not args.tables:
        run(args)
    tables(args.tables or args.out)


if __name__ == "__main__":
    main()
