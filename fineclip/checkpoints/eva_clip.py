"""EVA-CLIP's naming of EVA02 towers, shared by the FineCLIP, CLIPSelf and RegionCLIP releases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from fineclip.checkpoints.open_clip import head_width
from fineclip.checkpoints.rules import Rule, same

# F-ViT's release also keeps a table per grid that it has met, and a flag.
ROTARY_KEY = re.compile(
    r"visual\.(blocks\.\d+\.attn\.)?rope\.(flag|freqs_(?P<kind>cos|sin)(_\w+)?)"
)
ROTARY_REASON = "rotary table, computed from the grid when the model runs"

_RANGE = 16  # positions of every grid are scaled to 0..16


def _rules() -> list[Rule]:
    ours, theirs = "visual.trunk.", "visual."
    block = "blocks.{i}."
    renamed = {
        f"{block}attn.q_proj.bias": f"{block}attn.q_bias",
        f"{block}attn.v_proj.bias": f"{block}attn.v_bias",
        f"{block}attn.norm.{{*}}": f"{block}attn.inner_attn_ln.{{*}}",
        f"{block}mlp.fc1_g.{{*}}": f"{block}mlp.w1.{{*}}",
        f"{block}mlp.fc1_x.{{*}}": f"{block}mlp.w2.{{*}}",
        f"{block}mlp.norm.{{*}}": f"{block}mlp.ffn_ln.{{*}}",
        f"{block}mlp.fc2.{{*}}": f"{block}mlp.w3.{{*}}",
    }
    kept = [
        *("cls_token", "pos_embed", "patch_embed.proj.{*}", "norm.{*}", "head.{*}"),
        *(f"{block}{part}.{{*}}" for part in ("norm1", "norm2", "attn.proj")),
        *(f"{block}attn.{part}_proj.weight" for part in "qkv"),
    ]
    pairs = [*renamed.items(), *((key, key) for key in kept)]
    return [
        *(Rule(ours + a, (theirs + b,)) for a, b in pairs),
        *same("text.{*}", "logit_scale"),
    ]


RULES = _rules()


@cache
def rotary_tables(grid: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """The tables EVA-CLIP stores (EVA-02, sec. 2.1: two-dimensional rotary embedding).

    Args:
        grid: Side of the patch grid.
        head_dim: Width of an attention head.

    Returns:
        Cosines and sines, each (grid * grid, head_dim) float32: the first half of the channels
        turns with the row, the second with the column, neighbouring channels together.
    """
    half = head_dim // 2
    frequencies = 1.0 / 10000 ** (torch.arange(0, half, 2)[: half // 2].float() / half)
    positions = torch.arange(grid) / grid * _RANGE
    angles = (positions[:, None] * frequencies).repeat_interleave(2, dim=1)  # (grid, half)
    rows = angles[:, None].expand(grid, grid, half)
    columns = angles[None].expand(grid, grid, half)
    table = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return table.cos(), table.sin()


def stored_tables(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rotary buffers of an EVA-CLIP state dict, made for its position table.

    Args:
        tensors: State dict in EVA-CLIP naming without them. The width of a head is the usual one
            of the tower's width.
    """
    positions = tensors["visual.pos_embed"]
    side = round((positions.shape[1] - 1) ** 0.5)
    cos, sin = (
        table.to(positions.device, positions.dtype)
        for table in rotary_tables(side, head_width(positions.shape[2]))
    )
    attention = sorted(
        key.removesuffix("q_proj.weight")
        for key in tensors
        if key.startswith("visual.blocks.") and key.endswith("attn.q_proj.weight")
    )
    return {
        f"{place}rope.freqs_{kind}": table
        for place in ("visual.", *attention)
        for kind, table in (("cos", cos), ("sin", sin))
    }


def rotary_difference(tensors: Mapping[str, Tensor]) -> float | None:
    """Largest difference between stored rotary tables and those that will be computed.

    Args:
        tensors: State dict in EVA-CLIP naming, tables included.

    Returns:
        None where there is nothing to compare (no tables, or tensors without values).
    """
    worst = None
    for key, stored in tensors.items():
        match = ROTARY_KEY.fullmatch(key)
        if not match or not match["kind"] or stored.is_meta or stored.ndim != 2:
            continue
        side = round(len(stored) ** 0.5)
        if side * side != len(stored) or stored.shape[1] % 4:
            return float("inf")
        cos, sin = rotary_tables(side, stored.shape[1])
        expected = (cos if match["kind"] == "cos" else sin).to(stored.dtype)
        difference = (stored.float() - expected.float()).abs().max().item()
        worst = max(difference, worst or 0.0)
    return worst
