"""Makes tests/golden/template/qwen3_vl.json: what the chat template of the public Qwen3-VL checkpoints writes.

Usage: make_template_hub.py TEMPLATE [AIRCACHE]
TEMPLATE: the text of chat_template.json of Qwen3-VL-*-Instruct (5,292 characters). It is not in the repository; the golden holds what
jinja2 renders from it, set up as transformers 5.24.0 sets it up. AIRCACHE: the binary, which is then given the text itself, in the toy
qwen3_vl/hub-bf16: its prompts must be equal.
"""
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from safetensors import safe_open
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent.parent
IMAGE, VIDEO = {"type": "image", "image": "image0.png"}, {"type": "video"}


def text(words):
    return {"type": "text", "text": words}


CASES = [
    [{"role": "user", "content": "Hello ✓ ünï"}],
    [{"role": "user", "content": [IMAGE, text("What is the value of Age?")]}],
    [{"role": "system", "content": [text("You read documents.")]}, {"role": "user", "content": [IMAGE, IMAGE, text("Which is blue?")]}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [text("Is "), IMAGE, text(" like "), IMAGE, text("?\n")]}],
    [{"role": "user", "content": [VIDEO, text("What happens?")]}],
    [{"role": "system", "content": "You watch films."}, {"role": "user", "content": [VIDEO, text(" Which box moves? ")]}],
    [
        {"role": "user", "content": [IMAGE, text("Read.")]}, {"role": "assistant", "content": "A form."},
        {"role": "user", "content": "And the date?"}, {"role": "assistant", "content": [text("None.")]}, {"role": "user", "content": [text("Sure?"), IMAGE]},
    ],
]  # fmt: skip


def rendered(template, messages):
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=True)[0][0]


def by_binary(aircache, template, messages):
    """The prompt that aircache renders, or None if its options cannot say these messages."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copytree(HERE / "qwen3_vl/hub-bf16/model", folder / "model")
        (folder / "model/chat_template.json").unlink()
        (folder / "model/chat_template.jinja").write_text(template)
        shutil.copy(HERE / "qwen3_vl/hub-bf16/image0.png", folder)
        if not isinstance(messages[-1]["content"], str) and VIDEO in messages[-1]["content"]:
            system = ["--system", messages[0]["content"]] if len(messages) > 1 else []
            options = ["--video", "image0.png", "image0.png", "--prompt", messages[-1]["content"][1]["text"], *system]
        else:
            (folder / "messages.json").write_text(json.dumps(messages))
            options = ["--messages", "messages.json"]
        subprocess.run([aircache, "record", "--model", "model", *options, "--stages", "input.ids", "--out", "ids", "--quiet"], cwd=folder, check=True)
        with safe_open(folder / "ids", "np") as bundle:
            return bundle.metadata()["prompt"]


template = pathlib.Path(sys.argv[1]).read_text()
cases = [{"messages": messages, "rendered": rendered(template, messages)} for messages in CASES]
about = {"sha256": hashlib.sha256(template.encode()).hexdigest(), "characters": len(template)}
(HERE / "template/qwen3_vl.json").write_text(json.dumps({"template": about, "cases": cases}, indent=1, ensure_ascii=False) + "\n")
print(len(cases), about)
for case in cases if len(sys.argv) > 2 else []:
    got = by_binary(sys.argv[2], template, case["messages"])
    assert got == case["rendered"], (got, case["rendered"])
