"""Makes tests/golden/sentencepiece/: tiny SentencePiece models, and how the package sentencepiece cuts and joins texts.

Usage: make_sentencepiece.py     (sentencepiece 0.2.3)
"""
import io
import json
import pathlib
import random

import sentencepiece

HERE = pathlib.Path(__file__).parent.parent / "sentencepiece"
WORDS = "the a red sign reads stop on street house number total amount due invoice date cat dog picture shows which largest".split()
RULES = "00C4\t0041 0065\n00E4\t0061 0065\n0066 0069\tFB01\n00A0\t0020\n3000\t0020\n200B\t\n"

MODELS = {  # name: what the trainer is told
    # As InternLM2's: BPE with bytes, text left as it is.
    "bpe-bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, vocab_size=420),
    "bpe-no-prefix": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, vocab_size=420),
    "bpe-nfkc-symbols": dict(model_type="bpe", vocab_size=160, user_defined_symbols=["<sep>", "<se", "st", "▁the"]),
    "bpe-rules": dict(model_type="bpe", vocab_size=150, rules=True, split_digits=True),
    "unigram": dict(model_type="unigram", rules=True, vocab_size=120),
    "unigram-bytes-symbols": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="identity", vocab_size=400, user_defined_symbols=["<sep>", "cat d"], remove_extra_whitespaces=False),
    "unigram-suffix": dict(model_type="unigram", vocab_size=110, treat_whitespace_as_suffix=True, rules=True),
    "unigram-casefold": dict(model_type="unigram", vocab_size=100, add_dummy_prefix=False, normalization_rule_name="nfkc_cf", unk_surface=" [?] "),
}  # fmt: skip

TEXTS = [
    "", " ", "   ", "the red sign", " the red sign", "the  red   sign  ", "Total: 1,234.50 €", "the<sep>cat", "<sep><se<sep", "stst▁the the",
    "Ä ä ﬁ fi\u00a0x\u3000y", "a\u200bb", "你好，世界", "🙂🙃 ok", "line one\nline two\r\n\ttab", "ｆｕｌｌ　ｗｉｄｔｈ ①②", "cat dog cat dog", "e\u0301 é",
    "<unk> <s> </s> <0x41>", "▁▁a▁", "\u0000x", "\ufffd", "na\u00efve co\u00f6perate", "x" * 40, "qqqqq zzzz jjjj", "the" * 9, "1234567890", "ＳＴＯＰ ＳＩＧＮ",
    "한국어 텍스트", "שלום", "ﷺ", "ẞ ß ſ", "cat d og", "the \u2581 red",
]  # fmt: skip


def corpus():
    draw = random.Random(7)
    for _ in range(400):
        line = " ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 9)))
        yield line.capitalize() + draw.choice(["", ".", "?", " 12", " €7"])


def texts():
    draw = random.Random(11)
    letters = "abcdefghiklmnoprstuw   .,?<>▁ÄäéZ0159你🙂\n"
    return TEXTS + ["".join(draw.choice(letters) for _ in range(draw.randint(1, 60))) for _ in range(60)] + list(corpus())[:20]


def main():
    HERE.mkdir(exist_ok=True)
    cases = {}
    for name, options in MODELS.items():
        options = dict(options)
        if options.pop("rules", False):
            (HERE / "rules.tsv").write_text(RULES)
            options["normalization_rule_tsv"] = str(HERE / "rules.tsv")
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=corpus(), model_writer=out, num_threads=1, hard_vocab_limit=False, minloglevel=2, **options
        )
        (HERE / "rules.tsv").unlink(missing_ok=True)
        (HERE / f"{name}.model").write_bytes(out.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
        draw = random.Random(13)
        some = [[draw.randrange(len(model)) for _ in range(draw.randint(1, 12))] for _ in range(40)]
        ids = [model.encode(text) for text in texts()]
        cases[name] = {
            "pieces": len(model),
            "encode": [[text, i] for text, i in zip(texts(), ids)],
            "decode": [[i, model.decode(i)] for i in [*ids, *some]],
        }
    lines = []
    for name, case in cases.items():
        rows = lambda key: ",\n  ".join(json.dumps(row, ensure_ascii=True) for row in case[key])
        lines.append(f'"{name}": {{"pieces": {case["pieces"]}, "encode": [\n  {rows("encode")}],\n "decode": [\n  {rows("decode")}]}}')
    (HERE / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print({name: len(case["encode"]) for name, case in cases.items()})


main()
