"""Our bench and PyTorch alternately, in one session: A B A B, medians, on the same shape and threads.

    python compare_speed.py --aircache target/release/aircache --shape llava-ov-0.5b --vocab 32000 --prompt-len 1024

The language model alone, random weights; PyTorch runs transformers' Qwen2ForCausalLM. Of LLaVA-OneVision's shapes the vision
tower too: two tiles of 384 x 384 through 26 layers of SigLIP; ours includes the projector, which PyTorch's does not.
Read-bandwidth and FMA peak come from our bench of the same round. Pinned for the figures in docs/performance.md: torch 2.11.0, transformers 5.17.0.
Unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE before. Workers keep spinning for a while after a call, hence the pauses.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

SHAPES = {  # hidden, MLP, layers, heads, KV heads
    "llava-ov-0.5b": (896, 4864, 24, 14, 2),
    "llava-ov-7b": (3584, 18944, 28, 28, 4),
    "qwen2-vl-2b": (1536, 8960, 28, 12, 2),
    "qwen2-vl-7b": (3584, 18944, 28, 28, 4),
}


def model(shape, vocab, dtype):
    hidden, mlp, layers, heads, kv = SHAPES[shape]
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, vocab_size=vocab, max_position_embeddings=131072, tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


@torch.inference_mode()
def torch_cell(lm, prompt, steps):
    ids = torch.randint(0, lm.config.vocab_size, (1, prompt))
    start = time.perf_counter()
    out = lm(ids, use_cache=True, logits_to_keep=1)
    prefill = time.perf_counter() - start
    times, cache, token = [], out.past_key_values, ids[:, :1]
    for _ in range(steps + 1):
        start = time.perf_counter()
        out = lm(token, past_key_values=cache, use_cache=True)
        times.append((time.perf_counter() - start) * 1e3)
    return {"prefill_tokens_s": prompt / prefill, "decode_ms": statistics.median(times[1:])}


def tower(dtype):
    config = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384, patch_size=14,
        vision_use_head=False,
    )
    return SiglipVisionModel._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


@torch.inference_mode()
def torch_tower(siglip):
    pixels = torch.full((2, 3, 384, 384), 0.5, dtype=siglip.dtype)
    start = time.perf_counter()
    siglip(pixels)
    return {"vision_s": time.perf_counter() - start}


def our_cell(args, weights):
    command = [
        args.aircache, "bench", "--json", "--quiet", "--shape", args.shape, "--vocab", str(args.vocab), "--weights", weights,
        "--prompt-len", str(args.prompt_len), "--policies", "full", "--max-new-tokens", str(args.steps),
        "--threads", str(args.threads),
    ]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {**result["machine"], **result["cells"][0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aircache", default="target/release/aircache")
    parser.add_argument("--shape", default="llava-ov-0.5b", choices=SHAPES)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--prompt-len", type=int, default=1024)
    parser.add_argument("--weights", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = torch.float32 if args.weights == "f32" else torch.bfloat16
    lm = model(args.shape, args.vocab, dtype)
    siglip = tower(dtype) if args.shape.startswith("llava-ov") else None
    torch_cell(lm, min(64, args.prompt_len), 1)
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(our_cell(args, args.weights))
        time.sleep(0.15)
        theirs.append(torch_cell(lm, args.prompt_len, args.steps) | (torch_tower(siglip) if siglip else {}))
        time.sleep(0.15)
    middle = lambda cells, key: statistics.median(cell[key] for cell in cells)
    print(f"{args.shape}, {args.weights}, prompt {args.prompt_len}, {args.threads} threads, {args.rounds} rounds")
    print(f"  machine: read {middle(ours, 'read_gb_s'):.1f} GB/s, {middle(ours, 'fma_gflops'):.0f} GFLOP/s")
    for key, better in [("vision_s", -1), ("prefill_tokens_s", 1), ("decode_ms", -1)]:
        if key not in theirs[0]:
            continue
        a, b = middle(ours, key), middle(theirs, key)
        print(f"  {key}: ours {a:.2f}, torch {b:.2f}, ratio {(a / b) ** better:.2f}")
    print(f"  decode, share of the roofline: {middle(ours, 'roofline_decode_ms') / middle(ours, 'decode_ms'):.2f}")


if __name__ == "__main__":
    main()
