"""Writes ../rotary/inv_freq.json: the inverse frequencies transformers computes (float32, as bits) for Qwen2.

Also says how far they are from the correctly rounded ones.
"""
import json
import pathlib
from decimal import Decimal, getcontext

import numpy as np
import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

getcontext().prec = 60
cases = []
for theta in (500.0, 10000.0, 1000000.0, 5000000.0):
    for dim in (2, 6, 8, 12, 16, 32, 64, 80, 128):
        config = Qwen2Config(hidden_size=dim, num_attention_heads=1, num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": theta})
        rope = Qwen2RotaryEmbedding(config)
        got = rope.inv_freq.numpy()
        # the recipe: e = f32(k) / f32(dim); p = f32(theta^e); 1 / p in f32, with a correctly rounded power
        e = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
        p = np.array([float((Decimal(theta).ln() * Decimal(float(v))).exp()) for v in e]).astype(np.float32)
        recipe = np.float32(1) / p
        off = np.abs(recipe.view(np.int32).astype(int) - got.view(np.int32))
        cos, sin = rope(torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[0, 1, 63, 709, 2047, 32767]]))
        angle = (torch.from_numpy(got)[None] * torch.tensor([0.0, 1, 63, 709, 2047, 32767])[:, None]).double()
        h = dim // 2
        err = max(float((cos[0, :, :h] - angle.cos()).abs().max()), float((sin[0, :, :h] - angle.sin()).abs().max()))
        cases.append({"theta": theta, "dim": dim, "bits": [int(b) for b in got.view(np.uint32)], "ulps_from_recipe": int(off.max()), "worst_table_error": err})
lines = ",\n".join(json.dumps(c) for c in cases)
(pathlib.Path(__file__).parent.parent / "rotary" / "inv_freq.json").write_text("[\n" + lines + "\n]\n")
print([(c["theta"], c["dim"], c["ulps_from_recipe"], f"{c['worst_table_error']:.1e}") for c in cases])
