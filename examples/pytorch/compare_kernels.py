"""Our linear layers and PyTorch's, alternately, in one session: A B A B, medians, the shapes of `cargo bench --bench kernels`.

    cargo bench --bench kernels --no-run      says where the program is
    python compare_kernels.py --bench target/release/deps/kernels-HASH

Both take f32 x f32, and bf16 x bf16 whose sums are f32: ours to the bit, PyTorch's as oneDNN adds them. Pinned for the figures in
docs/performance.md: torch 2.11.0.
"""

import argparse
import re
import statistics
import subprocess
import time

import torch

LINE = re.compile(r"  (\d+) × (\d+) × (\d+): f32 (\d+) GFLOP/s \(([\d.]+)\), bf16 × bf16 (\d+)")
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def ours(bench):
    """GFLOP/s of both types, and the share of the peak, of each shape."""
    out = subprocess.run([bench, "--bench", "linear"], check=True, capture_output=True, text=True).stdout
    return {tuple(map(int, line[:3])): tuple(map(float, line[3:])) for line in LINE.findall(out)}


@torch.inference_mode()
def theirs(shape, dtype, turns=9):
    m, k, n = shape
    x, w = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    times = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        times.append(time.perf_counter() - start)
    return 2e-9 * m * k * n / statistics.median(times[1:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mine, peers = {}, {}
    for _ in range(args.rounds):
        for shape, (f32, share, bf16) in ours(args.bench).items():
            mine.setdefault(shape, []).append((f32, share, bf16))
        for shape in mine:
            time.sleep(0.15)  # workers keep spinning for a while after a call
            peers.setdefault(shape, []).append([theirs(shape, dtype) for dtype in TYPES.values()])
    product = 1.0
    for shape, all_mine in mine.items():
        f32, share, bf16 = map(statistics.median, zip(*all_mine))
        torch_f32, torch_bf16 = map(statistics.median, zip(*peers[shape]))
        product *= f32 / torch_f32
        print(
            " × ".join(map(str, shape)), f"f32 {f32:.0f} GFLOP/s, {share:.2f} of the peak, torch {torch_f32:.0f}, {f32 / torch_f32:.2f};",
            f"bf16 {bf16:.0f}, torch {torch_bf16:.0f}, {bf16 / torch_bf16:.2f}",
        )
    print(f"geometric mean in f32 {product ** (1 / len(mine)):.2f}")


if __name__ == "__main__":
    main()
