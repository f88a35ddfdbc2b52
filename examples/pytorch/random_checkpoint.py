"""A checkpoint of a public shape with random weights, in shards, as it would lie on the hub; also as GGUF for llama.cpp.

    python random_checkpoint.py --shape llava-ov-7b --dtype bf16 --out DIR       # all of LLaVA-OneVision, 16 GB
    python random_checkpoint.py --shape llava-ov-0.5b --dtype f32 --vocab 32000 --language-model --gguf --out DIR

Speed and memory do not depend on what the numbers are. Tokenizer, template and processor are those of the demo model, whose
words fill the beginning of the table. A shard is made at a time, so that little memory is needed. Pinned: torch 2.11.0,
transformers 5.17.0, safetensors 0.8.0, gguf 0.19.0.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, Qwen2ForCausalLM

DEMO = Path(__file__).resolve().parents[2] / "src/demo/model"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {  # hidden, MLP, layers, heads, KV heads, tied embeddings
    "llava-ov-0.5b": (896, 4864, 24, 14, 2, True),
    "llava-ov-7b": (3584, 18944, 28, 28, 4, False),
    "qwen2-vl-2b": (1536, 8960, 28, 12, 2, True),
    "qwen2-vl-7b": (3584, 18944, 28, 28, 4, False),
}


def language_model(shape, vocab):
    hidden, mlp, layers, heads, kv, tied = SHAPES[shape]
    return Qwen2Config(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, vocab_size=vocab, max_position_embeddings=131072, tie_word_embeddings=tied,
    )


def whole_model(shape, vocab):
    config = json.loads((DEMO / "config.json").read_text())
    text = language_model(shape, vocab).to_dict()
    text |= {key: config["text_config"][key] for key in ["bos_token_id", "eos_token_id"]}
    config["vision_config"] |= {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16,
    }
    config |= {"text_config": text, "tie_word_embeddings": text["tie_word_embeddings"]}
    return LlavaOnevisionConfig(**config)


def shards(shapes, dtype, most):
    """Names of tensors, as many as fill a shard of `most` bytes."""
    here, size = [], 0
    for name, shape in shapes.items():
        bytes_ = shape.numel() * dtype.itemsize
        if here and size + bytes_ > most:
            yield here
            here, size = [], 0
        here.append(name)
        size += bytes_
    yield here


def write(config, dtype, out, shard_bytes):
    kind = LlavaOnevisionForConditionalGeneration if config.model_type == "llava_onevision" else Qwen2ForCausalLM
    with torch.device("meta"):
        model = kind(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    out.mkdir(parents=True)
    generator, parts = torch.Generator().manual_seed(0), list(shards(shapes, dtype, shard_bytes))
    index = {}
    for i, names in enumerate(parts):
        file = f"model-{i + 1:05}-of-{len(parts):05}.safetensors" if len(parts) > 1 else "model.safetensors"
        tensors = {}
        for name in names:
            norm = len(shapes[name]) == 1 and name.endswith("weight")
            tensors[name] = torch.ones(shapes[name], dtype=dtype) if norm else (
                torch.empty(shapes[name], dtype=dtype).normal_(0.0, 0.02, generator=generator)
            )
        save_file(tensors, out / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    if len(parts) > 1:
        total = sum(shape.numel() for shape in shapes.values()) * dtype.itemsize
        (out / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
        )
    config.dtype = dtype
    config.architectures = [kind.__name__]
    config.save_pretrained(out)
    for file in DEMO.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, out)


def write_gguf(config, dtype, out):
    """The language model once more, under llama.cpp's names; norms and biases in f32, as its own converter has them."""
    import gguf
    from safetensors import safe_open

    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    writer = gguf.GGUFWriter(out / "model.gguf", "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    for file in sorted(out.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():
                if name not in whole:
                    _, _, layer, *middle, last = name.split(".")
                    theirs = f"blk.{layer}.{names['.'.join(middle)]}.{last}"
                else:
                    theirs = whole[name]
                tensor = tensors.get_tensor(name)
                if dtype == torch.bfloat16 and tensor.dim() == 2:
                    bits = tensor.view(torch.int16).numpy().view("uint8")
                    writer.add_tensor(theirs, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)
                else:
                    writer.add_tensor(theirs, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="llava-ov-0.5b", choices=SHAPES)
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--vocab", type=int, default=152000)
    parser.add_argument("--language-model", action="store_true", help="Qwen2 alone, without a vision tower")
    parser.add_argument("--gguf", action="store_true", help="also model.gguf, for llama.cpp; of the language model alone")
    parser.add_argument("--shard-bytes", type=int, default=4 << 30)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist")
    args = parser.parse_args()
    if args.gguf and not args.language_model:
        parser.error("--gguf goes with --language-model")
    config = (language_model if args.language_model else whole_model)(args.shape, args.vocab)
    write(config, DTYPES[args.dtype], args.out, args.shard_bytes)
    if args.gguf:
        write_gguf(config, DTYPES[args.dtype], args.out)


if __name__ == "__main__":
    main()
