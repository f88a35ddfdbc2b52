"""Results of every policy on the prefill of a LLaVA-NeXT toy (`llava_clip/next-mistral-bf16`), and the tokens it writes after eviction.

As `policy_internvl.py`.
"""
from transformers import LlavaNextForConditionalGeneration
from transformers.models.clip import modeling_clip as vision
from transformers.models.mistral import modeling_mistral as module

import policy_demo as demo
import policy_toy


def patch(model):
    module.MistralRMSNorm.forward = demo.norm
    module.eager_attention_forward = demo.text_attention
    vision.eager_attention_forward = demo.vision_attention
    rotary = model.model.language_model.rotary_emb
    rotary.forward = demo.rotary("f32-angle", model.config.text_config, rotary.inv_freq.float())


def prepare(model, processor, folder, about):
    from PIL import Image

    images = [Image.open(folder / name) for name in about["images"]]
    inputs = dict(processor(text=[about["rendered"]], images=images, return_tensors="pt"))
    inputs["pixel_values"] = inputs["pixel_values"].double()
    tail = processor.tokenizer.encode(" [/INST]", add_special_tokens=False)
    assert inputs["input_ids"][0, -len(tail) :].tolist() == tail
    return inputs, len(tail)


if __name__ == "__main__":
    policy_toy.main("next-mistral-bf16", "llava_clip", policy_toy.loader(LlavaNextForConditionalGeneration), patch, prepare)
