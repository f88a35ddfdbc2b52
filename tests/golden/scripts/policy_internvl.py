"""Results of every policy on the prefill of an InternVL toy, and the tokens it writes after eviction.

Usage: policy_internvl.py [qwen2-bf16 | qwen3-bf16]     (the latter by transformers 5.24.0, torch 2.15.0)

As `policy_qwen2_vl.py`: transformers computes, with everything in float64 that it keeps in float32 even in a doubled
model, but for the rotary angles: frequency and angle are float32, cosine and sine float64.
"""
import sys

from transformers.models.internvl import modeling_internvl as vision
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

import policy_demo as demo
import policy_toy
import record_internvl as record


def patch(model):
    modeling_qwen2.Qwen2RMSNorm.forward = modeling_qwen3.Qwen3RMSNorm.forward = demo.norm
    modeling_qwen2.eager_attention_forward = modeling_qwen3.eager_attention_forward = demo.text_attention
    vision.eager_attention_forward = demo.vision_attention
    rotary = model.model.language_model.rotary_emb
    rotary.forward = demo.rotary("f32-angle", model.config.text_config, rotary.inv_freq.float())


if __name__ == "__main__":
    policy_toy.main(sys.argv[1] if sys.argv[1:] else "qwen2-bf16", "internvl", record, patch)
