"""Makes ../anyres/sweep.csv: tiling geometry for many image sizes, from the processor and from the model.

Usage: make_anyres.py
"""
import pathlib
import random
from types import SimpleNamespace

import torch
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel, image_size_to_num_patches
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

torch.set_num_threads(1)
DEMO = [[64 * a, 64 * b] for a, b in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2))]
HUB = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]
FULL = [[28 * a, 28 * b] for a in range(1, 5) for b in range(1, 5)]
SETS = {  # name: (pinpoints, tile, patch, aspect)
    "demo": (DEMO, 64, 8, "anyres_max_9"),
    "hub": (HUB, 384, 14, "anyres_max_9"),
    "max2": (FULL, 28, 8, "anyres_max_2"),
}


def sizes():
    rng = random.Random(11)
    out = [(h, w) for h in range(1, 16) for w in range(1, 16)]
    out += [(h, w) for h in range(16, 41, 4) for w in range(1, 41, 3)] + [(w, h) for h in range(16, 41, 4) for w in range(1, 16, 3)]
    near = [300, 320, 330, 336, 337, 338, 350, 368, 383, 384, 385, 400, 420]
    out += [(h, w) for h in near for w in near]
    large = [1000, 1023, 1024, 1151, 1152, 1153, 1536, 1920, 2000, 2304, 2305, 4000]
    out += [(h, w) for h in large for w in large]
    for thin in (1, 2, 3, 5, 10, 20, 50):
        for long in (100, 200, 500, 1000, 2000, 5000, 10000):
            out += [(thin, long), (long, thin)]
    out += [(rng.randint(40, 300), rng.randint(40, 300)) for _ in range(900)]
    out += [(round(2 ** rng.uniform(0, 12)), round(2 ** rng.uniform(0, 12))) for _ in range(900)]
    return list(dict.fromkeys(out))


def geometry(h, w, pinpoints, tile, patch, aspect):
    """best height, best width, resized height, resized width, visual tokens, rows (newlines)"""
    side = tile // patch
    best = select_best_resolution((h, w), pinpoints)
    new = get_patch_output_size(torch.empty(3, h, w, device="meta"), best, ChannelDimension.FIRST)
    processor = SimpleNamespace(image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints), num_image_tokens=side * side, vision_aspect_ratio=aspect)
    processor._get_unpadded_features = lambda *a: LlavaOnevisionProcessor._get_unpadded_features(processor, *a)
    counted = LlavaOnevisionProcessor._get_number_of_features(processor, h, w, tile, tile)
    # the model: features of one channel, zero everywhere, newline one
    vision = SimpleNamespace(image_size=tile, patch_size=patch)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints))
    tiles = image_size_to_num_patches((h, w), pinpoints, tile)
    features = torch.zeros(tiles, side * side, 1)
    packed, lens = LlavaOnevisionModel.pack_image_features(
        model, [features], torch.tensor([[h, w]]), image_newline=torch.ones(1), vision_aspect_ratio=aspect
    )
    assert int(lens[0]) == packed[0].shape[0]
    return (*best, *new, counted, int(packed[0].sum())), int(lens[0])


def main():
    lines, odd = [], []
    for h, w in sizes():
        row = [h, w]
        for name, args in SETS.items():
            try:
                values, model_tokens = geometry(h, w, *args)
                if values[4] != model_tokens:
                    odd.append((name, h, w, "processor", values[4], "model", model_tokens))
            except Exception as e:
                values = ["raises"] * 6
                odd.append((name, h, w, type(e).__name__, str(e)[:80]))
            row += values
        lines.append(",".join(map(str, row)))
    head = "height,width" + "".join(f",{s}_{c}" for s in SETS for c in ("best_h", "best_w", "new_h", "new_w", "tokens", "rows"))
    (pathlib.Path(__file__).parent.parent / "anyres" / "sweep.csv").write_text(head + "\n" + "\n".join(lines) + "\n")
    print(len(lines), "sizes;", len(odd), "where processor and model disagree or one raises")
    for o in odd[:40]:
        print(o)


if __name__ == "__main__":
    main()
