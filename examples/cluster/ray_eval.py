"""An evaluation on a Ray cluster: one task a shard; a worker that dies is started again and loses no answer.

    python ray_eval.py --shards 32 --threads 16 --folder /shared/run -- --data q.jsonl --model DIR --recipe lmms-eval/docvqa-val

What follows `--` are options of `aircache eval`. The folder, the data and the model lie where every node finds them under the same path. Each shard
writes its journal there at once, so its next attempt continues with the question at which it stopped. The merged results are FOLDER/results.json; they
have the bytes of one undisturbed run.
"""

import argparse
import ctypes
import subprocess
import sys
from pathlib import Path

import ray

DEATH_SIGNAL, KILL = 1, 9  # prctl(PR_SET_PDEATHSIG, SIGKILL)


def with_parent():
    """The program ends with its worker. Otherwise it would still write its journal when the next attempt begins."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, KILL)


def aircache(words):
    """Runs `aircache eval`; its error line becomes an exception, which Ray does not retry."""
    done = subprocess.run(["aircache", "eval", *words], preexec_fn=with_parent, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise ray.exceptions.WorkerCrashedError  # the program was killed, for example for its memory
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="CPUs of a task")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("options", nargs="*", help="options of `aircache eval`, after --")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    files = [args.folder / f"shard-{i}.json" for i in range(1, args.shards + 1)]
    ray.init(log_to_driver=False)

    @ray.remote(num_cpus=args.threads, max_retries=-1, retry_exceptions=[ray.exceptions.WorkerCrashedError])
    def shard(i):
        aircache([*args.options, "--threads", str(args.threads), "--shard", f"{i}/{args.shards}", "--out", str(files[i - 1])])
        return i

    waiting = [shard.remote(i) for i in range(1, args.shards + 1)]
    while waiting:
        done, waiting = ray.wait(waiting)
        print(f"shard {ray.get(done[0])} of {args.shards} is done", file=sys.stderr, flush=True)
    merge = ",".join(map(str, files))
    print(aircache([*args.options, "--merge", merge, "--out", str(args.folder / "results.json")]), end="")


main()
