"""Hooks on a model of transformers that copy every stage of a run. They change no number of the run.

The recorder counts prompt rows: until it has seen all of them, a forward pass belongs to the prefill (in one piece or in
several); then each pass of one row is a decode step. Not here: the loop that runs the model.
"""

import torch
import transformers
from transformers.cache_utils import Cache

from ..bundle import Bundle
from . import parts as at


def first(x):
    return x[0] if isinstance(x, tuple) else x


class Recorder:
    """Records what a model computes between `with` and its end.

        with Recorder(model, inputs) as recorder:      # inputs: what the model's processor gave
            model.generate(**inputs, max_new_tokens=8)
        recorder.bundle().save("candidate.safetensors")

    Queries and keys are seen after rotary, values where the cache takes them, in the type in which they were computed. The
    attention may be eager, sdpa, flash or compiled.
    """

    def __init__(self, model, inputs, *, parts=None, steps=True):
        """parts: where the modules lie, if the project does not know the family. steps: whether layers of decode steps are
        recorded; logits always are."""
        self.model, self.parts, self.steps = model, parts or at.family(model), steps
        self.ids = inputs["input_ids"][0].cpu()
        self.roles = visual(model.config, self.ids)
        self.inputs = inputs
        self.pieces, self.undo = {}, []
        self.layer, self.seen, self.fed = None, 0, []
        self.stages = {}

    # --- what hooks call ----------------------------------------------------------------------------------------------

    @property
    def in_prefill(self):
        return self.seen < len(self.ids)

    @torch.compiler.disable
    def put(self, name, x):
        """Keeps rows of a stage of the prefill: axis 0 of [n, …]."""
        # A copy: the model may write into the tensor again.
        self.pieces.setdefault(name, []).append(x.detach().to("cpu", copy=True))

    @torch.compiler.disable
    def of_layer(self, layer, site, x):
        """x: rows first, without the batch axis."""
        if self.in_prefill:
            self.put(f"decoder.{layer:02}.{site}", x)
        elif self.steps:
            self.stages[f"step.{len(self.fed) - 1:04}.{layer:02}.{site}"] = x[0].detach().to("cpu", copy=True)

    # --- hooks --------------------------------------------------------------------------------------------------------

    # torch.compile would trace what a hook does: hooks stay outside of its graphs.
    def after(self, module, call):
        hook = torch.compiler.disable(lambda m, args, out: call(first(out)))
        self.undo.append(module.register_forward_hook(hook).remove)

    def before(self, module, call):
        hook = torch.compiler.disable(lambda m, args, kwargs: call(*args, **kwargs))
        self.undo.append(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def replace(self, holder, name, value):
        """Sets an attribute, and remembers whether the holder had one of its own."""
        had, own = getattr(holder, name), name in vars(holder)
        setattr(holder, name, value)
        self.undo.append(lambda: setattr(holder, name, had) if own else delattr(holder, name))

    def __enter__(self):
        model, parts = self.model, self.parts
        layers = at.module(model, parts.layers)
        self.tower(model, parts)
        self.before(at.module(model, parts.text), self.reads)
        for i, layer in enumerate(layers):
            self.decoder(i, layer)
        self.after(at.module(model, parts.norm), self.normed)
        self.after(at.module(model, parts.head), self.logits)
        for code, name in {rotation for layer in layers for rotation in at.rotations(at.module(layer, at.ATTENTION))}:
            self.replace(code, name, self.rotary(getattr(code, name)))
        self.replace(Cache, "update", self.cached(Cache.update))
        return self

    def __exit__(self, *_):
        for undo in reversed(self.undo):
            undo()
        self.undo = []

    def tower(self, model, parts):
        layers = at.module(model, parts.tower)
        if layers is None:
            return
        for i, layer in enumerate(layers[: at.layers_needed(model, parts, layers)]):
            self.after(layer, lambda x, i=i: self.put(f"vision.{i:02}.out", x))
        projector = at.module(model, parts.projector)
        self.before(projector, lambda x, *args, **kwargs: self.put("vision.features", x))
        if parts.rows:
            self.undo.append(at.module(model, parts.rows).register_forward_hook(torch.compiler.disable(self.merged)).remove)
            return
        if not parts.pack:
            self.after(projector, lambda x: self.put("projector.out", x.flatten(0, -2)))
            return
        packs = getattr(model.model, parts.pack)

        @torch.compiler.disable(recursive=False)
        def pack(*args, **kwargs):
            rows, counts = packs(*args, **kwargs)
            self.put("projector.out", torch.cat(list(rows), 0))
            return rows, counts

        self.replace(model.model, parts.pack, pack)

    def merged(self, module, args, out):
        """The tower's visual rows, and with DeepStack the rows for the first decoder layers."""
        rows, deepstack = getattr(out, "pooler_output", None), getattr(out, "deepstack_features", None)
        if rows is None:  # transformers 4: the rows, or the rows and a list
            rows, deepstack = out if isinstance(out, tuple) else (out, None)
        self.put("projector.out", rows)
        for layer, added in enumerate((deepstack or [])[: len(at.module(self.model, self.parts.layers))]):
            self.put(f"projector.{layer:02}.deepstack", added)

    def reads(self, input_ids=None, *args, position_ids=None, inputs_embeds=None, **kwargs):
        """The decoder is about to read rows: a piece of the prompt, or the token of a step."""
        if not self.in_prefill:
            rows = input_ids if input_ids is not None else inputs_embeds
            assert rows.shape[:2] == (1, 1), "after the prompt, a step feeds one token of one sequence"
            self.fed.append(None if input_ids is None else int(input_ids[0, 0]))
            return
        if position_ids is not None:
            # [1, n], or [3, 1, n]; M-RoPE may have the text's positions in front of its three.
            positions = position_ids[-3:, 0].mT if position_ids.dim() == 3 else position_ids[0]
            self.put("input.positions", positions)

    def decoder(self, index, layer):
        attention = at.module(layer, at.ATTENTION)

        def enter(*args, **kwargs):
            self.layer = index

        def leave(out):
            self.layer = None

        if index == 0:
            self.before(layer, self.embedded)
        self.before(attention, enter)
        self.after(attention, leave)
        self.before(at.module(attention, at.OUTPUT), lambda x: self.of_layer(index, "mix", x[0]))
        self.after(layer, lambda x: self.of_layer(index, "out", x[0]))

    def embedded(self, *args, **kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        if self.in_prefill:
            self.put("decoder.embed", x[0])

    def rotary(self, rotate):
        @torch.compiler.disable(recursive=False)
        def rotated(*args, **kwargs):
            q, k = rotate(*args, **kwargs)
            if self.layer is not None:
                self.of_layer(self.layer, "query", q[0].transpose(0, 1))  # [1, H, n, d_h] → [n, H, d_h]
            return q, k

        return rotated

    def cached(self, update):
        @torch.compiler.disable(recursive=False)
        def updated(cache, keys, values, layer_idx, *args, **kwargs):
            if self.layer is not None:
                self.of_layer(layer_idx, "key", keys[0].transpose(0, 1))
                self.of_layer(layer_idx, "value", values[0].transpose(0, 1))
            return update(cache, keys, values, layer_idx, *args, **kwargs)

        return updated

    def normed(self, x):
        if self.in_prefill:
            self.put("decoder.norm", x[0])
            self.seen += x.shape[1]

    def logits(self, x):
        if not self.in_prefill:
            # The prompt is read, and no token was fed: these are the prompt's own.
            name = f"step.{len(self.fed) - 1:04}.logits" if self.fed else "decoder.logits"
            self.stages[name] = x.flatten(0, -2)[-1].detach().to("cpu", copy=True)

    # --- what comes out -----------------------------------------------------------------------------------------------

    def positions(self):
        """The prompt's rotary positions, [n] or [n, 3]; rows are counted unless the model was given others."""
        pieces = self.pieces.get("input.positions")
        return torch.cat(pieces) if pieces else torch.arange(len(self.ids))

    def queries(self):
        """The prompt's queries of each layer, [H, n, d_h], on the model's device: what an eviction reads."""
        layers = sorted(name for name in self.pieces if name.endswith(".query"))
        return [torch.cat(self.pieces[name]).transpose(0, 1).to(self.model.device) for name in layers]

    def bundle(self, precision=None, **metadata):
        """The recorded stages. precision: the type of the computation, by default the model's."""
        text = getattr(self.model.config, "text_config", None) or getattr(self.model.config, "llm_config", None)
        family = self.model.config.model_type
        producer = f"torch {torch.__version__} transformers {transformers.__version__}"
        bundle = Bundle(precision or self.model.dtype, family=family, producer=producer, **metadata)
        bundle.sizes.set("V", text.vocab_size, "the model's configuration") if text else None
        stages = {**self.prompt(), **self.stages}
        for name, pieces in self.pieces.items():
            rows = torch.cat(pieces)
            heads_first = name.startswith("decoder.") and name.endswith((".query", ".key", ".value"))
            stages[name] = rows.transpose(0, 1) if heads_first or (name == "input.positions" and rows.dim() == 2) else rows
        return bundle.update(stages)

    def prompt(self):
        """The stages `input.*` that the processor gave."""
        stages = {"input.ids": self.ids, "input.roles": self.roles, "input.positions": torch.arange(len(self.ids))}
        sizes = [(name, "input.sizes") for name in ("image_sizes", "input.sizes")]
        grids = [(name, "input.grid") for name in ("image_grid_thw", "video_grid_thw")]
        for given, stage in sizes + grids:
            if self.inputs.get(given) is not None:
                stages[stage] = self.inputs[given].long()
        for given in ("pixel_values", "pixel_values_videos"):
            if self.inputs.get(given) is not None:
                stages["input.pixels"] = self.inputs[given].float()
        return stages


def visual(config, ids):
    """1 where a prompt row comes from the vision side. D1.2"""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    tokens = [getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)]
    return torch.isin(ids, torch.tensor(tokens)).to(torch.uint8)
