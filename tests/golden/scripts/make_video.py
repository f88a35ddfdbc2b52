"""Makes tests/golden/video/: what transformers makes of lists of frames, on checkpoints of the folders beside it.

Usage: make_video.py DEMO_MODEL_FOLDER [CASE ...]
Those of Qwen2.5-VL, Qwen3-VL and InternVL, and all of which frames are chosen, are made by transformers 5.24.0, torch 2.15.0 (5.17 truncates the seconds of a grid of Qwen2.5-VL).
"""
import pathlib
import re
import sys

import record
import make_qwen2_5_vl
import make_qwen3_vl
import record_internvl
import record_qwen2_vl
import toys

HERE = pathlib.Path(__file__).parent.parent / "video"
QWEN, LLAVA = (record_qwen2_vl.record, "<|video_pad|>"), (record.record, "<video>")
QWEN25 = (make_qwen2_5_vl.record, "<|video_pad|>")
INTERNVL = (record_internvl.record, re.compile(r"<video>|Frame\d+: |<img>|</img>|<IMG_CONTEXT>|\n"))
QWEN3 = (make_qwen3_vl.record, re.compile(r"<\|video_pad\|>|<\|vision_(start|end)\|>|<[0-9.]+ seconds>"))
CASES = {
    "qwen2-5-vl-slow": dict(
        what="Six frames, 1.5 a second: moments 2.67 positions apart; windows cut at the edges",
        family=QWEN25, model="qwen2_5_vl/hub-bf16", frames=[(17, 30)] * 6, fps=1.5, prompt="What happens?",
    ),
    "qwen2-5-vl-fast": dict(
        what="Five frames without a word about their number a second: three moments at one time",
        family=QWEN25, model="qwen2_5_vl/whole-windows", frames=[(20, 40)] * 5, system="You watch films.", prompt="Which box moves?",
    ),
    "internvl-frames": dict(
        what="Three frames, one tile each, with the settings of images, where nothing is said of videos",
        family=INTERNVL, model="internvl/qwen2-bf16", frames=[(21, 30)] * 3, prompt="What happens?",
    ),
    "qwen3-vl-timed": dict(
        what="Five frames, 2 a second: three moments, each behind its time; the limits are those of the whole clip",
        family=QWEN3, model="qwen3_vl/hub-bf16", frames=[(17, 30)] * 5, fps=2, prompt="What happens?",
    ),
    "qwen3-vl-small": dict(
        what="Frames smaller than a square on one side, of which nothing is known but their order; a system message",
        family=QWEN3, model="qwen3_vl/deepstack-order", frames=[(5, 40)] * 4, system="Be short.", prompt="Read.",
    ),
    "qwen2-vl-chosen": dict(
        what="Six of eleven frames, three moments", choose={"num_frames": 6}, fps=30,
        family=QWEN, model="qwen2_vl/hub-bf16", frames=[(17, 30)] * 11, prompt="What happens?",
    ),
    "qwen2-5-vl-chosen": dict(
        what="Four frames a second of a film of 14, 12 a second: four frames, 3.43 a second", choose={"fps": 4}, fps=12,
        family=QWEN25, model="qwen2_5_vl/hub-bf16", frames=[(17, 30)] * 14, prompt="What happens?",
    ),
    "qwen3-vl-chosen": dict(
        what="Five frames a second of a film of 13, 10 a second: six frames, and their times", choose={"fps": 5}, fps=10,
        family=QWEN3, model="qwen3_vl/hub-bf16", frames=[(17, 30)] * 13, prompt="What happens?",
    ),
    "internvl-chosen": dict(
        what="Two frames a second of a film of 11, 8 a second: two frames in the middle of two parts", choose={"fps": 2}, fps=8,
        family=INTERNVL, model="internvl/qwen2-bf16", frames=[(21, 30)] * 11, prompt="What happens?",
    ),
    "llava-chosen": dict(
        what="Three frames a second of a film of 10, 9 a second: three frames", choose={"fps": 3}, fps=9,
        family=LLAVA, model="llava/wide-no-rows", frames=[(31, 22)] * 10, prompt="What happens?",
    ),
    "qwen2-vl-even": dict(
        what="Four frames, two moments; without a word about videos the settings of images hold; three layers",
        family=QWEN, model="qwen2_vl/hub-bf16", frames=[(17, 30)] * 4, prompt="What happens?",
    ),
    "qwen2-vl-odd": dict(
        what="Seven frames: the last is read twice; more moments than rows on a side; a system message",
        family=QWEN, model="qwen2_vl/one-pixel", frames=[(17, 15)] * 7, system="You watch films.", prompt="Which box moves?",
    ),
    "qwen2-vl-alone": dict(
        what="A moment for each frame, squares of 3 x 3 patches",
        family=QWEN, model="qwen2_vl/merge-3-frames-1", frames=[(20, 31)] * 3, prompt="Count the boxes.",
    ),
    "qwen2-vl-own": dict(
        what="One frame; settings of its own in video_preprocessor_config.json: limits, colours, filter",
        family=QWEN, model="qwen2_vl/system", frames=[(26, 60)], prompt="Read.",
    ),
    "llava-even": dict(
        what="Four by four tokens become two by two; settings in processor_config.json",
        family=LLAVA, model="llava/wide-no-rows", frames=[(31, 22)] * 4, prompt="What happens?",
    ),
    "llava-layers": dict(
        what="Three by three tokens, of several layers, become two by two",
        family=LLAVA, model="llava/feature-layers-list", frames=[(24, 9)] * 2, prompt="Read all.",
    ),
    "llava-own": dict(
        what="Settings of its own in video_preprocessor_config.json; a system message",
        family=LLAVA, model="llava/text-only-system", frames=[(20, 20)] * 3, system="Be short.", prompt="Read.",
    ),
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[2:] or CASES:
        recorder, mark = CASES[name]["family"]
        case = {**CASES[name], "model": f"../../{CASES[name]['model']}/model"}
        toys.make(HERE / name, case, {}, None, recorder, mark, None)
