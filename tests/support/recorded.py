"""Recorded tensors: those stored, those drawn again, and samples of large ones."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models.eva import Eva
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "data" / "reference"
SAMPLE = 4096


@dataclass(frozen=True)
class Sample:
    """What was recorded of a tensor of ``shape``: about ``SAMPLE`` values, norm and maximum."""

    values: Tensor
    shape: tuple[int, ...]
    norm: float
    max: float


@cache
def read_json(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def tensors(stem: str) -> dict[str, Any]:
    """All tensors of a recording by name; ``Sample`` where only a sample was recorded."""
    found: dict[str, Any] = {}
    for shard in sorted(FOLDER.glob(f"{stem}-*.safetensors")):
        found.update(load_file(shard))
    assert found, f"nothing is recorded as {stem}"
    for key, meta in read_json("sampled").get(stem, {}).items():
        found[key] = Sample(found[key], tuple(meta["shape"]), meta["norm"], meta["max"])
    if stem in read_json("drawn"):
        found.update(_drawn(stem))
    return found


def _drawn(stem: str) -> dict[str, Tensor]:
    """Weights and inputs that the recording drew from one generator, at their place in its stream.

    Raises:
        AssertionError: The generator gives other numbers than those that were recorded with.
    """
    recipe = read_json("drawn")[stem]
    generator = torch.Generator().manual_seed(recipe["seed"])
    position, found = 0, {}
    last, start = "", -1
    for key, (offset, shape, distribution, gain, fan, mean) in recipe["tensors"].items():
        if offset == start:  # one tensor under two names
            found[key] = found[last]
            continue
        torch.rand(offset - position, generator=generator)
        draw = torch.randn if distribution == "normal" else torch.rand
        values = draw(shape, generator=generator)
        last, start, position = key, offset, offset + values.numel()
        if distribution == "normal" and values.numel() % 16:
            position += 16  # the last, incomplete block of 16 is drawn twice
        found[key] = values * gain / math.sqrt(fan) + mean
    total = sum(value.abs().sum(dtype=torch.float64).item() for value in found.values())
    assert math.isclose(total, recipe["sum"], rel_tol=1e-6), (
        f"torch {torch.__version__} draws other numbers than {stem} was recorded with"
    )
    return found


def behind(stored: dict[str, Any], *prefixes: str) -> dict[str, Any]:
    """What is behind any of the prefixes, without them."""
    return {
        key.removeprefix(prefix): value
        for prefix in prefixes
        for key, value in stored.items()
        if key.startswith(prefix)
    }


def sampled(values: Tensor, count: int = SAMPLE) -> Tensor:
    """What of a tensor was recorded: every n-th element, about ``count`` of them."""
    flat = values.flatten()
    return flat[:: max(1, math.ceil(flat.numel() / count))]


def assert_recorded(ours: Tensor, recorded: Tensor | Sample, atol: float) -> None:
    """Every recorded value is met within ``atol``; norm and maximum of what was sampled too."""
    if isinstance(recorded, Sample):
        assert tuple(ours.shape) == recorded.shape
        # A norm moves by no more than the norm of the differences.
        assert abs(ours.double().norm().item() - recorded.norm) <= atol * math.sqrt(ours.numel())
        assert abs(ours.abs().max().item() - recorded.max) <= atol
        ours, recorded = sampled(ours), recorded.values
    torch.testing.assert_close(ours, recorded, atol=atol, rtol=0)


def f_vit_tower() -> Eva:
    """The untrained tower of every recorded F-ViT, an EVA02 of twelve narrow blocks."""
    config = read_json("fvit_backbone")["clip_config"]
    vision = config["vision_cfg"]
    return Eva(
        img_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embed_dim=vision["width"],
        depth=vision["layers"],
        num_heads=vision["width"] // vision["head_width"],
        qkv_fused=False,
        mlp_ratio=vision["mlp_ratio"],
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(vision["pt_hw_seq_len"],) * 2,
        global_pool="token",
        num_classes=config["embed_dim"],
    )
