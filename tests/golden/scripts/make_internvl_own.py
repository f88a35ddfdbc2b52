"""Makes tests/golden/internvl_own/: tiny random checkpoints in InternVL's own form with the decoders of later sizes, and
what transformers makes of the same weights.

Usage: make_internvl_own.py DEMO_MODEL_FOLDER [CASE ...]     (the demo model gives the tokenizer)
Made by transformers 5.24.0, torch 2.15.0, Pillow 13.0.0.

InternVL's own code is in no package registry. transformers' InternVL computes the same function (golden/internvl2 holds the
own code of InternVL2 against it): weights are made there and saved under the own form's names, and the image is one tile,
so that nothing is resized. Phi-3 is transformers' Phi3ForCausalLM on embeddings, as InternVL calls it: a run that crosses
the trained length then keeps its old keys.

The case with frames needs the environment variable LMMS_EVAL: a git repository with the commit that make_metrics.py names. Its
`load_video`, which is that of InternVL's pages, chooses the frames and makes the pixels, in float64.
"""
import json
import os
import pathlib
import re
from types import SimpleNamespace

import numpy as np
import torch
import torchvision.transforms
from PIL import Image
from tokenizers import Tokenizer
from transformers import InternVLConfig, InternVLForConditionalGeneration, Phi3Config, Phi3ForCausalLM
from transformers.models.phi3 import modeling_phi3

import toys
from make_internvl import CONTEXT, FIRST, SPECIAL
from make_metrics import LMMS, take
from record import Stages, bundle, decoder
from record import run as watched_run
from record_internvl import InternVLStages
from toys import DTYPE, HUB_DTYPE, save, tokenizer, weights

HERE = pathlib.Path(__file__).parent.parent / "internvl_own"
# What conversation.py of InternVL says around turns.
HERMES_2 = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
WANXIANG = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
TEMPLATES = {"internvl2_5": ("<|im_end|>\n", WANXIANG), "Hermes-2": ("<|im_end|>", HERMES_2)}

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "vocab_size": 496, "rope_theta": 1000000.0, "tie_word_embeddings": False,
}  # fmt: skip
LONG = {"type": "su", "short_factor": [1.05, 1.2, 2.0, 3.05], "long_factor": [1.03, 4.0, 20.0, 64.81]}
PHI3 = {
    **SMALL, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 262144,
    "max_position_embeddings": 4096, "rope_scaling": LONG, "pad_token_id": 486, "bos_token_id": 487, "eos_token_id": 488,
}  # fmt: skip
BASE = {"template": "internvl2_5", "@dtype": "bf16", "@names": "own", "@shards": 1}
CASES = {
    "qwen2-internvl3": dict(
        what="InternVL2.5 and InternVL3: Qwen2.5, dynamic NTK scaling that is not reached", images=[(16, 16)], prompt="What is it?",
        config={"llm": {**SMALL, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0}}},
    ),
    "qwen3-internvl3-5": dict(
        what="InternVL3.5: Qwen3 with heads of its own size, two images", images=[(16, 16), (16, 16)], prompt="Which is blue?",
        config={"llm": {**SMALL, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}},
    ),
    "clip": dict(
        what="Three frames of nine, which are resized: those that InternVL's pages choose", frames=[(20, 33)] * 9, choose={"num_frames": 3}, prompt="What happens?",
        config={"llm": {**SMALL, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}},
    ),
    "phi3-long": dict(what="Phi-3 with a prompt longer than the 64 trained positions: long factors", images=[], prompt="Read.", config={"llm": {**PHI3, "original_max_position_embeddings": 64}}),
    "phi3-crossing": dict(what="Phi-3 whose answer crosses the trained length: the first keys keep the short factors", images=[], prompt="Read.", config={"llm": {**PHI3, "original_max_position_embeddings": 0}}),
    "phi3-plain": dict(what="Phi-3 without scaling, 2 KV heads", images=[], prompt="Read.", config={"llm": {**PHI3, "rope_scaling": None, "num_key_value_heads": 2}}),
}  # fmt: skip
MEAN_STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
NOW = {}  # the model of the folder that was made last


