"""Where the parts of a model lie in transformers, family by family. A new family is one row of `FAMILIES`."""

import importlib
from dataclasses import dataclass, replace

from ..errors import Error, message


@dataclass(frozen=True)
class Family:
    """Paths of modules below the model; of several, the first that exists. A model that is only a decoder has no tower."""

    layers: tuple  # the decoder's layers
    norm: tuple
    head: tuple = ("lm_head",)
    text: tuple = ("model.language_model",)  # takes embeddings and positions
    tower: tuple = ()  # the vision layers
    projector: tuple = ()
    rows: tuple = ()  # its output holds the visual rows, and DeepStack's, where the projector's are in another order
    pack: str = ""  # a method of `model.model` that packs projected rows; else the projector's rows are the visual rows
    selects: bool = False  # whether `vision_feature_layer` says which layers are needed


LLAVA = Family(
    layers=("model.language_model.layers",),
    norm=("model.language_model.norm",),
    tower=("model.vision_tower.encoder.layers", "model.vision_tower.vision_model.encoder.layers"),
    projector=("model.multi_modal_projector",),
    selects=True,
)
QWEN = Family(
    layers=("model.language_model.layers",),
    norm=("model.language_model.norm",),
    tower=("model.visual.blocks",),
    projector=("model.visual.merger",),
)
FAMILIES = {
    "llava": LLAVA,
    "llava_next": replace(LLAVA, pack="pack_image_features"),
    "llava_onevision": replace(LLAVA, pack="pack_image_features"),
    "qwen2_vl": QWEN,
    "qwen2_5_vl": replace(QWEN, rows=("model.visual",)),  # the merger's rows are in the order of windows
    "qwen3_vl": replace(QWEN, rows=("model.visual",)),
    "internvl": Family(
        layers=("model.language_model.layers",),
        norm=("model.language_model.norm",),
        tower=("model.vision_tower.encoder.layer",),
        projector=("model.multi_modal_projector",),
        selects=True,
    ),
    # InternVL2's own code (`trust_remote_code=True`), over Qwen2, Llama or InternLM2.
    "internvl_chat": Family(
        layers=("language_model.model.layers",),
        norm=("language_model.model.norm",),
        head=("language_model.lm_head", "language_model.output"),
        text=("language_model.model",),
        tower=("vision_model.encoder.layers",),
        projector=("mlp1",),
    ),
}
ATTENTION = ("self_attn", "attention")
OUTPUT = ("o_proj", "wo", "dense")


def family(model):
    """The row of a model."""
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise Error(message("model_type", f"one of {', '.join(FAMILIES)}", kind, "give parts=Family(…) with the paths of its modules"))
    return FAMILIES[kind]


def module(root, paths):
    """The first of the paths that exists below `root`; none if there are no paths."""
    for path in paths:
        here = root
        for name in path.split("."):
            here = getattr(here, name, None)
            if here is None:
                break
        if here is not None:
            return here
    if paths:
        raise Error(message(type(root).__name__, f"a module {' or '.join(paths)}", "no such module"))
    return None


def rotations(attention):
    """The functions that rotate queries and keys in the code of an attention: (the Python module, the function's name)."""
    code = importlib.import_module(type(attention).__module__)
    names = ("apply_rotary_pos_emb", "apply_multimodal_rotary_pos_emb")
    return [(code, name) for name in names if hasattr(code, name)]


def layers_needed(model, parts, tower):
    """How many vision layers a run needs; later layers are not recorded."""
    if not parts.selects:
        return len(tower)
    wanted = model.config.vision_feature_layer
    wanted = [wanted] if isinstance(wanted, int) else wanted
    # Hidden state k is after layer k; 0 is before the first.
    return max(k if k >= 0 else len(tower) + 1 + k for k in wanted)
