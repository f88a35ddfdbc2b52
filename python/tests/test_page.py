"""The page *Bring your own kernel* and the package's README do what they say: their Python blocks run in order, and print what
the block behind them shows. `…` in that block stands for any text."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:<!-- (not run): .*? -->\n)?```(\w+)\n(.*?)```", re.S)


@pytest.mark.parametrize("page", ["docs/kernels.md", "python/README.md"])
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    names, printed, ran, shown = {"__name__": "page"}, None, 0, 0
    for m in BLOCK.finditer(text):
        skipped, language, body = m.groups()
        line = f"{page}:{text[: m.start(3)].count(chr(10)) + 1}"
        if language == "python" and not skipped:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(body, line, "exec"), names)
            printed, ran = out.getvalue(), ran + 1
        elif language == "text" and printed:
            pattern = ".*".join(re.escape(part) for part in body.strip().split("…"))
            assert re.search(pattern, printed, re.S), f"{line}: printed\n{printed}"
            printed, shown = None, shown + 1
        else:
            assert not printed, f"{line}: the output of the block before is not shown:\n{printed}"
    assert not printed and ran and (page != "docs/kernels.md" or ran >= 8 and shown >= 5)


def test_the_example_fails_until_its_bug_is_corrected(tmp_path):
    example = (ROOT / "python/examples/test_my_attention.py").read_text()
    bug = "/ np.float32(d)  # the bug; d ** 0.5 is right"
    assert bug in example

    def run(name, text):
        (tmp_path / name).write_text(text)
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", name], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    code, out = run("test_bug.py", example)
    assert code == 1 and "2 failed" in out
    assert "first divergence: out" in out and "first divergence: decoder.02.mix" in out
    assert "cause: scores are scaled by" in out
    code, out = run("test_right.py", example.replace(bug, "* np.float32(d**-0.5)"))
    assert code == 0 and "2 passed" in out, out
