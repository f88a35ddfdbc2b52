"""Results of every policy on the prefill of a Qwen3-VL toy (`qwen3_vl/hub-bf16`), and the tokens it writes after eviction.

As `policy_qwen2_5_vl.py`. Made by transformers 5.24.0, torch 2.15.0.
"""
import torch
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl import modeling_qwen3_vl as module

import policy_demo as demo
import policy_toy
from policy_qwen2_vl import vision_rotary, vision_turn


def text_rotary(self, x, position_ids):
    angle = (position_ids[..., None].float() * self.inv_freq.float()).double()  # [3, batch, n, d_h / 2]
    axis = [i % 3 if i < 3 * self.mrope_section[i % 3] else 0 for i in range(angle.shape[-1])]
    angle = torch.stack([angle[a, ..., i] for i, a in enumerate(axis)], dim=-1)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def patch(_model):
    module.Qwen3VLTextRMSNorm.forward = demo.norm
    module.eager_attention_forward = policy_toy.by_kind(module.Qwen3VLVisionAttention)
    module.apply_rotary_pos_emb_vision = vision_turn
    module.Qwen3VLTextRotaryEmbedding.forward = text_rotary
    module.Qwen3VLVisionRotaryEmbedding.forward = vision_rotary


if __name__ == "__main__":
    policy_toy.main("hub-bf16", "qwen3_vl", policy_toy.loader(Qwen3VLForConditionalGeneration), patch)
