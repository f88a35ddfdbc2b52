"""Makes tests/golden/metrics/prompts.json: how VLMEvalKit asks multiple choice questions, by its own code.

Usage: make_prompts.py VLMEVALKIT      (a git repository, bare is enough, with the commit that make_metrics.py names)
The script reads single functions out of this commit and runs them; none of their code is kept. Needs pandas 3.1.1.
"""
import ast
import json
import pathlib
import string
import subprocess
import sys

import pandas as pd

from make_metrics import VLM, take

HERE = pathlib.Path(__file__).parent.parent / "metrics"
LINES = [
    {"question": "Which is blue?", "A": "the box", "B": "the line"},
    {"question": "What comes next?", "hint": "Look at the left.", "A": "3", "B": "5", "C": "8", "D": "13"},
    {"question": "Two\nlines?", "hint": "One\ntwo.", "A": "yes {", "B": "no }", "C": "a & b"},
    {"question": "ünï ✓ <b>?", "A": "é", "B": "n"},
]  # fmt: skip


def method(repository, path, owner, name, space):
    """A method of a class as a function."""
    source = subprocess.run(["git", "-C", repository, "show", f"{VLM}:{path}"], check=True, capture_output=True, text=True).stdout
    where = next(node for node in ast.parse(source).body if getattr(node, "name", None) == owner)
    wanted = next(node for node in where.body if getattr(node, "name", None) == name)
    wanted.returns = None
    for arg in wanted.args.args:
        arg.annotation = None
    exec(compile(ast.Module([wanted], []), path, "exec"), space)
    return space[name]


class Asker:
    """What these methods are methods of."""

    meta_only = False

    def dump_image(self, *_):
        return ["image"]

    def use_custom_prompt(self, _):
        return True


repository = sys.argv[1]
chinese = take(repository, VLM, "vlmeval/smp/misc.py", "cn_string")["cn_string"]
space = {"string": string, "pd": pd, "cn_string": chinese, "toliststr": list}
everybody = method(repository, "vlmeval/dataset/image_mcq.py", "ImageMCQDataset", "build_prompt", dict(space))
qwen2 = method(repository, "vlmeval/vlm/qwen2_vl/prompt.py", "Qwen2VLPromptMixin", "_build_mcq_prompt", dict(space))
llava = method(repository, "vlmeval/vlm/llava/llava.py", "LLaVA", "build_prompt", dict(space))
llava_next = method(repository, "vlmeval/vlm/llava/llava.py", "LLaVA_Next", "build_prompt", dict(space))
internvl = take(repository, VLM, "vlmeval/vlm/internvl/utils.py", "build_multi_choice_prompt")
internvl |= space
ask = {
    "another": lambda line: everybody(Asker(), line)[-1]["value"], "qwen2_5_vl": lambda line: everybody(Asker(), line)[-1]["value"],
    "qwen2_vl": lambda line: qwen2(Asker(), line, "MMBench_DEV_EN")[-1]["value"], "llava": lambda line: llava(Asker(), line, "MMBench_DEV_EN")[-1]["value"],
    "llava_next": lambda line: llava_next(Asker(), line, "MMBench_DEV_EN")[-1]["value"], "internvl_chat": lambda line: internvl["build_multi_choice_prompt"](line),
}  # fmt: skip
cases = [{"line": line, "asked": {family: say(pd.Series(line)) for family, say in ask.items()}} for line in LINES]
(HERE / "prompts.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
print(json.dumps(cases[1], indent=1))
