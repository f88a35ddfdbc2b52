"""Runs a checkpoint folder of transformers' InternVL (eager, CPU, float64) and returns every stage.

The checkpoint is loaded as float32 and then doubled. transformers keeps parts in float32 all the same: the RMS norms'
inside, the decoder's softmax, the rotary table, and the base of scaled rotary frequencies.
"""
import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, InternVLForConditionalGeneration
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from record import Stages, bundle, clip, decoder, read
from record import run as watched_run
from record_qwen2_vl import messages


DECODERS = {
    "llama": (modeling_llama, modeling_llama.LlamaAttention),
    "qwen2": (modeling_qwen2, modeling_qwen2.Qwen2Attention),
    "qwen3": (modeling_qwen3, modeling_qwen3.Qwen3Attention),
}


def load(folder):
    model, info = InternVLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return model.double().eval(), AutoProcessor.from_pretrained(folder), info


class InternVLStages(Stages):
    def __init__(self, model):
        text, tower = model.model.language_model, model.model.vision_tower
        super().__init__(text, *DECODERS[model.config.text_config.model_type])
        for i, layer in enumerate(tower.encoder.layer):
            self.hook(layer, f"vision.{i:02}.out")
        self.hook(model.model.multi_modal_projector, "vision.features", before=True)
        self.hook(model.model.multi_modal_projector, "projector.out")


@torch.no_grad()
def record(folder, prompt, system, image_files, tokens=16, steps=2, film=False, fps=None, choose=None):
    """Returns (rendered, expanded text, tensors, metadata, facts) of one prompt."""
    model, processor, info = load(folder)
    images = [Image.open(f) for f in image_files]
    rendered = processor.apply_chat_template(messages(prompt, system, len(images), film), add_generation_prompt=True, tokenize=False)
    given = clip(images, fps, choose) if film else {"images": images} if images else {}
    inputs = processor(text=[rendered], return_tensors="pt", **given)
    seen, logits, ids = watched_run(model, inputs, tokens, InternVLStages)
    config = model.config
    n, visual, text = read(folder, processor, inputs, config)

    keep = {
        "input.ids": inputs["input_ids"][0].numpy(),
        "input.roles": visual.astype(np.uint8),
        "input.positions": np.arange(n),
        "output.ids": np.array(ids),
    }
    if images:
        keep["input.pixels"] = inputs["pixel_values"].numpy()
        read_of = len(keep["input.pixels"]) if film else len(images)  # frames have one size
        keep["input.sizes"] = np.array([[im.height, im.width] for im in images[:read_of]])
        layer = config.vision_feature_layer
        used = layer if layer >= 0 else config.vision_config.num_hidden_layers + 1 + layer
        for name, tensor in seen.items():
            if name.startswith("vision.") and name != "vision.features" and int(name[7:9]) >= used:
                continue
            if name.startswith(("vision.", "projector.")):
                keep[name] = tensor.numpy().astype(np.float32)
        keep["projector.out"] = keep["projector.out"].reshape(-1, keep["projector.out"].shape[-1])
        assert keep["projector.out"].shape[0] == visual.sum()
        same = seen["projector.out"].reshape(-1, seen["projector.out"].shape[-1])
        assert torch.equal(seen["decoder.embed"][0][torch.from_numpy(visual)], same)
    decoder(keep, seen, logits, steps)
    preprocess = "torchvision" if images else ""
    return bundle("internvl", rendered, text, keep, logits, visual, image_files, info, preprocess)
