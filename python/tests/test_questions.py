"""Benchmarks become question files: small tables with the columns of lmms-lab's parquet and of VLMEvalKit's TSV."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aircache
import pytest
from aircache import binary
from aircache.questions import FORMATS, convert

IMAGES = sorted((Path(__file__).parents[2] / "src/demo/samples").glob("*.png"))


def picture(i):
    return {"bytes": IMAGES[i % len(IMAGES)].read_bytes(), "path": f"{i}.png"}


# Columns and types as lmms-lab's data sets have them.
ROWS = {
    "docvqa": {"questionId": "1", "question": "What is it?", "question_types": ["form"], "docId": 1, "answers": ["A", "B"], "data_split": "val"},
    "infovqa": {"questionId": "1", "question": "What?", "answers": ["1"], "answer_type": ["single span"], "ocr": "x", "data_split": "val"},
    "chartqa": {"type": "human_test", "question": "How many?", "answer": "14"},
    "textvqa": {"question": "what brand?", "question_id": 3, "answers": ["nokia"] * 10, "ocr_tokens": ["NOKIA"], "image_width": 10},
    "ocrbench": {"dataset": "IIIT5K", "question": "what is written?", "question_type": "Regular Text Recognition", "answer": ["CENTRE"]},
    "mme": {"question_id": "color/1.png", "question": "Is it red? Please answer yes or no.", "answer": "Yes", "category": "color"},
    "mmbench": {"index": 1_000_003, "question": "Which?", "hint": "nan", "A": "cat", "B": "dog", "C": "nan", "D": "nan", "answer": "A", "category": "x", "L2-category": "y", "source": "s", "split": "dev"},
}  # fmt: skip


def parquet(path, form, count):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{**ROWS[form], "image": picture(i)} for i in range(count)]), path, row_group_size=3)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("form", ROWS)
def test_a_parquet_file_is_read_by_eval(form, tmp_path):
    out = tmp_path / "out/questions.jsonl"
    assert convert(form, [parquet(tmp_path / "a.parquet", form, 2)], out) == 2
    line = lines(out)[0]
    assert line["question"] == ROWS[form]["question"] and (out.parent / line["image"][0]).read_bytes() == picture(0)["bytes"]
    assert line["answer"] == ROWS[form].get("answer", ROWS[form].get("answers"))
    recipe = {"docvqa": "docvqa-val", "infovqa": "infovqa-val", "textvqa": "textvqa-val", "mmbench": "mmbench-en-dev"}.get(form, form)
    told = binary.answer("eval", "--data", out, "--recipe", f"lmms-eval/{recipe}", "--policies", "full", "--max-new-tokens", "2")
    assert told["recipe"]["name"] == f"lmms-eval/{recipe}" and told["cells"][0]["n"] == 2


def table(path, rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = ["\t".join(columns)] + ["\t".join(str(row.get(c, "")) for c in columns) for row in rows]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_a_tsv_file_shares_images_and_has_lists_and_options(tmp_path):
    encoded = base64.b64encode(picture(0)["bytes"]).decode()
    rows = [
        {"index": 7, "image": encoded, "question": "Which?", "A": "a cat", "B": "a dog", "answer": "A", "category": "x"},
        {"index": 1_000_007, "image": 7, "question": "Which?", "A": "a dog", "B": "a cat", "answer": "B", "category": "x"},
        {"index": 8, "image": encoded, "question": "Read", "answer": "['one', \"two's\"]", "split": "val"},
    ]
    out = tmp_path / "q/questions.jsonl"
    assert convert("vlmevalkit", [table(tmp_path / "a.tsv", rows)], out) == 3
    one, two, three = lines(out)
    assert one["image"] == two["image"] == three["image"] and len(list((tmp_path / "q/images").iterdir())) == 1
    assert one["options"] == {"A": "a cat", "B": "a dog"} and str(one["group"]) == str(two["group"]) == "7"
    assert three["answer"] == ["one", "two's"] and three["kind"] == "val" and "options" not in three


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    encoded = [base64.b64encode(picture(i)["bytes"]).decode() for i in range(40)]
    rows = [{"index": i, "image": encoded[i], "question": f"{i}?", "answer": str(i)} for i in range(40)] * 60
    data, whole, killed = table(tmp_path / "a.tsv", rows), tmp_path / "whole/q.jsonl", tmp_path / "killed/q.jsonl"
    assert convert("vlmevalkit", [data], whole) == len(rows)
    kills = 0
    for wait in range(1, 60):
        run = subprocess.Popen([sys.executable, "-m", "aircache", "questions", "vlmevalkit", data, "--out", killed], stderr=subprocess.DEVNULL)
        try:
            assert run.wait(timeout=0.1 * wait) == 0
            break
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
    assert kills and killed.read_bytes() == whole.read_bytes()
    names = lambda out: sorted(p.name for p in (out.parent / "images").glob("*.png"))
    assert names(killed) == names(whole)
    # A torn line is written again.
    killed.write_bytes(whole.read_bytes()[:-5])
    convert("vlmevalkit", [data], killed)
    assert killed.read_bytes() == whole.read_bytes()


def test_what_is_wrong_is_said(tmp_path):
    data = table(tmp_path / "a.tsv", [{"index": 1, "image": "", "question": "?", "answer": "x"}])
    with pytest.raises(aircache.Error, match="row 1: expected a column image"):
        convert("vlmevalkit", [data], tmp_path / "q.jsonl")
    with pytest.raises(aircache.Error, match="one of docvqa"):
        convert("imagenet", [data], tmp_path / "q.jsonl")
    good = {"index": 1, "image": base64.b64encode(picture(0)["bytes"]).decode(), "question": "?", "answer": "x"}
    other = table(tmp_path / "b.tsv", [good])
    convert("vlmevalkit", [other], tmp_path / "r.jsonl")
    with pytest.raises(aircache.Error, match="line 1: expected the question of"):
        convert("vlmevalkit", [table(tmp_path / "c.tsv", [{**good, "question": "!"}])], tmp_path / "r.jsonl")
    assert set(ROWS) | {"vlmevalkit"} == set(FORMATS)
