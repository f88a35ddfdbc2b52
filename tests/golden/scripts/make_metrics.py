#!/usr/bin/env python3
"""make_metrics.py LMMS_EVAL VLMEVALKIT: what the evaluation kits' own functions say about thousands of answers.

The two folders are git repositories (bare is enough) that have the commits below. The script reads single functions out of these commits and runs them;
none of their code is kept. Needs Python 3.11, numpy 2.4.6 and pandas 3.1.1. Writes tests/golden/metrics/.
"""

import ast
import copy
import json
import os
import random as rd
import re
import statistics
import string
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

LMMS = "75571cfe0fa36ca5ec2e6aa2bb268f9d38295af3"
VLM = "e8e78f05f3080fe28154f2130321f17951c3be94"
OUT = Path(__file__).parents[1] / "metrics"


class Log:
    def __getattr__(self, _):
        return lambda *args, **kwargs: None


def take(repository, commit, path, *names):
    """Functions, classes and values of a file at a commit, without the decorators and the imports."""
    source = subprocess.run(["git", "-C", repository, "show", f"{commit}:{path}"], check=True, capture_output=True, text=True).stdout
    wanted = []
    for node in ast.parse(source).body:
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else getattr(node, "name", None)
        if name in names:
            node.decorator_list = []
            wanted.append(node)
    space = dict(
        re=re, os=os, string=string, cp=copy, np=np, pd=pd, rd=rd, defaultdict=defaultdict, statistics=statistics, logger=Log(), eval_logger=Log(),
    )  # fmt: skip
    from typing import List, Optional

    space |= {"List": List, "Optional": Optional}
    exec(compile(ast.Module(wanted, []), path, "exec"), space)
    return space


