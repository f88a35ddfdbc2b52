"""Makes toys that no one has looked at: random sizes, heads, types, shards, pictures, clips, of every family. Into target/held_out/FAMILY/.

Usage: held_out.py DEMO_MODEL_FOLDER SEED COUNT [FAMILY ...]
Then: cargo test --release --test golden held_out -- --ignored
Run with transformers 5.24.0, torch 2.15.0, torchvision 0.29.2. None of it is kept.
"""
import pathlib
import random
import sys

import make_internvl
import make_llava
import make_llava_clip
import make_qwen2_5_vl
import make_qwen2_vl
import make_qwen3_vl
import make_video
import record
import record_internvl
import record_qwen2_vl
import toys

HERE = pathlib.Path(__file__).resolve().parents[3] / "target/held_out"
WORDS = ["What is it?", "Read.", "Which box is blue, and why?", "Hello ✓ ünï", "Give me the Fee.", "12 + 7?"]


def heads(r, even=2):
    """Query heads, KV heads, head size."""
    kv = r.choice([1, 2, 3])
    return kv * r.choice([1, 2, 3, 5]), kv, even * r.choice([3, 4, 5, 7, 10])


def text(r, wide=None):
    query, kv, size = heads(r)
    hidden = wide or query * size
    return {
        "text.hidden_size": hidden, "text.intermediate_size": r.choice([20, 33, 56]), "text.num_hidden_layers": r.choice([1, 2, 3, 4]), "text.num_attention_heads": query,
        "text.num_key_value_heads": kv, "text.rms_norm_eps": r.choice([1e-6, 1e-5]), "@dtype": r.choice(["bf16", "f16", "f32"]), "@shards": r.choice([1, 2, 5]),
    }, size  # fmt: skip


def sections(r, half):
    a = r.randint(1, half - 2)
    b = r.randint(1, half - a - 1)
    return [a, b, half - a - b]


def patches(r, hidden, name):
    count = r.choice([1, 2, 3])
    return {
        f"vision.{name}": 4 * count * r.choice([1, 2, 3]), "vision.num_heads": count, "vision.depth": r.choice([1, 2, 4]), "vision.patch_size": r.choice([2, 3, 4, 5]),
        "vision.spatial_merge_size": r.choice([1, 2, 3]), "vision.temporal_patch_size": r.choice([1, 2, 3]),
    }, r.random() < 0.5  # fmt: skip


def limits(r, options, style):
    unit = (options["vision.patch_size"] * options["vision.spatial_merge_size"]) ** 2
    least, most = unit * r.choice([1, 4, 6]), unit * r.choice([20, 30, 45])
    return {"min_pixels": least, "max_pixels": most} if style == "4" else {"size": {"shortest_edge": least, "longest_edge": most}}


