#!/usr/bin/env python3
"""Runs checkpoints through every attention path and type of a GPU, honest and with planted bugs, and has `aircache check`
judge each: what `docs/gpu.md` reports.

    python gpu_matrix.py --aircache target/release/aircache --cases cases-1.json --out report.jsonl
    python gpu_matrix.py --tables report.jsonl

It needs the package in `python/` (`pip install ./python`), torch and transformers. The cases are a list of {"name", "model", "images", "prompt", "system", "bugs"}. Each candidate is judged by replay, with
image and prompt, and by a golden recorded on the spot. A line of the report is one candidate; tables follow on stdout.
`--keep DIR` keeps the candidates.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import torch
from aircache import policy
from aircache.transformers import run as rc
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.qwen2 import modeling_qwen2

# --- honest paths ---------------------------------------------------------------------------------------------------

KERNELS = {
    "sdpa-math": SDPBackend.MATH,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
}
PATHS = ["eager", "sdpa", *KERNELS, "compiled"]
# What PyTorch calls TF32: of matrix products (off as it comes) and of convolutions (on as it comes).
TF32 = {"f32": (False, False), "f32, as it comes": (False, True), "f32, TF32": (True, True)}


def runs(path, mode):
    """Flash and cuDNN kernels take half types only."""
    return not (mode.startswith("f32") and path in ("sdpa-flash", "sdpa-cudnn"))


@contextlib.contextmanager
def setting(path, mode):
    matmul, convolution = TF32.get(mode, (False, False))
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
    with sdpa_kernel(KERNELS[path]) if path in KERNELS else contextlib.nullcontext():
        yield


def compiled(model):
    """Inductor's fused kernels for whole tower layers, and for norms and MLPs of the decoder."""
    text = model.model.language_model
    parts = [*model.model.vision_tower.encoder.layers, text.norm]
    parts += [part for l in text.layers for part in (l.input_layernorm, l.post_attention_layernorm, l.mlp)]
    for part in parts:
        part.forward = torch.compile(part.forward, dynamic=False)


# --- bugs: each is undone when its context ends -----------------------------------------------------------------------


@contextlib.contextmanager
def instead(holder, name, value):
    had, own = getattr(holder, name), name in vars(holder) or name in vars(holder).get("_modules", {})
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, had) if own else delattr(holder, name)


@contextlib.contextmanager
def changed(tensor, change):
    saved = tensor.data.clone()
    change(tensor.data)
    try:
        yield
    finally:
        tensor.data.copy_(saved)


def text(model):
    return model.model.language_model


def rotary_in_type(model):
    """Angles formed in the model's type."""
    emb = text(model).rotary_emb

    def forward(x, position_ids):
        angles = position_ids[..., None].to(x.dtype) * emb.inv_freq.to(x.dtype)
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()

    return instead(emb, "forward", forward)


def late_evict(key, value, rows):
    """Each visual row that stays is copied one row late."""
    late = torch.where((rows > rows.min()) & (rows < key.shape[1] - 1), rows + 1, rows)
    return key[:, late].contiguous(), value[:, late].contiguous()


def visual_only(q, k, window, visual):
    """Votes normalised over the visual keys alone."""
    return policy.attention(q[:, window], k[:, visual]).mean((0, 1))


def in_type(q, k):
    """Scores and softmax in the model's type, e.g. bf16."""
    k = k.repeat_interleave(q.shape[0] // k.shape[0], dim=0)
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1)


def population(i_v):
    i_v = i_v.double()
    return (((i_v - i_v.mean()) / i_v.std(correction=0)) ** 3).mean()


def mean_threshold(q, k, rows, alpha=0.9):
    att = policy.attention(q[:, rows[-1:]], k[:, rows])[:, 0].mean(0)
    return rows[att >= alpha * att.mean()]


def rounded_budgets(s_t, s_k, n_v, retention):
    """Each layer rounded by itself."""
    share = 0.5 * (policy.over_mean(s_t) + policy.over_mean(s_k))
    return [int(x) for x in (share * float(retention) * n_v).floor().clamp(max=n_v)]


def cache_length(prompt, fed, cache):
    return cache.get_seq_length()


def fp8_cache(key, value, rows):
    """A cache kept in 8 bits."""
    return tuple(x[:, rows].to(torch.float8_e4m3fn).to(x.dtype).contiguous() for x in (key, value))


@contextlib.contextmanager
def scaled_head(model, layer=2, head=4, factor=1.02):
    attention = text(model).layers[layer].self_attn
    mine = slice(head * attention.head_dim, (head + 1) * attention.head_dim)

    def scale(module, args):
        mix = args[0].clone()
        mix[..., mine] *= factor
        return (mix,)

    hook = attention.o_proj.register_forward_pre_hook(scale, prepend=True)
    try:
        yield
    finally:
        hook.remove()


def no_mask(model):
    stack = contextlib.ExitStack()
    for layer in text(model).layers:
        stack.enter_context(instead(layer.self_attn, "is_causal", False))
    return stack


def layer(model, index):
    return text(model).layers[index]