def kits(lmms, vlm):
    """metric name → (prediction, answers, options, kind) → score."""
    anls = take(lmms, LMMS, "lmms_eval/api/metrics.py", "levenshtein_distance", "anls")["anls"]
    relaxed = take(lmms, LMMS, "lmms_eval/tasks/chartqa/utils.py", "relaxed_correctness", "chartqa_process_results")["chartqa_process_results"]
    vqa = take(lmms, LMMS, "lmms_eval/tasks/textvqa/utils.py", "textvqa_process_results")
    vqa |= take(lmms, LMMS, "lmms_eval/tasks/_task_utils/vqa_eval_metric.py", "EvalAIAnswerProcessor")
    processor = vqa["EvalAIAnswerProcessor"]
    textvqa = take(lmms, LMMS, "lmms_eval/tasks/textvqa/utils.py", "textvqa_process_results")
    textvqa["EvalAIAnswerProcessor"] = processor
    textvqa = textvqa["textvqa_process_results"]
    ocr = take(lmms, LMMS, "lmms_eval/tasks/ocrbench/utils.py", "_fold_fullwidth_ascii", "ocrbench_process_results")["ocrbench_process_results"]
    mme = take(lmms, LMMS, "lmms_eval/tasks/mme/utils.py", "eval_type_dict", "parse_pred_ans", "mme_process_results", "mme_aggregate_results")
    bench = take(lmms, LMMS, "lmms_eval/tasks/mmbench/mmbench_evals.py", "MMBench_Evaluator")["MMBench_Evaluator"]()
    extract = take(lmms, LMMS, "lmms_eval/tasks/_task_utils/mcq_extract.py", "_DEFAULT_CHOICES", "_ANSWER_PHRASES", "_FORMAT_PRIORITY", "extract_mcq_answer")

    line = take(vlm, VLM, "vlmeval/dataset/utils/vqa_eval.py", "_process_digit_article", "hit_calculate", "relaxed_correctness", "levenshtein_distance", "anls_compute", "process_answer", "process_line")
    misc = take(vlm, VLM, "vlmeval/smp/misc.py", "process_punctuation", "istype", "listinstr")
    line |= {name: misc[name] for name in ("process_punctuation", "istype")}
    line["listinstr"] = lambda words, text: any(word in text for word in words)
    yes = take(vlm, VLM, "vlmeval/dataset/utils/yorn.py", "YOrN_Extraction", "MME_rating")
    yes["process_punctuation"] = misc["process_punctuation"]
    infer = take(vlm, VLM, "vlmeval/utils/matching_util.py", "_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer")

    def kit_line(method, dataset):
        def score(p, answers, *_):
            done = line["process_line"]({"answer": str(answers), "prediction": p}, method=method)
            return float(line["hit_calculate"]([done], dataset)[0])

        return score

    def ocr_vlm(p, answers, _, kind):
        # `OCRBench.evaluate` is one loop over a file: it is run on a file of one line.
        source = subprocess.run(["git", "-C", vlm, "show", f"{VLM}:vlmeval/dataset/image_vqa.py"], check=True, capture_output=True, text=True).stdout
        return source, p, answers, kind

    evaluate = None
    for node in ast.parse(ocr_vlm(0, 0, 0, 0)[0]).body:
        if getattr(node, "name", "") == "OCRBench":
            (evaluate,) = [f for f in node.body if getattr(f, "name", "") == "evaluate"]
    evaluate.decorator_list = []
    space = {"tqdm": lambda x: x, "get_intermediate_file_path": lambda *a: "", "dump": lambda *a: None}
    exec(compile(ast.Module([evaluate], []), "OCRBench", "exec"), space)

    def contains_vlm(p, answers, _, kind):
        space["load"] = lambda _: pd.DataFrame([{"prediction": p, "answer": str(answers), "category": kind}])
        return float(space["evaluate"](None, "")["Final Score"])

    def contains(p, answers, _, kind):
        dataset = "HME100k" if kind.startswith("Handwritten M") else "x"
        return float(ocr({"answer": list(answers), "dataset": dataset, "question_type": kind}, [p])["ocrbench_accuracy"]["score"])

    def choice(p, answers, options, _):
        item = {**{c: float("nan") for c in "ABCDE"}, **options, "prediction": p, "index": 0}
        bench_data = pd.DataFrame([item])
        import types

        module = types.ModuleType("lmms_eval.tasks._task_utils.mcq_extract")
        module.extract_mcq_answer = extract["extract_mcq_answer"]
        for name in ("lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils"):
            sys.modules.setdefault(name, types.ModuleType(name))
        sys.modules["lmms_eval.tasks._task_utils.mcq_extract"] = module
        return float(bench.eval_sub_data(bench_data, {0: answers[0]}, static_only=True))

    text = {
        "anls-lmms": lambda p, a, *_: float(anls(a, [p])["anls"]),
        "anls-lmms@vlmevalkit": kit_line("anls", "DocVQA"),
        # ChartQA has one answer; of several, the best counts, as in VLMEvalKit.
        "relaxed": lambda p, a, *_: max(float(relaxed({"type": "", "answer": one}, [p])["relaxed_overall"]) for one in a),
        "relaxed@vlmevalkit": kit_line("relaxed_accuracy", "ChartQA"),
        "vqa": lambda p, a, *_: float(textvqa({"answers": list(a), "question_id": 0}, [p])["exact_match"]),
        "vqa@vlmevalkit": kit_line("vqa_score", "TextVQA"),
        "contains": contains,
        "contains@vlmevalkit": contains_vlm,
    }
    others = {
        "mme": lambda p, a, *_: next(iter(mme["mme_process_results"]({"answer": a[0], "category": "OCR", "question_id": 0}, [p]).values()))["score"],
        "mme@vlmevalkit": lambda p, a, *_: float(a[0] == yes["YOrN_Extraction"](p)),
        "choice": choice,
        "choice@vlmevalkit": lambda p, a, o, _: float(infer["can_infer"](p, dict(o)) == a[0]),
    }
    return text, others, mme, yes, bench


# --- cases ----------------------------------------------------------------------------------------------------------------

