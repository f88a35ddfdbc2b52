"""Results of every policy on the demo model's real prefill, and the tokens it writes after eviction.

transformers computes, with everything in float64 that it keeps in float32 even in a doubled model: the inside of the RMS
norms and both softmaxes are float64 here. The rotary tables have no one truth, so four recipes are recorded (`ROTARY`).
Queries and keys are not stored: whoever has the model recomputes them.
"""
import json
import os
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.siglip import modeling_siglip

import policy_make as make_
import policy_twin as twin

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LINES = [7, 3, 6, 13, 20, 55, 236]      # of questions.jsonl, counted from 0
RETAIN, OTHERS = ["0.5", "0.3", "0.1", "0.02"], ["0.1"]
DECODE = [("aircache", "0.5"), ("aircache", "0.3"), ("aircache", "0.1"), ("heads=kv", "0.3")]
VARIANTS = ["heads=union", "heads=kv", "keys=all", "keys=causal", "mask=causal", "text=all", "text=question", "window=elite:0",
            "window=elite:0.1", "window=last-text:16", "window=last-text:32", "window=all-text", "window=last-visual:32", "window=all-queries"]
ROTARY = {
    "f32-angle": "frequency float32, angle rounded to float32, cosine and sine in float64 (the main results)",
    "exact-angle": "frequency float32, angle, cosine and sine in float64",
    "f32-table": "frequency, angle, cosine and sine in float32, as transformers",
    "f64": "theta^(-2i/d) and all that follows in float64",
}
TOKENS = 64
STATE = SimpleNamespace(seen=None, evicted=None)


# ---------------------------------------------------------------- the model, all of it in float64

def norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def vision_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    a = torch.softmax(query @ key.transpose(-1, -2) * scaling, dim=-1)
    return (a @ value).transpose(1, 2).contiguous(), a


def text_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Causal attention with this layer's evicted entries masked out; shows queries and keys to STATE.seen."""
    group = query.shape[1] // key.shape[1]
    if STATE.seen is not None:
        STATE.seen[module.layer_idx] = (query[0].clone().numpy(), key[0].clone().numpy())
    s = query @ key.repeat_interleave(group, 1).transpose(2, 3) * scaling
    rows, keys = s.shape[-2:]
    s = s.masked_fill(torch.arange(keys)[None] > torch.arange(keys - rows, keys)[:, None], -torch.inf)
    if STATE.evicted is not None:
        gone = STATE.evicted[module.layer_idx]                  # [G, n]
        s[..., : gone.shape[-1]] = s[..., : gone.shape[-1]].masked_fill(gone.repeat_interleave(group, 0)[None, :, None], -torch.inf)
    a = torch.softmax(s, dim=-1)
    return (a @ value.repeat_interleave(group, 1)).transpose(1, 2).contiguous(), a


def rotary(recipe, config, frequency):
    dim = config.hidden_size // config.num_attention_heads

    def forward(x, position_ids):
        f, p = frequency, position_ids[0].float()
        if recipe == "f64":
            f, p = config.rope_parameters["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim), p.double()
        if recipe == "exact-angle":
            f, p = f.double(), p.double()
        angle = p[:, None] * f[None]
        angle = angle if recipe == "f32-table" else angle.double()
        angle = torch.cat([angle, angle], -1)[None]
        return angle.cos().double(), angle.sin().double()

    return forward


def load(folder):
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    frequency = model.model.language_model.rotary_emb.inv_freq.clone()
    model = model.double().eval()
    assert torch.equal(model.model.language_model.rotary_emb.inv_freq.float(), frequency)
    model.set_rotary = lambda recipe: setattr(model.model.language_model.rotary_emb, "forward", rotary(recipe, model.config.text_config, frequency))
    return model, AutoProcessor.from_pretrained(folder)


def prepare(processor, folder, question):
    parts = [{"role": "system", "content": [{"type": "text", "text": question["system"]}]}] if question["system"] is not None else []
    parts += [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question["question"]}]}]
    text = processor.apply_chat_template(parts, add_generation_prompt=True, tokenize=False)
    inputs = dict(processor(text=[text], images=[[Image.open(folder / question["image"])]], return_tensors="pt"))
    inputs["pixel_values"] = inputs["pixel_values"].double()
    return inputs


def prefill(model, inputs):
    """Logits of the last row, cache, queries [L, H, n, d], keys [L, G, n, d]."""
    STATE.seen = {}
    out = model(**inputs, use_cache=True)
    seen, STATE.seen = STATE.seen, None
    q, k = (np.stack([seen[l][i] for l in sorted(seen)]) for i in (0, 1))
    return out.logits[0, -1], out.past_key_values, q, k