def wider_scale(model):
    attention = layer(model, 3).self_attn
    return instead(attention, "scaling", attention.scaling * 1.02)


def wrong_groups(model):
    return instead(modeling_qwen2, "repeat_kv", lambda x, times: x.repeat(1, times, 1, 1))


def relu(model):
    return instead(model.model.vision_tower.encoder.layers[0].mlp, "activation_fn", torch.nn.ReLU())


# name: (attention path, stage where it first shows, context that has the bug)
BUGS = {
    "attention not causal": ("sdpa", "decoder.00.mix", no_mask),
    "scale of attention 2 % too large, layer 3": ("sdpa", "decoder.03.mix", wider_scale),
    "one head 2 % too large": ("sdpa", "decoder.02.mix", scaled_head),
    "query heads on the wrong KV heads": ("eager", "decoder.00.mix", wrong_groups),
    "rotary angles in the type": ("sdpa", "decoder.00.query", rotary_in_type),
    "GELU for SiLU, layer 1": ("sdpa", "decoder.01.out", lambda m: instead(layer(m, 1).mlp, "act_fn", torch.nn.GELU())),
    "tower: ReLU for GELU, layer 0": ("sdpa", "vision.00.out", relu),
    "query bias left out, layer 2": (
        "sdpa",
        "decoder.02.query",
        lambda m: changed(layer(m, 2).self_attn.q_proj.bias, torch.Tensor.zero_),
    ),
    "RMS norm ε 1e-3": (
        "sdpa",
        "decoder.00.query",
        lambda m: instead(layer(m, 0).input_layernorm, "variance_epsilon", 1e-3),
    ),
    "newline rows of zeros": ("sdpa", "projector.out", lambda m: changed(m.model.image_newline, torch.Tensor.zero_)),
}
# The same where AirCache evicts.
EVICTION_BUGS = {
    "kept entries one row late": ("cache.00.key", policy, "evict", late_evict),
    "cache kept in fp8": ("cache.00.key", policy, "evict", fp8_cache),
    "votes over visual keys only": ("policy.00.importance", policy, "importance", visual_only),
    "elite by the mean": ("policy.*.window", policy, "elite", mean_threshold),
    "skewness of a population": ("policy.skewness", policy, "skewness", population),
    "budgets rounded layer by layer": ("policy.budget", policy, "budgets", rounded_budgets),
    "generation goes on at the cache's length": ("step.0000.logits", rc, "next_position", cache_length),
}
# No bug: what a port may do as well.
POLICY_IN_TYPE = "policy in the type"

# --- judging --------------------------------------------------------------------------------------------------------


def judge(args, where):
    """A verdict as the JSON of `check`."""
    command = [args.aircache, "check", "--json", "--threads", "2", *where]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        return {"first_divergence": "error: " + done.stderr.strip().splitlines()[-1], "stages": [], "verdict": "error"}
    return json.loads(done.stdout)


