"""Makes tests/golden/folders/asked.json: raw prompts, conversations and limits, and the ids and grids of transformers 5.17.0.

Usage: make_asked.py. The checkpoints and the pictures are those of the folders beside it.
"""
import json
import pathlib

import transformers
from PIL import Image
from transformers import AutoProcessor

HERE = pathlib.Path(__file__).parent.parent
TARGET = HERE / "folders/asked.json"
QWEN, LLAVA, INTERN = "qwen2_vl/hub-bf16", "llava/two-images-bf16", "internvl/dynamic"
ONE = ["qwen2_vl/hub-bf16/image0.png"]
TWO = ["qwen2_vl/hub-bf16/image0.png", "llava/two-images-bf16/image1.png"]
TURNS = [
    {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A box."}]},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": " here?"}]},
]
LAST = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image"}]}]
PLACED = "<|vision_start|><|image_pad|><|vision_end|>"
CASES = [
    dict(model=QWEN, raw="Once upon a time", images=[]),
    dict(model=QWEN, raw=f"{PLACED}A picture of", images=ONE),
    dict(model=QWEN, raw=f"First {PLACED} then {PLACED}.", images=TWO),
    dict(model=LLAVA, raw="<image>\nA picture of", images=ONE),
    dict(model=INTERN, raw="<IMG_CONTEXT>\nA picture of", images=ONE),
    dict(model=QWEN, messages=TURNS, images=TWO),
    dict(model=QWEN, messages=LAST, images=ONE),
    dict(model=LLAVA, messages=TURNS, images=TWO),
    dict(model=INTERN, messages=TURNS, images=TWO),
    dict(model=QWEN, messages=LAST, images=ONE, limits={"max_pixels": 1000}),
    dict(model=QWEN, messages=LAST, images=ONE, limits={"min_pixels": 9000, "max_pixels": 20000}),
    dict(model=INTERN, messages=LAST, images=ONE, limits={"max_tiles": 2}),
    dict(model=INTERN, messages=LAST, images=ONE, limits={"max_tiles": 1}),
]


def main():
    assert transformers.__version__ == "5.17.0"
    told = []
    for case in CASES:
        limits = dict(case.get("limits", {}))
        tiles = {"max_patches": limits.pop("max_tiles")} if "max_tiles" in limits else {}
        processor = AutoProcessor.from_pretrained(HERE / case["model"] / "model", **limits)
        images = [Image.open(HERE / file).convert("RGB") for file in case["images"]]
        text = case.get("raw")
        if text is None:
            text = processor.apply_chat_template(case["messages"], add_generation_prompt=True)
        inputs = processor(text=[text], images=[images] if images else None, return_tensors="pt", **tiles)
        told.append({**case, "rendered": text, "ids": inputs["input_ids"][0].tolist()})
        print(case["model"], repr(text)[:60], len(told[-1]["ids"]))
    TARGET.write_text("[\n" + ",\n".join(json.dumps(case) for case in told) + "\n]\n")


if __name__ == "__main__":
    main()
