"""Our bench and what people would use instead, alternately, in one session: A B A B, medians, same shape, weights and threads.

    python compare_speed.py --aircache target/release/aircache --shape llava-ov-0.5b --vocab 32000 --prompt-len 1024

Like is compared with like: --type f32 computes in f32 everywhere, --type bf16 over weights in bf16 (ours: --precision bf16, and
--isa amx where it is given). PyTorch runs transformers' Qwen2ForCausalLM, and of LLaVA-OneVision's shapes SigLIP too: two tiles of
384 x 384 through 26 layers (ours includes the projector, which the others do not). The others take part where they are given,
llama.cpp and candle with a checkpoint of random_checkpoint.py --language-model (--gguf):

    --llama-bench PATH/llama-bench --gguf DIR/model.gguf     built with cmake -DGGML_NATIVE=ON; its cache is f16
    --candle PATH/candle-peer --checkpoint DIR               examples/candle, built with cargo build --release; f32
    --openvino                                               the package openvino; the same PyTorch modules, prefill and vision

Read bandwidth and FMA peak come from our bench of the same round. Workers keep spinning for a while after a call, hence the
pauses. Unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE before. Pinned for the figures in docs/performance.md: torch 2.11.0,
transformers 5.17.0, llama.cpp as llama-cpp-python 0.3.36 brings it, candle 0.11.1.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import torch
from random_checkpoint import DTYPES, SHAPES, language_model
from transformers import Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

PRECISIONS = {"f32": "fast", "bf16": "bf16"}
KEYS = [("vision_s", -1), ("prefill_tokens_s", 1), ("decode_ms", -1)]


class Torch:
    def __init__(self, args):
        dtype = DTYPES[args.type]
        config = language_model(args.shape, args.vocab)
        self.lm = Qwen2ForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        self.siglip = tower(dtype) if args.shape.startswith("llava-ov") else None
        self.prompt, self.steps = args.prompt_len, args.steps
        self.of_lm(min(64, self.prompt), 1)

    def cell(self):
        return self.of_lm(self.prompt, self.steps) | (self.of_tower() if self.siglip else {})

    @torch.inference_mode()
    def of_lm(self, prompt, steps):
        ids = torch.randint(0, self.lm.config.vocab_size, (1, prompt))
        start = time.perf_counter()
        out = self.lm(ids, use_cache=True, logits_to_keep=1)
        prefill = time.perf_counter() - start
        times, cache, token = [], out.past_key_values, ids[:, :1]
        for _ in range(steps + 1):
            start = time.perf_counter()
            self.lm(token, past_key_values=cache, use_cache=True)
            times.append((time.perf_counter() - start) * 1e3)
        return {"prefill_tokens_s": prompt / prefill, "decode_ms": statistics.median(times[1:])}

    @torch.inference_mode()
    def of_tower(self):
        pixels = torch.full((2, 3, 384, 384), 0.5, dtype=self.siglip.dtype)
        start = time.perf_counter()
        self.siglip(pixels)
        return {"vision_s": time.perf_counter() - start}


class Prefill(torch.nn.Module):
    """A language model without a cache: the logits of the last token."""

    def __init__(self, lm):
        super().__init__()
        self.lm = lm

    def forward(self, ids):
        # Without a mask, transformers looks for packed sequences, which OpenVINO cannot convert.
        return self.lm(ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1).logits


class OpenVino:
    def __init__(self, args, modules):
        import openvino

        self.ids = torch.randint(0, args.vocab, (1, args.prompt_len))
        self.pixels = torch.full((2, 3, 384, 384), 0.5)
        settings = {"INFERENCE_PRECISION_HINT": args.type, "INFERENCE_NUM_THREADS": args.threads}
        compiled = lambda module, example: openvino.compile_model(
            openvino.convert_model(module.float(), example_input=example), "CPU", settings
        )
        with torch.inference_mode():
            self.lm = compiled(Prefill(modules.lm).eval(), self.ids)
            self.siglip = compiled(modules.siglip, self.pixels) if modules.siglip else None
        modules.lm.to(DTYPES[args.type])
        if modules.siglip:
            modules.siglip.to(DTYPES[args.type])
        self.cell()

    def cell(self):
        start = time.perf_counter()
        self.lm(self.ids.numpy())
        cell = {"prefill_tokens_s": self.ids.shape[1] / (time.perf_counter() - start)}
        if self.siglip:
            start = time.perf_counter()
            self.siglip(self.pixels.numpy())
            cell["vision_s"] = time.perf_counter() - start
        return cell


def tower(dtype):
    config = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384, patch_size=14,
        vision_use_head=False,
    )
    return SiglipVisionModel._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def said(command, **variables):
    run = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, env=os.environ | variables)
    return json.loads(run.stdout)


def ours(args):
    result = said([
        args.aircache, "bench", "--json", "--quiet", "--shape", args.shape, "--vocab", args.vocab, "--weights", args.type,
        "--precision", PRECISIONS[args.type], "--prompt-len", args.prompt_len, "--policies", "full", "--max-new-tokens", args.steps,
        "--threads", args.threads, *(["--isa", args.isa] if args.isa else []),
    ])
    return {**result["machine"], **result["cells"][0]}


def llama(args):
    command = [args.llama_bench, "-m", args.gguf, "-t", args.threads, "-r", 1, "-o", "json"]
    prefill = said([*command, "-p", args.prompt_len, "-n", 0])[0]
    decode = said([*command, "-p", 0, "-n", args.steps, "-d", args.prompt_len])[0]
    return {"prefill_tokens_s": prefill["avg_ts"], "decode_ms": 1e3 / decode["avg_ts"]}


def candle(args):
    command = [args.candle, args.checkpoint, args.prompt_len, args.steps]
    return said(command, RAYON_NUM_THREADS=str(args.threads))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aircache", default="target/release/aircache")
    parser.add_argument("--shape", default="llava-ov-0.5b", choices=SHAPES)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--prompt-len", type=int, default=1024)
    parser.add_argument("--type", default="f32", choices=PRECISIONS, help="the type of weights, activations and cache")
    parser.add_argument("--isa", help="our instruction set, for example amx")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--llama-bench")
    parser.add_argument("--gguf")
    parser.add_argument("--candle")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    contenders = {"ours": lambda: ours(args)}
    modules = None if args.no_torch and not args.openvino else Torch(args)
    if not args.no_torch:
        contenders["torch"] = modules.cell
    if args.openvino:
        contenders["openvino"] = OpenVino(args, modules).cell
    if args.llama_bench:
        contenders["llama.cpp"] = lambda: llama(args)
    if args.candle:
        contenders["candle"] = lambda: candle(args)
    cells = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, cell in contenders.items():
            cells[name].append(cell())
            time.sleep(0.15)
    middle = lambda name, key: statistics.median(cell[key] for cell in cells[name])
    print(f"{args.shape}, {args.type}, prompt {args.prompt_len}, {args.threads} threads, {args.rounds} rounds")
    print(f"  machine: read {middle('ours', 'read_gb_s'):.1f} GB/s, {middle('ours', 'fma_gflops'):.0f} GFLOP/s")
    for key, better in KEYS:
        mine = middle("ours", key)
        line = f"  {key}: ours {mine:.2f}"
        for peer in list(contenders)[1:]:
            if key in cells[peer][0]:
                line += f", {peer} {middle(peer, key):.2f} (ratio {(mine / middle(peer, key)) ** better:.2f})"
        print(line)
    print(f"  decode, share of the roofline: {middle('ours', 'roofline_decode_ms') / middle('ours', 'decode_ms'):.2f}")


if __name__ == "__main__":
    main()
