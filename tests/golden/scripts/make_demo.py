"""Makes tests/golden/demo/: the demo model in float64 on a few of its questions, sampled so that files stay small.

Usage: make_demo.py DEMO_MODEL_FOLDER
"""
import json
import pathlib
import sys

import numpy as np
from PIL import Image

import record

HERE = pathlib.Path(__file__).parent.parent / "demo"
STRIDE = 997  # of the flattened pixels


def choose(questions):
    """Line numbers: the shortest prompt, the longest, one tall, one with a system message, short answers."""
    short = [i for i, q in enumerate(questions) if q["correct"] and len(q["hf_output"]) <= 24]
    by = lambda key: sorted(short, key=lambda i: (key(questions[i]), i))
    ratio = lambda q: q["width"] / q["height"]
    picks = [by(lambda q: q["width"] * q["height"])[0], by(lambda q: q["prompt_tokens"])[-1], by(ratio)[0], by(ratio)[-1]]
    with_system = [i for i in short if questions[i]["system"]]
    return list(dict.fromkeys(picks + with_system[:1]))


def main(demo):
    questions = [json.loads(line) for line in open(demo / "questions.jsonl")]
    model, processor, _ = record.load(demo)
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.safetensors"):
        old.unlink()
    listing = []
    for number in choose(questions):
        q = questions[number]
        data = (demo / q["image"]).read_bytes()
        rendered, inputs = record.prepare(processor, q["question"], q["system"], [Image.open(demo / q["image"])])
        answer = processor.tokenizer.encode(q["hf_output"] + "<|im_end|>", add_special_tokens=False)
        seen, logits, ids = record.run(model, inputs, len(answer))
        assert processor.tokenizer.decode(ids, skip_special_tokens=True).strip() == q["hf_output"].strip() and ids[-1] == 488, (ids, answer)
        n = inputs["input_ids"].shape[1]
        visual = (inputs["input_ids"][0] == 489).numpy()
        rows = np.unique([0, 3, *np.flatnonzero(visual)[[0, 17, 63, 64, -1]], n // 2, n - 2, n - 1])
        pixels = inputs["pixel_values"].numpy()
        keep = {
            "input.ids": inputs["input_ids"][0].numpy(), "input.roles": visual.astype(np.uint8), "input.sizes": inputs["image_sizes"].numpy(),
            "decoder.logits": logits[0].numpy(), "output.ids": np.array(ids), "sample.rows": rows,
            "sample.input.pixels": np.ascontiguousarray(pixels.reshape(-1)[::STRIDE]),
        }  # fmt: skip
        for t in range(len(ids) - 1):
            keep[f"step.{t:04}.logits"] = logits[t + 1].numpy()
        for name, tensor in seen.items():
            if name.endswith((".key", ".value")):
                keep["sample." + name] = np.ascontiguousarray(tensor.numpy()[:, rows])
            elif name.startswith("decoder.") and name.endswith((".embed", ".out", ".norm")):
                keep["sample." + name] = np.ascontiguousarray(tensor[0].numpy()[rows].astype(np.float32))
        facts = {
            "question_line": str(number), "pixels_shape": json.dumps(list(pixels.shape)), "pixels_stride": str(STRIDE),
            "pixels_sha256": record.sha(np.ascontiguousarray(pixels).tobytes()),
        }  # fmt: skip
        best = np.sort(logits.numpy(), -1)
        metadata = {
            "format": "aircache-bundle", "version": "1", "producer": f"transformers {record.transformers.__version__} torch {record.torch.__version__.split('+')[0]}",
            "family": "llava_onevision", "precision": "f64", "prompt": rendered, "preprocess": "torchvision", "images": json.dumps([record.sha(data)]), **facts,
        }  # fmt: skip
        path = HERE / f"question{number:03}.safetensors"
        record.write(path, keep, metadata)
        listing.append({
            "file": path.name, "line": number, "image": q["image"], "question": q["question"], "system": q["system"], "hf_output": q["hf_output"],
            "prompt_tokens": n, "visual_tokens": int(visual.sum()), **facts,
        })  # fmt: skip
        print(number, q["image"], (q["width"], q["height"]), n, repr(q["hf_output"]), f"margin {float((best[:, -1] - best[:, -2]).min()):.3f}", path.stat().st_size // 1024, "KB", flush=True)
    (HERE / "cases.json").write_text(json.dumps(listing, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
