"""Results of every policy on prefills of InternVL2's own form (`internvl2/qwen2`, `internvl2/internlm2-two-images`, `internvl2/phi3`), and the tokens written after eviction.

That form's code runs with transformers 4.37 alone and shows no queries. So its checkpoints are read here, name by name, into the modules that
transformers 5 has for the other form (InternLM2 is a Llama whose queries, keys and values lie in one matrix, by KV head), made float64 as in `policy_internvl.py`; ids and
pixels are those that the own code made. Before anything is judged by them, these modules have to compute what the own code computed: keys, values and
logits within 1e-5, the same 16 tokens.
"""
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.internvl import modeling_internvl as vision
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3
from transformers.models.qwen2 import modeling_qwen2

import policy_demo as demo
import policy_toy
import record

NAMES = [
    (r"^vision_model\.embeddings\.class_embedding", "model.vision_tower.embeddings.cls_token"),
    (r"^vision_model\.embeddings\.patch_embedding", "model.vision_tower.embeddings.patch_embeddings.projection"),
    (r"^vision_model\.embeddings\.position_embedding", "model.vision_tower.embeddings.position_embeddings"),
    (r"^vision_model\.encoder\.layers\.", "model.vision_tower.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.ls([12])$", r".lambda_\1"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.(lm_head|output)\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
]


def parts(name, tensor, text):
    """A tensor under the names of modules; those of several in one are taken apart."""
    if ".attn.qkv." in name:
        for which, part in zip("qkv", tensor.chunk(3)):
            yield name.replace(".attn.qkv.", f".attention.{which}_proj."), part
    elif ".attention.wqkv." in name:
        each = text["num_attention_heads"] // text["num_key_value_heads"]
        groups = tensor.unflatten(0, (text["num_key_value_heads"], each + 2, -1))
        for which, part in zip("qkv", (groups[:, :each], groups[:, each], groups[:, each + 1])):
            yield name.replace(".attention.wqkv.", f".self_attn.{which}_proj."), part.reshape(-1, tensor.shape[1])
    else:
        yield name, tensor


def load(folder):
    says = json.loads((folder / "config.json").read_text())
    text, tower = says["llm_config"], says["vision_config"]
    keys = ("vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps", "tie_word_embeddings")
    kind = {"qwen2": "qwen2", "internlm2": "llama", "phi3": "phi3"}[text["model_type"]]
    rope = {"rope_type": (text.get("rope_scaling") or {}).get("type", "default"), "rope_theta": float(text["rope_theta"])}
    if kind == "phi3":
        keys += ("original_max_position_embeddings",)
        factors = {k: text["rope_scaling"][k] for k in ("short_factor", "long_factor")}
        rope |= {"rope_type": "longrope", **factors, "original_max_position_embeddings": text["original_max_position_embeddings"]}
    elif text.get("rope_scaling"):
        rope["factor"] = text["rope_scaling"]["factor"]
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "layer_norm_eps", "hidden_act", "norm_type")
    tokens = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    ids = {token["content"]: int(i) for i, token in tokens.items()}
    config = InternVLConfig(
        vision_config={**{k: tower[k] for k in sizes}, "attention_bias": tower["qkv_bias"], "use_qk_norm": tower["qk_normalization"]},
        text_config={**{k: text[k] for k in keys}, "model_type": kind, "pad_token_id": None, "rope_parameters": rope},
        image_token_id=ids["<IMG_CONTEXT>"], downsample_ratio=says["downsample_ratio"], vision_feature_layer=says["select_layer"], tie_word_embeddings=text["tie_word_embeddings"],
    )  # fmt: skip
    config._attn_implementation = "eager"
    model, tensors = InternVLForConditionalGeneration(config), {}
    for name, tensor in load_tensors(folder / "model.safetensors").items():
        for name, tensor in parts(name, tensor, text):
            for pattern, by in NAMES:
                name = re.sub(pattern, by, name)
            tensors[name] = tensor.float()
    model.load_state_dict(tensors, strict=True)
    model.end = ids["<|end|>" if kind == "phi3" else "<|im_end|>"]
    return model.double().eval(), None, None


def prepare(model, _processor, folder, _about):
    """What the own code read, and how many rows there are from the end of the last turn on. The modules compute what it computed."""
    own = load_file(folder / "expected.safetensors")
    inputs = {"input_ids": torch.from_numpy(own["input.ids"])[None], "pixel_values": torch.from_numpy(own["input.pixels"]).double()}
    out = model(**inputs, use_cache=True)

    def close(ours, theirs, what):
        off = (ours - torch.from_numpy(theirs)).abs().max() / torch.from_numpy(theirs).abs().max()
        assert off < 1e-5, (what, off)

    close(out.logits[0, -1], own["decoder.logits"], "logits")
    for i, layer in enumerate(out.past_key_values.layers):
        close(layer.keys[0], own[f"decoder.{i:02}.key"], f"keys {i}")
        close(layer.values[0], own[f"decoder.{i:02}.value"], f"values {i}")
    _, _, ids = record.run(model, inputs, policy_toy.TOKENS, lambda _: Unwatched())
    assert ids == own["output.ids"].tolist(), "tokens"
    return inputs, len(own["input.ids"]) - max(i for i, id in enumerate(own["input.ids"]) if id == model.end)


class Unwatched:
    seen, close = {}, lambda self: None


def longrope(config):
    """Cosine and sine of Phi-3: the angle float32, the rest float64."""
    rope, d_h, most = config.rope_parameters, config.hidden_size // config.num_attention_heads, config.original_max_position_embeddings
    scale = (1 + np.log(config.max_position_embeddings / most) / np.log(most)) ** 0.5
    power = torch.tensor(rope["rope_theta"]) ** (torch.arange(0, d_h, 2).float() / d_h)

    def forward(x, position_ids):
        factors = torch.tensor(rope["long_factor" if int(position_ids.max()) + 1 > most else "short_factor"])
        angle = (position_ids[0].float()[:, None] * (1 / (factors * power))[None]).double()
        angle = torch.cat([angle, angle], -1)[None]
        return angle.cos() * scale, angle.sin() * scale

    return forward


def patch(model):
    modeling_qwen2.Qwen2RMSNorm.forward = modeling_llama.LlamaRMSNorm.forward = modeling_phi3.Phi3RMSNorm.forward = demo.norm
    modeling_qwen2.eager_attention_forward = modeling_llama.eager_attention_forward = modeling_phi3.eager_attention_forward = demo.text_attention
    vision.eager_attention_forward = demo.vision_attention
    rotary = model.model.language_model.rotary_emb
    if model.config.text_config.model_type == "phi3":
        rotary.forward = longrope(model.config.text_config)
        return
    rotary.forward = demo.rotary("f32-angle", model.config.text_config, rotary.inv_freq.float())


if __name__ == "__main__":
    for case in sys.argv[1:] or ("qwen2", "internlm2-two-images", "phi3"):
        policy_toy.main(case, "internvl2", SimpleNamespace(load=load), patch, prepare)
