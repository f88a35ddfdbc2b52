"""Writes ../preprocess/pixels.json: hashes of whole pixel tensors, from both of transformers' image processors.

torchvision: LlavaOnevisionImageProcessor (the default of transformers 5). pillow: LlavaOnevisionImageProcessorPil.
Inputs are noise and gradients, regenerated from (content, seed, size) as in ../resample/README.md.
"""
import hashlib
import json
import pathlib

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers import LlavaOnevisionImageProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from preprocess_twin import pixel_values
from resample_twin import CONTENT

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
HALF = ([0.5] * 3, [0.5] * 3)
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
GRID = {
    "24x4": (24, [[24 * a, 24 * b] for a in range(1, 5) for b in range(1, 5) if a * b <= 4]),
    "28x9": (28, [[28 * a, 28 * b] for a in range(1, 4) for b in range(1, 4)]),
    "64demo": (64, [[64 * a, 64 * b] for a, b in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2))]),
    "384x2": (384, [[384, 384], [384, 768], [768, 384]]),
}
PROMPTS = [  # (grid, normalisation, images of one prompt)
    *[("24x4", CLIP, [s]) for s in ((1, 1), (1, 2), (2, 1), (3, 5), (24, 24), (24, 48), (48, 24), (23, 25), (50, 31), (7, 90), (120, 4), (1, 150), (150, 1))],
    *[("28x9", HALF, [s]) for s in ((40, 40), (84, 83), (100, 170), (56, 56), (29, 85))],
    *[("64demo", HALF, [s]) for s in ((46, 64), (192, 184), (256, 50), (118, 256), (100, 300), (333, 77))],
    ("384x2", CLIP, [(200, 150)]),
    *[("24x4", n, s) for n in (CLIP, HALF) for s in ([(10, 20), (30, 5)], [(24, 24), (25, 24)], [(1, 1), (1, 9), (60, 61)])],
    ("28x9", CLIP, [(100, 90), (28, 28), (3, 200), (55, 56)]),
]


def digest(array):
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return {"shape": list(array.shape), "sha256": hashlib.sha256(data).hexdigest(), "head": [float(v) for v in array.reshape(-1)[:4]]}


def main():
    cases = []
    for n, (grid, (mean, std), sizes) in enumerate(PROMPTS):
        tile, pinpoints = GRID[grid]
        images, inputs = [], []
        for i, (h, w) in enumerate(sizes):
            content = "gradient" if (n + i) % 3 == 2 else "noise"
            inputs.append({"content": content, "seed": 100 * n + i, "size": [h, w]})
            images.append(Image.fromarray(CONTENT[content](h, w, 100 * n + i)))
        options = dict(size={"height": tile, "width": tile}, image_grid_pinpoints=pinpoints, image_mean=mean, image_std=std, resample=3)
        case = {"tile": tile, "grid": grid, "mean": mean, "std": std, "images": inputs}
        for name, kind in (("torchvision", LlavaOnevisionImageProcessor), ("pillow", LlavaOnevisionImageProcessorPil)):
            out = kind(**options)(images=[images], return_tensors="pt")["pixel_values"]
            twin = pixel_values([np.asarray(im) for im in images], tile, pinpoints, mean, std, pillow=name == "pillow")
            assert np.array_equal(twin, out.numpy()), (name, case)
            case[name] = digest(out.numpy())
        cases.append(case)
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "pillow": PIL.__version__}
    lines = ",\n".join(json.dumps(c) for c in cases)
    text = '{"made_by": ' + json.dumps(made) + ',\n"grids": ' + json.dumps({k: v[1] for k, v in GRID.items()}) + ',\n"cases": [\n' + lines + "\n]}\n"
    (pathlib.Path(__file__).parent.parent / "preprocess" / "pixels.json").write_text(text)
    print(len(cases), "cases,", sum(c["torchvision"]["sha256"] == c["pillow"]["sha256"] for c in cases), "where both agree")


if __name__ == "__main__":
    main()
