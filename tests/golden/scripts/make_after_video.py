"""Makes tests/golden/video/positions.json: positions of prompts with a Qwen2-VL video, by transformers 4.57.1 (`largest`: how
the model was trained) and by transformers 5.17.0 (`side`).

Usage: make_after_video.py. Run it once with each version; each run replaces its own half of the file.
"""
import json
import pathlib

import torch
import transformers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

TARGET = pathlib.Path(__file__).parent.parent / "video/positions.json"
VISION_START, IMAGE, VIDEO = 90, 91, 92
# Grids (time, height, width) in patches, merged two by two; text before and after.
CASES = [((4, 4, 4), 3, 5), ((7, 2, 4), 2, 6), ((3, 4, 6), 1, 4), ((9, 2, 2), 4, 3), ((1, 8, 2), 2, 2), ((5, 10, 4), 2, 3)]


def model():
    text = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=100)
    scaling = {"type": "mrope", "mrope_section": [1, 1, 2]}
    vision = dict(depth=1, embed_dim=16, num_heads=2, hidden_size=16, spatial_merge_size=2, patch_size=14)
    config = Qwen2VLConfig(**text, rope_scaling=scaling, vision_config=vision, image_token_id=IMAGE, video_token_id=VIDEO,
        vision_start_token_id=VISION_START, vision_end_token_id=93)  # fmt: skip
    return Qwen2VLForConditionalGeneration(config).model


def main():
    name = {"4": "largest", "5": "side"}[transformers.__version__[0]]
    rope = model().get_rope_index
    told = json.loads(TARGET.read_text()) if TARGET.exists() else {}
    cases = []
    for (t, h, w), before, after in CASES:
        rows = t * h * w // 4
        ids = torch.tensor([[1] * before + [VISION_START] + [VIDEO] * rows + [93] + [2] * after])
        options = dict(video_grid_thw=torch.tensor([[t, h, w]]), attention_mask=torch.ones_like(ids))
        if name == "side":
            options["mm_token_type_ids"] = (ids == VIDEO).long() * 2
        positions, _ = rope(ids, **options)
        cases.append({"ids": ids[0].tolist(), "grid": [t, h // 2, w // 2], "positions": positions[:, 0].tolist()})
        print(name, (t, h, w), positions[:, 0, -after:].tolist())
    told[name] = {"transformers": transformers.__version__, "cases": cases}
    TARGET.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(told.items())) + "\n}\n")


if __name__ == "__main__":
    main()
