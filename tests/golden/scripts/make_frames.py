"""Makes tests/golden/video/frames.json: which frames of a film the families' own code chooses.

Usage: make_frames.py LMMS_EVAL      (a git repository, bare is enough, with the commit that make_metrics.py names)
Made by transformers 5.24.0, torch 2.15.0, numpy 2.4.6; the own form of InternVL by `get_index` of lmms-eval, which is that of the checkpoint's page.
"at" is null where the program raises an error. PyTorch counts some films one step too far; transformers then fails, and the step is left out here.
"""
import json
import pathlib
import random
import sys

import numpy as np
import torch
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from make_metrics import LMMS, take

HERE = pathlib.Path(__file__).parent.parent / "video"
PROCESSORS = {"qwen2_vl": Qwen2VLVideoProcessor, "qwen3_vl": Qwen3VLVideoProcessor, "internvl": InternVLVideoProcessor, "llava_onevision": LlavaOnevisionVideoProcessor}
SETTINGS = {
    "qwen2_vl": [{}, {"fps": 2}, {"fps": 1.5, "min_frames": 2, "max_frames": 9}, {"num_frames": 7}, {"min_frames": 30, "max_frames": 31}],
    "qwen3_vl": [{}, {"fps": 3}, {"min_frames": 6, "max_frames": 11}],
    "internvl": [{}, {"num_frames": 8}, {"fps": 1}, {"initial_shift": False}, {"initial_shift": 2.5, "num_frames": 5}, {"fps": 2, "num_frames": 6}],
    "llava_onevision": [{}, {"num_frames": 8}, {"fps": 0.7}],
}  # fmt: skip


def chosen(family, settings, wanted, of, fps, get_index):
    """The frames by the family's own code. wanted: "rule", a number of frames, or {"fps": …}."""
    count, rate = wanted if isinstance(wanted, int) else None, wanted["fps"] if isinstance(wanted, dict) else None
    if family == "internvl_chat":
        return get_index(None, fps, of - 1, num_segments=count or 32).tolist()
    processor = PROCESSORS[family](**settings)
    more = {key: getattr(processor, key) for key in ("min_frames", "max_frames", "temporal_patch_size", "initial_shift") if hasattr(processor, key)}
    if wanted == "rule":
        count, rate = processor.num_frames, processor.fps
    metadata = VideoMetadata(total_num_frames=of, fps=fps)
    at = np.asarray(processor.sample_frames(metadata=metadata, num_frames=count, fps=rate, **more)).tolist()
    assert all(frame == of for frame in at if frame >= of), at
    return [frame for frame in at if frame < of] or None


def main():
    get_index = take(sys.argv[1], LMMS, "lmms_eval/models/simple/internvl2.py", "get_index")["get_index"]
    draw = random.Random(7)
    cases = []
    for family in [*PROCESSORS, "internvl_chat"]:
        for settings in SETTINGS.get(family, [{}]):
            for i in range(24):
                of = draw.choice([1, 2, 3, 5, 8, draw.randint(4, 250), draw.randint(4, 250), draw.randint(250, 30_000)])
                fps = draw.choice([1, 8, 24, 25, 29.97, 30, 60])
                wanted = "rule" if i % 3 == 0 else draw.randint(1, 40) if i % 3 == 1 or family == "internvl_chat" else {"fps": draw.choice([0.5, 1, 2, 3.3])}
                if wanted != "rule" and ("fps" in settings or "num_frames" in settings):
                    wanted = "rule"
                if of > 10_000 and wanted == "rule" and settings.get("fps", 1) > 1:
                    of //= 50
                try:
                    at = chosen(family, settings, wanted, of, fps, get_index)
                except (TypeError, ValueError, ZeroDivisionError, RuntimeError):
                    at = None
                cases.append({"family": family, "settings": settings, "wanted": wanted, "of": of, "fps": fps, "at": at})
    cases = [case for case in cases if len(case["at"] or []) <= 120]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "frames.json").write_text(f"[\n{lines}\n]\n")
    print(len(cases), sum(case["at"] is None for case in cases), {f: sum(c["family"] == f for c in cases) for f in [*PROCESSORS, "internvl_chat"]})


main()
