"""What one method of each kind saves: prefill, compression and decode, medians of rounds, as a table for docs/performance.md.

    python examples/bench/methods.py target/release/aircache --threads 2 --shape llava-ov-0.5b --vocab 32000 --prompt-len 2048

Other options go to `aircache bench`. All methods run in each round, one after the other. The time that a method takes to rate
rows before the decoder counts as compression; the tower's own work does not count.
"""

import argparse
import json
import statistics
import subprocess

# One method or two of each kind: nothing, after prefill, merging, inside prefill, before the decoder.
METHODS = "full,aircache,expected,look-m,fastv-prune,divprune,visionzip"
WORDS = {
    "drops nothing": "none", "drops entries after prefill": "after prefill", "merges entries after prefill": "merging",
    "drops visual rows inside prefill": "inside prefill", "drops visual rows before the decoder": "before the decoder",
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aircache")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policies", default=METHODS)
    parser.add_argument("--retain", default="0.1")
    parser.add_argument("--max-new-tokens", default="8")
    args, rest = parser.parse_known_args()
    command = [args.aircache, "bench", "--json", "--quiet", "--policies", args.policies, "--retain", args.retain]
    command += ["--max-new-tokens", args.max_new_tokens, *rest]
    rounds = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(args.rounds)]
    read = statistics.median(done["machine"]["read_gb_s"] for done in rounds)
    print(f"{args.rounds} rounds, reads {read:.1f} GB/s, {rounds[0]['machine']}\n")
    print("| kind | policy | prefill, s | compression, s | decode, ms | roofline, ms | share | cache, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for cells in zip(*(done["cells"] for done in rounds)):
        of = lambda key: statistics.median(cell[key] for cell in cells)
        decode, roofline = of("decode_ms"), of("roofline_decode_ms")
        print(
            f"| {WORDS[cells[0]['kind']]} | `{cells[0]['policy']}` | {of('prefill_s'):.2f} | {of('compress_s'):.3f} | {decode:.1f} "
            f"| {roofline:.1f} | {roofline / decode:.2f} | {of('kv_bytes') / 1e6:.1f} |"
        )


main()
