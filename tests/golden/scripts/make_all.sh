#!/usr/bin/env bash
# Makes every golden in tests/golden again. Usage: make_all.sh DEMO_MODEL_FOLDER [PYTHON]
# Needs the versions pinned in README.md, a CPU with AVX2, no network.
set -euo pipefail
demo=$(realpath "$1")
python=${2:-python}
cd "$(dirname "$0")"
"$python" resample_twin.py 400
"$python" make_resample.py
"$python" -W ignore make_preprocess.py
"$python" -W ignore make_convert.py
"$python" make_anyres.py
"$python" make_rotary.py
"$python" make_candidates.py
"$python" make_tf32.py
"$python" make_llava.py "$demo"
"$python" -W ignore make_qwen2_vl.py "$demo"
"$python" -W ignore make_qwen2_input.py
"$python" -W ignore make_internvl.py "$demo"
"$python" -W ignore make_internvl_own.py "$demo"
"$python" -W ignore make_llava_clip.py "$demo"
"$python" -W ignore make_qwen2_5_vl.py "$demo"
"$python" -W ignore make_qwen3_vl.py "$demo"
"$python" -W ignore make_video.py "$demo"
"$python" make_sentencepiece.py
"$python" make_demo.py "$demo"
