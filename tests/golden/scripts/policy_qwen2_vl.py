"""Results of every policy on the prefill of a Qwen2-VL toy (`qwen2_vl/hub-bf16`), and the tokens it writes after eviction.

As `policy_demo.py`: transformers computes, with everything in float64 that it keeps in float32 even in a doubled model,
but for the rotary angles: frequency and angle are float32, cosine and sine float64. The vision tower's rotation is float64.
"""
import torch
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl import modeling_qwen2_vl as module

import policy_demo as demo
import policy_toy


def text_rotary(self, x, position_ids):
    angle = (position_ids[..., None].float() * self.inv_freq.float()).double()  # [3, batch, n, d_h / 2]
    parts = angle.split(self.mrope_section, dim=-1)
    angle = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def vision_rotary(self, x, position_ids):
    angle = (position_ids[..., None].float() * self.inv_freq.float()).double().flatten(1)  # [n, d_h / 2]: rows, then columns
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def vision_turn(q, k, cos, sin):
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return q * cos + module.rotate_half(q) * sin, k * cos + module.rotate_half(k) * sin


def patch(_model):
    module.Qwen2VLRMSNorm.forward = demo.norm
    module.eager_attention_forward = policy_toy.by_kind(module.VisionAttention)
    module.apply_rotary_pos_emb_vision = vision_turn
    module.Qwen2VLRotaryEmbedding.forward = text_rotary
    module.Qwen2VLVisionRotaryEmbedding.forward = vision_rotary


if __name__ == "__main__":
    policy_toy.main("hub-bf16", "qwen2_vl", policy_toy.loader(Qwen2VLForConditionalGeneration), patch)
