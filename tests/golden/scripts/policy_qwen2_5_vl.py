"""Results of every policy on the prefill of a Qwen2.5-VL toy (`qwen2_5_vl/hub-bf16`), and the tokens it writes after eviction.

As `policy_qwen2_vl.py`. Made by transformers 5.24.0, torch 2.15.0.
"""
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as module

import policy_demo as demo
import policy_toy
from policy_qwen2_vl import text_rotary, vision_rotary, vision_turn


def patch(_model):
    module.Qwen2_5_VLRMSNorm.forward = demo.norm
    module.eager_attention_forward = policy_toy.by_kind(module.Qwen2_5_VLVisionAttention)
    module.apply_rotary_pos_emb_vision = vision_turn
    module.Qwen2_5_VLRotaryEmbedding.forward = text_rotary
    module.Qwen2_5_VLVisionRotaryEmbedding.forward = vision_rotary


if __name__ == "__main__":
    policy_toy.main("hub-bf16", "qwen2_5_vl", policy_toy.loader(Qwen2_5_VLForConditionalGeneration), patch)
