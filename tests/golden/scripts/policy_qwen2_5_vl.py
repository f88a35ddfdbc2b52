"""Results of every policy on the prefill of a Qwen2.5-VL toy (`qwen2_5_vl/hub-bf16`), and the tokens it writes after eviction.

As `policy_qwen2_vl.py`. Made by transformers 5.24.0, torch 2.15.0.
"""
from types import SimpleNamespace

import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as module

import policy_demo as demo
import policy_toy
from policy_qwen2_vl import text_rotary, vision_rotary, vision_turn


def load(folder):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.double().eval(), AutoProcessor.from_pretrained(folder), None


def attention(layer, *args, **kwargs):
    vision = isinstance(layer, module.Qwen2_5_VLVisionAttention)
    return (demo.vision_attention if vision else demo.text_attention)(layer, *args, **kwargs)


def patch(_model):
    module.Qwen2_5_VLRMSNorm.forward = demo.norm
    module.eager_attention_forward = attention
    module.apply_rotary_pos_emb_vision = vision_turn
    module.Qwen2_5_VLRotaryEmbedding.forward = text_rotary
    module.Qwen2_5_VLVisionRotaryEmbedding.forward = vision_rotary


if __name__ == "__main__":
    policy_toy.main("hub-bf16", "qwen2_5_vl", SimpleNamespace(load=load), patch)