def doubled(model, dtype):
    """In float64, with weights that were stored in dtype. Not `model.to(dtype)`, which rounds the rotary tables too."""
    for p in model.parameters():
        p.data = p.data.to(dtype).float()
    return model.double().eval()


def prompt_of(options, prompt, images):
    separator, message = TEMPLATES[options["template"]]
    return f"<|im_start|>system\n{message}{separator}<|im_start|>user\n{'<image>' + chr(10) if images else ''}{('<image>' + chr(10)) * (images - 1)}{prompt}{separator}<|im_start|>assistant\n"


def own(name):
    """From the names modules have in transformers to those of InternVL's own form; q, k, v are joined afterwards."""
    if name.startswith(("model.language_model.", "lm_head.")):
        return "language_model." + re.sub(r"^model\.language_model\.", "model.", name)
    name = re.sub(r"^model\.vision_tower\.", "vision_model.", name).replace("encoder.layer.", "encoder.layers.")
    for theirs, ours in {
        "cls_token": "class_embedding", "patch_embeddings.projection": "patch_embedding", "position_embeddings": "position_embedding",
        "attention.projection_layer": "attn.proj", "layernorm_before": "norm1", "layernorm_after": "norm2", "lambda_": "ls",
        "model.multi_modal_projector.layer_norm": "mlp1.0", "model.multi_modal_projector.linear_1": "mlp1.1", "model.multi_modal_projector.linear_2": "mlp1.3",
    }.items():  # fmt: skip
        name = name.replace(theirs, ours)
    return name


def checkpoint(folder, options, seed, demo):
    folder.mkdir(parents=True)
    llm = dict(options["llm"])
    vision = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4,
        "hidden_act": "gelu", "layer_norm_eps": 1e-6,
    }  # fmt: skip
    tokenizer(folder, demo, SPECIAL, FIRST)
    text = prompt_of(options, "Read.", 0)
    n = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids)
    if llm.get("original_max_position_embeddings") == 0:
        llm["original_max_position_embeddings"] = n + 6
    phi3 = llm["model_type"] == "phi3"
    # The vision side always comes from transformers' InternVL; Phi-3 is run by itself.
    inner = {k: v for k, v in (SMALL | {"model_type": "qwen2"} if phi3 else llm).items()}
    hf = {"text_config": inner, "vision_config": {**vision, "model_type": "internvl_vision", "attention_bias": True}, "image_token_id": CONTEXT, "image_seq_length": 4, "tie_word_embeddings": False}
    model = InternVLForConditionalGeneration._from_config(InternVLConfig(**hf), attn_implementation="eager")
    weights(model, seed, ("norm", "lambda"), ("embed_tokens", "cls_token", "position_embeddings"))
    dtype = DTYPE[options["@dtype"]]
    tensors = {own(k): v.to(dtype) for k, v in model.state_dict().items()}
    NOW["model"] = doubled(model, dtype)
    if phi3:
        given = {k: v for k, v in llm.items() if k not in ("architectures", "rope_theta")}
        if given["rope_scaling"]:
            given["rope_scaling"] = {**LONG, "type": "longrope", "rope_type": "longrope", "rope_theta": llm["rope_theta"]}
            assert n > llm["original_max_position_embeddings"] or options["llm"]["original_max_position_embeddings"] == 0
        config = Phi3Config(**given)
        text = Phi3ForCausalLM._from_config(config, attn_implementation="eager")
        weights(text, seed, ("norm",), ("embed_tokens",), r"qkv_proj|lm_head")
        tensors = {k: v for k, v in tensors.items() if not k.startswith("language_model.")}
        tensors |= {f"language_model.{k}": v.to(dtype) for k, v in text.state_dict().items()}
        NOW["model"] = doubled(text, dtype)
    for i in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{i}."
        for part in ("weight", "bias"):
            tensors[f"{at}attn.qkv.{part}"] = torch.cat([tensors.pop(f"{at}attention.{x}_proj.{part}") for x in "qkv"])
    own_vision = {**vision, "model_type": "intern_vit_6b", "norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True}
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "torch_dtype": HUB_DTYPE[options["@dtype"]], "template": options["template"],
        "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1, "dynamic_image_size": True, "use_thumbnail": True, "min_dynamic_patch": 1,
        "max_dynamic_patch": 12, "force_image_size": 16, "llm_config": llm, "vision_config": own_vision,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [488, 486]}) + "\n")

    class Made:
        config = model.config

        def state_dict(self):
            return tensors

    save(folder, Made(), lambda name, style: name, options)
    NOW["options"] = options


