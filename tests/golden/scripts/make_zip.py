"""Drives the public code of VisionZip, and EffiVLM-Bench's, which merge visual rows before the decoder: `early/zip.json`.

    make_zip.py REPOSITORIES

As `make_early.py`, whose commits and toy checkpoints these are. An answer is the dominant tokens of each tile, or the rows that
stay, and the numbers of the contextual ones.
Made with torch 2.11.0, transformers 5.17.0 and safetensors 0.8.0.
"""
import torch
from make_early import CLIP, GOLDEN, SIGLIP, clip, methods, qwen_rows, qwen_towers, siglip, store, tower

# Dominant and contextual tokens of a tile of 16.
SPLITS = [(7, 1), (4, 4), (2, 3), (1, 5), (8, 2)]
# Toys whose images are one tile without newline rows, and the numbers of rows that stay: one and two of them are contextual.
WHOLE, STAY = ["vicuna-f16", "squeezed", "zeros-around"], [8, 12]
SHARES = [0.9, 0.5, 0.25]


class Wide:
    """torch, but its bfloat16 is float64: EffiVLM-Bench's code rounds means to bfloat16, whatever the model's type is."""

    bfloat16 = torch.float64
    __getattr__ = lambda self, name: getattr(torch, name)


def numbers(rows):
    return [[float(f"{x:.9g}") for x in row] for row in rows.tolist()]


def visionzip():
    (forward,) = methods("VisionZip/visionzip/clip_encoder.py", "forward")
    for name in CLIP:
        t = tower(GOLDEN / "llava_clip" / name)
        if t.layer != -2:
            continue  # its code reads this layer alone
        answer = {"code": "VisionZip", "toy": f"llava_clip/{name}"}
        for dominant, contextual in SPLITS:
            saved, tiles = clip(forward, t, dominant, contextual, torch.float64)
            merged = [numbers(tile) for tile in saved[:, dominant + 1 :]]
            yield {**answer, "dominant": dominant, "contextual": contextual, "tiles": tiles, "merged": merged}
        for keep in STAY if name in WHOLE else []:
            contextual = (10 * keep + 32) // 64
            saved, tiles = clip(forward, t, keep - contextual, contextual, torch.float64)
            with torch.no_grad():
                rows = t.projector(saved[0, keep - contextual + 1 :])
            yield {**answer, "dominant": keep - contextual, "contextual": contextual, "tiles": tiles, "projected": numbers(rows)}


def effivlm():
    (forward,) = methods("EffiVLM-Bench/kv_cache_compression/siglip_model.py", "siglip_vision_tower_forward", torch=Wide())
    for name in SIGLIP:
        t = tower(GOLDEN / "llava" / name)
        for share in SHARES:
            saved, tiles = siglip(forward, t, share, torch.float64)
            dominant = len(tiles[0])
            yield {"code": "EffiVLM-Bench", "toy": f"llava/{name}", "dominant": dominant, "contextual": saved.shape[1] - dominant,
                   "tiles": tiles, "merged": [numbers(tile) for tile in saved[:, dominant:]]}  # fmt: skip


def effivlm_qwen():
    path = "EffiVLM-Bench/kv_cache_compression/qwen2vl_model.py"
    (forward,) = methods(path, "qwen2vl_vision_tower_forward_visionzip", torch=Wide())
    for name, weights, metric, rows, grid in qwen_towers():
        for share in SHARES:
            saved, indices = qwen_rows(forward, weights, metric, rows, grid, share)
            dominant = max(1, int(len(rows) * share * 5.4 / 6.4))
            changed = [i for i, row in enumerate(indices) if not torch.equal(saved[i], rows[row])]
            yield {"code": "EffiVLM-Bench", "toy": f"qwen2_vl/{name}", "dominant": dominant, "contextual": len(indices) - dominant,
                   "rows": indices.tolist(), "changed": indices[changed].tolist(), "projected": numbers(saved[changed])}  # fmt: skip


if __name__ == "__main__":
    store("zip.json", (visionzip, effivlm, effivlm_qwen))