WORDS = """the a an The A cat dog Rome rome ROME Zürich café naïve façade straße STRASSE ﬁve Ωmega ΣΑΣ İstanbul 東京 ｅｒｒｏｒ １２ ٣ 12 1,000 1,000,000 3.5 $45.20 45.20 7% 7.0% 0.07
12% 12.5% 100 -3 +3 1e3 1_000 inf nan none zero one two Ten ten's dont don't Dont cant wont isnt couldntve couldn'tve couldnt've hes she's lets let's yall'd've twas 'twas oclock somebody'd Im im id've
it's its Coca-Cola coca cola A/B and/or yes no Yes No. N/A U.S.A. U.S. e.g. a.m. 10:30 p.m. (c) [x] {y} "quoted" back\\slash semi;colon under_score question? wow! me@x.org `tick` <b> =1 +1 2. 3, .5 . , 
New York San-Francisco 1/2 50/50 50 0 0.0 00 -0 1.05 1.0499 0.95 105 95 95.0 104.9""".split()  # fmt: skip
GAPS = [" ", " ", " ", " ", "  ", "\n", "\t", " \x1c", "\u00a0", "\u3000", ", ", ". ", "? ", "-", "/", ""]
EDGES = ["", "", "", "", " ", "\n", ".", "!", "?", "%", "\"", ". ", " %"]


def phrase(r, most=4):
    return "".join(r.choice(WORDS) + r.choice(GAPS) for _ in range(r.randint(1, most)))[: r.choice([3, 8, 99])]


def near(r, text):
    """A text that differs a little."""
    how = r.randrange(9)
    at = r.randrange(len(text) + 1)
    return (
        text, text.upper(), text.lower(), text[:at] + text[at + 1 :], text[:at] + r.choice("aé9. ,%'") + text[at:], r.choice(EDGES) + text + r.choice(EDGES),
        f"The answer is {text}.", re.sub(r"\d+", lambda m: str(int(m[0]) + r.choice([0, 1, 5])) if m[0].isascii() else m[0], text), phrase(r),
    )[how]  # fmt: skip