class Phi3Stages(Stages):
    def __init__(self, model):
        super().__init__(model.model, modeling_phi3, modeling_phi3.Phi3Attention)


class Embedded:
    """Phi-3 as InternVL calls it: with embeddings of the prompt, not with its ids."""

    def __init__(self, model):
        self.model, self.inner = model.model, model

    def __call__(self, input_ids, **more):
        return self.inner(inputs_embeds=self.model.embed_tokens(input_ids), **more)


class Film:
    """What `load_video` takes for a film: its frames."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, frame):
        return SimpleNamespace(asnumpy=lambda: np.array(Image.open(self.files[frame]).convert("RGB")))

    def get_avg_fps(self):
        return 24.0


def load_video(files, frames):
    """The pixels of the frames, [frames, 3, 16, 16], and the text before the question, by lmms-eval's own code."""
    names = ["IMAGENET_MEAN", "IMAGENET_STD", "build_transform", "find_closest_aspect_ratio", "dynamic_preprocess", "get_index", "load_video"]
    kit = take(os.environ["LMMS_EVAL"], LMMS, "lmms_eval/models/simple/internvl2.py", *names)
    mode = torchvision.transforms.InterpolationMode
    kit |= {"T": torchvision.transforms, "InterpolationMode": mode, "Image": Image, "torch": torch, "VideoReader": lambda path, **_: Film(files), "cpu": lambda _: None}
    torch.set_default_dtype(torch.float64)
    pixels, tiles = kit["load_video"]("", input_size=16, num_segments=frames)
    torch.set_default_dtype(torch.float32)
    assert tiles == [1] * frames
    return pixels.float(), "".join(f"Frame{i + 1}: <image>\n" for i in range(frames))


@torch.no_grad()
def record(folder, prompt, system, image_files, tokens=16, steps=2, film=False, choose=None):
    model, options = NOW["model"], NOW["options"]
    clip, before = load_video(image_files, choose["num_frames"]) if film else (None, "")
    rendered = prompt_of(options, before + prompt, 0 if film else len(image_files))
    text = rendered.replace("<image>", "<img>" + "<IMG_CONTEXT>" * 4 + "</img>")
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    inputs = {"input_ids": torch.tensor([ids])}
    phi3 = isinstance(model, Phi3ForCausalLM)
    if film:
        inputs["pixel_values"] = clip
    elif image_files:  # ToTensor and Normalize as a float64 run of InternVL's own code computes them
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(f).convert("RGB"))).permute(2, 0, 1) for f in image_files]).double() / 255
        mean, std = (torch.tensor(x, dtype=torch.float64).view(1, 3, 1, 1) for x in MEAN_STD)
        inputs["pixel_values"] = ((pixels - mean) / std).float()
    seen, logits, out = watched_run(Embedded(model) if phi3 else model, inputs, tokens, Phi3Stages if phi3 else InternVLStages)
    visual = np.array(ids) == CONTEXT
    keep = {"input.ids": np.array(ids), "output.ids": np.array(out)}
    if image_files:
        keep["input.pixels"] = inputs["pixel_values"].numpy()
        for name, tensor in seen.items():
            if name.startswith(("vision.", "projector.")):
                keep[name] = tensor.numpy().astype(np.float32)
        keep["projector.out"] = keep["projector.out"].reshape(-1, keep["projector.out"].shape[-1])
    decoder(keep, seen, logits, steps)
    return bundle("internvl_chat", rendered, rendered, keep, logits, visual, image_files, {}, "pillow" if image_files else "")


if __name__ == "__main__":
    toys.main(HERE, BASE, CASES, checkpoint, record, [])
