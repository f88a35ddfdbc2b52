"""Makes tests/golden/folders/tokens.json: folders whose small files add tokens, and the ids that transformers 5.17.0 makes of texts.

Usage: make_folders.py. Versions: README.md.
"""
import json
import pathlib
import tempfile

import transformers
from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent.parent
BASE = HERE / "qwen2_vl/hub-bf16/model"
TARGET = HERE / "folders/tokens.json"
VISION = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
FIRST = 489  # the first id that the small files give
TEXTS = [
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n",
    "a <|image_pad|> b<|image_pad|>c  <|image_pad|>\t d",
    "the <tool> red<tool> <tool>sign  <tool>  end",
    "one Word two, Words, word. WORD <seen> x<seen>y",
    "<bos><unk><extra>the<mark> end<|endoftext|>",
    "",
]


def entry(text, special=True, **flags):
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


def decoder(tokens, first=FIRST):
    old = {str(486 + i): entry(t) for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    return {**old, **{str(first + i): t if isinstance(t, dict) else entry(t) for i, t in enumerate(tokens)}}


QWEN = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None}
FAST = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
FLAGS = [
    entry("<tool>", special=False, lstrip=True),
    entry("<seen>", special=False, rstrip=True),
    entry("Word", special=False, single_word=True),
    entry("<|image_pad|>", lstrip=True, rstrip=True),
    entry("sign", special=False, normalized=True),
]
MAP = {"eos_token": "<|im_end|>", "bos_token": entry("<bos>", rstrip=True), "unk_token": "<unk>", "additional_special_tokens": ["<extra>", "<tool>"]}

CASES = {
    "decoder": {"tokenizer_config.json": {**QWEN, "added_tokens_decoder": decoder(VISION), "additional_special_tokens": ["<|im_start|>", "<|im_end|>", *VISION]}},
    "decoder-flags": {"tokenizer_config.json": {**FAST, "added_tokens_decoder": decoder(FLAGS)}},
    "decoder-gap": {"tokenizer_config.json": {**FAST, "added_tokens_decoder": decoder(VISION, 600)}},
    "decoder-changes-flags": {"tokenizer_config.json": {**FAST, "added_tokens_decoder": {**decoder(VISION), "486": entry("<|endoftext|>", lstrip=True), "488": entry("<|im_end|>", special=False)}}},
    "decoder-word-of-the-vocabulary": {"tokenizer_config.json": {**FAST, "added_tokens_decoder": decoder([entry("the", special=False), entry("<seen>", special=False)])}},
    "decoder-wins-over-the-map": {"tokenizer_config.json": {**FAST, "added_tokens_decoder": decoder(VISION)}, "special_tokens_map.json": MAP, "added_tokens.json": {"<tool>": 500}},
    "added": {"tokenizer_config.json": FAST, "added_tokens.json": {t: FIRST + i for i, t in reversed(list(enumerate([*VISION, "<tool>"])))}},
    "added-and-map": {"tokenizer_config.json": FAST, "added_tokens.json": {"<|image_pad|>": FIRST, "<tool>": FIRST + 1, "<seen>": FIRST + 2}, "special_tokens_map.json": MAP},
    "map": {"tokenizer_config.json": FAST, "special_tokens_map.json": MAP},
    "map-qwen2": {"tokenizer_config.json": QWEN, "special_tokens_map.json": {"eos_token": "<|im_end|>", "additional_special_tokens": VISION}},
    "named": {"tokenizer_config.json": {**FAST, "bos_token": "<bos>", "unk_token": "<unk>", "image_token": "<|image_pad|>", "additional_special_tokens": ["<extra>", "<|video_pad|>"]}},
    "named-by-a-dict": {"tokenizer_config.json": {**FAST, "extra_special_tokens": {"image_token": "<|image_pad|>", "mark_token": "<mark>"}}},
    "no-config": {"added_tokens.json": {"<|image_pad|>": FIRST, "<tool>": FIRST + 1}},
    "vocab": {"tokenizer_config.json": {**QWEN, "added_tokens_decoder": decoder(VISION)}, "vocab.json": None},
    "vocab-added": {"tokenizer_config.json": {**QWEN, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, "vocab.json": None,
        "added_tokens.json": {"<|endoftext|>": 486, "<|im_start|>": 487, "<|im_end|>": 488, "<tool>": 489}},
}  # fmt: skip


def folder(at, files):
    """A folder with the base's tokenizer, of which only the first three added tokens stay, and the files of a case."""
    whole = json.loads((BASE / "tokenizer.json").read_text())
    (at / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    for name, content in files.items():
        if content is not None:
            (at / name).write_text(json.dumps(content))
    if "vocab.json" in files:
        (at / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
        (at / "merges.txt").write_text("\n".join(m if isinstance(m, str) else " ".join(m) for m in whole["model"]["merges"]))
    else:
        whole["added_tokens"] = [t for t in whole["added_tokens"] if t["id"] < FIRST]
        (at / "tokenizer.json").write_text(json.dumps(whole))


def main():
    assert transformers.__version__ == "5.17.0"
    cases = []
    for name, files in CASES.items():
        with tempfile.TemporaryDirectory() as at:
            folder(pathlib.Path(at), files)
            tokenizer = AutoTokenizer.from_pretrained(at)
        texts = []
        for text in TEXTS:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            texts.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
        cases.append({"name": name, "class": type(tokenizer).__name__, "files": files, "texts": texts})
        print(name, type(tokenizer).__name__, texts[1]["ids"], texts[2]["ids"])
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