def write(model, inputs, evicted, stop):
    """Greedy tokens after eviction (evicted: [L] of [G, n] bool, or None), and the smallest gap between the two best logits."""
    logits, cache, _, _ = prefill(model, inputs)
    ids, gap = [], np.inf
    STATE.evicted = evicted
    while True:
        best = logits.topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
        if ids[-1] in stop or len(ids) == TOKENS:
            break
        logits = model(input_ids=torch.tensor([[ids[-1]]]), past_key_values=cache, use_cache=True).logits[0, -1]
    STATE.evicted = None
    return ids, gap


def evicted_rows(kept, roles, groups):
    """Kept visual tokens of a plan -> what is masked out, per layer [G, n]."""
    v = twin.visual_rows(roles)
    out = []
    for layer in kept:
        gone = np.zeros((groups, len(roles)), bool)
        for g in range(groups):
            gone[g, np.setdiff1d(v, v[layer[g] if layer and isinstance(layer[0], list) else layer])] = True
        out.append(torch.from_numpy(gone))
    return out


@torch.no_grad()
def make(folder, target):
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.safetensors"):
        old.unlink()
    questions = [json.loads(line) for line in open(folder / "questions.jsonl")]
    model, processor = load(folder)
    plain = (modeling_qwen2.Qwen2RMSNorm.forward, modeling_qwen2.eager_attention_forward, modeling_siglip.eager_attention_forward)
    pure = (norm, text_attention, vision_attention)

    def patch(functions):
        modeling_qwen2.Qwen2RMSNorm.forward, modeling_qwen2.eager_attention_forward, modeling_siglip.eager_attention_forward = functions

    patch(pure)
    tokens_of = lambda text: processor.tokenizer.encode(text, add_special_tokens=False)
    tail = tokens_of("<|im_end|><|im_start|>assistant\n")
    stop = set(model.generation_config.eos_token_id)
    for line in LINES:
        question = questions[line]
        inputs = prepare(processor, folder, question)
        ids = inputs["input_ids"][0].numpy()
        roles = (ids == model.config.image_token_id).astype(np.uint8)
        assert list(ids[-len(tail):]) == tail and roles.sum() == question["visual_tokens"]
        tensors, notes, undecided = {"input.ids": ids, "input.roles": roles}, {}, []
        differ, sensitive = {}, []
        for recipe in ROTARY:
            model.set_rotary(recipe)
            _, _, q, k = prefill(model, inputs)
            case = SimpleNamespace(q=q, k=k, roles=roles, tail=len(tail))
            if recipe == "f32-angle":
                main = case
            for name in ["aircache"] + VARIANTS + make_.METHODS:
                first = recipe == "f32-angle"
                new = make_.variant(case, name, notes if first else {}, undecided if first else [], RETAIN if name == "aircache" else OTHERS, 1e-9, np.int64)
                if first:
                    tensors.update(new)
                    continue
                if name == "aircache":
                    i, reference = new["aircache/importance"], tensors["aircache/importance"]
                    tensors[f"rotary.{recipe}/importance"] = i
                    differ[recipe] = float((np.abs(i - reference) / np.abs(reference)).max())
                for what in ("window", "budget", "kept"):
                    if f"{name}/{what}" in new and not np.array_equal(new[f"{name}/{what}"], tensors[f"{name}/{what}"]):
                        sensitive.append([name, what, recipe])
        model.set_rotary("f32-angle")
        full, gap = write(model, inputs, None, stop)
        assert processor.tokenizer.decode(full, skip_special_tokens=True).strip() == question["hf_output"].strip()
        written = {"full": [processor.tokenizer.decode(full), gap]}
        tensors["full/output.ids"] = np.array(full)
        for name, r in DECODE:
            policy = twin.parse(name)
            layers = [twin.observe(policy, main.q[l], main.k[l], roles.astype(int)) for l in range(len(main.q))]
            _, kept = twin.plan(policy, r, layers, int(roles.sum()), main.k.shape[1])
            out, gap = write(model, inputs, evicted_rows(kept, roles, main.k.shape[1]), stop)
            tensors[f"{name}@{r}/output.ids"] = np.array(out)
            written[f"{name}@{r}"] = [processor.tokenizer.decode(out), gap]
        make_.save_file(tensors, target / f"line{line:03}.safetensors", {
            "format": "aircache-bundle",
            "line": str(line), "image": question["image"], "question": question["question"], "system": json.dumps(question["system"]),
            "tail": str(len(tail)), "retain": json.dumps(RETAIN), "retain.others": json.dumps(OTHERS), "rules": json.dumps(make_.RULES),
            "variants": json.dumps(["aircache"] + VARIANTS), "methods": json.dumps(make_.METHODS), "undecided": json.dumps(undecided),
            "margins": json.dumps(notes), "written": json.dumps(written), "rotary": json.dumps(ROTARY), "rotary.differ": json.dumps(differ), "rotary.sensitive": json.dumps(sensitive)})
        print(line, question["image"], len(ids), int(roles.sum()), {a: f"{b:.1e}" for a, b in notes.items()}, undecided, flush=True)
        print("   ", differ, sensitive, "\n   ", written, flush=True)