def summary(verdict):
    """The first divergence, the words, and the stage that used up most of its ruler."""
    stages = [s for s in verdict["stages"] if s["ratio"] is not None]
    first = next((s for s in verdict["stages"] if s["verdict"] == "fail"), None)
    worst = max(stages, key=lambda s: s["ratio"], default=None)
    slim = lambda s: s and {k: s[k] for k in ("stage", "statistic", "ratio", "words", "index", "expected", "got")}
    return {
        "first": verdict["first_divergence"] and (slim(first) or verdict["first_divergence"]),
        "failed": [s["stage"] for s in verdict["stages"] if s["verdict"] == "fail"],
        "admissible": [s["stage"] for s in verdict["stages"] if s["verdict"] == "admissible"],
        "not judged": sum(s["verdict"] == "not judged" for s in verdict["stages"]),
        "stages": len(verdict["stages"]),
        "worst": slim(worst),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aircache")
    parser.add_argument("--cases")
    parser.add_argument("--out")
    parser.add_argument("--tables", metavar="REPORT", help="only the tables of an earlier report")
    parser.add_argument("--keep")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--modes", nargs="*", default=[*TF32, "bf16", "f16"])
    parser.add_argument("--paths", nargs="*", default=PATHS)
    parser.add_argument("--retain", nargs="*", default=["", "0.1"])
    args = parser.parse_args()
    if args.tables:
        print("\n".join(tables([json.loads(line) for line in open(args.tables)])))
        return
    cases = json.load(open(args.cases))
    folder = args.keep or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    pool, jobs, goldens = ThreadPoolExecutor(8), [], {}
    asked = {c["name"]: rc.ask(c["model"], c["images"], c["prompt"], c["system"]) for c in cases}
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {rc.transformers.__version__}", file=sys.stderr)

    def question(case):
        words = [w for image in case["images"] for w in ("--image", image)] + ["--prompt", case["prompt"]]
        return ["--model", case["model"], *words, *(["--system", case["system"]] if case["system"] else [])]

    def golden(case, retain):
        path = f"{folder}/golden-{case['name']}-{retain or 'full'}.safetensors"
        evicts = ["--policy", "aircache", "--retain", retain] if retain else []
        command = [args.aircache, "record", "--quiet", *question(case), *evicts, "--max-new-tokens", "8", "--out", path]
        subprocess.run(command, check=True, capture_output=True)
        return path

    for case in cases:
        for retain in args.retain:
            goldens[case["name"], retain] = pool.submit(golden, case, retain)

    def candidate(case, mode, path, retain, model, bug=None):
        inputs, rendered = asked[case["name"]]
        out = f"{folder}/{case['name']}-{mode}-{path}-{retain or 'full'}-{bug or ''}.safetensors".replace(" ", "_")
        line = {"case": case["name"], "mode": mode, "path": path, "retain": retain, "bug": bug}
        try:
            about = {"precision": mode.split(",")[0], "prompt": rendered, "attention": path}
            rc.record(model, inputs, tokens=8, retain=retain or None, **about).save(out)
        except Exception as e:
            print(f"does not run: {line}: {str(e).splitlines()[0][:200]}", file=sys.stderr)
            return

        def verdicts():
            line["replay"] = summary(judge(args, [*question(case), out]))
            line["golden"] = summary(judge(args, [goldens[case["name"], retain].result(), out]))
            if not args.keep:
                os.remove(out)
            return line

        jobs.append(pool.submit(verdicts))

    for case in cases:
        for mode in args.modes:
            for path in args.paths:
                if not runs(path, mode):
                    continue
                kind = "eager" if path in ("eager", "compiled") else "sdpa"
                model = rc.load(case["model"], mode.split(",")[0], kind, args.device)
                if path == "compiled":
                    compiled(model)
                with setting(path, mode):
                    for retain in args.retain:
                        candidate(case, mode, path, retain, model)
                    if path == "sdpa":
                        with instead(policy, "attention", in_type):
                            candidate(case, mode, path, "0.1", model, POLICY_IN_TYPE)
                    if mode in ("f32, TF32", "f32, as it comes") or not case["bugs"]:
                        continue
                    for bug, (how, _, change) in BUGS.items():
                        # In f32 the type's angles are what transformers has.
                        if how == path and (bug, mode) != ("rotary angles in the type", "f32"):
                            with change(model):
                                candidate(case, mode, path, "", model, bug)
                    for bug, (_, *what) in EVICTION_BUGS.items():
                        if path == "sdpa":
                            with instead(*what):
                                candidate(case, mode, path, "0.1", model, bug)

    lines = [job.result() for job in jobs]
    with open(args.out, "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
    print("\n".join(tables(lines)))


def tables(lines):
    """The report in Markdown: honest candidates, types that are not what they say, bugs."""
    stage = {bug: at for bug, (_, at, _) in BUGS.items()} | {bug: at for bug, (at, *_) in EVICTION_BUGS.items()}
    honest = [l for l in lines if l["bug"] in (None, POLICY_IN_TYPE)]
    judges = ("replay", "golden")

    def share(those, test):
        return [f"{sum(map(test(how), those))} of {len(those)}" for how in judges]

    def failed(how):
        return lambda l: l[how]["first"] is not None

    def first(line, how):
        found = line[how]["first"]
        return found["stage"] if isinstance(found, dict) else found

    def located(how):
        return lambda l: first(l, how) is not None and fnmatch.fnmatch(first(l, how), stage[l["bug"]])

    def largest(those, how):
        ratios = [l[how]["worst"]["ratio"] for l in those if l[how]["worst"]]
        return f"{max(ratios):.2f}" if ratios else "–"

    yield "| type | attention | candidates | fail, by replay | by golden | largest ratio, by replay | by golden |"
    yield "|---|---|---|---|---|---|---|"
    for mode in dict.fromkeys(l["mode"] for l in honest):
        for path in PATHS:
            those = [l for l in honest if (l["mode"], l["path"]) == (mode, path)]
            if those:
                cells = [mode, path, str(len(those)), *(str(sum(map(failed(how), those))) for how in judges)]
                yield "| " + " | ".join(cells + [largest(those, how) for how in judges]) + " |"
    yield ""
    yield "| bug | first shows at | types | found by replay | there | found by golden | there |"
    yield "|---|---|---|---|---|---|---|"
    for bug, at in stage.items():
        those = [l for l in lines if l["bug"] == bug]
        if those:
            (found, by_golden), (there, golden_there) = share(those, failed), share(those, located)
            modes = ", ".join(dict.fromkeys(l["mode"] for l in those))
            yield f"| {bug} | `{at}` | {modes} | {found} | {there} | {by_golden} | {golden_there} |"
    yield ""
    bugs = [l for l in lines if l["bug"] in stage]
    yield "all bugs: " + "; ".join(
        f"{mode}: found by replay {a}, by golden {b}, located {c}, {d}"
        for mode in dict.fromkeys(l["mode"] for l in bugs)
        for those in [[l for l in bugs if l["mode"] == mode]]
        for (a, b), (c, d) in [(share(those, failed), share(those, located))]
    )


if __name__ == "__main__":
    main()
