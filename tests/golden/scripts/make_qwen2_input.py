"""Writes ../smart_resize/ (sizes at which Qwen2-VL reads images) and ../preprocess/qwen2_vl.json (hashes of its pixels).

sweep.csv: per setting and block of heights the sha-256 over the sizes read, for every height of the block and every width
of 28 to 2000, row by row, each as two little-endian u16 (height, width). single.csv: sizes by themselves; 0 where
transformers refuses. Pixels: Qwen2VLImageProcessor (torchvision, the default) and Qwen2VLImageProcessorPil; inputs are
regenerated from (content, seed, size) as in ../resample/README.md.
"""
import hashlib
import json
import pathlib

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from make_preprocess import CLIP, HALF, digest
from resample_twin import CONTENT

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
HERE = pathlib.Path(__file__).parent.parent
SETTINGS = [(28, 3136, 12845056), (28, 3136, 1003520), (28, 50176, 401408), (14, 784, 200704)]  # unit, fewest, most pixels
SIDES = range(28, 2001)
BLOCK = 64
ODD = [(70, 126), (126, 70), (182, 182), (70, 182), (14, 14), (42, 42), (1, 1), (1, 2), (1, 200), (200, 1), (1, 201), (201, 1), (3, 600), (3, 601),
       (13, 2599), (13, 2601), (27, 29), (55, 57), (2001, 10000), (30000, 151), (65535, 65535), (1048576, 1048576), (98, 154), (210, 238)]  # fmt: skip
IMAGES = [  # patch, merge, frames, (mean, std), settings, size
    (14, 2, 2, CLIP, {}, (70, 126)), (14, 2, 2, CLIP, {}, (182, 126)), (14, 2, 2, CLIP, {}, (33, 500)), (14, 2, 2, CLIP, {"max_pixels": 12544}, (333, 201)),
    (14, 2, 2, HALF, {"min_pixels": 50176}, (90, 60)), (14, 2, 2, CLIP, {"resample": 2}, (100, 61)), (14, 2, 2, CLIP, {"do_resize": False}, (56, 84)),
    (4, 3, 1, HALF, {"min_pixels": 144, "max_pixels": 5000}, (100, 61)), (5, 1, 3, CLIP, {"min_pixels": 25, "max_pixels": 5000}, (41, 41)),
    (14, 2, 2, CLIP, {"do_normalize": False}, (60, 60)), (14, 2, 2, CLIP, {"do_rescale": False}, (60, 60)),
]  # fmt: skip


def read_at(h, w, unit, low, high):
    try:
        return smart_resize(h, w, unit, low, high)
    except ValueError:
        return 0, 0


def sizes():
    lines = ["unit,min_pixels,max_pixels,first,last,sha256"]
    for unit, low, high in SETTINGS:
        for first in range(SIDES.start, SIDES.stop, BLOCK):
            last = min(first + BLOCK, SIDES.stop) - 1
            found = [smart_resize(h, w, unit, low, high) for h in range(first, last + 1) for w in SIDES]
            lines.append(f"{unit},{low},{high},{first},{last},{hashlib.sha256(np.array(found, '<u2').tobytes()).hexdigest()}")
    (HERE / "smart_resize" / "sweep.csv").write_text("\n".join(lines) + "\n")
    single = ["unit,min_pixels,max_pixels,h,w,height,width"]
    for setting in SETTINGS:
        single += [",".join(map(str, (*setting, h, w, *read_at(h, w, *setting)))) for h, w in ODD]
    (HERE / "smart_resize" / "single.csv").write_text("\n".join(single) + "\n")
    return len(lines) - 1, len(single) - 1


def pixels():
    cases = []
    for n, (patch, merge, frames, (mean, std), settings, (h, w)) in enumerate(IMAGES):
        content = "gradient" if n % 3 == 2 else "noise"
        image = Image.fromarray(CONTENT[content](h, w, 7 * n))
        case = {"patch": patch, "merge": merge, "frames": frames, "mean": mean, "std": std, "settings": settings,
                "image": {"content": content, "seed": 7 * n, "size": [h, w]}}  # fmt: skip
        for name, kind in (("torchvision", Qwen2VLImageProcessor), ("pillow", Qwen2VLImageProcessorPil)):
            size = {"shortest_edge": 3136, "longest_edge": 1003520}
            processor = kind(patch_size=patch, merge_size=merge, temporal_patch_size=frames, image_mean=mean, image_std=std, size=size, **settings)
            out = processor(images=[image], return_tensors="pt")
            case["grid"] = out["image_grid_thw"][0].tolist()
            case[name] = digest(out["pixel_values"].numpy())
        cases.append(case)
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "pillow": PIL.__version__}
    lines = ",\n".join(json.dumps(c) for c in cases)
    (HERE / "preprocess" / "qwen2_vl.json").write_text('{"made_by": ' + json.dumps(made) + ',\n"cases": [\n' + lines + "\n]}\n")
    return len(cases), sum(c["torchvision"]["sha256"] == c["pillow"]["sha256"] for c in cases)


if __name__ == "__main__":
    (HERE / "smart_resize").mkdir(exist_ok=True)
    print(*sizes(), "blocks and single sizes,", *pixels(), "images and where both agree")
