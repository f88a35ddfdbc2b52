"""Results of every policy on the prefill of an InternVL toy (`internvl/qwen2-bf16`), and the tokens it writes after eviction.

As `policy_qwen2_vl.py`: transformers computes, with everything in float64 that it keeps in float32 even in a doubled
model, but for the rotary angles: frequency and angle are float32, cosine and sine float64.
"""
from transformers.models.internvl import modeling_internvl as vision
from transformers.models.qwen2 import modeling_qwen2 as module

import policy_demo as demo
import policy_toy
import record_internvl as record


def patch(model):
    module.Qwen2RMSNorm.forward = demo.norm
    module.eager_attention_forward = demo.text_attention
    vision.eager_attention_forward = demo.vision_attention
    rotary = model.model.language_model.rotary_emb
    rotary.forward = demo.rotary("f32-angle", model.config.text_config, rotary.inv_freq.float())


if __name__ == "__main__":
    policy_toy.main("qwen2-bf16", "internvl", record, patch)
