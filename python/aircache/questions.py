"""Benchmarks as question files: parquet of lmms-lab and TSV of VLMEvalKit become JSON lines with the images beside them.

    python -m aircache questions docvqa DocVQA/validation-*.parquet --out docvqa/questions.jsonl
    python -m aircache questions vlmevalkit MMBench_DEV_EN.tsv --out mmbench/questions.jsonl

Files are streamed: one row is in memory at a time. A run that was killed goes on where it stopped. Parquet needs pyarrow
(`pip install './python[data]'`); TSV needs nothing. The line's fields are those that `aircache eval --data` reads, and the
recipes of `aircache eval --recipe`.
"""

import argparse
import ast
import base64
import csv
import hashlib
import json
import os
import string
import sys
from pathlib import Path

from .errors import Error, message

LETTERS = string.ascii_uppercase


def text(value):
    """A value of a table as text; none where the table has none (`nan` is how pandas writes that)."""
    value = "" if value is None else str(value)
    return None if value in ("", "nan") else value


def options(row):
    """The texts of columns A, B, C, …"""
    found = {letter: text(row.get(letter)) for letter in LETTERS}
    return {letter: value for letter, value in found.items() if value is not None}


def answers(value):
    """One answer or a list; VLMEvalKit writes lists as Python's `repr`."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            listed = ast.literal_eval(value)
            value = listed if isinstance(listed, list) else value
        except (ValueError, SyntaxError):
            pass
    if isinstance(value, list):
        return [str(v) for v in value]
    return str(value)


# What a benchmark's row becomes, besides question, answer and image. lmms-lab names columns differently in each.
FORMATS = {
    "docvqa": lambda row: {"answer": row["answers"], "kind": first(row.get("question_types"))},
    "infovqa": lambda row: {"answer": row["answers"], "kind": first(row.get("answer_type"))},
    "chartqa": lambda row: {"answer": row["answer"], "kind": row.get("type")},
    "textvqa": lambda row: {"answer": row["answers"]},
    "ocrbench": lambda row: {"answer": row["answer"], "kind": row.get("question_type")},
    "mme": lambda row: {"answer": row["answer"], "kind": row["category"], "group": row["question_id"]},
    "mmbench": lambda row: {
        "answer": row["answer"], "kind": row.get("category"), "group": int(row["index"]) % 1_000_000, "options": options(row), "hint": text(row.get("hint")),
    },
    "vlmevalkit": lambda row: tsv(row),
}  # fmt: skip


def first(value):
    return (value[0] if value else None) if isinstance(value, list) else value


def tsv(row):
    """A row of VLMEvalKit: multiple choice where there are options; MME asks twice about each `image_path`."""
    asked = {"answer": answers(row["answer"]), "kind": text(row.get("category")) or text(row.get("split")), "hint": text(row.get("hint"))}
    if found := options(row):
        asked |= {"options": found, "group": row.get("g_index") or str(int(row["index"]) % 1_000_000)}
    elif path := text(row.get("image_path")):
        asked["group"] = path
    return asked


def convert(form, files, out, limit=None):
    """Writes `out` and the folder `images` beside it. Returns the number of questions.

    form: a key of `FORMATS`. files: parquet or TSV files, in order. limit: at most so many questions. A file that was begun is
    continued after its last whole line; it must have begun with the same rows.
    """
    if form not in FORMATS:
        raise Error(message("questions", f"one of {', '.join(FORMATS)}", form))
    out = Path(out)
    images = out.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    done = whole_lines(out)
    count = 0
    seen = {}  # VLMEvalKit's rows may name the row whose images they share: its index → names of files
    with open(out, "ab") as lines:
        lines.truncate(done.size)
        for path in files:
            for number, row in enumerate(rows(path), 1):
                if limit is not None and count == limit:
                    return count
                at = f"{path}: row {number}"
                try:
                    line = question(FORMATS[form](row), row, images, seen)
                except KeyError as e:
                    raise Error(message(at, f"a column {e.args[0]}", ", ".join(row))) from None
                if count < done.count:
                    if done.hashes[count] != digest(line):
                        raise Error(message(f"{out}: line {count + 1}", f"the question of {at}", "another one", "choose another --out, or delete the file"))
                else:
                    lines.write(line)
                count += 1
    return count


def question(asked, row, images, seen):
    """The line of a row, with its images written."""
    line = {"image": [f"images/{name}" for name in pictures(row, images, seen)], "question": str(row["question"]), **asked}
    line = {key: value for key, value in line.items() if value is not None}
    return (json.dumps(line, ensure_ascii=False) + "\n").encode()


def pictures(row, images, seen):
    """The files of a row's pictures: parquet has {"bytes", "path"}, TSV base64, or the index of the row that has them."""
    value = row.get("image")
    if not value:
        raise KeyError("image")
    if isinstance(value, str) and value in seen:
        return seen[value]
    if isinstance(value, str):
        encoded = ast.literal_eval(value) if value.startswith("[") else [value]
        data = [base64.b64decode(one) for one in encoded]
    else:
        data = [one["bytes"] for one in (value if isinstance(value, list) else [value])]
    names = [store(images, one) for one in data]
    if "index" in row:
        seen[str(row["index"])] = names
    return names


def store(images, data):
    """Writes a picture under the hash of its bytes: rows that share a picture share the file."""
    name = hashlib.sha256(data).hexdigest()[:24] + kind(data)
    path = images / name
    if not (path.exists() and path.stat().st_size == len(data)):
        beside = path.with_suffix(".part")
        beside.write_bytes(data)
        os.replace(beside, path)
    return name


def kind(data):
    """The ending of a picture's name, by its first bytes."""
    known = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}
    if data[:4] == b"RIFF":
        return ".webp"
    return next((ending for start, ending in known.items() if data.startswith(start)), ".img")


def rows(path):
    """The rows of a table, one at a time."""
    if str(path).endswith(".parquet"):
        try:
            import pyarrow.parquet as pq
        except ImportError:
            raise Error(message(str(path), "pyarrow, which reads parquet", "none", "pip install './python[data]'")) from None
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                yield from batch.to_pylist()
    else:
        csv.field_size_limit(sys.maxsize)  # an image is one field
        with open(path, encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t")


class whole_lines:
    """The whole lines of a file that may not exist: their number, hashes and size in bytes."""

    def __init__(self, path):
        self.count, self.size, self.hashes = 0, 0, []
        if not path.exists():
            return
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self.count, self.size = self.count + 1, self.size + len(line)
                    self.hashes.append(digest(line))


def digest(line):
    return hashlib.sha256(line).digest()[:8]


def main(words=None):
    parser = argparse.ArgumentParser("aircache questions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=FORMATS, help="the benchmark at lmms-lab, or vlmevalkit for any TSV")
    parser.add_argument("files", nargs="+", help="parquet or TSV files, in order")
    parser.add_argument("--out", required=True, help="the question file; images lie beside it in images/")
    parser.add_argument("--limit", type=int, help="at most so many questions")
    args = parser.parse_args(words)
    try:
        count = convert(args.form, args.files, args.out, args.limit)
    except (Error, OSError) as e:
        print(f"aircache: {e}", file=sys.stderr)
        return 2
    print(f"{count} questions in {args.out}", file=sys.stderr)
    return 0
