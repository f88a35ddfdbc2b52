"""Shards by Slurm's variables and by Ray, with workers that are killed: the merged results have the bytes of one run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aircache import binary

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "src/demo"
OPTIONS = ["--policies", "full,aircache,random", "--retain", "0.3,0.1", "--max-new-tokens", "16", "--metric", "exact,anls-lmms"]


@pytest.fixture
def data(tmp_path):
    """Twenty questions on the sample images."""
    path = tmp_path / "questions.jsonl"
    lines = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()[::12]]
    path.write_text("\n".join(json.dumps({**line, "image": str(DEMO / line["image"])}) for line in lines))
    return path


@pytest.fixture
def whole(data, tmp_path):
    """The results of one undisturbed run."""
    out = tmp_path / "whole.json"
    binary.run("eval", "--quiet", "--data", data, *OPTIONS, "--out", out)
    return out


def environment(**more):
    folder = str(Path(binary.path()).parent)
    return {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"], **more}


def bytes_of(out):
    return out.read_bytes(), out.with_suffix(".svg").read_bytes()


def test_a_slurm_array_with_a_killed_task(data, whole, tmp_path):
    folder = tmp_path / "slurm"
    task = lambda i: environment(FOLDER=str(folder), SLURM_ARRAY_TASK_ID=str(i), SLURM_ARRAY_TASK_COUNT="3", SLURM_CPUS_PER_TASK="1")
    words = ["bash", HERE / "eval.slurm", "--quiet", "--data", data, *OPTIONS]
    killed = subprocess.Popen(words, env=task(2), stdout=subprocess.DEVNULL)
    journal = folder / "shard-2.journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    for i in (1, 2):  # the third task never ran: the merge answers its questions
        subprocess.run(words, env=task(i), check=True, stdout=subprocess.DEVNULL)
    subprocess.run([HERE / "merge.sh", "--quiet", "--data", data, *OPTIONS], env=task(0), check=True, stdout=subprocess.DEVNULL)
    assert bytes_of(folder / "results.json") == bytes_of(whole)


def children(pid):
    """The processes whose parent is `pid`."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # it has ended


def below(pid):
    found = children(pid)
    return found + [more for child in found for more in below(child)]


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_ray_with_a_killed_worker(data, whole, tmp_path):
    pytest.importorskip("ray")
    folder = tmp_path / "ray"
    words = [sys.executable, HERE / "ray_eval.py", "--shards", "2", "--folder", folder, "--", "--data", data, *OPTIONS]
    driver = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = folder / "shard-2.journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.01)
    # The worker of the second shard: the parent of its program.
    (worker,) = [pid for pid in below(driver.pid) if any("--shard 2/2" in command(child) for child in children(pid))]
    os.kill(worker, signal.SIGKILL)
    out, told = driver.communicate(timeout=300)
    assert driver.returncode == 0, told
    assert bytes_of(folder / "results.json") == bytes_of(whole)
    assert "policy " in out and not Path(f"/proc/{worker}").exists()
