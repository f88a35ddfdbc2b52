"""Writes ../resample/sweep.json: what torchvision and Pillow make of known images, as hashes.

Inputs are regenerated from (content, seed, size); see ../resample/README.md.
"""
import hashlib
import json
import pathlib
import random

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms.v2.functional as tvF
from PIL import Image

from resample_twin import CONTENT, pillow_vertical_first

torch.set_num_threads(1)
assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"), "bilinear is recorded from the native uint8 kernel"

SIZES = [  # (h, w) -> (H, W)
    ((1, 1), (1, 1)), ((1, 1), (1, 2)), ((1, 1), (16, 16)), ((1, 1), (7, 5)), ((2, 2), (1, 1)), ((2, 1), (1, 2)),
    ((1, 2), (64, 128)), ((2, 3), (3, 2)), ((3, 5), (64, 64)), ((5, 3), (64, 38)), ((3, 3), (4, 4)), ((4, 4), (3, 3)),
    ((8, 8), (8, 8)), ((8, 8), (8, 16)), ((8, 8), (16, 8)), ((8, 8), (8, 3)), ((8, 8), (3, 8)), ((16, 16), (8, 8)),
    ((16, 16), (32, 32)), ((9, 200), (64, 64)), ((200, 9), (64, 64)), ((1, 200), (3, 64)), ((200, 1), (64, 3)),
    ((200, 2), (64, 1)), ((17, 31), (31, 17)), ((31, 17), (17, 31)), ((64, 64), (64, 64)), ((64, 100), (64, 64)),
    ((100, 64), (64, 64)), ((65, 63), (64, 64)), ((63, 65), (64, 64)), ((128, 64), (64, 64)), ((130, 70), (120, 64)),
    ((130, 70), (119, 64)), ((130, 70), (118, 64)), ((130, 70), (117, 64)), ((97, 61), (64, 41)), ((61, 97), (128, 204)),
    ((150, 40), (20, 39)), ((40, 150), (39, 20)), ((40, 150), (80, 20)), ((150, 40), (20, 80)), ((33, 33), (200, 1)),
    ((33, 33), (1, 200)), ((199, 101), (13, 7)), ((101, 199), (7, 13)), ((50, 50), (150, 150)), ((50, 50), (149, 151)),
    ((120, 180), (64, 96)), ((77, 77), (76, 78)), ((77, 77), (78, 76)), ((180, 12), (192, 13)), ((12, 180), (13, 192)),
    ((37, 23), (30, 18)), ((37, 23), (26, 18)), ((37, 23), (27, 18)), ((200, 200), (2, 2)), ((200, 200), (199, 199)),
]
rng = random.Random(7)
while len(SIZES) < 72:
    SIZES.append(((rng.randint(1, 120), rng.randint(1, 120)), (rng.randint(1, 120), rng.randint(1, 120))))


def digest(image):
    data = np.ascontiguousarray(image).tobytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "head": data[:16].hex()}


def main():
    cases = []
    for n, ((h, w), (H, W)) in enumerate(SIZES):
        content = "gradient" if n % 4 == 3 else "noise"
        image = CONTENT[content](h, w, n)
        chw = torch.from_numpy(image).permute(2, 0, 1)  # the memory layout that pil_to_tensor gives
        case = {"content": content, "seed": n, "from": [h, w], "to": [H, W], "input": digest(image)}
        for name in ("bicubic", "bilinear"):
            mode = tvF.InterpolationMode[name.upper()]
            case["torchvision_" + name] = digest(tvF.resize(chw, [H, W], mode, antialias=True).permute(1, 2, 0).numpy())
        for name in ("bicubic", "bilinear", "lanczos"):
            out = Image.fromarray(image).resize((W, H), Image.Resampling[name.upper()])
            case["pillow_" + name] = digest(np.asarray(out))
        case["pillow_vertical_first"] = pillow_vertical_first(h, w, H, W) and w != W
        cases.append(case)
    head = {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0], "pillow": PIL.__version__}
    lines = ",\n".join(json.dumps(c) for c in cases)
    path = pathlib.Path(__file__).parent.parent / "resample" / "sweep.json"
    path.write_text('{"made_by": ' + json.dumps(head) + ', "cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
