"""The recorded reference models: tensors, and our model with their weights in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import open_clip
import recorded
from torch import Tensor

from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.models import DenseCLIP

CASES = ["eva", "vit-quick", "vit-gelu"]


@dataclass(frozen=True)
class Reference:
    """One recorded model.

    ``names`` maps the reference's parameter names to ours, as the conversion reports them.
    """

    model: DenseCLIP
    tensors: dict[str, Tensor]
    gradients: dict[str, dict]
    prefix: str
    names: dict[str, str]

    def input(self, name: str) -> Tensor:
        return self.tensors[f"in.{name}"]

    def output(self, name: str) -> Tensor:
        return self.tensors[f"{self.prefix}out.{name}"]

    def loss(self, name: str) -> Tensor:
        return self.tensors[f"{self.prefix}loss.{name}"]

    def has_output(self, name: str) -> bool:
        return f"{self.prefix}out.{name}" in self.tensors

    def regions(self, batch: str) -> tuple[list[Tensor], Tensor]:
        """Boxes per image, and the flat mask of valid rows."""
        boxes = self.input(f"boxes_{batch}")
        valid = boxes[..., 4] > 0
        return [b[v, :4] for b, v in zip(boxes, valid, strict=True)], valid.flatten()

    def sampled_gradients(self):
        """(our parameter name, step, recorded sample, largest magnitude)."""
        for key, meta in self.gradients.items():
            if key.startswith(f"{self.prefix}grad."):
                name = key.removeprefix(f"{self.prefix}grad.")
                yield self.names[name], meta["step"], self.tensors[key], meta["max"]


@cache
def load_reference(case: str) -> Reference:
    stem = "eva02_tiny" if case == "eva" else "openai_vit_tiny"
    tensors, meta = recorded.tensors(stem), recorded.read_json(stem)
    text_cfg = {
        k: meta["config"]["text_cfg"][k]
        for k in ("context_length", "vocab_size", "width", "heads", "layers")
    }
    weights = {k[6:]: v for k, v in tensors.items() if k.startswith("param.")}
    if case == "eva":
        clip = open_clip.create_model("EVA02-Ti-16", text_cfg=text_cfg)
        prefix = ""
    else:
        clip = open_clip.CLIP(
            embed_dim=meta["config"]["embed_dim"],
            vision_cfg=meta["config"]["vision_cfg"],
            text_cfg=text_cfg,
            quick_gelu=case == "vit-quick",
        )
        prefix = case.removeprefix("vit-") + "."
    converted = convert_source(source_from(weights, stem), to="open_clip")
    clip.load_state_dict(converted.tensors)
    names = {key: key for key in converted.report.matched}
    names |= {old: new for (old,), new, _ in converted.report.renamed}
    return Reference(DenseCLIP(clip), tensors, meta["gradients"], prefix, names)