def qwen2(r):
    words, size = text(r)
    vision, tied = patches(r, None, "embed_dim")
    form = r.choice(["4", "5"])
    more = {} if form == "4" else make_qwen2_vl.FORM5
    options = {**words, **vision, **more, "vision.mlp_ratio": r.choice([1, 2, 3]), "vision.hidden_size": words["text.hidden_size"], "@sections": sections(r, size // 2), "tie_word_embeddings": tied}
    return {**options, "@image": limits(r, options, form)}


def qwen25(r):
    words, size = text(r)
    vision, tied = patches(r, None, "hidden_size")
    form = r.choice(["4", "5"])
    more = {} if form == "4" else make_qwen2_5_vl.FORM5
    options = {**words, **vision, **more, "vision.intermediate_size": r.choice([12, 21]), "vision.out_hidden_size": words["text.hidden_size"], "@sections": sections(r, size // 2), "tie_word_embeddings": tied}
    square = options["vision.patch_size"] * options["vision.spatial_merge_size"]
    options |= {"vision.window_size": square * r.choice([1, 2, 3]) + r.randint(0, square - 1), "vision.fullatt_block_indexes": r.sample(range(4), r.randint(0, 2))}
    return {**options, "@image": limits(r, options, form)}


def qwen3(r):
    words, size = text(r, r.choice([20, 36, 50]))
    vision, tied = patches(r, None, "hidden_size")
    form = r.choice(["4", "5"])
    options = {**words, **vision, "@form": form, "text.head_dim": size, "vision.intermediate_size": r.choice([12, 21]), "vision.out_hidden_size": words["text.hidden_size"]}
    options |= {"@sections": sections(r, size // 2), "tie_word_embeddings": tied, "vision.num_position_embeddings": r.choice([9, 20, 49, 64])}
    options |= {"vision.temporal_patch_size": 2, "vision.deepstack_visual_indexes": r.sample(range(options["vision.depth"]), r.randint(0, min(3, options["vision.depth"])))}
    return {**options, "@image": limits(r, options, "5")}


def internvl(r):
    words, size = text(r)
    kind, count, patch, along = r.choice(["qwen2", "qwen3", "llama"]), r.choice([1, 2, 3]), r.choice([2, 3, 4, 5]), r.choice([1, 2, 3])
    side = 2 * along * patch
    return {
        **words, "text.model_type": kind, **({"text.head_dim": size} if kind == "qwen3" else {}), "vision.hidden_size": 4 * count * r.choice([1, 2, 3]), "vision.num_attention_heads": count,
        "vision.num_hidden_layers": r.choice([1, 3]), "vision.intermediate_size": r.choice([10, 26]), "vision.image_size": [side, side], "vision.patch_size": [patch, patch],
        "vision.attention_bias": r.random() < 0.5, "image_seq_length": along * along, "tie_word_embeddings": r.random() < 0.5, "@names": r.choice(["modules", "old"]),
        "@image": {"size": {"height": side, "width": side}, "max_patches": r.choice([1, 3, 6])},
    }  # fmt: skip


def clip(r):
    words, _ = text(r)
    count, patch, along, following = r.choice([1, 2, 3]), r.choice([3, 4, 5]), r.choice([2, 3]), r.random() < 0.5
    side = patch * along
    pins = [[side * a, side * b] for a, b in [(1, 2), (2, 1), (2, 2), (1, 3), (3, 1)]]
    more = {**make_llava_clip.NEXT, "image_grid_pinpoints": pins} if following else {}
    return {
        **more, **words, "text.model_type": r.choice(["llama", "mistral"] if following else ["llama", "mistral", "qwen2"]), "text.sliding_window": None, "vision.hidden_size": 4 * count * r.choice([1, 2, 3]),
        "vision.num_attention_heads": count, "vision.num_hidden_layers": r.choice([2, 3]), "vision.intermediate_size": r.choice([10, 26]), "vision.image_size": side, "vision.patch_size": patch,
        "image_seq_length": along * along, "tie_word_embeddings": r.random() < 0.5, "@names": r.choice(["hub", "modules"]), "@processor": {"patch_size": patch, "num_additional_image_tokens": 1},
    }  # fmt: skip


def onevision(r):
    words, _ = text(r)
    count, patch, along = r.choice([1, 2, 3]), r.choice([3, 4, 5, 8]), r.choice([2, 3, 4])
    side = patch * along
    return {
        **words, "vision.hidden_size": 4 * count * r.choice([1, 2, 3]), "vision.num_attention_heads": count, "vision.num_hidden_layers": r.choice([1, 2, 4]), "vision.intermediate_size": r.choice([10, 26]),
        "vision.image_size": side, "vision.patch_size": patch, "image_grid_pinpoints": make_llava.grids(side, 3, 3), "vision_aspect_ratio": r.choice(["anyres_max_9", "anyres_max_4"]),
        "text.tie_word_embeddings": (tied := r.random() < 0.5), "tie_word_embeddings": False, "@names": "saved5" if tied else r.choice(["saved5", "modules"]), "@theta": r.choice([10000.0, 1000000.0]),
    }  # fmt: skip


QWEN = "<|image_pad|>"
FAMILIES = {
    "qwen2_vl": (qwen2, make_qwen2_vl, record_qwen2_vl.record, QWEN, make_video.QWEN),
    "qwen2_5_vl": (qwen25, make_qwen2_5_vl, make_qwen2_5_vl.record, QWEN, make_video.QWEN25),
    "qwen3_vl": (qwen3, make_qwen3_vl, make_qwen3_vl.record, QWEN, make_video.QWEN3),
    "internvl": (internvl, make_internvl, record_internvl.record, ["<img>", "</img>", "<IMG_CONTEXT>"], make_video.INTERNVL),
    "llava_clip": (clip, make_llava_clip, make_llava_clip.record, "<image>", None),
    "llava_onevision": (onevision, make_llava, record.record, "<image>", make_video.LLAVA),
}


def main():
    demo, seed, count = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    made = failed = 0
    for family in sys.argv[4:] or FAMILIES:
        draw, maker, recorder, mark, film = FAMILIES[family]
        for i in range(count):
            r = random.Random(f"{family} {seed} {i}")
            options = {**maker.BASE, **draw(r)}
            case = {"what": "held out", "prompt": r.choice(WORDS), "images": [(r.randint(3, 80), r.randint(3, 80)) for _ in range(r.choice([0, 1, 1, 1, 2, 3]))]}
            if r.random() < 0.3:
                case["system"] = "Be brief."
            if film and r.random() < 0.3:
                case["frames"] = [(r.randint(6, 40), r.randint(6, 40))] * r.randint(2, 7)
                recorder, mark = film
            try:
                toys.make(HERE / family / f"{seed}-{i:02}", case, options, maker.checkpoint, recorder, mark, demo)
                made += 1
            except Exception as e:
                failed += 1
                print(f"{family} {seed}-{i}: {type(e).__name__}: {str(e)[:300]}", flush=True)
                toys.shutil.rmtree(HERE / family / f"{seed}-{i:02}", ignore_errors=True)
            recorder, mark = FAMILIES[family][2:4]
    print(f"{made} made, {failed} refused by transformers or without a clear choice")


main()