def texts(r, count):
    kinds = ["Regular Text Recognition", "Doc-oriented VQA", "Handwritten Mathematical Expression Recognition"]
    for _ in range(count):
        truth = phrase(r)
        answers = [truth if r.random() < 0.5 else near(r, truth) for _ in range(r.choice([1, 1, 1, 2, 3, 10]))]
        yield near(r, truth), answers, {}, r.choice(kinds)
    # Numbers at the edge of 5 %, and more than 32 full stops.
    for _ in range(count // 4):
        x = r.choice([1, 20, 100, 0.2, 7, 1500])
        y = x * r.choice([0.95, 1.05, 0.9499, 1.0501, 1, -1, 100, 0.01])
        form = lambda v: r.choice(["{}", "{:.2f}", "{:g}", "{}%", " {}", "{}% ", "{:e}", "${}"]).format(v)
        yield form(y), [form(x)], {}, kinds[0]
    for dots in (31, 32, 33, 40):
        yield "a." * dots + "b", ["a" * dots + "b"] * 5 + ["a." * dots + "b"] * 5, {}, kinds[1]


def yes_and_no(r, count):
    words = ["yes", "no", "Yes", "No", "YES.", "no.", "Yes,", "y", "n", "Y.", "N", "not", "nothing", "yesterday", "the answer is", "it is", "there is", "maybe", "", ".", "know", " ", "yes/no", "No-one", "no!", "(yes)"]
    for _ in range(count):
        yield "".join(r.choice(words) + r.choice(["", " ", ", ", ".", "\n"]) for _ in range(r.randint(1, 4))), [r.choice(["Yes", "No"])], {}, ""


OPTIONS = ["a cat", "a dog", "Cat", "red", "blue", "reddish blue", "12", "120", "Paris", "paris, France", "none of the above", "True", "A lion", "B", "the ΣΑΣ", "İstanbul"]


def choices(r, count):
    for _ in range(count):
        n = r.randint(2, 4)
        options = dict(zip("ABCD", r.sample(OPTIONS, n)))
        right = r.choice(list(options))
        c, other = r.choice("ABCDEZ"), r.choice("ABCD")
        form = r.choice([
            "{c}", "{c}.", "({c})", "{c})", "{c}: {t}", "{c}. {t}", "{t}", "{t}.", "The answer is {c}.", "The correct answer is **{c}**. Here is why: {t}", "answer is {l}", "I think A dog is {c}", "A {t} is seen",
            "{c} or {d}", "({c}) or ({d})", "I'm sorry, but without the image provided", "Sorry, I can't help with images of people yet.", "{c}{d}", "Option {c} is right because of {t} and {t}", "It is {t}, not {u}", ":{c}", "{c},",
            "{c}. because of one two three four five six", "one two three four five six {c}", "My choice is: {d} no, {c}", "정답은 {c}", "答案是{c}", "Z", "", " ", "Because {t}", "\"{c}\"", "the best option is {l}", "The anſwer iſ {c}", "E", "ＡＮＳＷＥＲ {c}",
        ])  # fmt: skip
        yield form.format(c=c, d=other, l=c.lower(), t=options.get(c, "x"), u=options.get(other, "y")), [right], options, ""


def groups(r, mme, yes, bench, kits):
    """Whole files: MME's sums, and circular multiple choice."""
    names = [c for kind in mme["eval_type_dict"].values() for c in kind]
    items = []
    for kind in names:
        for image in range(r.randint(2, 6)):
            for answer in ("Yes", "No"):
                items.append({"kind": kind, "group": f"{kind}/{image}", "answer": answer, "prediction": r.choice([answer, answer, answer, "Yes", "No", "no idea", "Yes, it is."])})
    score = lambda item, kit: kits[kit](item["prediction"], [item["answer"]])
    sums = {}
    for key, part in (("perception", "Perception"), ("cognition", "Cognition")):
        rows = [{"question_id": i["group"], "category": i["kind"], "score": score(i, "mme")} for i in items if i["kind"] in mme["eval_type_dict"][part]]
        sums[key] = mme["mme_aggregate_results"](rows)
    frame = pd.DataFrame([{"category": i["kind"], "image_path": i["group"], "score": score(i, "mme@vlmevalkit")} for i in items])
    yes |= {"load": lambda _: frame, "d2df": lambda d: d}
    rated = yes["MME_rating"]("")
    whole = {"items": items, "lmms-eval": sums, "vlmevalkit": {"perception": float(rated["perception"]), "cognition": float(rated["reasoning"])}}

    circular, hits = [], {"choice": [], "choice@vlmevalkit": []}
    for question in range(150):
        n = r.randint(2, 4)
        texts = r.sample(OPTIONS, n)
        each = []
        for turn in range(n):
            options = dict(zip("ABCD", texts[turn:] + texts[:turn]))
            right = "ABCD"[(-turn) % n]
            good = r.random() < 0.9
            said = right if good else r.choice("ABCD")
            each.append({"group": str(question), "options": options, "answer": right, "prediction": r.choice([said, f"{said}.", f"({said})", options.get(said, "?")])})
        circular += each
        for kit in hits:
            hits[kit].append(int(all(kits[kit](i["prediction"], [i["answer"]], i["options"], "") for i in each)))
    return {"mme": whole, "circular": {"items": circular, "hits": hits}}


def main():
    lmms, vlm = sys.argv[1:]
    r = rd.Random(26)
    text, others, mme, yes, bench = kits(lmms, vlm)
    OUT.mkdir(exist_ok=True)
    about = {"lmms-eval": LMMS, "VLMEvalKit": VLM, "python": sys.version.split()[0], "numpy": np.__version__, "pandas": pd.__version__}
    sets = {
        "text": (text, texts(r, 2400)),
        "yes-no": ({k: v for k, v in others.items() if k.startswith("mme")}, yes_and_no(r, 800)),
        "choice": ({k: v for k, v in others.items() if k.startswith("choice")}, choices(r, 1600)),
    }
    for name, (metrics, cases) in sets.items():
        lines = [json.dumps({"metrics": list(metrics), **about})]
        for prediction, answers, options, kind in cases:
            scores = [metric(prediction, list(answers), dict(options), kind) for metric in metrics.values()]
            row = {"prediction": prediction, "answer": answers, "scores": scores}
            row |= ({"options": options} if options else {}) | ({"kind": kind} if kind else {})
            lines.append(json.dumps(row, ensure_ascii=False))
        (OUT / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (OUT / "groups.json").write_text(json.dumps({**about, **groups(r, mme, yes, bench, others)}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
